//! `report`: a run as one HTML file that needs nothing else: no network, no scripts, no fonts.
//!
//! ```text
//! gather.rs    the artifacts behind the run; what is missing becomes a sentence
//! page.rs      the page: header, steps, timeline, source, lineage
//! data.rs      datasets, expectations, splits
//! learning.rs  models, metrics, curves, gates
//! assessment.rs  intervals, slices, groups, robustness, permutation, the champion
//! attribution.rs  what moved single predictions
//! search.rs    what a search has tried
//! charts.rs    the charts of an evaluation and of columns
//! dag.rs       the graph of steps
//! timeline.rs  who worked on what, when
//! svg.rs       scales, ticks and axes
//! markup.rs    balanced tags around escaped text
//! ```
//!
//! **Invariant:** the same run gives the same bytes: no clock, no order of a hash map, no ids of our own.

mod assessment;
mod attribution;
mod charts;
mod dag;
mod data;
mod gather;
mod learning;
mod page;
mod search;
mod svg;
mod timeline;

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use gristmill_backends::artifacts::Artifacts;
use gristmill_protocol::Timestamp;
use gristmill_scheduler::history::{History, StepHistory, StepState};

pub use gather::Findings;

/// Why a report couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the report to `{path}`")]
pub struct ReportError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Writes the report of a run; a file of that name is replaced as a whole. Returns how many bytes it has.
pub async fn write(history: &History, artifacts: &dyn Artifacts, path: &Path) -> Result<u64, ReportError> {
    let html = render(history, &gather::gather(history, artifacts).await);
    let fail = |source| ReportError { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    file.write_all(html.as_bytes()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(html.len() as u64)
}

/// The report of a run as HTML. A run that is open is shown up to the last that its journal tells.
pub fn render(history: &History, findings: &Findings) -> String {
    page::page(history, findings, last_moment(history))
}

/// The latest moment that the journal tells of: the end, or the last start or end of an attempt.
fn last_moment(history: &History) -> Timestamp {
    let ended = history.ended();
    let attempt = history.attempts.iter().map(|a| a.started_us.saturating_add(a.took_us.unwrap_or(0))).max();
    let attempt = attempt.map(|us| Timestamp(us.div_ceil(1_000)));
    let started = history.lives.last().map(|life| life.from);
    ended.or(attempt.max(started)).unwrap_or(history.created)
}

/// The class of a step's state, for its colour.
fn state_class(step: &StepHistory) -> &'static str {
    match step.state {
        StepState::Succeeded if step.is_cached() => "is-cached",
        StepState::Succeeded => "is-good",
        StepState::Failed => "is-bad",
        StepState::Rejected => "is-rejected",
        StepState::Running | StepState::Retrying => "is-open",
        StepState::Waiting | StepState::Skipped | StepState::Cancelled => "is-idle",
    }
}

/// A sign for a step's state, so that it can be told without its colour.
fn state_icon(step: &StepHistory) -> &'static str {
    match step.state {
        StepState::Succeeded if step.is_cached() => "↺",
        StepState::Succeeded => "✓",
        StepState::Failed => "✕",
        StepState::Rejected => "!",
        StepState::Running => "▸",
        StepState::Retrying => "⟳",
        StepState::Waiting => "○",
        StepState::Skipped => "–",
        StepState::Cancelled => "■",
    }
}
