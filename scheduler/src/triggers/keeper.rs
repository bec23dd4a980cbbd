//! The loop that keeps triggers. It runs in every scheduler process, and any number of them agree.
//!
//! A folder is looked at on a thread of its own, one look at a time: a mount that hangs holds up its trigger alone.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{RunRecord, State, StateError};
use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::TRIGGERS_MAX;
use gristmill_protocol::trigger::{FiringOutcome, FiringRecord, On, TriggerDocument};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use super::arrivals::{Arrivals, FileSeen};
use super::ended::{self, Ends};
use super::files::{FileFirer, FilesKnown};
use super::folder::{self, Found};
use super::{CHANGES, TRIGGERS, TriggerError, read, record};
use crate::calls::in_time;
use crate::changes::{Follower, News};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many times as long as a look at a folder took is waited before the next one: a tenth of a thread is enough.
const REST: u32 = 10;
/// Files that are fired at a time. Each waits for the store most of the time, which isn't to be flooded.
const AT_ONCE: usize = 16;
/// How long the firings of one look may take; what is left is fired at the next one.
const FIRE: Duration = Duration::from_secs(60);
/// Between two times at which files that are gone are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// Keeps the triggers of a cluster: fires them when runs end and when files arrive.
pub struct TriggersKeeper {
    state: Arc<dyn State>,
    artifacts: Arc<dyn Artifacts>,
    /// Which keeper this is.
    keeper: u64,
    follower: Follower,
    /// By `namespace/name`.
    watched: BTreeMap<String, Watched>,
    ends: Option<Ends>,
}

/// A trigger that something other than a call fires.
enum Watched {
    File { glob: String, folder: Box<Folder> },
    RunEnded { namespace: String, pipeline: String, since: Timestamp },
}

/// A folder that is looked at.
#[derive(Default)]
struct Folder {
    looking: Option<JoinHandle<(Found, Duration)>>,
    next: Option<Instant>,
    arrivals: Arrivals,
    known: FilesKnown,
    /// What was wrong at the last look.
    problem: Option<String>,
    pruned: Option<Instant>,
}

impl TriggersKeeper {
    /// A keeper that hasn't looked yet.
    pub fn new(state: Arc<dyn State>, artifacts: Arc<dyn Artifacts>) -> TriggersKeeper {
        TriggersKeeper {
            state,
            artifacts,
            keeper: RandomState::new().build_hasher().finish(),
            follower: Follower::new(CHANGES),
            watched: BTreeMap::new(),
            ends: None,
        }
    }

    /// Keeps the triggers until it is dropped, which it may be at any time.
    pub async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            looks.tick().await;
            match self.look().await {
                Ok(()) if std::mem::take(&mut is_away) => info!("triggers are kept again"),
                Ok(()) => {}
                Err(error) if !std::mem::replace(&mut is_away, true) => {
                    warn!(error = &error as &dyn std::error::Error, "triggers can't be kept");
                }
                Err(_) => {}
            }
        }
    }

    /// Looks once, and fires what is to be fired.
    pub(super) async fn look(&mut self) -> Result<(), TriggerError> {
        let clock = in_time("read the clock", self.state.clock()).await?;
        let news = in_time("follow the triggers", self.follower.news(&*self.state, clock.store)).await?;
        if let Err(error) = self.watch(news).await {
            self.follower.forget();
            return Err(error);
        }
        let ends = self.fire_ends(clock.now).await;
        // A run whose firing fails for now doesn't hold up the files.
        let files = tokio::time::timeout(FIRE, self.fire_files(clock.now)).await.map_err(late);
        ends.and(files)
    }

    /// Reads what was changed.
    async fn watch(&mut self, news: News) -> Result<(), TriggerError> {
        let names = match news {
            News::Named(names) => names,
            News::All => {
                let keys = in_time("list the triggers", self.state.keys(TRIGGERS, "", TRIGGERS_MAX)).await?;
                let names: Vec<String> =
                    keys.iter().filter_map(|key| key.strip_prefix(TRIGGERS).map(str::to_owned)).collect();
                self.watched.retain(|name, _| names.binary_search(name).is_ok());
                names
            }
        };
        for name in names {
            let document = match self.document(&name).await {
                Err(TriggerError::Damaged { name, source }) => {
                    warn!(trigger = name, error = &source as &dyn std::error::Error, "a trigger can't be read");
                    None
                }
                document => document?,
            };
            let before = self.watched.remove(&name);
            let watched = match document.map(|document| (document.trigger.on, document.namespace, document.since_ms)) {
                Some((On::File { glob }, ..)) => {
                    let folder = match before {
                        Some(Watched::File { glob: before, folder }) if before == glob => folder,
                        _ => Box::default(),
                    };
                    Watched::File { glob, folder }
                }
                Some((On::RunEnded { pipeline, .. }, namespace, since)) => {
                    Watched::RunEnded { namespace, pipeline, since }
                }
                Some((On::Webhook {}, ..)) | None => continue,
            };
            self.watched.insert(name, watched);
        }
        Ok(())
    }

    /// A trigger, unless it is paused or gone.
    async fn document(&self, name: &str) -> Result<Option<TriggerDocument>, TriggerError> {
        let Some((namespace, name)) = name.split_once('/') else { return Ok(None) };
        let found = read(&*self.state, namespace, name).await?;
        Ok(found.map(|(_, document)| document).filter(|document| !document.trigger.paused))
    }

    async fn fire_ends(&mut self, now: Timestamp) -> Result<(), TriggerError> {
        let since = self.watched.values().filter_map(|watched| match watched {
            Watched::RunEnded { since, .. } => Some(*since),
            Watched::File { .. } => None,
        });
        let Some(since) = since.min() else {
            self.ends = None;
            return Ok(());
        };
        let mut ends = match self.ends.take() {
            Some(ends) => ends,
            None => Ends::begin(&*self.state, since, now).await?,
        };
        let fired = self.fire_after(&mut ends, now).await;
        self.ends = Some(ends);
        fired
    }

    async fn fire_after(&self, ends: &mut Ends, now: Timestamp) -> Result<(), TriggerError> {
        // Of very many some are left for the next look, which goes on from here.
        let until = Instant::now() + FIRE;
        loop {
            let records = ends.next(&*self.state, now).await?;
            if records.is_empty() {
                return Ok(ends.note(&*self.state).await?);
            }
            for record in &records {
                if Instant::now() >= until {
                    return Ok(ends.note(&*self.state).await?);
                }
                tokio::time::timeout(FIRE, self.fire_end(record)).await.map_err(late)??;
                ends.done(record);
            }
        }
    }

    /// Fires all triggers for a run that has ended.
    async fn fire_end(&self, record: &RunRecord) -> Result<(), TriggerError> {
        for (name, watched) in &self.watched {
            let Watched::RunEnded { namespace, pipeline, .. } = watched else { continue };
            if *namespace != record.namespace || *pipeline != record.pipeline {
                continue;
            }
            let Some(document) = self.document(name).await? else { continue };
            let On::RunEnded { pipeline, status } = &document.trigger.on else { continue };
            let is_wanted = *pipeline == record.pipeline
                && record.status.is_some_and(|ended| status.contains(&ended))
                && record.ended.is_some_and(|ended| ended > document.since_ms);
            if is_wanted {
                ended::fire(&*self.state, &*self.artifacts, &document, record).await?;
            }
        }
        Ok(())
    }

    /// Takes in looks at folders that have ended, fires what has arrived, and begins others.
    async fn fire_files(&mut self, now: Timestamp) {
        let firer = FileFirer { state: &*self.state, artifacts: &*self.artifacts, keeper: self.keeper, now };
        for (name, watched) in &mut self.watched {
            let Watched::File { glob, folder } = watched else { continue };
            if folder.looking.as_ref().is_some_and(|looking| !looking.is_finished()) {
                continue;
            }
            if let Some(looking) = folder.looking.take() {
                let (found, took) = looking.await.unwrap_or_else(|error| {
                    // It panicked: that is told as what is wrong with the folder.
                    let problem = Some(format!("the look at the folder has failed: {error}"));
                    (Found { problem, ..Found::default() }, LOOK)
                });
                folder.next = Some(Instant::now() + took * REST);
                if let Err(error) = folder.fire(firer, name, glob, found).await {
                    warn!(trigger = name, error = &error as &dyn std::error::Error, "files are fired again later");
                }
            }
            if folder.next.is_none_or(|next| Instant::now() >= next) {
                let glob = glob.clone();
                folder.looking = Some(tokio::task::spawn_blocking(move || {
                    let start = std::time::Instant::now();
                    let found = folder::look(&glob);
                    (found, start.elapsed())
                }));
            }
        }
    }
}

impl Folder {
    /// Fires a trigger for what has arrived.
    async fn fire(
        &mut self,
        firer: FileFirer<'_>,
        trigger: &str,
        glob: &str,
        found: Found,
    ) -> Result<(), TriggerError> {
        let Some((namespace, name)) = trigger.split_once('/') else { return Ok(()) };
        if self.problem != found.problem {
            if let Some(reason) = found.problem.clone() {
                let outcome = FiringOutcome::Failed { reason };
                let told = FiringRecord { at_ms: firer.now, cause: glob.to_owned(), outcome };
                record(firer.state, namespace, name, told).await?;
            }
            self.problem = found.problem;
        }
        let there: BTreeSet<String> = found.files.iter().map(FileSeen::id).collect();
        let arrived = self.known.open(self.arrivals.look(found.files));
        // Only when all that is there was seen.
        let must_prune = self.problem.is_none() && self.pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY);
        if arrived.is_empty() && !must_prune {
            return Ok(());
        }
        // As it is by now: it may be paused, or fired by something else.
        let Some((_, document)) = read(firer.state, namespace, name).await? else { return Ok(()) };
        let is_as_watched = matches!(&document.trigger.on, On::File { glob: found } if found == glob);
        if document.trigger.paused || !is_as_watched {
            return Ok(());
        }
        let (document, known) = (&document, &self.known);
        let firing = arrived.into_iter().map(|file| async move {
            let fired = firer.fire(document, &file, known.has_waited(&file)).await;
            (file, fired)
        });
        let mut firing = stream::iter(firing).buffer_unordered(AT_ONCE);
        let (mut fired, mut failed) = (Vec::new(), None);
        while let Some((file, came)) = firing.next().await {
            match came {
                Ok(came) => fired.push((file, came)),
                Err(error) => failed = Some(error),
            }
        }
        drop(firing);
        fired.into_iter().for_each(|(file, came)| self.known.learn(&file, came));
        if must_prune && failed.is_none() {
            firer.prune(document, &there, &mut self.known).await?;
            self.pruned = Some(Instant::now());
        }
        failed.map_or(Ok(()), Err)
    }
}

fn late(elapsed: tokio::time::error::Elapsed) -> TriggerError {
    StateError::Unavailable { verb: "fire triggers in time", source: Box::new(elapsed) }.into()
}
