//! Parzen estimators of one parameter: a bump around each value seen, and a wide one over the whole range.
//!
//! As in Bergstra et al. 2011 with the choices of Optuna (`optuna/samplers/_tpe/parzen_estimator.py`): normal
//! bumps cut at the range, as wide as the farther of their two neighbours, but no narrower than the range
//! divided by the number of bumps plus one (at most by 100); one bump of weight 1 for what wasn't seen.

use super::assignment::Value;
use super::space::Domain;
use crate::chance::Chance;
use crate::normal;

/// So many of the latest values count in full.
const LATEST_IN_FULL: usize = 25;
/// The narrowest bump is the range divided by this.
const RANGE_OVER_NARROWEST: f64 = 100.0;

/// So many widths from its mean a bump is nothing: 1e-18 of its height.
const FAR: f64 = 9.0;
/// Up to half a width is near.
const NEAR: f64 = 0.5;

/// What is known of one parameter.
pub enum Estimator<'a> {
    Choices { choices: &'a [Value], weights: Vec<f64> },
    Numbers { domain: &'a Domain, low: f64, high: f64, bumps: Vec<Bump> },
}

/// A normal distribution cut at the range.
pub struct Bump {
    mean: f64,
    width: f64,
    weight: f64,
    /// Share of the uncut distribution inside the range.
    inside: f64,
}

impl<'a> Estimator<'a> {
    /// From the values seen, the oldest first.
    pub fn new(domain: &'a Domain, seen: &[&Value]) -> Estimator<'a> {
        let weights = weights(seen.len());
        if let Domain::Categorical { choices } = domain {
            // Each value seen counts for its choice, and one more is spread over all choices.
            let total = weights.iter().sum::<f64>() + 1.0;
            let mut shares = vec![1.0 / choices.len() as f64 / total; choices.len()];
            for (value, weight) in seen.iter().zip(&weights) {
                if let Some(at) = choices.iter().position(|choice| choice == *value) {
                    shares[at] += weight / total;
                }
            }
            return Estimator::Choices { choices, weights: shares };
        }
        let (low, high) = domain.bounds();
        let mut places: Vec<(f64, f64, bool)> = seen
            .iter()
            .zip(&weights)
            .filter_map(|(value, weight)| domain.coordinate(value).map(|at| (at, *weight, false)))
            .collect();
        places.push((low + (high - low) / 2.0, 1.0, true));
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = places.iter().map(|place| place.1).sum();
        let range = high - low;
        let narrowest = range / RANGE_OVER_NARROWEST.min(places.len() as f64 + 1.0);
        let bump = |at: usize| {
            let (mean, weight, wide) = places[at];
            // At the ends there is one neighbour: the range's end is none.
            let left = at.checked_sub(1).map(|left| mean - places[left].0);
            let right = places.get(at + 1).map(|right| right.0 - mean);
            let neighbour = left.into_iter().chain(right).fold(0.0, f64::max);
            let width = if wide { range } else { neighbour.clamp(narrowest, range) };
            let inside = normal::cumulative((high - mean) / width) - normal::cumulative((low - mean) / width);
            Bump { mean, width, weight: weight / total, inside }
        };
        Estimator::Numbers { domain, low, high, bumps: (0..places.len()).map(bump).collect() }
    }

    /// A value at random by these shares.
    pub fn sample(&self, chance: &mut Chance) -> Value {
        match self {
            Estimator::Choices { choices, weights } => choices[pick(weights.iter().copied(), chance)].clone(),
            Estimator::Numbers { domain, low, high, bumps } => {
                if low >= high {
                    return domain.at(*low);
                }
                let bump = &bumps[pick(bumps.iter().map(|bump| bump.weight), chance)];
                // The mean is inside and the width at most the range, so that at least one of three is.
                loop {
                    let at = bump.mean + bump.width * chance.normal();
                    if (*low..=*high).contains(&at) {
                        return domain.at(at);
                    }
                }
            }
        }
    }

    /// The logarithm of a value's share: of its density where values aren't counted.
    pub fn log_share(&self, value: &Value) -> f64 {
        match self {
            Estimator::Choices { choices, weights } => {
                choices.iter().position(|choice| choice == value).map_or(f64::NEG_INFINITY, |at| weights[at].ln())
            }
            Estimator::Numbers { domain, low, high, bumps } => {
                if low >= high {
                    return 0.0;
                }
                let part = |bump: &Bump| bump.weight / bump.inside;
                let share: f64 = match (domain.cell(value), domain.coordinate(value)) {
                    (Some((from, to)), _) => bumps.iter().map(|bump| part(bump) * bump.within(from, to)).sum(),
                    (None, Some(at)) => bumps.iter().map(|bump| part(bump) * bump.density(at)).sum(),
                    (None, None) => 0.0,
                };
                share.max(f64::MIN_POSITIVE).ln()
            }
        }
    }
}

impl Bump {
    /// The uncut distribution's density.
    fn density(&self, at: f64) -> f64 {
        let z = (at - self.mean) / self.width;
        if z.abs() > FAR { 0.0 } else { normal::density(z) / self.width }
    }

    /// The uncut distribution's share between two coordinates: by Simpson's rule where they are near each
    /// other, which is exact to some 1e-5 and costs a fraction of the distribution function.
    fn within(&self, from: f64, to: f64) -> f64 {
        if (to - from) < NEAR * self.width {
            return (to - from) / 6.0
                * (self.density(from) + 4.0 * self.density(from + (to - from) / 2.0) + self.density(to));
        }
        normal::cumulative((to - self.mean) / self.width) - normal::cumulative((from - self.mean) / self.width)
    }
}

/// An index, as likely as its weight.
fn pick(weights: impl Iterator<Item = f64>, chance: &mut Chance) -> usize {
    let mut left = chance.unit();
    let mut last = 0;
    for (at, weight) in weights.enumerate() {
        last = at;
        if left < weight {
            break;
        }
        left -= weight;
    }
    last
}

/// The latest 25 values count in full, those before less the older they are, down to one of all.
fn weights(count: usize) -> Vec<f64> {
    let older = count.saturating_sub(LATEST_IN_FULL);
    let least = 1.0 / count.max(1) as f64;
    let weight = |at: usize| match at {
        at if at >= older => 1.0,
        _ if older == 1 => least,
        at => least + (1.0 - least) * at as f64 / (older - 1) as f64,
    };
    (0..count).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole_share(domain: &Domain, values: Vec<Value>, seen: &[&Value]) -> f64 {
        let estimator = Estimator::new(domain, seen);
        values.iter().map(|value| estimator.log_share(value).exp()).sum()
    }

    #[test]
    fn shares_of_all_values_add_up_to_one() {
        for log in [false, true] {
            let domain = Domain::Integer { low: 1, high: 30, step: 1, log };
            let values: Vec<Value> = (1..=30_i64).map(Value::from).collect();
            let seen = [&values[3], &values[4], &values[29]];
            assert!((whole_share(&domain, values.clone(), &seen) - 1.0).abs() < 1e-5);
        }
        let choices: Vec<Value> = ["a", "b", "c"].map(Value::from).to_vec();
        let domain = Domain::Categorical { choices: choices.clone() };
        assert!((whole_share(&domain, choices.clone(), &[&choices[1]]) - 1.0).abs() < 1e-12);
        // A density: the mean over many places times the range.
        let domain = Domain::Float { low: -1.0, high: 3.0, step: None, log: false };
        let grid: Vec<Value> = (0..40_000).map(|at| Value::Float(-1.0 + 4.0 * (at as f64 + 0.5) / 4e4)).collect();
        let (a, b) = (Value::Float(0.2), Value::Float(2.9));
        assert!((whole_share(&domain, grid, &[&a, &b]) * 4.0 / 4e4 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn values_near_those_seen_are_likelier() {
        let domain = Domain::Float { low: 1e-4, high: 1.0, step: None, log: true };
        let seen = [Value::Float(0.01), Value::Float(0.012)];
        let estimator = Estimator::new(&domain, &seen.iter().collect::<Vec<_>>());
        assert!(estimator.log_share(&Value::Float(0.011)) > estimator.log_share(&Value::Float(0.9)) + 0.5);
        let mut chance = Chance::stream(1, &[]);
        let near =
            (0..1000).filter(|_| matches!(estimator.sample(&mut chance), Value::Float(v) if v > 1e-3 && v < 0.1));
        assert!(near.count() > 550);
    }

    #[test]
    fn old_values_count_less() {
        assert_eq!(weights(3), [1.0; 3]);
        let weights = weights(30);
        assert_eq!(&weights[5..], [1.0; 25]);
        assert!((weights[0] - 1.0 / 30.0).abs() < 1e-15 && (weights[4] - 1.0).abs() < 1e-15);
    }
}
