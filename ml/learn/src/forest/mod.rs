//! Random forests and extremely randomised trees, on histograms.
//!
//! A forest is the mean of trees that are grown deep on different draws of the rows and columns (Breiman
//! 2001, "Random forests"); extremely randomised trees draw the cuts as well (Geurts, Ernst and Wehenkel
//! 2006). Splits make the variance of the labels fall most. For the labels 0 and 1 it is half the Gini index,
//! so two classes are learned as numbers and a leaf's mean is the probability of class 1; for more classes
//! grow such a forest for each.
//!
//! A tree follows from the model's seed and its number alone, so a forest can be grown in pieces anywhere.
//! Trees are shared by the threads of the rayon pool that [`grow`] is called in.
//!
//! A missing value counts as larger than all others.

#[cfg(test)]
mod tests;
mod tree;

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::binning::{BINS_MAX, Bins};
use crate::compiled::Forest;
use crate::histogram::{ROWS_MAX, Scale, Sums};
use crate::matrix::{Layout, Matrix};
use crate::splitmix::SplitMix;
use tree::Grower;

/// How to grow trees. The defaults are those of scikit-learn's `RandomForestRegressor`, but for the depth,
/// which bounds the size of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Splits between the root and a leaf at the most.
    pub depth_max: u32,
    /// Drawn rows of a leaf at the least.
    pub min_samples_leaf: u32,
    /// Drawn rows at the least that are split.
    pub min_samples_split: u32,
    /// Columns with different values that are tried at a node; all if none is given.
    pub columns_tried: Option<u32>,
    /// Whether each tree draws as many rows as there are, with putting back, or takes them all.
    pub bootstrap: bool,
    /// One cut at random for each tried column, in place of the best one.
    pub random_cuts: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            depth_max: 16,
            min_samples_leaf: 1,
            min_samples_split: 2,
            columns_tried: None,
            bootstrap: true,
            random_cuts: false,
        }
    }
}

/// Why trees weren't grown.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ForestError {
    #[error("`{name}` of a forest is {value}, and must be {wanted}")]
    Setting { name: &'static str, value: u32, wanted: &'static str },
    #[error("there are {rows} rows, and a forest takes 1 to {ROWS_MAX}")]
    Rows { rows: usize },
    #[error("{rows} rows have {found} {what}")]
    Shape { rows: usize, found: usize, what: &'static str },
    #[error("the {what} of row {row} is {value}, and must be {wanted}")]
    Value { what: &'static str, row: usize, value: f64, wanted: &'static str },
    #[error("all rows have the weight 0")]
    NoWeight,
    #[error("growing trees was stopped")]
    Stopped,
}

/// Rows as codes: made once, for all trees.
#[derive(Clone, Debug)]
pub struct Coded {
    bins: Bins,
    rows: usize,
    /// The codes of each column.
    columns: Vec<Vec<u8>>,
    /// Whether a column misses values.
    misses: Vec<bool>,
}

impl Coded {
    /// Codes a matrix laid out in columns. The seed is the model's, so that pieces grown elsewhere agree.
    pub fn new(matrix: &Matrix<f32>, seed: u64) -> Result<Coded, ForestError> {
        let rows = matrix.rows();
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(ForestError::Rows { rows });
        }
        if matrix.columns() == 0 || matrix.layout() != Layout::Columns {
            let what = "columns, or aren't laid out in columns";
            return Err(ForestError::Shape { rows, found: matrix.columns(), what });
        }
        let bins = Bins::fit(matrix, BINS_MAX, seed);
        let codes = bins.encode(matrix);
        let columns: Vec<Vec<u8>> = (0..matrix.columns())
            .into_par_iter()
            .map(|column| (0..rows).map(|row| codes.code(row, column)).collect())
            .collect();
        let missing = |column: usize| columns[column].contains(&(bins.bins(column) as u8));
        let misses = (0..columns.len()).map(missing).collect();
        Ok(Coded { bins, rows, columns, misses })
    }
}

/// What a range of trees is.
#[derive(Clone, Debug, PartialEq)]
pub struct Grown {
    pub forest: Forest,
    /// For each column the sum over the trees of its share in the fall of variance.
    pub importances: Vec<f64>,
}

/// Labels and weights as whole numbers.
struct Learned<'a> {
    labels: &'a [f64],
    /// What was taken off each label.
    centre: f64,
    scale: Scale,
    sums: Vec<Sums>,
}

/// Grows the trees of a range of a model's trees. `go_on` is asked before each tree.
pub fn grow(
    coded: &Coded,
    labels: &[f64],
    weights: Option<&[f64]>,
    settings: &Settings,
    trees: Range<u32>,
    seed: u64,
    go_on: impl Fn() -> bool + Sync,
) -> Result<Grown, ForestError> {
    settings.check()?;
    let learned = Learned::new(coded, labels, weights)?;
    let grown: Vec<Option<(Vec<crate::compiled::Node>, Vec<f64>)>> = trees
        .into_par_iter()
        .map_init(
            || Grower::new(coded, &learned, settings),
            |grower, tree| go_on().then(|| grower.grow(SplitMix::at(seed, u64::from(tree)))),
        )
        .collect();
    let mut forest = Forest::new(coded.columns.len());
    let mut importances = vec![0.0; coded.columns.len()];
    for tree in grown {
        let (nodes, falls) = tree.ok_or(ForestError::Stopped)?;
        forest.add_tree(&nodes).expect("grown trees are sound");
        let sum: f64 = falls.iter().sum();
        if sum > 0.0 {
            importances.iter_mut().zip(&falls).for_each(|(total, fall)| *total += fall / sum);
        }
    }
    Ok(Grown { forest, importances })
}

impl Settings {
    /// Refuses settings that no tree can be grown with.
    pub fn check(&self) -> Result<(), ForestError> {
        let refuse = |name, value, wanted| Err(ForestError::Setting { name, value, wanted });
        match self {
            _ if self.depth_max == 0 => refuse("depth_max", 0, "1 or more"),
            _ if self.min_samples_leaf == 0 => refuse("min_samples_leaf", 0, "1 or more"),
            _ if self.min_samples_split < 2 => refuse("min_samples_split", self.min_samples_split, "2 or more"),
            _ if self.columns_tried == Some(0) => refuse("columns_tried", 0, "1 or more"),
            _ => Ok(()),
        }
    }
}

impl<'a> Learned<'a> {
    fn new(coded: &Coded, labels: &'a [f64], weights: Option<&[f64]>) -> Result<Learned<'a>, ForestError> {
        let rows = coded.rows;
        if labels.len() != rows {
            return Err(ForestError::Shape { rows, found: labels.len(), what: "labels" });
        }
        // Their squares have to be numbers.
        if let Some((row, &value)) = labels.iter().enumerate().find(|(_, label)| label.abs() > 1e100 || label.is_nan())
        {
            return Err(ForestError::Value { what: "label", row, value, wanted: "a number within ±1e100" });
        }
        if let Some(weights) = weights {
            if weights.len() != rows {
                return Err(ForestError::Shape { rows, found: weights.len(), what: "weights" });
            }
            if let Some((row, &value)) = weights.iter().enumerate().find(|(_, weight)| !(0.0..=1e100).contains(*weight))
            {
                return Err(ForestError::Value { what: "weight", row, value, wanted: "0 or more" });
            }
        }
        let weight = |row: usize| weights.map_or(1.0, |weights| weights[row]);
        let total: f64 = (0..rows).map(weight).sum();
        if total == 0.0 {
            return Err(ForestError::NoWeight);
        }
        // Classes stay 0 and 1, so that the mean of a leaf has no rounding; other labels lose their mean,
        // so that squares of sums keep their digits.
        let classes = labels.iter().all(|&label| label == 0.0 || label == 1.0);
        let mean = || (0..rows).map(|row| labels[row] * weight(row)).sum::<f64>() / total;
        let centre = if classes { 0.0 } else { mean() };
        let largest = |of: &dyn Fn(usize) -> f64| (0..rows).map(of).fold(0.0, f64::max);
        let scale = Scale::new(rows, largest(&|row| (labels[row] - centre).abs() * weight(row)), largest(&weight));
        let sums =
            (0..rows).map(|row| scale.row(row as u64, (labels[row] - centre) * weight(row), weight(row))).collect();
        Ok(Learned { labels, centre, scale, sums })
    }
}
