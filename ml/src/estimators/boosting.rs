//! Gradient boosting: from a pipeline's settings to [`gristmill_learn::boost`] and back.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use gristmill_learn::boost::{self, BoostError, Data, Loss, Settings};
use gristmill_learn::matrix::{Layout, Matrix};
use gristmill_protocol::pipeline::Learning;
use gristmill_protocol::pipeline::steps::{EarlyStopping, GradientBoosting, RegressionLoss};

use super::training_set::TrainingSet;
use super::{Control, TrainError, Unit};
use crate::hash::mix;
use crate::target::Target;

const NAME: &str = "gradient_boosting";

/// Checks the settings, and that the loss fits what is learned.
pub(super) fn check(settings: &GradientBoosting, target: &Target) -> Result<(), TrainError> {
    if settings.loss.is_some() && target.learning() == Learning::Classification {
        return Err(TrainError::Setting {
            algorithm: NAME,
            name: "loss",
            value: "set".to_owned(),
            wanted: "left out for classes, which are learned by their log loss",
        });
    }
    if let Some(EarlyStopping { validation_share, .. }) = &settings.early_stopping
        && !(*validation_share > 0.0 && *validation_share < 1.0)
    {
        return Err(TrainError::Setting {
            algorithm: NAME,
            name: "validation_share",
            value: validation_share.to_string(),
            wanted: "between 0 and 1",
        });
    }
    boost_settings(settings, target.learning(), target.outputs()).check().map_err(failure)
}

/// The settings in the words of the learning crate.
fn boost_settings(settings: &GradientBoosting, learning: Learning, outputs: usize) -> Settings {
    Settings {
        loss: match (learning, settings.loss.unwrap_or(RegressionLoss::Squared)) {
            (Learning::Classification, _) if outputs == 1 => Loss::Logistic,
            (Learning::Classification, _) => Loss::Softmax { classes: outputs as u32 },
            (Learning::Regression | Learning::Clustering, RegressionLoss::Squared) => Loss::Squared,
            (Learning::Regression | Learning::Clustering, RegressionLoss::Absolute) => Loss::Absolute,
            (Learning::Regression | Learning::Clustering, RegressionLoss::Poisson) => Loss::Poisson,
        },
        iterations_max: settings.iterations,
        learning_rate: settings.learning_rate,
        leaves_max: settings.max_leaves,
        depth_max: settings.max_depth.map(u32::from),
        min_samples_leaf: settings.min_samples_leaf,
        l2: settings.l2,
        rows_share: settings.subsample,
        columns_share: settings.colsample,
        patience: settings.early_stopping.as_ref().map(|stopping| stopping.rounds),
        ..Settings::default()
    }
}

/// Boosts on the whole set, or with early stopping on what isn't kept apart.
pub(super) fn fit(
    set: &TrainingSet,
    settings: &GradientBoosting,
    seed: u64,
    control: &Control<'_>,
) -> Result<Unit, TrainError> {
    let (matrix, labels, learning) = set.matrix_and_labels();
    let boost = boost_settings(settings, learning, set.outputs());
    let threads = rayon::ThreadPoolBuilder::new().num_threads(control.threads.max(1)).build();
    let threads = threads.map_err(|error| TrainError::Fit { algorithm: NAME, message: error.to_string() })?;
    let watch = |round: &boost::Round| {
        (control.progress)(round.iteration, round.iterations_max);
        if control.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let weights = set.weights();
    let fitted = threads.install(|| match &settings.early_stopping {
        None => boost::fit(&boost, Data { matrix, labels, weights }, None, seed, watch),
        Some(stopping) => {
            let (learned, kept) = part(matrix.rows(), stopping.validation_share, seed);
            let (train, train_labels) = take(matrix, labels, &learned);
            let (held, held_labels) = take(matrix, labels, &kept);
            let of = |rows: &[usize]| weights.map(|weights| rows.iter().map(|&row| weights[row]).collect::<Vec<f64>>());
            let (train_weights, held_weights) = (of(&learned), of(&kept));
            let data = Data { matrix: &train, labels: &train_labels, weights: train_weights.as_deref() };
            let validation = Data { matrix: &held, labels: &held_labels, weights: held_weights.as_deref() };
            boost::fit(&boost, data, Some(validation), seed, watch)
        }
    });
    let fitted = fitted.map_err(failure)?;
    Ok(Unit::Boosted { model: fitted.model, importances: fitted.importances })
}

/// Which rows are learned from and which are kept apart: by a hash of the seed and the row's number, so that
/// neighbours in time or place fall on both sides. Each side has a row where there are two.
fn part(rows: usize, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let threshold = (share * u64::MAX as f64) as u64;
    let (mut kept, mut learned): (Vec<usize>, Vec<usize>) =
        (0..rows).partition(|&row| mix(mix(seed).wrapping_add(row as u64)) < threshold);
    if kept.is_empty() && learned.len() > 1 {
        kept.extend(learned.pop());
    }
    if learned.is_empty() && kept.len() > 1 {
        learned.extend(kept.pop());
    }
    (learned, kept)
}

/// Some rows of a matrix and their labels.
fn take(matrix: &Matrix<f32>, labels: &[f64], rows: &[usize]) -> (Matrix<f32>, Vec<f64>) {
    let mut taken = Matrix::zeros(rows.len(), matrix.columns(), Layout::Columns);
    for column in 0..matrix.columns() {
        for (at, &row) in rows.iter().enumerate() {
            taken.set(at, column, matrix.get(row, column));
        }
    }
    (taken, rows.iter().map(|&row| labels[row]).collect())
}

fn failure(error: BoostError) -> TrainError {
    match error {
        BoostError::Setting { name, value, wanted } => TrainError::Setting { algorithm: NAME, name, value, wanted },
        BoostError::Stopped => TrainError::Stopped,
        other => TrainError::Fit { algorithm: NAME, message: other.to_string() },
    }
}
