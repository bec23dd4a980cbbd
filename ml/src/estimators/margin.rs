//! Support vector machines: one for each class against the rest, with a curve that turns its scores into probabilities.
//!
//! The curve is Platt's, fitted on the scores of rows that the machine didn't learn from: five parts of the rows are
//! each scored by a machine of the other four, as in LIBSVM and scikit-learn's `SVC(probability=True)`.

use gristmill_learn::calibrate::{CalibrateError, Calibration, Method};
use gristmill_learn::matrix::{Layout, Matrix};
use gristmill_learn::refusal::Refusal;
use gristmill_learn::svm::{KernelSettings, KernelSvm, LinearSettings, LinearSvm};
use gristmill_protocol::pipeline::steps::{SupportVectorMachine, SvmKernel};
use serde::{Deserialize, Serialize};

use super::training_set::TrainingSet;
use super::{Control, TrainError, Unit};
use crate::hash::mix;

const NAME: &str = "support_vector_machine";
/// Parts of the rows for the curve, as in LIBSVM.
const FOLDS: u64 = 5;

/// A machine and its curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    margin: Margin,
    curve: Calibration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Margin {
    Flat(LinearSvm),
    Bent(KernelSvm),
}

impl Margin {
    fn fit(
        settings: &SupportVectorMachine,
        rows: &Matrix<f64>,
        labels: &[u32],
        weights: Option<&[f64]>,
        seed: u64,
    ) -> Result<Margin, Refusal> {
        match settings.kernel {
            SvmKernel::Linear => {
                let linear = LinearSettings { c: settings.c, ..LinearSettings::default() };
                LinearSvm::fit(&linear, rows, labels, weights, seed).map(Margin::Flat)
            }
            SvmKernel::Rbf => {
                let gamma = settings.gamma.unwrap_or_else(|| gamma_of(rows));
                let kernel = KernelSettings { c: settings.c, gamma, ..KernelSettings::default() };
                KernelSvm::fit(&kernel, rows, labels).map(Margin::Bent)
            }
        }
    }

    fn scores(&self, rows: &Matrix<f64>) -> Vec<f64> {
        match self {
            Margin::Flat(machine) => machine.scores(rows),
            Margin::Bent(machine) => machine.scores(rows),
        }
    }
}

impl Machine {
    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        match &self.margin {
            Margin::Flat(machine) => machine.columns(),
            Margin::Bent(machine) => machine.columns(),
        }
    }

    /// The probability that each row of a matrix laid out in rows is of the class.
    pub fn probabilities(&self, rows: &Matrix<f64>) -> Vec<f64> {
        let mut scores = self.margin.scores(rows);
        self.curve.apply(&mut scores);
        scores
    }
}

/// Fits the machine of one class against the rest; of two classes that of the second.
pub(super) fn fit(
    set: &TrainingSet,
    settings: &SupportVectorMachine,
    seed: u64,
    class: u32,
    control: &Control<'_>,
) -> Result<Unit, TrainError> {
    if set.weights().is_some() && settings.kernel == SvmKernel::Rbf {
        return Err(TrainError::Unweighted { algorithm: "support_vector_machine with the kernel `rbf`" });
    }
    let (rows, labels) = set.numbers();
    let class = if set.outputs() == 1 { 1 } else { class };
    let labels: Vec<u32> = labels.iter().map(|&label| u32::from(label as u32 == class)).collect();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(control.threads.max(1)).build();
    let threads = threads.map_err(|error| TrainError::Fit { algorithm: NAME, message: error.to_string() })?;
    threads.install(|| {
        let mut scores = vec![0.0; labels.len()];
        for fold in 0..FOLDS {
            if control.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            let is_in = |row: usize| mix(mix(seed).wrapping_add(row as u64)) % FOLDS == fold;
            let (held, learned): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&row| is_in(row));
            if held.is_empty() {
                continue;
            }
            let of_class: Vec<u32> = learned.iter().map(|&row| labels[row]).collect();
            let weights: Option<Vec<f64>> =
                set.weights().map(|weights| learned.iter().map(|&row| weights[row]).collect());
            let margin = Margin::fit(settings, &take(rows, &learned), &of_class, weights.as_deref(), seed);
            let found = margin.map_err(refused)?.scores(&take(rows, &held));
            held.iter().zip(found).for_each(|(&row, score)| scores[row] = score);
            (control.progress)(fold as u32 + 1, FOLDS as u32 + 1);
        }
        let curve = Calibration::fit(Method::Platt, &scores, &labels, 2, set.weights()).map_err(uncalibrated)?;
        let margin = Margin::fit(settings, rows, &labels, set.weights(), seed).map_err(refused)?;
        (control.progress)(FOLDS as u32 + 1, FOLDS as u32 + 1);
        Ok(Unit::Machine(Machine { margin, curve }))
    })
}

/// One over columns times the variance of all values: scikit-learn's `gamma="scale"`.
fn gamma_of(rows: &Matrix<f64>) -> f64 {
    let values = || (0..rows.rows()).flat_map(|row| rows.row(row)).copied();
    let count = (rows.rows() * rows.columns()).max(1) as f64;
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
    if variance > 0.0 { 1.0 / (rows.columns() as f64 * variance) } else { 1.0 }
}

fn take(rows: &Matrix<f64>, wanted: &[usize]) -> Matrix<f64> {
    let mut taken = Matrix::zeros(wanted.len(), rows.columns(), Layout::Rows);
    for (at, &row) in wanted.iter().enumerate() {
        rows.row(row).iter().enumerate().for_each(|(column, &value)| taken.set(at, column, value));
    }
    taken
}

fn refused(error: Refusal) -> TrainError {
    TrainError::Fit { algorithm: NAME, message: error.to_string() }
}

fn uncalibrated(error: CalibrateError) -> TrainError {
    TrainError::Fit { algorithm: NAME, message: error.to_string() }
}
