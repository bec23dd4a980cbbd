//! What boosting makes small: losses, their first two derivatives, and where the scores start.
//!
//! Derivatives are those by the score before the link (Friedman 2001, "Greedy function approximation: a
//! gradient boosting machine"; Chen and Guestrin 2016, "XGBoost", section 2.2).

use serde::{Deserialize, Serialize};

use super::model::Link;
use crate::exponential::{exp, logistic};

/// Smallest share of a class, so that the scores of a class without rows start at a number.
const SHARE_MIN: f64 = 1e-12;

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Half the squared error, of any number.
    Squared,
    /// The absolute error, of any number: leaves are medians.
    Absolute,
    /// Half the Poisson deviance, of numbers from 0 with at least one over it; the score is a logarithm.
    Poisson,
    /// The logarithmic loss of classes 0 and 1.
    Logistic,
    /// The logarithmic loss of classes 0 to `classes - 1`, with a tree for each.
    Softmax { classes: u32 },
}

impl Loss {
    /// How many scores a row has.
    pub fn outputs(self) -> usize {
        match self {
            Loss::Softmax { classes } => classes as usize,
            Loss::Squared | Loss::Absolute | Loss::Poisson | Loss::Logistic => 1,
        }
    }

    /// What becomes of the scores.
    pub fn link(self) -> Link {
        match self {
            Loss::Squared | Loss::Absolute => Link::Identity,
            Loss::Poisson => Link::Exponential,
            Loss::Logistic => Link::Logistic,
            Loss::Softmax { .. } => Link::Softmax,
        }
    }

    /// Why a label can't be learned.
    pub(super) fn refuses(self, label: f64) -> Option<&'static str> {
        let class_under = |classes: u32| label >= 0.0 && label < f64::from(classes) && label.fract() == 0.0;
        match self {
            _ if !label.is_finite() => Some("a finite number"),
            Loss::Poisson if label < 0.0 => Some("0 or more"),
            Loss::Logistic if !class_under(2) => Some("0 or 1"),
            Loss::Softmax { classes } if !class_under(classes) => Some("the number of a class, from 0"),
            _ => None,
        }
    }

    /// First and second derivative of one row's loss by the score of `output`. For softmax the
    /// probability stands in for the score.
    #[inline]
    pub(super) fn derivatives(self, output: usize, score: f64, label: f64) -> (f64, f64) {
        match self {
            Loss::Squared => (score - label, 1.0),
            Loss::Absolute => (if score > label { 1.0 } else { f64::from(i8::from(score >= label)) - 1.0 }, 1.0),
            Loss::Poisson => {
                let mean = exp(score);
                (mean - label, mean)
            }
            Loss::Logistic => {
                let probability = logistic(score);
                (probability - label, probability * (1.0 - probability))
            }
            Loss::Softmax { .. } => {
                let class = f64::from(u8::from(label == output as f64));
                (score - class, score * (1.0 - score))
            }
        }
    }

    /// The largest absolute derivatives of a row of weight 1, where they are known beforehand.
    pub(super) fn derivatives_max(self) -> Option<(f64, f64)> {
        match self {
            Loss::Absolute => Some((1.0, 1.0)),
            Loss::Logistic | Loss::Softmax { .. } => Some((1.0, 0.25)),
            Loss::Squared | Loss::Poisson => None,
        }
    }

    /// The constant scores with the smallest loss.
    pub(super) fn start(self, labels: &[f64], weight: impl Fn(usize) -> f64) -> Vec<f64> {
        let total: f64 = (0..labels.len()).map(&weight).sum();
        let mean = || labels.iter().enumerate().map(|(row, label)| label * weight(row)).sum::<f64>() / total;
        match self {
            Loss::Squared => vec![mean()],
            Loss::Absolute => {
                vec![weighted_median(
                    &mut labels.iter().enumerate().map(|(row, &y)| (y, weight(row))).collect::<Vec<_>>(),
                )]
            }
            Loss::Poisson => vec![mean().ln()],
            Loss::Logistic => {
                let share = mean().clamp(SHARE_MIN, 1.0 - SHARE_MIN);
                vec![(share / (1.0 - share)).ln()]
            }
            Loss::Softmax { classes } => {
                let mut shares = vec![0.0; classes as usize];
                labels.iter().enumerate().for_each(|(row, &label)| shares[label as usize] += weight(row) / total);
                shares.iter().map(|share| share.max(SHARE_MIN).ln()).collect()
            }
        }
    }

    /// The mean loss of rows; `scores` of each output.
    pub(super) fn mean(self, scores: &[Vec<f64>], labels: &[f64], weight: impl Fn(usize) -> f64) -> f64 {
        let (mut sum, mut total) = (0.0, 0.0);
        for (row, &label) in labels.iter().enumerate() {
            let score = scores[0][row];
            let loss = match self {
                Loss::Squared => 0.5 * (score - label).powi(2),
                Loss::Absolute => (score - label).abs(),
                Loss::Poisson => exp(score) - label * score,
                // ln(1 + e^z) - y z, without overflow.
                Loss::Logistic => score.max(0.0) - label * score + exp(-score.abs()).ln_1p(),
                Loss::Softmax { .. } => {
                    let largest = scores.iter().map(|scores| scores[row]).fold(f64::MIN, f64::max);
                    let sum: f64 = scores.iter().map(|scores| exp(scores[row] - largest)).sum();
                    sum.ln() + largest - scores[label as usize][row]
                }
            };
            sum += loss * weight(row);
            total += weight(row);
        }
        sum / total
    }
}

/// The smallest number with at least half of the weight at or under it.
pub(super) fn weighted_median(numbers: &mut [(f64, f64)]) -> f64 {
    numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = numbers.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    for &(number, weight) in numbers.iter() {
        sum += weight;
        if sum >= half {
            return number;
        }
    }
    numbers.last().map_or(0.0, |&(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By differences of the loss itself.
    #[test]
    fn derivatives_are_those_of_the_loss() {
        for loss in [Loss::Squared, Loss::Poisson, Loss::Logistic] {
            for (score, label) in [(-1.3, 1.0), (0.4, 0.0), (2.0, 1.0)] {
                let at = |score: f64| loss.mean(&[vec![score]], &[label], |_| 1.0);
                let step = 1e-4;
                let first = (at(score + step) - at(score - step)) / (2.0 * step);
                let second = (at(score + step) - 2.0 * at(score) + at(score - step)) / (step * step);
                let (gradient, curvature) = loss.derivatives(0, score, label);
                assert!((first - gradient).abs() < 1e-6 && (second - curvature).abs() < 1e-5, "{loss:?} at {score}");
            }
        }
    }

    #[test]
    fn the_absolute_error_pulls_by_its_sign() {
        let pulls = [(2.0, 1.0), (1.0, 1.0), (0.0, 1.0)].map(|(s, y)| Loss::Absolute.derivatives(0, s, y).0);
        assert_eq!(pulls, [1.0, 0.0, -1.0]);
    }

    #[test]
    fn scores_start_where_the_loss_is_smallest() {
        let labels = [0.0, 1.0, 1.0, 0.0, 1.0];
        for loss in [Loss::Squared, Loss::Poisson, Loss::Logistic, Loss::Softmax { classes: 2 }] {
            let start = loss.start(&labels, |row| (row + 1) as f64);
            let at = |shift: f64| {
                let mut scores: Vec<Vec<f64>> = start.iter().map(|&start| vec![start; 5]).collect();
                scores[0].iter_mut().for_each(|score| *score += shift);
                loss.mean(&scores, &labels, |row| (row + 1) as f64)
            };
            assert!(at(0.0) < at(0.01) && at(0.0) < at(-0.01), "{loss:?}");
        }
        assert_eq!(Loss::Absolute.start(&[5.0, 1.0, 9.0], |_| 1.0), [5.0]);
    }
}
