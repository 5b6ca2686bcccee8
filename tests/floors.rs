//! The walls of the house: which floor may import which, and what must never be on a floor (ARCHITECTURE.md, "The house").
//!
//! Every file under `src/`, `protocol/src/` and `workers/*/src/` is parsed, and every path in it (imports, types, calls,
//! and what stands in macros) is held against the table below. Code under `#[cfg(test)]` may import what it likes.
//!
//! A new module at the top of `src/` must be given a floor here first. An entry in a room's `beside` is a door in a wall:
//! the rarest kind of change.

#[path = "floors/planted.rs"]
mod planted;
#[path = "floors/reader.rs"]
mod reader;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use reader::{Found, Reader};

/// A part of the house: a module at the top of `src/`, a single wire under `src/transport/`, or a crate beside `src/`.
#[derive(Clone, Copy)]
struct Room {
    name: &'static str,
    floor: u8,
    /// Rooms of the same floor that it may import.
    beside: &'static [&'static str],
    /// Lower rooms that it may not import all the same.
    never: &'static [&'static str],
    /// What must not be in it at all.
    banned: &'static [Ban],
}

/// Something that has no place in a room.
#[derive(Clone, Copy)]
struct Ban {
    /// Segments of a path that follow one another, such as `Instant::now`; or one of the keywords `async` and `await`.
    path: &'static [&'static str],
    why: &'static str,
}

const fn ban(path: &'static [&'static str], why: &'static str) -> Ban {
    Ban { path, why }
}

/// `repartee-protocol`, as a name of a room.
const PROTOCOL: &str = "protocol";
/// The crates under `workers/`.
const WORKERS: &str = "workers";
/// Whatever is at the root of the library: `crate::Something`.
const ROOT: &str = "lib";

const NO_CLOCK: &str = "time is told here, never asked for";
const NO_RUNTIME: &str = "no runtime here: this is called, and returns";
const NO_FILES: &str = "bytes come from the caller here, not from files or sockets";

/// Floor 0, `protocol/`: bytes to types and back.
const PROTOCOL_BANS: &[Ban] = &[
    ban(&["tokio"], NO_RUNTIME),
    ban(&["async"], NO_RUNTIME),
    ban(&["await"], NO_RUNTIME),
    ban(&["Instant"], NO_CLOCK),
    ban(&["SystemTime"], NO_CLOCK),
    ban(&["std", "fs"], NO_FILES),
    ban(&["std", "net", "TcpStream"], NO_FILES),
    ban(&["std", "net", "TcpListener"], NO_FILES),
    ban(&["std", "net", "UdpSocket"], NO_FILES),
    ban(&["std", "process"], NO_FILES),
    ban(&["std", "thread"], NO_RUNTIME),
    ban(&["repartee"], "the protocol stands below the engine"),
];

/// Floor 1: vocabulary and audio.
const GROUND_BANS: &[Ban] = &[
    ban(&["tokio"], NO_RUNTIME),
    ban(&["async"], NO_RUNTIME),
    ban(&["await"], NO_RUNTIME),
    ban(&["Instant", "now"], NO_CLOCK),
    ban(&["SystemTime", "now"], NO_CLOCK),
];

/// Floor 2: the deterministic core.
const SESSION_BANS: &[Ban] = &[
    ban(&["tokio"], NO_RUNTIME),
    ban(&["futures_util"], NO_RUNTIME),
    ban(&["std", "future"], NO_RUNTIME),
    ban(&["std", "task"], NO_RUNTIME),
    ban(&["async"], "the core can't wait, so it can't block"),
    ban(&["await"], "the core can't wait, so it can't block"),
    ban(&["Instant"], NO_CLOCK),
    ban(&["SystemTime"], NO_CLOCK),
    ban(&["Mutex"], "the core has one caller at a time: nothing to lock"),
    ban(&["RwLock"], "the core has one caller at a time: nothing to lock"),
    ban(
        &["std", "sync", "atomic"],
        "the core has one caller at a time: nothing to share",
    ),
    ban(
        &["HashMap"],
        "its order differs from run to run, and a replay would too: BTreeMap",
    ),
    ban(
        &["HashSet"],
        "its order differs from run to run, and a replay would too: BTreeSet",
    ),
    ban(&["i16"], "the core holds spans of the sample clock, never samples"),
    ban(&["std", "thread"], NO_RUNTIME),
    ban(&["std", "fs"], NO_FILES),
    ban(&["std", "net"], NO_FILES),
    ban(&["std", "env"], "settings are given to the core"),
    ban(&["std", "process"], NO_RUNTIME),
];

/// Floor 3: traits and fakes.
const BACKEND_BANS: &[Ban] = &[
    ban(&["std", "process"], "processes are the business of the supervisor"),
    ban(&["std", "net"], "the network is the business of the providers"),
    ban(&["tokio", "process"], "processes are the business of the supervisor"),
    ban(&["tokio", "net"], "the network is the business of the providers"),
    ban(&["reqwest"], "the network is the business of the providers"),
    ban(&["Instant", "now"], NO_CLOCK),
    ban(&["SystemTime", "now"], NO_CLOCK),
];

/// Floor 0, `workers/*`: programs of their own.
const WORKERS_BANS: &[Ban] = &[ban(
    &["repartee"],
    "a worker knows the protocol, and nothing of the engine",
)];

/// The small modules on the ground floor, which everything stands on.
const GROUND: &[&str] = &["time", "id", "pii"];

const fn room(name: &'static str, floor: u8) -> Room {
    Room {
        name,
        floor,
        beside: &[],
        never: &[],
        banned: &[],
    }
}

/// The table. A room may import every room of a lower floor that isn't in its `never`, and those `beside` it.
#[rustfmt::skip]
const ROOMS: &[Room] = &[
    Room { banned: PROTOCOL_BANS, ..room(PROTOCOL, 0) },
    Room { beside: &[PROTOCOL], banned: WORKERS_BANS, ..room(WORKERS, 0) },
    Room { beside: GROUND, banned: GROUND_BANS, ..room("access", 1) },
    Room { beside: GROUND, banned: GROUND_BANS, ..room("time", 1) },
    Room { beside: GROUND, banned: GROUND_BANS, ..room("id", 1) },
    Room { beside: GROUND, banned: GROUND_BANS, ..room("pii", 1) },
    // Metrics are counted from the events of a call.
    Room { beside: &["time", "id", "pii", "call"], banned: GROUND_BANS, ..room("metrics", 1) },
    Room { beside: GROUND, banned: GROUND_BANS, ..room("call", 1) },
    Room { beside: GROUND, banned: GROUND_BANS, ..room("audio", 1) },
    Room { never: &[PROTOCOL, "audio"], banned: SESSION_BANS, ..room("session", 2) },
    Room { never: &[PROTOCOL], banned: BACKEND_BANS, ..room("backend", 3) },
    Room { beside: &["supervisor"], never: &["session"], ..room("provider", 4) },
    Room { never: &["session"], ..room("supervisor", 4) },
    Room { beside: &["provider", "supervisor"], never: &["session"], ..room("registry", 4) },
    Room { never: &[PROTOCOL], ..room("engine", 5) },
    // A telephone call is a session of the engine, with what all telephones need.
    Room { beside: &["engine"], never: &[PROTOCOL, "session", "provider"], ..room("phone", 5) },
    Room { never: &["session", "provider"], ..room("transport", 6) },
    Room { never: &["session", "provider"], ..room("api", 6) },
    room("config", 7),
    Room { beside: &["config", ROOT], ..room("cli", 7) },
    Room { beside: &["config", "cli"], ..room(ROOT, 7) },
    Room { beside: &["config", "cli", ROOT], ..room("main", 7) },
];

/// Modules under `src/transport/` that are no wire: all wires may import them.
const SHARED_BY_WIRES: &[&str] = &["shared"];

/// A hole in a wall.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// The files of the house, and which of them hold only tests.
struct House {
    /// Paths from the repository's root with their contents.
    files: Vec<(String, String)>,
}

/// Where a file belongs.
struct Address {
    room: Room,
    /// The module of the file: `["session", "turn"]`; empty for `lib.rs` and in other crates than the engine.
    module: Vec<String>,
}

fn find_room(name: &str) -> Option<Room> {
    ROOMS.iter().copied().find(|room| room.name == name)
}

impl House {
    /// The house as it is on disk.
    fn read(repository: &Path) -> Self {
        let mut files = Vec::new();
        let mut directories: Vec<PathBuf> = vec![repository.join("src"), repository.join("protocol/src")];
        for worker in list(&repository.join("workers")) {
            directories.push(worker.join("src"));
        }
        while let Some(directory) = directories.pop() {
            for path in list(&directory) {
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path
                        .strip_prefix(repository)
                        .expect("it is inside")
                        .display()
                        .to_string();
                    files.push((name, fs::read_to_string(&path).expect("a source file can be read")));
                }
            }
        }
        files.sort();
        Self { files }
    }

    /// Every hole in every wall.
    fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut readers = Vec::new();
        for (file, source) in &self.files {
            match address(file) {
                Ok(address) => match Reader::read(&address.module, source) {
                    Ok(reader) => readers.push((file, address, reader)),
                    Err(error) => violations.push(Violation {
                        file: file.clone(),
                        line: error.line,
                        rule: format!("this can't be parsed: {}", error.message),
                    }),
                },
                Err(rule) => violations.push(Violation {
                    file: file.clone(),
                    line: 1,
                    rule,
                }),
            }
        }
        // `#[cfg(test)] mod tests;` makes a whole file a test. Module paths start anew in each crate.
        let tests: BTreeSet<(String, Vec<String>)> = readers
            .iter()
            .flat_map(|(file, _, reader)| {
                reader
                    .test_modules
                    .iter()
                    .map(|module| (crate_of(file), module.clone()))
            })
            .collect();
        for (file, address, reader) in &readers {
            let is_test = (1..=address.module.len())
                .any(|length| tests.contains(&(crate_of(file), address.module[..length].to_vec())));
            if is_test {
                continue;
            }
            for (line, found) in &reader.found {
                violations.extend(judge(address, found).into_iter().map(|rule| Violation {
                    file: (*file).clone(),
                    line: *line,
                    rule,
                }));
            }
        }
        violations
    }
}

/// The directory of the crate that a file is in: `workers/flite` for `workers/flite/src/main.rs`.
fn crate_of(file: &str) -> String {
    file.split("src/").next().unwrap_or_default().to_owned()
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory can be read").path())
        .collect();
    paths.sort();
    paths
}

/// The room and the module of a file, by its path.
fn address(file: &str) -> Result<Address, String> {
    let (room, inside) = if let Some(inside) = file.strip_prefix("protocol/src/") {
        (find_room(PROTOCOL), inside)
    } else if let Some(inside) = file.strip_prefix("workers/") {
        (
            find_room(WORKERS),
            inside.split_once("/src/").map_or(inside, |(_, inside)| inside),
        )
    } else {
        let inside = file.strip_prefix("src/").unwrap_or(file);
        let top = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let room = find_room(top).filter(|room| room.floor > 0);
        let room = room.ok_or_else(|| format!("the module {top} has no floor: give it a row in tests/floors.rs"))?;
        (Some(room), inside)
    };
    let mut module: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module
        .last()
        .is_some_and(|last| last == "mod" || ((last == "lib" || last == "main") && module.len() == 1))
    {
        module.pop();
    }
    Ok(Address {
        room: room.expect("the crates beside src have rows in the table"),
        module,
    })
}

/// What is wrong with something that was found in a file, if anything.
fn judge(address: &Address, found: &Found) -> Option<String> {
    let room = address.room;
    let path = match found {
        Found::PathAttribute => {
            return Some("#[path] walks around the walls: put the file where its module is".to_owned());
        }
        Found::Path(path) => path,
    };
    let written = path.join("::");
    if let Some(ban) = room
        .banned
        .iter()
        .find(|ban| path.windows(ban.path.len()).any(|part| part == ban.path))
    {
        return Some(format!(
            "floor {} ({}) may not use {}: {} ({written})",
            room.floor,
            room.name,
            ban.path.join("::"),
            ban.why
        ));
    }
    let in_engine = room.floor > 0;
    let target = match path.first().map(String::as_str) {
        Some("repartee_protocol") => find_room(PROTOCOL)?,
        // The binary reaches the library by its name.
        Some("repartee" | "crate") if in_engine => match path.get(1).map(String::as_str) {
            Some(name) => find_room(name)
                .filter(|room| room.floor > 0)
                .or_else(|| find_room(ROOT))?,
            None => find_room(ROOT)?,
        },
        _ => return None,
    };
    if target.name == room.name {
        return other_wire(address, path).map(|(own, other)| {
            format!("floor 6: the wire {own} may not import the wire {other}: what both need belongs to the engine ({written})")
        });
    }
    let target_name = if target.name == ROOT {
        "the crate's root"
    } else {
        target.name
    };
    let refuse = |why: &str| {
        Some(format!(
            "floor {} ({}) may not import floor {} ({target_name}): {why} ({written})",
            room.floor, room.name, target.floor
        ))
    };
    if room.never.contains(&target.name) {
        return refuse("the table forbids it");
    }
    if room.beside.contains(&target.name) || target.floor < room.floor {
        return None;
    }
    if target.floor == room.floor {
        refuse("rooms of one floor don't know each other")
    } else {
        refuse("it is above")
    }
}

/// The own wire and another one that is reached, if the path goes from one to the other.
fn other_wire<'a>(address: &'a Address, path: &'a [String]) -> Option<(&'a str, &'a str)> {
    let own = address.module.get(1)?;
    let other = path.get(2)?;
    // `crate::transport::Something` is in `src/transport/mod.rs`, which all wires share.
    let is_module = other.starts_with(|first: char| first.is_ascii_lowercase()) && path.len() > 3;
    let is_wire = is_module && !SHARED_BY_WIRES.contains(&other.as_str());
    (address.room.name == "transport" && own != other && is_wire).then_some((own, other))
}

#[test]
fn the_walls_hold() {
    let house = House::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(
        house.files.iter().any(|(file, _)| file == "src/lib.rs"),
        "the house was not found"
    );
    let violations = house.violations();
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "holes in the walls:\n{}", lines.join("\n"));
}

/// The lints are the other half of the walls: `unsafe` is forbidden by the workspace's table, which a crate outside
/// `workers/` must inherit.
#[test]
fn every_crate_outside_workers_inherits_the_lints() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for manifest in ["Cargo.toml", "protocol/Cargo.toml", "workers/shell/Cargo.toml"] {
        let text = fs::read_to_string(repository.join(manifest)).expect("the manifest is there");
        let table: toml::Table = text.parse().expect("the manifest is TOML");
        assert_eq!(table["lints"]["workspace"].as_bool(), Some(true), "{manifest}");
    }
    let text = fs::read_to_string(repository.join("Cargo.toml")).expect("the manifest is there");
    let table: toml::Table = text.parse().expect("the manifest is TOML");
    assert_eq!(
        table["workspace"]["lints"]["rust"]["unsafe_code"].as_str(),
        Some("forbid")
    );
}

/// What a crate may link follows from its floor, too.
#[test]
fn the_manifests_of_floor_zero_name_nothing_above_it() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut manifests: Vec<PathBuf> = list(&repository.join("workers"))
        .iter()
        .map(|path| path.join("Cargo.toml"))
        .collect();
    manifests.push(repository.join("protocol/Cargo.toml"));
    for manifest in manifests.into_iter().filter(|manifest| manifest.exists()) {
        let text = fs::read_to_string(&manifest).expect("the manifest can be read");
        let table: toml::Table = text.parse().expect("the manifest is TOML");
        let is_protocol = table["package"]["name"].as_str() == Some("repartee-protocol");
        let dependencies = table
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        for name in dependencies.keys() {
            assert_ne!(name, "repartee", "{}", manifest.display());
            assert!(!is_protocol || name != "tokio", "{}", manifest.display());
        }
    }
}
