//! Two models side by side on the same rows, as running sums: how often they agree, and how far apart their scores are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rows::{Cell, Column, Predictions, Values};

/// How far apart two predicted numbers may be and still agree, as a part of the larger one.
const NUMBERS_AGREE: f64 = 1e-6;

/// What was seen so far. `live` answered the requests and `other` did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The versions that are compared, the live one and the other; nothing before the first request. With others, what
    /// was seen begins anew.
    pub versions: Option<(u64, u64)>,
    /// Requests that both scored.
    pub requests: u64,
    /// Requests that the other model failed at.
    pub failed: u64,
    /// Requests that it had no time for; they say nothing of it.
    pub dropped: u64,
    pub rows: u64,
    /// Rows with the same prediction.
    pub agreed: u64,
    /// Rows with a score from both; a score is a probability, or a predicted number.
    pub scored: u64,
    /// Sums over those rows of other − live: the difference, its size and its square.
    pub difference: f64,
    pub difference_size: f64,
    pub difference_square: f64,
    pub difference_max: f64,
    /// Time in the model, for all requests together.
    pub live_time: Duration,
    pub other_time: Duration,
}

impl Comparison {
    /// Adds a request that both scored.
    pub fn add(&mut self, live: (&Predictions, Duration), other: (&Predictions, Duration)) {
        self.requests += 1;
        self.live_time += live.1;
        self.other_time += other.1;
        let (live, other) = (live.0, other.0);
        let rows = live.len().min(other.len());
        self.rows += rows as u64;
        if let (Some((_, a)), Some((_, b))) = (live.columns().first(), other.columns().first()) {
            self.agreed += (0..rows).filter(|row| agree(&a.cell(*row), &b.cell(*row))).count() as u64;
        }
        if let (Some(a), Some(b)) = (scores(live), scores(other)) {
            a.iter().zip(b).for_each(|(a, b)| self.add_scores(*a, *b));
        }
    }

    /// The same for these versions: anew, unless it was of them.
    #[must_use]
    pub fn of(self, live: u64, other: u64) -> Comparison {
        let versions = Some((live, other));
        if self.versions == versions { self } else { Comparison { versions, ..Comparison::default() } }
    }

    /// Adds what was seen elsewhere, if it was of the same versions.
    pub fn merge(&mut self, other: &Comparison) {
        if self.versions.is_none() {
            self.versions = other.versions;
        }
        if self.versions != other.versions {
            return;
        }
        self.requests += other.requests;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.rows += other.rows;
        self.agreed += other.agreed;
        self.scored += other.scored;
        self.difference += other.difference;
        self.difference_size += other.difference_size;
        self.difference_square += other.difference_square;
        self.difference_max = self.difference_max.max(other.difference_max);
        self.live_time += other.live_time;
        self.other_time += other.other_time;
    }

    fn add_scores(&mut self, live: f64, other: f64) {
        let difference = other - live;
        if !difference.is_finite() {
            return;
        }
        self.scored += 1;
        self.difference += difference;
        self.difference_size += difference.abs();
        self.difference_square += difference * difference;
        self.difference_max = self.difference_max.max(difference.abs());
    }

    /// The part of rows with the same prediction; none before the first row.
    pub fn agreement(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.agreed as f64 / self.rows as f64)
    }

    /// The mean difference of scores, and the mean of its size.
    pub fn mean_difference(&self) -> Option<(f64, f64)> {
        let scored = self.scored as f64;
        (self.scored > 0).then(|| (self.difference / scored, self.difference_size / scored))
    }
}

/// What a model must show as a shadow before it may answer.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// Rows to see first.
    pub rows_min: u64,
    /// The part of rows on which it should agree with the live model.
    pub agreement_min: f64,
    /// The part of requests that it may fail at.
    pub failures_max: f64,
    /// How many times the live model's time it may take.
    pub slowdown_max: f64,
}

impl Default for Bars {
    fn default() -> Bars {
        Bars { rows_min: 1_000, agreement_min: 0.95, failures_max: 0.001, slowdown_max: 2.0 }
    }
}

/// What the numbers say about promoting a shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    Promote,
    /// Not enough has been seen.
    Wait(String),
    /// It missed these bars.
    Keep(Vec<String>),
}

/// Whether a shadow passes the bars.
pub fn advise(seen: &Comparison, bars: &Bars) -> Advice {
    let tried = seen.requests + seen.failed;
    let failures = if tried == 0 { 0.0 } else { seen.failed as f64 / tried as f64 };
    let mut missed = Vec::new();
    // Twenty failures in a row need no thousand rows to be understood.
    if failures > bars.failures_max && (seen.rows >= bars.rows_min || seen.failed >= 20) {
        missed.push(format!("it failed at {} of {tried} requests", seen.failed));
    }
    if missed.is_empty() && seen.rows < bars.rows_min {
        return Advice::Wait(format!("{} of {} rows seen", seen.rows, bars.rows_min));
    }
    if let Some(agreement) = seen.agreement()
        && agreement < bars.agreement_min
    {
        missed.push(format!(
            "it agrees on {:.1} % of rows; the bar is {:.1} %",
            agreement * 100.0,
            bars.agreement_min * 100.0
        ));
    }
    let slowdown = seen.other_time.as_secs_f64() / seen.live_time.as_secs_f64().max(1e-9);
    if seen.requests > 0 && slowdown > bars.slowdown_max {
        missed.push(format!("it takes {slowdown:.1} times as long; the bar is {}", bars.slowdown_max));
    }
    if missed.is_empty() { Advice::Promote } else { Advice::Keep(missed) }
}

fn agree(a: &Cell<'_>, b: &Cell<'_>) -> bool {
    let number = |cell: &Cell<'_>| match cell {
        Cell::Number(value) => Some(*value),
        Cell::Integer(value) => Some(*value as f64),
        Cell::Null | Cell::Bool(_) | Cell::Text(_) => None,
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b || (a - b).abs() <= NUMBERS_AGREE * a.abs().max(b.abs()),
        _ => a == b,
    }
}

/// The score of each row: the first column of numbers, which for a classifier is a probability.
fn scores(predictions: &Predictions) -> Option<&[f64]> {
    let numbers = |column: &'_ Column| matches!(column.values(), Values::Number(_));
    let (_, column) = predictions.columns().iter().find(|(_, column)| numbers(column))?;
    match column.values() {
        Values::Number(values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(labels: Vec<i64>, scores: Vec<f64>) -> Predictions {
        let len = labels.len();
        Predictions::new(vec![("prediction".into(), labels.into()), ("probability".into(), scores.into())], len)
    }

    #[test]
    fn sums_grow_with_each_request() {
        let mut seen = Comparison::default();
        let ms = Duration::from_millis;
        seen.add((&predictions(vec![0, 1], vec![0.2, 0.7]), ms(1)), (&predictions(vec![0, 0], vec![0.3, 0.3]), ms(3)));
        seen.add((&predictions(vec![1], vec![0.9]), ms(1)), (&predictions(vec![1], vec![f64::NAN]), ms(1)));
        assert_eq!((seen.rows, seen.agreed, seen.scored), (3, 2, 2));
        let (mean, size) = seen.mean_difference().unwrap();
        assert!((mean - -0.15).abs() < 1e-12 && (size - 0.25).abs() < 1e-12, "{mean} {size}");
        assert!((seen.difference_max - 0.4).abs() < 1e-12);
    }

    #[test]
    fn advice_waits_then_names_what_was_missed() {
        let ms = Duration::from_millis;
        let good = Comparison {
            requests: 1_000,
            rows: 1_000,
            agreed: 990,
            live_time: ms(10),
            other_time: ms(15),
            ..Default::default()
        };
        assert_eq!(advise(&good, &Bars::default()), Advice::Promote);
        let early = Comparison { rows: 10, ..good };
        assert_eq!(advise(&early, &Bars::default()), Advice::Wait("10 of 1000 rows seen".to_owned()));
        let bad = Comparison { agreed: 500, failed: 100, other_time: ms(50), ..good };
        let expected = [
            "it failed at 100 of 1100 requests",
            "it agrees on 50.0 % of rows; the bar is 95.0 %",
            "it takes 5.0 times as long; the bar is 2",
        ];
        assert_eq!(advise(&bad, &Bars::default()), Advice::Keep(expected.map(str::to_owned).to_vec()));
    }
}
