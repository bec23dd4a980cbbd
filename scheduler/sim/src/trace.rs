//! What happened in an execution, line by line, when somebody wants to read it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// None is made.
    Nothing,
    /// They are kept.
    Kept,
    /// They are printed as things happen.
    Aloud,
}

/// The lines of one execution. Clones share them.
#[derive(Clone, Debug)]
pub struct Trace {
    telling: Telling,
    lines: Arc<Mutex<String>>,
    start: Instant,
}

impl Trace {
    /// A trace that begins now.
    pub fn new(telling: Telling) -> Trace {
        Trace { telling, lines: Arc::default(), start: Instant::now() }
    }

    /// Adds a line, made only when somebody will read it.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if self.telling == Telling::Nothing {
            return;
        }
        let at = self.start.elapsed().as_millis();
        let line = format!("{:>6}.{:03} {}\n", at / 1_000, at % 1_000, line());
        match self.telling {
            Telling::Nothing => {}
            Telling::Kept => self.lines.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line),
            Telling::Aloud => eprint!("{line}"),
        }
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
