//! Voices as Piper publishes them: an ONNX file, and a JSON beside it. sherpa-onnx wants a table of tokens and metadata in the model
//! instead; both are made of the JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use repartee_worker_shell::protocol::{LoadFailed, code};
use serde_json::Value;

use super::cache;

/// The longest JSON that is read, in bytes; those of voices have 5 to 50 KB.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The rates of audio that voices have, in Hz. Piper's are 16000 and 22050.
const RATES: std::ops::RangeInclusive<u64> = 8000..=48_000;

/// The most speakers of a voice: LibriTTS has 904.
const SPEAKERS: std::ops::RangeInclusive<u64> = 1..=10_000;

/// The marks of pad, begin and end; the library adds them and needs them in the table.
pub(crate) const MARKS: [char; 3] = ['_', '^', '$'];

/// What a voice's JSON says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// The rate of its audio in Hz.
    pub(crate) rate: u32,
    /// Whose phonemes it speaks.
    pub(crate) alphabet: Alphabet,
    /// How many speakers it has.
    pub(crate) speakers: u32,
    /// The names of its speakers by their number, where it gives any.
    pub(crate) names: BTreeMap<u32, String>,
    /// The language, such as `en_US`.
    pub(crate) language: Option<String>,
    /// `inference.noise_scale`, where it is set.
    pub(crate) noise_scale: Option<f32>,
    /// `inference.length_scale`.
    pub(crate) length_scale: Option<f32>,
    /// `inference.noise_w`.
    pub(crate) noise_scale_w: Option<f32>,
    /// The number of each phoneme.
    symbols: BTreeMap<char, u32>,
}

/// What the tokens of a model stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// Phonemes as espeak-ng's voice of this name makes them.
    Espeak(String),
    /// The letters of the text themselves.
    Letters,
}

/// The JSON that belongs to the model in `file`: `voice.onnx.json`, or `voice.json`.
pub(crate) fn json_of(file: &Path) -> Option<PathBuf> {
    let beside = file.with_added_extension("json");
    [beside, file.with_extension("json")]
        .into_iter()
        .find(|path| path.is_file())
}

/// Reads a voice's JSON.
///
/// # Errors
/// With what is missing or wrong. Nothing is assumed.
pub(crate) fn read(path: &Path) -> Result<Config, LoadFailed> {
    let name = super::name_of(path);
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    let refuse = |code: &str, reason: String| LoadFailed::new(code, reason).about(&name);
    match read {
        Err(error) => return Err(refuse(code::MISSING, format!("{name} can't be read: {error}"))),
        Ok(length) if length as u64 > LONGEST => {
            return Err(refuse(code::INVALID, format!("{name} is too long for a voice's JSON")));
        }
        Ok(_) => {}
    }
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| refuse(code::INVALID, format!("{name} isn't valid JSON: {error}")))?;
    parse(&json).map_err(|problem| {
        refuse(
            code::INVALID,
            format!("{name} {problem}; take the JSON that was published with this voice"),
        )
    })
}

fn parse(json: &Value) -> Result<Config, String> {
    let rate = json.pointer("/audio/sample_rate");
    let rate = rate.ok_or("doesn't say audio.sample_rate, and the rate of a voice is never assumed")?;
    let rate = rate
        .as_u64()
        .filter(|rate| RATES.contains(rate))
        .ok_or_else(|| format!("has an audio.sample_rate that is no rate: {rate}"))?;
    let speakers = match json.get("num_speakers") {
        None | Some(Value::Null) => 1,
        Some(count) => count
            .as_u64()
            .filter(|count| SPEAKERS.contains(count))
            .ok_or_else(|| format!("has a num_speakers that is no number of speakers: {count}"))?,
    };
    let alphabet = match json.get("phoneme_type").map(Value::as_str) {
        None | Some(Some("espeak")) => {
            let voice = json.pointer("/espeak/voice").and_then(Value::as_str);
            let voice = voice.ok_or("doesn't say espeak.voice, by which its phonemes are made")?;
            if !super::espeak::is_voice(voice) {
                return Err(format!("has an espeak.voice that is no name: {voice:?}"));
            }
            Alphabet::Espeak(voice.to_owned())
        }
        Some(Some("text")) => Alphabet::Letters,
        Some(other) => {
            return Err(format!(
                "has the phoneme_type {other:?}; this worker makes phonemes of the types espeak and text"
            ));
        }
    };
    let scale = |name: &str| match json.pointer(&format!("/inference/{name}")) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|number| (0.0..=10.0).contains(number));
            #[expect(clippy::cast_possible_truncation, reason = "the library computes in f32")]
            number
                .map(|number| Some(number as f32))
                .ok_or_else(|| format!("has an inference.{name} that is no scale: {value}"))
        }
    };
    let names = json.get("speaker_id_map").and_then(Value::as_object);
    let names = names.into_iter().flatten().filter_map(|(name, number)| {
        let number = number.as_u64().filter(|number| *number < speakers)?;
        Some((u32::try_from(number).ok()?, name.clone()))
    });
    let language = json.pointer("/language/code").and_then(Value::as_str);
    Ok(Config {
        rate: u32::try_from(rate).unwrap_or_default(),
        alphabet,
        speakers: u32::try_from(speakers).unwrap_or(1),
        names: names.collect(),
        language: language.map(str::to_owned),
        noise_scale: scale("noise_scale")?,
        length_scale: scale("length_scale")?.filter(|scale| *scale > 0.0),
        noise_scale_w: scale("noise_w")?,
        symbols: symbols(json)?,
    })
}

fn symbols(json: &Value) -> Result<BTreeMap<char, u32>, String> {
    let map = json.get("phoneme_id_map").and_then(Value::as_object);
    let map = map.ok_or("has no phoneme_id_map")?;
    let mut symbols = BTreeMap::new();
    for (phoneme, numbers) in map {
        let mut letters = phoneme.chars();
        let (Some(letter), None) = (letters.next(), letters.next()) else {
            return Err(format!("has a phoneme of several characters: {phoneme:?}"));
        };
        let number = match numbers.as_array().map(Vec::as_slice) {
            Some([number]) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        };
        let number = number.ok_or_else(|| format!("has a phoneme without exactly one number: {phoneme:?}"))?;
        // The library's table is lines of words, which have no place for other white space; no phonemizer makes any.
        if letter == ' ' || !letter.is_whitespace() {
            symbols.insert(letter, number);
        }
    }
    match MARKS.iter().find(|mark| !symbols.contains_key(mark)) {
        None => Ok(symbols),
        Some(mark) => Err(format!("has no {mark:?} in its phoneme_id_map")),
    }
}

impl Config {
    /// What the library reads tokens from: a token and its number on each line. For the space the token is left out.
    fn tokens(&self) -> String {
        let line = |(letter, number): (&char, &u32)| match letter {
            ' ' => format!(" {number}\n"),
            letter => format!("{letter} {number}\n"),
        };
        self.symbols.iter().map(line).collect()
    }

    /// What the library reads out of the model itself.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        let voice = match &self.alphabet {
            Alphabet::Espeak(voice) => voice.clone(),
            Alphabet::Letters => self.language.clone().unwrap_or_else(|| "unknown".into()),
        };
        vec![
            ("model_type", "vits".into()),
            ("comment", "piper".into()),
            ("language", self.language.clone().unwrap_or_else(|| "unknown".into())),
            ("voice", voice),
            ("add_blank", "1".into()),
            ("n_speakers", self.speakers.to_string()),
            ("sample_rate", self.rate.to_string()),
        ]
    }

    /// Makes what the library can load out of the model in `file`, and gives the model's and the tokens' path. `is_raw`: the model
    /// has no metadata yet.
    ///
    /// # Errors
    /// When there's no place for it.
    pub(crate) fn convert(&self, file: &Path, is_raw: bool) -> Result<(PathBuf, PathBuf), LoadFailed> {
        let appendix = if is_raw { appendix(&self.metadata()) } else { Vec::new() };
        let folder = cache::folder_for(file, &self.tokens(), &appendix).map_err(|error| {
            let name = super::name_of(file);
            let reason = format!("a copy of {name} that sherpa-onnx can read could not be made: {error}");
            LoadFailed::new(code::INTERNAL, reason).about(name)
        })?;
        Ok((folder.join(cache::MODEL), folder.join(cache::TOKENS)))
    }
}

/// What adds metadata to a model when it is appended to its file. An ONNX file is one protobuf message, and messages that follow one
/// another are merged: a repeated field goes on. `metadata_props` is field 14 of `ModelProto`; an entry has its key in field 1
/// and its value in field 2 (`onnx.proto3`).
fn appendix(metadata: &[(&str, String)]) -> Vec<u8> {
    const METADATA_PROPS: u8 = 14 << 3 | 2;
    const KEY: u8 = 1 << 3 | 2;
    const VALUE: u8 = 2 << 3 | 2;
    let mut bytes = Vec::new();
    for (key, value) in metadata {
        let mut entry = Vec::new();
        field(&mut entry, KEY, key.as_bytes());
        field(&mut entry, VALUE, value.as_bytes());
        field(&mut bytes, METADATA_PROPS, &entry);
    }
    bytes
}

fn field(bytes: &mut Vec<u8>, tag: u8, content: &[u8]) {
    bytes.push(tag);
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn voice() -> Value {
        json!({
            "audio": {"sample_rate": 22050},
            "espeak": {"voice": "en-us"},
            "inference": {"noise_scale": 0.5, "length_scale": 1.1, "noise_w": 0.7},
            "num_speakers": 2,
            "speaker_id_map": {"anna": 1, "nobody": 7},
            "language": {"code": "en_US"},
            "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "a": [14], "\n": [5]}
        })
    }

    #[test]
    fn a_voice_is_read() {
        let config = parse(&voice()).expect("it is whole");
        assert_eq!((config.rate, config.speakers), (22_050, 2));
        assert_eq!(config.alphabet, Alphabet::Espeak("en-us".into()));
        assert_eq!(config.names, [(1, "anna".to_owned())].into());
        assert_eq!(config.noise_scale_w, Some(0.7));
        assert_eq!(config.tokens(), " 3\n$ 2\n^ 1\n_ 0\na 14\n");
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_and_never_assumed() {
        let cases: [(&str, Value, &str); 10] = [
            ("/audio/sample_rate", Value::Null, "audio.sample_rate"),
            ("/audio/sample_rate", json!("22050"), "audio.sample_rate"),
            ("/audio/sample_rate", json!(0), "audio.sample_rate"),
            ("/num_speakers", json!(0), "num_speakers"),
            ("/espeak/voice", Value::Null, "espeak.voice"),
            ("/espeak/voice", json!("../../etc"), "espeak.voice"),
            ("/inference/noise_w", json!("x"), "inference.noise_w"),
            ("/phoneme_id_map/_", json!([0, 1]), "exactly one number"),
            ("/phoneme_id_map", json!({"ab": [1]}), "several characters"),
            ("/phoneme_id_map", json!({"a": [1]}), "no '_'"),
        ];
        for (at, value, expected) in cases {
            let mut voice = voice();
            *voice.pointer_mut(at).expect("the voice has it") = value;
            let problem = parse(&voice).expect_err(at);
            assert!(problem.contains(expected), "{at}: {problem}");
        }
        let mut without = voice();
        without["audio"] = json!({});
        assert!(parse(&without).expect_err("no rate").contains("never assumed"));
        let mut pinyin = voice();
        pinyin["phoneme_type"] = json!("pinyin");
        assert!(parse(&pinyin).expect_err("unknown phonemes").contains("pinyin"));
    }

    #[test]
    fn metadata_is_appended_as_protobuf() {
        assert_eq!(
            appendix(&[("a", "bc".into())]),
            [0x72, 7, 0x0a, 1, b'a', 0x12, 2, b'b', b'c']
        );
        let long = "x".repeat(300);
        assert_eq!(
            appendix(&[("a", long)])[..8],
            [0x72, 0xb2, 0x02, 0x0a, 1, b'a', 0x12, 0xac]
        );
    }
}
