//! The store's time between two looks at it, and when not to trust it.

use std::time::Duration;

use gristmill_backends::state::{StoreClock, StoreId};
use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::{CLOCK_STEP_MS, LEASE_MS};
use gristmill_protocol::twins::{Twin, left_out};
use tokio::time::Instant;

/// The store's time, carried forward by a monotonic clock and never going back.
#[derive(Debug)]
pub(crate) struct Clock {
    seen: StoreClock,
    at: Instant,
    latest: Timestamp,
    /// Nothing expires before.
    grace_until: Instant,
    /// How often the store's time turned out not to follow from what was known of it.
    steps: u64,
}

impl Clock {
    /// A clock after its first look. What the store went through before isn't known, so nothing expires for
    /// one full lease: it may have been away, and its workers with it.
    pub(crate) fn new(seen: StoreClock) -> Clock {
        let at = Instant::now();
        Clock { seen, at, latest: seen.now, grace_until: at + Duration::from_millis(LEASE_MS), steps: 0 }
    }

    /// The life of the store that was seen last.
    pub(crate) fn store(&self) -> StoreId {
        self.seen.store
    }

    /// What time it is where the store is.
    pub(crate) fn now(&mut self) -> Timestamp {
        self.latest = self.latest.max(self.store_time());
        self.latest
    }

    /// What the store says that the time is, which goes back when its clock is set back: to be compared with
    /// other times of the store, since the last step only.
    pub(crate) fn store_time(&self) -> Timestamp {
        self.seen.now + self.at.elapsed()
    }

    /// How often the store's clock was set, or its life was another.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// When [`Clock::now`] will say `time`. When the store's clock was set back that is later than the
    /// difference between the two says.
    pub(crate) fn when(&self, time: Timestamp) -> Instant {
        self.at + Duration::from_millis(time.since(self.seen.now))
    }

    /// Takes a look that was answered at `at` into account; true when the store has begun another life.
    ///
    /// After that, or when its clock was set, leases may seem to have run out that were renewed in time, so
    /// nothing expires for one full lease.
    pub(crate) fn look(&mut self, seen: StoreClock, at: Instant) -> bool {
        let expected = self.seen.now + at.saturating_duration_since(self.at);
        let stepped = expected.0.abs_diff(seen.now.0) > CLOCK_STEP_MS;
        let another_life = seen.store != self.seen.store;
        if stepped || another_life {
            self.steps += 1;
            self.doubt();
        }
        self.seen = seen;
        self.at = at;
        another_life
    }

    /// The store couldn't be asked: workers may not have reached it either.
    pub(crate) fn doubt(&mut self) {
        self.grace_until = Instant::now() + Duration::from_millis(LEASE_MS);
    }

    /// Whether leases may be ended.
    pub(crate) fn is_trusted(&self) -> bool {
        Instant::now() >= self.grace_until || left_out(Twin::Grace)
    }
}
