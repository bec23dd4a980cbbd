//! Linear models: fitted by smartcore, kept as coefficients.
//!
//! Penalties mean what they mean in scikit-learn: `alpha` of ridge, lasso and elastic net, and for logistic
//! regression `alpha = 1 / C`. The intercept is never penalised.

use gristmill_protocol::pipeline::Algorithm;
use gristmill_protocol::pipeline::steps::{ElasticNet, LogisticRegression};
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::elastic_net::{ElasticNet as SmartElasticNet, ElasticNetParameters};
use smartcore::linear::lasso::{Lasso as SmartLasso, LassoParameters};
use smartcore::linear::linear_regression::{
    LinearRegression as SmartLinear, LinearRegressionParameters, LinearRegressionSolverName,
};
use smartcore::linear::logistic_regression::{LogisticRegression as SmartLogistic, LogisticRegressionParameters};
use smartcore::linear::ridge_regression::{RidgeRegression, RidgeRegressionParameters};

use super::gram::Gram;
use super::training_set::TrainingSet;
use super::{TrainError, Unit, algorithm_name};
use crate::matrix::Matrix;

/// Relative duality gap at which the lasso and the elastic net stop. smartcore's own 1e-4 leaves the
/// coefficients right to two digits; this one to about four, for a few more steps.
const PENALTY_GAP: f64 = 1e-7;

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
        if outputs == 0 || (data.link != Link::Softmax && outputs != 1) || data.coefficients.len() % outputs != 0 {
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
        Algorithm::LogisticRegression(settings) => logistic(set, settings),
        Algorithm::Ridge(settings) if settings.alpha > 0.0 => ridge(set.products(), settings.alpha),
        Algorithm::LinearRegression(_) | Algorithm::Ridge(_) => least_squares(set.products()),
        Algorithm::Lasso(settings) => lasso(set.products(), settings.alpha),
        Algorithm::ElasticNet(settings) => elastic_net(set.products(), settings),
        Algorithm::DecisionTree(_) | Algorithm::RandomForest(_) => unreachable!("trees are grown elsewhere"),
    };
    let linear = linear.map_err(|error| TrainError::Fit { algorithm: name, message: error.to_string() })?;
    if !linear.intercepts.iter().chain(&linear.coefficients).all(|number| number.is_finite()) {
        return Err(TrainError::Diverged { algorithm: name });
    }
    Ok(Unit::Linear(linear))
}

type Failed = smartcore::error::Failed;

fn logistic(set: &TrainingSet, settings: &LogisticRegression) -> Result<Linear, Failed> {
    let (x, classes) = set.rows_and_classes();
    let parameters = LogisticRegressionParameters::default().with_alpha(settings.alpha);
    let model = SmartLogistic::fit(x, classes, parameters)?;
    let (coefficients, intercepts) = (model.coefficients(), model.intercept());
    let (outputs, columns) = coefficients.shape();
    Ok(Linear {
        link: if outputs == 1 { Link::Logistic } else { Link::Softmax },
        intercepts: (0..outputs).map(|output| *intercepts.get((output, 0))).collect(),
        coefficients: (0..outputs)
            .flat_map(|output| (0..columns).map(move |column| *coefficients.get((output, column))))
            .collect(),
    })
}

/// Minimises ‖y - Xw‖²; of several solutions the shortest.
fn least_squares(gram: &Gram) -> Result<Linear, Failed> {
    let parameters = LinearRegressionParameters::default().with_solver(LinearRegressionSolverName::SVD);
    let model = SmartLinear::fit(&gram.features(), gram.target(), parameters)?;
    Ok(through_means(gram, model.coefficients()))
}

/// Minimises ‖y - Xw‖² + alpha ‖w‖².
fn ridge(gram: &Gram, alpha: f64) -> Result<Linear, Failed> {
    let parameters = RidgeRegressionParameters::default().with_alpha(alpha).with_normalize(false);
    let model = RidgeRegression::fit(&gram.features(), gram.target(), parameters)?;
    Ok(through_means(gram, model.coefficients()))
}

/// Minimises ‖y - Xw‖² / 2n + alpha ‖w‖₁. smartcore minimises ‖y - Xw‖² + alpha · rows · ‖w‖₁.
fn lasso(gram: &Gram, alpha: f64) -> Result<Linear, Failed> {
    let parameters = LassoParameters::default()
        .with_alpha(2.0 * alpha * gram.rows as f64 / gram.lines() as f64)
        .with_normalize(false)
        .with_tol(PENALTY_GAP);
    let model = SmartLasso::fit(&gram.features(), gram.target(), parameters)?;
    Ok(through_means(gram, model.coefficients()))
}

/// Minimises ‖y - Xw‖² / 2n + alpha · r · ‖w‖₁ + alpha · (1 - r) · ‖w‖² / 2, where r is the share of L1.
/// smartcore minimises ‖y - Xw‖² + A · R · rows · ‖w‖₁ + A · (1 - R) · rows · ‖w‖².
fn elastic_net(gram: &Gram, settings: &ElasticNet) -> Result<Linear, Failed> {
    let (alpha, share) = (settings.alpha, settings.l1_ratio);
    let parameters = ElasticNetParameters::default()
        .with_alpha(alpha * (1.0 + share) * gram.rows as f64 / gram.lines() as f64)
        .with_l1_ratio(2.0 * share / (1.0 + share))
        .with_normalize(false)
        .with_tol(PENALTY_GAP);
    let model = SmartElasticNet::fit(&gram.features(), gram.target(), parameters)?;
    Ok(through_means(gram, model.coefficients()))
}

/// The centred solution, moved so that the means predict the mean.
fn through_means(gram: &Gram, coefficients: &DenseMatrix<f64>) -> Linear {
    let coefficients: Vec<f64> = (0..gram.means.len()).map(|column| *coefficients.get((column, 0))).collect();
    let explained: f64 = coefficients.iter().zip(&gram.means).map(|(w, mean)| w * mean).sum();
    Linear { link: Link::Identity, intercepts: vec![gram.target_mean - explained], coefficients }
}
