//! How long calls of Redis and of the artifact store take, as metrics.
//!
//! A process has one set of metrics, and stores are opened in many places: so where they go is set once for all.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::state::redis::ObserveCalls;
use gristmill_protocol::Digest;
use gristmill_telemetry::metrics::Metrics;

static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();

/// From now on stores that are opened are measured.
pub fn start(metrics: Arc<Metrics>) {
    // A second call would be for the same process, whose metrics are these already.
    let _ = METRICS.set(metrics);
}

/// Who is told of calls of the state.
pub fn state_calls() -> Option<Arc<dyn ObserveCalls>> {
    METRICS.get().map(|metrics| Arc::new(StateCalls(metrics.clone())) as Arc<dyn ObserveCalls>)
}

/// The artifact store with its calls measured.
pub fn artifacts(inner: Arc<dyn Artifacts>) -> Arc<dyn Artifacts> {
    match METRICS.get() {
        Some(metrics) => Arc::new(MeasuredArtifacts { inner, metrics: metrics.clone() }),
        None => inner,
    }
}

fn result(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "error" }
}

#[derive(Debug)]
struct StateCalls(Arc<Metrics>);

impl ObserveCalls for StateCalls {
    fn called(&self, verb: &'static str, is_answered: bool, took: Duration) {
        self.0.store_call_duration.with(&[&verb.replace(' ', "_"), result(is_answered)]).record_time(took);
    }
}

struct MeasuredArtifacts {
    inner: Arc<dyn Artifacts>,
    metrics: Arc<Metrics>,
}

impl MeasuredArtifacts {
    async fn call<T>(
        &self,
        verb: &str,
        call: impl Future<Output = Result<T, ArtifactError>>,
    ) -> Result<T, ArtifactError> {
        let began = Instant::now();
        let answer = call.await;
        self.metrics.artifact_call_duration.with(&[verb, result(answer.is_ok())]).record_time(began.elapsed());
        answer
    }

    fn count(&self, verb: &str, bytes: u64) {
        self.metrics.artifact_bytes.with(&[verb]).add(bytes);
    }
}

#[async_trait]
impl Artifacts for MeasuredArtifacts {
    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        let size = bytes.len() as u64;
        let digest = self.call("put", self.inner.put(bytes)).await?;
        self.count("put", size);
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        let (digest, size) = self.call("put", self.inner.put_file(path)).await?;
        self.count("put", size);
        Ok((digest, size))
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        let bytes = self.call("get", self.inner.get(digest)).await?;
        self.count("get", bytes.len() as u64);
        Ok(bytes)
    }

    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        let bytes = self.call("get", self.inner.range(digest, offset, len)).await?;
        self.count("get", bytes.len() as u64);
        Ok(bytes)
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        self.call("size", self.inner.size(digest)).await
    }

    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        self.inner.local_path(digest)
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        self.call("list", self.inner.list(after, limit)).await
    }

    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        self.call("delete", self.inner.delete(digest)).await
    }

    async fn mark(&self, name: &str) -> Result<(), ArtifactError> {
        self.call("mark", self.inner.mark(name)).await
    }

    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
        self.call("marks", self.inner.marks(prefix, after, limit)).await
    }

    fn scratch(&self) -> PathBuf {
        self.inner.scratch()
    }
}
