//! Models in memory, by name and version or alias: loaded once by need, shared, and bounded by bytes.
//!
//! **Invariant:** an alias that moves is served by its new version once that is in memory, and by the old one until
//! then; a request never finds neither. What is evicted stays in memory for the requests that have it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::engine::Lane;
use crate::predictor::Predictor;

/// The alias that is served when a request names no version.
pub const CHAMPION: &str = "champion";
/// Models that load at a time: they wait for a store and then need a core.
const LOADS_AT_ONCE_MAX: usize = 4;
/// The pause before a version that couldn't be loaded is tried again for an alias; it doubles up to the longest, since
/// each try reads all its bytes.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// A model that a source has loaded.
pub struct Loaded {
    pub predictor: Arc<dyn Predictor>,
    /// Bytes that it takes in memory.
    pub bytes: usize,
}

/// A model that a source knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Versions that can be loaded, in order.
    pub versions: Vec<u64>,
    pub aliases: BTreeMap<String, u64>,
    /// By version, a number that changes with what would be loaded: other bytes, or other tags of its columns. A version
    /// in memory whose number changed is loaded anew. Those that aren't named have 0.
    pub stamps: BTreeMap<u64, u64>,
}

/// Why a source can't load a model or list them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Where models come from. Its calls block; they run on threads that may.
pub trait Source: Send + Sync + 'static {
    /// All models.
    fn known(&self) -> Result<Vec<Known>, SourceError>;
    /// Loads a version, checked and ready to predict.
    fn load(&self, name: &str, version: u64) -> Result<Loaded, SourceError>;
}

/// Which version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The champion; the highest version of a model without one.
    Served,
    Version(u64),
    Alias(String),
}

impl Which {
    /// A version's number, or an alias.
    pub fn named(text: &str) -> Which {
        text.parse().map_or_else(|_| Which::Alias(text.to_owned()), Which::Version)
    }
}

/// Why there is no model to serve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("there is no model `{name}`")]
    NoModel { name: String },
    #[error("model `{name}` has no version or alias `{which}`")]
    NoVersion { name: String, which: String },
    #[error("failed to load version {version} of model `{name}`")]
    Load { name: String, version: u64, source: SourceError },
}

/// The models that are known, and those in memory.
pub struct Models {
    source: Arc<dyn Source>,
    bytes_max: usize,
    known: RwLock<HashMap<Arc<str>, Arc<Entry>>>,
    held: Mutex<Held>,
    loads: Semaphore,
    /// Counts uses, as the order of eviction.
    clock: AtomicU64,
    loaded_ever: AtomicU64,
}

/// One model; replaced as a whole.
struct Entry {
    name: Arc<str>,
    versions: Vec<u64>,
    aliases: BTreeMap<String, u64>,
    stamps: BTreeMap<u64, u64>,
    /// Aliases that stay at an old version, because the new one couldn't be loaded: when that is tried again.
    held_back: BTreeMap<String, HeldBack>,
}

/// A version that couldn't be loaded.
#[derive(Clone, Copy)]
struct HeldBack {
    to: u64,
    again: Instant,
    pause: Duration,
}

#[derive(Default)]
struct Held {
    slots: HashMap<(Arc<str>, u64), Arc<Slot>>,
    bytes: usize,
}

/// A version that is in memory, or on its way.
struct Slot {
    stamp: u64,
    lane: OnceLock<Arc<Lane>>,
    used: AtomicU64,
    bytes: AtomicU64,
    done: watch::Sender<Option<Result<Arc<Lane>, SourceError>>>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Models({} bytes)", self.lock().bytes)
    }
}

impl Models {
    /// Models of a source, with up to `bytes_max` of them in memory. Nothing is known before the first
    /// [`Models::refresh`].
    pub fn new(source: Arc<dyn Source>, bytes_max: usize) -> Arc<Models> {
        Arc::new(Models {
            source,
            bytes_max,
            known: RwLock::default(),
            held: Mutex::default(),
            loads: Semaphore::new(LOADS_AT_ONCE_MAX),
            clock: AtomicU64::new(0),
            loaded_ever: AtomicU64::new(0),
        })
    }

    /// The version to serve, in memory. Loads it when it isn't, once however many ask; the load goes on when the
    /// caller stops waiting.
    pub async fn resolve(self: &Arc<Models>, name: &str, which: &Which) -> Result<Arc<Lane>, ResolveError> {
        let entry = self.entry(name).ok_or_else(|| ResolveError::NoModel { name: name.to_owned() })?;
        let version = entry.version(which)?;
        self.lane(&entry.name, version, entry.stamp(version)).await
    }

    /// Asks the source for what it knows, and serves that.
    pub async fn refresh(self: &Arc<Models>) -> Result<(), SourceError> {
        let source = Arc::clone(&self.source);
        let known = tokio::task::spawn_blocking(move || source.known()).await;
        let known = known.unwrap_or_else(|_| Err(SourceError("the source panicked; the log has the reason".into())))?;
        let names: std::collections::HashSet<String> = known.iter().map(|model| model.name.clone()).collect();
        for model in known {
            self.serve(model).await;
        }
        self.write_known().retain(|name, _| names.contains(&**name));
        let gone = |name: &str| !names.contains(name);
        let mut held = self.lock();
        let keys: Vec<_> = held.slots.keys().filter(|(name, _)| gone(name)).cloned().collect();
        keys.iter().for_each(|key| held.remove(key));
        Ok(())
    }

    /// Serves a model no longer: it is gone.
    pub fn forget(&self, name: &str) {
        self.write_known().remove(name);
        self.unload(name);
    }

    /// Serves what is known of a model from here on. An alias that moved from a version in memory is served by its
    /// new version once that is loaded too; if it can't be, by the old one.
    pub async fn serve(self: &Arc<Models>, model: Known) {
        let before = self.entry(&model.name);
        let name = before.as_ref().map_or_else(|| model.name.as_str().into(), |entry| Arc::clone(&entry.name));
        let Known { versions, aliases, stamps, .. } = model;
        let mut entry = Entry { name, versions, aliases, stamps, held_back: BTreeMap::new() };
        self.drop_changed(&entry);
        let moved = before.iter().flat_map(|before| &before.aliases).filter_map(|(alias, from)| {
            let to = *entry.aliases.get(alias)?;
            (to != *from && self.holds(&entry.name, *from)).then(|| (alias.clone(), *from, to))
        });
        let moved: Vec<(String, u64, u64)> = moved.collect();
        for (alias, from, to) in moved {
            let held_back =
                before.as_ref().and_then(|before| before.held_back.get(&alias)).filter(|held| held.to == to);
            let now = Instant::now();
            let waits = held_back.filter(|held| now < held.again);
            let loaded = match waits {
                Some(_) => false,
                None => self.loads_for(&entry, (&alias, from, to)).await,
            };
            if loaded {
                continue;
            }
            let pause = held_back.map_or(AGAIN_FIRST, |held| (held.pause * 2).min(AGAIN_MAX));
            let held = waits.copied().unwrap_or(HeldBack { to, again: Instant::now() + pause, pause });
            entry.held_back.insert(alias.clone(), held);
            entry.aliases.insert(alias, from);
            if !entry.versions.contains(&from) {
                entry.versions.push(from);
            }
            if let Some(stamp) = before.as_ref().and_then(|before| before.stamps.get(&from)) {
                entry.stamps.entry(from).or_insert(*stamp);
            }
        }
        self.write_known().insert(Arc::clone(&entry.name), Arc::new(entry));
    }

    /// Whether the version to which an alias moved is in memory now.
    async fn loads_for(self: &Arc<Models>, entry: &Entry, (alias, from, to): (&str, u64, u64)) -> bool {
        match self.lane(&entry.name, to, entry.stamp(to)).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(model = %entry.name, alias, from, to, error = %error, "alias stays at its old version");
                false
            }
        }
    }

    /// Takes out of memory what isn't any more what would be loaded.
    fn drop_changed(&self, entry: &Entry) {
        let mut held = self.lock();
        let changed = held.slots.iter().filter(|((name, version), slot)| {
            *name == entry.name && entry.versions.contains(version) && slot.stamp != entry.stamp(*version)
        });
        let keys: Vec<_> = changed.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| held.remove(key));
    }

    /// Takes a model out of memory; it is loaded again by need. Returns whether it was there.
    pub fn unload(&self, name: &str) -> bool {
        let mut held = self.lock();
        let keys: Vec<_> = held.slots.keys().filter(|(known, _)| **known == *name).cloned().collect();
        keys.iter().for_each(|key| held.remove(key));
        !keys.is_empty()
    }

    /// Names and versions of all models, in order.
    pub fn known(&self) -> Vec<Known> {
        let read = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = |entry: &Arc<Entry>| Known {
            name: entry.name.to_string(),
            versions: entry.versions.clone(),
            aliases: entry.aliases.clone(),
            stamps: entry.stamps.clone(),
        };
        let mut all: Vec<Known> = read.values().map(known).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether there is a model of that name.
    pub fn knows(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// What is known of one model.
    pub fn find(&self, name: &str) -> Option<Known> {
        let entry = self.entry(name)?;
        let (versions, aliases, stamps) = (entry.versions.clone(), entry.aliases.clone(), entry.stamps.clone());
        Some(Known { name: entry.name.to_string(), versions, aliases, stamps })
    }

    /// Whether a version is in memory.
    pub fn holds(&self, name: &Arc<str>, version: u64) -> bool {
        self.lock().slots.get(&(Arc::clone(name), version)).is_some_and(|slot| slot.lane.get().is_some())
    }

    /// The versions in memory, in order.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        let mut lanes: Vec<Arc<Lane>> =
            self.lock().slots.values().filter_map(|slot| slot.lane.get().cloned()).collect();
        lanes.sort_by(|a, b| (a.name(), a.version()).cmp(&(b.name(), b.version())));
        lanes
    }

    /// Versions in memory, their bytes, and loads since the start.
    pub fn usage(&self) -> (usize, usize, u64) {
        let held = self.lock();
        (held.slots.len(), held.bytes, self.loaded_ever.load(Ordering::Relaxed))
    }

    async fn lane(self: &Arc<Models>, name: &Arc<str>, version: u64, stamp: u64) -> Result<Arc<Lane>, ResolveError> {
        let (slot, mut done) = {
            let mut held = self.lock();
            let key = (Arc::clone(name), version);
            if let Some(slot) = held.slots.get(&key) {
                slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                if let Some(lane) = slot.lane.get() {
                    return Ok(Arc::clone(lane));
                }
                (Arc::clone(slot), slot.done.subscribe())
            } else {
                let (used, bytes) = (AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed)), AtomicU64::new(0));
                let (sender, done) = watch::channel(None);
                let slot = Arc::new(Slot { stamp, lane: OnceLock::new(), used, bytes, done: sender });
                held.slots.insert(key.clone(), Arc::clone(&slot));
                tokio::spawn(Arc::clone(self).load(key, Arc::clone(&slot)));
                (slot, done)
            }
        };
        let failed = |source| ResolveError::Load { name: name.to_string(), version, source };
        let result = done.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        drop(slot);
        result.unwrap_or_else(|| Err(SourceError("the server is shutting down".into()))).map_err(failed)
    }

    /// Loads a version into its slot and tells whoever waits. A failure leaves no slot: the next request tries again.
    async fn load(self: Arc<Models>, key: (Arc<str>, u64), slot: Arc<Slot>) {
        let _turn = self.loads.acquire().await;
        let source = Arc::clone(&self.source);
        let (name, version) = key.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load(&name, version)).await;
        let loaded = loaded.unwrap_or_else(|_| Err(SourceError("the load panicked; the log has the reason".into())));
        let result = loaded.map(|loaded| {
            let lane = Arc::new(Lane::new(Arc::clone(&key.0), key.1, loaded.predictor));
            let _ = slot.lane.set(Arc::clone(&lane));
            slot.bytes.store(loaded.bytes as u64, Ordering::Relaxed);
            self.loaded_ever.fetch_add(1, Ordering::Relaxed);
            lane
        });
        {
            let mut held = self.lock();
            let still = held.slots.get(&key).is_some_and(|known| Arc::ptr_eq(known, &slot));
            match &result {
                Ok(_) if still => {
                    held.bytes += slot.bytes.load(Ordering::Relaxed) as usize;
                    held.evict(self.bytes_max, &key);
                }
                Err(_) if still => drop(held.slots.remove(&key)),
                _ => {}
            }
        }
        slot.done.send_replace(Some(result));
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn write_known(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Arc<str>, Arc<Entry>>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing is left half-done under the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn stamp(&self, version: u64) -> u64 {
        self.stamps.get(&version).copied().unwrap_or_default()
    }

    fn version(&self, which: &Which) -> Result<u64, ResolveError> {
        let found = match which {
            Which::Served => self.aliases.get(CHAMPION).or(self.versions.last()).copied(),
            Which::Version(version) => self.versions.contains(version).then_some(*version),
            Which::Alias(alias) => self.aliases.get(alias).copied(),
        };
        let which = || match which {
            Which::Served => CHAMPION.to_owned(),
            Which::Version(version) => version.to_string(),
            Which::Alias(alias) => alias.clone(),
        };
        found.ok_or_else(|| ResolveError::NoVersion { name: self.name.to_string(), which: which() })
    }
}

impl Held {
    fn remove(&mut self, key: &(Arc<str>, u64)) {
        if let Some(slot) = self.slots.remove(key)
            && slot.lane.get().is_some()
        {
            self.bytes = self.bytes.saturating_sub(slot.bytes.load(Ordering::Relaxed) as usize);
        }
    }

    /// Drops what was used longest ago, until a tenth is free; never what was loaded just now.
    fn evict(&mut self, bytes_max: usize, just_loaded: &(Arc<str>, u64)) {
        if self.bytes <= bytes_max {
            return;
        }
        // Some more than needed, so that not each load has to look at all.
        let enough = bytes_max - bytes_max / 10;
        let ready = self.slots.iter().filter(|(key, slot)| *key != just_loaded && slot.lane.get().is_some());
        let mut by_use: Vec<_> = ready.map(|(key, slot)| (slot.used.load(Ordering::Relaxed), key.clone())).collect();
        by_use.sort_unstable();
        for (_, key) in by_use {
            if self.bytes <= enough {
                break;
            }
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::predictor::PredictError;
    use crate::rows::{Predictions, Rows};
    use crate::signature::Signature;

    struct Nothing(Signature);

    impl Predictor for Nothing {
        fn signature(&self) -> &Signature {
            &self.0
        }

        fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
            Ok(Predictions::new(Vec::new(), rows.len()))
        }
    }

    /// Models of 100 bytes; version 13 doesn't load.
    #[derive(Default)]
    struct Shelf {
        loads: AtomicUsize,
    }

    impl Source for Shelf {
        fn known(&self) -> Result<Vec<Known>, SourceError> {
            Ok((0..50).map(|at| known(&format!("m{at}"), 1)).collect())
        }

        fn load(&self, _name: &str, version: u64) -> Result<Loaded, SourceError> {
            self.loads.fetch_add(1, Ordering::Relaxed);
            if version == 13 {
                return Err(SourceError("its digest is wrong".to_owned()));
            }
            Ok(Loaded { predictor: Arc::new(Nothing(Signature::new(Vec::new(), Vec::new()))), bytes: 100 })
        }
    }

    fn known(name: &str, champion: u64) -> Known {
        let aliases = [(CHAMPION.to_owned(), champion)].into();
        Known { name: name.to_owned(), versions: vec![1, 2, 13], aliases, stamps: BTreeMap::new() }
    }

    #[tokio::test]
    async fn many_at_once_load_a_model_once() {
        let shelf = Arc::new(Shelf::default());
        let models = Models::new(Arc::clone(&shelf) as Arc<dyn Source>, 1_000);
        models.refresh().await.unwrap();
        let all: Vec<_> = (0..64)
            .map(|_| {
                let models = Arc::clone(&models);
                tokio::spawn(async move { models.resolve("m1", &Which::Served).await.unwrap() })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap().version(), 1);
        }
        assert_eq!(shelf.loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_has_changed_is_loaded_anew_and_what_is_gone_is_forgotten() {
        let shelf = Arc::new(Shelf::default());
        let models = Models::new(Arc::clone(&shelf) as Arc<dyn Source>, 1_000);
        let stamped = |stamp: u64| Known { stamps: [(1, stamp)].into(), ..known("m", 1) };
        for (stamp, loads) in [(7, 1), (7, 1), (8, 2)] {
            models.serve(stamped(stamp)).await;
            models.resolve("m", &Which::Served).await.unwrap();
            assert_eq!(shelf.loads.load(Ordering::Relaxed), loads, "stamp {stamp}");
        }
        models.refresh().await.unwrap();
        assert!(models.resolve("m", &Which::Served).await.is_err(), "the shelf doesn't know it");
        assert_eq!(models.usage(), (0, 0, 2));
    }

    #[tokio::test]
    async fn a_version_that_does_not_load_is_not_tried_again_at_once() {
        let shelf = Arc::new(Shelf::default());
        let models = Models::new(Arc::clone(&shelf) as Arc<dyn Source>, 1_000);
        models.serve(known("m", 1)).await;
        models.resolve("m", &Which::Served).await.unwrap();
        for _ in 0..5 {
            models.serve(known("m", 13)).await;
            assert_eq!(models.resolve("m", &Which::Served).await.unwrap().version(), 1);
        }
        assert_eq!(shelf.loads.load(Ordering::Relaxed), 2);
        models.serve(known("m", 2)).await;
        assert_eq!(models.resolve("m", &Which::Served).await.unwrap().version(), 2);
    }

    #[tokio::test]
    async fn what_was_used_longest_ago_is_evicted() {
        let models = Models::new(Arc::new(Shelf::default()), 1_000);
        models.refresh().await.unwrap();
        for at in 0..50 {
            models.resolve(&format!("m{at}"), &Which::Served).await.unwrap();
            models.resolve("m0", &Which::Served).await.unwrap();
            assert!(models.usage().1 <= 1_000);
        }
        assert!(models.holds(&"m0".into(), 1) && models.holds(&"m49".into(), 1));
        assert!(!models.holds(&"m1".into(), 1));
    }

    #[tokio::test]
    async fn an_alias_whose_new_version_does_not_load_stays() {
        let models = Models::new(Arc::new(Shelf::default()), 1_000);
        models.refresh().await.unwrap();
        models.resolve("m1", &Which::Served).await.unwrap();
        models.serve(known("m1", 13)).await;
        assert_eq!(models.resolve("m1", &Which::Served).await.unwrap().version(), 1);
        models.serve(known("m1", 2)).await;
        assert!(models.holds(&"m1".into(), 2));
        assert_eq!(models.resolve("m1", &Which::Served).await.unwrap().version(), 2);
        let error = models.resolve("m1", &Which::Version(13)).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to load version 13 of model `m1`");
        assert!(matches!(models.resolve("m1", &Which::named("7")).await, Err(ResolveError::NoVersion { .. })));
        assert!(matches!(models.resolve("x", &Which::Served).await, Err(ResolveError::NoModel { .. })));
    }
}
