//! Why a request isn't answered as asked: MLflow's error codes, their HTTP statuses, and how the errors of what is below
//! become them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use gristmill_backends::artifacts::ArtifactError;
use gristmill_backends::state::StateError;
use gristmill_registry::RegistryError;
use serde_json::json;

/// An error as MLflow's clients know it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Refusal {
    pub code: Code,
    pub message: String,
}

/// MLflow's error codes, those that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    EndpointNotFound,
    InternalError,
    InvalidParameterValue,
    InvalidState,
    NotImplemented,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceConflict,
    ResourceDoesNotExist,
    TemporarilyUnavailable,
}

impl Code {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Code::BadRequest => "BAD_REQUEST",
            Code::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Code::InternalError => "INTERNAL_ERROR",
            Code::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Code::InvalidState => "INVALID_STATE",
            Code::NotImplemented => "NOT_IMPLEMENTED",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Code::ResourceConflict => "RESOURCE_CONFLICT",
            Code::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Code::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
        }
    }

    /// The HTTP status that goes with it. Clients repeat what is answered with 429 or 5xx.
    pub fn status(self) -> StatusCode {
        match self {
            Code::BadRequest | Code::InvalidParameterValue | Code::ResourceAlreadyExists => StatusCode::BAD_REQUEST,
            Code::EndpointNotFound | Code::ResourceDoesNotExist => StatusCode::NOT_FOUND,
            Code::InternalError | Code::InvalidState => StatusCode::INTERNAL_SERVER_ERROR,
            Code::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceConflict => StatusCode::CONFLICT,
            Code::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// A value that can't be taken.
    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(Code::InvalidParameterValue, message)
    }

    /// Something that isn't there.
    pub fn missing(message: impl Into<String>) -> Refusal {
        Refusal::new(Code::ResourceDoesNotExist, message)
    }

    pub(crate) fn no_model(name: &str) -> Refusal {
        Refusal::missing(format!("Registered Model with name={name} not found"))
    }

    pub(crate) fn no_version(name: &str, version: impl std::fmt::Display) -> Refusal {
        Refusal::missing(format!("Model Version (name={name}, version={version}) not found"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.code.status().is_server_error() {
            tracing::error!(code = self.code.name(), message = self.message, "an MLflow request failed");
        }
        let body = json!({ "error_code": self.code.name(), "message": self.message });
        (self.code.status(), Json(body)).into_response()
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    text
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Refusal {
        let hint = error.hint();
        let told = || {
            let text = chain(&error);
            hint.as_ref().map_or(text.clone(), |hint| format!("{text}; hint: {hint}"))
        };
        match &error {
            RegistryError::NoModel { name, .. } => Refusal::no_model(name),
            RegistryError::NoVersion { name, version, .. } | RegistryError::VersionDeleted { name, version } => {
                Refusal::no_version(name, version)
            }
            RegistryError::NoAlias { alias, .. } => {
                Refusal::invalid(format!("Registered model alias {alias} not found."))
            }
            RegistryError::ModelExists { name } => {
                let message = format!("Registered Model (name={name}) already exists.");
                Refusal::new(Code::ResourceAlreadyExists, message)
            }
            RegistryError::BadReference { .. }
            | RegistryError::BadName { .. }
            | RegistryError::TooLong { .. }
            | RegistryError::NothingBefore { .. } => Refusal::invalid(told()),
            RegistryError::BytesMissing { .. } | RegistryError::NotMentioned { .. } => Refusal::missing(told()),
            RegistryError::NameClaimed { .. }
            | RegistryError::NameRetained { .. }
            | RegistryError::InUse { .. }
            | RegistryError::KeyTaken { .. }
            | RegistryError::Rejected { .. }
            | RegistryError::OtherModel { .. }
            | RegistryError::BadEvidence { .. }
            | RegistryError::NotLoadable { .. } => Refusal::new(Code::ResourceConflict, told()),
            RegistryError::Untrusted(_) => Refusal::new(Code::PermissionDenied, told()),
            RegistryError::TooManyRaces { .. } => Refusal::new(Code::TemporarilyUnavailable, told()),
            RegistryError::Damaged { .. } | RegistryError::BrokenChain { .. } => {
                Refusal::new(Code::InternalError, told())
            }
            RegistryError::State(_) | RegistryError::Artifacts(_) => Refusal::new(store_code(&error), told()),
        }
    }
}

/// Whether trying again may help.
fn store_code(error: &RegistryError) -> Code {
    match error {
        RegistryError::State(StateError::Damaged { .. }) => Code::InternalError,
        RegistryError::Artifacts(ArtifactError::Missing { .. }) => Code::ResourceDoesNotExist,
        RegistryError::Artifacts(ArtifactError::Corrupt { .. }) => Code::InternalError,
        _ => Code::TemporarilyUnavailable,
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Refusal {
        RegistryError::from(error).into()
    }
}

impl From<ArtifactError> for Refusal {
    fn from(error: ArtifactError) -> Refusal {
        RegistryError::from(error).into()
    }
}
