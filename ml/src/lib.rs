//! Tables, features, estimators and metrics. No queue, no network, no artifact store.
//!
//! The data side turns files into tables and checks them; the learning side turns tables into models and
//! measures them. Both work on Arrow record batches read through the [`blob`] seam, so it is the caller
//! who decides whether bytes come from a directory or an object store.
//!
//! **Invariant:** the same inputs and the same seed give the same bytes out, whatever the number of threads.

pub mod blob;
pub mod dates;
pub mod expect;
mod hash;
pub mod ingest;
mod names;
pub mod partition;
pub mod profile;
pub mod split;
pub mod sql;
pub mod table;
