//! The pipeline file: its types, how it is checked, and what a checked one is.
//!
//! `steps` holds the types people write against; the JSON Schema is generated from them and the checker
//! walks the same schema, so an editor and `gristmill check` can't disagree.
//!
//! ```text
//! text ── source ──► tree ── params ──► tree ── structure, references, graph, sense ──► complaints
//!                                          └──────────── (none of them an error) ─────► Pipeline
//! ```
//!
//! Every stage looks at the tree and not at the typed values, so one mistake doesn't hide the others.

mod algorithms;
mod build;
pub mod check;
pub mod complaint;
mod decide;
pub mod duration;
pub mod features;
mod graph;
pub mod names;
mod params;
mod references;
pub mod roles;
pub mod schema;
mod search;
mod sense;
pub mod source;
mod sql;
pub mod starter;
pub mod steps;
mod structure;
pub mod task;
mod validate;

pub use check::check;
pub use complaint::{Complaint, Complaints};
pub use schema::json_schema;
pub use source::text_of;
pub use steps::{Algorithm, ColumnType, Features, Learning, PipelineFile, StepFile};
pub use task::{Limit, Need, Pipeline, Step, Task};
