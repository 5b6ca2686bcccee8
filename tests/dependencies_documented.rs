//! `docs/dependencies.md` has a reason for every direct dependency: of the crates of the workspace, and of the browser tests.

#![expect(clippy::unwrap_used, reason = "a test that can't read the tree says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every manifest of the workspace, and that of the fuzz targets.
fn manifests(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("Cargo.toml"), root.join("protocol/Cargo.toml")];
    let workers = fs::read_dir(root.join("workers")).unwrap();
    found.extend(workers.map(|entry| entry.unwrap().path().join("Cargo.toml")));
    found.push(root.join("fuzz/Cargo.toml"));
    found.retain(|path| path.is_file());
    found
}

fn crates_of(manifest: &Path, names: &mut BTreeSet<String>) {
    let manifest: toml::Table = toml::from_str(&read(manifest)).unwrap();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else {
            continue;
        };
        // Our own crates need no reason.
        names.extend(
            dependencies
                .keys()
                .filter(|name| !name.starts_with("repartee"))
                .cloned(),
        );
    }
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = read(&root.join("docs/dependencies.md"));
    // A name counts where a table row begins with it, alone or among others: "| serde, serde_json | 1 | …".
    let documented: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|names| names.split(", "))
        .collect();

    let mut wanted = BTreeSet::new();
    for manifest in manifests(root) {
        crates_of(&manifest, &mut wanted);
    }
    let browser: serde_json::Value = serde_json::from_str(&read(&root.join("tests/browser/package.json"))).unwrap();
    for section in ["dependencies", "devDependencies"] {
        let packages = browser.get(section).and_then(serde_json::Value::as_object);
        wanted.extend(packages.into_iter().flat_map(|packages| packages.keys().cloned()));
    }

    assert!(
        wanted.contains("tokio") && wanted.contains("playwright-core"),
        "{wanted:?}"
    );
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !documented.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/dependencies.md gives no reason for {missing:?}"
    );
}
