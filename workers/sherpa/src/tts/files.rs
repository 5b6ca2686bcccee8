//! The files beside a model: which there are, and whether they are what the library takes them for. On what it can't read, the
//! library ends the process, so whatever can be seen beforehand is.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use repartee_worker_shell::Models;
use repartee_worker_shell::protocol::{Load, LoadFailed, code};

use super::name_of;
use crate::onnx::Onnx;

/// The longest table of tokens that is read, in bytes. Those of Chinese models have some 100 KB.
const LONGEST_TABLE: u64 = 8 * 1024 * 1024;

/// The most files of a folder that are looked at.
const MOST_FILES: usize = 1000;

/// A failure about a file.
pub(crate) fn refuse(code: &str, file: &Path, reason: impl Into<String>) -> LoadFailed {
    LoadFailed::new(code, reason).about(name_of(file))
}

/// What an ONNX file says of itself.
///
/// # Errors
/// When it can't be read, is cut off, or is something else.
pub(crate) fn onnx(path: &Path) -> Result<Onnx, LoadFailed> {
    Onnx::read(path).map_err(|problem| refuse(code::INVALID, path, format!("{} {problem}", name_of(path))))
}

/// The files in a folder, by name.
pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .take(MOST_FILES)
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Whether the name of a file ends so.
pub(crate) fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

/// The file that a load names for a role, if it names one.
///
/// # Errors
/// When it isn't there.
pub(crate) fn named(request: &Load, root: &Models, role: &str) -> Result<Option<PathBuf>, LoadFailed> {
    request.files.get(role).map(|path| root.resolve(path)).transpose()
}

/// The file of a role: the one that the load names, else the one that is called so beside the model.
///
/// # Errors
/// When it's neither there nor named; `what` says what it is good for.
pub(crate) fn required(
    request: &Load,
    root: &Models,
    folder: &Path,
    role: &str,
    file: &str,
    what: &str,
) -> Result<PathBuf, LoadFailed> {
    if let Some(path) = named(request, root, role)? {
        return Ok(path);
    }
    let path = folder.join(file);
    if path.is_file() {
        return Ok(path);
    }
    let reason = format!(
        "there is no {file} beside the model ({}), {what}; put the one that was published with the model there, or name \
         it as files.{role}",
        name_of(folder)
    );
    Err(refuse(code::MISSING, &path, reason))
}

/// How strictly the library reads a table of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Each token is one character and stands there once.
    Characters,
    /// Tokens may be words.
    Words,
}

/// Reads a table of tokens: a token and its number on each line, and only the number for the space. Gives the tokens of one character.
///
/// # Errors
/// With the line that the library would stumble over.
pub(crate) fn tokens(path: &Path, table: Table) -> Result<HashSet<char>, LoadFailed> {
    let name = name_of(path);
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length > LONGEST_TABLE {
        return Err(refuse(
            code::INVALID,
            path,
            format!("{name} is too long for a table of tokens"),
        ));
    }
    let text = fs::read_to_string(path)
        .map_err(|error| refuse(code::INVALID, path, format!("{name} can't be read as text: {error}")))?;
    let wrong = |line: usize, problem: &str| {
        let reason = format!(
            "line {} of {name} {problem}; take the one that was published with the model",
            line + 1
        );
        refuse(code::INVALID, path, reason)
    };
    let mut tokens = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (token, id) = match fields.as_slice() {
            [id] => (" ", id),
            [token, id] => (*token, id),
            _ => return Err(wrong(number, "isn't a token and its number")),
        };
        if id.parse::<i32>().is_err() {
            return Err(wrong(number, "has no number"));
        }
        let mut letters = token.chars();
        let letter = match (letters.next(), letters.next()) {
            (Some(letter), None) => letter,
            _ if table == Table::Words || matches!(token, "<PAD>" | "<EOS>" | "<BOS>" | "<BLNK>") => continue,
            _ => return Err(wrong(number, "has a token of several characters")),
        };
        if !tokens.insert(letter) && table == Table::Characters {
            return Err(wrong(number, "has a token for the second time"));
        }
    }
    if tokens.is_empty() && table == Table::Characters || text.trim().is_empty() {
        return Err(refuse(code::INVALID, path, format!("{name} has no tokens in it")));
    }
    Ok(tokens)
}

/// That a table of styles has a style for each speaker: `floats` numbers of 32 bits.
///
/// # Errors
/// With both sizes.
pub(crate) fn require_styles(path: &Path, floats: u64) -> Result<(), LoadFailed> {
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let expected = floats.saturating_mul(4);
    if bytes == expected && bytes > 0 {
        return Ok(());
    }
    let name = name_of(path);
    let reason = format!(
        "{name} has {bytes} bytes where the model's speakers need {expected}: it belongs to another model, or was cut \
         short; take the one that was published with the model"
    );
    Err(refuse(code::INVALID, path, reason))
}

/// Several paths as the library takes them.
///
/// # Errors
/// When one of them has a comma in it, which would part it.
pub(crate) fn joined(paths: &[PathBuf]) -> Result<Option<String>, LoadFailed> {
    let mut whole: Vec<String> = Vec::new();
    for path in paths {
        let path = path_text(path)?;
        if path.contains(',') {
            let reason = format!("{path} has a comma in it, at which sherpa-onnx parts its lists; rename the folder");
            return Err(LoadFailed::new(code::INVALID, reason).about(path));
        }
        whole.push(path);
    }
    Ok((!whole.is_empty()).then(|| whole.join(",")))
}

/// A path as the library takes it.
///
/// # Errors
/// When it's no UTF-8.
pub(crate) fn path_text(path: &Path) -> Result<String, LoadFailed> {
    let text = path.to_str().filter(|text| !text.contains('\0'));
    text.map(str::to_owned).ok_or_else(|| {
        let reason = format!("{} is no UTF-8, which sherpa-onnx's paths have to be", path.display());
        refuse(code::INVALID, path, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_the_library_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.txt");
        let read = |text: &str, table| {
            fs::write(&path, text).expect("a file");
            tokens(&path, table).map_err(|failed| failed.reason)
        };
        assert_eq!(read("_ 0\n 3\nä 4\n", Table::Characters), Ok(['_', ' ', 'ä'].into()));
        assert_eq!(read("_ 0\r\nzhong1 1\r\n", Table::Words), Ok(['_'].into()));
        let cases = [
            ("a 1\na 2\n", "second time"),
            ("zhong1 1\n", "several characters"),
            ("a b 1\n", "line 1"),
            ("a 1\n\nb 2\n", "line 2"),
            ("a b\n", "no number"),
            ("", "no tokens"),
        ];
        for (text, expected) in cases {
            let problem = read(text, Table::Characters).expect_err(text);
            assert!(problem.contains(expected), "{text:?}: {problem}");
        }
    }

    #[test]
    fn styles_have_to_be_those_of_all_speakers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("voices.bin");
        fs::write(&path, [0; 40]).expect("a file");
        assert_eq!(require_styles(&path, 10), Ok(()));
        let failed = require_styles(&path, 20).expect_err("too short");
        assert!(
            failed.reason.contains("40 bytes") && failed.reason.contains("80"),
            "{failed:?}"
        );
    }
}
