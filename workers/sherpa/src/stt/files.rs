//! Which files make up a model: by their role, and of those that differ in precision only, the preferred one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use repartee_worker_shell::Models;
use repartee_worker_shell::protocol::{Load, LoadFailed, code};

/// The most files of a folder that are looked at.
const MOST_FILES: usize = 1000;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// A model in one file.
    Model,
    Encoder,
    Decoder,
    Joiner,
    Preprocessor,
    UncachedDecoder,
    CachedDecoder,
}

impl Role {
    pub(super) const ALL: [Self; 7] = [
        Self::Model,
        Self::Encoder,
        Self::Decoder,
        Self::Joiner,
        Self::Preprocessor,
        Self::UncachedDecoder,
        Self::CachedDecoder,
    ];

    /// What [`Load::files`] calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Joiner => "joiner",
            Self::Preprocessor => "preprocessor",
            Self::UncachedDecoder => "uncached_decoder",
            Self::CachedDecoder => "cached_decoder",
        }
    }

    /// By the words that exporters put into their files' names; `uncached_decode` holds the two after it.
    fn of(stem: &str) -> Self {
        let words = [
            ("uncached_decode", Self::UncachedDecoder),
            ("cached_decode", Self::CachedDecoder),
            ("preprocess", Self::Preprocessor),
            ("encode", Self::Encoder),
            ("decode", Self::Decoder),
            ("join", Self::Joiner),
        ];
        let found = words.iter().find(|(word, _)| stem.contains(word));
        found.map_or(Self::Model, |(_, role)| *role)
    }
}

/// In what numbers a model computes, as its file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precision {
    Int8,
    Fp16,
    Fp32,
}

impl Precision {
    fn of(stem: &str) -> Self {
        if stem.contains("int8") || stem.contains("quant") {
            Self::Int8
        } else if stem.contains("fp16") {
            Self::Fp16
        } else {
            Self::Fp32
        }
    }

    /// The value of the option.
    ///
    /// # Errors
    /// When there's no such precision.
    pub(super) fn named(name: Option<&str>) -> Result<Self, LoadFailed> {
        match name {
            // A quarter of the memory and quicker on a CPU; recognisers lose next to nothing.
            None | Some("int8") => Ok(Self::Int8),
            Some("fp16") => Ok(Self::Fp16),
            Some("fp32") => Ok(Self::Fp32),
            Some(other) => Err(LoadFailed::new(
                code::INVALID,
                format!("the option \"precision\" has to be int8, fp16 or fp32, not {other:?}"),
            )),
        }
    }
}

/// The files of a model.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Where they are.
    pub(super) folder: PathBuf,
    /// What the load named, for messages.
    pub(super) model: String,
    candidates: BTreeMap<Role, Vec<PathBuf>>,
    precision: Precision,
    /// The files of [`Load::files`] that aren't parts of the model: `tokens`, `bpe_vocab`.
    others: BTreeMap<String, PathBuf>,
}

impl Files {
    /// Finds the files of the model that `request` names: a folder, or one file of it.
    ///
    /// # Errors
    /// Where there's nothing, or nothing in ONNX.
    pub(super) fn find(request: &Load, root: &Models, precision: Precision) -> Result<Self, LoadFailed> {
        let path = root.resolve(&request.model)?;
        let mut files = Self {
            folder: path.clone(),
            model: request.model.clone(),
            candidates: BTreeMap::new(),
            precision,
            others: BTreeMap::new(),
        };
        let mut named = None;
        if !path.is_dir() {
            let Some(folder) = path.parent().filter(|_| is_onnx(&path)) else {
                let reason = format!(
                    "{:?} is neither a folder nor an ONNX file, which is all that sherpa-onnx loads",
                    request.model
                );
                return Err(LoadFailed::new(code::UNSUPPORTED, reason).about(request.model.clone()));
            };
            files.folder = folder.to_path_buf();
            named = Some(path.clone());
            // Whoever names a file of several means those that go with it.
            files.precision = Precision::of(&stem(&path));
        }
        files.list()?;
        if let Some(path) = named {
            files.candidates.insert(Role::of(&stem(&path)), vec![path]);
        }
        for (name, relative) in &request.files {
            let path = root.resolve(relative)?;
            match Role::ALL.into_iter().find(|role| role.name() == name) {
                Some(role) => drop(files.candidates.insert(role, vec![path])),
                None if ["tokens", "bpe_vocab"].contains(&name.as_str()) => {
                    drop(files.others.insert(name.clone(), path))
                }
                None => {
                    let roles: Vec<&str> = Role::ALL.into_iter().map(Role::name).collect();
                    let reason = format!(
                        "a recogniser has no file {name:?}; it may have {}, tokens, bpe_vocab",
                        roles.join(", ")
                    );
                    return Err(LoadFailed::new(code::INVALID, reason));
                }
            }
        }
        if files.candidates.is_empty() {
            let reason = format!("there is no .onnx file in {:?}", request.model);
            return Err(LoadFailed::new(code::MISSING, reason).about(request.model.clone()));
        }
        Ok(files)
    }

    fn list(&mut self) -> Result<(), LoadFailed> {
        let entries = fs::read_dir(&self.folder).map_err(|error| {
            let reason = format!("the folder of {:?} can't be read: {error}", self.model);
            LoadFailed::new(code::MISSING, reason).about(self.model.clone())
        })?;
        for entry in entries.flatten().take(MOST_FILES) {
            let path = entry.path();
            if is_onnx(&path) && path.is_file() {
                self.candidates.entry(Role::of(&stem(&path))).or_default().push(path);
            }
        }
        self.candidates.values_mut().for_each(|paths| paths.sort());
        Ok(())
    }

    /// Whether there's a file for this role.
    pub(super) fn has(&self, role: Role) -> bool {
        self.candidates.contains_key(&role)
    }

    /// The file for a role.
    ///
    /// # Errors
    /// When there's none, or when there are several and nothing says which.
    pub(super) fn get(&self, role: Role) -> Result<&Path, LoadFailed> {
        let Some(paths) = self.candidates.get(&role) else {
            let reason = format!(
                "{:?} has no {}: no .onnx file in it is named so",
                self.model,
                role.name()
            );
            return Err(LoadFailed::new(code::MISSING, reason).about(self.model.clone()));
        };
        let of = |precision: Precision| -> Vec<&PathBuf> {
            let is_it = |path: &&PathBuf| Precision::of(&stem(path)) == precision;
            paths.iter().filter(is_it).collect()
        };
        // What was asked for, else whatever there is.
        let order = [self.precision, Precision::Int8, Precision::Fp32, Precision::Fp16];
        let best = order
            .into_iter()
            .map(of)
            .find(|paths| !paths.is_empty())
            .unwrap_or_default();
        match best[..] {
            [path] => Ok(path),
            _ => {
                let names: Vec<String> = best.iter().map(|path| file_name(path)).collect();
                let reason = format!(
                    "{:?} has several files that could be its {}: {}; name the one that is meant (files: {}), or keep them in folders of their own",
                    self.model,
                    role.name(),
                    names.join(", "),
                    role.name()
                );
                Err(LoadFailed::new(code::INVALID, reason).about(names[0].clone()))
            }
        }
    }

    /// A file beside the model: the one that the load names, else the one of this name, else the only one whose name ends so (Whisper's
    /// `tiny.en-tokens.txt`).
    pub(super) fn beside(&self, role: &str, name: &str) -> Result<Option<PathBuf>, LoadFailed> {
        if let Some(path) = self.others.get(role) {
            return Ok(Some(path.clone()));
        }
        let path = self.folder.join(name);
        if path.is_file() {
            return Ok(Some(path));
        }
        let ending = format!("-{name}");
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .take(MOST_FILES)
        {
            if file_name(&entry.path()).ends_with(&ending) {
                found.push(entry.path());
            }
        }
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|path| file_name(path)).collect();
            let reason = format!(
                "{:?} has several {name}: {}; name the one that is meant (files: {role})",
                self.model,
                names.join(", ")
            );
            return Err(LoadFailed::new(code::INVALID, reason).about(names[0].clone()));
        }
        Ok(found.pop())
    }
}

fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

/// A file's name, for messages.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_roles_and_precisions() {
        for (name, role, precision) in [
            (
                "encoder-epoch-99-avg-1-chunk-16-left-128.int8",
                Role::Encoder,
                Precision::Int8,
            ),
            ("decoder-epoch-99-avg-1", Role::Decoder, Precision::Fp32),
            ("joiner.fp16", Role::Joiner, Precision::Fp16),
            ("uncached_decode.int8", Role::UncachedDecoder, Precision::Int8),
            ("cached_decode", Role::CachedDecoder, Precision::Fp32),
            ("preprocess", Role::Preprocessor, Precision::Fp32),
            ("encode.int8", Role::Encoder, Precision::Int8),
            ("tiny.en-decoder.int8", Role::Decoder, Precision::Int8),
            ("ctc-epoch-20-avg-1-chunk-16-left-128", Role::Model, Precision::Fp32),
            ("model_quant", Role::Model, Precision::Int8),
        ] {
            assert_eq!((Role::of(name), Precision::of(name)), (role, precision), "{name}");
        }
    }
}
