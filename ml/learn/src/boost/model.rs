//! Boosted trees for scoring: the sum of the trees on a start, and what becomes of it.

use serde::{Deserialize, Serialize};

use crate::compiled::Forest;
use crate::exponential::{exp, logistic};
use crate::matrix::Matrix;

/// What becomes of the scores of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The score is the prediction.
    Identity,
    /// The score is the logarithm of the prediction.
    Exponential,
    /// The probability of class 1 is `1 / (1 + e^-score)`.
    Logistic,
    /// The exponentials of the scores, normalised, are the probabilities of the classes.
    Softmax,
}

/// A boosted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BoostedData", into = "BoostedData")]
pub struct Boosted {
    link: Link,
    start: Vec<f64>,
    trees: Vec<Forest>,
}

/// A boosted model as it is stored.
#[derive(Serialize, Deserialize)]
struct BoostedData {
    link: Link,
    /// The scores before the first tree, one for each output.
    start: Vec<f64>,
    /// For each output the trees whose sum is added.
    trees: Vec<Forest>,
}

impl From<Boosted> for BoostedData {
    fn from(model: Boosted) -> BoostedData {
        BoostedData { link: model.link, start: model.start, trees: model.trees }
    }
}

impl TryFrom<BoostedData> for Boosted {
    type Error = String;

    fn try_from(data: BoostedData) -> Result<Boosted, String> {
        Boosted::new(data.link, data.start, data.trees)
    }
}

impl Boosted {
    /// Checks that the parts fit together. The error says what doesn't.
    pub(super) fn new(link: Link, start: Vec<f64>, trees: Vec<Forest>) -> Result<Boosted, String> {
        if trees.is_empty() || start.len() != trees.len() || (link != Link::Softmax && trees.len() != 1) {
            return Err(format!("a boosted model has {} starts and the trees of {} outputs", start.len(), trees.len()));
        }
        if !start.iter().all(|start| start.is_finite()) {
            return Err("the start of a boosted model is not a number".to_owned());
        }
        if trees.iter().any(|forest| forest.columns() != trees[0].columns() || forest.trees() != trees[0].trees()) {
            return Err("the outputs of a boosted model have different columns or numbers of trees".to_owned());
        }
        Ok(Boosted { link, start, trees })
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.trees[0].columns()
    }

    /// How many scores it gives a row: one, or one for each class of softmax.
    pub fn outputs(&self) -> usize {
        self.trees.len()
    }

    /// How many trees each output has.
    pub fn iterations(&self) -> usize {
        self.trees[0].trees()
    }

    /// What becomes of the scores.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The scores before the trees, one for each output.
    pub fn start(&self) -> &[f64] {
        &self.start
    }

    /// The trees of each output.
    pub fn trees(&self) -> &[Forest] {
        &self.trees
    }

    /// The predictions of each row of a matrix laid out in rows, side by side: a number, the probability of
    /// class 1, or the probability of each class.
    pub fn predict(&self, rows: &Matrix<f32>) -> Vec<f64> {
        let outputs = self.outputs();
        let mut scores = vec![0.0; rows.rows() * outputs];
        for (output, (forest, start)) in self.trees.iter().zip(&self.start).enumerate() {
            for (row, sum) in forest.sums(rows).into_iter().enumerate() {
                scores[row * outputs + output] = start + sum;
            }
        }
        self.apply_link(&mut scores);
        scores
    }

    fn apply_link(&self, scores: &mut [f64]) {
        match self.link {
            Link::Identity => {}
            Link::Exponential => scores.iter_mut().for_each(|score| *score = exp(*score)),
            Link::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Link::Softmax => scores.chunks_exact_mut(self.outputs()).for_each(normalise_exponentials),
        }
    }
}

/// Scores as probabilities.
pub(super) fn normalise_exponentials(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}
