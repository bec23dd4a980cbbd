//! What the HTTP API says and is told. The server, the Rust client and the published OpenAPI document share these types.
//!
//! Times are milliseconds since the Unix epoch by the store's clock unless a name ends in `_us`. Bodies of requests refuse
//! fields that they don't know; bodies of answers may get more, which readers ignore.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ErrorCode;
use crate::pipeline::complaint::Complaint;

mod access;
mod cluster;
mod costs;
mod data;
mod models;
mod pipelines;
mod runs;
mod times;

pub use access::*;
pub use cluster::*;
pub use costs::*;
pub use data::*;
pub use models::*;
pub use pipelines::*;
pub use runs::*;
pub use times::*;

/// Items of a list that a page has at the most.
pub const PAGE_MAX: usize = 500;
/// Items of a page that doesn't say how many it wants.
pub const PAGE_DEFAULT: usize = 50;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The cursor of the next part; nothing when this is the last. A page may be short though more follow.
    pub next: Option<String>,
}

/// The body of every answer that isn't a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    pub error: ErrorInfo,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorInfo {
    pub code: ErrorCode,
    pub message: String,
    /// What to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Everything that is wrong with a pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Value>")]
    pub complaints: Vec<Complaint>,
}

impl ErrorInfo {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ErrorInfo {
        ErrorInfo { code, message: message.into(), hint: None, complaints: Vec::new() }
    }

    /// The same with what to try.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> ErrorInfo {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorInfo {}
