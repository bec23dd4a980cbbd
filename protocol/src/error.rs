//! The one table of error codes, and what a task's failure says.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::limits::ERROR_TEXT_BYTES_MAX;

/// Why something failed, for programs. The same table serves reports, the command line and the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The stored bytes of an artifact don't have its digest.
    ArtifactCorrupt,
    /// An artifact that something names isn't in the store.
    ArtifactMissing,
    /// The data can't be used as asked: a missing column, an unreadable file, too many bad lines.
    BadInput,
    /// The pipeline can't be run as written.
    BadPipeline,
    /// Somebody asked for it to stop.
    Cancelled,
    /// It contradicts what is there already.
    Conflict,
    /// The caller may not do that.
    Denied,
    /// A fault of ours: a broken invariant, a panic.
    Internal,
    /// What was asked for doesn't exist.
    NotFound,
    /// The disk is full.
    OutOfDisk,
    /// The memory limit was reached.
    OutOfMemory,
    /// It took longer than its timeout.
    TimedOut,
    /// It is over one of the limits.
    TooLarge,
    /// A server or a file can't be reached just now.
    Unavailable,
    /// It was written by a version that this program can't read.
    Version,
}

impl ErrorCode {
    /// All codes, in alphabetical order.
    pub const ALL: [ErrorCode; 15] = [
        ErrorCode::ArtifactCorrupt,
        ErrorCode::ArtifactMissing,
        ErrorCode::BadInput,
        ErrorCode::BadPipeline,
        ErrorCode::Cancelled,
        ErrorCode::Conflict,
        ErrorCode::Denied,
        ErrorCode::Internal,
        ErrorCode::NotFound,
        ErrorCode::OutOfDisk,
        ErrorCode::OutOfMemory,
        ErrorCode::TimedOut,
        ErrorCode::TooLarge,
        ErrorCode::Unavailable,
        ErrorCode::Version,
    ];

    /// Whether another attempt at the same work could end differently.
    pub fn is_retryable(self) -> bool {
        match self {
            ErrorCode::Unavailable | ErrorCode::OutOfDisk | ErrorCode::OutOfMemory | ErrorCode::Internal => true,
            ErrorCode::ArtifactCorrupt
            | ErrorCode::ArtifactMissing
            | ErrorCode::BadInput
            | ErrorCode::BadPipeline
            | ErrorCode::Cancelled
            | ErrorCode::Conflict
            | ErrorCode::Denied
            | ErrorCode::NotFound
            | ErrorCode::TimedOut
            | ErrorCode::TooLarge
            | ErrorCode::Version => false,
        }
    }

    /// The HTTP status that it is answered with. A caller who isn't known gets 401 in place of 403.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::BadInput | ErrorCode::Version => 400,
            ErrorCode::Denied => 403,
            ErrorCode::NotFound | ErrorCode::ArtifactMissing => 404,
            ErrorCode::Conflict | ErrorCode::Cancelled => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::BadPipeline => 422,
            ErrorCode::Internal | ErrorCode::ArtifactCorrupt => 500,
            ErrorCode::Unavailable => 503,
            ErrorCode::TimedOut => 504,
            ErrorCode::OutOfDisk | ErrorCode::OutOfMemory => 507,
        }
    }

    /// The code as it stands in files, messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::ArtifactCorrupt => "artifact_corrupt",
            ErrorCode::ArtifactMissing => "artifact_missing",
            ErrorCode::BadInput => "bad_input",
            ErrorCode::BadPipeline => "bad_pipeline",
            ErrorCode::Cancelled => "cancelled",
            ErrorCode::Conflict => "conflict",
            ErrorCode::Denied => "denied",
            ErrorCode::Internal => "internal",
            ErrorCode::NotFound => "not_found",
            ErrorCode::OutOfDisk => "out_of_disk",
            ErrorCode::OutOfMemory => "out_of_memory",
            ErrorCode::TimedOut => "timed_out",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Version => "version",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a task failed: a code for programs, a sentence for people and, where there is one, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure whose text is cut to the limit of an error's text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure { code, message: cut_middle(message.into()), hint: None }
    }

    /// The same failure with the next step to try.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(cut_middle(hint.into()));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Failure {}

/// Keeps the start and the end of a text that is over the limit: the start says what was attempted, the
/// end holds the cause.
fn cut_middle(text: String) -> String {
    if text.len() <= ERROR_TEXT_BYTES_MAX {
        return text;
    }
    let half = ERROR_TEXT_BYTES_MAX / 2 - 8;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    format!("{} [...] {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_in_alphabetical_order_and_keep_their_names() {
        let names: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.is_sorted());
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).expect("a code serialises");
            assert_eq!(json, format!("\"{code}\""));
        }
    }

    #[test]
    fn a_long_text_keeps_its_start_and_its_end() {
        let failure = Failure::new(ErrorCode::Internal, format!("start {} end", "é".repeat(5_000)));
        assert!(failure.message.len() <= ERROR_TEXT_BYTES_MAX);
        assert!(failure.message.starts_with("start") && failure.message.ends_with("end"));
    }
}
