//! The bootstrap (Efron 1979): how a metric scatters when the rows are drawn again with replacement.
//!
//! A draw is told as how often each row is in it, so that sorted rows stay sorted and nothing is copied; a
//! metric over rows is one over counts. Each draw has its own random stream: the interval is the same on
//! any number of threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::chance::{Chance, mix};
use crate::normal;

/// Draws at the least: with fewer the ends of an interval of 95 % are guesses.
pub const DRAWS_MIN: u32 = 100;
/// Draws at the most: the ends are then exact to some hundredth of their distance.
pub const DRAWS_MAX: u32 = 100_000;
/// Rows left out one by one for the acceleration; beyond, the rows are left out in so many groups.
const JACKKNIFE_MAX: usize = 500;

/// How rows are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// As many rows as there are, each any of them.
    #[default]
    Rows,
    /// Each row by itself as often as a Poisson variable of mean 1 says (Chamandy et al. 2012), from the seed, the draw
    /// and the row's number alone: partitions can be drawn apart. For thousands of rows and more.
    Poisson,
}

/// How the interval is taken from the draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Bias-corrected and accelerated (Efron 1987): right also where the scatter is skewed.
    #[default]
    Bca,
    /// The quantiles of the draws.
    Percentile,
}

/// What is asked of a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    pub seed: u64,
    pub draws: u32,
    /// The chance that the interval holds the true value.
    pub level: f64,
    pub method: Method,
    pub draw: Draw,
}

impl Default for Bootstrap {
    fn default() -> Bootstrap {
        Bootstrap { seed: 0, draws: 1_000, level: 0.95, method: Method::Bca, draw: Draw::Rows }
    }
}

/// A metric and where it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The metric on all rows.
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
    pub level: f64,
    /// Draws in which the metric was defined.
    pub draws: u32,
    /// Draws in which it wasn't, such as an area when all drawn rows are of one class.
    pub undefined: u32,
}

/// Why there is no interval.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BootstrapError {
    #[error("{DRAWS_MIN} to {DRAWS_MAX} draws are possible, not {draws}")]
    Draws { draws: u32 },
    #[error("the level of an interval is over 0 and under 1, not {level}")]
    Level { level: f64 },
    #[error("{rows} rows can't be drawn from; 2 to {} can", u32::MAX)]
    Rows { rows: usize },
    #[error("the metric isn't defined on the {rows} rows")]
    Undefined { rows: usize },
    #[error("the metric isn't defined in {undefined} of {draws} draws: there are too few rows of some kind")]
    MostlyUndefined { undefined: u32, draws: u32 },
}

impl Bootstrap {
    pub(super) fn check(&self, rows: usize) -> Result<(), BootstrapError> {
        if !(DRAWS_MIN..=DRAWS_MAX).contains(&self.draws) {
            return Err(BootstrapError::Draws { draws: self.draws });
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(BootstrapError::Level { level: self.level });
        }
        if rows < 2 || u32::try_from(rows).is_err() {
            return Err(BootstrapError::Rows { rows });
        }
        Ok(())
    }

    /// The metric of each draw, in their order.
    pub(super) fn draws<R: Send>(&self, rows: usize, metric: impl Fn(&[u32]) -> R + Sync) -> Vec<R> {
        let one = |counts: &mut Vec<u32>, draw: u32| {
            self.count(draw, counts);
            metric(counts)
        };
        (0..self.draws).into_par_iter().map_init(|| vec![0; rows], one).collect()
    }

    /// How often each row is in a draw.
    fn count(&self, draw: u32, counts: &mut [u32]) {
        match self.draw {
            Draw::Rows => {
                counts.fill(0);
                let mut chance = Chance::stream(self.seed, &[draw.into()]);
                for _ in 0..counts.len() {
                    counts[chance.below(counts.len() as u64) as usize] += 1;
                }
            }
            Draw::Poisson => {
                let stream = poisson_stream(self.seed, draw);
                (0..).zip(counts).for_each(|(row, count)| *count = poisson_of(stream, row));
            }
        }
    }

    /// The interval around the metric of all rows, given its draws.
    pub(super) fn interval(
        &self,
        rows: usize,
        estimate: f64,
        draws: &[f64],
        metric: impl Fn(&[u32]) -> f64 + Sync,
    ) -> Result<Interval, BootstrapError> {
        self.around(rows, estimate, draws, || left_out(rows, metric))
    }

    /// The same, given the metric with each row left out.
    fn around(
        &self,
        rows: usize,
        estimate: f64,
        draws: &[f64],
        left_out: impl FnOnce() -> Vec<f64>,
    ) -> Result<Interval, BootstrapError> {
        if !estimate.is_finite() {
            return Err(BootstrapError::Undefined { rows });
        }
        let mut defined: Vec<f64> = draws.iter().copied().filter(|value| value.is_finite()).collect();
        let undefined = (draws.len() - defined.len()) as u32;
        if undefined as usize * 2 > draws.len() {
            return Err(BootstrapError::MostlyUndefined { undefined, draws: self.draws });
        }
        defined.sort_unstable_by(f64::total_cmp);
        let (low, high) = match self.method {
            Method::Percentile => percentile(&defined, self.level),
            Method::Bca => {
                let left_out: Vec<f64> = left_out().into_iter().filter(|value| value.is_finite()).collect();
                bca(estimate, &defined, &left_out, self.level)
            }
        };
        Ok(Interval { estimate, low, high, level: self.level, draws: defined.len() as u32, undefined })
    }
}

/// An interval for a metric over `rows` rows. The metric is given how often each row is there; on all rows
/// that is once each. It may be called on several threads.
pub fn bootstrap(
    rows: usize,
    settings: &Bootstrap,
    metric: impl Fn(&[u32]) -> f64 + Sync,
) -> Result<Interval, BootstrapError> {
    settings.check(rows)?;
    let estimate = metric(&vec![1; rows]);
    settings.interval(rows, estimate, &settings.draws(rows, &metric), metric)
}

/// Intervals for several metrics over the same draws: `metrics` gives as many numbers each time it is called, those that
/// aren't defined not a number. All draws share their counts, so that many metrics cost little more than one.
pub fn bootstrap_all(
    rows: usize,
    settings: &Bootstrap,
    metrics: impl Fn(&[u32]) -> Vec<f64> + Sync,
) -> Result<Vec<Result<Interval, BootstrapError>>, BootstrapError> {
    settings.check(rows)?;
    let estimates = metrics(&vec![1; rows]);
    let draws = settings.draws(rows, &metrics);
    let left_out = match settings.method {
        Method::Bca => left_out(rows, metrics),
        Method::Percentile => Vec::new(),
    };
    let of = |all: &[Vec<f64>], at: usize| all.iter().map(|values| values[at]).collect::<Vec<f64>>();
    let one = |(at, estimate): (usize, &f64)| settings.around(rows, *estimate, &of(&draws, at), || of(&left_out, at));
    Ok(estimates.iter().enumerate().map(one).collect())
}

/// How often a row is in a draw by [`Draw::Poisson`].
pub fn poisson_count(seed: u64, draw: u32, row: u64) -> u32 {
    poisson_of(poisson_stream(seed, draw), row)
}

fn poisson_stream(seed: u64, draw: u32) -> u64 {
    Chance::stream(seed, &[draw.into()]).bits()
}

#[inline]
fn poisson_of(stream: u64, row: u64) -> u32 {
    let unit = (mix(stream ^ mix(row)) >> 11) as f64 / (1_u64 << 53) as f64;
    // The chance of 0 is 1/e, and each next chance that of the one before divided by its number.
    let (mut count, mut chance) = (0, (-1.0_f64).exp());
    let mut below = chance;
    while unit >= below && chance > 0.0 {
        count += 1;
        chance /= f64::from(count);
        below += chance;
    }
    count
}

/// The interval between the quantiles of sorted draws, interpolated linearly. Panics without draws.
pub fn percentile(sorted: &[f64], level: f64) -> (f64, f64) {
    (quantile(sorted, (1.0 - level) / 2.0), quantile(sorted, (1.0 + level) / 2.0))
}

/// The bias-corrected and accelerated interval (Efron and Tibshirani 1993, 14.3 and 15.36), from the metric on
/// all rows, the sorted draws, and the metric with each row left out. Panics without draws.
///
/// Where all draws are on one side of the estimate, the bias counts as if half a draw were on the other.
pub fn bca(estimate: f64, sorted: &[f64], left_out: &[f64], level: f64) -> (f64, f64) {
    let draws = sorted.len() as f64;
    let below = sorted.partition_point(|value| *value < estimate);
    let up_to = sorted.partition_point(|value| *value <= estimate);
    let share = (below + up_to) as f64 / 2.0 / draws;
    let bias = normal::quantile(share.clamp(0.5 / draws, 1.0 - 0.5 / draws));
    let mean = left_out.iter().sum::<f64>() / left_out.len().max(1) as f64;
    let moment = |power: i32| left_out.iter().map(|value| (mean - value).powi(power)).sum::<f64>();
    let spread = moment(2).powf(1.5);
    let acceleration = if spread > 0.0 { moment(3) / 6.0 / spread } else { 0.0 };
    let end = |share: f64| {
        let moved = bias + normal::quantile(share);
        quantile(sorted, normal::cumulative(bias + moved / (1.0 - acceleration * moved)))
    };
    (end((1.0 - level) / 2.0), end((1.0 + level) / 2.0))
}

/// The metric with each row left out, or each of [`JACKKNIFE_MAX`] groups of rows.
fn left_out<R: Send>(rows: usize, metric: impl Fn(&[u32]) -> R + Sync) -> Vec<R> {
    let groups = rows.min(JACKKNIFE_MAX);
    let one = |counts: &mut Vec<u32>, group: usize| {
        let of_group = |counts: &mut Vec<u32>, count: u32| {
            counts.iter_mut().skip(group).step_by(groups).for_each(|here| *here = count);
        };
        of_group(counts, 0);
        let value = metric(counts);
        of_group(counts, 1);
        value
    };
    (0..groups).into_par_iter().map_init(|| vec![1; rows], one).collect()
}

/// As `numpy.quantile` interpolates.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = sorted[place as usize];
    let above = sorted[(place as usize + 1).min(sorted.len() - 1)];
    below + (above - below) * place.fract()
}
