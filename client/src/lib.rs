//! Gristmill from Rust: submit pipelines, watch runs, look at what they made, move models.
//!
//! Over HTTP ([`Client`]), everything that the API offers, in its own types ([`gristmill_protocol::api`]):
//!
//! ```no_run
//! # async fn example() -> Result<(), gristmill_client::ClientError> {
//! use gristmill_client::{Client, Submit};
//!
//! let client = Client::new("http://127.0.0.1:5000")?;
//! let pipeline = std::fs::read_to_string("pipeline.yaml").expect("a file");
//! let made = client.submit(&Submit { pipeline: Some(pipeline), ..Submit::default() }).await?;
//! let run = client.wait(made.run).await?;
//! println!("{} {}", run.pipeline, run.status);
//! for model in &run.models {
//!     println!("{} {:?} {:?}", model.name, model.version, model.metrics);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Over RabbitMQ (`QueueClient`, feature `queue`, on by default), submissions alone: a submission is safe when its future ends, whether
//! a scheduler lives or not.
//!
//! Calls that may be repeated are, a few times, when the server can't be reached or says that it is busy. A submission
//! is among them: it gets a key, under which it makes one run however often it arrives.

mod client;
mod error;
#[cfg(feature = "queue")]
mod queue;
mod transport;
mod watch;

pub use client::{Client, RunQuery, TaskQuery};
pub use error::ClientError;
#[cfg(feature = "queue")]
pub use queue::QueueClient;
pub use watch::Watch;

pub use gristmill_protocol::api::*;
pub use gristmill_protocol::submission::{Outputs, SubmissionMessage};
pub use gristmill_protocol::{Digest, ErrorCode, RunId};
