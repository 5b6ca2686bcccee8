//! The models that lie below the models root.

use std::fs;
use std::path::{Path, PathBuf};

use super::form::{Form, files_of, form, piper_json};
use super::place::below;

/// How deep is looked: `stt/whisper/ggml-base.bin`.
const DEPTH: usize = 3;
/// So many models are told, and so many entries of folders looked at, for them.
const MODELS_MAX: usize = 300;
const ENTRIES_MAX: usize = 4_096;

/// A model that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// As a switch names it: its path below the models root.
    pub(super) name: String,
    /// On this machine.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) form: Form,
    /// Bytes on disk, of what would be loaded.
    pub(super) bytes: u64,
}

/// The models below `root`, by name.
pub(super) fn scan(root: &Path) -> Vec<Found> {
    let mut looked = Looked {
        root,
        models: Vec::new(),
        entries: 0,
    };
    looked.look(root, DEPTH);
    looked.models.sort_by(|one, other| one.name.cmp(&other.name));
    looked.models
}

struct Looked<'a> {
    root: &'a Path,
    models: Vec<Found>,
    entries: usize,
}

impl Looked<'_> {
    fn look(&mut self, folder: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let room = ENTRIES_MAX.saturating_sub(self.entries);
        let mut paths: Vec<PathBuf> = entries
            .take(room)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        self.entries += paths.len();
        paths.sort();
        for path in paths {
            if self.models.len() >= MODELS_MAX {
                return;
            }
            let is_folder = path.is_dir();
            // One ONNX file says whether it is whole only in its folder; Piper's voices come as files.
            let stands_alone =
                is_folder || path.extension().is_none_or(|ending| ending != "onnx") || piper_json(&path).is_file();
            let name = path.strip_prefix(self.root).ok().and_then(Path::to_str);
            // What a switch would refuse isn't told: a link that leads out.
            let placed = name.and_then(|name| below(Some(self.root), name).ok());
            let Some(placed) = placed.filter(|_| stands_alone) else {
                continue;
            };
            match form(&path) {
                Some(form) => self.models.push(Found {
                    name: placed.inside,
                    bytes: bytes_of(&path),
                    path,
                    form,
                }),
                None if is_folder && depth > 1 => self.look(&path, depth - 1),
                None => {}
            }
        }
    }
}

/// What is read of a model, in bytes. Of ONNX files in several precisions, the smallest is loaded.
pub(super) fn bytes_of(path: &Path) -> u64 {
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    if !path.is_dir() {
        return length(path);
    }
    let files = files_of(path);
    let is_precision = |file: &PathBuf| {
        let name = file.to_string_lossy();
        let other = name
            .strip_suffix(".onnx")
            .map(|stem| PathBuf::from(format!("{stem}.int8.onnx")));
        other.is_some_and(|other| files.contains(&other))
    };
    files
        .iter()
        .filter(|file| !is_precision(file))
        .map(|file| length(file))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, name: &str, content: &[u8]) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn models_are_found_as_a_switch_names_them() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path();
        put(root, "llm/chat.gguf", b"GGUF");
        put(root, "stt/whisper/ggml-a.bin", b"lmgg");
        put(root, "stt/whisper/deeper/ggml-b.bin", b"lmgg");
        put(root, "vad/silero_vad.onnx", b"x");
        put(root, "tts/a.onnx", b"x");
        put(root, "tts/a.onnx.json", b"{}");
        put(root, "zip/tokens.txt", b"");
        put(root, "zip/encoder.onnx", b"1234567");
        put(root, "zip/encoder.int8.onnx", b"12");
        put(root, "zip/decoder.onnx", b"123");
        put(elsewhere.path(), "secret.gguf", b"GGUF");
        std::os::unix::fs::symlink(elsewhere.path().join("secret.gguf"), root.join("llm/out.gguf")).unwrap();
        std::os::unix::fs::symlink(root, root.join("llm/round")).unwrap();
        let names: Vec<(String, u64)> = scan(root).into_iter().map(|found| (found.name, found.bytes)).collect();
        let expected = [
            ("llm/chat.gguf", 4),
            ("stt/whisper/ggml-a.bin", 4),
            ("tts/a.onnx", 1),
            ("zip", 5),
        ];
        let seen: Vec<(&str, u64)> = names
            .iter()
            .map(|(name, bytes)| (name.as_str(), *bytes))
            .filter(|(name, _)| !name.contains("round"))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_huge_folder_is_not_read_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..MODELS_MAX + 20 {
            put(root.path(), &format!("llm/{number}.gguf"), b"GGUF");
        }
        assert_eq!(scan(root.path()).len(), MODELS_MAX);
    }
}
