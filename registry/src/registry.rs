//! The registry in its stores: what it says, and the turns in which it changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::State;
use gristmill_protocol::{Digest, RunId, Timestamp, wire};
use serde::Serialize;

use crate::acting::Acting;
use crate::chain::Head;
use crate::error::RegistryError;
use crate::fact::{Change, Key, LogEntry, NewVersion, Record, VersionRef};
use crate::lineage::Scores;
use crate::log::{Logs, Settled, Stored};
use crate::model_log::{Done, Life, ModelView, VersionView};
use crate::names;
use crate::signature::TrustPolicy;

/// What the logs of models are called before the model's name.
pub(crate) const MODELS: &str = "model/";
/// How often a writer that lost a race decides anew. Each race has a winner, so this many others got ahead of it.
const RACES_MAX: u32 = 1_000;
/// Milliseconds that a writer waits at the most before it decides anew.
const RACE_PAUSE_MS_MAX: u64 = 50;
/// Models whose folded logs are kept in memory; past this, some are read anew.
const FOLDED_MAX: usize = 10_000;
/// Models that an error names.
const NAMED_MAX: usize = 20;

/// On whose behalf something is done, and when.
#[derive(Clone, Debug, Default)]
pub struct Act {
    pub by: String,
    pub why: Option<String>,
    /// The run on whose behalf it is done.
    pub trace: Option<RunId>,
    /// The store's time.
    pub at: Timestamp,
    /// Saying the same again under the same key is saying it once; another request under it is refused.
    pub key: Option<String>,
}

/// What came of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    pub version: u64,
    /// Whether a version was made or an alias moved.
    pub changed: bool,
}

/// The registered models. Clones share what they have read.
#[derive(Clone)]
pub struct Registry {
    pub(crate) logs: Logs,
    pub(crate) trust: Arc<TrustPolicy>,
    folded: Arc<Mutex<HashMap<String, Folded>>>,
    turns: Arc<Mutex<HashMap<String, Turn>>>,
    pub(crate) scores: Arc<Mutex<HashMap<String, Scores>>>,
}

/// Writers of one model in this process take turns, so they don't race each other through the stores.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// A log and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    pub view: Arc<ModelView>,
    pub head: Head,
    /// When its last fact happened.
    pub last: Timestamp,
}

impl Registry {
    /// The registry in these stores. It trusts unsigned versions.
    pub fn new(state: Arc<dyn State>, artifacts: Arc<dyn Artifacts>) -> Registry {
        Registry {
            logs: Logs::new(state, artifacts),
            trust: Arc::default(),
            folded: Arc::default(),
            turns: Arc::default(),
            scores: Arc::default(),
        }
    }

    /// The same registry, in which [`Registry::resolve`] and [`Registry::load`] refuse what isn't trusted.
    #[must_use]
    pub fn trusting(self, policy: TrustPolicy) -> Registry {
        Registry { trust: Arc::new(policy), ..self }
    }

    /// The verbs that change something, in somebody's name.
    pub fn on_behalf(&self, act: Act) -> Acting<'_> {
        Acting { registry: self, act }
    }

    /// The names of all registered models, in order.
    pub async fn names(&self) -> Result<Vec<String>, RegistryError> {
        let mut names = Vec::new();
        for name in self.log_names().await? {
            match self.fold(&name).await {
                Ok(folded) if folded.view.life != Life::Live => {}
                // One damaged log doesn't hide the others; whoever asks for its model is told.
                Ok(_) | Err(RegistryError::BrokenChain { .. } | RegistryError::Damaged { .. }) => names.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    /// The names of all logs of models, those that are gone included.
    pub(crate) async fn log_names(&self) -> Result<Vec<String>, RegistryError> {
        let logs = self.logs.state.logs(MODELS).await?;
        Ok(logs.into_iter().filter_map(|log| log.strip_prefix(MODELS).map(str::to_owned)).collect())
    }

    /// A model as its log says it is now, if it is there: one read of the state, whatever else is registered.
    pub async fn find(&self, name: &str) -> Result<Option<Arc<ModelView>>, RegistryError> {
        names::check_model(name)?;
        let folded = self.fold(name).await?;
        Ok((folded.view.life == Life::Live).then_some(folded.view))
    }

    /// All models, by name. One whose log is damaged is passed over; whoever asks for it is told.
    pub async fn models(&self) -> Result<Vec<Arc<ModelView>>, RegistryError> {
        let mut models = Vec::new();
        for name in self.log_names().await? {
            match self.fold(&name).await {
                Ok(folded) if folded.view.life == Life::Live => models.push(folded.view),
                Ok(_) | Err(RegistryError::BrokenChain { .. } | RegistryError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(models)
    }

    /// A model as its log says it is now.
    pub async fn model(&self, name: &str) -> Result<ModelView, RegistryError> {
        let folded = self.live(name).await?;
        Ok(Arc::unwrap_or_clone(folded.view))
    }

    /// The version that `name@alias` or `name@3` means. Refuses one that isn't trusted.
    pub async fn resolve(&self, text: &str) -> Result<(String, u64, NewVersion), RegistryError> {
        let (of, found) = self.version(text).await?;
        Ok((of.name, of.version, found.new))
    }

    /// The same as [`Registry::resolve`], with all that is known of the version.
    pub async fn version(&self, text: &str) -> Result<(VersionRef, VersionView), RegistryError> {
        let bad = || RegistryError::BadReference { text: text.to_owned() };
        let (name, which) = text.split_once('@').ok_or_else(bad)?;
        let folded = self.live(name).await?;
        let view = &folded.view;
        let found = match which.parse::<u64>() {
            Ok(version) => version_of(view, version)?,
            Err(_) => view.aliased(which).ok_or_else(|| no_alias(view, which))?,
        };
        self.trust.check(name, found)?;
        Ok((VersionRef { name: name.to_owned(), version: found.version }, found.clone()))
    }

    /// The bytes of the version that `name@alias` or `name@3` means: trusted, and checked against their digest.
    /// Nothing in them is executed; a model is data.
    pub async fn load(&self, text: &str) -> Result<(VersionRef, VersionView, Bytes), RegistryError> {
        let (of, found) = self.version(text).await?;
        let bytes = self.logs.artifacts.get(found.new.model).await?;
        Ok((of, found, bytes))
    }

    /// The version that an alias pointed to at a time. Nothing when it pointed nowhere then.
    pub async fn alias_at(&self, name: &str, alias: &str, time: Timestamp) -> Result<Option<u64>, RegistryError> {
        Ok(self.live(name).await?.view.alias_at(alias, time))
    }

    /// The facts of a model's log after `after`, at most `limit`: who did what, when and why. Logs of models that are
    /// gone can be read too.
    pub async fn facts(&self, name: &str, after: u64, limit: usize) -> Result<Vec<(u64, LogEntry)>, RegistryError> {
        let log = format!("{MODELS}{name}");
        let entries = self.logs.state.log_read(&log, after, limit).await?;
        if entries.is_empty() && self.fold(name).await?.head.number == 0 {
            return Err(self.no_model(name).await?);
        }
        let decoded = entries.into_iter().map(|entry| {
            let fact = crate::chain::decode(&entry.body);
            let damaged = |source| RegistryError::Damaged { name: name.to_owned(), source };
            Ok((entry.position, fact.map_err(damaged)?))
        });
        decoded.collect()
    }

    /// Waits for the turn to write to a model.
    pub(crate) async fn turn(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= FOLDED_MAX {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(turns.entry(name.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// A model that is there.
    pub(crate) async fn live(&self, name: &str) -> Result<Folded, RegistryError> {
        let folded = self.fold(name).await?;
        if folded.view.life == Life::Live { Ok(folded) } else { Err(self.no_model(name).await?) }
    }

    async fn no_model(&self, name: &str) -> Result<RegistryError, RegistryError> {
        let mut known = self.names().await?;
        known.truncate(NAMED_MAX);
        Ok(RegistryError::NoModel { name: name.to_owned(), known })
    }

    /// A model's log, folded. What was folded before is folded on, unless the log went back.
    pub(crate) async fn fold(&self, name: &str) -> Result<Folded, RegistryError> {
        let log = format!("{MODELS}{name}");
        let empty = || Folded { view: Arc::new(ModelView::new(name)), head: Head::empty(), last: Timestamp(0) };
        let known = self.lock().get(name).cloned();
        let mut folded = known.unwrap_or_else(empty);
        let news = match self.logs.news(&log, folded.head).await? {
            Some(news) => news,
            None => {
                folded = empty();
                self.logs.read(&log, folded.head, usize::MAX).await?
            }
        };
        if !news.is_empty() {
            let mut view = Arc::unwrap_or_clone(folded.view);
            for stored in news {
                folded.head = stored.head;
                folded.last = at_of(&stored.entry);
                let moved_here = claimed_for(&stored.entry);
                view.apply(stored.head.number, stored.entry);
                if let Some(from) = moved_here {
                    view = self.moved_from(view, &from, stored.head.number).await?;
                }
            }
            folded.view = Arc::new(view);
        }
        // A claim is settled by the other log, so it is looked at again.
        if !matches!(folded.view.life, Life::Claimed { .. } | Life::Absent) {
            let mut all = self.lock();
            if all.len() >= FOLDED_MAX && !all.contains_key(name) {
                all.clear();
            }
            all.insert(name.to_owned(), folded.clone());
        }
        Ok(folded)
    }

    /// The view of a model that came from another log, once that log says that it went; else the claim stands.
    pub(crate) async fn moved_from(
        &self,
        claimed: ModelView,
        from: &str,
        claim: u64,
    ) -> Result<ModelView, RegistryError> {
        let log = format!("{MODELS}{from}");
        let mut view = ModelView::new(from);
        for stored in self.logs.read(&log, Head::empty(), usize::MAX).await? {
            if went_to(&stored.entry, &claimed.name, claim) {
                let facts = claimed.facts;
                view.formerly.push(from.to_owned());
                return Ok(ModelView { name: claimed.name, facts, ..view });
            }
            let moved_here = claimed_for(&stored.entry);
            view.apply(stored.head.number, stored.entry);
            if let Some(before) = moved_here {
                view = Box::pin(self.moved_from(view, &before, stored.head.number)).await?;
            }
        }
        Ok(claimed)
    }

    /// Appends changes to what was read; nothing when another was faster.
    pub(crate) async fn append(
        &self,
        folded: &Folded,
        act: &Act,
        asked: &impl Serialize,
        changes: Vec<Change>,
    ) -> Result<Option<Stored>, RegistryError> {
        let log = format!("{MODELS}{}", folded.view.name);
        self.logs.append(&log, folded.head, record(&log, folded.head, folded.last, act, asked, changes)).await
    }

    /// What was done under the act's key before; refuses a key that was used for something else.
    pub(crate) async fn done(
        &self,
        folded: &Folded,
        act: &Act,
        asked: &impl Serialize,
    ) -> Result<Option<Done>, RegistryError> {
        let Some(key) = &act.key else { return Ok(None) };
        let Some(done) = folded.view.keys.get(key) else { return Ok(None) };
        if done.asked != digest_of(asked) {
            return Err(RegistryError::KeyTaken { name: folded.view.name.clone(), key: key.clone() });
        }
        Ok(Some(done.clone()))
    }

    /// Sees to it that what was read is copied, before an answer leans on it. False when the log had lost facts, which
    /// have to be read anew.
    pub(crate) async fn acknowledge(&self, folded: &Folded) -> Result<bool, RegistryError> {
        let log = format!("{MODELS}{}", folded.view.name);
        Ok(self.logs.settle(&log, folded.head).await? == Settled::Whole)
    }

    pub(crate) async fn check_bytes(&self, name: &str, digest: Digest) -> Result<(), RegistryError> {
        match self.logs.artifacts.size(digest).await? {
            Some(_) => Ok(()),
            None => Err(RegistryError::BytesMissing { name: name.to_owned(), digest }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Folded>> {
        self.folded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record that follows a head. Its time is never before that of the fact before.
pub(crate) fn record(
    log: &str,
    head: Head,
    last: Timestamp,
    act: &Act,
    asked: &impl Serialize,
    changes: Vec<Change>,
) -> Record {
    Record {
        number: head.number + 1,
        log: log.to_owned(),
        previous: head.link,
        at: act.at.max(last),
        by: act.by.clone(),
        why: act.why.clone(),
        trace: act.trace,
        key: act.key.as_ref().map(|text| Key { text: text.clone(), asked: digest_of(asked) }),
        changes,
    }
}

/// When an entry's fact happened.
pub(crate) fn at_of(entry: &LogEntry) -> Timestamp {
    match entry {
        LogEntry::VersionCreated { at, .. } => *at,
        LogEntry::AliasMoved(moved) => moved.at,
        LogEntry::Recorded(record) => record.at,
    }
}

/// The changes of an entry that is a record.
pub(crate) fn changes_of(entry: &LogEntry) -> &[Change] {
    match entry {
        LogEntry::Recorded(record) => &record.changes,
        LogEntry::VersionCreated { .. } | LogEntry::AliasMoved(_) => &[],
    }
}

/// The model for which an entry claims its log's name.
pub(crate) fn claimed_for(entry: &LogEntry) -> Option<String> {
    changes_of(entry).iter().find_map(|change| match change {
        Change::ClaimedFor { name } => Some(name.clone()),
        _ => None,
    })
}

/// Whether an entry says that its model went to a name, under a claim.
fn went_to(entry: &LogEntry, to: &str, under: u64) -> bool {
    let goes = |change: &Change| matches!(change, Change::RenamedTo { name, claim } if name == to && *claim == under);
    changes_of(entry).iter().any(goes)
}

fn digest_of(asked: &impl Serialize) -> Digest {
    Digest::of(&wire::encode(asked))
}

/// How often a writer lost a race.
pub(crate) struct Races<'a> {
    name: &'a str,
    lost: u32,
}

impl<'a> Races<'a> {
    pub fn new(name: &'a str) -> Result<Races<'a>, RegistryError> {
        names::check_model(name)?;
        Ok(Races { name, lost: 0 })
    }

    /// Waits a little, longer each time, and not as long as others who lost the same race.
    pub async fn lost(&mut self, head: Head) -> Result<(), RegistryError> {
        self.lost += 1;
        if self.lost > RACES_MAX {
            return Err(RegistryError::TooManyRaces { name: self.name.to_owned() });
        }
        let mut dice = [0; 2];
        // Without random bytes all wait alike, which is slower and as right.
        let _ = getrandom::fill(&mut dice);
        let most = (1 << self.lost.min(6)).min(RACE_PAUSE_MS_MAX);
        let ms = (u64::from(u16::from_be_bytes(dice)) + head.number) % most;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
}

/// A version that is there.
pub(crate) fn version_of(view: &ModelView, version: u64) -> Result<&VersionView, RegistryError> {
    view.version(version).ok_or_else(|| {
        let name = view.name.clone();
        if view.deleted.iter().any(|known| known.version == version) {
            return RegistryError::VersionDeleted { name, version };
        }
        RegistryError::NoVersion { name, version, count: view.versions.len() }
    })
}

pub(crate) fn no_alias(view: &ModelView, alias: &str) -> RegistryError {
    let known = view.aliases.keys().cloned().collect();
    RegistryError::NoAlias { name: view.name.clone(), alias: alias.to_owned(), known }
}
