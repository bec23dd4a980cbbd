//! Estimators that keep rows or their sums: nearest neighbours and naive Bayes.

use gristmill_learn::bayes::GaussianSums;
use gristmill_learn::matrix::{Layout, Matrix};
use gristmill_learn::neighbors::{Neighbors, Settings, Targets};
use gristmill_learn::refusal::Refusal;
use gristmill_protocol::pipeline::Learning;
use gristmill_protocol::pipeline::steps::KNearestNeighbors;

use super::training_set::TrainingSet;
use super::{TrainError, Unit};

/// Rows that are handed to naive Bayes at a time.
const BLOCK_ROWS: usize = 65_536;

/// Keeps the training rows.
pub(super) fn remember(set: &TrainingSet, settings: &KNearestNeighbors) -> Result<Unit, TrainError> {
    let (matrix, labels, learning) = set.matrix_and_labels();
    let targets = match learning {
        Learning::Regression | Learning::Clustering => Targets::Numbers(labels.to_vec()),
        Learning::Classification => Targets::Classes {
            // Two classes have one output.
            classes: set.outputs().max(2) as u32,
            labels: labels.iter().map(|&label| label as u32).collect(),
        },
    };
    let settings = Settings { neighbors: settings.neighbors, by_distance: settings.by_distance };
    Neighbors::fit(settings, matrix.clone(), targets)
        .map(Unit::Neighbors)
        .map_err(|error| refused(error, "k_nearest_neighbors"))
}

/// Means and variances of each class.
pub(super) fn bayes(set: &TrainingSet) -> Result<Unit, TrainError> {
    let (matrix, labels, _) = set.matrix_and_labels();
    let name = "naive_bayes";
    let columns = matrix.columns();
    let mut sums = GaussianSums::new(columns, set.outputs().max(2) as u32).map_err(|error| refused(error, name))?;
    for first in (0..matrix.rows()).step_by(BLOCK_ROWS) {
        let rows = BLOCK_ROWS.min(matrix.rows() - first);
        let mut block = Matrix::zeros(rows, columns, Layout::Rows);
        for row in 0..rows {
            (0..columns).for_each(|column| block.set(row, column, f64::from(matrix.get(first + row, column))));
        }
        let classes: Vec<u32> = labels[first..first + rows].iter().map(|&label| label as u32).collect();
        let weights = set.weights().map(|weights| &weights[first..first + rows]);
        sums.add(&block, &classes, weights).map_err(|error| refused(error, name))?;
    }
    sums.finish().map(Unit::Bayes).map_err(|error| refused(error, name))
}

fn refused(error: Refusal, algorithm: &'static str) -> TrainError {
    TrainError::Fit { algorithm, message: error.to_string() }
}
