//! A pool as the scheduler sees it: its slots, what is out in it, and its ready lanes in order.
//!
//! A lane is what is ready of one run for one pool at one priority. The order is: highest priority, where
//! each minute of waiting counts one; then the run with the least work out for its weight; then the run's id.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use gristmill_protocol::limits::{PRIORITY_AGE_MS, WINDOW_AHEAD_MS, WINDOW_MAX};
use gristmill_protocol::{RunId, Timestamp};

/// What is known of a pool from outside: its live workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSeen {
    /// Workers that take work.
    pub workers: u32,
    /// Their slots together.
    pub slots: u32,
}

/// The place of a lane in the order of its pool.
pub(crate) type LaneKey = (Reverse<i32>, u64, RunId, u16);

/// One pool.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) seen: PoolSeen,
    /// Attempts out.
    pub(crate) out: u32,
    /// Tasks ready in all lanes, those that wait for a limit included.
    pub(crate) ready: u64,
    /// Lanes with something ready, in the order in which they are served.
    pub(crate) order: BTreeSet<LaneKey>,
    /// When the lanes in `order` next gain a level by waiting.
    pub(crate) aging: BTreeSet<(Timestamp, RunId, u16)>,
}

impl Pool {
    /// How many attempts may be out, for tasks expected to take `estimate_us` each.
    ///
    /// What is out beyond the slots is a tenth of a second of work, so a priority acts at the next free slot
    /// and small tasks still keep every slot busy. Before anything is known, each slot has one in reserve.
    pub(crate) fn window(&self, estimate_us: Option<u64>) -> u32 {
        let slots = u64::from(self.seen.slots);
        let window = match estimate_us {
            None => 2 * slots,
            Some(estimate_us) => slots + slots * WINDOW_AHEAD_MS * 1_000 / estimate_us,
        };
        window.min(WINDOW_MAX as u64) as u32
    }
}

/// The level of a lane with this priority that has waited since then, and when it is next higher.
pub(crate) fn level(priority: i8, since: Timestamp, now: Timestamp) -> (i32, Timestamp) {
    let minutes = now.since(since) / PRIORITY_AGE_MS;
    let level = i32::from(priority) + i32::try_from(minutes).unwrap_or(i32::MAX / 2);
    (level, since.plus_ms((minutes + 1) * PRIORITY_AGE_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_a_tenth_of_a_second_beyond_the_slots() {
        let pool = Pool { seen: PoolSeen { workers: 2, slots: 4 }, ..Pool::default() };
        assert_eq!(pool.window(None), 8);
        assert_eq!(pool.window(Some(10_000)), 4 + 40);
        assert_eq!(pool.window(Some(60_000_000)), 4);
        assert_eq!(pool.window(Some(1)), WINDOW_MAX as u32);
        assert_eq!(Pool::default().window(Some(1)), 0);
    }

    #[test]
    fn a_minute_of_waiting_counts_one_priority() {
        let since = Timestamp(1_000);
        assert_eq!(level(-3, since, Timestamp(60_999)), (-3, Timestamp(61_000)));
        assert_eq!(level(-3, since, Timestamp(61_000)), (-2, Timestamp(121_000)));
    }
}
