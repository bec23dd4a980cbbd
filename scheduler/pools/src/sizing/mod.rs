//! How many slots and how much memory a worker should have.
//!
//! ```text
//! sketch.rs   how values were spread, in few numbers that can be added up
//! usage.rs    what tasks of a step used
//! advice.rs   what follows for the workers of a pool
//! ```

mod advice;
mod sketch;
mod usage;

pub use advice::{Advice, Confidence, Machine, advise};
pub use sketch::Sketch;
pub use usage::{Peak, StepUsage, TaskUse};
