//! Facts in the state's logs, one log a thing, folded in memory.
//!
//! Whoever changes something reads the log, decides, and appends at exactly the next place; whoever loses that race
//! reads what the winner wrote and decides anew. So several processes can serve the same facts. What was folded is kept
//! up to a bound and folded on; a look at the last known entry tells whether the state has gone back since.
//!
//! **What holds:** an answer is given only when its facts are in the state. They are as durable as the state is, and not
//! copied elsewhere as the registry's are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use gristmill_backends::state::{State, StateError};
use gristmill_protocol::limits::JOURNAL_ENTRY_BYTES_MAX;
use gristmill_protocol::{Timestamp, wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Refusal};

/// Entries read at a time: at 256 KiB each at the most, 64 MiB.
const READ_MAX: usize = 256;
/// Bytes of facts in one entry, which leaves room for who and when.
const FACTS_BYTES_MAX: usize = JOURNAL_ENTRY_BYTES_MAX - 8 * 1024;
/// Logs read at a time where many are: enough to hide a store's latency.
const READ_AT_ONCE: usize = 16;
/// How often a writer that lost a race decides anew. Each race has a winner, so this many others got ahead of it.
const RACES_MAX: u32 = 1_000;
/// Milliseconds that such a writer waits at the most.
const RACE_PAUSE_MS_MAX: u64 = 50;
/// Writers of one process take turns by log; logs share this many turns.
const TURNS: usize = 64;
/// Bytes of folded facts that are kept, by their own estimate. Past it all are read anew as they are asked for.
const KEPT_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a log says now.
pub(crate) trait View: Default + Clone + Send + Sync + 'static {
    /// What it is folded from.
    type Fact: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What logs of this kind are called before their names.
    const KIND: &'static str;
    /// Takes the next fact.
    fn apply(&mut self, at: Timestamp, fact: Self::Fact);
    /// How many bytes it takes up, about.
    fn weight(&self) -> usize;
}

/// One entry of a log: it is there wholly or not at all.
#[derive(Serialize, Deserialize)]
struct Entry<F> {
    at: Timestamp,
    by: String,
    facts: Vec<F>,
}

/// Logs of one kind.
pub(crate) struct Logs<V> {
    state: Arc<dyn State>,
    kept: Mutex<Kept<V>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

struct Kept<V> {
    views: HashMap<String, Folded<V>>,
    weight: usize,
}

#[derive(Clone)]
struct Folded<V> {
    view: Arc<V>,
    /// The position of the last entry, and the token that it was appended under.
    head: u64,
    token: u64,
    weight: usize,
}

impl<V: View> Logs<V> {
    pub fn new(state: Arc<dyn State>) -> Logs<V> {
        let kept = Kept { views: HashMap::new(), weight: 0 };
        Logs { state, kept: Mutex::new(kept), turns: std::array::from_fn(|_| tokio::sync::Mutex::default()) }
    }

    /// What a log says; the empty view of one that isn't there.
    pub async fn read(&self, name: &str) -> Result<Arc<V>, Refusal> {
        Ok(self.fold(name).await?.view)
    }

    /// What the logs with these names say, where it fits, in the order of the names.
    pub async fn read_fitting(
        &self,
        names: &[String],
        fits: impl Fn(&V) -> bool + Send,
    ) -> Result<Vec<Arc<V>>, Refusal> {
        let mut found = Vec::new();
        for some in names.chunks(READ_AT_ONCE) {
            let mut reads = Vec::new();
            for name in some {
                reads.push(self.read(name));
            }
            found.extend(try_join_all(reads).await?.into_iter().filter(|view| fits(view)));
        }
        Ok(found)
    }

    /// Reads what a log says, lets `decide` say which facts follow, and appends those, until nobody was faster. Facts
    /// that don't fit into one entry become several, which others may see one after the other.
    pub async fn change<T>(
        &self,
        name: &str,
        by: &str,
        mut decide: impl FnMut(&V) -> Result<(Vec<V::Fact>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let _turn = self.turns[(hasher.finish() % TURNS as u64) as usize].lock().await;
        let mut lost = 0;
        loop {
            let folded = self.fold(name).await?;
            let (facts, answer) = decide(&folded.view)?;
            if facts.is_empty() || self.append(name, folded, by, facts).await? {
                return Ok(answer);
            }
            lost += 1;
            if lost > RACES_MAX {
                let text = format!("`{name}` is written to by too many at once");
                return Err(Refusal::new(Code::TemporarilyUnavailable, text));
            }
            tokio::time::sleep(pause(lost)?).await;
        }
    }

    /// Gives each fact of a log to `take`, with its time, oldest first. Keeps none.
    pub async fn each(&self, name: &str, mut take: impl FnMut(Timestamp, V::Fact)) -> Result<(), Refusal> {
        let log = format!("{}{name}", V::KIND);
        let mut after = 0;
        loop {
            let entries = self.state.log_read(&log, after, READ_MAX).await?;
            let count = entries.len();
            for entry in entries {
                after = entry.position;
                let Entry { at, facts, .. } = decode::<V>(name, &entry.body)?;
                facts.into_iter().for_each(|fact| take(at, fact));
            }
            if count < READ_MAX {
                return Ok(());
            }
        }
    }

    async fn fold(&self, name: &str) -> Result<Folded<V>, Refusal> {
        let log = format!("{}{name}", V::KIND);
        let empty = || Folded { view: Arc::new(V::default()), head: 0, token: 0, weight: 0 };
        let mut folded = self.lock().views.get(name).cloned().unwrap_or_else(empty);
        let mut entries = self.state.log_read(&log, folded.head.saturating_sub(1), READ_MAX).await?;
        if folded.head > 0 {
            let same = |first: &gristmill_backends::state::JournalEntry| {
                first.position == folded.head && first.append == folded.token
            };
            if !entries.first().is_some_and(same) {
                // The state went back, and what follows may not be what followed then.
                folded = empty();
                entries = self.state.log_read(&log, 0, READ_MAX).await?;
            }
        }
        loop {
            let full = entries.len() == READ_MAX;
            let mut news = false;
            let known = folded.head;
            for entry in entries.into_iter().filter(|entry| entry.position > known) {
                news = true;
                let Entry { at, facts, .. } = decode::<V>(name, &entry.body)?;
                let view = Arc::make_mut(&mut folded.view);
                facts.into_iter().for_each(|fact| view.apply(at, fact));
                (folded.head, folded.token) = (entry.position, entry.append);
            }
            if news {
                self.keep(name, &mut folded);
            }
            if !full {
                return Ok(folded);
            }
            entries = self.state.log_read(&log, folded.head, READ_MAX).await?;
        }
    }

    /// Appends facts after what was read; false when another was faster.
    async fn append(&self, name: &str, mut folded: Folded<V>, by: &str, facts: Vec<V::Fact>) -> Result<bool, Refusal> {
        let log = format!("{}{name}", V::KIND);
        for facts in chunks(facts)? {
            let at = self.state.clock().await?.now;
            let body = wire::encode(&Entry { at, by: by.to_owned(), facts });
            let (position, token) = (folded.head + 1, random()?);
            match self.state.log_append(&log, position, token, body.clone()).await {
                // Whether it took effect isn't known; under the same token, saying it again is saying it once.
                Err(StateError::Unavailable { .. }) => {
                    match self.state.log_append(&log, position, token, body.clone()).await {
                        Err(StateError::Conflict { .. }) => return Ok(false),
                        other => other?,
                    }
                }
                Err(StateError::Conflict { .. }) => return Ok(false),
                other => other?,
            }
            let Entry { at, facts, .. } = decode::<V>(name, &body)?;
            let view = Arc::make_mut(&mut folded.view);
            facts.into_iter().for_each(|fact| view.apply(at, fact));
            (folded.head, folded.token) = (position, token);
        }
        self.keep(name, &mut folded);
        Ok(true)
    }

    fn keep(&self, name: &str, folded: &mut Folded<V>) {
        folded.weight = name.len() + 200 + folded.view.weight();
        let mut kept = self.lock();
        if kept.weight > KEPT_BYTES_MAX {
            *kept = Kept { views: HashMap::new(), weight: 0 };
        }
        kept.weight += folded.weight;
        if let Some(before) = kept.views.insert(name.to_owned(), folded.clone()) {
            kept.weight -= before.weight;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode<V: View>(name: &str, body: &[u8]) -> Result<Entry<V::Fact>, Refusal> {
    wire::decode("a tracked fact", body).map_err(|error| {
        let text = format!("the log `{}{name}` is damaged: {error}", V::KIND);
        Refusal::new(Code::InternalError, text)
    })
}

/// Facts in as few entries as they fit into.
fn chunks<F: Serialize>(facts: Vec<F>) -> Result<Vec<Vec<F>>, Refusal> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for fact in facts {
        let size = wire::encode(&fact).len();
        if size > FACTS_BYTES_MAX {
            return Err(Refusal::invalid(format!(
                "what is logged is too long: {size} bytes in one piece; the limit is {FACTS_BYTES_MAX}"
            )));
        }
        if bytes + size > FACTS_BYTES_MAX {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = chunks.last_mut() {
            last.push(fact);
        }
    }
    Ok(chunks)
}

pub(crate) fn random() -> Result<u64, Refusal> {
    getrandom::u64().map_err(|error| {
        Refusal::new(Code::InternalError, format!("the operating system gave no random bytes: {error}"))
    })
}

/// Longer with each lost race, and not as long as others who lost the same one.
fn pause(lost: u32) -> Result<Duration, Refusal> {
    let most = (1 << lost.min(6)).min(RACE_PAUSE_MS_MAX);
    Ok(Duration::from_millis(random()? % most))
}

#[cfg(test)]
mod tests {
    use gristmill_backends::state::StoreId;
    use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
    use gristmill_backends::state::model::Ageing;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Sum(Vec<String>);

    impl View for Sum {
        type Fact = String;
        const KIND: &'static str = "test/";
        fn apply(&mut self, _: Timestamp, fact: String) {
            self.0.push(fact);
        }
        fn weight(&self) -> usize {
            self.0.iter().map(String::len).sum()
        }
    }

    fn state() -> Arc<SharedMemory> {
        Arc::new(SharedMemory::new(MemoryStore::new(StoreId(1), Ageing::ByTime), Timestamp(1_000)))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writers_of_several_processes_lose_nothing() {
        let state = state();
        let processes: Vec<Arc<Logs<Sum>>> = (0..4).map(|_| Arc::new(Logs::new(state.clone()))).collect();
        let tasks: Vec<_> = (0..40)
            .map(|number| {
                let logs = Arc::clone(&processes[number % 4]);
                // Each writer gives out the next number.
                let write = async move { logs.change("a", "ann", |sum| Ok((vec![sum.0.len().to_string()], ()))).await };
                tokio::spawn(write)
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("written");
        }
        let expected: Vec<String> = (0..40).map(|number: u32| number.to_string()).collect();
        for logs in processes {
            assert_eq!(logs.read("a").await.expect("read").0, expected);
        }
    }

    #[tokio::test]
    async fn what_the_state_forgot_is_forgotten_here() {
        let (before, after) = (state(), state());
        let logs: Logs<Sum> = Logs::new(before.clone());
        for fact in ["one", "two"] {
            logs.change("a", "ann", |_| Ok((vec![fact.to_owned()], ()))).await.expect("written");
        }
        let other: Logs<Sum> = Logs::new(after.clone());
        for fact in ["uno", "due", "tre"] {
            other.change("a", "ann", |_| Ok((vec![fact.to_owned()], ()))).await.expect("written");
        }
        // The same process finds another past in its store.
        let moved = Logs { state: after, ..logs };
        assert_eq!(moved.read("a").await.expect("read").0, ["uno", "due", "tre"]);
    }

    #[tokio::test]
    async fn what_is_too_long_for_an_entry_becomes_several_or_is_refused() {
        let state = state();
        let logs: Logs<Sum> = Logs::new(state.clone());
        let facts = vec!["x".repeat(100_000); 5];
        logs.change("a", "ann", |_| Ok((facts.clone(), ()))).await.expect("written");
        assert_eq!(state.log_read("test/a", 0, 10).await.expect("read").len(), 3);
        assert_eq!(Logs::<Sum>::new(state).read("a").await.expect("read").0.len(), 5);
        let long = vec!["x".repeat(300_000)];
        let refusal = logs.change("a", "ann", |_| Ok((long.clone(), ()))).await.expect_err("refused");
        assert_eq!(refusal.code, Code::InvalidParameterValue);
    }
}
