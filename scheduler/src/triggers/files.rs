//! Fires a trigger for a file, once.
//!
//! Each file that has fired has a document of its own, `trigger-file/{namespace}/{name}/{id}`, whose making decides when
//! it was fired; its run follows from key and time. Who finds one that isn't done sees it through after a while: the file
//! lies there still, so it is found at each look. (Where it is gone as well, there is nothing to make a run of.)
//!
//! Documents of files that are gone are kept for a day: a mount that is away for less than that fires nothing again.
//! So a trigger has at most as many as [`TRIGGER_FILES_MAX`], and those of a day.
//!
//! [`TRIGGER_FILES_MAX`]: gristmill_protocol::limits::TRIGGER_FILES_MAX

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{State, StateError};
use gristmill_protocol::Timestamp;
use gristmill_protocol::trigger::{FiringOutcome, FiringRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::arrivals::FileSeen;
use super::{TriggerDocument, TriggerError, record, submit};
use crate::message::Key;
use crate::schedules::told;

const FILES: &str = "trigger-file/";
/// After which a firing that another keeper decided is seen through here: it is slow or gone. Both may do it.
const TAKE_OVER: Duration = Duration::from_secs(5);
/// Milliseconds for which a file that is gone is remembered.
const GONE_KEPT_MS: u64 = 24 * 3_600_000;
/// Keys read at a time.
const KEYS_AT_A_TIME: usize = 1_000;

/// A file that has fired.
#[derive(Debug, Serialize, Deserialize)]
struct FileFired {
    at_ms: Timestamp,
    path: String,
    /// Which keeper decided it.
    keeper: u64,
    /// Whether what became of it is recorded.
    is_done: bool,
}

/// What a keeper knows of the files of one trigger.
#[derive(Debug, Default)]
pub(super) struct FilesKnown {
    /// Ids of those that are done.
    done: BTreeSet<String>,
    /// Those that another keeper is at, and since when that is known.
    waits: BTreeMap<String, Instant>,
}

/// Who fires, and when.
#[derive(Clone, Copy)]
pub(super) struct FileFirer<'a> {
    pub state: &'a dyn State,
    pub artifacts: &'a dyn Artifacts,
    pub keeper: u64,
    pub now: Timestamp,
}

impl FilesKnown {
    /// Those of the files that may have to be fired.
    pub(super) fn open(&self, files: Vec<FileSeen>) -> Vec<FileSeen> {
        files.into_iter().filter(|file| !self.done.contains(&file.id())).collect()
    }

    /// Whether another keeper was waited for long enough.
    pub(super) fn has_waited(&self, file: &FileSeen) -> bool {
        self.waits.get(&file.id()).is_some_and(|since| since.elapsed() >= TAKE_OVER)
    }

    /// Takes into account what came of firing.
    pub(super) fn learn(&mut self, file: &FileSeen, firing: Firing) {
        let id = file.id();
        match firing {
            Firing::Done => {
                self.waits.remove(&id);
                self.done.insert(id);
            }
            Firing::Anothers => {
                self.waits.entry(id).or_insert_with(Instant::now);
            }
        }
    }
}

/// What came of firing for a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Firing {
    /// It is done, now or before.
    Done,
    /// Another keeper is at it.
    Anothers,
}

impl FileFirer<'_> {
    /// Fires a trigger for a file that has arrived, unless that was done. An error means to try again.
    pub(super) async fn fire(
        &self,
        document: &TriggerDocument,
        file: &FileSeen,
        has_waited: bool,
    ) -> Result<Firing, TriggerError> {
        let TriggerDocument { namespace, name, .. } = document;
        let id = file.id();
        let key = format!("{FILES}{namespace}/{name}/{id}");
        let (version, fired) = match self.read(&key).await? {
            Some((_, fired)) if fired.is_done => return Ok(Firing::Done),
            Some((_, fired)) if fired.keeper != self.keeper && !has_waited => return Ok(Firing::Anothers),
            Some(found) => found,
            None => {
                let path = file.path.clone();
                let fired = FileFired { at_ms: self.now, path, keeper: self.keeper, is_done: false };
                match self.state.put(&key, 0, serde_json::to_vec(&fired).expect("plain data")).await {
                    Ok(version) => (version, fired),
                    Err(StateError::Conflict { .. }) => return Ok(Firing::Anothers),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let facts = json!({ "path": file.path });
        let submission = Key::Timed(format!("trigger/{namespace}/{name}/{id}"));
        let submitted = submit(self.state, self.artifacts, document, &facts, submission, fired.at_ms, 0).await;
        let outcome = match submitted {
            Ok(submitted) => FiringOutcome::Fired { run: submitted.run },
            Err(error) if error.code().is_retryable() => return Err(error),
            Err(error) => FiringOutcome::Failed { reason: told(&error) },
        };
        let told = FiringRecord { at_ms: fired.at_ms, cause: file.path.clone(), outcome };
        record(self.state, namespace, name, told).await?;
        let done = FileFired { is_done: true, ..fired };
        match self.state.put(&key, version, serde_json::to_vec(&done).expect("plain data")).await {
            // Whoever took it over has done the same.
            Ok(_) | Err(StateError::Conflict { .. }) => Ok(Firing::Done),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets files of a trigger that are gone for long.
    pub(super) async fn prune(
        &self,
        document: &TriggerDocument,
        there: &BTreeSet<String>,
        known: &mut FilesKnown,
    ) -> Result<(), TriggerError> {
        let prefix = format!("{FILES}{}/{}/", document.namespace, document.name);
        let mut after = String::new();
        loop {
            let mut keys = self.state.keys(&prefix, &after, KEYS_AT_A_TIME).await?;
            for key in &keys {
                let id = key.strip_prefix(&prefix).unwrap_or_default();
                if there.contains(id) {
                    continue;
                }
                let Some((version, fired)) = self.read(key).await? else { continue };
                if self.now.since(fired.at_ms) > GONE_KEPT_MS {
                    remove(self.state, key, version).await?;
                    known.done.remove(id);
                }
            }
            match keys.pop() {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    async fn read(&self, key: &str) -> Result<Option<(u64, FileFired)>, TriggerError> {
        let Some(found) = self.state.get(key).await? else { return Ok(None) };
        let damaged = |source| TriggerError::Damaged { name: key.to_owned(), source };
        Ok(Some((found.version, serde_json::from_slice(&found.body).map_err(damaged)?)))
    }
}

/// Forgets all files of a trigger.
pub(super) async fn forget(state: &dyn State, namespace: &str, name: &str) -> Result<(), StateError> {
    let prefix = format!("{FILES}{namespace}/{name}/");
    let mut after = String::new();
    loop {
        let mut keys = state.keys(&prefix, &after, KEYS_AT_A_TIME).await?;
        for key in &keys {
            if let Some(found) = state.get(key).await? {
                remove(state, key, found.version).await?;
            }
        }
        match keys.pop() {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Removes a document, unless another has changed or removed it.
async fn remove(state: &dyn State, key: &str, version: u64) -> Result<(), StateError> {
    match state.delete(key, version).await {
        Ok(()) | Err(StateError::Conflict { .. } | StateError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
