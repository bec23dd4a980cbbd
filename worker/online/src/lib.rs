//! Online scoring: over HTTP, gRPC, by queue and of streams, and the engine that runs models behind all of them. It knows
//! nothing of how a model is made or where it comes from.
//!
//! ```text
//! server.rs  HTTP ──┐
//! grpc.rs    gRPC ──┼─> faces.rs ──> signature.rs ──> scoring.rs ──> engine.rs ──> predictor.rs
//! queue.rs ─────────┤    bytes ↔      columns →        who           when, and      the model
//! stream.rs ────────┘    columns      rows             answers       on which
//!                                                       │            thread
//!                                     endpoint.rs ──────┤
//!                                     models.rs ────────┤  loaded by need, bounded, swapped
//!                                     capture.rs ───────┘  kept for labels that come later
//! ```
//!
//! **Invariant:** what a client sends gets an answer in its protocol's words: no panic, and no 500 but by a model's fault.

pub mod capture;
mod cells;
mod deadline;
pub mod endpoint;
pub mod engine;
pub mod faces;
pub mod grpc;
mod infer;
pub mod json;
mod letter;
pub mod models;
mod outlets;
pub mod predictor;
pub mod queue;
pub mod refusal;
pub mod rows;
pub mod scoring;
pub mod server;
pub mod signature;
pub mod stream;

pub use deadline::Deadline;
pub use grpc::serve_grpc;
pub use models::{Known, Loaded, Models, Source, SourceError, Which};
pub use predictor::{PredictError, Predictor};
pub use queue::{QueueSettings, serve_queue};
pub use rows::{Cell, Column, Kind, Predictions, Rows, Texts, Values};
pub use scoring::Scoring;
pub use server::{ServerSettings, serve};
pub use signature::{Field, Input, Signature};
pub use stream::{StreamSettings, run_stream};
