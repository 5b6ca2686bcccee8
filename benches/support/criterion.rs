//! What the other benches have left: criterion's estimates, read from its files.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One figure of a criterion bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// Its full name: "decode 20 ms/Opus 48 kHz".
    pub(crate) name: String,
    /// The median time of one turn of its loop, in nanoseconds.
    pub(crate) nanos: f64,
    /// When it was measured.
    #[serde(skip)]
    measured: Option<SystemTime>,
}

/// All estimates under `folder` (`target/criterion`), by name. Those of an earlier run than the newest by more than a day
/// are left out: they are of another program.
pub(crate) fn estimates(folder: &Path) -> Vec<Estimate> {
    let mut found = Vec::new();
    collect(folder, 0, &mut found);
    let newest = found.iter().filter_map(|estimate| estimate.measured).max();
    found.retain(|estimate| {
        let age = newest
            .zip(estimate.measured)
            .and_then(|(newest, then)| newest.duration_since(then).ok());
        age.is_none_or(|age| age.as_secs() < 86_400)
    });
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<Estimate>) {
    if depth > 5 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if entry.file_name() == "new" {
            found.extend(read(&path));
        } else {
            collect(&path, depth + 1, found);
        }
    }
}

fn read(folder: &Path) -> Option<Estimate> {
    let file = folder.join("estimates.json");
    let json = |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    Some(Estimate {
        name: json(&folder.join("benchmark.json"))?["full_id"].as_str()?.to_owned(),
        nanos: json(&file)?["median"]["point_estimate"].as_f64()?,
        measured: fs::metadata(&file).and_then(|metadata| metadata.modified()).ok(),
    })
}
