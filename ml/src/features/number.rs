//! Numbers: clipped, filled in, their logarithm taken, scaled or put into bins.
//!
//! Each step is fitted on what the steps before it made of the training rows. Fitting keeps the values of a column
//! whose steps need more than sums: eight bytes a row.

use gristmill_protocol::pipeline::steps::{Clip, Impute, Scale};
use serde::{Deserialize, Serialize};

use super::plan::{Fill, NumberPlan};
use super::{Feature, Output, flag_output};
use crate::target::Moments;

/// Edges of bins closer than this are one, as in scikit-learn's `KBinsDiscretizer`.
const EDGE_DISTANCE_MIN: f64 = 1e-8;

/// What becomes of a number: clipped, filled in when missing, its logarithm taken, then `(value - center) / scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Number {
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Before the logarithm; none leaves it missing.
    pub fill: Option<f64>,
    pub log: bool,
    pub center: f64,
    pub scale: f64,
    pub indicator: bool,
}

/// Numbers by the bin that they are in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Binned {
    pub fill: Option<f64>,
    /// Where a bin ends and the next begins, rising; a value on an edge is in the upper bin.
    pub edges: Vec<f64>,
    pub one_hot: bool,
    pub indicator: bool,
}

impl Number {
    /// NaN for what stays missing.
    pub fn apply(&self, value: Option<f64>) -> f64 {
        let value = match value {
            Some(value) => clipped(value, self.low, self.high),
            None => match self.fill {
                Some(fill) => fill,
                None => return f64::NAN,
            },
        };
        let value = if self.log { signed_log(value) } else { value };
        (value - self.center) / self.scale
    }

    pub fn is_sound(&self) -> bool {
        let bounds = [self.low, self.high, self.fill];
        bounds.into_iter().flatten().all(f64::is_finite)
            && self.center.is_finite()
            && self.scale.is_finite()
            && self.scale > 0.0
    }
}

impl Binned {
    /// The bin; none for what stays missing.
    pub fn bin(&self, value: Option<f64>) -> Option<usize> {
        value.or(self.fill).map(|value| self.edges.partition_point(|edge| *edge <= value))
    }

    pub fn width(&self) -> usize {
        if self.one_hot { self.edges.len() + 1 } else { 1 }
    }

    pub fn is_sound(&self) -> bool {
        self.fill.is_none_or(f64::is_finite)
            && self.edges.iter().all(|edge| edge.is_finite())
            && self.edges.is_sorted()
            && (self.fill.is_some() || !self.one_hot)
    }
}

fn clipped(value: f64, low: Option<f64>, high: Option<f64>) -> f64 {
    let value = low.map_or(value, |low| value.max(low));
    high.map_or(value, |high| value.min(high))
}

/// `sign(x) ln(1 + |x|)`: the modulus transformation of John and Draper (1980, "An alternative family of
/// transformations") for λ = 0. For what isn't negative it is numpy's `log1p`.
fn signed_log(value: f64) -> f64 {
    value.abs().ln_1p().copysign(value)
}

/// The quantile of sorted values, interpolated between neighbours: numpy's default, type 7 of Hyndman and Fan (1996).
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let lower = sorted[below];
    let upper = sorted[(below + 1).min(sorted.len() - 1)];
    lower + (upper - lower) * (at - below as f64)
}

impl NumberPlan {
    /// Whether fitting needs the values and not only their sums.
    pub fn needs_values(&self) -> bool {
        self.impute == Fill::With(Impute::Median)
            || matches!(self.scale, Scale::Robust | Scale::MinMax)
            || self.clip.is_some()
            || self.bins.is_some()
            || self.log
    }

    /// Fits the steps. `values` are those that weren't missing, in the order of the rows, if they are needed.
    pub fn fit(
        &self,
        name: &str,
        mut moments: Moments,
        missing: u64,
        mut values: Vec<f64>,
        outputs: &mut Vec<Output>,
    ) -> Feature {
        let rows = moments.count + missing;
        let (low, high) = match self.clip {
            None => (None, None),
            Some(Clip::Bounds([low, high])) => (low, high),
            Some(Clip::Quantiles(clip)) => {
                let mut sorted = values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let [low, high] = clip.quantiles;
                (Some(quantile(&sorted, low)), Some(quantile(&sorted, high)))
            }
        };
        if self.clip.is_some() {
            values.iter_mut().for_each(|value| *value = clipped(*value, low, high));
            moments = moments_of(&values);
        }
        let fill = match self.impute {
            Fill::With(Impute::None) => None,
            Fill::AsMet if missing > 0 => None,
            Fill::With(Impute::Mean) | Fill::AsMet => Some(moments.mean),
            Fill::With(Impute::Median) => Some(median(&values)),
            Fill::With(Impute::Constant(value)) => Some(value),
        };
        let indicator = self.missing_indicator && missing > 0;
        let feature = if let Some(bins) = self.bins {
            values.extend(std::iter::repeat_n(fill, missing as usize).flatten());
            let binned = Binned { fill, edges: edges(&values, bins), one_hot: self.one_hot, indicator };
            binned_outputs(&binned, name, &values, outputs);
            Feature::Binned(binned)
        } else {
            if self.log {
                values.iter_mut().for_each(|value| *value = signed_log(*value));
                moments = moments_of(&values);
            }
            let filled_in = fill.map(|fill| if self.log { signed_log(fill) } else { fill });
            if let Some(value) = filled_in {
                moments.merge(&Moments::repeated(value, missing));
            }
            let (center, scale) = self.fit_scale(&moments, values, filled_in, missing);
            outputs.push(Output {
                name: name.to_owned(),
                mean: (moments.mean - center) / scale,
                std: moments.std() / scale,
                flag: false,
            });
            match fill {
                Some(impute) if self.clip.is_none() && !self.log => {
                    Feature::Numeric { impute, center, scale, indicator }
                }
                fill => Feature::Number(Number { low, high, fill, log: self.log, center, scale, indicator }),
            }
        };
        if indicator {
            outputs.push(flag_output(format!("{name}=<missing>"), missing, rows));
        }
        feature
    }

    /// Center and scale. A constant column stays as it is but for its center, as in scikit-learn.
    fn fit_scale(&self, moments: &Moments, mut values: Vec<f64>, fill: Option<f64>, missing: u64) -> (f64, f64) {
        let (center, scale) = match self.scale {
            Scale::None => return (0.0, 1.0),
            Scale::Standard => (moments.mean, moments.std()),
            Scale::MinMax => (moments.min, moments.max - moments.min),
            Scale::Robust => {
                values.extend(std::iter::repeat_n(fill, missing as usize).flatten());
                values.sort_unstable_by(f64::total_cmp);
                (quantile(&values, 0.5), quantile(&values, 0.75) - quantile(&values, 0.25))
            }
        };
        (center, if scale > 0.0 { scale } else { 1.0 })
    }
}

fn moments_of(values: &[f64]) -> Moments {
    let mut moments = Moments::default();
    values.iter().for_each(|&value| moments.add(value));
    moments
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower + (upper - lower) / 2.0
}

/// The inner edges of bins by quantiles. Values that come often make fewer bins, as in scikit-learn.
fn edges(values: &[f64], bins: u32) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = (0..=bins).map(|edge| quantile(&sorted, f64::from(edge) / f64::from(bins))).collect();
    edges.dedup_by(|next, kept| *next - *kept <= EDGE_DISTANCE_MIN);
    edges.pop();
    edges.drain(..1.min(edges.len()));
    edges
}

fn binned_outputs(binned: &Binned, name: &str, values: &[f64], outputs: &mut Vec<Output>) {
    let mut counts = vec![0; binned.edges.len() + 1];
    for &value in values {
        counts[binned.bin(Some(value)).expect("a value has a bin")] += 1;
    }
    if binned.one_hot {
        let rows = counts.iter().sum();
        let edge = |at: Option<usize>| at.and_then(|at| binned.edges.get(at)).map(f64::to_string).unwrap_or_default();
        for (bin, &count) in counts.iter().enumerate() {
            let bounds = format!("{name}={}..{}", edge(bin.checked_sub(1)), edge(Some(bin)));
            outputs.push(flag_output(bounds, count, rows));
        }
    } else {
        let mut moments = Moments::default();
        for (bin, &count) in counts.iter().enumerate() {
            moments.merge(&Moments::repeated(bin as f64, count));
        }
        outputs.push(Output { name: name.to_owned(), mean: moments.mean, std: moments.std(), flag: false });
    }
}
