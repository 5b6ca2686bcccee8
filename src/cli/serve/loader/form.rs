//! What a file or a folder is, as far as its names and its first and last bytes tell. What isn't known is nobody's.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::call::BackendKind;

/// What whisper.cpp's files begin with.
const GGML: &[u8; 4] = b"lmgg";
/// What llama.cpp's files begin with.
const GGUF: &[u8; 4] = b"GGUF";
/// Of an ONNX file, so much of its end is looked at: its metadata stands there, after the weights.
const TAIL: u64 = 16 << 10;
/// The key of the metadata of models that were made for tests, with its length before it, as protobuf writes it.
const SYNTHETIC: &[u8] = b"\x0a\x09synthetic";
/// The most files of a folder that are looked at.
const FILES_MAX: usize = 256;

/// What something on the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::serve) struct Form {
    /// Of which sort.
    pub(in crate::cli::serve) sort: Sort,
    /// What it does; absent: its files don't tell.
    pub(in crate::cli::serve) job: Option<BackendKind>,
    /// The name that people know its like by: "piper".
    pub(in crate::cli::serve) family: Option<&'static str>,
    /// It was made for tests.
    pub(in crate::cli::serve) synthetic: bool,
}

/// Sorts of models, by who reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::serve) enum Sort {
    /// ONNX as sherpa-onnx takes it.
    Onnx,
    /// A ggml file of whisper.cpp.
    Ggml,
    /// A GGUF file of llama.cpp.
    Gguf,
    /// A folder of CMU Sphinx.
    Sphinx,
    /// A folder of Vosk (Kaldi).
    Vosk,
    /// A folder of CTranslate2, which faster-whisper reads.
    CTranslate2,
    /// Kroko's own container.
    Kroko,
    /// Its name says one of these, its content doesn't.
    Broken(&'static str),
}

impl Form {
    const fn of(sort: Sort, job: BackendKind) -> Self {
        Self {
            sort,
            job: Some(job),
            family: None,
            synthetic: false,
        }
    }

    const fn family(mut self, family: &'static str) -> Self {
        self.family = Some(family);
        self
    }

    /// The worker that reads it.
    ///
    /// # Errors
    /// Why none does, with what does instead.
    pub(in crate::cli::serve) const fn worker(&self) -> Result<&'static str, &'static str> {
        match self.sort {
            Sort::Onnx => Ok("sherpa"),
            Sort::Ggml => Ok("whisper"),
            Sort::Gguf => Ok("llama"),
            Sort::Sphinx => Ok("pocketsphinx"),
            Sort::Vosk => {
                Err("it is a model of Vosk, for which there is no worker: take a streaming zipformer of sherpa-onnx")
            }
            Sort::CTranslate2 => Err(
                "it is a model of faster-whisper (CTranslate2), for which there is no worker: take the ggml file of the same Whisper",
            ),
            Sort::Kroko => Err(
                "it is Kroko's own container, which only its kroko-server reads: what is missing are the ONNX files \
                 (encoder, decoder and joiner, with tokens.txt, in a folder), which the worker sherpa reads",
            ),
            Sort::Broken(why) => Err(why),
        }
    }

    /// In words.
    pub(in crate::cli::serve) const fn described(&self) -> &'static str {
        match self.sort {
            Sort::Onnx => "an ONNX model",
            Sort::Ggml => "a ggml file of whisper.cpp",
            Sort::Gguf => "a GGUF file",
            Sort::Sphinx => "a model of CMU Sphinx",
            Sort::Vosk => "a model of Vosk",
            Sort::CTranslate2 => "a model of CTranslate2",
            Sort::Kroko => "Kroko's own container",
            Sort::Broken(_) => "no model",
        }
    }
}

/// What `path` is; `None`: nothing that is known as a model.
pub(in crate::cli::serve) fn form(path: &Path) -> Option<Form> {
    if path.is_dir() { folder(path) } else { file(path) }
}

/// The small letters of a file's name.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn file(path: &Path) -> Option<Form> {
    let name = name_of(path);
    let extension = path.extension()?.to_str()?.to_lowercase();
    match extension.as_str() {
        "gguf" => {
            if first_bytes(path) != Some(*GGUF) {
                return Some(Form::of(
                    Sort::Broken("it is no GGUF file, whatever its name says: half a download?"),
                    BackendKind::Llm,
                ));
            }
            // A projector belongs to a model and is none; of a split model, the first part stands for all.
            let is_part = name.contains("-of-") && !name.contains("-00001-of-");
            (!name.contains("mmproj") && !is_part).then(|| Form {
                synthetic: name.starts_with("synthetic"),
                ..Form::of(Sort::Gguf, BackendKind::Llm)
            })
        }
        "bin" if first_bytes(path) == Some(*GGML) => Some(Form {
            synthetic: name.starts_with("synthetic"),
            ..Form::of(Sort::Ggml, BackendKind::Stt)
        }),
        "bin" if name.starts_with("ggml-") => Some(Form::of(
            Sort::Broken("it is no ggml file, whatever its name says: half a download?"),
            BackendKind::Stt,
        )),
        "onnx" => Some(onnx(path)),
        "data" if is_kroko(path) => Some(Form::of(Sort::Kroko, BackendKind::Stt).family("kroko")),
        _ => None,
    }
}

fn is_kroko(path: &Path) -> bool {
    let folder = path.parent().map(name_of).unwrap_or_default();
    name_of(path).contains("kroko") || folder.contains("kroko")
}

/// One ONNX file: a voice where its metadata or a JSON of Piper's says so.
fn onnx(path: &Path) -> Form {
    let tail = last_bytes(path);
    let has = |words: &[u8]| contains(&tail, words);
    let mut form = Form {
        sort: Sort::Onnx,
        job: None,
        family: None,
        synthetic: has(SYNTHETIC),
    };
    let voice = if piper_json(path).is_file() || has(b"piper") {
        Some("piper")
    } else if has(b"matcha-tts") {
        Some("matcha")
    } else if has(b"melo-vits") {
        Some("melotts")
    } else if has(b"style_dim") && !has(b"kitten-tts") {
        Some("kokoro")
    } else {
        None
    };
    if voice.is_some() || has(b"n_speakers") {
        form.job = Some(BackendKind::Tts);
        form.family = voice;
    } else if has(b"t-one") {
        form.job = Some(BackendKind::Stt);
        form.family = Some("tone");
    } else if [
        &b"vocab_size"[..],
        b"subsampling_factor",
        b"decode_chunk_len",
        b"model_author",
    ]
    .into_iter()
    .any(has)
    {
        form.job = Some(BackendKind::Stt);
    }
    form
}

/// Where Piper puts what it knows of a voice.
pub(in crate::cli::serve) fn piper_json(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

fn folder(path: &Path) -> Option<Form> {
    let has = |name: &str| path.join(name).exists();
    if has("mdef") && has("means") {
        return Some(Form::of(Sort::Sphinx, BackendKind::Stt));
    }
    if has("conf") && (has("am") || has("final.mdl") || has("am/final.mdl")) {
        return Some(Form::of(Sort::Vosk, BackendKind::Stt).family("vosk"));
    }
    if has("model.bin") && has("config.json") && (has("vocabulary.txt") || has("vocabulary.json")) {
        return Some(Form::of(Sort::CTranslate2, BackendKind::Stt).family("faster_whisper"));
    }
    let files = files_of(path);
    let names: Vec<String> = files.iter().map(|file| name_of(file)).collect();
    if !names.iter().any(|name| name.ends_with("tokens.txt")) {
        return None;
    }
    let models: Vec<&PathBuf> = files.iter().filter(|file| name_of(file).ends_with(".onnx")).collect();
    let forms: Vec<Form> = models.iter().map(|model| onnx(model)).collect();
    let told = forms.iter().find(|form| form.job == Some(BackendKind::Tts));
    let told = told.or_else(|| forms.iter().find(|form| form.job.is_some()));
    let mut form = told.or_else(|| forms.first())?.clone();
    form.synthetic = forms.iter().any(|form| form.synthetic);
    // Voices say that they are some; recognisers are more often in parts, which say little of themselves.
    form.job = form.job.or(Some(BackendKind::Stt));
    let own = name_of(path);
    if form.job == Some(BackendKind::Stt) && form.family.is_none() && own.contains("kroko") {
        form.family = Some("kroko");
    }
    Some(form)
}

/// The files of a folder, by name, so many as are looked at.
pub(in crate::cli::serve) fn files_of(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().take(FILES_MAX);
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn first_bytes(path: &Path) -> Option<[u8; 4]> {
    let mut bytes = [0; 4];
    // A pipe or a device would never answer.
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file.then(|| File::open(path).ok()?.read_exact(&mut bytes).ok())??;
    Some(bytes)
}

fn last_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut read = || -> std::io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.is_file() {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL)))?;
            file.take(TAIL).read_to_end(&mut bytes)?;
        }
        Ok(())
    };
    // What can't be read says nothing.
    let _ = read();
    bytes
}

fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn files_are_known_by_their_content_and_folders_by_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let worker = |path: &Path| form(path).map(|form| form.worker());
        assert_eq!(worker(&put(root, "a.gguf", b"GGUF....")), Some(Ok("llama")));
        assert_eq!(worker(&put(root, "mmproj-a.gguf", b"GGUF....")), None);
        assert_eq!(
            worker(&put(root, "b-00001-of-00002.gguf", b"GGUF....")),
            Some(Ok("llama"))
        );
        assert_eq!(worker(&put(root, "b-00002-of-00002.gguf", b"GGUF....")), None);
        assert!(
            worker(&put(root, "c.gguf", b"version https://git-lfs"))
                .unwrap()
                .unwrap_err()
                .contains("no GGUF file")
        );
        assert_eq!(worker(&put(root, "any.bin", b"lmgg....")), Some(Ok("whisper")));
        assert!(worker(&put(root, "ggml-tiny.bin", b"<html>")).unwrap().is_err());
        assert_eq!(worker(&put(root, "voices.bin", b"....")), None);
        let voice = put(root, "tts/en_US.onnx", b"weights");
        assert_eq!(form(&voice).unwrap().job, None, "it says nothing");
        put(root, "tts/en_US.onnx.json", b"{}");
        let piper = form(&voice).unwrap();
        assert_eq!(
            (piper.worker(), piper.job, piper.family),
            (Ok("sherpa"), Some(BackendKind::Tts), Some("piper"))
        );
        assert_eq!(form(&root.join("tts")), None, "its voices stand for themselves");
        let kroko = form(&put(root, "kroko/Kroko-EN.data", b"..")).unwrap();
        assert!(kroko.worker().unwrap_err().contains("kroko-server"));
        put(root, "vosk-model/conf/model.conf", b"");
        put(root, "vosk-model/am/final.mdl", b"");
        assert!(worker(&root.join("vosk-model")).unwrap().unwrap_err().contains("Vosk"));
        for name in ["tokens.txt", "encoder.onnx", "decoder.onnx", "joiner.onnx"] {
            put(root, &format!("zipformer/{name}"), b"x");
        }
        let zipformer = form(&root.join("zipformer")).unwrap();
        assert_eq!(
            (zipformer.worker(), zipformer.job),
            (Ok("sherpa"), Some(BackendKind::Stt))
        );
        put(root, "kokoro/tokens.txt", b"");
        put(
            root,
            "kokoro/model.onnx",
            b"weights style_dim 510 n_speakers \x0a\x09synthetic",
        );
        let kokoro = form(&root.join("kokoro")).unwrap();
        assert_eq!(
            (kokoro.job, kokoro.family, kokoro.synthetic),
            (Some(BackendKind::Tts), Some("kokoro"), true)
        );
    }

    /// The models that the set-up makes for tests are what they are.
    #[test]
    fn synthetic_models_are_told_apart() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".repartee/synthetic");
        let told = |name: &str| form(&folder.join(name)).map(|form| (form.job, form.family, form.synthetic));
        if told("sherpa/synthetic-kokoro").is_none() {
            println!("skipped: there are no synthetic models here");
            return;
        }
        let (stt, tts) = (Some(BackendKind::Stt), Some(BackendKind::Tts));
        for (name, job, family) in [
            ("synthetic-kokoro", tts, Some("kokoro")),
            ("synthetic-kitten", tts, None),
            ("synthetic-matcha", tts, Some("matcha")),
            ("synthetic-melo", tts, Some("melotts")),
            ("synthetic-piper", tts, Some("piper")),
            ("synthetic-vits-lexicon", tts, None),
            ("synthetic-t-one", stt, Some("tone")),
            ("synthetic-kroko", stt, Some("kroko")),
            ("synthetic-zipformer", stt, None),
            ("synthetic-sense-voice", stt, None),
            ("synthetic-moonshine", stt, None),
            ("synthetic-nemo-ctc", stt, None),
            ("synthetic-offline-zipformer-ctc", stt, None),
        ] {
            assert_eq!(told(&format!("sherpa/{name}")), Some((job, family, true)), "{name}");
        }
        assert_eq!(told("llama/synthetic-mmproj.gguf"), None);
        assert_eq!(
            told("llama/synthetic-chat.gguf").map(|told| told.0),
            Some(Some(BackendKind::Llm))
        );
        assert_eq!(told("whisper/synthetic-tiny.bin").map(|told| told.0), Some(stt));
    }
}
