//! Medians, and the table that they are told in.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// Values in order.
#[derive(Debug)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value at a quantile by the nearest rank: one that was measured. Nothing measured is no number.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.0.len() as f64).ceil().max(1.0) as usize;
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The median with the worst beside it, in ms.
    pub(crate) fn milliseconds(&self) -> Cell {
        if self.0.is_empty() {
            return Cell::none();
        }
        let (median, worst) = (self.median(), self.at(1.0));
        let text = if self.0.len() == 1 {
            format!("{} ms", short(median))
        } else {
            format!("{} ({}) ms", short(median), short(worst))
        };
        Cell {
            text,
            json: json!({ "median": median, "p95": self.at(0.95), "worst": worst, "count": self.0.len() }),
        }
    }
}

/// As many digits as mean something.
fn short(number: f64) -> String {
    let digits = if number.abs() < 10.0 { 1 } else { 0 };
    format!("{number:.digits$}")
}

/// One figure, for people and for programs.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    json: Value,
}

impl Cell {
    pub(crate) fn number(number: f64, digits: usize, unit: &str) -> Self {
        if !number.is_finite() {
            return Self::none();
        }
        Self {
            text: format!("{number:.digits$}{unit}"),
            json: json!(number),
        }
    }

    /// So much for each second of the processor. Nothing where that was a few ticks of the kernel's.
    pub(crate) fn per_processor(amount: f64, seconds: f64) -> Self {
        const FEW: f64 = 0.05;
        if seconds < FEW {
            return Self::none();
        }
        let rate = amount / seconds;
        Self::number(rate, if rate < 100.0 { 1 } else { 0 }, "")
    }

    /// What couldn't be measured.
    pub(crate) fn none() -> Self {
        Self {
            text: "–".into(),
            json: Value::Null,
        }
    }
}

struct Row {
    key: &'static str,
    label: &'static str,
    cells: Vec<Cell>,
    /// Whether it's one figure that has nothing to do with the number of streams.
    once: bool,
}

/// Figures by the number of streams.
pub(crate) struct Table {
    pub(crate) streams: Vec<u32>,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(streams: &[u32]) -> Self {
        Self {
            streams: streams.to_vec(),
            rows: Vec::new(),
        }
    }

    /// A figure that has nothing to do with the number of streams.
    pub(crate) fn once(&mut self, key: &'static str, label: &'static str, cell: Cell) {
        self.rows.push(Row {
            key,
            label,
            cells: vec![cell],
            once: true,
        });
    }

    /// A figure for each number of streams.
    pub(crate) fn row(&mut self, key: &'static str, label: &'static str, cells: Vec<Cell>) {
        self.rows.push(Row {
            key,
            label,
            cells,
            once: false,
        });
    }

    pub(crate) fn markdown(&self, title: &str) -> String {
        let mut text = format!("### {title}\n\n| streams |");
        for streams in &self.streams {
            let _ = write!(text, " {streams} |");
        }
        text.push_str("\n| --- |");
        text.push_str(&" --: |".repeat(self.streams.len()));
        for row in &self.rows {
            let _ = write!(text, "\n| {} |", row.label);
            for column in 0..self.streams.len() {
                let cell = row.cells.get(column).map_or("", |cell| &cell.text);
                let _ = write!(text, " {cell} |");
            }
        }
        text.push('\n');
        text
    }

    /// By key: the one figure, or one for each number of streams under that number.
    pub(crate) fn json(&self) -> Value {
        let cells = |row: &Row| -> Value {
            if row.once {
                return row
                    .cells
                    .iter()
                    .map(|cell| cell.json.clone())
                    .next()
                    .unwrap_or_default();
            }
            let by_streams: Map<String, Value> = self
                .streams
                .iter()
                .zip(&row.cells)
                .map(|(streams, cell)| (streams.to_string(), cell.json.clone()))
                .collect();
            by_streams.into()
        };
        let rows: Map<String, Value> = self.rows.iter().map(|row| (row.key.to_owned(), cells(row))).collect();
        rows.into()
    }
}
