//! What follows when an attempt ends without success: budgets by cause, and backoff.
//!
//! The first loss of a worker isn't counted against the task, since a neighbour may have killed it. The
//! task runs solo from then on; losses in solo count, so a poison task can't punish its neighbours for ever.

use gristmill_protocol::fact::{Cause, Next};
use gristmill_protocol::limits::{
    BACKOFF_FIRST_MS, BACKOFF_MAX_MS, LOST_BUDGET, RETURNED_BACKOFF_MAX_MS, TASK_ATTEMPTS_MAX, TIMED_OUT_BUDGET,
};
use gristmill_protocol::message::ReturnCause;
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, Timestamp};

/// How often a task may come back before it runs solo, once a spot machine that was taken away has brought it back. Losses
/// there count against no budget: of a task that is poison, the neighbours at least are spared.
const SPOT_SOLO_FROM: u16 = 3;

/// What a task has used up, by cause. Most tasks have none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) failed: u16,
    pub(crate) timed_out: u16,
    pub(crate) lost: u16,
    pub(crate) returned: u16,
    /// Whether it runs with no neighbour from now on.
    pub(crate) solo: bool,
}

impl Budget {
    /// Counts one end of an attempt.
    pub(crate) fn count(&mut self, cause: &Cause) {
        match cause {
            Cause::Failed(_) => self.failed += 1,
            Cause::TimedOut => self.timed_out += 1,
            Cause::Lost if self.solo => self.lost += u16::from(!left_out(Twin::LossesCount)),
            Cause::Lost => self.solo = true,
            Cause::Returned(cause) => {
                self.returned += 1;
                // A task that comes back from machine after machine may be what ends them.
                self.solo |= *cause == ReturnCause::SpotNotice && self.returned >= SPOT_SOLO_FROM;
            }
            Cause::Rejected { .. } | Cause::Cancelled => {}
        }
    }

    /// What follows, after the end was counted. `failed_budget` is the step's: retries and one.
    pub(crate) fn next(&self, now: Timestamp, attempt: AttemptRef, cause: &Cause, failed_budget: u16) -> Next {
        if attempt.attempt >= TASK_ATTEMPTS_MAX {
            return Next::Fail;
        }
        let retry = |delay_ms: u64| Next::Retry { at: now.plus_ms(delay_ms), solo: self.solo };
        match cause {
            Cause::Failed(failure) if failure.code.is_retryable() && self.failed < failed_budget => {
                retry(backoff_ms(self.failed, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, attempt))
            }
            Cause::TimedOut if self.timed_out < TIMED_OUT_BUDGET => {
                retry(backoff_ms(self.timed_out, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, attempt))
            }
            Cause::Lost if self.lost < LOST_BUDGET => retry(0),
            Cause::Returned(_) => {
                let delay_ms = match self.returned {
                    0 | 1 => 0,
                    count => (1_000 << (count - 2).min(20)).min(RETURNED_BACKOFF_MAX_MS),
                };
                retry(delay_ms)
            }
            Cause::Failed(_) | Cause::TimedOut | Cause::Lost => Next::Fail,
            Cause::Rejected { .. } => Next::Reject,
            Cause::Cancelled => Next::Drop,
        }
    }
}

/// Milliseconds to wait after failure number `count` (from 1): doubling, bounded, times 0.5 to 1 by the
/// attempt's hash, so that what failed together doesn't come back together, and replays the same.
fn backoff_ms(count: u16, first_ms: u64, max_ms: u64, attempt: AttemptRef) -> u64 {
    let doublings = u32::from(count.saturating_sub(1)).min(32);
    let full = first_ms.saturating_mul(1 << doublings).min(max_ms);
    let half = full / 2;
    half + attempt.hash64() % (full - half + 1)
}

#[cfg(test)]
mod tests {
    use gristmill_protocol::{ErrorCode, Failure, RunId, TaskKey};

    use super::*;

    fn attempt(number: u16) -> AttemptRef {
        AttemptRef { run: RunId::from_u128(7), task: TaskKey { index: 3, tag: 0 }, attempt: number }
    }

    fn ends(budget: &mut Budget, number: u16, cause: &Cause) -> Next {
        budget.count(cause);
        budget.next(Timestamp(0), attempt(number), cause, 3)
    }

    #[test]
    fn a_failure_that_may_pass_is_retried_until_its_budget_is_used_up() {
        let cause = Cause::Failed(Failure::new(ErrorCode::Unavailable, "no"));
        let mut budget = Budget::default();
        for (number, span) in [(1, 500..=1_000), (2, 1_000..=2_000)] {
            let Next::Retry { at, solo: false } = ends(&mut budget, number, &cause) else { panic!("not retried") };
            assert!(span.contains(&at.0), "{at:?} after failure {number}");
        }
        assert_eq!(ends(&mut budget, 3, &cause), Next::Fail);
    }

    #[test]
    fn a_failure_that_stays_is_not_retried() {
        let cause = Cause::Failed(Failure::new(ErrorCode::BadInput, "no"));
        assert_eq!(ends(&mut Budget::default(), 1, &cause), Next::Fail);
        assert_eq!(ends(&mut Budget::default(), 1, &Cause::TimedOut), Next::Fail);
    }

    #[test]
    fn the_first_loss_is_free_and_three_in_solo_park_the_task() {
        let mut budget = Budget::default();
        for number in 1..=3 {
            assert_eq!(ends(&mut budget, number, &Cause::Lost), Next::Retry { at: Timestamp(0), solo: true });
        }
        assert_eq!(ends(&mut budget, 4, &Cause::Lost), Next::Fail);
    }

    #[test]
    fn handing_back_is_free_but_slows_down() {
        let mut budget = Budget::default();
        let cause = Cause::Returned(ReturnCause::Draining);
        let delays: Vec<u64> = (1..=9)
            .map(|number| match ends(&mut budget, number, &cause) {
                Next::Retry { at, .. } => at.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(delays, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_machine_that_is_taken_away_costs_nothing_and_a_task_that_follows_many_runs_solo() {
        let mut budget = Budget::default();
        let cause = Cause::Returned(ReturnCause::SpotNotice);
        let solo: Vec<bool> = (1..=20)
            .map(|number| match ends(&mut budget, number, &cause) {
                Next::Retry { solo, .. } => solo,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((&solo[..3], &solo[3..]), (&[false, false, true][..], &[true; 17][..]));
        assert_eq!((budget.lost, budget.failed), (0, 0));
    }

    #[test]
    fn no_task_has_more_than_a_thousand_attempts() {
        let cause = Cause::Returned(ReturnCause::Draining);
        assert_eq!(ends(&mut Budget::default(), TASK_ATTEMPTS_MAX, &cause), Next::Fail);
    }
}
