//! A world for tests: a real store whose clock the test moves, real artifacts, and the means of whoever owns a run.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_backends::state::{Append, AppendEntry, Ownership, State, StatusChange};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::{OwnerToken, RunId, Timestamp};
use tempfile::TempDir;

/// Midnight, long after 1970.
pub(crate) const START: u64 = 1_795_305_600_000;

pub(crate) struct World {
    pub folder: TempDir,
    pub state: Arc<dyn State>,
    pub artifacts: Arc<dyn Artifacts>,
    pub clock: Arc<AtomicU64>,
}

impl World {
    pub fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(AtomicU64::new(START));
        let now = Arc::clone(&clock);
        let read = move || Timestamp(now.load(Ordering::Relaxed));
        // Each write waits on another thread, where a keeper can be interrupted.
        let state = EmbeddedState::open_at(&folder.path().join("state"), Synchronous::Full, read).expect("a home");
        let artifacts = DirectoryArtifacts::open(&folder.path().join("artifacts")).expect("a folder");
        World { folder, state: Arc::new(state), artifacts: Arc::new(artifacts), clock }
    }

    /// Lets time pass, for the store and for us.
    pub async fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    pub async fn runs(&self) -> Vec<RunId> {
        self.state.runs(None, 10_000).await.expect("read").into_iter().map(|record| record.run).collect()
    }

    /// Ends a run as its owner does.
    pub async fn end(&self, run: RunId, status: RunStatus) {
        let (shard, token) = (run.shard(), OwnerToken { epoch: 1, instance: 1 });
        let owned = self.state.own(shard, token, Duration::from_secs(10)).await.expect("asked");
        assert!(matches!(owned, Ownership::Owned { .. }));
        let head = self.state.run(run).await.expect("read").expect("it is there").head;
        let status = StatusChange::Ended(status);
        let entry = AppendEntry { run, position: head + 1, body: Vec::new(), settled: Vec::new(), status };
        let append = Append { shard, token, id: 1, entries: vec![entry], consumed: Vec::new() };
        self.state.append(append).await.expect("it ends");
    }
}

/// Polls a future so often at the most, then drops it, as a process that is killed does.
pub(crate) async fn killed_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let (mut future, mut left) = (Box::pin(future), polls);
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}
