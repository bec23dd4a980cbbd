//! What is going on, while it is: one line that is drawn again on a terminal, a plain line now and then elsewhere.
//!
//! It goes to standard error; standard output is the result's alone.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::text;

/// A terminal's line is drawn at most so often: faster can't be read.
const REDRAW: Duration = Duration::from_millis(150);
/// Elsewhere a line is written so often: a log of half an hour stays readable.
const PLAIN: Duration = Duration::from_secs(10);
/// Columns when the terminal doesn't say how many it has.
const COLUMNS: usize = 100;

/// How the load is getting on.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Things done, and of how many.
    pub done: Option<(u64, u64)>,
    /// Seconds gone, and of how many.
    pub seconds: Option<(f64, f64)>,
    /// Things a second.
    pub rate: Option<f64>,
    pub p99_ms: Option<f64>,
    /// What waits.
    pub queue: Option<u64>,
    pub errors: u64,
    /// What else is worth telling.
    pub more: String,
}

/// The view. Clones draw the same line.
#[derive(Clone, Debug)]
pub struct Live(Arc<Mutex<Line>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Terminal,
    Plain,
    Quiet,
}

#[derive(Debug)]
struct Line {
    mode: Mode,
    phase: String,
    drawn: Option<Instant>,
    /// A line stands on the terminal that isn't finished.
    is_open: bool,
}

impl Live {
    /// A view on standard error, or none.
    pub fn new(quiet: bool) -> Live {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Plain,
        };
        Live(Arc::new(Mutex::new(Line { mode, phase: String::new(), drawn: None, is_open: false })))
    }

    /// Begins a part of the test.
    pub fn phase(&self, name: &str) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut line.phase);
        line.drawn = None;
        let stays = line.mode == Mode::Plain;
        line.write(name, stays);
    }

    /// Tells how the part is getting on; drawn when it is time.
    pub fn show(&self, now: &Now) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let every = if line.mode == Mode::Terminal { REDRAW } else { PLAIN };
        if line.drawn.is_some_and(|drawn| drawn.elapsed() >= every) {
            line.drawn = Some(Instant::now());
            let text = format!("{}  {}", line.phase, now.line());
            line.write(&text, false);
        } else if line.drawn.is_none() {
            line.drawn = Some(Instant::now());
        }
    }

    /// Says something that stays.
    pub fn say(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(text, true);
    }

    /// Takes the unfinished line away.
    pub fn end(&self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_open {
            eprint!("\r\x1b[K");
            line.is_open = false;
        }
    }
}

impl Line {
    fn write(&mut self, text: &str, stays: bool) {
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to tell when standard error is closed.
        let _ = match self.mode {
            Mode::Quiet => Ok(()),
            Mode::Plain => writeln!(stderr, "{text}"),
            Mode::Terminal if stays => writeln!(stderr, "\r\x1b[K{text}"),
            Mode::Terminal => {
                let fitting: String = text.chars().take(columns()).collect();
                write!(stderr, "\r\x1b[K{fitting}").and_then(|()| stderr.flush())
            }
        };
        self.is_open = self.mode == Mode::Terminal && !stays;
    }
}

impl Now {
    fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some((done, all)) = self.done {
            let percent = 100.0 * done as f64 / all.max(1) as f64;
            parts.push(format!("{} of {} ({percent:.0} %)", text::number(done as f64), text::number(all as f64)));
        }
        if let Some((gone, all)) = self.seconds {
            parts.push(format!("{} of {}", text::clock(gone), text::clock(all)));
        }
        parts.extend(self.rate.map(|rate| format!("{}/s", text::number(rate.round()))));
        parts.extend(self.p99_ms.filter(|p99| p99.is_finite()).map(|p99| format!("p99 {} ms", text::number(p99))));
        parts.extend(self.queue.map(|queue| format!("queue {queue}")));
        if self.errors > 0 {
            parts.push(format!("errors {}", self.errors));
        }
        parts.extend((!self.more.is_empty()).then(|| self.more.clone()));
        parts.join("  ")
    }
}

/// What the shell says of the terminal's width, less one so that the line never wraps.
fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    told.unwrap_or(COLUMNS).clamp(20, 400) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_known() {
        let now = Now {
            done: Some((5_000, 20_000)),
            rate: Some(9_120.4),
            p99_ms: Some(f64::NAN),
            queue: Some(12),
            errors: 3,
            ..Now::default()
        };
        assert_eq!(now.line(), "5,000 of 20,000 (25 %)  9,120/s  queue 12  errors 3");
        assert_eq!(Now { seconds: Some((7.0, 125.0)), ..Now::default() }.line(), "7 s of 2:05 min");
    }
}
