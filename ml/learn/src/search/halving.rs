//! Successive halving without waiting: ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter
//! Tuning", algorithm 2).
//!
//! Every trial starts with little of a resource (trees, rounds, rows). Of those that got so far, the best of
//! each `eta` go on to `eta` times as much, as soon as they are among the best of those measured up to then:
//! nobody waits for a rung to fill.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::space::Complaints;

/// How the resource is given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// The least a trial gets. The first rung has this or up to `eta` times as much, so that the last has
    /// `max_resource` exactly.
    pub min_resource: u64,
    /// What the best trials get.
    pub max_resource: u64,
    /// One of so many goes on, with so many times as much.
    #[serde(default = "eta")]
    pub eta: u32,
    /// Whether a trial that goes on continues from where it stopped, and so costs the difference alone.
    #[serde(default)]
    pub continues: bool,
}

/// As recommended by the authors, with 4.
fn eta() -> u32 {
    3
}

impl Halving {
    pub(super) fn check(&self, complaints: &mut Complaints) {
        if self.min_resource == 0 {
            complaints.add("halving.min_resource", "is at least 1");
        }
        if self.max_resource <= self.min_resource {
            complaints.add("halving.max_resource", "is more than `min_resource`");
        }
        if self.eta < 2 {
            complaints.add("halving.eta", format!("is at least 2, not {}", self.eta));
        }
    }

    /// The resource of each rung, rising: `max_resource` divided by powers of `eta`, rounded, down to
    /// `min_resource`.
    pub fn rungs(&self) -> Vec<u64> {
        let mut rungs = vec![self.max_resource];
        let mut divisor = u64::from(self.eta.max(2));
        while self.max_resource / divisor >= self.min_resource.max(1) {
            rungs.push((self.max_resource + divisor / 2) / divisor);
            divisor = divisor.saturating_mul(u64::from(self.eta.max(2)));
        }
        rungs.dedup();
        rungs.reverse();
        rungs
    }

    /// What reaching a rung costs, in units of the resource.
    pub(super) fn cost(&self, rungs: &[u64], rung: usize) -> u64 {
        match (self.continues, rung.checked_sub(1)) {
            (true, Some(before)) => rungs[rung] - rungs[before],
            (_, _) => rungs[rung],
        }
    }
}

/// What came of the trials at each rung.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    eta: usize,
    rungs: Vec<Rung>,
}

#[derive(Clone, Debug, Default)]
struct Rung {
    /// Loss and trial, in the order of both; infinite for trials that failed or were pruned.
    results: Vec<(f64, u32)>,
    promoted: BTreeSet<u32>,
}

impl Ladder {
    pub fn new(rungs: usize, eta: u32) -> Ladder {
        Ladder { eta: eta as usize, rungs: vec![Rung::default(); rungs] }
    }

    /// Takes a result. Lower losses are better.
    pub fn add(&mut self, rung: usize, trial: u32, loss: f64) {
        let results = &mut self.rungs[rung].results;
        let before = |&(other, number): &(f64, u32)| other.total_cmp(&loss).then(number.cmp(&trial)).is_lt();
        results.insert(results.partition_point(before), (loss, trial));
    }

    /// The trial that may go on, and to which rung: the best of the highest rung that has one, as in the
    /// paper. Of equal losses the earlier trial counts as better.
    pub fn candidate(&self) -> Option<(u32, usize)> {
        let below_last = self.rungs.len().saturating_sub(1);
        self.rungs[..below_last].iter().enumerate().rev().find_map(|(at, rung)| {
            let best = &rung.results[..rung.results.len() / self.eta];
            let found = best.iter().find(|(loss, trial)| loss.is_finite() && !rung.promoted.contains(trial));
            found.map(|&(_, trial)| (trial, at + 1))
        })
    }

    /// Remembers that a trial goes on to this rung.
    pub fn promote(&mut self, trial: u32, rung: usize) {
        self.rungs[rung - 1].promoted.insert(trial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halving(min_resource: u64, max_resource: u64) -> Halving {
        Halving { min_resource, max_resource, eta: 3, continues: false }
    }

    #[test]
    fn the_last_rung_has_the_largest_resource() {
        assert_eq!(halving(1, 81).rungs(), [1, 3, 9, 27, 81]);
        assert_eq!(halving(1, 100).rungs(), [1, 4, 11, 33, 100]);
        assert_eq!(halving(20, 100).rungs(), [33, 100]);
        assert_eq!(halving(50, 100).rungs(), [100]);
    }

    #[test]
    fn what_continues_costs_the_difference() {
        let rungs = [1, 3, 9];
        assert_eq!(halving(1, 9).cost(&rungs, 2), 9);
        assert_eq!(Halving { continues: true, ..halving(1, 9) }.cost(&rungs, 2), 6);
        assert_eq!(Halving { continues: true, ..halving(1, 9) }.cost(&rungs, 0), 1);
    }

    #[test]
    fn one_of_three_goes_on_without_waiting_for_the_rung() {
        let mut ladder = Ladder::new(3, 3);
        ladder.add(0, 0, 0.5);
        ladder.add(0, 1, 0.4);
        assert_eq!(ladder.candidate(), None);
        ladder.add(0, 2, f64::INFINITY);
        assert_eq!(ladder.candidate(), Some((1, 1)));
        ladder.promote(1, 1);
        assert_eq!(ladder.candidate(), None);
        // A better one that comes later goes on too: the rung has grown no further, but it is the best now.
        ladder.add(0, 3, 0.1);
        assert_eq!(ladder.candidate(), Some((3, 1)));
        ladder.promote(3, 1);
        for (trial, loss) in [(1, 0.3), (3, 0.2), (4, 0.6)] {
            ladder.add(1, trial, loss);
        }
        // The highest rung first.
        ladder.add(0, 5, 0.05);
        assert_eq!(ladder.candidate(), Some((3, 2)));
    }

    #[test]
    fn failed_trials_never_go_on() {
        let mut ladder = Ladder::new(2, 2);
        (0..4).for_each(|trial| ladder.add(0, trial, f64::INFINITY));
        assert_eq!(ladder.candidate(), None);
    }
}
