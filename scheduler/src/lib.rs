//! Drives the scheduler's core: gathers what has happened, appends what was decided, then lets it be seen.
//!
//! ```text
//! driver.rs    the loop, and the one place that calls the core
//! shard.rs     one owned shard: its batch, the append in flight, what was written lately
//! effects.rs   publishing and taking back, once what they follow from is safe
//! takeover.rs  becoming the owner of a shard: replay, then publish again
//! sweep.rs     attempts of which nothing is heard
//! reassert.rs  after the store went back: what it lost is written again
//! budgets.rs   what runs cost, and what may be spent
//! calls.rs     no store call lasts for ever
//! observe.rs   who is told what happens, for traces and metrics
//! peers.rs     how schedulers share shards and room
//! telling.rs   when it is said before its time what work there is
//! clock.rs     the store's time between two looks at it, and when not to trust it
//! submit.rs    making a run
//! explain.rs   why a run is where it is
//! text.rs      times and counts as people read them
//! message.rs   from what clients send to a run
//! pipelines.rs pipelines that are kept by name and version
//! pools.rs     what a pool is scaled by, and what was decided on it
//! schedules.rs what is submitted at which times
//! triggers.rs  what is submitted when something happens
//! changes.rs   how those who follow schedules and triggers learn of changes
//! tail.rs      what was written or read lately, by run
//! history.rs   what a run's journal says to people
//! work.rs      the futures beside the loop
//! ```
//!
//! **Durable before visible.** Effects start when the append that holds their facts has succeeded; every
//! effect is safe to repeat. If an append fails in a way that can't be mended, memory is ahead of the truth:
//! the shard's runs are forgotten and replayed, never patched.

pub mod budgets;
mod calls;
mod changes;
mod clock;
mod driver;
mod effects;
pub mod explain;
pub mod history;
pub mod message;
pub mod observe;
mod peers;
pub mod pipelines;
pub mod pools;
mod reassert;
pub mod schedules;
mod shard;
pub mod submit;
mod sweep;
mod tail;
mod takeover;
mod telling;
pub mod text;
pub mod triggers;
mod work;
#[cfg(test)]
mod world;

pub use driver::{Driver, DriverConfig};
pub use peers::pools_seen;

#[cfg(test)]
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../tests/support/journal.rs"]
mod journal;
