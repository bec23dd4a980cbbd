//! Linear models: fitted by smartcore, kept as coefficients.
//!
//! Penalties mean what they mean in scikit-learn: `alpha` of ridge, lasso and elastic net, and for logistic
//! regression `alpha = 1 / C`. The intercept is never penalised.
//!
//! Logistic regression of two classes runs Newton's method: each step is a ridge regression with weighted
//! rows (iteratively reweighted least squares; McCullagh and Nelder 1989, section 2.5), which smartcore
//! solves on the stand-in of [`super::gram`]. It takes some eight passes over sparse rows; smartcore's own
//! `LogisticRegression` walks a dense table up to a thousand times, which took over five minutes on 262,000
//! rows and 138 columns. It still does more than two classes.

use gristmill_protocol::pipeline::Algorithm;
use gristmill_protocol::pipeline::steps::{ElasticNet, LogisticRegression};
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::elastic_net::{ElasticNet as SmartElasticNet, ElasticNetParameters};
use smartcore::linear::lasso::{Lasso as SmartLasso, LassoParameters};
use smartcore::linear::logistic_regression::{LogisticRegression as SmartLogistic, LogisticRegressionParameters};
use smartcore::linear::ridge_regression::{RidgeRegression, RidgeRegressionParameters};

use super::gram::{Gram, GramBuilder};
use super::training_set::TrainingSet;
use super::{TrainError, Unit, algorithm_name};
use crate::matrix::Matrix;

/// Relative duality gap at which the lasso and the elastic net stop. smartcore's own 1e-4 leaves the
/// coefficients right to two digits; this one to about four, for a few more steps.
const PENALTY_GAP: f64 = 1e-7;

/// Penalty on coefficients of unit-length columns when none is asked for: where columns are combinations of
/// others it picks the shortest solution, and elsewhere it changes the ninth digit.
const TINY_PENALTY: f64 = 1e-9;
/// Newton steps at the most. Ten are usual; data that classes are apart in would go on for ever.
const NEWTON_STEPS_MAX: usize = 50;
/// Halvings of a Newton step at the most: past these it moves nothing.
const HALVINGS_MAX: usize = 30;
/// Relative fall of the loss under which Newton's method has arrived.
const NEWTON_FALL_MIN: f64 = 1e-12;
/// Smallest weight of a row, so that rows predicted with certainty don't divide by zero.
const WEIGHT_MIN: f64 = 1e-12;

/// What becomes of a row's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The sum is the prediction.
    Identity,
    /// The probability of the positive class is `1 / (1 + e^-sum)`.
    Logistic,
    /// One sum a class; their exponentials, normalised, are the probabilities.
    Softmax,
}

/// Coefficients and intercepts, one set for each output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LinearData", into = "LinearData")]
pub struct Linear {
    link: Link,
    intercepts: Vec<f64>,
    /// The coefficients of the first output, then of the next.
    coefficients: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct LinearData {
    link: Link,
    intercepts: Vec<f64>,
    coefficients: Vec<f64>,
}

impl From<Linear> for LinearData {
    fn from(linear: Linear) -> LinearData {
        LinearData { link: linear.link, intercepts: linear.intercepts, coefficients: linear.coefficients }
    }
}

impl TryFrom<LinearData> for Linear {
    type Error = String;

    fn try_from(data: LinearData) -> Result<Linear, String> {
        let outputs = data.intercepts.len();
        if outputs == 0
            || (data.link != Link::Softmax && outputs != 1)
            || !data.coefficients.len().is_multiple_of(outputs)
        {
            return Err(format!("{} coefficients don't make {outputs} outputs", data.coefficients.len()));
        }
        if !data.intercepts.iter().chain(&data.coefficients).all(|number| number.is_finite()) {
            return Err("a coefficient is not a number".to_owned());
        }
        Ok(Linear { link: data.link, intercepts: data.intercepts, coefficients: data.coefficients })
    }
}

impl Linear {
    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.coefficients.len() / self.intercepts.len()
    }

    /// How many scores it gives a row.
    pub fn outputs(&self) -> usize {
        self.intercepts.len()
    }

    /// The coefficients of each output.
    pub fn coefficients(&self) -> impl Iterator<Item = &[f64]> {
        // Columns are never zero: a model without features is refused.
        self.coefficients.chunks(self.columns().max(1))
    }

    /// What becomes of a row's sum.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The intercept of each output.
    pub fn intercepts(&self) -> &[f64] {
        &self.intercepts
    }

    /// The scores of each row of a matrix laid out in rows, side by side.
    pub fn predict(&self, rows: &Matrix<f64>) -> Vec<f64> {
        let mut scores = Vec::with_capacity(rows.rows() * self.outputs());
        for row in 0..rows.rows() {
            let row = rows.row(row);
            let first = scores.len();
            for (coefficients, intercept) in self.coefficients().zip(&self.intercepts) {
                scores.push(coefficients.iter().zip(row).map(|(w, x)| w * x).sum::<f64>() + intercept);
            }
            match self.link {
                Link::Identity => {}
                Link::Logistic => scores[first] = 1.0 / (1.0 + (-scores[first]).exp()),
                Link::Softmax => softmax(&mut scores[first..]),
            }
        }
        scores
    }
}

impl Linear {
    fn sum_sparse(&self, row: impl Iterator<Item = (usize, f64)>) -> f64 {
        row.map(|(column, value)| self.coefficients[column] * value).sum::<f64>() + self.intercepts[0]
    }

    /// Halfway to another model.
    fn between(&self, other: &Linear) -> Linear {
        let middle = |ours: &[f64], theirs: &[f64]| ours.iter().zip(theirs).map(|(a, b)| (a + b) / 2.0).collect();
        Linear {
            link: self.link,
            intercepts: middle(&self.intercepts, &other.intercepts),
            coefficients: middle(&self.coefficients, &other.coefficients),
        }
    }
}

fn softmax(sums: &mut [f64]) {
    let largest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    sums.iter_mut().for_each(|sum| *sum = (*sum - largest).exp());
    let total: f64 = sums.iter().sum();
    sums.iter_mut().for_each(|sum| *sum /= total);
}

/// Fits a linear model.
pub(super) fn fit(set: &TrainingSet, algorithm: &Algorithm) -> Result<Unit, TrainError> {
    let name = algorithm_name(algorithm);
    let linear = match algorithm {
        Algorithm::LogisticRegression(settings) if set.outputs() == 1 => newton(set, settings.alpha),
        Algorithm::LogisticRegression(settings) => multinomial(set, settings),
        Algorithm::LinearRegression(_) => ridge(set.products(), 0.0),
        Algorithm::Ridge(settings) => ridge(set.products(), settings.alpha),
        Algorithm::Lasso(settings) => lasso(set.products(), settings.alpha),
        Algorithm::ElasticNet(settings) => elastic_net(set.products(), settings),
        _ => unreachable!("what isn't linear is fitted elsewhere"),
    };
    let linear = linear.map_err(|error| TrainError::Fit { algorithm: name, message: error.to_string() })?;
    if !linear.intercepts.iter().chain(&linear.coefficients).all(|number| number.is_finite()) {
        return Err(TrainError::Diverged { algorithm: name });
    }
    Ok(Unit::Linear(linear))
}

type Failed = smartcore::error::Failed;

/// Minimises the sum of the log losses + alpha ‖w‖² / 2, where w are the coefficients of all classes.
fn multinomial(set: &TrainingSet, settings: &LogisticRegression) -> Result<Linear, Failed> {
    let (x, classes) = set.rows_and_classes();
    let parameters = LogisticRegressionParameters::default().with_alpha(settings.alpha);
    let model = SmartLogistic::fit(x, classes, parameters)?;
    let (coefficients, intercepts) = (model.coefficients(), model.intercept());
    let (outputs, columns) = coefficients.shape();
    Ok(Linear {
        link: Link::Softmax,
        intercepts: (0..outputs).map(|output| *intercepts.get((output, 0))).collect(),
        coefficients: (0..outputs)
            .flat_map(|output| (0..columns).map(move |column| *coefficients.get((output, column))))
            .collect(),
    })
}

/// Minimises the weighted sum of the log losses + alpha ‖w‖² / 2.
fn newton(set: &TrainingSet, alpha: f64) -> Result<Linear, Failed> {
    let rows = set.sparse_rows();
    let weight_of = |row: usize| set.weights().map_or(1.0, |weights| weights[row]);
    let loss = |linear: &Linear| {
        let losses = (0..rows.count()).map(|row| {
            let sum = linear.sum_sparse(rows.row(row));
            // ln(1 + e^sum) - y sum, without overflow.
            weight_of(row) * (sum.max(0.0) + (-sum.abs()).exp().ln_1p() - f64::from(rows.classes[row]) * sum)
        });
        let squares: f64 = linear.coefficients.iter().map(|w| w * w).sum();
        losses.sum::<f64>() + alpha * squares / 2.0
    };
    let mut best = Linear { link: Link::Logistic, intercepts: vec![0.0], coefficients: vec![0.0; set.columns()] };
    let mut best_loss = loss(&best);
    let mut line: Vec<(usize, f64)> = Vec::with_capacity(set.columns() + 1);
    for _ in 0..NEWTON_STEPS_MAX {
        let mut gram = GramBuilder::unshifted(set.columns());
        for row in 0..rows.count() {
            let sum = best.sum_sparse(rows.row(row));
            let probability = 1.0 / (1.0 + (-sum).exp());
            let weight = (probability * (1.0 - probability)).max(WEIGHT_MIN);
            line.clear();
            line.extend(rows.row(row));
            line.push((set.columns(), sum + (f64::from(rows.classes[row]) - probability) / weight));
            gram.add(&line, weight * weight_of(row));
        }
        let step = Linear { link: Link::Logistic, ..ridge(&gram.finish(), alpha)? };
        let (mut next, mut next_loss) = (step.clone(), loss(&step));
        // A step too far is halved until it doesn't raise the loss.
        let mut halvings = 0;
        while is_worse(next_loss, best_loss) && halvings < HALVINGS_MAX {
            next = next.between(&best);
            next_loss = loss(&next);
            halvings += 1;
        }
        if is_worse(next_loss, best_loss) {
            break;
        }
        let arrived = best_loss - next_loss <= NEWTON_FALL_MIN * best_loss;
        (best, best_loss) = (next, next_loss);
        if arrived {
            break;
        }
    }
    // The rows hold values less their shifts; the intercept takes them back.
    let moved: f64 = best.coefficients.iter().zip(&rows.shifts).map(|(w, shift)| w * shift).sum();
    best.intercepts[0] -= moved;
    Ok(best)
}

/// Whether a loss is higher than another, or not a number.
fn is_worse(loss: f64, than: f64) -> bool {
    loss > than || loss.is_nan()
}

/// Minimises ‖y - Xw‖² + alpha ‖w‖²; without a penalty it takes the shortest of several solutions.
fn ridge(gram: &Gram, alpha: f64) -> Result<Linear, Failed> {
    if alpha > 0.0 {
        let parameters = RidgeRegressionParameters::default().with_alpha(alpha).with_normalize(false);
        let model = RidgeRegression::fit(&gram.features(), gram.target(), parameters)?;
        return Ok(through_means(gram, column_of(model.coefficients())));
    }
    let parameters = RidgeRegressionParameters::default().with_alpha(TINY_PENALTY).with_normalize(false);
    let model = RidgeRegression::fit(&gram.unit_features(), gram.target(), parameters)?;
    let coefficients = column_of(model.coefficients()).into_iter().zip(&gram.lengths);
    Ok(through_means(gram, coefficients.map(|(w, &length)| if length > 0.0 { w / length } else { 0.0 }).collect()))
}

/// Minimises ‖y - Xw‖² / 2n + alpha ‖w‖₁. smartcore minimises ‖y - Xw‖² + alpha · rows · ‖w‖₁.
fn lasso(gram: &Gram, alpha: f64) -> Result<Linear, Failed> {
    let parameters = LassoParameters::default()
        .with_alpha(2.0 * alpha * gram.weight / gram.lines() as f64)
        .with_normalize(false)
        .with_tol(PENALTY_GAP);
    let model = SmartLasso::fit(&gram.features(), gram.target(), parameters)?;
    Ok(through_means(gram, column_of(model.coefficients())))
}

/// Minimises ‖y - Xw‖² / 2n + alpha · r · ‖w‖₁ + alpha · (1 - r) · ‖w‖² / 2, where r is the share of L1.
/// smartcore minimises ‖y - Xw‖² + A · R · rows · ‖w‖₁ + A · (1 - R) · rows · ‖w‖².
fn elastic_net(gram: &Gram, settings: &ElasticNet) -> Result<Linear, Failed> {
    let (alpha, share) = (settings.alpha, settings.l1_ratio);
    let parameters = ElasticNetParameters::default()
        .with_alpha(alpha * (1.0 + share) * gram.weight / gram.lines() as f64)
        .with_l1_ratio(2.0 * share / (1.0 + share))
        .with_normalize(false)
        .with_tol(PENALTY_GAP);
    let model = SmartElasticNet::fit(&gram.features(), gram.target(), parameters)?;
    Ok(through_means(gram, column_of(model.coefficients())))
}

fn column_of(matrix: &DenseMatrix<f64>) -> Vec<f64> {
    (0..matrix.shape().0).map(|row| *matrix.get((row, 0))).collect()
}

/// The centred solution, moved so that the means predict the mean.
fn through_means(gram: &Gram, coefficients: Vec<f64>) -> Linear {
    let explained: f64 = coefficients.iter().zip(&gram.means).map(|(w, mean)| w * mean).sum();
    Linear { link: Link::Identity, intercepts: vec![gram.target_mean - explained], coefficients }
}
