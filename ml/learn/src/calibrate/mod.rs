//! From scores to probabilities that mean what they say, and from probabilities to decisions.
//!
//! Fit on rows that the model wasn't trained on: on its own it is surer than it will ever be again.

mod costs;
mod isotonic;
mod platt;
mod threshold;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use costs::{CostMatrix, CostsError};
pub use isotonic::Isotonic;
pub use platt::Platt;
pub use threshold::{Aim, Choice, Outcomes, ThresholdError, choose};

/// Which curve leads from scores to probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A sigmoid: two numbers, for few rows.
    Platt,
    /// Steps that never fall: any shape, from about a thousand rows on.
    Isotonic,
}

/// A fitted curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    Platt(Platt),
    Isotonic(Isotonic),
}

impl Curve {
    /// The probability of a score.
    pub fn probability(&self, score: f64) -> f64 {
        match self {
            Curve::Platt(platt) => platt.probability(score),
            Curve::Isotonic(isotonic) => isotonic.probability(score),
        }
    }
}

/// Why nothing could be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrateError {
    #[error("there are {scores} scores, {truth} rows of truth and {weights} weights for {classes} classes")]
    Shape { scores: usize, truth: usize, weights: usize, classes: usize },
    #[error("the score of row {row} is `{score}`")]
    Score { row: usize, score: f64 },
    #[error("the weight of row {row} is `{weight}`; it is a number of at least 0")]
    Weight { row: usize, weight: f64 },
    #[error("all or none of the rows to calibrate on are of class {class}")]
    OneClass { class: usize },
}

impl CalibrateError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            CalibrateError::OneClass { .. } => Some("calibrate on more rows, or on a stratified part"),
            _ => None,
        }
    }
}

/// One curve for two classes, or one a class against the rest for more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Curve>", into = "Vec<Curve>")]
pub struct Calibration {
    curves: Vec<Curve>,
}

impl From<Calibration> for Vec<Curve> {
    fn from(calibration: Calibration) -> Vec<Curve> {
        calibration.curves
    }
}

impl TryFrom<Vec<Curve>> for Calibration {
    type Error = String;

    fn try_from(curves: Vec<Curve>) -> Result<Calibration, String> {
        match curves.len() {
            0 | 2 => Err(format!(
                "a calibration has {} curves; it has one, or one for each of three or more classes",
                curves.len()
            )),
            _ => Ok(Calibration { curves }),
        }
    }
}

impl Calibration {
    /// Fits curves to scores, which are one a row for two classes (of class 1), else one a row and class, row by row.
    /// `truth` holds the number of each row's class. Weights are 1 where none are given.
    pub fn fit(
        method: Method,
        scores: &[f64],
        truth: &[u32],
        classes: usize,
        weights: Option<&[f64]>,
    ) -> Result<Calibration, CalibrateError> {
        let width = if classes == 2 { 1 } else { classes };
        let given = weights.map_or(truth.len(), <[f64]>::len);
        if classes < 2 || scores.len() != truth.len() * width || given != truth.len() {
            return Err(CalibrateError::Shape { scores: scores.len(), truth: truth.len(), weights: given, classes });
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(CalibrateError::Score { row: at / width, score: scores[at] });
        }
        let weight = |row: usize| weights.map_or(1.0, |weights| weights[row]);
        if let Some(row) = (0..truth.len()).find(|row| !(weight(*row) >= 0.0 && weight(*row).is_finite())) {
            return Err(CalibrateError::Weight { row, weight: weight(row) });
        }
        let curve = |column: usize| {
            let class = if classes == 2 { 1 } else { column };
            let row = |(row, label): (usize, &u32)| Row {
                score: scores[row * width + column],
                positive: *label as usize == class,
                weight: weight(row),
            };
            // Rows without weight say nothing.
            let rows: Vec<Row> = truth.iter().enumerate().map(row).filter(|row| row.weight > 0.0).collect();
            if rows.iter().all(|row| row.positive) || rows.iter().all(|row| !row.positive) {
                return Err(CalibrateError::OneClass { class });
            }
            Ok(match method {
                Method::Platt => Curve::Platt(Platt::fit(&rows)),
                Method::Isotonic => Curve::Isotonic(Isotonic::fit(rows)),
            })
        };
        Ok(Calibration { curves: (0..width).map(curve).collect::<Result<Vec<Curve>, CalibrateError>>()? })
    }

    /// The curves: one for two classes, else one a class.
    pub fn curves(&self) -> &[Curve] {
        &self.curves
    }

    /// Turns scores, laid out as for [`Calibration::fit`], into probabilities. For three classes and more each
    /// row is divided by its sum; where that is zero, all classes are equally likely, as in scikit-learn.
    /// Panics when the scores aren't whole rows.
    pub fn apply(&self, scores: &mut [f64]) {
        let width = self.curves.len();
        assert!(scores.len().is_multiple_of(width), "scores are whole rows of {width}");
        for row in scores.chunks_mut(width) {
            row.iter_mut().zip(&self.curves).for_each(|(score, curve)| *score = curve.probability(*score));
            if width > 1 {
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|p| *p = if sum > 0.0 { *p / sum } else { 1.0 / width as f64 });
            }
        }
    }
}

/// What a curve is fitted to.
#[derive(Clone, Copy, Debug)]
struct Row {
    score: f64,
    positive: bool,
    weight: f64,
}
