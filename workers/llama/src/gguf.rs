//! What a GGUF file says of itself, read before the library sees it: the library aborts on some of what a file may hold, and maps
//! one that ends too early only to die of it later.
//!
//! The format (ggml/docs/gguf.md): magic, version, numbers of tensors and of entries; the entries; name, shape, type and place of each
//! tensor; then, aligned, the tensors. Everything is little endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use llama_cpp_sys_2 as sys;

/// Versions that llama.cpp reads; version 1 had shorter lengths and was in use for some weeks of 2023.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
/// More entries or tensors than any model has.
const MOST: u64 = 1 << 20;
/// The longest key or name, in bytes (GGUF limits keys to 65535).
const LONGEST_NAME: u64 = 65_535;
/// The longest text that is kept: chat templates are of some 10 kB.
const LONGEST_TEXT: u64 = 1 << 20;
/// More elements than any vocabulary has.
const LONGEST_ARRAY: u64 = 1 << 28;
/// Arrays of numbers up to this many are kept: one for each layer.
const KEPT_ARRAY: u64 = 4096;
/// The most dimensions of a tensor (`GGML_MAX_DIMS`).
const DIMENSIONS: u32 = 4;
/// The largest size of any kind that a model has (widths, heads, experts, its context). The library would set about making a larger one.
const LARGEST: u64 = 1 << 27;
/// How much is told of what is wrong.
const LONGEST_PROBLEM: usize = 300;
/// Where tensors begin, unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// One entry's value, where it's of interest.
#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Whole(u64),
    Real(f64),
    Text(String),
    Wholes(Vec<u64>),
    /// An array that isn't kept, and how long it is.
    Array(u64),
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Gguf {
    entries: BTreeMap<String, Entry>,
    /// How many tensors there are.
    pub(crate) tensors: u64,
    /// The file's length in bytes.
    pub(crate) bytes: u64,
}

impl Gguf {
    /// Reads the head of the file and checks that its tensors lie within it.
    ///
    /// # Errors
    /// What is wrong with the file, as the end of a sentence that begins with its name.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
        let metadata = file.metadata().map_err(|error| format!("can't be read: {error}"))?;
        if !metadata.is_file() {
            return Err("is not a file".into());
        }
        let mut reader = Reader {
            inner: BufReader::with_capacity(256 * 1024, file),
            position: 0,
            length: metadata.len(),
        };
        // What is told may hold names out of a damaged file.
        reader.head().map_err(|problem| printable(&problem))
    }

    /// A whole number.
    pub(crate) fn whole(&self, key: &str) -> Option<u64> {
        match self.entries.get(key)? {
            Entry::Whole(number) => Some(*number),
            _ => None,
        }
    }

    /// A number of either kind.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.entries.get(key)? {
            Entry::Real(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "numbers of settings are small")]
            Entry::Whole(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.entries.get(key)? {
            Entry::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How long an array is.
    fn length(&self, key: &str) -> Option<u64> {
        match self.entries.get(key)? {
            Entry::Array(length) => Some(*length),
            Entry::Wholes(all) => Some(all.len() as u64),
            _ => None,
        }
    }

    /// `general.architecture`, such as `llama`.
    pub(crate) fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    /// Whether the sizes it tells can be a model's.
    fn check_sizes(&self) -> Result<(), String> {
        let prefix = self.own("");
        for (key, entry) in self.entries.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            if let Entry::Whole(number) = entry
                && *number > LARGEST
            {
                return Err(format!("is damaged: {number} for its {key} is impossible"));
            }
        }
        match self.whole(&self.own("block_count")) {
            // Each layer has a tensor at least.
            Some(layers) if layers > self.tensors => Err(format!(
                "is damaged: it tells of {layers} layers and has {} tensors",
                self.tensors
            )),
            _ => Ok(()),
        }
    }

    /// An entry of this architecture's, such as `block_count`.
    fn own(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture())
    }

    /// How long a context the model was trained with, in tokens.
    pub(crate) fn trained_context(&self) -> Option<u64> {
        self.whole(&self.own("context_length"))
    }

    /// The number of tokens in its vocabulary.
    pub(crate) fn vocabulary(&self) -> u64 {
        self.length("tokenizer.ggml.tokens").unwrap_or(0)
    }

    /// Whether it says that it was made for tests.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.entries
            .iter()
            .filter(|(key, _)| key.starts_with("general.") || key.contains("synthetic"))
            .any(|(key, entry)| {
                key.contains("synthetic")
                    || matches!(entry, Entry::Text(text) if text.to_lowercase().contains("synthetic"))
            })
    }

    /// How many numbers a token's keys and values have in all layers, which is what the cache holds of it. An upper bound where layers
    /// look back less far.
    pub(crate) fn cached_numbers(&self) -> u64 {
        let layers = self.whole(&self.own("block_count")).unwrap_or(0).min(MOST);
        let width = self.whole(&self.own("embedding_length")).unwrap_or(0).min(MOST);
        let head_count = self.heads("attention.head_count", layers).unwrap_or(0).max(1);
        let all_heads = self.heads("attention.head_count_kv", layers).unwrap_or(head_count);
        let each = width / (head_count / layers.max(1)).max(1);
        let keys = self.whole(&self.own("attention.key_length")).unwrap_or(each).min(MOST);
        let values = self
            .whole(&self.own("attention.value_length"))
            .unwrap_or(each)
            .min(MOST);
        all_heads.saturating_mul(keys + values)
    }

    /// The heads of all layers together: the entry has one number for all, or one for each.
    fn heads(&self, name: &str, layers: u64) -> Option<u64> {
        match self.entries.get(&self.own(name))? {
            Entry::Whole(number) => Some((*number).min(MOST) * layers),
            Entry::Wholes(numbers) => Some(numbers.iter().map(|number| (*number).min(MOST)).sum()),
            _ => None,
        }
    }
}

/// Reads the head, and never past the end of the file.
struct Reader {
    inner: BufReader<File>,
    position: u64,
    length: u64,
}

impl Reader {
    fn head(&mut self) -> Result<Gguf, String> {
        let mut magic = [0; 4];
        if self.length < 24 || self.inner.read_exact(&mut magic).is_err() {
            return Err(format!("is no GGUF file: it has {} bytes", self.length));
        }
        self.position = 4;
        if &magic != b"GGUF" {
            return Err(format!("is no GGUF file: it begins with {}", shown(&magic)));
        }
        let version = self.u32("version")?;
        if version & 0xffff == 0 {
            return Err("is a GGUF file for big-endian machines".into());
        }
        if !VERSIONS.contains(&version) {
            return Err(format!("is a GGUF file of version {version}; 2 and 3 can be read"));
        }
        let tensors = self.count("number of tensors", MOST)?;
        let entries = self.count("number of entries", MOST)?;
        let mut gguf = Gguf {
            tensors,
            bytes: self.length,
            ..Gguf::default()
        };
        for _ in 0..entries {
            let key = self.text("key", LONGEST_NAME)?;
            let kind = self.u32(&key)?;
            let entry = self.value(&key, kind)?;
            gguf.entries.insert(key, entry);
        }
        gguf.check_sizes()?;
        let alignment = gguf.whole("general.alignment").unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > MOST {
            return Err(format!("has an alignment of {alignment}"));
        }
        let mut end = 0_u64;
        let mut last = String::new();
        for _ in 0..tensors {
            let (name, until) = self.tensor()?;
            if until > end {
                (end, last) = (until, name);
            }
        }
        let data = self.position.next_multiple_of(alignment);
        let whole = data.saturating_add(end);
        if whole > self.length {
            return Err(format!(
                "is incomplete: its tensor {last} ends at byte {whole}, the file at byte {}",
                self.length
            ));
        }
        Ok(gguf)
    }

    /// A tensor's name, and where it ends, counted from the first tensor's beginning.
    fn tensor(&mut self) -> Result<(String, u64), String> {
        let name = self.text("name of a tensor", LONGEST_NAME)?;
        let dimensions = self.u32(&name)?;
        if dimensions > DIMENSIONS {
            return Err(format!("is damaged: its tensor {name} has {dimensions} dimensions"));
        }
        let mut shape = [1_u64; DIMENSIONS as usize];
        for extent in &mut shape[..dimensions as usize] {
            *extent = self.u64(&name)?;
        }
        let kind = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let (block, size) = block_of(kind)
            .ok_or_else(|| format!("has a tensor {name} of type {kind}, which this build of llama.cpp doesn't know"))?;
        let damaged = || format!("is damaged: its tensor {name} has an impossible shape");
        if !shape[0].is_multiple_of(block) {
            return Err(damaged());
        }
        let bytes = shape[1..]
            .iter()
            .try_fold(shape[0] / block, |product, extent| product.checked_mul(*extent))
            .and_then(|blocks| blocks.checked_mul(size))
            .and_then(|bytes| bytes.checked_add(offset))
            .ok_or_else(damaged)?;
        Ok((name, bytes))
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Entry, String> {
        Ok(match kind {
            6 => Entry::Real(f64::from(f32::from_bits(self.u32(key)?))),
            12 => Entry::Real(f64::from_bits(self.u64(key)?)),
            8 => Entry::Text(self.text(key, LONGEST_TEXT)?),
            9 => {
                let kind = self.u32(key)?;
                let length = self.count(key, LONGEST_ARRAY)?;
                self.array(key, kind, length)?
            }
            _ => Entry::Whole(self.whole(key, kind)?),
        })
    }

    fn array(&mut self, key: &str, kind: u32, length: u64) -> Result<Entry, String> {
        if kind == 8 {
            for _ in 0..length {
                let bytes = self.count(key, LONGEST_TEXT)?;
                self.skip(bytes, key)?;
            }
            return Ok(Entry::Array(length));
        }
        let width = width_of(kind).ok_or_else(|| format!("is damaged: its entry {key} is of no known type"))?;
        if matches!(kind, 4 | 5) && length <= KEPT_ARRAY {
            let all: Result<Vec<u64>, String> = (0..length).map(|_| self.whole(key, kind)).collect();
            return Ok(Entry::Wholes(all?));
        }
        self.skip(length * width, key)?;
        Ok(Entry::Array(length))
    }

    /// A whole number of the given type; negative ones, which nothing here asks for, become 0.
    fn whole(&mut self, key: &str, kind: u32) -> Result<u64, String> {
        let width = width_of(kind).ok_or_else(|| format!("is damaged: its entry {key} is of no known type"))?;
        let mut bytes = [0; 8];
        self.fill(&mut bytes[..width as usize], key)?;
        let raw = u64::from_le_bytes(bytes);
        let negative = matches!(kind, 1 | 3 | 5 | 11) && raw >> (width * 8 - 1) == 1;
        Ok(if negative { 0 } else { raw })
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, String> {
        let number = self.u64(what)?;
        if number > most {
            return Err(format!("is damaged: {number} for its {what} is impossible"));
        }
        Ok(number)
    }

    fn text(&mut self, what: &str, longest: u64) -> Result<String, String> {
        let length = self.count(what, longest)?;
        self.remaining(length, what)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| "is too large for this machine")?];
        self.fill(&mut bytes, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes, what)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes, what)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), String> {
        self.remaining(bytes.len() as u64, what)?;
        self.inner.read_exact(bytes).map_err(|error| unreadable(&error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<(), String> {
        self.remaining(bytes, what)?;
        let distance = i64::try_from(bytes).map_err(|_| "is too large for this machine")?;
        self.inner.seek_relative(distance).map_err(|error| unreadable(&error))?;
        self.position += bytes;
        Ok(())
    }

    fn remaining(&self, bytes: u64, what: &str) -> Result<(), String> {
        if bytes > self.length - self.position {
            return Err(format!(
                "is incomplete: it ends at byte {}, within its {what}",
                self.length
            ));
        }
        Ok(())
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("can't be read: {error}")
}

/// How many numbers a block of the type has, and how many bytes; `None` for a type that isn't (or isn't any more).
fn block_of(kind: u32) -> Option<(u64, u64)> {
    if kind >= sys::GGML_TYPE_COUNT {
        return None;
    }
    // SAFETY: both read a constant table at an index that is within it.
    let (block, size) = unsafe { (sys::ggml_blck_size(kind), sys::ggml_type_size(kind)) };
    let block = u64::try_from(block).ok().filter(|block| *block > 0)?;
    (size > 0).then_some((block, size as u64))
}

/// How many bytes a value of the type has, where all have as many.
fn width_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A text that may hold anything, for people.
fn printable(text: &str) -> String {
    let letters = text
        .chars()
        .map(|letter| if letter.is_control() { '.' } else { letter });
    letters.take(LONGEST_PROBLEM).collect()
}

/// The first bytes of a file, for people.
fn shown(bytes: &[u8]) -> String {
    let text: String = bytes
        .iter()
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '.'
            }
        })
        .collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(entries: &[(&str, u32, Vec<u8>)], tensors: &[(&str, &[u64], u32, u64)], data: usize) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        for (key, kind, value) in entries {
            text(&mut bytes, key);
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for (name, shape, kind, offset) in tensors {
            text(&mut bytes, name);
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|extent| bytes.extend(extent.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
        bytes
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Gguf, String> {
        // A name of its own for each call, as tests run at the same time.
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("repartee-gguf-{}-{number}", std::process::id()));
        std::fs::write(&path, bytes).expect("a temporary file");
        let read = Gguf::read(&path);
        std::fs::remove_file(&path).expect("it was written");
        read
    }

    fn small() -> Vec<u8> {
        let heads = [
            &5_u32.to_le_bytes()[..],
            &2_u64.to_le_bytes(),
            &2_u32.to_le_bytes(),
            &4_u32.to_le_bytes(),
        ]
        .concat();
        let entries = [
            ("general.architecture", 8, text("llama")),
            ("general.name", 8, text("synthetic something")),
            ("llama.context_length", 4, 512_u32.to_le_bytes().to_vec()),
            ("llama.block_count", 4, 2_u32.to_le_bytes().to_vec()),
            ("llama.embedding_length", 10, 64_u64.to_le_bytes().to_vec()),
            ("llama.attention.head_count", 4, 8_u32.to_le_bytes().to_vec()),
            ("llama.attention.head_count_kv", 9, heads),
            ("general.sampling.temp", 6, 0.5_f32.to_le_bytes().to_vec()),
        ];
        head(&entries, &[("a", &[32, 2], 0, 0), ("b", &[64], 8, 256)], 256 + 68)
    }

    #[test]
    fn a_head_is_read() {
        let gguf = read(&small()).expect("it's whole");
        assert_eq!((gguf.architecture(), gguf.tensors), ("llama", 2));
        assert_eq!(gguf.trained_context(), Some(512));
        assert_eq!(gguf.number("general.sampling.temp"), Some(0.5));
        assert!(gguf.is_synthetic());
        // Two layers with 2 and 4 heads, of 8 keys and 8 values each.
        assert_eq!(gguf.cached_numbers(), 6 * 16);
    }

    #[test]
    fn a_file_that_ends_anywhere_is_incomplete() {
        let whole = small();
        for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            let problem = read(&whole[..length]).expect_err("it's cut");
            assert!(
                problem.contains("incomplete") || problem.contains("no GGUF"),
                "{length}: {problem}"
            );
        }
    }

    #[test]
    fn other_files_are_told_by_what_they_are() {
        let problem = |bytes: &[u8]| read(bytes).expect_err("it's no model");
        assert!(problem(b"").contains("0 bytes"));
        assert!(problem(&[b"RIFF".as_slice(), &[0; 40]].concat()).contains("\"RIFF\""));
        let mut other = small();
        other[4] = 9;
        assert!(problem(&other).contains("version 9"));
        other[4..8].copy_from_slice(&3_u32.to_be_bytes());
        assert!(problem(&other).contains("big-endian"));
        let tensor = |shape: &[u64], kind| problem(&head(&[], &[("t", shape, kind, 0)], 64));
        assert!(tensor(&[32], 9999).contains("type 9999"));
        assert!(tensor(&[33], 8).contains("impossible shape"), "half a block");
        assert!(tensor(&[1 << 40, 1 << 40, 32], 0).contains("impossible shape"));
        assert!(tensor(&[1, 1, 1, 1, 1], 0).contains("5 dimensions"));
        assert!(tensor(&[1 << 30], 0).contains("incomplete"));
    }

    #[test]
    fn no_byte_of_a_head_can_make_it_panic() {
        let whole = small();
        for place in 0..whole.len().min(600) {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                // Whatever it says, it says it.
                let _ = read(&bytes);
            }
        }
    }
}
