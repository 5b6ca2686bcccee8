//! What an ONNX file says of itself, read without onnxruntime: its metadata, and the names of its inputs and outputs.
//!
//! sherpa-onnx ends the process on a model that isn't what it expects, so much has to be known before it sees one. An ONNX file is a
//! protobuf message (`ModelProto` of onnx.proto3): fields, each a key (a number and a wire type) and a value that may be skipped
//! without being understood. The weights, which are nearly all of it, are skipped by seeking.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

/// The longest text that is read: SenseVoice's means are some 7 KB, a lexicon in a voice's metadata is larger.
const LONGEST_TEXT: u64 = 1 << 20;
/// The most entries of metadata, inputs or outputs. Zipformer has some hundred states, each an input and an output.
const MOST_ENTRIES: usize = 16 * 1024;
/// The most fields that are looked at: real graphs have up to some ten thousand nodes and weights.
const MOST_FIELDS: u64 = 4_000_000;

/// The fields of `ModelProto`, `GraphProto`, `ValueInfoProto` and `StringStringEntryProto` that are read.
mod field {
    pub(super) const MODEL_VERSION_OF_FORMAT: u64 = 1;
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const MODEL_METADATA: u64 = 14;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_OUTPUT: u64 = 12;
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const ENTRY_KEY: u64 = 1;
    pub(super) const ENTRY_VALUE: u64 = 2;
}

/// The wire types of protobuf.
mod wire {
    pub(super) const VARINT: u64 = 0;
    pub(super) const EIGHT_BYTES: u64 = 1;
    pub(super) const LENGTH: u64 = 2;
    pub(super) const FOUR_BYTES: u64 = 5;
}

/// What an ONNX file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Onnx {
    /// `metadata_props`.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The names of the graph's inputs, in order. Old files name their weights here too.
    pub(crate) inputs: Vec<String>,
    /// The names of the graph's outputs, in order.
    pub(crate) outputs: Vec<String>,
}

/// Why a file isn't an ONNX model, as the end of a sentence that begins with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotOnnx(String);

impl fmt::Display for NotOnnx {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Onnx {
    /// Reads a file.
    ///
    /// # Errors
    /// [`NotOnnx`] where it can't be read, is cut off, or is something else.
    pub(crate) fn read(path: &Path) -> Result<Self, NotOnnx> {
        let unreadable = |error: io::Error| NotOnnx(format!("can't be read: {error}"));
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        Self::parse(BufReader::new(file), length)
    }

    /// Reads `length` bytes.
    fn parse(source: impl Read + Seek, length: u64) -> Result<Self, NotOnnx> {
        if length == 0 {
            return Err(NotOnnx("is empty".into()));
        }
        let mut reader = Reader {
            source,
            at: 0,
            fields: 0,
        };
        let mut onnx = Self::default();
        match onnx.model(&mut reader, length) {
            Ok(true) => Ok(onnx),
            Ok(false) => Err(NotOnnx("is no ONNX model: it holds no graph".into())),
            Err(Broken::CutOff) => Err(NotOnnx(format!(
                "is no ONNX model, or is cut off: it has {length} bytes and something in it goes on"
            ))),
            Err(Broken::Wrong) => Err(NotOnnx("is no ONNX model: its bytes are of another format".into())),
            Err(Broken::TooMuch) => Err(NotOnnx(
                "is no ONNX model that this worker reads: it has too many parts".into(),
            )),
            Err(Broken::Io(error)) => Err(NotOnnx(format!("can't be read: {error}"))),
        }
    }

    /// Reads the `ModelProto` that ends at `end`, and tells whether it has a graph.
    fn model(&mut self, reader: &mut Reader<impl Read + Seek>, end: u64) -> Result<bool, Broken> {
        let (mut has_version, mut has_graph) = (false, false);
        while reader.at < end {
            match reader.field(end)? {
                (field::MODEL_GRAPH, Value::Length(graph)) => {
                    has_graph = true;
                    self.graph(reader, graph)?;
                }
                (field::MODEL_METADATA, Value::Length(entry)) => {
                    if self.metadata.len() >= MOST_ENTRIES {
                        return Err(Broken::TooMuch);
                    }
                    let (key, value) = entry_of(reader, entry)?;
                    self.metadata.insert(key, value);
                }
                (number, value) => {
                    has_version |= number == field::MODEL_VERSION_OF_FORMAT && matches!(value, Value::Number);
                    reader.skip(value)?;
                }
            }
        }
        // Every model says which version of the format it is in; many a short file of something else reads as some fields.
        if has_version { Ok(has_graph) } else { Err(Broken::Wrong) }
    }

    fn graph(&mut self, reader: &mut Reader<impl Read + Seek>, end: u64) -> Result<(), Broken> {
        while reader.at < end {
            let (number, value) = reader.field(end)?;
            let names = match number {
                field::GRAPH_INPUT => &mut self.inputs,
                field::GRAPH_OUTPUT => &mut self.outputs,
                _ => {
                    reader.skip(value)?;
                    continue;
                }
            };
            let Value::Length(value_end) = value else {
                return Err(Broken::Wrong);
            };
            if names.len() >= MOST_ENTRIES {
                return Err(Broken::TooMuch);
            }
            while reader.at < value_end {
                match reader.field(value_end)? {
                    (field::VALUE_NAME, Value::Length(name)) => names.push(reader.text(name)?),
                    (_, other) => reader.skip(other)?,
                }
            }
        }
        Ok(())
    }

    /// A number of the metadata; `None` where it's absent or something else.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.metadata.get(key)?.trim().parse().ok()
    }

    /// A text of the metadata; empty where it's absent.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.metadata.get(key).map_or("", String::as_str)
    }

    /// Whether the model was made for tests: `synthetic` = `1`.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.text("synthetic") == "1"
    }
}

fn entry_of(reader: &mut Reader<impl Read + Seek>, end: u64) -> Result<(String, String), Broken> {
    let (mut key, mut value) = (String::new(), String::new());
    while reader.at < end {
        match reader.field(end)? {
            (field::ENTRY_KEY, Value::Length(text)) => key = reader.text(text)?,
            (field::ENTRY_VALUE, Value::Length(text)) => value = reader.text(text)?,
            (_, other) => reader.skip(other)?,
        }
    }
    Ok((key, value))
}

#[derive(Debug)]
enum Broken {
    /// Something goes on behind its end.
    CutOff,
    /// That isn't protobuf, or not this message.
    Wrong,
    /// More than is looked at.
    TooMuch,
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutOff,
            _ => Self::Io(error),
        }
    }
}

/// A field's value: read already, or where it ends.
enum Value {
    Number,
    Fixed(u64),
    Length(u64),
}

struct Reader<R> {
    source: R,
    at: u64,
    fields: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// The next field of the message that ends at `end`: its number, and its value or how far that reaches.
    fn field(&mut self, end: u64) -> Result<(u64, Value), Broken> {
        self.fields += 1;
        if self.fields > MOST_FIELDS {
            return Err(Broken::TooMuch);
        }
        let key = self.varint(end)?;
        let value = match key & 7 {
            wire::VARINT => {
                self.varint(end)?;
                Value::Number
            }
            wire::EIGHT_BYTES => Value::Fixed(self.end_of(8, end)?),
            wire::FOUR_BYTES => Value::Fixed(self.end_of(4, end)?),
            wire::LENGTH => {
                let length = self.varint(end)?;
                Value::Length(self.end_of(length, end)?)
            }
            _ => return Err(Broken::Wrong),
        };
        if key >> 3 == 0 {
            Err(Broken::Wrong)
        } else {
            Ok((key >> 3, value))
        }
    }

    fn end_of(&self, length: u64, end: u64) -> Result<u64, Broken> {
        self.at
            .checked_add(length)
            .filter(|after| *after <= end)
            .ok_or(Broken::CutOff)
    }

    fn varint(&mut self, end: u64) -> Result<u64, Broken> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(Broken::CutOff);
            }
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Broken::Wrong)
    }

    fn skip(&mut self, value: Value) -> Result<(), Broken> {
        let (Value::Fixed(end) | Value::Length(end)) = value else {
            return Ok(());
        };
        // Within the buffer that costs nothing.
        let distance = i64::try_from(end - self.at).map_err(|_| Broken::CutOff)?;
        self.source.seek_relative(distance)?;
        self.at = end;
        Ok(())
    }

    fn text(&mut self, end: u64) -> Result<String, Broken> {
        let length = end - self.at;
        if length > LONGEST_TEXT {
            return Err(Broken::TooMuch);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Broken::TooMuch)?];
        self.source.read_exact(&mut bytes)?;
        self.at = end;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
#[path = "onnx_tests.rs"]
mod tests;
