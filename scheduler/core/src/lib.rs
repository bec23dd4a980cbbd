//! Decides what runs when, and has no IO: no clock, no randomness, no async, no sockets.
//!
//! An [`Event`] is what happened outside, a [`Fact`](gristmill_protocol::fact::Fact) what was decided and
//! must be remembered, an [`Effect`] what is asked of the outside. The driver hands events to
//! [`Scheduler::turn`], appends the facts that come back, and only then starts the effects. Replaying the
//! facts of a run's journal gives back the state of the run exactly.
//!
//! The crate knows steps, dependencies, attempts, retries, limits, priorities and opaque payloads. It knows
//! nothing of learning.
//!
//! ```text
//! scheduler.rs   events in, facts and effects out; replay
//! run.rs         one run: its tasks in columns, its groups, what each decision changes
//! group.rs       tasks that share a template: a step's task, an expansion's children, its join
//! dispatch.rs    which ready task goes out next: windows, priorities, shares, limits, bundles
//! pool.rs        a pool's slots, what is out in it, and the order of its ready lanes
//! limit.rs       named limits, counted from what is out
//! retry.rs       what follows a failure: budgets and backoff
//! timing.rs      how long a step's tasks take, from its last reports
//! backlog.rs     how much work a pool has before it
//! explain.rs     why a task isn't running
//! invariants.rs  what always holds
//! view.rs        what a run looks like to a reader
//! ```

mod backlog;
mod dispatch;
mod explain;
mod group;
mod invariants;
mod limit;
mod pool;
mod retry;
mod run;
mod scheduler;
mod step;
mod timing;
mod view;

pub use backlog::PoolBacklog;
pub use explain::WaitingOn;
pub use pool::PoolSeen;
pub use run::{StepView, TaskState};
pub use scheduler::{Event, ReplayError, Scheduler};
pub use step::{Effect, Step};
pub use view::{GroupKind, GroupView};
