//! The checker finds a violation of each kind, and leaves alone what is right.

use super::House;

/// The messages about a house of these files.
fn messages(files: &[(&str, &str)]) -> Vec<String> {
    let files = files
        .iter()
        .map(|(file, source)| ((*file).to_owned(), (*source).to_owned()))
        .collect();
    House { files }.violations().iter().map(ToString::to_string).collect()
}

/// Each file with one violation at its third line, and what the message must hold besides the file and the line.
#[test]
fn a_violation_of_each_kind_is_found_where_it_is() {
    let planted = [
        // Upwards.
        (
            "src/session/turn.rs",
            "use crate::engine::Clock;",
            "floor 2 (session) may not import floor 5 (engine)",
        ),
        (
            "src/call/mod.rs",
            "use crate::session::Session;",
            "floor 1 (call) may not import floor 2 (session)",
        ),
        (
            "src/backend/mod.rs",
            "fn f(_: crate::registry::Lease) {}",
            "floor 3 (backend) may not import floor 4 (registry)",
        ),
        (
            "src/engine/driver.rs",
            "use crate::config::Config;",
            "floor 5 (engine) may not import floor 7 (config)",
        ),
        (
            "src/audio/mod.rs",
            "use crate::{time, session as s};",
            "floor 1 (audio) may not import floor 2 (session)",
        ),
        // Beside.
        (
            "src/audio/mod.rs",
            "use crate::call::Command;",
            "floor 1 (audio) may not import floor 1 (call)",
        ),
        (
            "src/supervisor/mod.rs",
            "use crate::registry::Registry;",
            "floor 4 (supervisor) may not import floor 4 (registry)",
        ),
        (
            "src/api/mod.rs",
            "use crate::transport::native;",
            "floor 6 (api) may not import floor 6 (transport)",
        ),
        (
            "src/config/mod.rs",
            "use crate::cli::config;",
            "floor 7 (config) may not import floor 7 (cli)",
        ),
        // Forbidden although below.
        (
            "src/session/mod.rs",
            "use crate::audio::Frame;",
            "floor 2 (session) may not import floor 1 (audio)",
        ),
        (
            "src/session/mod.rs",
            "use repartee_protocol::native::Hello;",
            "floor 2 (session) may not import floor 0 (protocol)",
        ),
        (
            "src/engine/mod.rs",
            "use repartee_protocol::native::Hello;",
            "floor 5 (engine) may not import floor 0 (protocol)",
        ),
        (
            "src/provider/mod.rs",
            "use crate::session::Input;",
            "floor 4 (provider) may not import floor 2 (session)",
        ),
        (
            "src/transport/native/mod.rs",
            "use crate::session::Input;",
            "floor 6 (transport) may not import floor 2 (session)",
        ),
        (
            "src/api/metrics.rs",
            "use crate::provider::Http;",
            "floor 6 (api) may not import floor 4 (provider)",
        ),
        // From wire to wire.
        (
            "src/transport/ava.rs",
            "use crate::transport::native::Encoder;",
            "the wire ava may not import the wire native",
        ),
        (
            "src/transport/ava/talk.rs",
            "use super::super::native::Encoder;",
            "the wire ava may not import the wire native",
        ),
        // Through the root, where everything could be re-exported.
        (
            "src/session/mod.rs",
            "use crate::Engine;",
            "floor 2 (session) may not import floor 7 (the crate's root)",
        ),
        (
            "src/session/mod.rs",
            "use crate as root;",
            "floor 2 (session) may not import floor 7 (the crate's root)",
        ),
        // By climbing.
        (
            "src/session/turn.rs",
            "use super::super::engine::Clock;",
            "may not import floor 5 (engine)",
        ),
        (
            "src/session/turn.rs",
            "mod inner { use super::super::super::engine::Clock; }",
            "may not import floor 5 (engine)",
        ),
        // In macros and attributes.
        (
            "src/session/turn.rs",
            "fn f() { assert!(crate::engine::IDLE); }",
            "may not import floor 5 (engine)",
        ),
        (
            "src/session/turn.rs",
            "fn f() { wrap!(use crate::{id::X, engine::Clock};); }",
            "may not import floor 5 (engine)",
        ),
        (
            "src/session/turn.rs",
            "#[derive(crate::engine::Trick)] struct A;",
            "may not import floor 5 (engine)",
        ),
        // Things that don't belong.
        (
            "src/session/turn.rs",
            "use std::collections::HashMap;",
            "may not use HashMap",
        ),
        (
            "src/session/turn.rs",
            "struct A(std::sync::Mutex<u8>);",
            "may not use Mutex",
        ),
        (
            "src/session/turn.rs",
            "struct A(std::sync::RwLock<u8>);",
            "may not use RwLock",
        ),
        ("src/session/turn.rs", "struct A(Vec<i16>);", "may not use i16"),
        ("src/session/turn.rs", "async fn f() {}", "may not use async"),
        (
            "src/session/turn.rs",
            "fn f() { let _ = async {}; }",
            "may not use async",
        ),
        (
            "src/session/turn.rs",
            "fn f() { let _ = vec![async || 1]; }",
            "may not use async",
        ),
        (
            "src/session/turn.rs",
            "fn f() { std::time::Instant::now(); }",
            "may not use Instant",
        ),
        (
            "src/audio/pacer.rs",
            "fn f() { Instant::now(); }",
            "may not use Instant::now",
        ),
        (
            "src/time.rs",
            "fn f() { SystemTime::now(); }",
            "may not use SystemTime::now",
        ),
        ("src/call/mod.rs", "use tokio::sync::mpsc;", "may not use tokio"),
        (
            "src/backend/mod.rs",
            "use std::process::Command;",
            "may not use std::process",
        ),
        ("src/backend/mod.rs", "use reqwest::Client;", "may not use reqwest"),
        ("protocol/src/native.rs", "use tokio::io;", "may not use tokio"),
        ("protocol/src/native.rs", "use std::fs::File;", "may not use std::fs"),
        (
            "protocol/src/native.rs",
            "use std::time::Instant;",
            "may not use Instant",
        ),
        (
            "workers/flite/src/main.rs",
            "use repartee::audio::Frame;",
            "may not use repartee",
        ),
        // Around the walls.
        (
            "src/session/turn.rs",
            "#[path = \"../engine/clock.rs\"] mod clock;",
            "#[path] walks around the walls",
        ),
    ];
    for (file, source, rule) in planted {
        let found = messages(&[(file, &format!("//! A file.\n\n{source}\n"))]);
        assert!(
            found
                .iter()
                .any(|message| message.starts_with(&format!("{file}:3: ")) && message.contains(rule)),
            "{source} in {file} should be told as {rule:?}, but: {found:?}"
        );
    }
}

#[test]
fn what_is_right_is_left_alone() {
    let right = [
        (
            "src/session/turn.rs",
            "pub(crate) use crate::{call::Command, id::{self, TurnId}, time::Time};",
        ),
        (
            "src/session/turn.rs",
            "use super::action::Action; use self::inner::A; mod inner { pub(super) struct A; }",
        ),
        (
            "src/session/turn.rs",
            "/// Not `tokio::spawn`, nor crate::engine.\nfn f() { let _ = \"crate::engine\"; } // HashMap",
        ),
        (
            "src/session/mod.rs",
            "#[cfg(test)] mod tests { use crate::engine::Clock; async fn f() {} }",
        ),
        ("src/session/mod.rs", "#[cfg(test)] use std::collections::HashMap;"),
        (
            "src/backend/mod.rs",
            "use std::task::Context; use crate::call::Transcript;",
        ),
        (
            "src/provider/mod.rs",
            "use crate::supervisor::Process; use repartee_protocol::worker::Hello;",
        ),
        (
            "src/registry/mod.rs",
            "use crate::provider::Http; use crate::backend::Stt;",
        ),
        (
            "src/engine/mod.rs",
            "use crate::session::Session; use tokio::sync::mpsc; use crate::audio::Frame;",
        ),
        (
            "src/transport/native/mod.rs",
            "use crate::transport::native::codec::A; use crate::engine::CallHandle;",
        ),
        (
            "src/transport/native/mod.rs",
            "use crate::transport::Listener; use super::Wire; use repartee_protocol::native::B;",
        ),
        ("src/transport/mod.rs", "pub mod native; pub use native::serve;"),
        ("src/main.rs", "use repartee::cli; fn main() { repartee::run(); }"),
        (
            "src/lib.rs",
            "pub mod engine; pub use engine::Engine; use crate::config::Config;",
        ),
        (
            "src/cli/mod.rs",
            "use crate::config::Config; use crate::transport::native;",
        ),
        (
            "workers/flite/src/main.rs",
            "use repartee_protocol::worker::Hello; use std::time::Instant; use crate::voice::Voice;",
        ),
        (
            "protocol/src/lib.rs",
            "pub mod native; use crate::native::Hello; use std::net::IpAddr;",
        ),
    ];
    for (file, source) in right {
        assert_eq!(messages(&[(file, source)]), Vec::<String>::new(), "{source} in {file}");
    }
}

#[test]
fn a_module_without_a_floor_is_told() {
    let found = messages(&[("src/utils.rs", ""), ("src/manager/mod.rs", "")]);
    assert_eq!(
        found,
        [
            "src/utils.rs:1: the module utils has no floor: give it a row in tests/floors.rs",
            "src/manager/mod.rs:1: the module manager has no floor: give it a row in tests/floors.rs",
        ]
    );
}

/// `#[cfg(test)] mod tests;` frees the file of that module and those below it, in the same crate only.
#[test]
fn files_of_tests_may_import_anything() {
    let import = "use crate::engine::Clock;";
    let declaration = ("src/session/mod.rs", "#[cfg(test)] mod tests; mod turn;");
    let found = messages(&[
        declaration,
        ("src/session/tests.rs", import),
        ("src/session/tests/walk.rs", import),
        ("src/session/turn.rs", import),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("src/session/turn.rs:1: "), "{found:?}");
}

#[test]
fn a_file_that_is_not_rust_is_told() {
    let found = messages(&[("src/session/turn.rs", "fn f() {}\nfn {\n")]);
    assert!(
        found[0].starts_with("src/session/turn.rs:2: this can't be parsed"),
        "{found:?}"
    );
}
