//! Platt's sigmoid, fitted as Lin, Lin and Weng (2007) do ("A note on Platt's probabilistic outputs for
//! support vector machines"): Newton's method with backtracking on the log-likelihood of smoothed truths.

use serde::{Deserialize, Serialize};

use super::Row;

/// Newton's steps at the most; some ten are usual.
const STEPS_MAX: u32 = 100;
/// Steps are halved down to this part; below it, nothing is gained any more.
const STEP_MIN: f64 = 1e-10;
/// Added to the diagonal, so that the equations can be solved.
const RIDGE: f64 = 1e-12;
/// The slope of the likelihood, per unit of weight, at which it is flat enough.
const FLAT: f64 = 1e-12;

/// `1 / (1 + exp(a × score + b))`. `a` is negative where larger scores mean likelier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PlattText")]
pub struct Platt {
    a: f64,
    b: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlattText {
    a: f64,
    b: f64,
}

impl TryFrom<PlattText> for Platt {
    type Error = String;

    fn try_from(PlattText { a, b }: PlattText) -> Result<Platt, String> {
        if a.is_finite() && b.is_finite() { Ok(Platt { a, b }) } else { Err(format!("a sigmoid has a = {a}, b = {b}")) }
    }
}

impl Platt {
    pub fn probability(&self, score: f64) -> f64 {
        sigmoid(-(self.a * score + self.b))
    }

    /// The paper's `a` and `b`.
    pub fn parameters(&self) -> (f64, f64) {
        (self.a, self.b)
    }

    pub(super) fn fit(rows: &[Row]) -> Platt {
        let total =
            |positive: bool| rows.iter().filter(|row| row.positive == positive).map(|row| row.weight).sum::<f64>();
        let (positives, negatives) = (total(true), total(false));
        // Truths are drawn a little inwards, as if one more row of each kind had been seen.
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let target = |row: &Row| if row.positive { high } else { low };
        let loss = |a: f64, b: f64| -> f64 {
            let of = |row: &Row| {
                let z = a * row.score + b;
                row.weight * (softplus(z) - (1.0 - target(row)) * z)
            };
            rows.iter().map(of).sum()
        };
        let (mut a, mut b) = (0.0, ((negatives + 1.0) / (positives + 1.0)).ln());
        let mut here = loss(a, b);
        for _ in 0..STEPS_MAX {
            let (mut h11, mut h22, mut h21, mut g1, mut g2) = (RIDGE, RIDGE, 0.0, 0.0, 0.0);
            for row in rows {
                let p = sigmoid(-(a * row.score + b));
                let curvature = row.weight * p * (1.0 - p);
                h11 += row.score * row.score * curvature;
                h22 += curvature;
                h21 += row.score * curvature;
                let slope = row.weight * (target(row) - p);
                g1 += row.score * slope;
                g2 += slope;
            }
            if g1.abs().max(g2.abs()) < FLAT * (positives + negatives) {
                break;
            }
            let determinant = h11 * h22 - h21 * h21;
            let (da, db) = (-(h22 * g1 - h21 * g2) / determinant, -(h11 * g2 - h21 * g1) / determinant);
            let downhill = g1 * da + g2 * db;
            let mut step = 1.0;
            let better = loop {
                let there = loss(a + step * da, b + step * db);
                if there < here + 1e-4 * step * downhill {
                    break Some(there);
                }
                step /= 2.0;
                if step < STEP_MIN {
                    break None;
                }
            };
            let Some(there) = better else { break };
            (a, b, here) = (a + step * da, b + step * db, there);
        }
        Platt { a, b }
    }
}

/// `1 / (1 + exp(-z))` without overflow.
fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

/// `ln(1 + exp(z))` without overflow.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}
