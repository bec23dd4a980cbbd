//! Gradient boosting on histograms: many small trees, each fitted to what the ones before it got wrong.
//!
//! ```text
//! rows ── binning ──► codes ──┐
//! labels ── loss ── gradients ┴─ grow ──► a tree ── added to the scores ── and again
//! ```
//!
//! The method is that of LightGBM (Ke et al. 2017, "LightGBM: a highly efficient gradient boosting decision
//! tree") and of scikit-learn's `HistGradientBoosting`, with their names for defaults. Work is shared by the
//! threads of the rayon pool that [`fit`] is called in; sums are exact, so the model has the same bytes
//! whatever their number. Class weights are row weights: give each row its class's weight.
//!
//! Deliberately absent: categorical splits (encode first), and rows left out by their gradients.

mod grow;
mod loss;
mod model;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use loss::Loss;
pub use model::{Boosted, Link};

use crate::binning::{BINS_MAX, Bins, Codes};
use crate::compiled::Forest;
use crate::histogram::{ROWS_MAX, Scale, Sums};
use crate::matrix::{Layout, Matrix};
use crate::splitmix::SplitMix;
use grow::{Grower, GrownNode, Limits, Tree};
use loss::weighted_median;
use model::normalise_exponentials;

/// Rows of one task when derivatives are computed.
const CHUNK_ROWS: usize = 8_192;
/// Fall of the validation loss, as a share of it, that counts as better.
const BETTER_MIN: f64 = 1e-7;
/// Derivatives at the most: the squares of their sums are numbers still.
const DERIVATIVE_MAX: f64 = 1e100;
/// Iterations at the most: past these nothing has been seen to get better, and models grow.
pub const ITERATIONS_MAX: u32 = 100_000;
/// Leaves of a tree at the most. A leaf's histogram takes 4 kB a column while the tree grows.
pub const LEAVES_MAX: u32 = 4_096;
/// Classes at the most: each iteration grows a tree for each.
pub const CLASSES_MAX: u32 = 1_000;

/// How to boost. The defaults are those of scikit-learn 1.9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub loss: Loss,
    pub iterations_max: u32,
    /// What each tree is multiplied by.
    pub learning_rate: f64,
    pub leaves_max: u32,
    /// Splits between the root and a leaf at the most.
    pub depth_max: Option<u32>,
    pub min_samples_leaf: u32,
    /// Added to the curvature of each leaf.
    pub l2: f64,
    /// What a split has to gain: the fall of the loss's second-order approximation, doubled.
    pub min_gain: f64,
    /// Bins of a column, 2 to 255.
    pub bins_max: u32,
    /// Share of the rows that each iteration draws, without putting back.
    pub rows_share: f64,
    /// Share of the columns that each tree draws.
    pub columns_share: f64,
    /// Stop after so many iterations without a smaller loss on the validation rows, and keep the trees up
    /// to the best. Without validation rows all iterations run.
    pub patience: Option<u32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            loss: Loss::Squared,
            iterations_max: 100,
            learning_rate: 0.1,
            leaves_max: 31,
            depth_max: None,
            min_samples_leaf: 20,
            l2: 0.0,
            min_gain: 0.0,
            bins_max: 255,
            rows_share: 1.0,
            columns_share: 1.0,
            patience: None,
        }
    }
}

/// Rows to learn from, or to validate on.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// Laid out in columns. NaN is a missing value; infinities don't occur ([`crate::matrix::Element::nearest`]).
    pub matrix: &'a Matrix<f32>,
    /// One for each row: a number, or the number of a class.
    pub labels: &'a [f64],
    /// One for each row, 0 or more; all 1 if there are none.
    pub weights: Option<&'a [f64]>,
}

/// Why boosting failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BoostError {
    #[error("`{name}` of boosting is {value}, and must be {wanted}")]
    Setting { name: &'static str, value: String, wanted: &'static str },
    #[error("there are {rows} {which} rows, and boosting takes 1 to {ROWS_MAX}")]
    Rows { which: &'static str, rows: usize },
    #[error("{rows} {which} rows have {found} {what}")]
    Shape { which: &'static str, rows: usize, found: usize, what: &'static str },
    #[error("the label of {which} row {row} is {label}, and must be {wanted}")]
    Label { which: &'static str, row: usize, label: f64, wanted: &'static str },
    #[error("the weight of {which} row {row} is {weight}, and must be 0 or more")]
    Weight { which: &'static str, row: usize, weight: f64 },
    #[error("all {which} rows have the weight 0")]
    NoWeight { which: &'static str },
    #[error("all labels are 0, and the Poisson loss needs one over it")]
    NoEvents,
    #[error("boosting diverged in iteration {iteration}: lower the learning rate or scale the labels")]
    Diverged { iteration: u32 },
    #[error("boosting was stopped")]
    Stopped,
}

/// What is told after each iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// From 1.
    pub iteration: u32,
    pub iterations_max: u32,
    /// The mean loss of the validation rows, if there are any.
    pub validation_loss: Option<f64>,
}

/// A fitted model and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    pub model: Boosted,
    /// For each column its share in what splits gained, adding up to 1 (or all 0 if nothing was split).
    pub importances: Vec<f64>,
    /// The mean loss of the validation rows after each iteration, those after the best one included.
    pub validation_losses: Vec<f64>,
}

/// Fits trees to the rows. `watch` is called after each iteration and may stop the fit.
pub fn fit(
    settings: &Settings,
    data: Data<'_>,
    validation: Option<Data<'_>>,
    seed: u64,
    mut watch: impl FnMut(&Round) -> ControlFlow<()>,
) -> Result<Fitted, BoostError> {
    settings.check()?;
    data.check(settings.loss, "training", data.matrix.columns())?;
    if let Some(validation) = &validation {
        validation.check(settings.loss, "validation", data.matrix.columns())?;
    }
    if settings.loss == Loss::Poisson && !(0..data.labels.len()).any(|row| data.labels[row] * data.weight(row) > 0.0) {
        return Err(BoostError::NoEvents);
    }
    let bins = Bins::fit(data.matrix, settings.bins_max as usize, seed);
    let codes = bins.encode(data.matrix);
    let outputs = settings.loss.outputs();
    let start = settings.loss.start(data.labels, |row| data.weight(row));
    let mut fit = Fit {
        settings,
        data,
        codes: &codes,
        grower: Grower::new(&codes, &bins),
        scores: start.iter().map(|&start| vec![start; data.labels.len()]).collect(),
        probabilities: Vec::new(),
        sums: vec![Sums::default(); data.labels.len()],
    };
    let mut held = validation.map(|data| Held {
        data,
        codes: bins.encode(data.matrix),
        scores: start.iter().map(|&start| vec![start; data.labels.len()]).collect(),
    });
    let mut trees: Vec<Vec<Tree>> = vec![Vec::new(); outputs];
    let mut validation_losses = Vec::new();
    let mut best = (f64::INFINITY, 0);
    for iteration in 0..settings.iterations_max {
        let grown = fit.iterate(iteration, seed)?;
        let exhausted = settings.draws_all() && grown.iter().all(|tree| tree.nodes.len() == 1);
        let validation_loss = held.as_mut().map(|held| held.add(&grown, settings.loss));
        trees.iter_mut().zip(grown).for_each(|(trees, tree)| trees.push(tree));
        if let Some(loss) = validation_loss {
            validation_losses.push(loss);
            if loss < best.0 - BETTER_MIN * best.0.abs().min(f64::MAX) || iteration == 0 {
                best = (loss, iteration);
            }
        }
        let round = Round { iteration: iteration + 1, iterations_max: settings.iterations_max, validation_loss };
        if watch(&round).is_break() {
            return Err(BoostError::Stopped);
        }
        let patience_ended = validation_loss.is_some() && settings.patience.is_some_and(|p| iteration - best.1 >= p);
        if exhausted || patience_ended {
            break;
        }
    }
    if validation.is_some() && settings.patience.is_some() {
        trees.iter_mut().for_each(|trees| trees.truncate(best.1 as usize + 1));
    }
    let importances = importances(&trees, data.matrix.columns());
    let forest = |trees: &Vec<Tree>| {
        let mut forest = Forest::new(data.matrix.columns());
        trees.iter().for_each(|tree| forest.add_tree(&tree.compile(&bins)).expect("grown trees are sound"));
        forest
    };
    let model = Boosted::new(settings.loss.link(), start, trees.iter().map(forest).collect())
        .expect("one start and one list of trees for each output");
    Ok(Fitted { model, importances, validation_losses })
}

impl Settings {
    /// Refuses settings that nothing can be learned with.
    pub fn check(&self) -> Result<(), BoostError> {
        let refuse = |name, value: String, wanted| Err(BoostError::Setting { name, value, wanted });
        let share = |share: f64| share > 0.0 && share <= 1.0;
        match self {
            _ if !(1..=ITERATIONS_MAX).contains(&self.iterations_max) => {
                refuse("iterations_max", self.iterations_max.to_string(), "1 to 100000")
            }
            _ if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) => {
                refuse("learning_rate", self.learning_rate.to_string(), "over 0")
            }
            _ if !(2..=LEAVES_MAX).contains(&self.leaves_max) => {
                refuse("leaves_max", self.leaves_max.to_string(), "2 to 4096")
            }
            _ if self.depth_max == Some(0) => refuse("depth_max", "0".to_owned(), "1 or more"),
            _ if self.min_samples_leaf == 0 => refuse("min_samples_leaf", "0".to_owned(), "1 or more"),
            _ if !(self.l2 >= 0.0 && self.l2.is_finite()) => refuse("l2", self.l2.to_string(), "0 or more"),
            _ if !(self.min_gain >= 0.0 && self.min_gain.is_finite()) => {
                refuse("min_gain", self.min_gain.to_string(), "0 or more")
            }
            _ if !(2..=BINS_MAX as u32).contains(&self.bins_max) => {
                refuse("bins_max", self.bins_max.to_string(), "2 to 255")
            }
            _ if !share(self.rows_share) => refuse("rows_share", self.rows_share.to_string(), "over 0, up to 1"),
            _ if !share(self.columns_share) => {
                refuse("columns_share", self.columns_share.to_string(), "over 0, up to 1")
            }
            _ if self.patience == Some(0) => refuse("patience", "0".to_owned(), "1 or more"),
            _ => match self.loss {
                Loss::Softmax { classes } if !(2..=CLASSES_MAX).contains(&classes) => {
                    refuse("classes", classes.to_string(), "2 to 1000")
                }
                _ => Ok(()),
            },
        }
    }

    fn draws_all(&self) -> bool {
        self.rows_share == 1.0 && self.columns_share == 1.0
    }

    fn limits(&self) -> Limits {
        Limits {
            leaves_max: self.leaves_max as usize,
            depth_max: self.depth_max.map_or(usize::MAX, |depth| depth as usize),
            min_samples_leaf: u64::from(self.min_samples_leaf),
            l2: self.l2,
            min_gain: self.min_gain,
        }
    }
}

impl Data<'_> {
    fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[row])
    }

    fn check(&self, loss: Loss, which: &'static str, columns: usize) -> Result<(), BoostError> {
        let rows = self.matrix.rows();
        let shape = |found, what| Err(BoostError::Shape { which, rows, found, what });
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(BoostError::Rows { which, rows });
        }
        if self.matrix.columns() != columns || columns == 0 || self.matrix.layout() != Layout::Columns {
            return shape(self.matrix.columns(), "columns, or aren't laid out in columns");
        }
        if self.labels.len() != rows {
            return shape(self.labels.len(), "labels");
        }
        for (row, &label) in self.labels.iter().enumerate() {
            if let Some(wanted) = loss.refuses(label) {
                return Err(BoostError::Label { which, row, label, wanted });
            }
        }
        let Some(weights) = self.weights else { return Ok(()) };
        if weights.len() != rows {
            return shape(weights.len(), "weights");
        }
        if let Some((row, &weight)) = weights.iter().enumerate().find(|(_, w)| !(w.is_finite() && **w >= 0.0)) {
            return Err(BoostError::Weight { which, row, weight });
        }
        if weights.iter().all(|&weight| weight == 0.0) { Err(BoostError::NoWeight { which }) } else { Ok(()) }
    }
}

/// A fit under way.
struct Fit<'a> {
    settings: &'a Settings,
    data: Data<'a>,
    codes: &'a Codes,
    grower: Grower<'a>,
    /// For each output the score of each row.
    scores: Vec<Vec<f64>>,
    /// For softmax, likewise.
    probabilities: Vec<Vec<f64>>,
    sums: Vec<Sums>,
}

impl Fit<'_> {
    /// Grows the trees of one iteration and adds them to the scores.
    fn iterate(&mut self, iteration: u32, seed: u64) -> Result<Vec<Tree>, BoostError> {
        let all_rows = self.data.labels.len();
        let mut chance = SplitMix::at(seed, 1 + u64::from(iteration));
        let drawn = draw(all_rows, self.settings.rows_share, &mut chance);
        if matches!(self.settings.loss, Loss::Softmax { .. }) {
            self.compare_classes();
        }
        let mut trees = Vec::with_capacity(self.scores.len());
        for output in 0..self.scores.len() {
            let columns = draw(self.codes.columns(), self.settings.columns_share, &mut chance);
            let columns: Vec<usize> = columns.into_iter().map(|column| column as usize).collect();
            let scale = self.derive(output).ok_or(BoostError::Diverged { iteration: iteration + 1 })?;
            self.grower.rows.clear();
            self.grower.rows.extend_from_slice(&drawn);
            let mut tree = self.grower.grow(&self.sums, &scale, &columns, &self.settings.limits());
            self.settle_leaves(&mut tree, output);
            if drawn.len() == all_rows {
                let scores = &mut self.scores[output];
                for (node, rows) in &tree.leaves {
                    if let GrownNode::Leaf { value } = tree.nodes[*node] {
                        self.grower.rows[rows.clone()].iter().for_each(|&row| scores[row as usize] += value);
                    }
                }
            } else {
                let codes = self.codes;
                let add = |(row, score): (usize, &mut f64)| *score += tree.value(codes, row);
                self.scores[output].par_iter_mut().with_min_len(CHUNK_ROWS).enumerate().for_each(add);
            }
            trees.push(tree);
        }
        Ok(trees)
    }

    /// The probability of each class of each row.
    fn compare_classes(&mut self) {
        self.probabilities.clone_from(&self.scores);
        let mut row_scores = vec![0.0; self.scores.len()];
        for row in 0..self.data.labels.len() {
            row_scores.iter_mut().zip(&self.scores).for_each(|(score, scores)| *score = scores[row]);
            normalise_exponentials(&mut row_scores);
            self.probabilities.iter_mut().zip(&row_scores).for_each(|(all, &probability)| all[row] = probability);
        }
    }

    /// Puts the derivatives of all rows by one output into `sums`. None if they are not numbers.
    fn derive(&mut self, output: usize) -> Option<Scale> {
        let loss = self.settings.loss;
        let scores = if self.probabilities.is_empty() { &self.scores[output] } else { &self.probabilities[output] };
        let (labels, weights) = (self.data.labels, self.data.weights);
        let derivatives = |row: usize| {
            let (gradient, curvature) = loss.derivatives(output, scores[row], labels[row]);
            let weight = weights.map_or(1.0, |weights| weights[row]);
            (gradient * weight, curvature * weight)
        };
        let (gradient_max, curvature_max) = match loss.derivatives_max() {
            Some((gradient, curvature)) => {
                let weight = weights.map_or(1.0, |weights| weights.iter().copied().fold(0.0, f64::max));
                (gradient * weight, curvature * weight)
            }
            None => (0..labels.len())
                .into_par_iter()
                .with_min_len(CHUNK_ROWS)
                .map(derivatives)
                .map(|(gradient, curvature)| (finite_or_infinite(gradient), finite_or_infinite(curvature)))
                .reduce(|| (0.0, 0.0), |a, b| (a.0.max(b.0), a.1.max(b.1))),
        };
        if !(gradient_max <= DERIVATIVE_MAX && curvature_max <= DERIVATIVE_MAX) {
            return None;
        }
        let scale = Scale::new(labels.len(), gradient_max, curvature_max);
        self.sums.par_chunks_mut(CHUNK_ROWS).enumerate().for_each(|(chunk, sums)| {
            for (offset, sums) in sums.iter_mut().enumerate() {
                let row = chunk * CHUNK_ROWS + offset;
                let (gradient, curvature) = derivatives(row);
                *sums = scale.row(row as u64, gradient, curvature);
            }
        });
        Some(scale)
    }

    /// Gives leaves their final values: the medians of what is left, for the absolute error; then all times
    /// the learning rate.
    fn settle_leaves(&self, tree: &mut Tree, output: usize) {
        for (node, rows) in &tree.leaves {
            let GrownNode::Leaf { value } = &mut tree.nodes[*node] else { continue };
            if self.settings.loss == Loss::Absolute {
                let rest = |&row: &u32| {
                    let row = row as usize;
                    (self.data.labels[row] - self.scores[output][row], self.data.weight(row))
                };
                *value = weighted_median(&mut self.grower.rows[rows.clone()].iter().map(rest).collect::<Vec<_>>());
            }
            *value *= self.settings.learning_rate;
        }
    }
}

/// Validation rows and their scores so far.
struct Held<'a> {
    data: Data<'a>,
    codes: Codes,
    scores: Vec<Vec<f64>>,
}

impl Held<'_> {
    /// Adds an iteration's trees and returns the mean loss.
    fn add(&mut self, trees: &[Tree], loss: Loss) -> f64 {
        for (scores, tree) in self.scores.iter_mut().zip(trees) {
            let codes = &self.codes;
            let add = |(row, score): (usize, &mut f64)| *score += tree.value(codes, row);
            scores.par_iter_mut().with_min_len(CHUNK_ROWS).enumerate().for_each(add);
        }
        loss.mean(&self.scores, self.data.labels, |row| self.data.weight(row))
    }
}

/// The absolute value; infinity for what is not a number, which a maximum would pass over.
fn finite_or_infinite(value: f64) -> f64 {
    if value.is_finite() { value.abs() } else { f64::INFINITY }
}

/// A share of the numbers from 0, at least one of them, ascending.
fn draw(all: usize, share: f64, chance: &mut SplitMix) -> Vec<u32> {
    let wanted = ((all as f64 * share).round() as usize).clamp(1, all);
    // Each is taken with the chance that exactly as many as are wanted get taken (Knuth, "The Art of
    // Computer Programming", volume 2, algorithm S).
    let mut left = wanted;
    (0..all)
        .filter(|at| {
            let taken = left == all - at || (left > 0 && chance.below(all - at) < left);
            left -= usize::from(taken);
            taken
        })
        .map(|at| at as u32)
        .collect()
}

fn importances(trees: &[Vec<Tree>], columns: usize) -> Vec<f64> {
    let mut gains = vec![0.0; columns];
    for node in trees.iter().flatten().flat_map(|tree| &tree.nodes) {
        if let GrownNode::Split { column, gain, .. } = node {
            gains[*column] += gain;
        }
    }
    let sum: f64 = gains.iter().sum();
    if sum > 0.0 {
        gains.iter_mut().for_each(|gain| *gain /= sum);
    }
    gains
}
