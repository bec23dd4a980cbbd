//! What isn't a success, in one shape: the table of codes, a sentence, what to try.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gristmill_backends::artifacts::ArtifactError;
use gristmill_backends::state::StateError;
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::{ErrorBody, ErrorInfo};
use gristmill_protocol::pipeline::Complaints;
use gristmill_registry::RegistryError;
use gristmill_scheduler::history::HistoryError;
use gristmill_scheduler::message::MessageError;
use gristmill_scheduler::pipelines::PipelineError;
use gristmill_scheduler::submit::SubmitError;

/// Seconds after which what is unavailable is worth another try.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request isn't answered as asked.
#[derive(Clone, Debug)]
pub struct Refusal {
    status: StatusCode,
    info: ErrorInfo,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Refusal { status, info: ErrorInfo::new(code, message) }
    }

    pub fn bad_input(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::BadInput, message)
    }

    pub fn not_found(what: impl std::fmt::Display) -> Refusal {
        Refusal::new(ErrorCode::NotFound, format!("there is no {what}"))
    }

    /// There was no token, or none that holds.
    pub(crate) fn unknown_caller(message: &str) -> Refusal {
        let refusal = Refusal::new(ErrorCode::Denied, message)
            .hint("send `Authorization: Bearer TOKEN`; `gristmill token create` makes a token");
        Refusal { status: StatusCode::UNAUTHORIZED, ..refusal }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.info.hint = Some(hint.into());
        self
    }

    /// A fault of ours, or of what we lean on: told to the log as a whole, to the caller by its sentences.
    pub(crate) fn of(code: ErrorCode, error: &(dyn std::error::Error + 'static)) -> Refusal {
        let message = with_causes(error);
        if code.status() >= 500 {
            tracing::warn!(error, "a request failed");
        }
        Refusal::new(code, message)
    }

    pub(crate) fn wrong(complaints: Complaints) -> Refusal {
        let message = match complaints.complaints.len() + complaints.omitted {
            1 => "the pipeline has a mistake".to_owned(),
            count => format!("the pipeline has {count} mistakes"),
        };
        let mut refusal = Refusal::new(ErrorCode::BadPipeline, message);
        refusal.info.complaints = complaints.complaints;
        refusal
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is said of it among the results of many.
    pub fn into_info(self) -> ErrorInfo {
        self.info
    }
}

/// An error's sentence and those of what caused it.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(ErrorBody { error: self.info })).into_response();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Refusal {
        let code = match &error {
            StateError::NotFound { .. } => ErrorCode::NotFound,
            StateError::Conflict { .. } => ErrorCode::Conflict,
            StateError::Damaged { .. } | StateError::Unsuitable { .. } => ErrorCode::Internal,
            StateError::TooMany { .. }
            | StateError::Unavailable { .. }
            | StateError::Deposed { .. }
            | StateError::Moved { .. } => ErrorCode::Unavailable,
        };
        Refusal::of(code, &error)
    }
}

impl From<ArtifactError> for Refusal {
    fn from(error: ArtifactError) -> Refusal {
        let code = match &error {
            ArtifactError::Missing { .. } => ErrorCode::ArtifactMissing,
            ArtifactError::Corrupt { .. } => ErrorCode::ArtifactCorrupt,
            ArtifactError::OutOfRange { .. } => ErrorCode::BadInput,
            ArtifactError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorCode::OutOfDisk
            }
            ArtifactError::Io { .. } => ErrorCode::Internal,
            ArtifactError::Unavailable { .. } => ErrorCode::Unavailable,
        };
        Refusal::of(code, &error)
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Refusal {
        let hint = error.hint();
        let refusal = Refusal::of(error.code(), &error);
        match hint {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Refusal {
        match error {
            HistoryError::State { source, .. } => source.into(),
            HistoryError::Empty { run } => Refusal::not_found(format!("run `{run}`")),
            error @ (HistoryError::Damaged { .. } | HistoryError::Replay { .. }) => {
                Refusal::of(ErrorCode::Internal, &error)
            }
        }
    }
}

impl From<PipelineError> for Refusal {
    fn from(error: PipelineError) -> Refusal {
        match error {
            PipelineError::Wrong(complaints) => Refusal::wrong(complaints),
            PipelineError::State(error) => error.into(),
            error @ PipelineError::TooLarge { .. } => Refusal::of(ErrorCode::TooLarge, &error),
            error @ PipelineError::Contended { .. } => Refusal::of(ErrorCode::Unavailable, &error),
            error @ PipelineError::Damaged { .. } => Refusal::of(ErrorCode::Internal, &error),
        }
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Refusal {
        match error {
            MessageError::Wrong(complaints) => Refusal::wrong(complaints),
            MessageError::Pipeline(error) => error.into(),
            MessageError::Submit(SubmitError::State(error)) => error.into(),
            error => Refusal::of(error.code(), &error),
        }
    }
}
