//! How the report looks: tables that can be read in a terminal, and the same in Markdown.

use std::fmt::Write as _;

use serde::Serialize;

/// One table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// What one must know to read it.
    pub(crate) note: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &str, note: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widths = cells.chain(self.columns.get(column)).map(|cell| cell.chars().count());
            widths.max().unwrap_or(0)
        };
        let mut text = format!("\n{}\n", self.title);
        if !self.note.is_empty() {
            let _ = writeln!(text, "  ({})", self.note);
        }
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            text.push_str("  ");
            for (column, cell) in row.iter().enumerate() {
                // The first column holds words, the others numbers.
                let gap = " ".repeat(width(column) - cell.chars().count());
                let _ = match column {
                    0 => write!(text, "{cell}{gap}"),
                    _ => write!(text, "   {gap}{cell}"),
                };
            }
            text.push('\n');
        }
        text
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n\n", self.title);
        if !self.note.is_empty() {
            let _ = writeln!(text, "{}\n", self.note);
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text.push_str(&line(&self.columns));
        let rule: Vec<String> = (0..self.columns.len())
            .map(|column| if column == 0 { "---" } else { "--:" }.to_owned())
            .collect();
        text.push_str(&line(&rule));
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}
