//! What a model file says of itself, read before the library sees it.
//!
//! whisper.cpp trusts its files: lengths are allocated as they stand, counts index arrays, and a file without weights loads as an
//! "empty model for testing". So the whole file is walked here first, header by header and skipping the weights, by the layout that
//! whisper.cpp's `convert-pt-to-ggml.py` and `quantize` write: magic, eleven hyperparameters, the mel filters, the vocabulary,
//! then tensors up to the end.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use repartee_worker_shell::protocol::{LoadFailed, code};

/// `ggml`, as the files have it: a little-endian 0x67676d6c.
const MAGIC: [u8; 4] = *b"lmgg";

/// Encoder positions of 30 s: the same in all Whisper models, and presumed by the library.
pub(crate) const AUDIO_CONTEXT: u32 = 1500;
/// Decoder positions: the same in all Whisper models.
const TEXT_CONTEXT: u32 = 448;
/// Bins of a spectrum of 400 samples, see whisper.cpp's `WHISPER_N_FFT`.
const SPECTRUM: u32 = 201;
/// large-v3 has 32 layers and states of 1280; this leaves room for something twice as large.
const MOST_LAYERS: u32 = 64;
const MOST_STATE: u32 = 2560;
/// The longest token of the vocabularies has 128 bytes (a run of spaces).
const LONGEST_TOKEN: u32 = 512;
/// The longest tensor name is `decoder.blocks.31.cross_attn_ln.weight`.
const LONGEST_NAME: u32 = 128;

/// Vocabulary sizes, from which the library derives the places of its special tokens: English, multilingual, and large-v3's, which has
/// one language more.
const ENGLISH: u32 = 51_864;
const MULTILINGUAL: u32 = 51_865;
const MULTILINGUAL_V3: u32 = 51_866;

/// How the weights of a tensor may lie in the file: type, values in a block, bytes of a block (ggml.h, ggml-common.h).
const TENSOR_TYPES: [(u32, u64, u64); 13] = [
    (0, 1, 4),      // f32
    (1, 1, 2),      // f16
    (2, 32, 18),    // q4_0
    (3, 32, 20),    // q4_1
    (6, 32, 22),    // q5_0
    (7, 32, 24),    // q5_1
    (8, 32, 34),    // q8_0
    (10, 256, 84),  // q2_k
    (11, 256, 110), // q3_k
    (12, 256, 144), // q4_k
    (13, 256, 176), // q5_k
    (14, 256, 210), // q6_k
    (30, 1, 2),     // bf16
];

/// What the file is mostly made of, as `ftype` counts (ggml.h), with the name that people know.
const FILE_TYPES: [(u32, &str); 13] = [
    (0, "f32"),
    (1, "f16"),
    (2, "q4_0"),
    (3, "q4_1"),
    (7, "q8_0"),
    (8, "q5_0"),
    (9, "q5_1"),
    (10, "q2_k"),
    (11, "q3_k"),
    (12, "q4_k"),
    (13, "q5_k"),
    (14, "q6_k"),
    (24, "bf16"),
];
/// `ftype` holds a version of the quantisation too, in units of this (`GGML_QNT_VERSION_FACTOR`).
const QUANTISATION_VERSION: u32 = 1000;

/// A model file that the library may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) vocabulary: u32,
    pub(crate) audio_state: u32,
    pub(crate) audio_heads: u32,
    pub(crate) audio_layers: u32,
    pub(crate) text_state: u32,
    pub(crate) text_layers: u32,
    pub(crate) mels: u32,
    /// `f16`, `q5_1`…
    pub(crate) weights: &'static str,
    /// The length of the file in bytes.
    pub(crate) bytes: u64,
}

impl Header {
    /// Reads the file and looks whether it's whole.
    ///
    /// # Errors
    /// What it is instead, or where it breaks off. `name` is what the load called it.
    pub(crate) fn read(path: &Path, name: &str) -> Result<Self, LoadFailed> {
        let failed = |code: &str, reason: String| LoadFailed::new(code, format!("{name}: {reason}")).about(name);
        if path.is_dir() {
            let reason = "this is a folder; a Whisper model is one file, such as ggml-base.bin".into();
            return Err(failed(code::INVALID, reason));
        }
        let open = || -> io::Result<(BufReader<File>, u64)> {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((BufReader::new(file), length))
        };
        let (reader, length) = open().map_err(|error| failed(code::MISSING, format!("it can't be read: {error}")))?;
        let mut source = Source { reader, length, at: 0 };
        walk(&mut source).map_err(|problem| failed(code::INVALID, problem))
    }

    pub(crate) fn is_multilingual(&self) -> bool {
        self.vocabulary >= MULTILINGUAL
    }

    /// Whether Cantonese has a token of its own.
    pub(crate) fn knows_cantonese(&self) -> bool {
        self.vocabulary == MULTILINGUAL_V3
    }

    /// How many bytes one state of the library takes at most, beside the weights: the caches (`whisper_kv_cache_init`), attention over all
    /// 30 s, which the encoder's buffer is made for, and the logits of a whole text. Of the last only as much is used as a prompt
    /// has tokens; measured after a decode of 30 s without a prompt: 125 MiB of 176 for a model of tiny's size, 172 of 213 for base's.
    pub(crate) fn state_bytes(&self) -> u64 {
        let (audio, text) = (u64::from(self.audio_state), u64::from(self.text_state));
        let (context, positions) = (u64::from(AUDIO_CONTEXT), u64::from(TEXT_CONTEXT));
        let caches = 4 * text * u64::from(self.text_layers) * (512 + 1536) + 4 * audio * 1536;
        let attention = 4 * context * context * u64::from(self.audio_heads);
        let activations = 4 * context * audio * 10;
        let logits = 4 * positions * u64::from(self.vocabulary);
        caches + attention + activations + logits
    }
}

/// One line for people: `Whisper, multilingual, 4 + 4 layers of 384, q5_1, 31 MiB`.
impl fmt::Display for Header {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Whisper, {}, {} + {} layers of {}, {}, {} MiB",
            if self.is_multilingual() {
                "multilingual"
            } else {
                "English"
            },
            self.audio_layers,
            self.text_layers,
            self.audio_state,
            self.weights,
            self.bytes >> 20
        )
    }
}

/// A file that is read from the front to the back.
struct Source<R> {
    reader: R,
    length: u64,
    at: u64,
}

impl<R: Read + Seek> Source<R> {
    fn bytes(&mut self, buffer: &mut [u8], what: &str) -> Result<(), String> {
        self.reader
            .read_exact(buffer)
            .map_err(|error| self.broken(&error, what))?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn number(&mut self, what: &str) -> Result<u32, String> {
        let mut bytes = [0; 4];
        self.bytes(&mut bytes, what)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<(), String> {
        if bytes > self.length - self.at {
            return Err(self.truncated(what));
        }
        let forward = i64::try_from(bytes).map_err(|_| self.truncated(what))?;
        // Relative, so that what is buffered is used.
        let moved = self.reader.seek(SeekFrom::Current(forward));
        moved.map_err(|error| self.broken(&error, what))?;
        self.at += bytes;
        Ok(())
    }

    fn broken(&self, error: &io::Error, what: &str) -> String {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            self.truncated(what)
        } else {
            format!("it can't be read: {error}")
        }
    }

    fn truncated(&self, what: &str) -> String {
        format!(
            "the file is truncated: its {} bytes end within {what}; fetch it again",
            self.length
        )
    }
}

fn walk<R: Read + Seek>(source: &mut Source<R>) -> Result<Header, String> {
    let mut magic = [0; 4];
    if source.length < magic.len() as u64 {
        return Err(format!("the file has {} bytes, which is no model", source.length));
    }
    source.bytes(&mut magic, "the magic")?;
    if magic != MAGIC {
        return Err(format!(
            "{}, not a ggml Whisper model (their names are like ggml-base.en.bin)",
            kind(magic, source)
        ));
    }
    let mut header = hyperparameters(source)?;
    filters(source, header.mels)?;
    vocabulary(source, header.vocabulary)?;
    let (tensors, wanted) = (
        tensors(source)?,
        11 + 15 * header.audio_layers + 24 * header.text_layers,
    );
    match tensors {
        0 => Err(
            "the file has a header and a vocabulary and no weights, as models have that are made to test a build"
                .into(),
        ),
        _ if tensors != wanted => Err(format!(
            "the file has {tensors} tensors where its {} + {} layers need {wanted}: it is truncated, or of another version",
            header.audio_layers, header.text_layers
        )),
        _ => {
            header.bytes = source.length;
            Ok(header)
        }
    }
}

fn hyperparameters<R: Read + Seek>(source: &mut Source<R>) -> Result<Header, String> {
    let mut values = [0; 11];
    for value in &mut values {
        *value = source.number("the hyperparameters")?;
    }
    let [
        vocabulary,
        audio_context,
        audio_state,
        audio_heads,
        audio_layers,
        text_context,
        text_state,
        text_heads,
        text_layers,
        mels,
        file_type,
    ] = values;
    let weights = FILE_TYPES
        .iter()
        .find(|(number, _)| *number == file_type % QUANTISATION_VERSION)
        .map(|(_, name)| *name);
    let divides = |heads: u32, state: u32| heads > 0 && state.is_multiple_of(heads);
    let problem = if ![ENGLISH, MULTILINGUAL, MULTILINGUAL_V3].contains(&vocabulary) {
        format!("a vocabulary of {vocabulary}")
    } else if audio_context != AUDIO_CONTEXT || text_context != TEXT_CONTEXT {
        format!("contexts of {audio_context} and {text_context} positions")
    } else if audio_state != text_state || audio_state == 0 || audio_state > MOST_STATE {
        format!("states of {audio_state} and {text_state} values")
    } else if !divides(audio_heads, audio_state) || !divides(text_heads, text_state) {
        format!("{audio_heads} and {text_heads} heads")
    } else if !(1..=MOST_LAYERS).contains(&audio_layers) || !(1..=MOST_LAYERS).contains(&text_layers) {
        format!("{audio_layers} and {text_layers} layers")
    } else if mels != 80 && mels != 128 {
        format!("{mels} mel bands")
    } else if weights.is_none() {
        format!("weights of type {file_type}")
    } else {
        return Ok(Header {
            vocabulary,
            audio_state,
            audio_heads,
            audio_layers,
            text_state,
            text_layers,
            mels,
            weights: weights.unwrap_or_default(),
            bytes: source.length,
        });
    };
    // llama.cpp's files of early 2023 begin with the same magic.
    Err(format!(
        "its hyperparameters are no Whisper model's ({problem}); it may be damaged, or another kind of ggml model"
    ))
}

fn filters<R: Read + Seek>(source: &mut Source<R>, mels: u32) -> Result<(), String> {
    let (bands, bins) = (source.number("the mel filters")?, source.number("the mel filters")?);
    if (bands, bins) != (mels, SPECTRUM) {
        return Err(format!(
            "its mel filters are {bands} × {bins}, not {mels} × {SPECTRUM}: it is damaged"
        ));
    }
    source.skip(4 * u64::from(bands) * u64::from(bins), "the mel filters")
}

fn vocabulary<R: Read + Seek>(source: &mut Source<R>, most: u32) -> Result<(), String> {
    let count = source.number("the vocabulary")?;
    if count == 0 || count > most {
        return Err(format!("it lists {count} tokens of {most}: it is damaged"));
    }
    let mut token = Vec::new();
    let mut has_space = false;
    for number in 0..count {
        let length = source.number("the vocabulary")?;
        if length > LONGEST_TOKEN {
            return Err(format!("token {number} has {length} bytes: it is damaged"));
        }
        token.resize(length as usize, 0);
        source.bytes(&mut token, "the vocabulary")?;
        has_space |= token == b" ";
    }
    // The library looks it up without asking whether it is there.
    if has_space {
        Ok(())
    } else {
        Err("its vocabulary has no token for a space: it is damaged".into())
    }
}

fn tensors<R: Read + Seek>(source: &mut Source<R>) -> Result<u32, String> {
    let mut count = 0;
    while source.at < source.length {
        let what = format!("tensor {}", count + 1);
        let (dimensions, name_length, kind) = (source.number(&what)?, source.number(&what)?, source.number(&what)?);
        if !(1..=3).contains(&dimensions) || !(1..=LONGEST_NAME).contains(&name_length) {
            return Err(format!(
                "{what} has {dimensions} dimensions and a name of {name_length} bytes: it is damaged"
            ));
        }
        let mut values: u64 = 1;
        for _ in 0..dimensions {
            let extent = source.number(&what)?;
            // As the library counts: in an `int`.
            values = values.saturating_mul(extent.into());
            if extent == 0 || values > i32::MAX as u64 {
                return Err(format!("{what} has an extent of {extent}: it is damaged"));
            }
        }
        let Some((_, block, bytes)) = TENSOR_TYPES.iter().find(|(number, ..)| *number == kind) else {
            return Err(format!(
                "{what} is of type {kind}, which isn't known here: it is damaged, or of a later version"
            ));
        };
        if !values.is_multiple_of(*block) {
            return Err(format!(
                "{what} has {values} values, no whole blocks of {block}: it is damaged"
            ));
        }
        source.skip(name_length.into(), &what)?;
        source.skip(values / block * bytes, &what)?;
        count += 1;
    }
    Ok(count)
}

/// What a file is that doesn't begin as it should.
fn kind<R: Read + Seek>(magic: [u8; 4], source: &mut Source<R>) -> &'static str {
    match &magic {
        b"GGUF" => "this is a GGUF file, for llama.cpp and newer tools",
        b"tjgg" | b"fmgg" | b"algg" => "this is an old llama.cpp model",
        b"PK\x03\x04" => {
            "this is a zip file or a PyTorch checkpoint (.pt); whisper.cpp's convert-pt-to-ggml.py makes a ggml model of it"
        }
        b"RIFF" => "this is a WAV file",
        [0x08, ..] => "this looks like an ONNX model",
        [0x1f, 0x8b, ..] => "this is a gzip file",
        b"<!DO" | b"<htm" | b"<HTM" => "this is a web page, as a failed download leaves",
        b"vers" => "this is a Git LFS pointer, not the file itself: fetch it with git lfs",
        _ => {
            // safetensors begins with a length of eight bytes and JSON.
            let mut next = [0; 5];
            if source.bytes(&mut next, "the magic").is_ok() && next == [0, 0, 0, 0, b'{'] {
                "this is a safetensors file; whisper.cpp's convert-h5-to-ggml.py makes a ggml model of it"
            } else {
                "this is a file of a kind that isn't known here"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> Result<Header, String> {
        walk(&mut Source {
            reader: Cursor::new(bytes),
            length: bytes.len() as u64,
            at: 0,
        })
    }

    fn numbers(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    const TINY: [u32; 11] = [ENGLISH, 1500, 8, 2, 1, 448, 8, 2, 1, 80, 1];

    /// A file of one layer each, with as many tensors as are asked for.
    fn file(hyperparameters: [u32; 11], tensors: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(numbers(&hyperparameters));
        bytes.extend(numbers(&[80, SPECTRUM]));
        bytes.resize(bytes.len() + 4 * 80 * SPECTRUM as usize, 0);
        bytes.extend(numbers(&[2, 1]));
        bytes.push(b' ');
        bytes.extend(numbers(&[0]));
        for _ in 0..tensors {
            bytes.extend(numbers(&[2, 3, 8, 32, 2]));
            bytes.extend(b"abc");
            bytes.resize(bytes.len() + 2 * 34, 0);
        }
        bytes
    }

    #[test]
    fn a_whole_file_is_taken() {
        let header = read(&file(TINY, 50)).expect("it is whole");
        assert_eq!(
            (header.weights, header.audio_layers, header.is_multilingual()),
            ("f16", 1, false)
        );
        let mut quantised = TINY;
        (quantised[0], quantised[10]) = (MULTILINGUAL_V3, 2008);
        let header = read(&file(quantised, 50)).expect("it is whole");
        assert_eq!(
            (header.weights, header.is_multilingual(), header.knows_cantonese()),
            ("q5_0", true, true)
        );
    }

    #[test]
    fn a_file_that_breaks_off_anywhere_is_told() {
        let whole = file(TINY, 50);
        for length in (4..whole.len()).step_by(97) {
            let problem = read(&whole[..length]).expect_err("it breaks off");
            let told = problem.contains("truncated") || problem.contains("no weights");
            assert!(told, "{length}: {problem}");
        }
        assert!(read(&file(TINY, 0)).expect_err("weightless").contains("no weights"));
        assert!(
            read(&file(TINY, 49))
                .expect_err("one is missing")
                .contains("49 tensors")
        );
    }

    #[test]
    fn nonsense_is_told_and_never_panics() {
        for (place, value, told) in [
            (0, 32_000, "vocabulary of 32000"),
            (1, 0, "contexts of 0"),
            (2, u32::MAX, "states of"),
            (3, 0, "heads"),
            (4, 1 << 30, "layers"),
            (9, 81, "81 mel"),
            (10, 77, "type 77"),
        ] {
            let mut wrong = TINY;
            wrong[place] = value;
            let problem = read(&file(wrong, 50)).expect_err("it is wrong");
            assert!(problem.contains(told), "{problem}");
        }
        let whole = file(TINY, 50);
        // Every number of the headers in turn becomes the largest there is.
        for place in (4..whole.len()).step_by(4) {
            let mut wrong = whole.clone();
            wrong[place..(place + 4).min(whole.len())].fill(0xff);
            drop(read(&wrong));
        }
    }

    #[test]
    fn other_formats_are_named() {
        for (bytes, told) in [
            (&b"GGUF\x03\0\0\0"[..], "GGUF"),
            (b"PK\x03\x04....", "PyTorch"),
            (b"RIFF....WAVE", "WAV"),
            (b"\x08\x07\x12\x04onnx", "ONNX"),
            (b"<!DOCTYPE html>", "web page"),
            (b"version https://git-lfs", "LFS"),
            (b"\x80\x10\0\0\0\0\0\0{\"a\"", "safetensors"),
            (b"????????????", "isn't known"),
            (b"lm", "2 bytes"),
            (b"", "0 bytes"),
        ] {
            let problem = read(bytes).expect_err("it is something else");
            assert!(problem.contains(told), "{problem}");
        }
    }
}
