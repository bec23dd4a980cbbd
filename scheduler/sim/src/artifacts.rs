//! Artifacts in memory, away at times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_backends::artifacts::{ArtifactError, Artifacts, check_mark};
use gristmill_protocol::Digest;

use crate::dice::Dice;

/// The artifacts of all processes of an execution.
#[derive(Debug)]
pub struct SimArtifacts {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    kept: BTreeMap<[u8; 32], Bytes>,
    marks: BTreeSet<String>,
    dice: Dice,
    /// How many calls of a thousand fail.
    fails: u64,
}

impl SimArtifacts {
    pub fn new(dice: Dice, fails: u64) -> Arc<SimArtifacts> {
        Arc::new(SimArtifacts {
            inner: Mutex::new(Inner { kept: BTreeMap::new(), marks: BTreeSet::new(), dice, fails }),
        })
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        self.lock().fails = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, verb: &'static str) -> Result<(), ArtifactError> {
        let (ms, fails) = {
            let mut inner = self.lock();
            let fails = inner.fails;
            (inner.dice.below(4), inner.dice.chance(fails))
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if fails { Err(ArtifactError::Unavailable { verb, source: "away".into() }) } else { Ok(()) }
    }
}

#[async_trait]
impl Artifacts for SimArtifacts {
    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        self.call("put").await?;
        let digest = Digest::of(&bytes);
        self.lock().kept.insert(*digest.as_bytes(), bytes);
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        let failed = |source| ArtifactError::Io { verb: "put", path: path.to_owned(), source };
        let bytes = Bytes::from(std::fs::read(path).map_err(failed)?);
        let size = bytes.len() as u64;
        Ok((self.put(bytes).await?, size))
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        self.call("get").await?;
        self.lock().kept.get(digest.as_bytes()).cloned().ok_or(ArtifactError::Missing { digest })
    }

    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        let bytes = self.get(digest).await?;
        let (size, end) = (bytes.len() as u64, offset.saturating_add(len));
        if end > size {
            return Err(ArtifactError::OutOfRange { digest, size, offset, end });
        }
        Ok(bytes.slice(offset as usize..end as usize))
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        self.call("look up").await?;
        Ok(self.lock().kept.get(digest.as_bytes()).map(|bytes| bytes.len() as u64))
    }

    fn local_path(&self, _: Digest) -> Option<PathBuf> {
        None
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        self.call("list").await?;
        let inner = self.lock();
        let after = after.map(|after| *after.as_bytes());
        let kept = inner.kept.iter().filter(|(digest, _)| after.is_none_or(|after| **digest > after));
        Ok(kept.take(limit).map(|(digest, bytes)| (Digest::from_bytes(*digest), bytes.len() as u64)).collect())
    }

    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        self.call("remove").await?;
        self.lock().kept.remove(digest.as_bytes());
        Ok(())
    }

    async fn mark(&self, name: &str) -> Result<(), ArtifactError> {
        check_mark(name)?;
        self.call("mark").await?;
        self.lock().marks.insert(name.to_owned());
        Ok(())
    }

    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
        self.call("list").await?;
        let inner = self.lock();
        let fits = |name: &&String| name.starts_with(prefix) && name.as_str() > after;
        Ok(inner.marks.iter().filter(fits).take(limit).cloned().collect())
    }

    fn scratch(&self) -> PathBuf {
        std::env::temp_dir()
    }
}
