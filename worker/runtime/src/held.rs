//! What a worker holds: shared by its loop and its heartbeat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use gristmill_backends::state::{HeldLease, StoreId};
use gristmill_protocol::AttemptRef;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::work::TaskControl;

/// The attempts whose leases are the worker's, and what the heartbeat has learnt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    shared: Arc<Mutex<State>>,
    /// Woken when the store has answered for the first time, or has begun another life.
    pub(crate) another_life: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    leases: BTreeMap<AttemptRef, Lease>,
    store: Option<StoreId>,
    /// When the store last answered a heartbeat in the life before this one.
    lived: Option<Instant>,
    draining: bool,
}

#[derive(Debug)]
struct Lease {
    deadline: Option<Instant>,
    control: TaskControl,
    stopped: bool,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; what is there is whole.
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A lease has begun.
    pub(crate) fn begin(&self, attempt: AttemptRef, deadline: Option<Instant>, control: TaskControl) {
        self.lock().leases.insert(attempt, Lease { deadline, control, stopped: false });
    }

    /// A lease is about to end: the heartbeat doesn't hold it up any more.
    pub(crate) fn end(&self, attempt: AttemptRef) {
        self.lock().leases.remove(&attempt);
    }

    /// Whether the attempt is at hand.
    pub(crate) fn holds(&self, attempt: AttemptRef) -> bool {
        self.lock().leases.contains_key(&attempt)
    }

    /// Whether the store has said that the attempt isn't the worker's any more.
    pub(crate) fn was_stopped(&self, attempt: AttemptRef) -> bool {
        self.lock().leases.get(&attempt).is_some_and(|lease| lease.stopped)
    }

    /// What the next heartbeat says.
    pub(crate) fn leases(&self) -> Vec<HeldLease> {
        let now = Instant::now();
        let held = |(attempt, lease): (&AttemptRef, &Lease)| HeldLease {
            attempt: *attempt,
            timeout_left_ms: lease.deadline.map(|at| at.saturating_duration_since(now).as_millis() as u64),
            progress: lease.control.last_progress(),
        };
        self.lock().leases.iter().filter(|(_, lease)| !lease.stopped).map(held).collect()
    }

    /// The store says that these aren't the worker's any more.
    pub(crate) fn stop(&self, attempts: &[AttemptRef]) {
        let mut state = self.lock();
        for attempt in attempts {
            if let Some(lease) = state.leases.get_mut(attempt) {
                lease.stopped = true;
                lease.control.stop();
            }
        }
    }

    /// All that runs is to stop.
    pub(crate) fn stop_all(&self) {
        for lease in self.lock().leases.values() {
            lease.control.stop();
        }
    }

    pub(crate) fn set_draining(&self) {
        self.lock().draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Takes note of the store's life, which answered now; wakes the loop when it is none that was known.
    pub(crate) fn saw_store(&self, store: StoreId) {
        let before = {
            let mut state = self.lock();
            let before = state.store.replace(store);
            if before.is_none_or(|before| before == store) {
                state.lived = Some(Instant::now());
            }
            before
        };
        if before != Some(store) {
            self.another_life.notify_one();
        }
    }

    /// Until when the store is known to have lived on; what it was told long enough before can't be lost.
    pub(crate) fn store_lived_at(&self) -> Option<Instant> {
        self.lock().lived
    }
}
