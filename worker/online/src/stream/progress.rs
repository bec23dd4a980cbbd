//! How far a stream was scored, and who scores it: one small document, changed by compare-and-set.
//!
//! Several processes may be asked to score the same stream; one of them does. It writes the document again and again,
//! and another takes over when the document hasn't changed for the length of a lease, by its own clock. Should both
//! work for a while, because one was only slow, each publishes each key in order from a place that both have
//! reached, with the same ids: whoever drops repeats sees each effect once and in order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_backends::broker::rabbitmq::Cause;
use gristmill_backends::state::{State, StateError};
use serde_json::{Value, json};
use tokio::time::Instant;

/// For how long a document that doesn't change keeps others away.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often a holder writes, and a waiter looks. Three writes may fail before the lease is over.
pub const STEP: Duration = Duration::from_secs(2);

/// Why progress couldn't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// The document isn't of the version that was expected.
    #[error("the document was changed by another")]
    Conflict,
    /// Whether it was written is unknown.
    #[error("failed to {verb} how far a stream was scored")]
    Unavailable { verb: &'static str, source: Cause },
}

/// Small documents with versions.
#[async_trait]
pub trait Progress: fmt::Debug + Send + Sync {
    /// A document and its version, from 1.
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u64)>, ProgressError>;
    /// Writes a document whose version must be `expected` (0: must not exist). Returns the new version.
    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, ProgressError>;
}

/// Progress among the documents of a cluster's state.
pub struct StateProgress(pub Arc<dyn State>);

impl fmt::Debug for StateProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateProgress")
    }
}

#[async_trait]
impl Progress for StateProgress {
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u64)>, ProgressError> {
        let document = self.0.get(key).await;
        let document = document.map_err(|error| ProgressError::Unavailable { verb: "read", source: error.into() })?;
        Ok(document.map(|document| (document.body, document.version)))
    }

    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, ProgressError> {
        self.0.put(key, expected, body).await.map_err(|error| match error {
            StateError::Conflict { .. } => ProgressError::Conflict,
            error => ProgressError::Unavailable { verb: "write", source: error.into() },
        })
    }
}

/// The right to score a stream, until another has it.
#[derive(Debug)]
pub struct Held {
    progress: Arc<dyn Progress>,
    key: String,
    holder: String,
    version: u64,
    /// The offset of the next message.
    next: Option<u64>,
    /// How often the stream was deleted and made anew, as far as was seen.
    made: u64,
}

/// What a document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    holder: String,
    next: Option<u64>,
    made: u64,
}

impl Said {
    fn read(body: &[u8]) -> Result<Said, ProgressError> {
        let wrong = |source: Cause| ProgressError::Unavailable { verb: "understand", source };
        let value: Value = serde_json::from_slice(body).map_err(|error| wrong(error.into()))?;
        let holder = value["holder"].as_str().ok_or_else(|| wrong("it has no `holder`".into()))?;
        Ok(Said { holder: holder.to_owned(), next: value["next"].as_u64(), made: value["made"].as_u64().unwrap_or(0) })
    }

    fn write(&self) -> Vec<u8> {
        json!({ "holder": self.holder, "next": self.next, "made": self.made }).to_string().into_bytes()
    }
}

impl Held {
    /// Waits until nobody else scores the stream. The wait can be given up at any time.
    pub async fn wait(progress: Arc<dyn Progress>, key: String) -> Held {
        let holder = uuid::Uuid::new_v4().to_string();
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            match try_take(&*progress, &key, &holder, &mut seen).await {
                Ok(Some((version, Said { next, made, .. }))) => {
                    return Held { progress, key, holder, version, next, made };
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(key, error = &error as &dyn std::error::Error, "a stream waits for its progress");
                }
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// The offset of the next message to score, if any was scored.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// How often the stream was deleted and made anew: its offsets begin again each time.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Begins with the first message of a stream that was made anew. Returns whether the stream is still ours.
    pub async fn restart(&mut self) -> bool {
        self.next = None;
        self.made += 1;
        self.renew(None).await
    }

    /// Says that we live and how far we are. Returns whether the stream is still ours. When that can't be said just
    /// now, it is for as long as nobody says otherwise.
    pub async fn renew(&mut self, next: Option<u64>) -> bool {
        self.next = next.or(self.next);
        let said = Said { holder: self.holder.clone(), next: self.next, made: self.made };
        match tokio::time::timeout(STEP, self.write(&said)).await {
            Ok(Ok(still)) => still,
            Ok(Err(error)) => {
                tracing::warn!(key = self.key, error = &error as &dyn std::error::Error, "progress isn't kept");
                true
            }
            // What the store has made of it shows with the next write.
            Err(_) => {
                tracing::warn!(key = self.key, "progress isn't kept in time");
                true
            }
        }
    }

    /// Lets another begin at once.
    pub async fn release(mut self) {
        let said = Said { holder: String::new(), next: self.next, made: self.made };
        // Without it the next waits for the length of a lease.
        match tokio::time::timeout(STEP, self.write(&said)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(key = self.key, error, "a stream isn't given up in order");
            }
            Err(_) => tracing::warn!(key = self.key, "a stream isn't given up in time"),
        }
    }

    async fn write(&mut self, said: &Said) -> Result<bool, ProgressError> {
        match self.progress.put(&self.key, self.version, said.write()).await {
            Ok(version) => self.version = version,
            Err(ProgressError::Conflict) => {
                // It may be our own, from a write of which we didn't hear.
                let found = self.progress.get(&self.key).await?;
                let Some((body, version)) = found else { return Ok(false) };
                if Said::read(&body)?.holder != self.holder {
                    return Ok(false);
                }
                self.version = version;
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

/// Takes a stream that nobody holds; the version, and what was said of it.
async fn try_take(
    progress: &dyn Progress,
    key: &str,
    holder: &str,
    seen: &mut Option<(u64, Instant)>,
) -> Result<Option<(u64, Said)>, ProgressError> {
    let (said, version) = match progress.get(key).await? {
        None => (Said::default(), 0),
        Some((body, version)) => (Said::read(&body)?, version),
    };
    let since = match *seen {
        Some((before, since)) if before == version => since,
        _ => Instant::now(),
    };
    *seen = Some((version, since));
    let is_free = said.holder.is_empty() || said.holder == holder || since.elapsed() >= LEASE;
    if !is_free {
        return Ok(None);
    }
    let taken = Said { holder: holder.to_owned(), ..said };
    match progress.put(key, version, taken.write()).await {
        Ok(version) => Ok(Some((version, taken))),
        // Another was faster, or we were and didn't hear of it; the next look tells.
        Err(ProgressError::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use gristmill_backends::state::StoreId;
    use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
    use gristmill_backends::state::model::Ageing;
    use gristmill_protocol::Timestamp;

    use super::*;

    fn progress() -> Arc<dyn Progress> {
        let store = MemoryStore::new(StoreId(1), Ageing::ByTime);
        Arc::new(StateProgress(Arc::new(SharedMemory::new(store, Timestamp(1)))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_held_by_one_and_passed_on() {
        let progress = progress();
        let mut first = Held::wait(Arc::clone(&progress), "k".into()).await;
        assert_eq!(first.next(), None);
        assert!(first.renew(Some(7)).await);
        // Who lives keeps it.
        let second = Held::wait(Arc::clone(&progress), "k".into());
        tokio::pin!(second);
        for _ in 0..10 {
            assert!(tokio::time::timeout(STEP, &mut second).await.is_err());
            assert!(first.renew(None).await);
        }
        // Who doesn't say so loses it, with what was reached.
        let second = second.await;
        assert_eq!(second.next(), Some(7));
        assert!(!first.renew(Some(9)).await);
        // Who gives it up lets the next begin at once.
        let before = Instant::now();
        second.release().await;
        let mut third = Held::wait(Arc::clone(&progress), "k".into()).await;
        assert_eq!((third.next(), third.made(), before.elapsed()), (Some(7), 0, Duration::ZERO));
        // One that was made anew begins anew, and that is kept.
        assert!(third.restart().await);
        third.release().await;
        let fourth = Held::wait(progress, "k".into()).await;
        assert_eq!((fourth.next(), fourth.made()), (None, 1));
    }
}
