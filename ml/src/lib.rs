//! Tables, features, estimators and metrics. No queue, no network, no artifact store.
//!
//! The data side turns files into tables and checks them; the learning side turns tables into models and
//! measures them. Both work on Arrow record batches read through the [`blob`] seam, so it is the caller
//! who decides whether bytes come from a directory or an object store.
//!
//! **Invariant:** the same inputs and the same seed give the same bytes out, whatever the number of threads.

pub use gristmill_learn::{calibrate, compiled, matrix};

pub mod assess;
pub mod blob;
mod columns;
pub mod dates;
pub mod estimators;
pub mod expect;
pub mod features;
mod hash;
pub mod ingest;
pub mod kept;
pub mod metrics;
pub mod model;
mod names;
#[cfg(test)]
mod oracle;
pub mod partition;
pub mod profile;
#[cfg(test)]
mod samples;
pub mod split;
pub mod sql;
pub mod table;
pub mod target;
pub mod trial;
pub mod weights;
