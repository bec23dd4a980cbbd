//! Isotonic regression: of all curves that never fall the one nearest to the truth (pool adjacent violators,
//! Ayer et al. 1955), as scikit-learn's `IsotonicRegression` with `out_of_bounds="clip"`.

use serde::{Deserialize, Serialize};

use super::Row;

/// A curve through points, straight between them and flat outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "IsotonicText")]
pub struct Isotonic {
    scores: Vec<f64>,
    probabilities: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IsotonicText {
    scores: Vec<f64>,
    probabilities: Vec<f64>,
}

impl TryFrom<IsotonicText> for Isotonic {
    type Error = String;

    fn try_from(IsotonicText { scores, probabilities }: IsotonicText) -> Result<Isotonic, String> {
        if scores.is_empty() || scores.len() != probabilities.len() {
            return Err(format!("a curve has {} scores and {} probabilities", scores.len(), probabilities.len()));
        }
        if !scores.iter().all(|score| score.is_finite()) || !scores.is_sorted_by(|a, b| a < b) {
            return Err("the scores of a curve don't rise".to_owned());
        }
        if !probabilities.iter().all(|p| (0.0..=1.0).contains(p)) || !probabilities.is_sorted() {
            return Err("the probabilities of a curve fall, or aren't from 0 to 1".to_owned());
        }
        Ok(Isotonic { scores, probabilities })
    }
}

/// Neighbours with one mean.
struct Block {
    first: f64,
    last: f64,
    weight: f64,
    positives: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.positives / self.weight
    }
}

impl Isotonic {
    /// The probability of a score; that of the nearest end outside.
    pub fn probability(&self, score: f64) -> f64 {
        let above = self.scores.partition_point(|at| *at < score);
        let Some(before) = above.checked_sub(1) else { return self.probabilities[0] };
        if above == self.scores.len() {
            return self.probabilities[before];
        }
        let part = (score - self.scores[before]) / (self.scores[above] - self.scores[before]);
        let (low, high) = (self.probabilities[before], self.probabilities[above]);
        (low + (high - low) * part).clamp(low, high)
    }

    /// Scores and probabilities of the points.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.scores.iter().copied().zip(self.probabilities.iter().copied())
    }

    pub(super) fn fit(mut rows: Vec<Row>) -> Isotonic {
        rows.sort_by(|a, b| a.score.total_cmp(&b.score));
        // Rows of one score have one probability.
        let mut single: Vec<Block> = Vec::new();
        for row in rows {
            let positives = if row.positive { row.weight } else { 0.0 };
            match single.last_mut() {
                Some(block) if block.last == row.score => {
                    block.weight += row.weight;
                    block.positives += positives;
                }
                _ => single.push(Block { first: row.score, last: row.score, weight: row.weight, positives }),
            }
        }
        let mut blocks: Vec<Block> = Vec::new();
        for mut block in single {
            while let Some(before) = blocks.pop_if(|before| before.mean() >= block.mean()) {
                block.first = before.first;
                block.weight += before.weight;
                block.positives += before.positives;
            }
            blocks.push(block);
        }
        let (mut scores, mut probabilities) = (Vec::new(), Vec::new());
        for block in &blocks {
            scores.push(block.first);
            probabilities.push(block.mean());
            if block.last > block.first {
                scores.push(block.last);
                probabilities.push(block.mean());
            }
        }
        Isotonic { scores, probabilities }
    }
}
