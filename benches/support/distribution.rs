//! Many values, told by a few.

use serde::{Deserialize, Serialize};

/// Quantiles of a measurement, in the unit of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) count: usize,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Distribution {
    /// Nearest-rank quantiles: each is a value that was really measured.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = (quantile * values.len() as f64).ceil() as usize;
            values[rank.clamp(1, values.len()) - 1]
        };
        Self {
            count: values.len(),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }

    /// "0.21 / 1.40": p50 and p99. Where fewer than a hundred were measured there is no p99, and the maximum is given.
    pub(crate) fn show(&self) -> String {
        match self.count {
            0 => "–".to_owned(),
            1..100 => format!("{:.2} / max {:.2}", self.p50, self.max),
            _ => format!("{:.2} / {:.2}", self.p50, self.p99),
        }
    }
}
