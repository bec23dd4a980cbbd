//! Reports on their way: gathered briefly, sent together, kept for a while in case the store goes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gristmill_protocol::Shard;
use gristmill_protocol::limits::{FINISH_BYTES_MAX, FINISH_LINGER_MS, FINISH_REPORTS_MAX, REASSERT_MS};
use gristmill_protocol::message::Report;
use tokio::time::Instant;

/// Reports kept to be sent again, at the most: five seconds of a worker that ends ten thousand a second.
const KEPT_REPORTS_MAX: usize = 65_536;

/// Reports that haven't been sent, and those that were sent lately.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: BTreeMap<Shard, Vec<Report>>,
    reports: usize,
    bytes: usize,
    since: Option<Instant>,
    kept: VecDeque<(Instant, Shard, Vec<Report>)>,
    kept_reports: usize,
}

impl Outbox {
    /// Adds a report.
    pub(crate) fn push(&mut self, report: Report) {
        self.reports += 1;
        self.bytes += report.size_hint();
        self.since.get_or_insert_with(Instant::now);
        self.waiting.entry(report.attempt.run.shard()).or_default().push(report);
    }

    /// Whether the reports must not wait any longer: nothing more is about to end, or there are enough.
    pub(crate) fn is_due(&self, nothing_runs: bool) -> bool {
        self.reports > 0
            && (nothing_runs
                || self.reports >= FINISH_REPORTS_MAX
                || self.bytes >= FINISH_BYTES_MAX
                || self.deadline().is_some_and(|at| Instant::now() >= at))
    }

    /// When the oldest report must go.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + Duration::from_millis(FINISH_LINGER_MS))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reports == 0
    }

    /// The reports to send, in calls that keep the limits.
    pub(crate) fn take(&mut self) -> Vec<(Shard, Vec<Report>)> {
        self.reports = 0;
        self.bytes = 0;
        self.since = None;
        let mut calls = Vec::new();
        for (shard, reports) in std::mem::take(&mut self.waiting) {
            let (mut call, mut bytes) = (Vec::new(), 0);
            for report in reports {
                let size = report.size_hint();
                if !call.is_empty() && (call.len() >= FINISH_REPORTS_MAX || bytes + size > FINISH_BYTES_MAX) {
                    calls.push((shard, std::mem::take(&mut call)));
                    bytes = 0;
                }
                bytes += size;
                call.push(report);
            }
            calls.push((shard, call));
        }
        calls
    }

    /// Keeps reports that were taken, until the store has lived on for long enough: it is known to have
    /// `lived` until then. Time in which it is away doesn't count.
    pub(crate) fn keep(&mut self, shard: Shard, reports: Vec<Report>, lived: Option<Instant>) {
        self.kept_reports += reports.len();
        self.kept.push_back((Instant::now(), shard, reports));
        let safe = |at: Instant| {
            lived.is_some_and(|lived| lived.saturating_duration_since(at) > Duration::from_millis(REASSERT_MS))
        };
        while self.kept.front().is_some_and(|(at, ..)| safe(*at) || self.kept_reports > KEPT_REPORTS_MAX)
            && let Some((_, _, reports)) = self.kept.pop_front()
        {
            self.kept_reports -= reports.len();
        }
    }

    /// The reports that were taken lately, to be sent again: the store may have forgotten them.
    pub(crate) fn take_kept(&mut self) -> Vec<(Shard, Vec<Report>)> {
        self.kept_reports = 0;
        std::mem::take(&mut self.kept).into_iter().map(|(_, shard, reports)| (shard, reports)).collect()
    }
}

#[cfg(test)]
mod tests {
    use gristmill_protocol::message::Outcome;
    use gristmill_protocol::{AttemptRef, RunId, TaskKey};
    use serde_bytes::ByteBuf;

    use super::*;

    fn report(run: u128, output: usize) -> Report {
        Report {
            attempt: AttemptRef { run: RunId::from_u128(run), task: TaskKey { index: 0, tag: 0 }, attempt: 1 },
            started_us: 0,
            slot_us: 0,
            outcome: Outcome::Succeeded { output: ByteBuf::from(vec![0; output]), cached: false },
        }
    }

    #[test]
    fn calls_hold_one_shard_each_and_keep_the_limits() {
        let mut outbox = Outbox::default();
        for at in 0..600 {
            outbox.push(report(at % 2, 10));
        }
        assert!(outbox.is_due(false));
        let calls = outbox.take();
        assert_eq!(calls.iter().map(|(_, reports)| reports.len()).collect::<Vec<_>>(), [256, 44, 256, 44]);
        assert!(calls.iter().all(|(shard, reports)| reports.iter().all(|r| r.attempt.run.shard() == *shard)));
        assert!(outbox.is_empty() && !outbox.is_due(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_waits_two_milliseconds_for_others_that_are_about_to_end() {
        let mut outbox = Outbox::default();
        outbox.push(report(0, 10));
        assert!(outbox.is_due(true) && !outbox.is_due(false));
        tokio::time::advance(Duration::from_millis(FINISH_LINGER_MS)).await;
        assert!(outbox.is_due(false));
    }

    #[tokio::test(start_paused = true)]
    async fn reports_are_kept_for_five_seconds_in_which_the_store_lives() {
        let mut outbox = Outbox::default();
        let begin = Instant::now();
        outbox.keep(Shard(0), vec![report(0, 1)], Some(begin));
        tokio::time::advance(Duration::from_millis(10 * REASSERT_MS)).await;
        // The store has been away in the meantime.
        outbox.keep(Shard(1), vec![report(1, 1)], Some(begin + Duration::from_millis(REASSERT_MS)));
        let kept = |outbox: &mut Outbox| outbox.take_kept().into_iter().map(|(shard, _)| shard).collect::<Vec<_>>();
        assert_eq!(kept(&mut outbox), [Shard(0), Shard(1)]);
        outbox.keep(Shard(0), vec![report(0, 1)], Some(Instant::now()));
        tokio::time::advance(Duration::from_millis(REASSERT_MS + 1)).await;
        outbox.keep(Shard(1), vec![report(1, 1)], Some(Instant::now()));
        assert_eq!(kept(&mut outbox), [Shard(1)]);
    }
}
