//! What is asked of the list of runs, and what it answers. How a store finds them is the store's.

use gristmill_protocol::RunId;
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::{RUN_FILTER_NAMESPACES_MAX, RUN_PAGE_MAX};

use super::{RunRecord, StateError};

/// Which runs are listed. What isn't given fits all; what is given must all fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Runs of any of these namespaces, at most [`RUN_FILTER_NAMESPACES_MAX`]. An empty list fits no run.
    pub namespaces: Option<Vec<String>>,
    /// Runs of the pipeline of this name.
    pub pipeline: Option<String>,
    /// Runs that are open, or that ended like this.
    pub status: Option<StatusFilter>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// It hasn't ended: it is open, or being cancelled.
    Open,
    Ended(RunStatus),
}

/// A part of the list of runs, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPage {
    /// What fits, at most as many as were asked for. There may be fewer, or none, though more follow.
    pub records: Vec<RunRecord>,
    /// The `before` of the next page; nothing when all has been seen.
    pub next: Option<RunId>,
}

impl RunFilter {
    /// Whether a run is one of those.
    pub fn fits(&self, record: &RunRecord) -> bool {
        let status = match record.status {
            None => StatusFilter::Open,
            Some(status) => StatusFilter::Ended(status),
        };
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&record.namespace))
            && self.pipeline.as_ref().is_none_or(|pipeline| *pipeline == record.pipeline)
            && self.status.is_none_or(|wanted| wanted == status)
    }

    /// The same with each namespace once, as stores look for it.
    ///
    /// # Errors
    /// [`StateError::TooMany`] for too many namespaces.
    pub fn checked(&self) -> Result<RunFilter, StateError> {
        let mut filter = self.clone();
        if let Some(namespaces) = &mut filter.namespaces {
            namespaces.sort_unstable();
            namespaces.dedup();
            if namespaces.len() > RUN_FILTER_NAMESPACES_MAX {
                return Err(StateError::TooMany {
                    what: format!("a filter of runs has {} namespaces", namespaces.len()),
                    limit: RUN_FILTER_NAMESPACES_MAX,
                });
            }
        }
        Ok(filter)
    }
}

/// How many records a page has at most, where so many were asked for.
pub fn page_size(limit: usize) -> usize {
    limit.clamp(1, RUN_PAGE_MAX)
}
