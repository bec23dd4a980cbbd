//! Tree-structured Parzen estimators (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization").
//!
//! The trials are parted into the good and the rest; for each parameter by itself the value is taken that is
//! most of all likelier among the good. Parameters that apply under a condition are judged among the trials
//! that had them, so that an estimator that is behind goes on being tuned among its own kind.

use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, Value};
use super::parzen::Estimator;
use super::space::{Complaints, Domain, Space};
use crate::chance::{Chance, named};

/// Of the trials that aren't good the latest so many are looked at. Older ones count little anyway, and a
/// proposal takes some milliseconds at most however long the study is.
const BAD_MAX: usize = 200;

/// How trials are proposed; by default as Optuna does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tpe {
    /// So many trials are drawn at random first.
    pub startup: u32,
    /// Values looked at for each parameter.
    pub candidates: u32,
    /// This share of the trials is good, rounded up, ...
    pub good_share: f64,
    /// ... but no more than these.
    pub good_max: u32,
}

impl Default for Tpe {
    fn default() -> Tpe {
        Tpe { startup: 10, candidates: 24, good_share: 0.1, good_max: 25 }
    }
}

/// A trial that the proposal builds on.
pub(super) struct Seen<'a> {
    pub trial: u32,
    pub assignment: &'a Assignment,
}

impl Tpe {
    pub(super) fn check(&self, complaints: &mut Complaints) {
        if self.startup < 2 {
            complaints.add("sampler.tpe.startup", format!("is at least 2, not {}", self.startup));
        }
        if self.candidates == 0 {
            complaints.add("sampler.tpe.candidates", "is at least 1");
        }
        if !(self.good_share > 0.0 && self.good_share < 1.0) {
            complaints.add("sampler.tpe.good_share", format!("is over 0 and under 1, not {}", self.good_share));
        }
        if self.good_max == 0 {
            complaints.add("sampler.tpe.good_max", "is at least 1");
        }
    }

    /// Proposes a trial. `ranked` are those that ended, the best first; `open` are those that haven't, and
    /// count as bad: two workers then don't try the same at once (the "constant liar" of Ginsbourger et al. 2010).
    pub(super) fn propose(&self, space: &Space, ranked: &[Seen], open: &[Seen], seed: u64, stream: u64) -> Assignment {
        if ranked.len() < self.startup as usize {
            return space.sample(seed, stream);
        }
        space.assign(|name, parameter, _| {
            let mut chance = Chance::stream(seed, &[stream, named(name)]);
            self.value(name, &parameter.domain, ranked, open, &mut chance)
        })
    }

    fn value(&self, name: &str, domain: &Domain, ranked: &[Seen], open: &[Seen], chance: &mut Chance) -> Value {
        let with = |seen: &&Seen| seen.assignment.get(name).is_some();
        let mut good: Vec<&Seen> = ranked.iter().filter(with).collect();
        // Too few had this parameter to tell good from bad.
        if good.len() < self.startup as usize / 2 {
            return domain.sample(chance);
        }
        let count = (self.good_share * good.len() as f64).ceil().min(f64::from(self.good_max)) as usize;
        let mut bad = good.split_off(count);
        bad.extend(open.iter().filter(with));
        bad.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.trial));
        bad.truncate(BAD_MAX);
        let estimator = |mut seen: Vec<&Seen>| {
            seen.sort_unstable_by_key(|seen| seen.trial);
            let values: Vec<&Value> = seen.iter().filter_map(|seen| seen.assignment.get(name)).collect();
            Estimator::new(domain, &values)
        };
        let (good, bad) = (estimator(good), estimator(bad));
        let mut best = good.sample(chance);
        let mut best_gain = good.log_share(&best) - bad.log_share(&best);
        for _ in 1..self.candidates {
            let candidate = good.sample(chance);
            let gain = good.log_share(&candidate) - bad.log_share(&candidate);
            if gain > best_gain {
                (best, best_gain) = (candidate, gain);
            }
        }
        best
    }
}
