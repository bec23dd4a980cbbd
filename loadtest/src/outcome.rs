//! What a load test has found, as it stands in a file.
//!
//! One file a run, in a form that the peers' load tests write too (`loadtest/peers`). Names of figures are snake_case
//! with their unit last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::histogram::Histogram;

/// The form of the file. A change that an older reader would misread raises it.
pub const SCHEMA: u32 = 1;
/// Percentiles that are told of a distribution.
pub const PERCENTILES: [f64; 12] = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0];

/// One run of a load test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub schema: u32,
    /// Whose figures these are: `gristmill`, or a peer's name.
    #[serde(default)]
    pub system: String,
    pub scenario: String,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub seconds: f64,
    pub machine: Machine,
    /// By program: `gristmill`, `rabbitmq`, `redis`.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    #[serde(default)]
    pub settings: Map<String, Value>,
    #[serde(flatten)]
    pub found: Found,
}

/// The machine that it ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub memory_bytes: u64,
    pub cpu: String,
    pub os: String,
}

/// What a scenario has measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub figures: Vec<Figure>,
    #[serde(default)]
    pub series: Vec<Series>,
    #[serde(default)]
    pub distributions: Vec<Distribution>,
    /// Whether all was as it must be; nothing where there is no such thing.
    pub passed: Option<bool>,
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
    /// Which way is better; nothing for what only says how much there was.
    pub better: Option<Better>,
    /// What the same machine does at most, measured beside it.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// How far the figure varied from round to round, as a share of it; nothing when there was one round.
    #[serde(default)]
    pub noise: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
}

/// A raw limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub name: String,
    pub value: f64,
}

/// Values over something, mostly over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    pub unit: String,
    pub x_unit: String,
    pub points: Vec<(f64, f64)>,
}

/// How values spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    pub name: String,
    pub unit: String,
    /// Percentile (0 to 100) and value, in order.
    pub percentiles: Vec<(f64, f64)>,
}

impl Found {
    /// Adds a figure, and returns it for its limit and noise. What isn't a number can't be told in a file; it becomes a
    /// note instead.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, better: Option<Better>) -> FigureSlot<'_> {
        if !value.is_finite() {
            self.notes.push(format!("`{name}` couldn't be measured"));
            return FigureSlot(None);
        }
        let (name, unit) = (name.to_owned(), unit.to_owned());
        self.figures.push(Figure { name, value, unit, better, limit: None, noise: None });
        FigureSlot(self.figures.last_mut())
    }

    /// Adds a figure of which more is better.
    pub fn higher(&mut self, name: &str, value: f64, unit: &str) -> FigureSlot<'_> {
        self.figure(name, value, unit, Some(Better::Higher))
    }

    /// Adds a figure of which less is better.
    pub fn lower(&mut self, name: &str, value: f64, unit: &str) -> FigureSlot<'_> {
        self.figure(name, value, unit, Some(Better::Lower))
    }

    /// Adds a figure that only says how much there was.
    pub fn count(&mut self, name: &str, value: u64, unit: &str) {
        self.figure(name, value as f64, unit, None);
    }

    /// Adds values over something; what isn't a number is left out.
    pub fn series(&mut self, name: &str, unit: &str, x_unit: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let points: Vec<_> = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        if !points.is_empty() {
            self.series.push(Series { name: name.into(), unit: unit.into(), x_unit: x_unit.into(), points });
        }
    }

    /// Adds a distribution of milliseconds from a histogram of microseconds; nothing where nothing was recorded.
    pub fn distribution(&mut self, name: &str, histogram: &Histogram) {
        if histogram.count() == 0 {
            return;
        }
        // A percentile that fewer values than one stand behind would repeat the largest.
        let is_told = |p: f64| p == 100.0 || (1.0 - p / 100.0) * histogram.count() as f64 >= 1.0 - 1e-9;
        let told = PERCENTILES.into_iter().filter(|p| is_told(*p));
        let percentiles = told.map(|p| (p, histogram.percentile(p) as f64 / 1e3)).collect();
        self.distributions.push(Distribution { name: name.to_owned(), unit: "ms".to_owned(), percentiles });
    }

    /// A figure by its name.
    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// Adds a sentence.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// A figure that was just added, if it is a number.
pub struct FigureSlot<'a>(Option<&'a mut Figure>);

impl FigureSlot<'_> {
    /// Sets a raw limit that was measured beside it.
    pub fn limit(mut self, name: &str, value: f64) -> Self {
        if let Some(figure) = self.0.as_deref_mut().filter(|_| value.is_finite()) {
            figure.limit = Some(Limit { name: name.to_owned(), value });
        }
        self
    }

    /// Sets how far the figure varied over rounds.
    pub fn rounds(mut self, values: &[f64]) -> Self {
        if let Some(figure) = self.0.as_deref_mut() {
            figure.noise = spread(values);
        }
        self
    }
}

/// The standard error of the mean of some rounds, as a share of it; nothing for fewer than two.
fn spread(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 || mean == 0.0 || !mean.is_finite() {
        return None;
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Some((variance / count).sqrt() / mean.abs())
}

/// The middle of some values; not a number for none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_becomes_a_note() {
        let mut found = Found::default();
        found.higher("tasks_per_second", f64::NAN, "1/s").limit("x", 1.0);
        found.lower("hop_ms", 2.0, "ms").limit("raw", f64::INFINITY).rounds(&[2.0, 2.0]);
        assert_eq!(found.figures.len(), 1);
        assert_eq!((found.figures[0].limit.clone(), found.figures[0].noise), (None, Some(0.0)));
        assert_eq!(found.notes, ["`tasks_per_second` couldn't be measured"]);
    }

    #[test]
    fn percentiles_beyond_what_was_recorded_are_left_out() {
        let (mut found, mut histogram) = (Found::default(), Histogram::default());
        for value in 1..=100 {
            histogram.record(value * 1_000);
        }
        found.distribution("wait", &histogram);
        let told: Vec<f64> = found.distributions[0].percentiles.iter().map(|(p, _)| *p).collect();
        assert_eq!(told, [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0]);
    }

    #[test]
    fn the_middle_of_values() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[]).is_nan()), (2.0, 2.5, true));
    }
}

/// An outcome for tests of what is made of one.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    pub(crate) fn outcome(scenario: &str) -> Outcome {
        let mut found = Found::default();
        found.higher("tasks_per_second", 9_120.0, "1/s").limit("rabbitmq round trips", 21_000.0).rounds(&[9e3, 9.2e3]);
        found.lower("hop_ms_p99", 3.25, "ms");
        found.series("tasks <done>", "1/s", "s", [(0.0, 0.0), (1.0, 9_000.0), (2.0, f64::NAN), (3.0, 9_100.0)]);
        found.distribution("task & wait", &(1..=2_000).map(|at| at * 17).collect());
        found.passed = Some(true);
        found.note("a \"note\" with <markup>");
        let machine = Machine { cores: 2, memory_bytes: 8 << 30, cpu: "a cpu".into(), os: "Linux".into() };
        let settings = [("tasks".to_owned(), serde_json::json!(10_000))].into_iter().collect();
        let versions = [("gristmill".to_owned(), "0.1.0".to_owned())].into_iter().collect();
        Outcome {
            schema: SCHEMA,
            system: "gristmill".to_owned(),
            scenario: scenario.to_owned(),
            started_ms: 1_795_392_000_000,
            seconds: 12.5,
            machine,
            versions,
            settings,
            found,
        }
    }
}
