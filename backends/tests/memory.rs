//! The store in memory: its limits, and what follows when it goes back in time.

use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
use gristmill_backends::state::model::Ageing;
use gristmill_backends::state::{
    Append, AppendEntry, Claim, ClaimAnswer, ClaimItem, Claimed, Created, Finish, FinishAnswer, HeldLease, NewRun,
    Renewal, State, StateError, StatusChange, StoreId, WorkerAbout,
};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::{ACTIVE_RUNS_MAX, INBOX_MAX, RUN_TASKS_MAX};
use gristmill_protocol::message::{InboxEvent, InboxId, Outcome, Report};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};

const SHARD: Shard = Shard(3);
const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 1 };
const W1: WorkerId = WorkerId(1);
const NOW: Timestamp = Timestamp(1_000_000);

fn store() -> MemoryStore {
    let mut store = MemoryStore::new(StoreId(1), Ageing::ByTime);
    store.own(SHARD, OWNER, Duration::from_secs(3_600), NOW);
    store
}

fn create(store: &mut MemoryStore, number: u64) -> Result<RunId, StateError> {
    let run = RunId::derive(Timestamp(number), "default", "run", Some(SHARD));
    let (pipeline, namespace) = ("flights".to_owned(), "default".to_owned());
    let created = store.create_run(NewRun { run, pipeline, namespace, entry: vec![1], idempotency: None }, NOW)?;
    assert_eq!(created, Created::New);
    Ok(run)
}

fn attempt(run: RunId, attempt: u16) -> AttemptRef {
    AttemptRef { run, task: TaskKey { index: 0, tag: 1 }, attempt }
}

fn claim(store: &mut MemoryStore, attempt: AttemptRef) -> Claimed {
    store.claim(&Claim { shard: SHARD, worker: W1, attempts: vec![ClaimItem { attempt, timeout_ms: None }] }, NOW)
}

fn finish(store: &mut MemoryStore, attempt: AttemptRef) -> Vec<FinishAnswer> {
    let report = Report { attempt, started_us: 0, slot_us: 0, outcome: Outcome::Stopped };
    store.finish(Finish { shard: SHARD, worker: W1, reports: vec![report] }, NOW)
}

fn entry(run: RunId, position: u64) -> AppendEntry {
    AppendEntry { run, position, body: vec![], settled: vec![], status: StatusChange::None }
}

fn append(store: &mut MemoryStore, entry: AppendEntry) -> Result<(), StateError> {
    store.append(&Append { shard: SHARD, token: OWNER, id: 7, entries: vec![entry], consumed: vec![] }, NOW)
}

#[test]
fn a_full_inbox_grants_no_claims_and_takes_reports_still() {
    let mut store = store();
    let run = create(&mut store, 1).expect("there is room");
    assert_eq!(claim(&mut store, attempt(run, 1)), Claimed::Answers(vec![ClaimAnswer::Granted]));
    let cancel = || InboxEvent::Cancel { run, by: "me".to_owned() };
    for _ in 1..INBOX_MAX {
        store.post(SHARD, cancel(), NOW).expect("there is room");
    }
    assert!(matches!(store.post(SHARD, cancel(), NOW), Err(StateError::TooMany { limit: INBOX_MAX, .. })));
    assert_eq!(claim(&mut store, attempt(run, 2)), Claimed::Busy);
    assert!(matches!(create(&mut store, 2), Err(StateError::TooMany { .. })));
    assert_eq!(finish(&mut store, attempt(run, 1)), [FinishAnswer::Recorded]);
    assert_eq!(store.inbox(&[(SHARD, InboxId::default())], usize::MAX).len(), INBOX_MAX + 1);
}

#[test]
fn a_shard_has_a_limit_of_active_runs() {
    let mut store = store();
    let runs: Vec<RunId> =
        (0..ACTIVE_RUNS_MAX as u64).map(|number| create(&mut store, number).expect("there is room")).collect();
    let over = create(&mut store, 1_000_000).expect_err("there is no room");
    assert_eq!(over.to_string(), "shard 3 has 10000 active runs; the limit is 10000");
    let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Failed), ..entry(runs[5], 2) };
    append(&mut store, ended).expect("it fits");
    create(&mut store, 1_000_000).expect("there is room for one");
}

#[test]
fn a_task_index_beyond_the_limit_is_refused() {
    let mut store = store();
    let run = create(&mut store, 1).expect("there is room");
    let too_far = AppendEntry { settled: vec![RUN_TASKS_MAX], ..entry(run, 2) };
    assert!(matches!(append(&mut store, too_far), Err(StateError::TooMany { .. })));
    let last = AppendEntry { settled: vec![RUN_TASKS_MAX - 1], ..entry(run, 2) };
    append(&mut store, last).expect("it fits");
}

#[test]
fn after_going_back_the_same_calls_lead_to_the_same_place() {
    let mut store = store();
    let run = create(&mut store, 1).expect("there is room");
    let before = store.clone();
    let acts = |store: &mut MemoryStore| {
        let claimed = claim(store, attempt(run, 1));
        let finished = finish(store, attempt(run, 1));
        append(store, entry(run, 2)).expect("it fits");
        (claimed, finished, format!("{store:?}"))
    };
    let first = acts(&mut store);
    let mut back = before.clone();
    assert_eq!(acts(&mut back), first);
    // Without the claim, the report is accepted all the same, and once.
    let mut back = before;
    let created = back.inbox(&[(SHARD, InboxId::default())], 10).len();
    assert_eq!(finish(&mut back, attempt(run, 1)), [FinishAnswer::Recorded]);
    assert_eq!(finish(&mut back, attempt(run, 1)), [FinishAnswer::Recorded]);
    assert_eq!(back.inbox(&[(SHARD, InboxId::default())], 10).len(), created + 1);
}

#[tokio::test]
async fn a_store_that_went_back_shows_another_life() {
    let shared = Arc::new(SharedMemory::new(store(), NOW));
    let mut copy = shared.snapshot();
    let run = RunId::derive(Timestamp(1), "default", "run", Some(SHARD));
    let (pipeline, namespace) = ("flights".to_owned(), "default".to_owned());
    let new = NewRun { run, pipeline, namespace, entry: vec![1], idempotency: None };
    shared.create_run(new).await.expect("there is room");
    copy.id = StoreId(2);
    shared.restore(copy);
    assert_eq!(shared.run(run).await.expect("readable"), None);
    shared.advance(Duration::from_secs(2));
    let held = vec![HeldLease { attempt: attempt(run, 1), timeout_left_ms: None, progress: None }];
    let renewal = Renewal { worker: W1, pools: vec![], slots: 1, draining: false, about: WorkerAbout::default(), held };
    let renewed = shared.renew(renewal).await.expect("answered");
    assert_eq!((renewed.clock.store, renewed.clock.now), (StoreId(2), NOW.plus_ms(2_000)));
    assert_eq!(renewed.stop, [attempt(run, 1)]);
}
