//! The pipeline file: its types, how it is checked, and what a checked one is.
//!
//! `steps` holds the types people write against; the JSON Schema is generated from them and the checker
//! walks the same schema, so an editor and `gristmill check` can't disagree.

pub mod steps;

pub use steps::{Algorithm, ColumnType, Features, Learning, PipelineFile, StepFile};
