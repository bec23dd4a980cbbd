//! What a person is told when something goes wrong, and the exit codes.

use std::fmt;
use std::process::ExitCode;

use gristmill_backends::artifacts::ArtifactError;
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::pipeline::Complaints;
use gristmill_registry::RegistryError;

use crate::artifacts::ShowError;

/// How the program ends. The numbers are documented in the README and don't change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Success = 0,
    /// Something failed: a run, or the command itself.
    Failed = 1,
    /// The command or the pipeline file is wrong. Nothing was done.
    Usage = 2,
    /// A gate said no.
    Rejected = 3,
    /// The run was cancelled.
    Cancelled = 4,
}

/// What a shell shows for a process that SIGPIPE has ended: 128 + 13.
const CLOSED_PIPE: i32 = 141;

/// Ends the process quietly when whoever reads its output has had enough, as `| head` does. `println!` panics then, since
/// Rust's runtime ignores SIGPIPE; servers need that for their sockets.
pub fn end_with_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(CLOSED_PIPE);
        }
        usual(panic);
    }));
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<RunStatus> for Exit {
    fn from(status: RunStatus) -> Exit {
        match status {
            RunStatus::Succeeded => Exit::Success,
            RunStatus::Failed => Exit::Failed,
            RunStatus::Rejected => Exit::Rejected,
            RunStatus::Cancelled => Exit::Cancelled,
        }
    }
}

/// A problem with the next step to try.
#[derive(Debug)]
pub struct Problem {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

impl Problem {
    /// A wrong command or file.
    pub fn usage(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: None, exit: Exit::Usage }
    }

    /// Something that failed.
    pub fn failed(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: None, exit: Exit::Failed }
    }

    /// The same problem with what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Prints an error with all its causes and the hint that any of them has; returns the exit code.
pub fn print(error: &anyhow::Error) -> Exit {
    if let Some(complaints) = error.downcast_ref::<Complaints>() {
        eprint!("{complaints}");
        return Exit::Usage;
    }
    let mut exit = Exit::Failed;
    let mut hint = None;
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        if let Some(problem) = cause.downcast_ref::<Problem>() {
            exit = problem.exit;
            hint = hint.or_else(|| problem.hint.clone());
        }
        hint = hint.or_else(|| hint_of(cause));
    }
    eprintln!("error: {text}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    exit
}

fn hint_of(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<gristmill_backends::state::embedded::OpenError>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<RegistryError>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<ShowError>() {
        return error.hint();
    }
    if let Some(ArtifactError::Corrupt { .. }) = cause.downcast_ref::<ArtifactError>() {
        return Some("run the pipeline again with `--no-cache` to make it anew".to_owned());
    }
    None
}
