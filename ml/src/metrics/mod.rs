//! How good predictions are: the field's metrics, equal to scikit-learn's, and the curves of a report.
//!
//! Rows are collected (a probability or a number and the truth: 9 to 16 bytes a row for two classes and
//! regression, eight a class for more), because areas and medians need them all. A metric that isn't
//! defined on the rows at hand, such as an area when all rows are of one class, is left out.

mod classification;
mod compare;
mod curves;
mod intervals;
mod regression;
mod weighted;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use gristmill_protocol::pipeline::Learning;
use serde::{Deserialize, Serialize};

pub use compare::{Comparison, PairedTest, compare};
pub use curves::{Bin, CalibrationBin, Charts, ClassCurve, ClassificationCharts, Point, RegressionCharts, ScoreBin};
pub use intervals::{INTERVAL_ROWS_MAX, MetricInterval, intervals};

use crate::columns;
use crate::model::{Model, Predictions};

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Larger,
    Smaller,
    NearerToZero,
}

impl Direction {
    /// Whether `value` is as good as `other` or better.
    pub fn no_worse(self, value: f64, other: f64) -> bool {
        match self {
            Direction::Larger => value >= other,
            Direction::Smaller => value <= other,
            Direction::NearerToZero => value.abs() <= other.abs(),
        }
    }
}

const CLASSIFICATION: [(&str, Direction); 11] = [
    ("accuracy", Direction::Larger),
    ("balanced_accuracy", Direction::Larger),
    ("brier", Direction::Smaller),
    ("ece", Direction::Smaller),
    ("f1", Direction::Larger),
    ("log_loss", Direction::Smaller),
    ("mcc", Direction::Larger),
    ("pr_auc", Direction::Larger),
    ("precision", Direction::Larger),
    ("recall", Direction::Larger),
    ("roc_auc", Direction::Larger),
];

const REGRESSION: [(&str, Direction); 7] = [
    ("bias", Direction::NearerToZero),
    ("mae", Direction::Smaller),
    ("mape", Direction::Smaller),
    ("max_error", Direction::Smaller),
    ("medae", Direction::Smaller),
    ("r2", Direction::Larger),
    ("rmse", Direction::Smaller),
];

/// The metrics of a kind of learning, in alphabetical order, and which of their values are better.
pub fn known_metrics(learning: Learning) -> &'static [(&'static str, Direction)] {
    match learning {
        Learning::Classification => &CLASSIFICATION,
        Learning::Regression => &REGRESSION,
        // Nothing is known to compare groups with.
        Learning::Clustering => &[],
    }
}

/// Which values of this metric are better; else the known name most like it, if one is.
pub fn direction(learning: Learning, metric: &str) -> Result<Direction, Option<String>> {
    let known = known_metrics(learning);
    known
        .iter()
        .find(|(name, _)| *name == metric)
        .map(|(_, direction)| *direction)
        .ok_or_else(|| columns::nearest(metric, known.iter().map(|(name, _)| *name)))
}

/// The metric that decides between two models when the pipeline names none.
pub fn default_metric(learning: Learning, classes: usize) -> &'static str {
    match learning {
        Learning::Regression | Learning::Clustering => "rmse",
        Learning::Classification if classes > 2 => "accuracy",
        Learning::Classification => "roc_auc",
    }
}

/// How a model did on rows that it hadn't seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub rows: u64,
    pub metrics: BTreeMap<String, f64>,
    pub charts: Charts,
}

/// Collects predictions and the truth. Batches give the same result however rows are cut into them.
#[derive(Clone, Debug)]
pub struct Evaluator {
    collected: Collected,
}

#[derive(Clone, Debug)]
enum Collected {
    Classes {
        names: Vec<String>,
        /// One a row for two classes (of the second), else one a row and class.
        probabilities: Vec<f64>,
        truth: Vec<u8>,
        threshold: Option<f64>,
    },
    Values {
        predicted: Vec<f64>,
        actual: Vec<f64>,
    },
}

impl Evaluator {
    /// For the predictions of this model.
    pub fn new(model: &Model) -> Evaluator {
        let collected = match model.target().classes() {
            Some(classes) => Collected::Classes {
                names: classes.names(),
                probabilities: Vec::new(),
                truth: Vec::new(),
                threshold: model.threshold(),
            },
            None => Collected::Values { predicted: Vec::new(), actual: Vec::new() },
        };
        Evaluator { collected }
    }

    /// Takes predictions and, for each row, the truth as [`crate::target::Target::values`] gives it. Panics
    /// when they are of another model or don't match in number.
    pub fn push(&mut self, predictions: &Predictions, truth: &[f64]) {
        assert_eq!(predictions.rows(), truth.len(), "each prediction has its truth");
        match (&mut self.collected, predictions) {
            (
                Collected::Classes { names, probabilities, truth: all, .. },
                Predictions::Classes { classes, probabilities: more, .. },
            ) => {
                assert_eq!(names.len(), classes.count(), "predictions are of the model that is evaluated");
                if names.len() == 2 {
                    probabilities.extend(more.chunks(2).map(|row| row[1]));
                } else {
                    probabilities.extend_from_slice(more);
                }
                all.extend(truth.iter().map(|&class| class as u8));
            }
            (Collected::Values { predicted, actual }, Predictions::Values(values)) => {
                predicted.extend_from_slice(values);
                actual.extend_from_slice(truth);
            }
            (_, _) => panic!("predictions are of the model that is evaluated"),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match &self.collected {
            Collected::Classes { truth, .. } => truth.len(),
            Collected::Values { actual, .. } => actual.len(),
        }
    }

    /// Scores that a row has: one for two classes and numbers, else one a class.
    fn width(&self) -> usize {
        match &self.collected {
            Collected::Classes { names, .. } if names.len() > 2 => names.len(),
            _ => 1,
        }
    }

    /// These rows alone, in this order. Panics when there is no such row.
    pub fn select(&self, rows: &[u32]) -> Evaluator {
        let pick = |values: &[f64], width: usize| {
            rows.iter().flat_map(|&row| &values[row as usize * width..(row as usize + 1) * width]).copied().collect()
        };
        let collected = match &self.collected {
            Collected::Classes { names, probabilities, truth, threshold } => Collected::Classes {
                names: names.clone(),
                probabilities: pick(probabilities, self.width()),
                truth: rows.iter().map(|&row| truth[row as usize]).collect(),
                threshold: *threshold,
            },
            Collected::Values { predicted, actual } => {
                Collected::Values { predicted: pick(predicted, 1), actual: pick(actual, 1) }
            }
        };
        Evaluator { collected }
    }

    /// The true class of each row, and the class decided; none of models that tell numbers.
    pub fn decisions(&self) -> Option<(&[u8], Vec<usize>)> {
        let Collected::Classes { names, probabilities, truth, threshold } = &self.collected else { return None };
        let decide = |row| classification::predicted(probabilities, names.len(), *threshold, row);
        Some((truth, (0..truth.len()).map(decide).collect()))
    }

    /// The metrics that are defined on the rows.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        if self.rows() == 0 {
            return BTreeMap::new();
        }
        let metrics = match &self.collected {
            Collected::Classes { names, probabilities, truth, threshold } => {
                classification::metrics(probabilities, truth, names.len(), *threshold)
            }
            Collected::Values { predicted, actual } => regression::metrics(predicted, actual),
        };
        let defined = metrics.into_iter().filter(|(_, value)| value.is_finite());
        defined.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The metrics and charts; none when there are no rows.
    pub fn finish(&self) -> Option<Evaluation> {
        if self.rows() == 0 {
            return None;
        }
        let charts = match &self.collected {
            Collected::Classes { names, probabilities, truth, threshold } => {
                Charts::Classification(curves::classification(probabilities, truth, names, *threshold))
            }
            Collected::Values { predicted, actual } => Charts::Regression(curves::regression(predicted, actual)),
        };
        Some(Evaluation { rows: self.rows() as u64, metrics: self.metrics(), charts })
    }
}
