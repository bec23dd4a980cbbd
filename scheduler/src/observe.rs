//! Who is told what a scheduler does: for traces and metrics, which this crate knows nothing of.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use gristmill_backends::state::Backlog;
use gristmill_protocol::RunId;
use gristmill_protocol::message::Assignment;

/// Is told, and must return at once: the driver's loop calls it.
pub trait Observe: Debug + Send + Sync {
    /// The W3C trace context that an assignment's message is to carry.
    fn traceparent(&self, _assignment: &Assignment) -> Option<String> {
        None
    }

    /// An assignment was handed to the broker under that trace context.
    fn published(&self, _assignment: &Assignment, _traceparent: Option<&str>, _took: Duration) {}

    /// A turn took so many events.
    fn turned(&self, _events: usize) {}

    /// The facts of a turn are durable.
    fn appended(&self, _took: Duration) {}

    /// The store has answered a look at it, of which there is one every half second.
    fn store_answered(&self) {}

    /// A run has ended, as its journal says.
    fn run_ended(&self, _run: RunId) {}

    /// By pool, what waits and what is out of the runs that are its; at least once a second.
    fn backlog(&self, _backlog: &BTreeMap<String, Backlog>) {}

    /// An attempt began so long after it was given out to a pool.
    fn waited(&self, _pool: &str, _wait: Duration) {}

    /// So many leases have run out without a heartbeat.
    fn leases_lost(&self, _leases: usize) {}

    /// What the scheduler owns now.
    fn owns(&self, _shards: usize, _runs: usize) {}
}

/// Nobody is told.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observe for Unobserved {}
