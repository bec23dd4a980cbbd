//! The life of a worker: take, claim, run, heartbeat, report, drain. It knows nothing of what the work is.
//!
//! ```text
//! worker.rs      the loop: deliveries → claims → slots → reports
//! work.rs        one attempt at hand, and how it is told to stop
//! outbox.rs      reports on their way: gathered briefly, kept for a while
//! heartbeat.rs   renewing leases, on a thread of its own where work could starve it
//! usage.rs       what attempts use of the machine
//! held.rs        what the worker holds, shared by the two
//! ```
//!
//! A worker is two futures. Whoever drops them has killed it, at whatever point it was.

mod heartbeat;
mod held;
mod outbox;
mod usage;
mod work;
mod worker;

pub use heartbeat::{Answered, Heartbeat};
pub use usage::Usage;
pub use work::{Execute, Item, TaskControl, Work};
pub use worker::{Drain, Worker, WorkerConfig};
