//! The voices below the models root, for `--probe`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use repartee_worker_shell::protocol::{Job, Load, code};
use repartee_worker_shell::{KnownModel, Models};

use super::files::has_extension;
use super::model::{self, Kind};
use super::parts::lexicons;
use super::{espeak, piper};

/// How deep below the models root, and how many folders, are looked through for voices.
const DEPTH: usize = 4;
const MOST_FOLDERS: usize = 1000;

/// The voices, and what is wrong with those that look like one.
pub(crate) fn known(root: &Models) -> Vec<KnownModel> {
    let Ok(top) = root.resolve(".") else {
        return Vec::new();
    };
    let espeak_is_there = espeak::is_there();
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    for _ in 0..MOST_FOLDERS {
        let Some((relative, depth)) = folders.pop() else { break };
        for entry in fs::read_dir(top.join(&relative)).into_iter().flatten().flatten() {
            let path = relative.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < DEPTH {
                    folders.push((path, depth + 1));
                }
            } else if has_extension(&path, "onnx") && !model::is_vocoder_name(&path) {
                found.extend(look_at(&path, &top, root, espeak_is_there));
            }
        }
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found
}

/// `None` where the file is something else, such as a recogniser.
fn look_at(path: &Path, top: &Path, root: &Models, espeak_is_there: bool) -> Option<KnownModel> {
    let id = path.to_str()?;
    let request = Load {
        job: Job::Tts,
        model: id.to_owned(),
        files: BTreeMap::new(),
        options: BTreeMap::new(),
        threads: 0,
        device: None,
    };
    let known = |description: String, problem| {
        Some(KnownModel {
            id: id.to_owned(),
            description,
            problem,
        })
    };
    match model::find(&request, root) {
        Ok(model) => {
            let takes_phonemes = !matches!(
                model.kind,
                Kind::VitsLetters | Kind::VitsLexicon | Kind::Matcha { lexicon: true, .. }
            );
            let is_mute = takes_phonemes && !espeak_is_there && lexicons(&model.folder, &model).is_empty();
            let problem = is_mute.then(|| "its phonemes are made by espeak-ng, which isn't installed".to_owned());
            known(format!("a {} voice, {} Hz", model.kind.name(), model.rate), problem)
        }
        Err(failed) if failed.code == code::UNSUPPORTED => None,
        // Whatever else is wrong with a file, it isn't known that it is a voice, unless a voice's JSON lies beside it.
        Err(failed) => {
            piper::json_of(&top.join(path))?;
            known("a voice".into(), Some(failed.reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use repartee_worker_shell::testing::synthetic_folder;

    use super::*;

    #[test]
    fn voices_are_told_from_recognisers_and_what_is_wrong_is_said() {
        let folder = synthetic_folder("sherpa");
        let folder = folder.expect("the synthetic models are missing; make them with: scripts/synthetic.sh sherpa");
        let all = known(&Models::new(Some(folder)));
        let of = |id: &str| all.iter().find(|model| model.id.starts_with(id));
        let kokoro = of("synthetic-kokoro/").expect("a voice");
        assert!(
            kokoro.description.contains("Kokoro") && kokoro.problem.is_none(),
            "{kokoro:?}"
        );
        let raw = of("synthetic-piper-raw/").expect("a voice");
        assert!(raw.description.contains("22050 Hz"), "{raw:?}");
        let rateless = of("synthetic-piper-rateless/").and_then(|model| model.problem.clone());
        assert!(rateless.expect("a problem").contains("audio.sample_rate"));
        assert!(
            of("synthetic-sense-voice/").is_none() && of("synthetic-zipformer/").is_none(),
            "{all:?}"
        );
        assert!(all.iter().all(|model| !model.id.contains("vocos")));
    }
}
