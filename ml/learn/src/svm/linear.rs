//! A flat margin, by coordinate descent in the dual (Hsieh et al. 2008, "A dual coordinate descent method
//! for large-scale linear SVM"), as in LIBLINEAR: the intercept is one more coefficient, and penalised.

use serde::{Deserialize, Serialize};

use super::{check_positive, signs};
use crate::matrix::Matrix;
use crate::refusal::{Refusal, check_rows, check_weights};
use crate::splitmix::SplitMix;

/// What rows on the wrong side of the margin cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hinge {
    /// Their distance.
    Plain,
    /// Its square.
    Squared,
}

/// How to fit. The defaults are those of scikit-learn's `LinearSVC`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearSettings {
    pub hinge: Hinge,
    /// What errors cost against coefficients.
    pub c: f64,
    /// It has arrived when no step could move by more.
    pub tolerance: f64,
    /// Passes over the rows at the most.
    pub passes_max: u32,
}

impl Default for LinearSettings {
    fn default() -> LinearSettings {
        LinearSettings { hinge: Hinge::Squared, c: 1.0, tolerance: 1e-4, passes_max: 1_000 }
    }
}

/// A fitted machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LinearSvmData", into = "LinearSvmData")]
pub struct LinearSvm {
    coefficients: Vec<f64>,
    intercept: f64,
}

#[derive(Serialize, Deserialize)]
struct LinearSvmData {
    coefficients: Vec<f64>,
    intercept: f64,
}

impl From<LinearSvm> for LinearSvmData {
    fn from(model: LinearSvm) -> LinearSvmData {
        LinearSvmData { coefficients: model.coefficients, intercept: model.intercept }
    }
}

impl TryFrom<LinearSvmData> for LinearSvm {
    type Error = String;

    fn try_from(data: LinearSvmData) -> Result<LinearSvm, String> {
        let finite = data.coefficients.iter().chain([&data.intercept]).all(|number| number.is_finite());
        if data.coefficients.is_empty() || !finite {
            return Err("a support vector machine has no coefficients, or one that is not a number".to_owned());
        }
        Ok(LinearSvm { coefficients: data.coefficients, intercept: data.intercept })
    }
}

impl LinearSvm {
    /// Fits rows (laid out in rows) of the classes 0 and 1. Weights multiply `c`.
    pub fn fit(
        settings: &LinearSettings,
        rows: &Matrix<f64>,
        labels: &[u32],
        weights: Option<&[f64]>,
        seed: u64,
    ) -> Result<LinearSvm, Refusal> {
        check_positive("c", settings.c)?;
        check_positive("tolerance", settings.tolerance)?;
        check_rows("a support vector machine", rows, 2, usize::MAX)?;
        check_weights(rows.rows(), weights)?;
        let signs = signs(rows.rows(), labels)?;
        let cost = |row: usize| settings.c * weights.map_or(1.0, |weights| weights[row]);
        // The upper bound of a row's share, and what is added to its square.
        let terms = |row: usize| match settings.hinge {
            Hinge::Plain => (cost(row), 0.0),
            Hinge::Squared => (f64::INFINITY, 0.5 / cost(row)),
        };
        let mut coefficients = vec![0.0; rows.columns()];
        let mut intercept = 0.0;
        let mut shares = vec![0.0; rows.rows()];
        let squares: Vec<f64> =
            (0..rows.rows()).map(|row| 1.0 + rows.row(row).iter().map(|value| value * value).sum::<f64>()).collect();
        // A row without weight has no share.
        let mut order: Vec<usize> = (0..rows.rows()).filter(|&row| cost(row) > 0.0).collect();
        let mut chance = SplitMix::at(seed, 0);
        for _ in 0..settings.passes_max {
            let all = order.len();
            for at in 0..all {
                order.swap(at, at + chance.below(all - at));
            }
            let (mut highest, mut lowest) = (f64::NEG_INFINITY, f64::INFINITY);
            for &row in &order {
                let (bound, added) = terms(row);
                let values = rows.row(row);
                let score = intercept + values.iter().zip(&coefficients).map(|(x, c)| x * c).sum::<f64>();
                let slope = signs[row] * score - 1.0 + shares[row] * added;
                // At a bound only the slope away from it counts.
                let open = match shares[row] {
                    0.0 => slope.min(0.0),
                    share if share == bound => slope.max(0.0),
                    _ => slope,
                };
                highest = open.max(highest);
                lowest = open.min(lowest);
                if open.abs() > 1e-12 {
                    let share = (shares[row] - slope / (squares[row] + added)).clamp(0.0, bound);
                    let step = (share - shares[row]) * signs[row];
                    shares[row] = share;
                    intercept += step;
                    coefficients.iter_mut().zip(values).for_each(|(c, x)| *c += step * x);
                }
            }
            if highest - lowest <= settings.tolerance {
                return Ok(LinearSvm { coefficients, intercept });
            }
        }
        Err(Refusal::NoSolution { method: "a support vector machine", steps: settings.passes_max as usize })
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.coefficients.len()
    }

    /// The coefficient of each column.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// What is added to every score.
    pub fn intercept(&self) -> f64 {
        self.intercept
    }

    /// The score of each row of a matrix laid out in rows: class 1 over 0.
    pub fn scores(&self, rows: &Matrix<f64>) -> Vec<f64> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let score =
            |row| rows.row(row).iter().zip(&self.coefficients).map(|(x, c)| x * c).sum::<f64>() + self.intercept;
        (0..rows.rows()).map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;
    use crate::samples;

    fn fit(settings: &LinearSettings, weights: Option<&[f64]>) -> LinearSvm {
        let rows = samples::matrix(1, 500, 4, Layout::Rows);
        let labels: Vec<u32> = samples::two_classes(&rows).iter().map(|&label| label as u32).collect();
        LinearSvm::fit(settings, &samples::wide(&rows), &labels, weights, 1).unwrap()
    }

    /// `LinearSVC(tol=1e-8)` with either loss.
    #[test]
    fn coefficients_are_those_of_scikit_learn() {
        let settings = LinearSettings { tolerance: 1e-8, passes_max: 1_000_000, ..LinearSettings::default() };
        let squared = [1.5848550828, -0.066833672, -0.0557324807, -0.0806259766, 0.0845141611];
        let plain = [3.112243518, -0.1549586856, -0.1196680753, -0.1973690403, 0.1657176699];
        for (hinge, expected) in [(Hinge::Squared, squared), (Hinge::Plain, plain)] {
            let model = fit(&LinearSettings { hinge, ..settings }, None);
            let ours: Vec<f64> = model.coefficients.iter().copied().chain([model.intercept]).collect();
            assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?}");
        }
    }

    #[test]
    fn weights_multiply_c() {
        let doubled = fit(&LinearSettings { c: 2.0, ..LinearSettings::default() }, None);
        assert_eq!(fit(&LinearSettings::default(), Some(&[2.0; 500])), doubled);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let rows = samples::blobs();
        let refused = |settings: &LinearSettings, labels: &[u32]| {
            LinearSvm::fit(settings, &rows, labels, None, 1).unwrap_err().to_string()
        };
        let settings = LinearSettings::default();
        assert_eq!(
            refused(&settings, &[1; 500]),
            "the label of row 0 is 1, and must be 0 in some rows and 1 in others"
        );
        assert_eq!(refused(&LinearSettings { c: 0.0, ..settings }, &[1; 500]), "`c` is 0, and must be over 0");
        assert!(serde_json::from_str::<LinearSvm>(r#"{"coefficients": [], "intercept": 0}"#).is_err());
    }
}
