//! How long a step's tasks take: what windows and bundles are measured with.

use gristmill_protocol::limits::{REPORTS_REMEMBERED, REPORTS_TRUSTED};

/// The slot times of a step's last reports.
///
/// The estimate is the mean plus twice the mean deviation, as retransmission timers are set (RFC 6298 uses
/// four times): above most of the tasks without being ruled by one slow one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    recent_us: Vec<u32>,
    next: usize,
    reports: u64,
    mean_us: u64,
    /// Computed from `recent_us` when asked for; zero when it must be computed again.
    estimate_us: u64,
    max_us: u32,
}

impl Timing {
    /// Takes note of one task's time in a slot.
    pub(crate) fn record(&mut self, slot_us: u64) {
        let slot_us = u32::try_from(slot_us).unwrap_or(u32::MAX);
        if self.recent_us.len() < REPORTS_REMEMBERED {
            self.recent_us.push(slot_us);
        } else {
            self.recent_us[self.next] = slot_us;
        }
        self.next = (self.next + 1) % REPORTS_REMEMBERED;
        self.reports += 1;
        // Every eighth report, and the first ones, are often enough: the estimate moves slowly.
        if self.reports < 2 * REPORTS_TRUSTED as u64 || self.next.is_multiple_of(8) {
            self.estimate_us = 0;
        }
    }

    /// The expected time of one task in microseconds, at least 1; nothing before enough reports have come.
    pub(crate) fn estimate_us(&mut self) -> Option<u64> {
        if self.recent_us.len() < REPORTS_TRUSTED {
            return None;
        }
        if self.estimate_us == 0 {
            let count = self.recent_us.len() as u64;
            let mean = self.recent_us.iter().map(|&us| u64::from(us)).sum::<u64>() / count;
            let deviation = self.recent_us.iter().map(|&us| u64::from(us).abs_diff(mean)).sum::<u64>() / count;
            self.estimate_us = (mean + 2 * deviation).max(1);
            self.mean_us = mean.max(1);
            self.max_us = self.recent_us.iter().copied().max().unwrap_or(0);
        }
        Some(self.estimate_us)
    }

    /// The mean of the last reports in microseconds, at least 1; nothing before it was asked for with enough of them.
    pub(crate) fn mean_us(&self) -> Option<u64> {
        (self.mean_us > 0).then_some(self.mean_us)
    }

    /// The longest of the last reports, in microseconds.
    pub(crate) fn max_us(&mut self) -> u64 {
        self.estimate_us();
        u64::from(self.max_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_needs_enough_reports_and_follows_them() {
        let mut timing = Timing::default();
        for _ in 0..7 {
            timing.record(1_000);
            assert_eq!(timing.estimate_us(), None);
        }
        timing.record(1_000);
        assert_eq!(timing.estimate_us(), Some(1_000));
        for _ in 0..REPORTS_REMEMBERED {
            timing.record(50);
        }
        assert_eq!(timing.estimate_us(), Some(50));
        assert_eq!(timing.max_us(), 50);
    }
}
