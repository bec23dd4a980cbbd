//! How those who follow documents learn which of them were changed, without reading them all.
//!
//! Beside the documents lies one that counts changes and names the last of them. Whoever changes a document says so
//! there; who follows reads that one alone, once a second. Who has missed more changes than it names, or whose store
//! went back, reads everything, as all do once a minute: a writer that was killed between document and note is found
//! out then.

use std::time::Duration;

use gristmill_backends::state::{State, StateError, StoreId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Changes that are named. More in a second come from a script that sets all, after which all are read.
const NAMED_MAX: usize = 256;
/// How often a writer that lost a race to another tries again; each race has a winner.
const RACES_MAX: usize = 100;
/// Between two readings of everything.
const ALL_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Changes {
    /// The number of the last change.
    last: u64,
    /// What was changed, the last one last.
    names: Vec<String>,
}

/// What to read again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Documents with these names; none when nothing was changed.
    Named(Vec<String>),
    /// Everything.
    All,
}

/// Says that a document was changed.
pub(crate) async fn note(state: &dyn State, key: &str, name: &str) -> Result<(), StateError> {
    let mut race = 0;
    loop {
        let (version, mut changes) = read(state, key).await?;
        changes.last += 1;
        changes.names.push(name.to_owned());
        let over = changes.names.len().saturating_sub(NAMED_MAX);
        changes.names.drain(..over);
        let body = serde_json::to_vec(&changes).expect("plain data");
        match state.put(key, version, body).await {
            Err(StateError::Conflict { .. }) if race < RACES_MAX => race += 1,
            done => return done.map(|_| ()),
        }
    }
}

async fn read(state: &dyn State, key: &str) -> Result<(u64, Changes), StateError> {
    let Some(found) = state.get(key).await? else { return Ok((0, Changes::default())) };
    let damaged = |error: serde_json::Error| StateError::Damaged { verb: "read changes", detail: error.to_string() };
    Ok((found.version, serde_json::from_slice(&found.body).map_err(damaged)?))
}

/// Somebody who wants to know.
#[derive(Debug)]
pub(crate) struct Follower {
    key: &'static str,
    seen: Option<(StoreId, u64)>,
    all_at: Instant,
}

impl Follower {
    pub(crate) fn new(key: &'static str) -> Follower {
        Follower { key, seen: None, all_at: Instant::now() }
    }

    /// What was changed since the last time. A change that happens during the call is told now or the next time.
    pub(crate) async fn news(&mut self, state: &dyn State, store: StoreId) -> Result<News, StateError> {
        let (_, changes) = read(state, self.key).await?;
        let now = Instant::now();
        let seen = self.seen.replace((store, changes.last));
        let missed = match seen {
            Some((before, last)) if before == store && now < self.all_at => changes.last.checked_sub(last),
            _ => None,
        };
        match missed.and_then(|missed| usize::try_from(missed).ok()) {
            Some(missed) if missed <= changes.names.len() => {
                Ok(News::Named(changes.names[changes.names.len() - missed..].to_vec()))
            }
            _ => {
                self.all_at = now + ALL_EVERY;
                Ok(News::All)
            }
        }
    }

    /// What was told couldn't be read: it is told again.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
    use gristmill_backends::state::model::Ageing;
    use gristmill_protocol::Timestamp;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_are_named_until_there_are_too_many() {
        let store = StoreId(1);
        let state = SharedMemory::new(MemoryStore::new(store, Ageing::ByDeadline), Timestamp(0));
        let mut follower = Follower::new("changes/x");
        assert_eq!(follower.news(&state, store).await.expect("read"), News::All, "at first");
        assert_eq!(follower.news(&state, store).await.expect("read"), News::Named(vec![]));
        let named = |names: &[&str]| News::Named(names.iter().map(|name| (*name).to_owned()).collect());
        for name in ["a", "b"] {
            note(&state, "changes/x", name).await.expect("noted");
        }
        assert_eq!(follower.news(&state, store).await.expect("read"), named(&["a", "b"]));
        note(&state, "changes/x", "c").await.expect("noted");
        assert_eq!(follower.news(&state, store).await.expect("read"), named(&["c"]));
        for count in 0..=NAMED_MAX {
            note(&state, "changes/x", &count.to_string()).await.expect("noted");
        }
        assert_eq!(follower.news(&state, store).await.expect("read"), News::All);
        assert_eq!(follower.news(&state, StoreId(2)).await.expect("read"), News::All, "another life of the store");
        tokio::time::advance(ALL_EVERY).await;
        assert_eq!(follower.news(&state, StoreId(2)).await.expect("read"), News::All, "once a minute");
    }
}
