//! What of slots steps used, in each life of a run.

use std::collections::BTreeMap;

use super::AttemptOutcome;

/// What of slots the attempts of a step used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepUse {
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those whose result was there already. They use next to nothing.
    pub cached: u64,
    /// Microseconds in slots, all of them.
    pub slot_us: u64,
    /// Those of attempts that brought nothing: that failed, passed their timeout, were lost, handed back or cancelled.
    pub wasted_us: u64,
    /// Attempts of which it is known when they began, and microseconds that these waited for a slot after they were
    /// given out.
    pub waits: u64,
    pub waited_us: u64,
}

impl StepUse {
    /// Adds what others used.
    pub fn add(&mut self, other: &StepUse) {
        self.attempts += other.attempts;
        self.cached += other.cached;
        self.slot_us = self.slot_us.saturating_add(other.slot_us);
        self.wasted_us = self.wasted_us.saturating_add(other.wasted_us);
        self.waits += other.waits;
        self.waited_us = self.waited_us.saturating_add(other.waited_us);
    }
}

/// What of slots a run's steps used, by step and life: a run that is resumed has several, and each is paid for once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses(BTreeMap<(u16, usize), StepUse>);

impl Uses {
    /// Counts an attempt that has ended in a life; the first is 1.
    pub(super) fn count(&mut self, step: u16, life: usize, took_us: u64, waited_us: u64, outcome: &AttemptOutcome) {
        let (is_cached, is_result) = match outcome {
            AttemptOutcome::Succeeded { cached } => (*cached, true),
            // That a gate says no is what it was asked for.
            AttemptOutcome::Expanded { .. } | AttemptOutcome::Rejected { .. } => (false, true),
            AttemptOutcome::Running
            | AttemptOutcome::Failed(_)
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Lost
            | AttemptOutcome::Returned(_)
            | AttemptOutcome::Cancelled => (false, false),
        };
        // Whoever ends without a result doesn't say when it began.
        let is_timed = matches!(outcome, AttemptOutcome::Succeeded { .. } | AttemptOutcome::Expanded { .. });
        self.0.entry((step, life)).or_default().add(&StepUse {
            attempts: 1,
            cached: u64::from(is_cached),
            slot_us: took_us,
            wasted_us: if is_result { 0 } else { took_us },
            waits: u64::from(is_timed),
            waited_us: if is_timed { waited_us } else { 0 },
        });
    }

    /// What each step used in the lives that are wanted; the first is 1.
    pub fn of_lives(&self, wanted: impl Fn(usize) -> bool) -> BTreeMap<u16, StepUse> {
        let mut steps: BTreeMap<u16, StepUse> = BTreeMap::new();
        for ((step, _), used) in self.0.iter().filter(|((_, life), _)| wanted(*life)) {
            steps.entry(*step).or_default().add(used);
        }
        steps
    }
}
