//! What workers do: one file per task kind over the learning crate, the artifact store and the registry.
//!
//! ```text
//! executor.rs   one attempt: decode, look into the cache, do, say how it ended
//! context.rs    what a task may use: artifacts, registry, scratch space, the way to be stopped
//! cache.rs      equal work is done once
//! datasets.rs   manifests and partitions in the artifact store
//! documents.rs  the JSON artifacts that steps leave behind
//! failure.rs    errors of the learning crate as a task's failure
//! spans.rs      what a trace shows of the work
//! fanout.rs     growing children over partitions or files, and joining them
//! study_log.rs  what came of a search's trials
//! trials.rs     the table that all trials of a search share
//! tasks/        one file a kind
//! ```
//!
//! A task reads artifacts and writes artifacts; it never sees the journal. Adding a kind is a variant of
//! [`gristmill_protocol::pipeline::Task`], a file in `tasks/` and a line in `tasks/mod.rs`.

mod cache;
mod context;
pub mod datasets;
pub mod documents;
mod executor;
mod failure;
mod fanout;
pub mod online;
mod score_file;
mod spans;
pub mod study_log;
mod tasks;
mod trials;

pub use context::Resources;
pub use executor::Executor;
pub use tasks::tune::study;
pub use trials::TrialTable;
