//! Attempts counted and timed together.

use super::AttemptOutcome;

/// What some attempts came to, all together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those that brought their task's result.
    pub succeeded: u64,
    /// Those of them whose result was an equal earlier one.
    pub cached: u64,
    /// Those that failed, passed their timeout or were lost with their worker.
    pub failed: u64,
    /// Microseconds in slots.
    pub busy_us: u64,
    /// The longest, in microseconds.
    pub longest_us: u64,
    /// The first start and the last end, in microseconds since the Unix epoch.
    pub span_us: Option<(u64, u64)>,
}

impl Tally {
    /// Counts an attempt that has ended.
    pub(super) fn count(&mut self, started_us: u64, took_us: u64, outcome: &AttemptOutcome) {
        let (mut succeeded, mut cached, mut failed) = (0, 0, 0);
        match outcome {
            AttemptOutcome::Succeeded { cached: earlier } => (succeeded, cached) = (1, u64::from(*earlier)),
            AttemptOutcome::Failed(_) | AttemptOutcome::TimedOut | AttemptOutcome::Lost => failed = 1,
            AttemptOutcome::Running
            | AttemptOutcome::Expanded { .. }
            | AttemptOutcome::Rejected { .. }
            | AttemptOutcome::Returned(_)
            | AttemptOutcome::Cancelled => {}
        }
        self.add(&Tally {
            attempts: 1,
            succeeded,
            cached,
            failed,
            busy_us: took_us,
            longest_us: took_us,
            span_us: Some((started_us, started_us.saturating_add(took_us))),
        });
    }

    /// Adds what others came to.
    pub fn add(&mut self, other: &Tally) {
        self.attempts += other.attempts;
        self.succeeded += other.succeeded;
        self.cached += other.cached;
        self.failed += other.failed;
        self.busy_us = self.busy_us.saturating_add(other.busy_us);
        self.longest_us = self.longest_us.max(other.longest_us);
        self.span_us = match (self.span_us, other.span_us) {
            (Some(ours), Some(theirs)) => Some((ours.0.min(theirs.0), ours.1.max(theirs.1))),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// Seconds of a single attempt on average; nothing before the first has ended.
    pub fn mean_seconds(&self) -> Option<f64> {
        (self.attempts > 0).then(|| self.busy_us as f64 / 1e6 / self.attempts as f64)
    }
}
