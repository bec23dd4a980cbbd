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
    /// Tasks that are ready or out there of the runs of other schedulers, when that was last heard.
    pub elsewhere: u64,
}

/// The place of a lane in the order of its pool.
pub(crate) type LaneKey = (Reverse<i32>, u64, RunId, u16);

/// One pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) seen: PoolSeen,
    /// Attempts out.
    pub(crate) out: u32,
    /// What they take of the room together.
    pub(crate) out_share: u64,
    /// Tasks ready in all lanes, those that wait for a limit included.
    pub(crate) ready: u64,
    /// Lanes with something ready, in the order in which they are served.
    pub(crate) order: BTreeSet<LaneKey>,
    /// When the lanes in `order` next gain a level by waiting.
    pub(crate) aging: BTreeSet<(Timestamp, RunId, u16)>,
}

/// One slot's worth of what may be out.
const SLOT: u64 = 1 << 30;

/// What an attempt takes of the room of its pool, where a slot holds [`SLOT`].
///
/// `e / (e + 100 ms)`: of tasks that take `e` each, exactly `slots + slots × 100 ms / e` may be out, and tasks of
/// different lengths share the room by their work. One of unknown length counts as if it took 100 ms, so each
/// slot has one more in reserve.
fn share(estimate_us: Option<u64>) -> u64 {
    let ahead_us = WINDOW_AHEAD_MS * 1_000;
    let estimate_us = estimate_us.unwrap_or(ahead_us).min(u64::from(u32::MAX));
    (SLOT * estimate_us / (estimate_us + ahead_us)).max(1)
}

impl Pool {
    /// How many more attempts may go out, of tasks expected to take `estimate_us` each.
    ///
    /// What is out beyond the slots is a tenth of a second of work, so a priority acts at the next free slot
    /// and small tasks still keep every slot busy. Schedulers divide the room by what each has ready or out, which
    /// is exact within one and a second late between them; each may always have one attempt out.
    pub(crate) fn room(&self, estimate_us: Option<u64>) -> u32 {
        if self.seen.slots == 0 {
            return 0;
        }
        let here = self.demand().max(1);
        let part = |whole: u64| (u128::from(whole) * u128::from(here) / u128::from(here + self.seen.elsewhere)) as u64;
        let free = part(u64::from(self.seen.slots) * SLOT).saturating_sub(self.out_share) / share(estimate_us);
        let most = part(WINDOW_MAX as u64).saturating_sub(u64::from(self.out));
        (free.min(most) as u32).max(u32::from(self.out == 0))
    }

    /// Tasks that are ready or out.
    pub(crate) fn demand(&self) -> u64 {
        self.ready + u64::from(self.out)
    }

    /// Attempts of tasks expected to take `estimate_us` each have gone out.
    pub(crate) fn take(&mut self, estimate_us: Option<u64>, count: u32) {
        self.out += count;
        self.out_share += share(estimate_us) * u64::from(count);
    }

    /// An attempt that was taken with this estimate isn't out any more.
    pub(crate) fn give_back(&mut self, estimate_us: Option<u64>) {
        self.out -= 1;
        self.out_share -= share(estimate_us);
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
    fn the_room_holds_a_tenth_of_a_second_beyond_the_slots() {
        let pool = Pool { seen: PoolSeen { workers: 2, slots: 4, elsewhere: 0 }, ..Pool::default() };
        assert_eq!(pool.room(None), 8);
        assert_eq!(pool.room(Some(10_000)), 4 + 40);
        assert_eq!(pool.room(Some(60_000_000)), 4);
        assert_eq!(pool.room(Some(1)), WINDOW_MAX as u32);
        assert_eq!(Pool::default().room(Some(1)), 0);
    }

    #[test]
    fn what_is_out_counts_by_its_work() {
        let mut pool = Pool { seen: PoolSeen { workers: 1, slots: 2, elsewhere: 0 }, ..Pool::default() };
        pool.take(Some(20), 4_000);
        assert_eq!(pool.room(None), 2, "four thousand tasks of 20 µs leave room for others");
        assert_eq!(pool.room(Some(20)), 96);
        pool.take(None, 2);
        assert_eq!(pool.room(None), 0);
        for _ in 0..4_000 {
            pool.give_back(Some(20));
        }
        assert_eq!(pool.room(None), 2);
    }

    #[test]
    fn schedulers_divide_the_room_by_their_demand() {
        let seen = PoolSeen { workers: 2, slots: 4, elsewhere: 300 };
        let mut pool = Pool { seen, ready: 100, ..Pool::default() };
        assert_eq!(pool.room(None), 2);
        pool.seen.elsewhere = 1_000_000;
        assert_eq!(pool.room(None), 1, "one may always be out");
        pool.take(None, 1);
        assert_eq!(pool.room(None), 0);
    }

    #[test]
    fn a_minute_of_waiting_counts_one_priority() {
        let since = Timestamp(1_000);
        assert_eq!(level(-3, since, Timestamp(60_999)), (-3, Timestamp(61_000)));
        assert_eq!(level(-3, since, Timestamp(61_000)), (-2, Timestamp(121_000)));
    }
}
