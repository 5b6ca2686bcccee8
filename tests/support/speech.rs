//! Recordings of people, and how many of their words were understood.

use std::path::{Path, PathBuf};

use repartee::cli::talk::recording::read_recording;

/// One recording and the words in it.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    /// The first folder of its path.
    pub(crate) group: String,
    pub(crate) path: PathBuf,
    pub(crate) seconds: f64,
    /// What is said; absent where nobody wrote it down.
    pub(crate) words: Option<Vec<String>>,
}

impl Recording {
    pub(crate) fn samples(&self, rate: u32) -> Vec<i16> {
        read_recording(&self.path, rate).expect("the recordings can be read")
    }
}

fn folder() -> PathBuf {
    std::env::var_os("REPARTEE_SPEECH").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/speech"),
        PathBuf::from,
    )
}

/// All recordings of the manifest that can be read here; none, with the reason printed, where there is no manifest.
pub(crate) fn recordings() -> Vec<Recording> {
    let folder = folder();
    let manifest = folder.join("manifest.tsv");
    let Ok(text) = std::fs::read_to_string(&manifest) else {
        println!(
            "skipped: no recordings ({} is not there; name their folder in REPARTEE_SPEECH)",
            manifest.display()
        );
        return Vec::new();
    };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (file, _rate, _channels) = (columns.next()?, columns.next()?, columns.next()?);
            let seconds = columns.next()?.parse().ok()?;
            let reference = columns.next()?;
            let path = folder.join(file);
            let known = matches!(
                path.extension().and_then(|extension| extension.to_str()),
                Some("wav" | "flac" | "mp3" | "ogg")
            );
            (known && path.is_file()).then(|| Recording {
                group: file.split('/').next().unwrap_or_default().to_owned(),
                path,
                seconds,
                words: Some(words(reference)).filter(|words| !words.is_empty()),
            })
        })
        .collect()
}

/// The recording whose path ends in this.
pub(crate) fn recording(name: &str) -> Option<Recording> {
    recordings()
        .into_iter()
        .find(|recording| recording.path.ends_with(name))
}

/// The words of `text`, without their case and without punctuation.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .replace(['-', '—', '/'], " ")
        .split_whitespace()
        .map(|word| {
            word.chars()
                .filter(|letter| letter.is_alphanumeric() || *letter == '\'')
                .collect::<String>()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Words that must be inserted, removed or replaced to make one text of the other (Levenshtein's distance).
pub(crate) fn word_errors(wanted: &[String], found: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=found.len()).collect();
    for (index, word) in wanted.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in found.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(row[column + 1] + 1);
        }
    }
    row[found.len()]
}
