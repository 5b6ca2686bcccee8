//! Which kind of recogniser a folder of files is, and whether all is there that the library needs of it.
//!
//! The library is told the kind by the field of its configuration that names the files, and ends the process where the files are of
//! another kind. So the kind is read from the files: from which there are, and from what the main one says of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use repartee_worker_shell::protocol::{LoadFailed, code};

use super::files::{Files, Role, file_name};
use super::kind::{ANY, Kind, Traits};
use super::tokens::Tokens;
use crate::onnx::Onnx;

/// A recogniser on disk, which was looked through.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) kind: Kind,
    /// What its files say of themselves.
    pub(super) onnx: BTreeMap<Role, Onnx>,
    pub(super) paths: BTreeMap<Role, PathBuf>,
    pub(super) tokens_path: PathBuf,
    pub(super) tokens: Tokens,
    /// The vocabulary for [`Kind::takes_hints`], where there's one.
    pub(super) bpe_vocab: Option<PathBuf>,
    /// What its files take on disk, in bytes.
    pub(super) bytes: u64,
}

impl Model {
    /// Looks through `files`; `kind` where an option says what they are.
    ///
    /// # Errors
    /// With the file and what is wrong with it.
    pub(super) fn of(files: &Files, kind: Option<&str>) -> Result<Self, LoadFailed> {
        let kind = match kind {
            Some(name) => Kind::named(name)?,
            None => guess(files)?,
        };
        let traits = kind.traits();
        let mut model = Self {
            kind,
            onnx: BTreeMap::new(),
            paths: BTreeMap::new(),
            tokens_path: PathBuf::new(),
            tokens: Tokens::default(),
            bpe_vocab: files.beside("bpe_vocab", "bpe.vocab")?,
            bytes: 0,
        };
        for role in traits.roles {
            let path = files.get(*role)?;
            model.bytes += path.metadata().map(|data| data.len()).unwrap_or(0);
            model.onnx.insert(*role, read(path)?);
            model.paths.insert(*role, path.to_path_buf());
        }
        model.require(traits)?;
        let Some(tokens) = files.beside("tokens", "tokens.txt")? else {
            let reason = format!(
                "{:?} has no tokens.txt, which says what the model's numbers are written as",
                files.model
            );
            return Err(LoadFailed::new(code::MISSING, reason).about("tokens.txt"));
        };
        model.tokens = Tokens::read(&tokens)?;
        model.tokens_path = tokens;
        model.require_tokens()?;
        Ok(model)
    }

    /// The file that says most.
    pub(super) fn main(&self) -> &Onnx {
        let main = [Role::Model, Role::Encoder];
        main.iter()
            .find_map(|role| self.onnx.get(role))
            .expect("every kind has one of the two")
    }

    pub(super) fn path(&self, role: Role) -> Option<String> {
        self.paths.get(&role).map(|path| path.to_string_lossy().into_owned())
    }

    fn name_of(&self, role: Role) -> String {
        self.paths.get(&role).map(|path| file_name(path)).unwrap_or_default()
    }

    /// The metadata, inputs and outputs that the kind has.
    fn require(&self, traits: &Traits) -> Result<(), LoadFailed> {
        let wrong = |role: Role, problem: String| {
            let name = self.name_of(role);
            let reason = format!("{name} is no {} of a {}: {problem}", role.name(), traits.name);
            LoadFailed::new(code::INVALID, reason).about(name)
        };
        for (role, keys) in traits.needs {
            let Some(onnx) = self.onnx.get(role) else { continue };
            if let Some(key) = keys.iter().find(|key| onnx.text(key).is_empty()) {
                return Err(wrong(*role, format!("its metadata has no {key:?}")));
            }
        }
        for (role, inputs, outputs) in traits.shapes {
            let Some(onnx) = self.onnx.get(role) else { continue };
            let (has_inputs, has_outputs) = (onnx.inputs.len(), onnx.outputs.len());
            if !inputs.contains(&has_inputs) || has_outputs < *outputs {
                let wanted = match (inputs.start(), inputs.end()) {
                    (least, &ANY) => format!("{least} or more"),
                    (least, most) if least == most => least.to_string(),
                    (least, most) => format!("{least} to {most}"),
                };
                let problem =
                    format!("it has {has_inputs} inputs and {has_outputs} outputs, not {wanted} and {outputs} or more");
                return Err(wrong(*role, problem));
            }
        }
        // The library asks a NeMo decoder by the number of its outputs what it is.
        let decoder = self
            .onnx
            .get(&Role::Decoder)
            .filter(|_| self.kind == Kind::StreamingTransducer);
        if let Some(outputs) = decoder.map(|onnx| onnx.outputs.len()).filter(|outputs| *outputs != 1) {
            return Err(wrong(Role::Decoder, format!("it has {outputs} outputs, not one")));
        }
        if matches!(self.kind, Kind::StreamingTransducer | Kind::StreamingCtc) {
            self.require_states()
                .map_err(|problem| wrong(traits.roles[0], problem))?;
        }
        Ok(())
    }

    /// A streaming zipformer's lists of layers: one number for each stack, and six states for each layer beside the two of the whole.
    fn require_states(&self) -> Result<(), String> {
        let main = self.main();
        let second = matches!(main.text("model_type"), "zipformer2" | "zipformer2_ctc");
        if !second {
            return Ok(());
        }
        const LISTS: [&str; 7] = [
            "num_encoder_layers",
            "encoder_dims",
            "query_head_dims",
            "value_head_dims",
            "num_heads",
            "cnn_module_kernels",
            "left_context_len",
        ];
        let mut stacks = None;
        let mut layers = 0;
        for key in LISTS {
            let numbers: Option<Vec<usize>> = main
                .text(key)
                .split(',')
                .map(|number| number.trim().parse().ok())
                .collect();
            let numbers = numbers.ok_or_else(|| format!("the metadata's {key:?} is no list of numbers"))?;
            if key == LISTS[0] {
                layers = numbers.iter().fold(0_usize, |sum, number| sum.saturating_add(*number));
            }
            if *stacks.get_or_insert(numbers.len()) != numbers.len() {
                return Err(format!("the metadata's {key:?} has another length than {:?}", LISTS[0]));
            }
        }
        let wanted = layers.saturating_mul(6).saturating_add(3);
        if main.inputs.len() < wanted {
            return Err(format!(
                "its metadata speaks of {layers} layers, which need {wanted} inputs, and it has {}",
                main.inputs.len()
            ));
        }
        Ok(())
    }

    /// That the table of tokens goes with the model: with one of another model the library gives wrong words or ends the process.
    fn require_tokens(&self) -> Result<(), LoadFailed> {
        let name = file_name(&self.tokens_path);
        let wrong = |problem: String| LoadFailed::new(code::INVALID, format!("{name} {problem}")).about(name.clone());
        let is_nemo = self.main().text("model_type").starts_with("EncDec");
        let size = [Role::Decoder, Role::Encoder, Role::Model]
            .into_iter()
            .find_map(|role| self.onnx.get(&role)?.number("vocab_size"));
        if let Some(size) = size {
            // NeMo doesn't count the blank, which its table has.
            let wanted = size.saturating_add(u64::from(is_nemo));
            if (self.tokens.len() as u64) < wanted {
                return Err(wrong(format!(
                    "has {} tokens and the model {wanted}: it belongs to another model",
                    self.tokens.len()
                )));
            }
        }
        let has_no_blank = [
            Kind::SenseVoice,
            Kind::Moonshine,
            Kind::Whisper,
            Kind::Paraformer,
            Kind::StreamingParaformer,
        ];
        if !has_no_blank.contains(&self.kind) && !self.tokens.has_blank() {
            return Err(wrong("has no blank (<blk>), which this kind of model needs".into()));
        }
        Ok(())
    }
}

/// What is in the names of models that speak.
const VOICES: [&str; 5] = ["vits", "kokoro", "kitten", "matcha", "tts"];

fn read(path: &Path) -> Result<Onnx, LoadFailed> {
    Onnx::read(path).map_err(|problem| {
        let name = file_name(path);
        LoadFailed::new(code::INVALID, format!("{name} {problem}")).about(name)
    })
}

/// The kind of the files, where it can be told.
fn guess(files: &Files) -> Result<Kind, LoadFailed> {
    if files.has(Role::UncachedDecoder) && files.has(Role::CachedDecoder) {
        return Ok(Kind::Moonshine);
    }
    let main = if files.has(Role::Encoder) {
        Role::Encoder
    } else {
        Role::Model
    };
    let path = files.get(main)?;
    let name = file_name(path);
    let onnx = read(path)?;
    if let Some(kind) = Kind::of(files, &onnx) {
        return Ok(kind);
    }
    let model_type = onnx.text("model_type");
    let what = match model_type {
        "" => "its metadata has no \"model_type\"".to_owned(),
        other => format!("its metadata calls it {other:?}"),
    };
    let remedy = if VOICES.iter().any(|voice| model_type.contains(voice)) {
        "it is a voice, to be loaded for tts".to_owned()
    } else {
        let parts: Vec<&str> = Role::ALL
            .into_iter()
            .filter(|role| files.has(*role))
            .map(Role::name)
            .collect();
        format!(
            "with it is {}; where it is one nevertheless, the option \"kind\" says which",
            parts.join(", ")
        )
    };
    let reason = format!("{name} is no recogniser that this worker knows: {what}; {remedy}");
    Err(LoadFailed::new(code::UNSUPPORTED, reason).about(name))
}
