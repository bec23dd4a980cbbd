//! A registry in a folder, stores that fail at a chosen call, and what tests put into them.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
use gristmill_backends::state::model::Ageing;
use gristmill_backends::state::*;
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId};
use gristmill_protocol::{AttemptRef, Digest, OwnerToken, RunId, Shard, Timestamp, WorkerId};
use gristmill_registry::{
    Act, AliasMove, ModelView, NewVersion, Promotion, Registered, Registration, Registry, RegistryError,
};
use tempfile::TempDir;

/// A state in memory and artifacts in a folder.
pub struct Stores {
    pub state: Arc<SharedMemory>,
    pub artifacts: Arc<DirectoryArtifacts>,
    pub folder: TempDir,
}

impl Stores {
    pub fn new() -> Stores {
        let folder = tempfile::tempdir().expect("a folder");
        let artifacts = DirectoryArtifacts::open(folder.path()).expect("it opens");
        Stores { state: empty_state(1), artifacts: Arc::new(artifacts), folder }
    }

    /// A registry that has read nothing yet, as after a start.
    pub fn registry(&self) -> Registry {
        Registry::new(self.state.clone(), self.artifacts.clone())
    }

    pub async fn put(&self, bytes: &str) -> Digest {
        self.artifacts.put(Bytes::from(bytes.to_owned())).await.expect("put")
    }

    /// What would register these bytes as a model.
    pub async fn model(&self, bytes: &str) -> NewVersion {
        NewVersion { model: self.put(bytes).await, ..unstored(bytes) }
    }

    /// Evidence on a model, in which a gate said yes or no.
    pub async fn evidence(&self, model: Digest, passed: bool) -> Digest {
        let text = format!(
            r#"{{"model": "{model}", "input": {{}}, "gates": [{{"passed": true, "message": "rmse 1 is under 2"}},
                {{"passed": {passed}, "message": "accuracy 0.7 is under 0.8"}}]}}"#
        );
        self.put(&text).await
    }

    /// Registers these bytes as the next version of `m`.
    pub async fn register(&self, bytes: &str) -> u64 {
        let registration = Registration::of(self.model(bytes).await);
        self.registry().on_behalf(ann(1)).register("m", registration).await.expect("registered").version
    }

    pub fn artifact_path(&self, digest: Digest) -> PathBuf {
        self.artifacts.local_path(digest).expect("it is there")
    }
}

/// The verbs in few words, for tests of what they come to.
pub trait Brief {
    async fn register(
        &self,
        name: &str,
        new: NewVersion,
        alias: Option<&str>,
        by: &str,
        at: Timestamp,
    ) -> Result<Registered, RegistryError>;
    async fn promote(
        &self,
        name: &str,
        version: u64,
        alias: &str,
        by: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<ModelView, RegistryError>;
    async fn rollback(
        &self,
        name: &str,
        alias: &str,
        by: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<AliasMove, RegistryError>;
}

impl Brief for Registry {
    async fn register(
        &self,
        name: &str,
        new: NewVersion,
        alias: Option<&str>,
        by: &str,
        at: Timestamp,
    ) -> Result<Registered, RegistryError> {
        let act = Act { by: by.to_owned(), trace: Some(new.run), at, ..Act::default() };
        let registration = Registration { alias: alias.map(str::to_owned), ..Registration::of(new) };
        self.on_behalf(act).register(name, registration).await
    }

    async fn promote(
        &self,
        name: &str,
        version: u64,
        alias: &str,
        by: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<ModelView, RegistryError> {
        let act = Act { by: by.to_owned(), why: Some(why.to_owned()), at, ..Act::default() };
        self.on_behalf(act).promote(name, version, alias, Promotion::OwnEvidence).await?;
        self.model(name).await
    }

    async fn rollback(
        &self,
        name: &str,
        alias: &str,
        by: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<AliasMove, RegistryError> {
        let act = Act { by: by.to_owned(), why: Some(why.to_owned()), at, ..Act::default() };
        self.on_behalf(act).rollback(name, alias, &|_, _| Ok(())).await
    }
}

pub fn empty_state(id: u64) -> Arc<SharedMemory> {
    Arc::new(SharedMemory::new(MemoryStore::new(StoreId(id), Ageing::ByTime), Timestamp(1_000)))
}

/// A version whose model isn't stored.
pub fn unstored(bytes: &str) -> NewVersion {
    NewVersion {
        model: Digest::of(bytes.as_bytes()),
        run: RunId::from_u128(7),
        step: "release".to_owned(),
        metrics: BTreeMap::from([("rmse".to_owned(), 1.5)]),
        evidence: None,
        algorithm: "linear".to_owned(),
    }
}

/// Ann, at a time.
pub fn ann(at: u64) -> Act {
    Act { by: "ann".to_owned(), why: Some("because".to_owned()), at: Timestamp(at), ..Act::default() }
}

/// Ann, at a time, with a key.
pub fn keyed(at: u64, key: &str) -> Act {
    Act { key: Some(key.to_owned()), ..ann(at) }
}

/// Writes into a file behind the store's back.
pub fn damage(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).expect("removed");
    std::fs::write(path, bytes).expect("written");
}

/// When a store fails: at its nth call, before or after it took effect, and at every later one.
#[derive(Debug)]
pub struct Fuse {
    calls: AtomicU64,
    blows_at: u64,
    /// Whether the call at which it blows has taken effect.
    after: bool,
}

impl Fuse {
    pub fn new(blows_at: u64, after: bool) -> Arc<Fuse> {
        Arc::new(Fuse { calls: AtomicU64::new(0), blows_at, after })
    }

    pub fn has_blown(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.blows_at
    }

    /// Whether the call takes effect, and whether its answer comes back.
    fn call(&self) -> (bool, bool) {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        (call < self.blows_at || (call == self.blows_at && self.after), call < self.blows_at)
    }
}

/// Stores that fail as a fuse says.
pub struct Failing<S> {
    pub inner: Arc<S>,
    pub fuse: Arc<Fuse>,
}

fn state_gone() -> StateError {
    StateError::Unavailable { verb: "go on", source: "the fuse has blown".into() }
}

fn artifacts_gone() -> ArtifactError {
    ArtifactError::Unavailable { verb: "go on", source: "the fuse has blown".into() }
}

macro_rules! fused {
    ($self:ident, $gone:ident, $call:expr) => {{
        let (acts, answers) = $self.fuse.call();
        let answer = if acts { Some($call.await) } else { None };
        match answer {
            Some(answer) if answers => answer,
            _ => Err($gone()),
        }
    }};
}

#[async_trait]
impl<S: Artifacts> Artifacts for Failing<S> {
    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        fused!(self, artifacts_gone, self.inner.put(bytes))
    }
    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        fused!(self, artifacts_gone, self.inner.put_file(path))
    }
    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        fused!(self, artifacts_gone, self.inner.get(digest))
    }
    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        fused!(self, artifacts_gone, self.inner.range(digest, offset, len))
    }
    async fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        fused!(self, artifacts_gone, self.inner.size(digest))
    }
    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        self.inner.local_path(digest)
    }
    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        fused!(self, artifacts_gone, self.inner.list(after, limit))
    }
    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        fused!(self, artifacts_gone, self.inner.delete(digest))
    }
    async fn mark(&self, name: &str) -> Result<(), ArtifactError> {
        fused!(self, artifacts_gone, self.inner.mark(name))
    }
    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
        fused!(self, artifacts_gone, self.inner.marks(prefix, after, limit))
    }
    fn scratch(&self) -> PathBuf {
        self.inner.scratch()
    }
}

#[async_trait]
impl<S: State> State for Failing<S> {
    async fn clock(&self) -> Result<StoreClock, StateError> {
        fused!(self, state_gone, self.inner.clock())
    }
    async fn own(&self, shard: Shard, token: OwnerToken, ttl: Duration) -> Result<Ownership, StateError> {
        fused!(self, state_gone, self.inner.own(shard, token, ttl))
    }
    async fn disown(&self, shard: Shard, token: OwnerToken) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.disown(shard, token))
    }
    async fn create_run(&self, run: NewRun) -> Result<Created, StateError> {
        fused!(self, state_gone, self.inner.create_run(run))
    }
    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StateError> {
        fused!(self, state_gone, self.inner.run(run))
    }
    async fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError> {
        fused!(self, state_gone, self.inner.find_runs(filter, before, limit))
    }
    async fn ended_runs(&self, after: (Timestamp, RunId), limit: usize) -> Result<Vec<RunRecord>, StateError> {
        fused!(self, state_gone, self.inner.ended_runs(after, limit))
    }
    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRecord>, StateError> {
        fused!(self, state_gone, self.inner.open_runs(shard))
    }
    async fn post(&self, shard: Shard, event: InboxEvent) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.post(shard, event))
    }
    async fn inbox(
        &self,
        after: &[(Shard, InboxId)],
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        fused!(self, state_gone, self.inner.inbox(after, wait, limit))
    }
    async fn append(&self, append: Append) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.append(append))
    }
    async fn journal(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        fused!(self, state_gone, self.inner.journal(run, after, limit))
    }
    async fn claim(&self, claim: Claim) -> Result<Claimed, StateError> {
        fused!(self, state_gone, self.inner.claim(claim))
    }
    async fn renew(&self, renewal: Renewal) -> Result<Renewed, StateError> {
        fused!(self, state_gone, self.inner.renew(renewal))
    }
    async fn finish(&self, finish: Finish) -> Result<Vec<FinishAnswer>, StateError> {
        fused!(self, state_gone, self.inner.finish(finish))
    }
    async fn expire(&self, shard: Shard, token: OwnerToken, limit: usize) -> Result<usize, StateError> {
        fused!(self, state_gone, self.inner.expire(shard, token, limit))
    }
    async fn revoke(&self, shard: Shard, token: OwnerToken, attempts: &[AttemptRef]) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.revoke(shard, token, attempts))
    }
    async fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Result<Vec<LeaseView>, StateError> {
        fused!(self, state_gone, self.inner.leases(shard, attempts))
    }
    async fn workers(&self) -> Result<Vec<WorkerView>, StateError> {
        fused!(self, state_gone, self.inner.workers())
    }
    async fn leave(&self, worker: WorkerId) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.leave(worker))
    }
    async fn announce(&self, scheduler: SchedulerView) -> Result<Vec<SchedulerView>, StateError> {
        fused!(self, state_gone, self.inner.announce(scheduler))
    }
    async fn schedulers(&self) -> Result<Vec<SchedulerView>, StateError> {
        fused!(self, state_gone, self.inner.schedulers())
    }
    async fn retire(&self, instance: u64) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.retire(instance))
    }
    async fn get(&self, key: &str) -> Result<Option<Document>, StateError> {
        fused!(self, state_gone, self.inner.get(key))
    }
    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError> {
        fused!(self, state_gone, self.inner.put(key, expected, body))
    }
    async fn delete(&self, key: &str, expected: u64) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.delete(key, expected))
    }
    async fn keys(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StateError> {
        fused!(self, state_gone, self.inner.keys(prefix, after, limit))
    }
    async fn log_append(&self, log: &str, position: u64, token: u64, body: Vec<u8>) -> Result<(), StateError> {
        fused!(self, state_gone, self.inner.log_append(log, position, token, body))
    }
    async fn log_read(&self, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        fused!(self, state_gone, self.inner.log_read(log, after, limit))
    }
    async fn logs(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        fused!(self, state_gone, self.inner.logs(prefix))
    }
}
