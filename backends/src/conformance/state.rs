//! What the cases of the state seam share: one place that touches the verbs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gristmill_protocol::error::{ErrorCode, Failure};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId, Outcome, Report, Revoked};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};
use serde_bytes::ByteBuf;

use super::{PATIENCE, StateFixture};
use crate::state::{
    Append, AppendEntry, Claim, ClaimAnswer, ClaimItem, Claimed, Created, Finish, FinishAnswer, HeldLease, LeaseView,
    NewRun, Renewal, State, StateError, StatusChange, WorkerAbout,
};

pub(super) const SHARD: Shard = Shard(3);
pub(super) const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 1 };
pub(super) const OTHER: OwnerToken = OwnerToken { epoch: 2, instance: 2 };
pub(super) const SHARD_LEASE: Duration = Duration::from_secs(3_600);
pub(super) const W1: WorkerId = WorkerId(1);
pub(super) const W2: WorkerId = WorkerId(2);

/// A fresh store whose shard [`SHARD`] is [`OWNER`]'s.
pub(super) struct Bench {
    pub(super) fixture: Arc<dyn StateFixture>,
    pub(super) state: Arc<dyn State>,
    /// The last entry of the inbox that was read.
    seen: InboxId,
    heads: BTreeMap<RunId, u64>,
    appends: AtomicU64,
}

impl Bench {
    pub(super) async fn new(fixture: Arc<dyn StateFixture>) -> Bench {
        let state = fixture.fresh().await;
        state.own(SHARD, OWNER, SHARD_LEASE).await.expect("the shard is free");
        Bench { fixture, state, seen: InboxId::default(), heads: BTreeMap::new(), appends: AtomicU64::new(1) }
    }

    /// A store with one run, whose event was read.
    pub(super) async fn with_run(fixture: Arc<dyn StateFixture>) -> (Bench, RunId) {
        let mut bench = Bench::new(fixture).await;
        let run = bench.create("first").await;
        bench.events().await;
        (bench, run)
    }

    /// Makes a run in [`SHARD`]; later numbers in `key` sort later.
    pub(super) async fn create(&mut self, key: &str) -> RunId {
        let run = run_id(self.heads.len() as u64, key);
        assert_eq!(self.state.create_run(new_run(run)).await.expect("a run can be made"), Created::New);
        self.heads.insert(run, 1);
        run
    }

    pub(super) fn append_id(&self) -> u64 {
        self.appends.fetch_add(1, Ordering::Relaxed)
    }

    /// An append by the owner.
    pub(super) fn append(&self, entries: Vec<AppendEntry>, consumed: Vec<InboxId>) -> Append {
        Append { shard: SHARD, token: OWNER, id: self.append_id(), entries, consumed }
    }

    /// An entry at the next position of a run.
    pub(super) fn next(&self, run: RunId) -> AppendEntry {
        entry(run, self.heads[&run] + 1)
    }

    pub(super) async fn commit(&mut self, append: Append) -> Result<(), StateError> {
        self.state.append(append.clone()).await?;
        for entry in append.entries {
            self.heads.insert(entry.run, entry.position);
        }
        Ok(())
    }

    /// Writes one entry that changes the run's status.
    pub(super) async fn set_status(&mut self, run: RunId, status: StatusChange) {
        let entry = AppendEntry { status, ..self.next(run) };
        self.commit(self.append(vec![entry], vec![])).await.expect("the append fits");
    }

    pub(super) async fn end(&mut self, run: RunId) {
        self.set_status(run, StatusChange::Ended(RunStatus::Succeeded)).await;
    }

    /// Writes one entry that records the success of tasks.
    pub(super) async fn settle(&mut self, run: RunId, tasks: &[u32]) {
        let entry = AppendEntry { settled: tasks.to_vec(), ..self.next(run) };
        self.commit(self.append(vec![entry], vec![])).await.expect("the append fits");
    }

    /// What came into the inbox since the last look.
    pub(super) async fn entries(&mut self) -> Vec<InboxEntry> {
        let found =
            self.state.inbox(&[(SHARD, self.seen)], Duration::ZERO, 1_000).await.expect("the inbox can be read");
        self.seen = found.last().map_or(self.seen, |(_, entry)| entry.id);
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    pub(super) async fn events(&mut self) -> Vec<InboxEvent> {
        self.entries().await.into_iter().map(|entry| entry.event).collect()
    }

    pub(super) async fn claim(&self, worker: WorkerId, attempt: AttemptRef) -> ClaimAnswer {
        self.claim_for(worker, attempt, None).await
    }

    pub(super) async fn claim_for(&self, worker: WorkerId, attempt: AttemptRef, ms: Option<u64>) -> ClaimAnswer {
        let attempts = vec![ClaimItem { attempt, timeout_ms: ms }];
        match self.state.claim(Claim { shard: SHARD, worker, attempts }).await.expect("a claim is answered") {
            Claimed::Answers(answers) => answers[0],
            Claimed::Busy => panic!("the inbox is far from full"),
        }
    }

    pub(super) async fn granted(&self, worker: WorkerId, attempt: AttemptRef) {
        assert_eq!(self.claim(worker, attempt).await, ClaimAnswer::Granted);
    }

    pub(super) async fn finish(&self, worker: WorkerId, attempt: AttemptRef, outcome: Outcome) -> FinishAnswer {
        self.finish_all(worker, vec![report(attempt, outcome)]).await[0]
    }

    pub(super) async fn finish_all(&self, worker: WorkerId, reports: Vec<Report>) -> Vec<FinishAnswer> {
        self.state.finish(Finish { shard: SHARD, worker, reports }).await.expect("a finish is answered")
    }

    /// A heartbeat with these attempts; which of them are to stop.
    pub(super) async fn renew(&self, worker: WorkerId, held: &[AttemptRef]) -> Vec<AttemptRef> {
        let held = held.iter().map(|&attempt| HeldLease { attempt, timeout_left_ms: None, progress: None }).collect();
        self.state.renew(renewal(worker, held)).await.expect("a renewal is answered").stop
    }

    pub(super) async fn revoke(&self, attempts: &[AttemptRef]) {
        self.state.revoke(SHARD, OWNER, attempts).await.expect("the owner may revoke");
    }

    pub(super) async fn expire(&self) -> usize {
        self.state.expire(SHARD, OWNER, 100).await.expect("the owner may expire")
    }

    pub(super) async fn lease(&self, attempt: AttemptRef) -> LeaseView {
        self.state.leases(SHARD, &[attempt]).await.expect("leases can be looked up")[0]
    }

    /// Who holds an attempt, if somebody does.
    pub(super) async fn holder(&self, attempt: AttemptRef) -> Option<WorkerId> {
        match self.lease(attempt).await {
            LeaseView::Held(holder) => Some(holder.worker),
            LeaseView::Unclaimed | LeaseView::Closed { .. } => None,
        }
    }

    pub(super) async fn pass(&self, by: Duration) -> bool {
        self.fixture.pass(by).await
    }
}

/// A run id of [`SHARD`].
pub(super) fn run_id(number: u64, key: &str) -> RunId {
    RunId::derive(Timestamp(1_700_000_000_000 + number), "default", key, Some(SHARD))
}

pub(super) fn new_run(run: RunId) -> NewRun {
    NewRun {
        run,
        pipeline: "flights".to_owned(),
        namespace: "default".to_owned(),
        entry: b"created".to_vec(),
        idempotency: None,
    }
}

pub(super) fn entry(run: RunId, position: u64) -> AppendEntry {
    let body = format!("entry {position}").into_bytes();
    AppendEntry { run, position, body, settled: Vec::new(), status: StatusChange::None }
}

pub(super) fn attempt(run: RunId, index: u32, attempt: u16) -> AttemptRef {
    AttemptRef { run, task: TaskKey { index, tag: 7 }, attempt }
}

pub(super) fn report(attempt: AttemptRef, outcome: Outcome) -> Report {
    Report { attempt, started_us: 10, slot_us: 20, outcome }
}

pub(super) fn success() -> Outcome {
    Outcome::Succeeded { output: ByteBuf::from(b"out".to_vec()), cached: false }
}

pub(super) fn failure() -> Outcome {
    Outcome::Failed(Failure::new(ErrorCode::Unavailable, "the source is away"))
}

pub(super) fn renewal(worker: WorkerId, held: Vec<HeldLease>) -> Renewal {
    Renewal {
        worker,
        pools: vec!["default".to_owned()],
        slots: 2,
        draining: false,
        about: WorkerAbout::default(),
        held,
    }
}

/// The one `Revoked` event there is.
pub(super) fn revoked(events: &[InboxEvent]) -> Vec<Revoked> {
    match events {
        [InboxEvent::Revoked { ended }] => ended.clone(),
        other => panic!("expected one revocation, found {other:?}"),
    }
}

/// Waits for something that has to come.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes soon")
}
