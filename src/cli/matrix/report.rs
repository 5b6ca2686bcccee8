//! What a walk found: a table for people, an object for machines. The object has the keys of AVA's `ui_model_matrix.py`
//! (Asterisk-AI-Voice-Agent, `tools/ui_model_matrix.py`), and more.

use std::io::{self, Write};

use repartee_protocol::native::{BackendKind, Capabilities, SwitchScope};
use serde::Serialize;

use super::check::{Finding, Outcome};
use super::plan::Candidate;
use super::text::plain;

/// Everything that a walk found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What served at the start.
    pub(super) started: Started,
    /// What the server said that it has.
    pub(super) capabilities: Capabilities,
    /// Row by row, in the order in which they were tried.
    pub(super) results: Vec<Row>,
    /// How many of each there are.
    pub(super) summary: Summary,
    /// The server's name and version.
    pub(super) server: String,
    /// For whom switches were made.
    pub(super) scope: SwitchScope,
    /// What was spoken.
    pub(super) sentence: &'static str,
    /// How many of its words must be understood.
    pub(super) words_needed: usize,
    /// It was stopped before its end.
    pub(super) interrupted: bool,
    /// Whether what served at the start serves again.
    pub(super) restored: bool,
    /// What does not, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) restore_problems: Vec<String>,
}

/// What served at the start, as AVA names it: the path of a model, or its name where the server tells no path.
#[derive(Debug, Default, Serialize)]
pub(super) struct Started {
    pub(super) stt_backend: String,
    pub(super) stt_path: String,
    pub(super) tts_backend: String,
    pub(super) tts_path: String,
    pub(super) llm_path: String,
    /// All of it.
    pub(super) backends: Vec<StartedBackend>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StartedBackend {
    pub(super) kind: BackendKind,
    pub(super) backend: String,
    pub(super) model: String,
}

/// One backend with one model.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    kind: BackendKind,
    backend: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice: Option<String>,
    /// It could be switched to, and did its job as far as that can be told.
    ok: bool,
    /// Seconds that the row took.
    elapsed_sec: f64,
    message: String,
    outcome: Outcome,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    synthetic: bool,
    /// Milliseconds until it was loaded and verified by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_ms: Option<u32>,
    /// Milliseconds until its first result: of `stt` words, from the beginning of the sentence; of `tts` audio and of `llm` text, from the request;
    /// of `vad` the start of speech, from the beginning of the sentence; of `turn` the end of the turn, from the end of the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_result_ms: Option<u64>,
    /// Milliseconds for which the session had no backend for the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words_right: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words_said: Option<usize>,
    /// What was understood of the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard: Option<String>,
}

/// How many rows there are of each outcome. `ok` counts those that were loaded, too, as AVA does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) ok: usize,
    pub(super) failed_or_skipped: usize,
    pub(super) total: usize,
    pub(super) loaded: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

/// What a row took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Costs {
    pub(super) elapsed_ms: u64,
    pub(super) load_ms: Option<u32>,
    pub(super) gap_ms: Option<u32>,
}

impl Row {
    /// What was found of a candidate.
    pub(super) fn found(candidate: &Candidate, synthetic: bool, finding: Finding, costs: Costs) -> Self {
        let tried = matches!(finding.outcome, Outcome::Ok | Outcome::Loaded | Outcome::Failed);
        Self {
            kind: candidate.kind,
            backend: plain(&candidate.backend),
            model: plain(&candidate.model),
            voice: candidate.voice.as_deref().map(plain),
            ok: matches!(finding.outcome, Outcome::Ok | Outcome::Loaded),
            elapsed_sec: if tried { costs.elapsed_ms as f64 / 1_000.0 } else { 0.0 },
            message: finding.message,
            outcome: finding.outcome,
            remedy: None,
            synthetic,
            load_ms: costs.load_ms,
            first_result_ms: finding.first_result_ms,
            gap_ms: costs.gap_ms,
            words_right: finding.words.map(|words| words.right),
            words_said: finding.words.map(|words| words.of),
            heard: finding.heard,
        }
    }

    /// A candidate that wasn't tried.
    pub(super) fn skipped(candidate: &Candidate, reason: &str, remedy: Option<&str>) -> Self {
        let finding = Finding {
            outcome: Outcome::Skipped,
            message: format!("skipped: {}", plain(reason)),
            first_result_ms: None,
            words: None,
            heard: None,
        };
        Self {
            remedy: remedy.map(plain),
            ..Self::found(candidate, candidate.synthetic, finding, Costs::default())
        }
    }

    /// A candidate that doesn't do its job.
    pub(super) fn failed(candidate: &Candidate, reason: String, costs: Costs) -> Self {
        let finding = Finding {
            outcome: Outcome::Failed,
            message: reason,
            first_result_ms: None,
            words: None,
            heard: None,
        };
        Self::found(candidate, candidate.synthetic, finding, costs)
    }

    /// What became of it.
    pub(super) const fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl Summary {
    /// Of these rows.
    pub(super) fn of(rows: &[Row]) -> Self {
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        let [ok, loaded] = [count(Outcome::Ok), count(Outcome::Loaded)];
        let [failed, skipped] = [count(Outcome::Failed), count(Outcome::Skipped)];
        Self {
            ok: ok + loaded,
            failed_or_skipped: failed + skipped,
            total: rows.len(),
            loaded,
            failed,
            skipped,
        }
    }
}

const HEADS: [&str; 7] = ["", "job", "backend", "model", "load ms", "first ms", "gap ms"];
/// The columns that are numbers.
const NUMBERS: std::ops::Range<usize> = 4..7;
/// A model's name is shown to so many characters: of a path the end tells most.
const MODEL: usize = 34;

/// The table, in colours where `terminal`.
pub(super) fn print(report: &Report, terminal: bool, out: &mut impl Write) -> io::Result<()> {
    let colour = |outcome| match outcome {
        Outcome::Ok => "\x1b[32m",
        Outcome::Loaded => "\x1b[36m",
        Outcome::Failed => "\x1b[31m",
        Outcome::Skipped => "\x1b[90m",
    };
    let cells: Vec<[String; 7]> = report.results.iter().map(cells).collect();
    let mut widths = HEADS.map(|head| head.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 7], message: &str| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            match NUMBERS.contains(&column) {
                true => line.push_str(&format!("{cell:>width$}  ")),
                false => line.push_str(&format!("{cell:<width$}  ")),
            }
        }
        line.push_str(message);
        line.trim_end().to_owned()
    };
    writeln!(out, "{}", line(&HEADS.map(str::to_owned), ""))?;
    for (row, cells) in report.results.iter().zip(&cells) {
        let message = row.message.strip_prefix("skipped: ").unwrap_or(&row.message);
        let mut text = line(cells, message);
        if let Some(remedy) = &row.remedy {
            text.push_str(": ");
            text.push_str(remedy);
        }
        match terminal {
            true => writeln!(out, "{}{text}\x1b[0m", colour(row.outcome))?,
            false => writeln!(out, "{text}")?,
        }
    }
    let Summary {
        ok,
        loaded,
        failed,
        skipped,
        ..
    } = report.summary;
    writeln!(out)?;
    writeln!(
        out,
        "{} ok, {loaded} loaded, {failed} failed, {skipped} skipped",
        ok - loaded
    )?;
    writeln!(
        out,
        "Spoken: \"{}\" ({} words must be understood). Loaded: it answers, whether rightly can't be told.",
        report.sentence, report.words_needed
    )?;
    if report.interrupted {
        writeln!(out, "It was interrupted: these are not all.")?;
    }
    for problem in &report.restore_problems {
        writeln!(out, "Not restored: {problem}")?;
    }
    Ok(())
}

fn cells(row: &Row) -> [String; 7] {
    let outcome = match row.outcome {
        Outcome::Ok => "ok",
        Outcome::Loaded => "loaded",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "skipped",
    };
    let excess = row.model.chars().count().saturating_sub(MODEL);
    let mut model = match row.model.char_indices().nth(excess) {
        Some((start, _)) if excess > 0 => format!("…{}", &row.model[start..]),
        _ => row.model.clone(),
    };
    if let Some(voice) = &row.voice
        && *voice != row.model
    {
        model.push('/');
        model.push_str(voice);
    }
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    [
        outcome.to_owned(),
        row.kind.as_str().to_owned(),
        row.backend.clone(),
        model,
        number(row.load_ms.map(u64::from)),
        number(row.first_result_ms),
        number(row.gap_ms.map(u64::from)),
    ]
}
