//! The state seam: journals and inboxes of shards, leases of attempts, small documents.
//!
//! Only the store decides. Each verb here is one atomic step where the store is, so every crash, pause,
//! duplicate and late answer has one defined outcome. A verb whose outcome is unknown (a time-out) may be
//! repeated as it is; repeating never does more than doing it once.
//!
//! [`model`] holds the rules of these verbs as plain code without IO; the embedded store and the simulator
//! are built on it, and other stores are compared with it.

pub mod embedded;
mod listing;
pub mod memory;
pub mod model;
#[cfg(feature = "redis")]
pub mod redis;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::{Holder, InboxEntry, InboxEvent, InboxId, Report};
use gristmill_protocol::{AttemptRef, Digest, OwnerToken, RunId, Shard, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

pub use self::listing::{RunFilter, RunPage, StatusFilter, page_size};

/// Why a verb of the state failed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store can't be asked just now; whether the verb took effect is unknown.
    #[error("failed to {verb}: the store can't be reached")]
    Unavailable { verb: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// The caller doesn't own the shard (any more).
    #[error("shard {shard} belongs to another scheduler")]
    Deposed { shard: Shard },
    /// A journal isn't where the caller thinks.
    #[error("the journal of `{run}` has moved on: expected position {expected}, found {found}")]
    Moved { run: RunId, expected: u64, found: u64 },
    /// A document or log isn't what the caller thinks.
    #[error("`{key}` was changed by another: expected version {expected}, found {found}")]
    Conflict { key: String, expected: u64, found: u64 },
    /// What is asked for doesn't exist.
    #[error("there is no {what}")]
    NotFound { what: String },
    /// A limit is reached.
    #[error("{what}; the limit is {limit}")]
    TooMany { what: String, limit: usize },
    /// What answers can't be the store: it would lose what it is told.
    #[error("{what} can't be the store: {advice}")]
    Unsuitable { what: String, advice: String },
    /// What is stored can't be read.
    #[error("failed to {verb}: what is stored there is damaged: {detail}")]
    Damaged { verb: &'static str, detail: String },
}

/// The journals, leases and documents of a cluster.
#[async_trait]
pub trait State: Send + Sync {
    /// Which life of the store this is, and its time. A new id means it may have gone back by up to 2 s.
    async fn clock(&self) -> Result<StoreClock, StateError>;

    // Ownership of shards.

    /// Takes or keeps the right to write to a shard for `ttl`; says who has it otherwise.
    async fn own(&self, shard: Shard, token: OwnerToken, ttl: Duration) -> Result<Ownership, StateError>;
    /// Gives a shard up, if it is `token` that has it.
    async fn disown(&self, shard: Shard, token: OwnerToken) -> Result<(), StateError>;

    // Runs.

    /// Makes a run: its record, its first journal entry and the inbox event, in one step.
    async fn create_run(&self, run: NewRun) -> Result<Created, StateError>;
    /// The record of a run.
    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StateError>;
    /// Records of runs that fit, newest first, that come after (are older than) `before`: one page of at most `limit`
    /// (itself at least 1 and at most [`RUN_PAGE_MAX`]), whose work is bounded however many runs there are.
    ///
    /// From page to page no run that was there is missed or seen twice, whatever comes in; but one whose status changes
    /// meanwhile may fit or not.
    ///
    /// [`RUN_PAGE_MAX`]: gristmill_protocol::limits::RUN_PAGE_MAX
    async fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError>;
    /// Records of all runs, newest first, that come after (are older than) `before`; fewer than `limit` when there are
    /// no more.
    async fn runs(&self, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>, StateError> {
        let (mut records, mut before) = (Vec::new(), before);
        while records.len() < limit {
            let page = self.find_runs(&RunFilter::default(), before, limit - records.len()).await?;
            records.extend(page.records);
            if page.next.is_none() {
                break;
            }
            before = page.next;
        }
        Ok(records)
    }
    /// Records of runs that have ended, in the order in which they did (by the store's time, then by id), after a place:
    /// the end and the id of the last one that was seen. `limit` as in [`State::find_runs`].
    ///
    /// What ends later stands later, so that who goes on from the last one misses none: an end is told when its
    /// millisecond is over. (Where the store's clock is set back, ends until it has caught up stand before places that
    /// were told.) A run that is opened again leaves the list, and comes again when it ends again.
    async fn ended_runs(&self, after: (Timestamp, RunId), limit: usize) -> Result<Vec<RunRecord>, StateError>;
    /// The open runs of a shard, smallest journal first.
    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRecord>, StateError>;

    // Journal and inbox.

    /// Puts an event (a cancel, a resume) into a shard's inbox.
    async fn post(&self, shard: Shard, event: InboxEvent) -> Result<(), StateError>;
    /// Entries of inboxes after the given places, waiting up to `wait` for the first. At most `limit` a shard.
    async fn inbox(
        &self,
        after: &[(Shard, InboxId)],
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError>;
    /// Writes what a turn decided and removes what it came from, or nothing at all.
    async fn append(&self, append: Append) -> Result<(), StateError>;
    /// Entries of a run's journal after a position, at most `limit`.
    async fn journal(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError>;

    // Leases.

    /// Begins leases. One answer an attempt, in order.
    async fn claim(&self, claim: Claim) -> Result<Claimed, StateError>;
    /// Says that a worker lives, what it holds and how far that is; learns what to stop.
    async fn renew(&self, renewal: Renewal) -> Result<Renewed, StateError>;
    /// Ends leases with reports. One answer a report, in order.
    async fn finish(&self, finish: Finish) -> Result<Vec<FinishAnswer>, StateError>;
    /// Ends up to `limit` leases of a shard whose time has come; the owner's right alone. Returns how many.
    async fn expire(&self, shard: Shard, token: OwnerToken, limit: usize) -> Result<usize, StateError>;
    /// Ends the given attempts, claimed or not; the owner's right alone.
    async fn revoke(&self, shard: Shard, token: OwnerToken, attempts: &[AttemptRef]) -> Result<(), StateError>;
    /// What the store knows of the given attempts of one shard, in order.
    async fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Result<Vec<LeaseView>, StateError>;
    /// The workers that were heard of within the length of a lease.
    async fn workers(&self) -> Result<Vec<WorkerView>, StateError>;
    /// Forgets a worker that has shut down in order.
    async fn leave(&self, worker: WorkerId) -> Result<(), StateError>;

    // Schedulers that share the shards.

    /// Says that a scheduler lives and what it has; learns of all that were heard of within the length of a shard's
    /// lease, itself included, by instance.
    async fn announce(&self, scheduler: SchedulerView) -> Result<Vec<SchedulerView>, StateError>;
    /// The schedulers that were heard of within the length of a shard's lease, by instance.
    async fn schedulers(&self) -> Result<Vec<SchedulerView>, StateError>;
    /// Forgets a scheduler that has shut down in order.
    async fn retire(&self, instance: u64) -> Result<(), StateError>;

    // Documents: small, versioned, changed by compare-and-set.

    /// A document and its version.
    async fn get(&self, key: &str) -> Result<Option<Document>, StateError>;
    /// Writes a document whose version must be `expected` (0: must not exist). Returns the new version.
    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError>;
    /// Removes a document whose version must be `expected`.
    async fn delete(&self, key: &str, expected: u64) -> Result<(), StateError>;
    /// Keys that start with `prefix`, in order, after `after`.
    async fn keys(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StateError>;

    // Logs: journals with many writers and no owner (the registry's).

    /// Appends one entry at exactly `position` (the last is `position - 1`). Saying the same again with the same `token` is fine.
    async fn log_append(&self, log: &str, position: u64, token: u64, body: Vec<u8>) -> Result<(), StateError>;
    /// Entries of a log after a position.
    async fn log_read(&self, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError>;
    /// Names of logs that start with `prefix`, in order.
    async fn logs(&self, prefix: &str) -> Result<Vec<String>, StateError>;
}

/// Which life of the store this is, and what time it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreClock {
    pub store: StoreId,
    pub now: Timestamp,
}

/// One life of the store; another one after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(pub u64);

/// Whether a shard is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It is. `new` when it wasn't just before this call.
    Owned { new: bool },
    /// It is another's.
    HeldBy(OwnerToken),
}

/// A run to make.
#[derive(Clone, Debug)]
pub struct NewRun {
    pub run: RunId,
    pub pipeline: String,
    pub namespace: String,
    /// The first journal entry, encoded.
    pub entry: Vec<u8>,
    /// A key under which the same submission answers the same run, with the digest of what is submitted.
    pub idempotency: Option<(String, Digest)>,
}

/// What came of making a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was made now.
    New,
    /// The same submission had made this run.
    Existing(RunId),
    /// The key was used for a different submission, which made this run.
    KeyTaken(RunId),
}

/// What the store keeps of a run beside its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    pub run: RunId,
    pub pipeline: String,
    pub namespace: String,
    /// How it ended; nothing while it is open.
    pub status: Option<RunStatus>,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    /// Position of its last journal entry.
    pub head: u64,
}

/// What one turn decided for one shard.
#[derive(Clone, Debug)]
pub struct Append {
    pub shard: Shard,
    pub token: OwnerToken,
    /// This append's own number: the same number again at the same position is the same append.
    pub id: u64,
    pub entries: Vec<AppendEntry>,
    /// Inbox entries that the facts came from.
    pub consumed: Vec<InboxId>,
}

/// One journal entry to write.
#[derive(Clone, Debug)]
pub struct AppendEntry {
    pub run: RunId,
    /// Its position: the journal's last must be the one before.
    pub position: u64,
    pub body: Vec<u8>,
    /// Tasks whose success it records.
    pub settled: Vec<u32>,
    /// Whether the run is open or how it has ended, where the entry changes that.
    pub status: StatusChange,
}

/// What an entry does to a run's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusChange {
    None,
    /// No more claims are granted: the run is being cancelled.
    Closing,
    /// The run is open again.
    Reopened,
    Ended(RunStatus),
}

/// One entry of a journal or log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub position: u64,
    /// The number of the append that wrote it (the caller's token for logs).
    pub append: u64,
    pub at: Timestamp,
    pub body: Vec<u8>,
}

/// A worker's wish to begin some attempts of one shard.
#[derive(Clone, Debug)]
pub struct Claim {
    pub shard: Shard,
    pub worker: WorkerId,
    pub attempts: Vec<ClaimItem>,
}

/// One attempt to claim.
#[derive(Clone, Copy, Debug)]
pub struct ClaimItem {
    pub attempt: AttemptRef,
    /// Milliseconds from now to the hard deadline.
    pub timeout_ms: Option<u64>,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// One answer an attempt, in the order asked.
    Answers(Vec<ClaimAnswer>),
    /// The shard's inbox is over its limit: try again later.
    Busy,
}

/// Whether an attempt is the caller's to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// It is, until a heartbeat fails to come; never past the hard deadline.
    Granted,
    /// Another worker has this attempt.
    Taken,
    /// A later attempt is known, or this one has ended.
    Stale,
    /// The run isn't open.
    Over,
    /// The task's success is recorded.
    Settled,
}

/// A worker's heartbeat.
#[derive(Clone, Debug)]
pub struct Renewal {
    pub worker: WorkerId,
    pub pools: Vec<String>,
    pub slots: u32,
    /// Whether it takes no more work.
    pub draining: bool,
    pub about: WorkerAbout,
    pub held: Vec<HeldLease>,
}

/// What a worker says of itself beside its pools. Workers of earlier versions say nothing, and read version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerAbout {
    /// What its owner says of it: `site=eu`, `accelerator=a100`, `spot=true`.
    pub labels: BTreeMap<String, String>,
    /// The machine that it is on, and its process there.
    pub host: String,
    pub pid: u32,
    /// The highest version of messages that it reads ([`gristmill_protocol::wire`]).
    pub reads: u8,
}

/// An attempt that a worker works on.
#[derive(Clone, Debug)]
pub struct HeldLease {
    pub attempt: AttemptRef,
    /// Milliseconds left to the hard deadline, to set it again where the store forgot.
    pub timeout_left_ms: Option<u64>,
    pub progress: Option<Progress>,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    /// What there is in all, where it is known.
    pub total: Option<u64>,
    /// What is counted: `rows`, `trees`, `bytes`.
    pub unit: String,
}

/// What a worker learns from its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    pub clock: StoreClock,
    /// Attempts that aren't its own any more.
    pub stop: Vec<AttemptRef>,
}

/// A worker's reports on attempts of one shard.
#[derive(Clone, Debug)]
pub struct Finish {
    pub shard: Shard,
    pub worker: WorkerId,
    pub reports: Vec<Report>,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishAnswer {
    /// It is in the inbox, or was already.
    Recorded,
    /// The attempt had ended otherwise, and the report changes nothing.
    Stale,
    /// The task's success is recorded already.
    Settled,
    /// The run isn't open.
    Over,
}

/// What the store knows of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseView {
    /// Nobody has claimed it.
    Unclaimed,
    /// Somebody works on it.
    Held(Holder),
    /// It ended at that time (it, or a later attempt of its task).
    Closed { since: Timestamp },
}

/// A worker that was heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    pub worker: WorkerId,
    pub pools: Vec<String>,
    pub slots: u32,
    pub draining: bool,
    pub about: WorkerAbout,
    pub seen: Timestamp,
    pub held: Vec<(AttemptRef, Option<Progress>)>,
}

impl WorkerView {
    /// Whether its machine may be taken away at any time.
    pub fn is_spot(&self) -> bool {
        self.about.labels.get("spot").is_some_and(|spot| spot == "true")
    }
}

/// A scheduler that was heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerView {
    pub instance: u64,
    /// How many shards it owns.
    pub shards: u32,
    /// By pool, how many tasks of its runs are ready or out there.
    pub demand: BTreeMap<String, u64>,
    /// By pool, what of that could be worked on and how long it is expected to take.
    #[serde(default)]
    pub backlog: BTreeMap<String, Backlog>,
}

/// The work of one pool, as one scheduler sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Tasks that could begin if a slot were free.
    pub ready: u64,
    /// Tasks that are out.
    pub out: u64,
    /// Milliseconds of a slot that both are expected to take, as far as that is known.
    pub work_ms: u64,
    /// How many of both take nobody knows how long.
    pub unknown: u64,
}

/// A small document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub version: u64,
    pub body: Vec<u8>,
}
