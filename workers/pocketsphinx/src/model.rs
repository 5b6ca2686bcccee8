//! The models and their options.

use std::path::Path;

use repartee_worker_shell::protocol::{Load, LoadFailed, code};
use repartee_worker_shell::{KnownModel, Models};

/// Where Debian's `pocketsphinx-en-us` has its files.
const DEBIAN: &str = "/usr/share/pocketsphinx/model/en-us";
/// The package with the American English model.
const PACKAGE: &str = "pocketsphinx-en-us";

/// The accurate configuration: all three passes.
const ACCURATE: &str = "pocketsphinx-en-us";
/// The fast configuration: the first pass only, with a narrower search and every other frame scored. Half the time, and a final result
/// at once, for some more errors.
const FAST: &str = "pocketsphinx-en-us-fast";

/// What the fast configuration changes.
const FAST_OPTIONS: [(&str, &str); 5] = [
    ("fwdflat", "no"),
    ("bestpath", "no"),
    ("maxhmmpf", "3000"),
    ("maxwpf", "5"),
    ("ds", "2"),
];

/// The library's options that a load may set.
const SETTABLE: [&str; 12] = [
    "fwdflat",
    "bestpath",
    "maxhmmpf",
    "maxwpf",
    "ds",
    "topn",
    "beam",
    "wbeam",
    "pbeam",
    "lw",
    "wip",
    "remove_silence",
];

/// Files without which an acoustic model can't be loaded.
const ACOUSTIC: [&str; 4] = ["mdef", "means", "variances", "transition_matrices"];

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// For people.
    pub(crate) name: String,
    /// As a BCP 47 tag.
    pub(crate) language: String,
    /// The library's command line.
    pub(crate) options: Vec<String>,
}

/// What a load means.
///
/// # Errors
/// Which file or option is wrong.
pub(crate) fn resolve(request: &Load, root: &Models) -> Result<Model, LoadFailed> {
    let mut settings: Vec<(String, String)> = Vec::new();
    let (acoustic, dictionary, language_model, language) = match request.model.as_str() {
        id @ (ACCURATE | FAST) => {
            if id == FAST {
                settings.extend(FAST_OPTIONS.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            let folder = Path::new(DEBIAN);
            debian_files(folder)?;
            (
                folder.join("en-us"),
                folder.join("cmudict-en-us.dict"),
                folder.join("en-us.lm.bin"),
                "en-US".to_owned(),
            )
        }
        path => {
            let file = |role: &str| {
                let path = request.files.get(role).ok_or_else(|| {
                    let reason = format!("an acoustic model by path needs the file {role:?} beside it");
                    LoadFailed::new(code::INVALID, reason)
                })?;
                root.resolve(path)
            };
            let language = request
                .options
                .get("language")
                .and_then(|value| value.as_str())
                .unwrap_or("en-US");
            // Whoever wrote this meant a name, more often than not.
            let folder = root.resolve(path).map_err(|failed| LoadFailed {
                reason: format!("there is no such model; by name there are {ACCURATE} and {FAST}"),
                file: None,
                ..failed
            })?;
            acoustic_files(&folder, path)?;
            (
                folder,
                file("dictionary")?,
                file("language_model")?,
                language.to_owned(),
            )
        }
    };
    for (name, value) in &request.options {
        if matches!(name.as_str(), "lanes" | "waiting" | "language") {
            continue;
        }
        let value = match value {
            serde_json::Value::Bool(true) => "yes".to_owned(),
            serde_json::Value::Bool(false) => "no".to_owned(),
            serde_json::Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        if value.is_empty() || !SETTABLE.contains(&name.as_str()) {
            let reason = format!(
                "{name:?} is no option that can be set so; there are {}",
                SETTABLE.join(", ")
            );
            return Err(LoadFailed::new(code::INVALID, reason));
        }
        settings.retain(|(other, _)| other != name);
        settings.push((name.clone(), value));
    }
    let mut options = Vec::new();
    for (name, path) in [("-hmm", acoustic), ("-dict", dictionary), ("-lm", language_model)] {
        options.extend([name.to_owned(), path.to_string_lossy().into_owned()]);
    }
    for (name, value) in settings {
        options.extend([format!("-{name}"), value]);
    }
    Ok(Model {
        name: request.model.clone(),
        language,
        options,
    })
}

/// The models that are known by id.
pub(crate) fn known() -> Vec<KnownModel> {
    let problem = debian_files(Path::new(DEBIAN)).err().map(|failed| failed.reason);
    let model = |id: &str, description: &str| KnownModel {
        id: id.into(),
        description: description.into(),
        problem: problem.clone(),
    };
    vec![
        model(ACCURATE, "American English, all passes"),
        model(
            FAST,
            "American English, first pass only: half the CPU time, more errors",
        ),
    ]
}

fn debian_files(folder: &Path) -> Result<(), LoadFailed> {
    let acoustic = ACOUSTIC.map(|name| folder.join("en-us").join(name));
    let others = ["cmudict-en-us.dict", "en-us.lm.bin"].map(|name| folder.join(name));
    for path in acoustic.into_iter().chain(others) {
        require(
            &path,
            || format!("install the package {PACKAGE} (apt install {PACKAGE})"),
            PACKAGE,
        )?;
    }
    Ok(())
}

fn acoustic_files(folder: &Path, relative: &str) -> Result<(), LoadFailed> {
    for name in ACOUSTIC {
        require(
            &folder.join(name),
            || format!("{relative:?} is not an acoustic model of pocketsphinx"),
            relative,
        )?;
    }
    Ok(())
}

fn require(path: &Path, remedy: impl Fn() -> String, file: &str) -> Result<(), LoadFailed> {
    if path.is_file() {
        return Ok(());
    }
    let reason = format!(
        "{} is missing: {}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        remedy()
    );
    Err(LoadFailed::new(code::MISSING, reason).about(file))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use repartee_worker_shell::protocol::Job;
    use serde_json::json;

    use super::*;

    fn request(model: &str, options: &[(&str, serde_json::Value)]) -> Load {
        Load {
            job: Job::Stt,
            model: model.into(),
            files: BTreeMap::new(),
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            threads: 0,
            device: None,
        }
    }

    #[test]
    fn a_missing_model_names_its_package() {
        let failed = debian_files(Path::new("/no/such/folder")).expect_err("nothing there");
        assert_eq!(
            (failed.code.as_str(), failed.file.as_deref()),
            (code::MISSING, Some(PACKAGE))
        );
        assert!(
            failed.reason.contains("apt install pocketsphinx-en-us"),
            "{}",
            failed.reason
        );
        let failed = resolve(&request("stt/nothing", &[]), &Models::default()).expect_err("no root");
        assert_eq!(failed.code, code::MISSING);
    }

    #[test]
    fn options_are_translated_or_refused() {
        if known().iter().any(|model| model.problem.is_some()) {
            println!("skipped: {PACKAGE} isn't installed");
            return;
        }
        let options = [("fwdflat", json!(true)), ("maxhmmpf", json!(5000)), ("lanes", json!(2))];
        let model = resolve(&request(FAST, &options), &Models::default()).expect("good options");
        let line = model.options.join(" ");
        assert!(
            line.contains("-fwdflat yes") && line.contains("-maxhmmpf 5000") && line.contains("-ds 2"),
            "{line}"
        );
        assert!(!line.contains("-fwdflat no") && !line.contains("lanes"), "{line}");
        for wrong in [
            ("logfn", json!("/etc/passwd")),
            ("rawlogdir", json!("/tmp")),
            ("beam", json!([1])),
        ] {
            assert!(resolve(&request(ACCURATE, &[wrong]), &Models::default()).is_err());
        }
    }
}
