//! The embedded implementations keep what the seams promise.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::broker::Broker;
use gristmill_backends::broker::embedded::EmbeddedBroker;
use gristmill_backends::conformance::{self, ArtifactsFixture, BrokerFixture, StateFixture};
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
use gristmill_backends::state::model::Ageing;
use gristmill_backends::state::{State, StoreId};
use gristmill_protocol::Timestamp;
use tempfile::TempDir;

const START: u64 = 1_700_000_000_000;

/// New folders below one that is removed in the end.
struct Folders {
    root: TempDir,
    made: AtomicU64,
}

impl Folders {
    fn new() -> Folders {
        Folders { root: tempfile::tempdir().expect("a folder"), made: AtomicU64::new(0) }
    }

    fn next(&self) -> PathBuf {
        self.root.path().join(self.made.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// Stores in folders, with one clock that is set by hand.
struct Embedded {
    folders: Folders,
    now: Arc<AtomicU64>,
    synchronous: Synchronous,
}

impl Embedded {
    fn new(synchronous: Synchronous) -> Arc<Embedded> {
        Arc::new(Embedded { folders: Folders::new(), now: Arc::new(AtomicU64::new(START)), synchronous })
    }
}

#[async_trait]
impl StateFixture for Embedded {
    async fn fresh(&self) -> Arc<dyn State> {
        let now = Arc::clone(&self.now);
        let clock = move || Timestamp(now.load(Ordering::Relaxed));
        Arc::new(EmbeddedState::open_at(&self.folders.next(), self.synchronous, clock).expect("a home opens"))
    }

    async fn pass(&self, by: Duration) -> bool {
        self.now.fetch_add(u64::try_from(by.as_millis()).expect("a short time"), Ordering::Relaxed);
        true
    }

    fn ageing(&self) -> Ageing {
        Ageing::ByDeadline
    }
}

struct Memory {
    ageing: Ageing,
    last: Mutex<Option<Arc<SharedMemory>>>,
}

impl Memory {
    fn new(ageing: Ageing) -> Arc<Memory> {
        Arc::new(Memory { ageing, last: Mutex::new(None) })
    }
}

#[async_trait]
impl StateFixture for Memory {
    async fn fresh(&self) -> Arc<dyn State> {
        let store = Arc::new(SharedMemory::new(MemoryStore::new(StoreId(1), self.ageing), Timestamp(START)));
        *self.last.lock().expect("no case panics with the lock") = Some(Arc::clone(&store));
        store
    }

    async fn pass(&self, by: Duration) -> bool {
        if let Some(store) = &*self.last.lock().expect("no case panics with the lock") {
            store.advance(by);
        }
        true
    }

    fn ageing(&self) -> Ageing {
        self.ageing
    }
}

struct InProcess;

#[async_trait]
impl BrokerFixture for InProcess {
    async fn fresh(&self) -> Arc<dyn Broker> {
        Arc::new(EmbeddedBroker::new())
    }
}

struct Directory(Folders);

#[async_trait]
impl ArtifactsFixture for Directory {
    async fn fresh(&self) -> Arc<dyn Artifacts> {
        Arc::new(DirectoryArtifacts::open(&self.0.next()).expect("a folder opens"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_home_keeps_the_promises_of_a_state() {
    conformance::state(Embedded::new(Synchronous::Normal)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_home_that_waits_for_the_disk_keeps_them_too() {
    conformance::state(Embedded::new(Synchronous::Full)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_whose_leases_age_by_time_keeps_the_promises_of_a_state() {
    conformance::state(Memory::new(Ageing::ByTime)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_whose_leases_age_by_deadline_keeps_the_promises_of_a_state() {
    conformance::state(Memory::new(Ageing::ByDeadline)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_broker_in_process_keeps_the_promises_of_a_broker() {
    conformance::broker(Arc::new(InProcess)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_keeps_the_promises_of_an_artifact_store() {
    conformance::artifacts(Arc::new(Directory(Folders::new()))).await;
}
