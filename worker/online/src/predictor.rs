//! The seam to models: this crate knows a signature and a function from rows to predictions, and nothing else.

use crate::rows::{Predictions, Rows};
use crate::signature::Signature;

/// Why a model has no predictions for rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The rows are at fault; whoever sent them should change them.
    #[error("{0}")]
    BadRows(String),
    /// The model is at fault.
    #[error("{0}")]
    Failed(String),
}

/// A model in memory. It is shared by threads and called by several at a time.
pub trait Predictor: Send + Sync {
    fn signature(&self) -> &Signature;

    /// One prediction a row, in order. The rows are of the signature; a batch may hold rows of several requests, so
    /// a row's predictions must not depend on the others.
    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError>;
}
