//! Why a call wasn't answered as asked.

use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::ErrorInfo;

/// Why a call wasn't answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("`{url}` is no address of a server; write it as `http://host:port` or `https://host:port`")]
    Address { url: String },
    #[error("the system's certificates can't be read")]
    Certificates(#[source] std::io::Error),
    #[error("`{0}` can't be part of a request")]
    Unsendable(String),
    #[error("failed to reach `{url}`")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{url}` didn't answer within {seconds} s")]
    TooLate { url: String, seconds: u64 },
    /// The server said no: its status, and what it says.
    #[error("{info}")]
    Refused { status: u16, info: ErrorInfo },
    #[error("the answer of `{url}` can't be read: {detail}")]
    Answer { url: String, detail: String },
    #[error("the answer of `{url}` is larger than {max} bytes")]
    TooLarge { url: String, max: usize },
    #[cfg(feature = "queue")]
    #[error("failed to reach the broker")]
    Broker(#[from] gristmill_backends::broker::BrokerError),
    #[cfg(feature = "queue")]
    #[error("the submission has {bytes} bytes; a message has at most {max}")]
    Message { bytes: usize, max: usize },
}

impl ClientError {
    /// The code that the server gave, if it answered.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { info, .. } => Some(info.code),
            _ => None,
        }
    }

    /// What to try, where the server said so.
    pub fn hint(&self) -> Option<&str> {
        match self {
            ClientError::Refused { info, .. } => info.hint.as_deref(),
            _ => None,
        }
    }

    /// Whether the same call could go well a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::TooLate { .. } => true,
            ClientError::Refused { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }
}
