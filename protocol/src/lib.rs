//! What crosses a wire or a disk: the pipeline file, messages, facts, ids and limits.
//!
//! Everything here is data and the rules that make it valid; nothing here does IO, reads a clock or
//! rolls dice. Every other crate may lean on this one; this one leans on none of ours.

pub mod api;
pub mod error;
pub mod fact;
pub mod id;
pub mod limits;
pub mod message;
pub mod output;
pub mod payload;
pub mod pipeline;
pub mod plan;
pub mod schedule;
pub mod submission;
pub mod time;
pub mod trigger;
pub mod twins;
pub mod wire;

pub use error::{ErrorCode, Failure};
pub use id::{AttemptRef, Digest, OwnerToken, RunId, Shard, TaskKey, WorkerId};
pub use time::Timestamp;
