//! The wire formats: how the bytes of a request become columns, and predictions the bytes of an answer.
//!
//! ```text
//! v2.rs       Open Inference Protocol: tensors as JSON, or as binary after it
//! tables.rs   MLflow's four JSON forms; `instances` is Vertex's and TensorFlow Serving's too
//! csv.rs      CSV, with and without a line of names
//! ```
//!
//! Nothing here knows of HTTP but the media types; nothing does IO.

pub mod csv;
pub mod tables;
pub mod v2;
