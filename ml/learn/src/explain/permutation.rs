//! Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019): how much worse a model scores when
//! a feature's values are dealt to other rows.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::matrix::{Element, Matrix};

/// How often each feature is permuted, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Permutations {
    pub repeats: u32,
    pub seed: u64,
}

impl Default for Permutations {
    /// As scikit-learn's `permutation_importance`.
    fn default() -> Permutations {
        Permutations { repeats: 5, seed: 0 }
    }
}

/// What a feature is worth to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The score on all rows less that on permuted ones, for each repeat.
    pub drops: Vec<f64>,
    pub mean: f64,
    /// Standard deviation of the drops around their mean; 0 of a single one.
    pub deviation: f64,
}

/// Why there is no importance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PermutationError {
    #[error("importance needs at least 1 repeat and 2 rows, not {repeats} and {rows}")]
    Nothing { repeats: u32, rows: usize },
    #[error("feature {feature} is of column {column}, and there are {columns}")]
    Column { feature: usize, column: usize, columns: usize },
    #[error("the score isn't defined on the {rows} rows")]
    Undefined { rows: usize },
}

/// How much worse the model scores without each feature. A feature is one column or several that belong
/// together, such as those of an encoded category; they are dealt out together.
///
/// `score` says how good the predictions for a matrix are; larger is better, so give a loss with a minus. It
/// is called once on the rows as they are and once for each feature and repeat; one copy of the matrix is made. Each
/// feature's order follows from the seed, its place in `features` and the repeat alone.
pub fn permutation_importance<T: Element>(
    matrix: &Matrix<T>,
    features: &[Vec<usize>],
    settings: Permutations,
    score: impl Fn(&Matrix<T>) -> f64,
) -> Result<Vec<Importance>, PermutationError> {
    let Permutations { repeats, seed } = settings;
    let (rows, columns) = (matrix.rows(), matrix.columns());
    if repeats == 0 || rows < 2 {
        return Err(PermutationError::Nothing { repeats, rows });
    }
    for (feature, of) in features.iter().enumerate() {
        if let Some(&column) = of.iter().find(|column| **column >= columns) {
            return Err(PermutationError::Column { feature, column, columns });
        }
    }
    let whole = score(matrix);
    if !whole.is_finite() {
        return Err(PermutationError::Undefined { rows });
    }
    let mut permuted = matrix.clone();
    let mut order: Vec<usize> = (0..rows).collect();
    let mut importances = Vec::with_capacity(features.len());
    for (feature, of) in features.iter().enumerate() {
        let mut drops = Vec::with_capacity(repeats as usize);
        for repeat in 0..repeats {
            order.sort_unstable();
            Chance::stream(seed, &[feature as u64, repeat.into()]).shuffle(&mut order);
            for &column in of {
                order.iter().enumerate().for_each(|(row, &from)| permuted.set(row, column, matrix.get(from, column)));
            }
            drops.push(whole - score(&permuted));
        }
        for &column in of {
            (0..rows).for_each(|row| permuted.set(row, column, matrix.get(row, column)));
        }
        let count = drops.len() as f64;
        let mean = drops.iter().sum::<f64>() / count;
        let deviation = (drops.iter().map(|drop| (drop - mean).powi(2)).sum::<f64>() / count).sqrt();
        importances.push(Importance { drops, mean, deviation });
    }
    Ok(importances)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;

    /// Rows of two independent columns and a copy of the first.
    fn matrix() -> Matrix<f64> {
        let mut chance = Chance::stream(1, &[]);
        let mut matrix = Matrix::zeros(2_000, 3, Layout::Rows);
        for row in 0..2_000 {
            let (a, b) = (chance.normal(), chance.normal());
            matrix.set(row, 0, a);
            matrix.set(row, 1, b);
            matrix.set(row, 2, a);
        }
        matrix
    }

    /// Minus the mean squared error of 3 × the first column + the second, read half from the copy.
    fn score(truth: &Matrix<f64>, found: &Matrix<f64>) -> f64 {
        let error = |row: usize| {
            let expected = 3.0 * truth.get(row, 0) + truth.get(row, 1);
            let found = 1.5 * (found.get(row, 0) + found.get(row, 2)) + found.get(row, 1);
            (expected - found).powi(2)
        };
        -(0..truth.rows()).map(error).sum::<f64>() / truth.rows() as f64
    }

    #[test]
    fn a_feature_is_worth_twice_its_share_of_the_variance() {
        let truth = matrix();
        let features = [vec![0], vec![1], vec![0, 2], vec![]];
        let found = permutation_importance(&truth, &features, Permutations::default(), |m| score(&truth, m)).unwrap();
        // For c × a column of variance 1 dealt anew, the squared error grows by 2 c².
        for (importance, expected) in found.iter().zip([2.0 * 1.5 * 1.5, 2.0, 2.0 * 9.0, 0.0]) {
            assert!((importance.mean - expected).abs() < 0.15 * expected + 1e-12, "{importance:?} {expected}");
            assert_eq!(importance.drops.len(), 5);
        }
        assert!(found[0].deviation > 0.0 && found[3].deviation == 0.0);
    }

    #[test]
    fn importance_comes_again_from_its_seed() {
        let truth = matrix();
        let features = [vec![0], vec![1]];
        let of = |seed| {
            let settings = Permutations { seed, ..Permutations::default() };
            permutation_importance(&truth, &features, settings, |m| score(&truth, m)).unwrap()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn what_has_no_importance_says_why() {
        let truth = matrix();
        let fails = |features: &[Vec<usize>], settings, score: f64| {
            permutation_importance(&truth, features, settings, |_| score).unwrap_err().to_string()
        };
        let settings = Permutations::default();
        assert_eq!(fails(&[vec![7]], settings, 1.0), "feature 0 is of column 7, and there are 3");
        assert_eq!(fails(&[vec![0]], settings, f64::NAN), "the score isn't defined on the 2000 rows");
        assert_eq!(
            fails(&[vec![0]], Permutations { repeats: 0, seed: 1 }, 1.0),
            "importance needs at least 1 repeat and 2 rows, not 0 and 2000"
        );
    }
}
