//! The files of `models/` are what `models/README.md` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

const REQUIRED: &[&str] = &[
    "id",
    "name",
    "job",
    "backend",
    "format",
    "languages",
    "license",
    "size_bytes",
    "default",
    "notes",
    "source",
];
const OPTIONAL: &[&str] = &["memory_mib", "sample_rate_hz", "voice", "file"];
const JOBS: &[&str] = &["vad", "turn", "stt", "llm", "tts"];

fn text<'a>(table: &'a Table, key: &str) -> &'a str {
    table
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{key} is a text"))
}

fn number(table: &Table, key: &str) -> i64 {
    table
        .get(key)
        .and_then(Value::as_integer)
        .unwrap_or_else(|| panic!("{key} is a number"))
}

fn tables<'a>(table: &'a Table, key: &str) -> Vec<&'a Table> {
    let items = table
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    items
        .iter()
        .map(|item| item.as_table().unwrap_or_else(|| panic!("{key} is a list of tables")))
        .collect()
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check(stem: &str, entry: &Table, pinned: &str) {
    let keys: BTreeSet<&str> = entry.keys().map(String::as_str).collect();
    for key in REQUIRED {
        assert!(keys.contains(key), "{key} is missing");
    }
    for key in &keys {
        assert!(
            REQUIRED.contains(key) || OPTIONAL.contains(key),
            "{key} is no key of the catalogue"
        );
    }
    let id = text(entry, "id");
    assert_eq!(id, stem, "the id is the file's name");
    assert!(
        id.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
        "{id}"
    );
    assert!(JOBS.contains(&text(entry, "job")), "a job that exists");
    assert_eq!(
        keys.contains("voice"),
        text(entry, "job") == "tts",
        "speech has a voice, and nothing else has"
    );
    assert!(number(entry, "size_bytes") > 0, "a size");

    let sources = tables(entry, "source");
    assert!(!sources.is_empty(), "it comes from somewhere");
    for source in sources {
        let (package, version) = (text(source, "package"), text(source, "version"));
        match text(source, "kind") {
            "debian" => assert!(!source.contains_key("sha256"), "apt verifies its packages itself"),
            "python-wheel" => {
                let hash = text(source, "sha256");
                assert!(is_sha256(hash), "{hash}");
                assert!(!text(source, "member").is_empty(), "a file inside");
                assert!(
                    pinned.contains(&format!("{package}=={version} ")),
                    "{package} {version} is what is fetched"
                );
                assert!(pinned.contains(hash), "the hash of {package} is what is pinned");
            }
            other => panic!("{other} is no kind of source"),
        }
    }
    for file in tables(entry, "file") {
        assert!(!text(file, "path").contains(".."), "a path inside");
        assert!(number(file, "size_bytes") > 0, "a size");
        assert!(is_sha256(text(file, "sha256")), "a checksum");
    }
}

#[test]
fn every_entry_is_as_documented() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pinned = fs::read_to_string(repository.join("scripts/wheels.txt")).expect("the pinned wheels");
    let mut count = 0;
    for file in fs::read_dir(repository.join("models")).expect("the catalogue") {
        let path = file.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            println!("{}", path.display());
            let entry: Table = fs::read_to_string(&path).expect("a file").parse().expect("TOML");
            check(&path.file_stem().expect("a name").to_string_lossy(), &entry, &pinned);
            count += 1;
        }
    }
    assert!(count > 0, "there are entries");
}
