//! What moved single predictions: Shapley values, exact for trees and linear models (see
//! [`gristmill_learn::explain`]), explained against the rows that the model is measured on.
//!
//! They are in the unit that adds up: the prediction itself of forests and of linear models of numbers, log-odds of
//! boosted and linear models of two classes, the logarithm for the loss `poisson`.

use arrow::array::RecordBatch;
use gristmill_learn::boost;
use gristmill_learn::explain::{ForestAttribution, LinearAttribution};
use gristmill_protocol::pipeline::Learning;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::AssessError;
use crate::estimators::{Estimator, Link};
use crate::matrix::{Layout, Matrix};
use crate::model::Model;

/// Rows of which the report shows each share.
const SHOWN_MAX: usize = 300;

/// What moved the predictions of some rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attributions {
    pub unit: Unit,
    /// What is predicted knowing nothing of a row.
    pub base: f64,
    pub rows: u64,
    /// The one that moves most first.
    pub inputs: Vec<Attributed>,
}

/// What shares are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Prediction,
    Probability,
    LogOdds,
    Logarithm,
}

/// How far an input moves predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attributed {
    pub name: String,
    /// The mean of the shares without their signs.
    pub mean_size: f64,
    /// Some rows' shares, each with where its value lies among those of all rows, 0 to 1; none where values have no
    /// order.
    pub shares: Vec<(f64, Option<f64>)>,
}

/// What shares are made by.
enum By<'a> {
    Trees { forest: ForestAttribution<'a>, rows: Matrix<f32>, scale: f64, start: f64 },
    Linear { linear: LinearAttribution, rows: Matrix<f64> },
}

/// Explains these rows; none for estimators whose shares aren't exact, for three classes and more, and where inputs
/// were mixed into components.
pub fn explain(model: &Model, rows: &RecordBatch, wanted: usize) -> Result<Option<Attributions>, AssessError> {
    let features = model.features();
    let columns = features.outputs().len();
    let narrow = || -> Result<Matrix<f32>, AssessError> {
        let mut matrix = Matrix::zeros(rows.num_rows(), columns, Layout::Rows);
        features.transform(rows, &mut matrix, 0)?;
        Ok(matrix)
    };
    if features.inputs_of_outputs().iter().any(|sources| sources.len() != 1) {
        return Ok(None);
    }
    let (by, unit) = match model.estimator() {
        Estimator::Trees(forests) if forests.len() == 1 => {
            let matrix = narrow()?;
            let forest = ForestAttribution::new(&forests[0], &matrix);
            let unit = match model.learning() {
                Learning::Classification => Unit::Probability,
                Learning::Regression | Learning::Clustering => Unit::Prediction,
            };
            (By::Trees { forest, rows: matrix, scale: 1.0 / forests[0].trees() as f64, start: 0.0 }, unit)
        }
        Estimator::Boosted(boosted) if boosted.outputs() == 1 => {
            let matrix = narrow()?;
            let forest = ForestAttribution::new(&boosted.trees()[0], &matrix);
            let unit = match boosted.link() {
                boost::Link::Identity => Unit::Prediction,
                boost::Link::Exponential => Unit::Logarithm,
                boost::Link::Logistic | boost::Link::Softmax => Unit::LogOdds,
            };
            (By::Trees { forest, rows: matrix, scale: 1.0, start: boosted.start()[0] }, unit)
        }
        Estimator::Linear(linear) if linear.outputs() == 1 => {
            let mut matrix: Matrix<f64> = Matrix::zeros(rows.num_rows(), columns, Layout::Rows);
            features.transform(rows, &mut matrix, 0)?;
            let mean = |column: usize| {
                (0..matrix.rows()).map(|row| matrix.get(row, column)).sum::<f64>() / matrix.rows().max(1) as f64
            };
            let means = (0..columns).map(mean).collect();
            let coefficients = linear.coefficients().next().unwrap_or_default().to_vec();
            let unit = match linear.link() {
                Link::Identity => Unit::Prediction,
                Link::Logistic | Link::Softmax => Unit::LogOdds,
            };
            let linear = LinearAttribution::new(coefficients, linear.intercepts()[0], means);
            (By::Linear { linear, rows: matrix }, unit)
        }
        _ => return Ok(None),
    };
    let explained: Vec<usize> = evenly(rows.num_rows(), wanted);
    let shares: Vec<Vec<f64>> = explained.par_iter().map(|&row| by.shares(row)).collect();
    let sources = features.inputs_of_outputs();
    let names: Vec<&str> = features.inputs().iter().map(|input| input.name.as_str()).collect();
    let shown: Vec<usize> = evenly(explained.len(), SHOWN_MAX);
    let attributed = |(input, name): (usize, &&str)| {
        let own: Vec<usize> = (0..columns).filter(|&column| sources[column] == [(input, 1.0)]).collect();
        let of_row = |shares: &Vec<f64>| own.iter().map(|&column| shares[column]).sum::<f64>();
        let all: Vec<f64> = shares.iter().map(of_row).collect();
        // Of several columns, such as one-hot ones, none says where a value lies.
        let places = match own.as_slice() {
            [column] => Some(by.places(*column)),
            _ => None,
        };
        let place = |at: usize| places.as_ref().and_then(|places| places[explained[at]]);
        Attributed {
            name: (*name).to_owned(),
            mean_size: all.iter().map(|share| share.abs()).sum::<f64>() / all.len().max(1) as f64,
            shares: shown.iter().map(|&at| (all[at], place(at))).collect(),
        }
    };
    let mut inputs: Vec<Attributed> = names.iter().enumerate().map(attributed).collect();
    inputs.sort_by(|a, b| b.mean_size.total_cmp(&a.mean_size));
    Ok(Some(Attributions { unit, base: by.base(), rows: explained.len() as u64, inputs }))
}

impl By<'_> {
    fn base(&self) -> f64 {
        match self {
            By::Trees { forest, scale, start, .. } => start + forest.base() * scale,
            By::Linear { linear, .. } => linear.base(),
        }
    }

    /// The shares of the columns in one row's prediction.
    fn shares(&self, row: usize) -> Vec<f64> {
        match self {
            By::Trees { forest, rows, scale, .. } => {
                forest.attribute(rows.row(row)).into_iter().map(|share| share * scale).collect()
            }
            By::Linear { linear, rows } => linear.attribute(rows.row(row)),
        }
    }

    /// Where each row's value of a column lies between the least and the greatest, by its rank.
    fn places(&self, column: usize) -> Vec<Option<f64>> {
        let values: Vec<f64> = match self {
            By::Trees { rows, .. } => (0..rows.rows()).map(|row| f64::from(rows.get(row, column))).collect(),
            By::Linear { rows, .. } => (0..rows.rows()).map(|row| rows.get(row, column)).collect(),
        };
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1).max(1) as f64;
        let place = |value: &f64| {
            let (below, upto) =
                (sorted.partition_point(|other| other < value), sorted.partition_point(|other| other <= value));
            (!value.is_nan()).then(|| ((below + upto).saturating_sub(1) as f64 / 2.0 / last).clamp(0.0, 1.0))
        };
        values.iter().map(place).collect()
    }
}

/// So many of the rows, evenly apart.
fn evenly(rows: usize, wanted: usize) -> Vec<usize> {
    let count = rows.min(wanted);
    (0..count).map(|at| at * rows / count).collect()
}
