//! All metrics over rows that count several times or not at all, prepared once for many draws.

use gristmill_learn::resample::Ranked;

use super::classification::{self, CALIBRATION_BINS, Confusion, PROBABILITY_MIN};
use super::{Collected, Evaluator};

/// Rows made ready: what doesn't depend on how often they count is worked out.
pub(super) enum Weighted {
    Classes(Classes),
    Values(Values),
}

pub(super) struct Classes {
    classes: usize,
    truth: Vec<u8>,
    predicted: Vec<u16>,
    /// Of two classes that of the second, else one a class.
    ranked: Vec<Ranked>,
    brier: Vec<f64>,
    log_loss: Vec<f64>,
    /// For the calibration error each row's bin, probability, and whether it is a hit.
    calibration: Vec<(u8, f64, bool)>,
}

pub(super) struct Values {
    /// Predicted minus actual.
    errors: Vec<f64>,
    /// Of their size relative to the actual value.
    relative: Vec<f64>,
    /// Actual values, less the mean of all.
    centred: Vec<f64>,
    /// Rows by rising size of their error.
    by_size: Vec<u32>,
}

impl Weighted {
    pub fn new(rows: &Evaluator) -> Weighted {
        match &rows.collected {
            Collected::Classes { names, probabilities, truth, threshold } => {
                Weighted::Classes(Classes::new(probabilities, truth, names.len(), *threshold))
            }
            Collected::Values { predicted, actual } => Weighted::Values(Values::new(predicted, actual)),
        }
    }

    /// The metrics' names, in the order of [`Weighted::metrics`].
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Weighted::Classes(_) => &[
                "accuracy",
                "balanced_accuracy",
                "brier",
                "ece",
                "f1",
                "log_loss",
                "mcc",
                "pr_auc",
                "precision",
                "recall",
                "roc_auc",
            ],
            Weighted::Values(_) => &["bias", "mae", "mape", "max_error", "medae", "r2", "rmse"],
        }
    }

    /// The metrics, where `counts` says how often each row counts; not a number where they aren't defined.
    pub fn metrics(&self, counts: &[u32]) -> Vec<f64> {
        match self {
            Weighted::Classes(classes) => classes.metrics(counts),
            Weighted::Values(values) => values.metrics(counts),
        }
    }
}

/// The mean of values that count so often.
fn mean(values: &[f64], counts: &[u32]) -> f64 {
    let (mut sum, mut rows) = (0.0, 0_u64);
    for (value, count) in values.iter().zip(counts) {
        sum += value * f64::from(*count);
        rows += u64::from(*count);
    }
    sum / rows as f64
}

impl Classes {
    fn new(probabilities: &[f64], truth: &[u8], classes: usize, threshold: Option<f64>) -> Classes {
        let rows = 0..truth.len();
        let ranked = match classes {
            2 => vec![Ranked::new(probabilities, &truth.iter().map(|&class| class == 1).collect::<Vec<bool>>())],
            _ => (0..classes)
                .map(|class| {
                    let scores: Vec<f64> = probabilities.iter().skip(class).step_by(classes).copied().collect();
                    let of_class: Vec<bool> = truth.iter().map(|&label| usize::from(label) == class).collect();
                    Ranked::new(&scores, &of_class)
                })
                .collect(),
        };
        let given = |row: usize, class: usize| classification::probability(probabilities, classes, row, class);
        let brier = |row: usize| match classes {
            2 => (probabilities[row] - f64::from(truth[row])).powi(2),
            _ => (0..classes)
                .map(|class| (given(row, class) - f64::from(u8::from(class == usize::from(truth[row])))).powi(2))
                .sum(),
        };
        let log_loss =
            |row: usize| -given(row, usize::from(truth[row])).clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN).ln();
        let calibration = |row: usize| {
            let (probability, hit) = match classes {
                2 => (probabilities[row], truth[row] == 1),
                _ => {
                    let top = classification::predicted(probabilities, classes, None, row);
                    (given(row, top), top == usize::from(truth[row]))
                }
            };
            (((probability * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1) as u8, probability, hit)
        };
        let predicted = |row| classification::predicted(probabilities, classes, threshold, row) as u16;
        Classes {
            classes,
            truth: truth.to_vec(),
            predicted: rows.clone().map(predicted).collect(),
            ranked,
            brier: rows.clone().map(brier).collect(),
            log_loss: rows.clone().map(log_loss).collect(),
            calibration: rows.map(calibration).collect(),
        }
    }

    fn metrics(&self, counts: &[u32]) -> Vec<f64> {
        let mut table = vec![vec![0; self.classes]; self.classes];
        let mut bins = [(0.0, 0.0); CALIBRATION_BINS];
        let mut rows = 0_u64;
        for (row, &count) in counts.iter().enumerate() {
            table[usize::from(self.truth[row])][usize::from(self.predicted[row])] += u64::from(count);
            let (bin, probability, hit) = self.calibration[row];
            bins[usize::from(bin)].0 += probability * f64::from(count);
            bins[usize::from(bin)].1 += if hit { f64::from(count) } else { 0.0 };
            rows += u64::from(count);
        }
        let confusion = Confusion { counts: table };
        let (precision, recall, f1) = confusion.precision_recall_f1();
        let error: f64 = bins.iter().map(|(sum, hits)| (sum - hits).abs()).sum();
        let area = |of: fn(&Ranked, &[u32]) -> f64| {
            self.ranked.iter().map(|ranked| of(ranked, counts)).sum::<f64>() / self.ranked.len() as f64
        };
        vec![
            confusion.accuracy(),
            confusion.balanced_accuracy(),
            mean(&self.brier, counts),
            error / rows as f64,
            f1,
            mean(&self.log_loss, counts),
            confusion.mcc(),
            area(Ranked::average_precision),
            precision,
            recall,
            area(Ranked::roc_auc),
        ]
    }
}

impl Values {
    fn new(predicted: &[f64], actual: &[f64]) -> Values {
        let errors: Vec<f64> = predicted.iter().zip(actual).map(|(predicted, actual)| predicted - actual).collect();
        let middle = actual.iter().sum::<f64>() / actual.len().max(1) as f64;
        let mut by_size: Vec<u32> = (0..).take(errors.len()).collect();
        by_size.sort_by(|a, b| errors[*a as usize].abs().total_cmp(&errors[*b as usize].abs()));
        Values {
            relative: errors.iter().zip(actual).map(|(error, of)| error.abs() / of.abs().max(f64::EPSILON)).collect(),
            centred: actual.iter().map(|actual| actual - middle).collect(),
            errors,
            by_size,
        }
    }

    fn metrics(&self, counts: &[u32]) -> Vec<f64> {
        let rows: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let (mut sum, mut sizes, mut squares) = (0.0, 0.0, 0.0);
        let (mut actual, mut actual_squares) = (0.0, 0.0);
        for ((error, centred), count) in self.errors.iter().zip(&self.centred).zip(counts) {
            let count = f64::from(*count);
            sum += error * count;
            sizes += error.abs() * count;
            squares += error * error * count;
            actual += centred * count;
            actual_squares += centred * centred * count;
        }
        let total = rows as f64;
        let spread = actual_squares - actual * actual / total;
        let largest = self.by_size.iter().rev().find(|row| counts[**row as usize] > 0);
        vec![
            sum / total,
            sizes / total,
            mean(&self.relative, counts),
            largest.map_or(f64::NAN, |row| self.errors[*row as usize].abs()),
            self.median(counts, rows),
            if spread > 0.0 { 1.0 - squares / spread } else { f64::NAN },
            (squares / total).sqrt(),
        ]
    }

    /// The median size of the errors.
    fn median(&self, counts: &[u32], rows: u64) -> f64 {
        if rows == 0 {
            return f64::NAN;
        }
        let (lower, upper) = ((rows - 1) / 2, rows / 2);
        let (mut before, mut below) = (0_u64, None);
        for row in &self.by_size {
            before += u64::from(counts[*row as usize]);
            let size = self.errors[*row as usize].abs();
            if before > lower && below.is_none() {
                below = Some(size);
            }
            if before > upper {
                return (below.unwrap_or(size) + size) / 2.0;
            }
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::samples::{algorithm, model, village, village_features};

    /// Rows that count twice or not at all are as rows that stand there twice or not at all.
    #[test]
    fn counted_rows_measure_as_repeated_ones() {
        let village = village(400);
        for (target, settings) in [
            ("yes", json!({"decision_tree": {"max_depth": 4}})),
            ("grade", json!({"decision_tree": {"max_depth": 4}})),
            ("price", json!({"decision_tree": {"max_depth": 4}})),
        ] {
            let model = model(&village.slice(0, 300), target, &village_features(json!({})), &algorithm(settings));
            let mut all = Evaluator::new(&model);
            all.push(&model.predict(&village).unwrap(), &model.target().values(&village).unwrap());
            let weighted = Weighted::new(&all);
            for salt in [0, 1, 5] {
                let counts: Vec<u32> = (0..400).map(|row| if salt == 0 { 1 } else { (row * salt % 7) % 3 }).collect();
                let repeated: Vec<u32> =
                    (0..400).flat_map(|row| std::iter::repeat_n(row, counts[row as usize] as usize)).collect();
                let expected = all.select(&repeated).metrics();
                for (name, value) in weighted.names().iter().zip(weighted.metrics(&counts)) {
                    let expected = expected[*name];
                    let near = (value - expected).abs() <= 1e-9 * expected.abs().max(1.0);
                    assert!(near, "{target} {name}: {value} instead of {expected}");
                }
            }
        }
    }
}
