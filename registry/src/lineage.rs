//! What comes from what: from data, runs, parents and studies to versions, and from versions to predictions.
//!
//! A version says where it comes from ([`crate::VersionView`]); the other way is found by looking through the
//! models, some at a time. What a version scored stands in a log of its own for each model's bytes, so that a busy
//! model's log stays short, and a new name changes nothing.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use gristmill_protocol::{Digest, RunId, Timestamp, wire};

use crate::acting::Acting;
use crate::chain::Head;
use crate::error::RegistryError;
use crate::fact::{Change, LogEntry, VersionRef};
use crate::model_log::VersionView;
use crate::registry::{Races, Registry, at_of, changes_of, record, version_of};

/// What the logs of predictions are called before the digits of the model's digest.
pub(crate) const SCORES: &str = "scores/";
/// Models that one lookup goes through at the most.
const MODELS_SEEN_MAX: usize = 1_000;
/// Facts that one lookup of predictions goes through at the most.
const PREDICTIONS_SEEN_MAX: usize = 1_000;
/// Logs of predictions whose ends are remembered.
const SCORES_KEPT_MAX: usize = 1_000;

/// Where a version can come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The manifest of a dataset.
    Dataset(Digest),
    Run(RunId),
    Parent(VersionRef),
    Study(Digest),
    /// The model's bytes themselves.
    Model(Digest),
}

impl Origin {
    fn is_of(&self, version: &VersionView) -> bool {
        match self {
            Origin::Dataset(dataset) => version.lineage.datasets.contains(dataset),
            Origin::Run(run) => version.new.run == *run,
            Origin::Parent(parent) => version.lineage.parent.as_ref() == Some(parent),
            Origin::Study(study) => version.lineage.study == Some(*study),
            Origin::Model(model) => version.new.model == *model,
        }
    }
}

/// Some of what was asked for, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    pub items: Vec<T>,
    /// What to ask with for the rest; nothing when this was the last.
    pub next: Option<C>,
}

/// Something that a version scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The number of the fact.
    pub fact: u64,
    pub at: Timestamp,
    pub by: String,
    pub run: Option<RunId>,
    pub of: VersionRef,
    pub output: Digest,
    pub rows: u64,
    /// The manifest of what was scored.
    pub input: Option<Digest>,
}

/// The end of a log of predictions, and what stands in it.
#[derive(Clone, Debug)]
pub(crate) struct Scores {
    head: Head,
    last: Timestamp,
    seen: HashSet<Digest>,
}

impl Registry {
    /// The versions that come from an origin, models by name after `after`, some at a time: a page ends after about
    /// `limit` versions or 1,000 models. Versions that were deleted are among them.
    pub async fn versions_from(
        &self,
        origin: &Origin,
        after: &str,
        limit: usize,
    ) -> Result<Page<VersionRef, String>, RegistryError> {
        let mut items = Vec::new();
        let mut models = 0;
        let mut names = self.log_names().await?.into_iter().filter(|name| name.as_str() > after).peekable();
        while let Some(name) = names.next() {
            let view = self.fold(&name).await?.view;
            let versions = view.versions.iter().chain(&view.deleted).filter(|version| origin.is_of(version));
            items.extend(versions.map(|known| VersionRef { name: name.clone(), version: known.version }));
            models += 1;
            if (items.len() >= limit || models >= MODELS_SEEN_MAX) && names.peek().is_some() {
                return Ok(Page { items, next: Some(name) });
            }
        }
        Ok(Page { items, next: None })
    }

    /// What a version scored, after the fact `after`, oldest first. Looks at up to `limit` facts, at most 1,000.
    pub async fn predictions(
        &self,
        of: &VersionRef,
        after: u64,
        limit: usize,
    ) -> Result<Page<Prediction, u64>, RegistryError> {
        let view = self.live(&of.name).await?.view;
        let log = scores_of(version_of(&view, of.version)?.new.model);
        let limit = limit.clamp(1, PREDICTIONS_SEEN_MAX);
        let entries = self.logs.state.log_read(&log, after, limit).await?;
        let next = entries.last().map(|last| last.position).filter(|_| entries.len() == limit);
        let mut items = Vec::new();
        for entry in entries {
            let damaged = |source| RegistryError::Damaged { name: of.name.clone(), source };
            let decoded = crate::chain::decode(&entry.body).map_err(damaged)?;
            let is_ours = |known: &VersionRef| {
                known.version == of.version && (known.name == of.name || view.formerly.contains(&known.name))
            };
            items.extend(predictions_in(entry.position, &decoded).filter(|prediction| is_ours(&prediction.of)));
        }
        Ok(Page { items, next })
    }

    /// A log of predictions, read to its end.
    pub(crate) async fn scores(&self, log: &str) -> Result<Scores, RegistryError> {
        let empty = || Scores { head: Head::empty(), last: Timestamp(0), seen: HashSet::new() };
        let known = self.lock_scores().get(log).cloned();
        let mut scores = known.unwrap_or_else(empty);
        let news = match self.logs.news(log, scores.head).await? {
            Some(news) => news,
            None => {
                scores = empty();
                self.logs.read(log, scores.head, usize::MAX).await?
            }
        };
        for stored in news {
            scores.head = stored.head;
            scores.last = at_of(&stored.entry);
            scores.seen.extend(changes_of(&stored.entry).iter().map(|change| said(change, run_of(&stored.entry))));
        }
        let mut all = self.lock_scores();
        if all.len() >= SCORES_KEPT_MAX && !all.contains_key(log) {
            all.clear();
        }
        all.insert(log.to_owned(), scores.clone());
        Ok(scores)
    }

    fn lock_scores(&self) -> MutexGuard<'_, std::collections::HashMap<String, Scores>> {
        self.scores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acting<'_> {
    /// Notes what a version scored: an output artifact, its rows, and the manifest of what was scored. The same output
    /// of the same run is noted once.
    pub async fn scored(
        &self,
        of: &VersionRef,
        output: Digest,
        rows: u64,
        input: Option<Digest>,
    ) -> Result<(), RegistryError> {
        let mut races = Races::new(&of.name)?;
        let folded = self.registry.live(&of.name).await?;
        let log = scores_of(version_of(&folded.view, of.version)?.new.model);
        let change = Change::Scored { of: of.clone(), output, rows, input };
        let saying = said(&change, self.act.trace);
        let _turn = self.registry.turn(&log).await;
        loop {
            let scores = self.registry.scores(&log).await?;
            if scores.seen.contains(&saying) {
                if self.registry.logs.settle(&log, scores.head).await? == crate::log::Settled::Whole {
                    return Ok(());
                }
            } else {
                let record = record(&log, scores.head, scores.last, &self.act, &("scored",), vec![change.clone()]);
                if self.registry.logs.append(&log, scores.head, record).await?.is_some() {
                    return Ok(());
                }
            }
            races.lost(scores.head).await?;
        }
    }
}

/// The log of what a model's bytes scored.
pub(crate) fn scores_of(model: Digest) -> String {
    format!("{SCORES}{}", model.hex())
}

/// What an entry says was scored.
pub(crate) fn predictions_in(fact: u64, entry: &LogEntry) -> impl Iterator<Item = Prediction> {
    let (at, run) = (at_of(entry), run_of(entry));
    let by = match entry {
        LogEntry::Recorded(record) => record.by.clone(),
        LogEntry::VersionCreated { .. } | LogEntry::AliasMoved(_) => String::new(),
    };
    changes_of(entry).iter().filter_map(move |change| match change {
        Change::Scored { of, output, rows, input } => Some(Prediction {
            fact,
            at,
            by: by.clone(),
            run,
            of: of.clone(),
            output: *output,
            rows: *rows,
            input: *input,
        }),
        _ => None,
    })
}

fn run_of(entry: &LogEntry) -> Option<RunId> {
    match entry {
        LogEntry::Recorded(record) => record.trace,
        LogEntry::VersionCreated { .. } | LogEntry::AliasMoved(_) => None,
    }
}

fn said(change: &Change, run: Option<RunId>) -> Digest {
    Digest::of(&wire::encode(&(change, run)))
}
