//! Why a request gets no predictions: one table of causes, which each face turns into its own status and body.

use std::time::Duration;

use crate::json::JsonError;
use crate::predictor::PredictError;
use crate::signature::BindError;

/// Why a request was refused. The texts are for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    NotFound(String),
    #[error("`{path}` is asked with {allowed}")]
    WrongMethod { path: String, allowed: &'static str },
    #[error("the body is over the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[error("{0}")]
    UnsupportedMedia(String),
    /// Accepting it would make it and others late.
    #[error("too much waits before this request; try again in {} s", retry_seconds(*.retry_after))]
    Overloaded { retry_after: Duration },
    #[error("{0}")]
    NotReady(String),
    #[error("the request's time ran out after {} ms", .limit.as_millis())]
    TimedOut { limit: Duration },
    #[error("{0}")]
    NotImplemented(String),
    /// The model is at fault.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::BadRequest(_) => 400,
            Refusal::NotFound(_) => 404,
            Refusal::WrongMethod { .. } => 405,
            Refusal::TooLarge { .. } => 413,
            Refusal::UnsupportedMedia(_) => 415,
            Refusal::Failed(_) => 500,
            Refusal::NotImplemented(_) => 501,
            Refusal::Overloaded { .. } | Refusal::NotReady(_) => 503,
            Refusal::TimedOut { .. } => 504,
        }
    }

    /// What MLflow's clients know it as.
    pub fn mlflow_code(&self) -> &'static str {
        match self {
            Refusal::BadRequest(_)
            | Refusal::WrongMethod { .. }
            | Refusal::TooLarge { .. }
            | Refusal::UnsupportedMedia(_) => "BAD_REQUEST",
            Refusal::NotFound(_) => "RESOURCE_DOES_NOT_EXIST",
            Refusal::Overloaded { .. } | Refusal::NotReady(_) | Refusal::TimedOut { .. } => "TEMPORARILY_UNAVAILABLE",
            Refusal::NotImplemented(_) => "NOT_IMPLEMENTED",
            Refusal::Failed(_) => "INTERNAL_ERROR",
        }
    }

    /// How metrics call it.
    pub fn outcome(&self) -> &'static str {
        match self {
            Refusal::BadRequest(_)
            | Refusal::WrongMethod { .. }
            | Refusal::TooLarge { .. }
            | Refusal::UnsupportedMedia(_)
            | Refusal::NotImplemented(_) => "refused",
            Refusal::NotFound(_) => "not_found",
            Refusal::Overloaded { .. } | Refusal::NotReady(_) => "shed",
            Refusal::TimedOut { .. } => "timed_out",
            Refusal::Failed(_) => "failed",
        }
    }

    /// The refusal, without names of columns where those are nobody's business.
    pub fn without_schema(self, hide: bool) -> Refusal {
        match self {
            Refusal::BadRequest(_) if hide => {
                Refusal::BadRequest("the request doesn't fit the model's signature or isn't well formed".to_owned())
            }
            refusal => refusal,
        }
    }

    /// Whole seconds after which trying again makes sense, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Refusal::Overloaded { retry_after } => Some(retry_seconds(*retry_after)),
            Refusal::NotReady(_) => Some(1),
            _ => None,
        }
    }
}

fn retry_seconds(wait: Duration) -> u64 {
    // Less than one can't be said in `Retry-After`, and 0 would invite everybody at once.
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Refusal {
        Refusal::BadRequest(format!("failed to read the body: {error}"))
    }
}

impl From<BindError> for Refusal {
    fn from(error: BindError) -> Refusal {
        Refusal::BadRequest(error.to_string())
    }
}

impl From<PredictError> for Refusal {
    fn from(error: PredictError) -> Refusal {
        match error {
            PredictError::BadRows(text) => Refusal::BadRequest(text),
            PredictError::Failed(text) => Refusal::Failed(text),
        }
    }
}
