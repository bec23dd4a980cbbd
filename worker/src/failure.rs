//! Errors as a task's failure: a code that says whether another try could help, the whole chain as text.

use std::error::Error;
use std::io;

use gristmill_backends::artifacts::ArtifactError;
use gristmill_backends::state::StateError;
use gristmill_ml::assess::AssessError;
use gristmill_ml::estimators::TrainError;
use gristmill_ml::expect::ExpectError;
use gristmill_ml::features::FeatureError;
use gristmill_ml::ingest::IngestError;
use gristmill_ml::model::ModelError;
use gristmill_ml::model::decision::DecisionError;
use gristmill_ml::partition::PartitionError;
use gristmill_ml::split::SplitError;
use gristmill_ml::sql::SqlError;
use gristmill_ml::table::TableError;
use gristmill_ml::target::TargetError;
use gristmill_ml::trial::TrialError;
use gristmill_ml::weights::WeightError;
use gristmill_protocol::wire::WireError;
use gristmill_protocol::{ErrorCode, Failure};
use gristmill_registry::RegistryError;

use crate::study_log::StudyLogError;

/// An error that can be a task's failure.
pub(crate) trait IntoFailure {
    fn into_failure(self) -> Failure;
}

/// The error and all that caused it, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The code of what the operating system says.
fn io_code(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorCode::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorCode::OutOfDisk,
        io::ErrorKind::OutOfMemory => ErrorCode::OutOfMemory,
        _ => ErrorCode::Unavailable,
    }
}

/// The first error of the operating system in a chain decides; without one it is the given code.
fn code_of(error: &(dyn Error + 'static), otherwise: ErrorCode) -> ErrorCode {
    let mut next = Some(error);
    while let Some(this) = next {
        if let Some(io) = this.downcast_ref::<io::Error>() {
            return match io_code(io) {
                // Something in the bytes that were read: the input's fault, not the disk's.
                ErrorCode::Unavailable if otherwise == ErrorCode::BadInput => ErrorCode::BadInput,
                code => code,
            };
        }
        next = this.source();
    }
    otherwise
}

/// A failure of the operating system.
pub(crate) fn io(error: &io::Error, attempted: String) -> Failure {
    let failure = Failure::new(io_code(error), format!("{attempted}: {error}"));
    match io_code(error) {
        ErrorCode::OutOfDisk => failure.with_hint("free some space, then `gristmill resume`"),
        _ => failure,
    }
}

fn failure(error: &(dyn Error + 'static), otherwise: ErrorCode, hint: Option<String>) -> Failure {
    let failure = Failure::new(code_of(error, otherwise), chain(error));
    match hint {
        Some(hint) => failure.with_hint(hint),
        None if failure.code == ErrorCode::OutOfDisk => failure.with_hint("free some space, then `gristmill resume`"),
        None => failure,
    }
}

/// Errors of the data itself, with the hints they carry.
macro_rules! bad_input {
    ($($error:ty),*) => {$(
        impl IntoFailure for $error {
            fn into_failure(self) -> Failure {
                let hint = self.hint();
                failure(&self, ErrorCode::BadInput, hint)
            }
        }
    )*};
}

bad_input!(TableError, IngestError, SplitError, FeatureError, TargetError, WeightError, DecisionError, AssessError);

impl IntoFailure for SqlError {
    fn into_failure(self) -> Failure {
        let (hint, memory) = (self.hint(), matches!(self, SqlError::Memory { .. }));
        failure(&self, if memory { ErrorCode::OutOfMemory } else { ErrorCode::BadPipeline }, hint)
    }
}

impl IntoFailure for TrainError {
    fn into_failure(self) -> Failure {
        let hint = self.hint();
        let code = match self {
            TrainError::Stopped => ErrorCode::Cancelled,
            TrainError::Panicked { .. } => ErrorCode::BadInput,
            _ => ErrorCode::BadInput,
        };
        failure(&self, code, hint)
    }
}

impl IntoFailure for TrialError {
    fn into_failure(self) -> Failure {
        match self {
            TrialError::Train(error) => error.into_failure(),
            TrialError::Features(error) => error.into_failure(),
            TrialError::Target(error) => error.into_failure(),
            TrialError::Model(error) => error.into_failure(),
            TrialError::Folds(error) => {
                let hint = error.hint().to_owned();
                failure(&error, ErrorCode::BadInput, Some(hint))
            }
            other => failure(&other, ErrorCode::BadInput, None),
        }
    }
}

impl IntoFailure for StudyLogError {
    fn into_failure(self) -> Failure {
        match self {
            StudyLogError::State(error) => error.into_failure(),
            StudyLogError::Damaged(error) => error.into_failure(),
            StudyLogError::Other { .. } => failure(&self, ErrorCode::Conflict, None),
        }
    }
}

impl IntoFailure for ExpectError {
    fn into_failure(self) -> Failure {
        failure(&self, ErrorCode::BadInput, None)
    }
}

impl IntoFailure for PartitionError {
    fn into_failure(self) -> Failure {
        failure(&self, ErrorCode::ArtifactCorrupt, None)
    }
}

impl IntoFailure for ModelError {
    fn into_failure(self) -> Failure {
        let code = match self {
            ModelError::Format { .. } => ErrorCode::Version,
            ModelError::TooLarge { .. } => ErrorCode::TooLarge,
            ModelError::Damaged { .. } => ErrorCode::ArtifactCorrupt,
        };
        failure(&self, code, None)
    }
}

impl IntoFailure for ArtifactError {
    fn into_failure(self) -> Failure {
        let code = match self {
            ArtifactError::Missing { .. } => ErrorCode::ArtifactMissing,
            ArtifactError::Corrupt { .. } | ArtifactError::OutOfRange { .. } => ErrorCode::ArtifactCorrupt,
            ArtifactError::Io { .. } | ArtifactError::Unavailable { .. } => ErrorCode::Unavailable,
        };
        let hint = matches!(code, ErrorCode::ArtifactMissing | ErrorCode::ArtifactCorrupt)
            .then(|| "run the pipeline again with `--no-cache` to make it anew".to_owned());
        failure(&self, code, hint)
    }
}

impl IntoFailure for StateError {
    fn into_failure(self) -> Failure {
        failure(&self, ErrorCode::Unavailable, None)
    }
}

impl IntoFailure for WireError {
    fn into_failure(self) -> Failure {
        let code = if matches!(self, WireError::Version { .. }) { ErrorCode::Version } else { ErrorCode::Internal };
        failure(&self, code, None)
    }
}

impl IntoFailure for RegistryError {
    fn into_failure(self) -> Failure {
        let (code, hint) = (self.code(), self.hint());
        failure(&self, code, hint)
    }
}
