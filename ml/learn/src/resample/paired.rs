//! Two models on the same rows: is one better, or did the rows happen to suit it?

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, BootstrapError, Interval};
use crate::normal;

/// Rows on which exactly one of two models is right, up to which McNemar's test is exact: 2⁻¹⁰⁰⁰ is still a
/// floating-point number.
const EXACT_MAX: u64 = 1_000;

/// How far a metric of one model is from that of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub first: f64,
    pub second: f64,
    /// Of the first minus the second.
    pub interval: Interval,
    /// Two-sided: how often draws would be on the other side of zero were there no difference.
    pub p: f64,
}

/// The paired bootstrap: both models are measured on the same draws, so that hard and easy rows cancel out.
/// The p-value is twice the smaller share of draws on one side of zero, with one added to draws and share
/// (Davison and Hinkley 1997, 4.2).
pub fn difference(
    rows: usize,
    settings: &Bootstrap,
    metrics: impl Fn(&[u32]) -> (f64, f64) + Sync,
) -> Result<Difference, BootstrapError> {
    settings.check(rows)?;
    let (first, second) = metrics(&vec![1; rows]);
    let minus = |counts: &[u32]| {
        let (first, second) = metrics(counts);
        first - second
    };
    let draws = settings.draws(rows, minus);
    let interval = settings.interval(rows, first - second, &draws, minus)?;
    let beyond = |side: fn(f64) -> bool| 1.0 + draws.iter().filter(|draw| side(**draw)).count() as f64;
    let smaller = beyond(|draw| draw <= 0.0).min(beyond(|draw| draw >= 0.0));
    let p = (2.0 * smaller / (f64::from(interval.draws) + 1.0)).min(1.0);
    Ok(Difference { first, second, interval, p })
}

/// McNemar's test (1947): the two-sided p-value of two classifiers being right equally often, from the rows on
/// which only the first and only the second is right. The exact binomial test up to a thousand such rows,
/// beyond them chi-square with continuity correction. 1 without such rows.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let rows = only_first.saturating_add(only_second);
    if rows == 0 {
        return 1.0;
    }
    if rows > EXACT_MAX {
        let distance = only_first.abs_diff(only_second).saturating_sub(1) as f64;
        // Chi-square of one degree is a squared normal.
        return normal::complement((distance * distance / rows as f64 / 2.0).sqrt());
    }
    let mut chance = 0.5_f64.powi(rows as i32);
    let mut tail = chance;
    for count in 1..=only_first.min(only_second) {
        chance *= (rows - count + 1) as f64 / count as f64;
        tail += chance;
    }
    (2.0 * tail).min(1.0)
}

/// Two areas under ROC curves on the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeLong {
    pub first: f64,
    pub second: f64,
    /// Variance of the first area, of the second, and their covariance.
    pub variances: [f64; 3],
    /// Standard deviations between the areas; 0 when neither varies against the other.
    pub z: f64,
    /// Two-sided, of the areas being equal.
    pub p: f64,
}

/// The test of DeLong, DeLong and Clarke-Pearson (1988) in the fast form of Sun and Xu (2014): by ranks, so
/// that sorting is all it costs. None with fewer than two rows of a class. Panics when the lengths differ.
pub fn delong(first: &[f64], second: &[f64], positive: &[bool]) -> Option<DeLong> {
    assert!(first.len() == positive.len() && second.len() == positive.len(), "each score has its truth");
    let positives = positive.iter().filter(|positive| **positive).count();
    let negatives = positive.len() - positives;
    if positives < 2 || negatives < 2 {
        return None;
    }
    let [a, b] = [first, second].map(|scores| components(scores, positive));
    let covariance = |x: &[f64], y: &[f64]| {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (mx, my) = (mean(x), mean(y));
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / (x.len() - 1) as f64
    };
    let of = |x: &[Vec<f64>; 2], y: &[Vec<f64>; 2]| {
        covariance(&x[1], &y[1]) / positives as f64 + covariance(&x[0], &y[0]) / negatives as f64
    };
    let variances = [of(&a, &a), of(&b, &b), of(&a, &b)];
    let area = |components: &[Vec<f64>; 2]| components[1].iter().sum::<f64>() / positives as f64;
    let (first, second) = (area(&a), area(&b));
    let variance = variances[0] + variances[1] - 2.0 * variances[2];
    let z = if variance > 0.0 { (first - second) / variance.sqrt() } else { 0.0 };
    Some(DeLong { first, second, variances, z, p: normal::complement(z.abs() / std::f64::consts::SQRT_2) })
}

/// For each negative row the share of positive rows above it, and for each positive row the share of negative
/// rows below it, ties counting half.
fn components(scores: &[f64], positive: &[bool]) -> [Vec<f64>; 2] {
    let of = |class: bool| -> Vec<f64> {
        scores.iter().zip(positive).filter(|(_, positive)| **positive == class).map(|(score, _)| *score).collect()
    };
    let classes = [of(false), of(true)];
    let sorted = classes.clone().map(|mut scores| {
        scores.sort_unstable_by(f64::total_cmp);
        scores
    });
    // Half the sum of those below and those not above is the rank among the others, ties counting half.
    let below = |others: &[f64], score: f64| {
        let less = others.partition_point(|other| *other < score);
        let up_to = others.partition_point(|other| *other <= score);
        (less + up_to) as f64 / 2.0 / others.len() as f64
    };
    let above_negative = classes[0].iter().map(|score| 1.0 - below(&sorted[1], *score)).collect();
    let below_positive = classes[1].iter().map(|score| below(&sorted[0], *score)).collect();
    [above_negative, below_positive]
}
