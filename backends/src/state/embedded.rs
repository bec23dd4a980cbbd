//! The state of a home folder: SQLite for what must outlive the process, memory for the rest.
//!
//! Durable are journals, records of runs, documents, logs and posted events. Leases, presence and the inbox
//! of reports end with the process, which is the case of a store that went back: there is no second path
//! for it. Leases end by their hard deadline alone ([`Ageing::ByDeadline`]).
//!
//! One process owns a home. Others open it as readers: they read, post events, and write documents and logs,
//! which have many writers by nature. A reader's events lie in a table that the owner looks at. A reader is told of ends
//! of runs two seconds later than the owner, because it doesn't know what the owner is about to write.
//!
//! An append runs on the caller's thread: at [`Synchronous::Normal`] a commit is a write into the page cache,
//! which takes less time than waking another thread. With [`Synchronous::Full`] it waits for the disk and runs
//! on a thread for blocking work, as reads do.

mod checkpoint;
mod home;
mod listing;
mod rows;
mod schema;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use gristmill_protocol::limits::{INBOX_MAX, STORE_CALL_MS};
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, Timestamp, WorkerId, wire};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Notify;

use self::checkpoint::Checkpoints;
pub use self::home::OpenError;
use self::home::{HomeLock, connect, database_path, failed};
use super::model::{Ageing, KeyUse, RunState, StoreModel, keys_remembered_from, submitted_before};
use super::{
    Append, Claim, Claimed, Created, Document, Finish, FinishAnswer, JournalEntry, LeaseView, NewRun, Ownership,
    Renewal, Renewed, RunFilter, RunPage, RunRecord, SchedulerView, State, StateError, StatusChange, StoreClock,
    StoreId, WorkerView, page_size,
};

/// How long a process waits before it looks for events that others posted.
const COMMAND_POLL: Duration = Duration::from_millis(100);
/// Posted events taken in at a time, so that one look stays short.
const COMMANDS_AT_A_TIME: usize = 256;
/// Runs whose attempts are remembered after their end: when one is resumed, messages of its old attempts may
/// still be on their way, for seconds at most. A run that has ended takes some hundred bytes.
const ENDED_RUNS_KEPT: usize = 1_024;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// When the operating system has it. A killed process loses nothing. A power cut or a crash of the
    /// operating system can lose what was written since the last checkpoint (some megabytes, or some seconds
    /// of work), which then runs again; the database stays whole.
    #[default]
    Normal,
    /// When the disk has it. A power cut loses nothing; each append waits for the disk, which is between
    /// 0.1 and 20 ms.
    Full,
}

impl Synchronous {
    fn pragma(self) -> &'static str {
        match self {
            Synchronous::Normal => "normal",
            Synchronous::Full => "full",
        }
    }
}

/// The state of a home folder.
pub struct EmbeddedState {
    inner: Arc<Inner>,
}

struct Inner {
    synchronous: Synchronous,
    id: StoreId,
    clock: Clock,
    writer: Mutex<Writer>,
    reader: Mutex<Connection>,
    /// What lives in memory; nothing when another process owns the home.
    owned: Option<Owned>,
}

struct Owned {
    model: Mutex<StoreModel>,
    checkpoints: Checkpoints,
    /// Wakes those who wait for an inbox.
    news: Notify,
    /// Given up last of all.
    _lock: HomeLock,
}

/// The one connection that writes. Whoever holds it may take the model's lock, never the other way round.
struct Writer {
    connection: Connection,
    /// Changes when another connection has written.
    data_version: i64,
    looked: Instant,
    /// The last posted event that was taken in.
    seen: i64,
    /// Rows of posted events that are in the inbox.
    commands: BTreeMap<(Shard, InboxId), i64>,
    /// Runs that have ended and are in memory, oldest end first.
    ended: VecDeque<RunId>,
}

/// Why a verb can't be had from a reader.
#[derive(Debug, thiserror::Error)]
#[error("the home was opened beside its owner; only the process that owns it has its shards and leases")]
struct ReaderOnly;

/// The time of one life of a store: it never goes back.
struct Clock {
    source: Box<dyn Fn() -> Timestamp + Send + Sync>,
    last: AtomicU64,
}

impl Clock {
    fn now(&self) -> Timestamp {
        let now = (self.source)();
        Timestamp(self.last.fetch_max(now.0, Ordering::Relaxed).max(now.0))
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl EmbeddedState {
    /// Opens a home as its one owner, and makes it if it isn't there.
    pub fn open(home: &Path, synchronous: Synchronous) -> Result<EmbeddedState, OpenError> {
        EmbeddedState::open_at(home, synchronous, system_time)
    }

    /// Opens a home as its owner, with a clock other than the system's.
    pub fn open_at(
        home: &Path,
        synchronous: Synchronous,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<EmbeddedState, OpenError> {
        let lock = HomeLock::take(home)?;
        let path = database_path(home);
        let reading_failed = |source| home::opening_failed("read", &path, source);
        let writer = connect(&path, synchronous, true)?;
        let id = new_id();
        rows::set_meta(&writer, "owner", id.0)
            .map_err(|source| home::opening_failed("write the owner into", &path, source))?;
        let mut model = StoreModel::new(Ageing::ByDeadline);
        for (run, head) in rows::active_heads(&writer).map_err(reading_failed)? {
            model.insert_run(run, head);
        }
        let checkpoints = Checkpoints::start(connect(&path, synchronous, false)?);
        let owned = Owned { model: Mutex::new(model), checkpoints, news: Notify::new(), _lock: lock };
        let state = EmbeddedState::assemble(path.clone(), synchronous, Box::new(clock), id, writer, Some(owned))?;
        // What was posted and not dealt with when the last owner ended.
        let inner = &state.inner;
        inner.take_commands(&mut inner.writer()).map_err(|source| OpenError::Database {
            verb: "read posted events from",
            path,
            source: Box::new(source),
        })?;
        Ok(state)
    }

    /// Opens a home beside its owner, if there is one: to read, to post events, to write documents and logs.
    pub fn open_reader(home: &Path) -> Result<EmbeddedState, OpenError> {
        let path = database_path(home);
        if !path.exists() {
            return Err(OpenError::NotFound { home: home.to_owned() });
        }
        let synchronous = Synchronous::Normal;
        let writer = connect(&path, synchronous, false)?;
        EmbeddedState::assemble(path, synchronous, Box::new(system_time), new_id(), writer, None)
    }

    fn assemble(
        path: PathBuf,
        synchronous: Synchronous,
        source: Box<dyn Fn() -> Timestamp + Send + Sync>,
        id: StoreId,
        writer: Connection,
        owned: Option<Owned>,
    ) -> Result<EmbeddedState, OpenError> {
        let reader = connect(&path, synchronous, false)?;
        let data_version = data_version(&writer).map_err(|source| home::opening_failed("read", &path, source))?;
        let writer = Writer {
            connection: writer,
            data_version,
            looked: Instant::now(),
            seen: 0,
            commands: BTreeMap::new(),
            ended: VecDeque::new(),
        };
        let clock = Clock { source, last: AtomicU64::new(0) };
        let inner = Inner { synchronous, id, clock, writer: Mutex::new(writer), reader: Mutex::new(reader), owned };
        Ok(EmbeddedState { inner: Arc::new(inner) })
    }

    /// Runs a write where it hurts least: see the head of this module.
    async fn write<T: Send + 'static>(
        &self,
        verb: &'static str,
        write: impl FnOnce(&Inner) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        match self.inner.synchronous {
            Synchronous::Normal => write(&self.inner),
            Synchronous::Full => self.blocking(verb, write).await,
        }
    }

    /// Reads on a thread for blocking work: a journal may be long.
    async fn read<T: Send + 'static>(
        &self,
        verb: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        self.blocking(verb, move |inner| {
            let connection = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            read(&connection).map_err(failed(verb))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|source| StateError::Unavailable { verb, source: Box::new(source) })?
    }
}

fn new_id() -> StoreId {
    StoreId(uuid::Uuid::new_v4().as_u64_pair().1)
}

/// Whether another event may be posted beside the owner.
fn check_posted(connection: &Connection, verb: &'static str) -> Result<(), StateError> {
    let waiting = rows::commands_waiting(connection).map_err(failed(verb))?;
    if waiting >= INBOX_MAX {
        return Err(StateError::TooMany { what: format!("{waiting} posted events wait"), limit: INBOX_MAX });
    }
    Ok(())
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("pragma data_version")?.query_row([], |row| row.get(0))
}

impl Inner {
    fn owned(&self, verb: &'static str) -> Result<&Owned, StateError> {
        self.owned.as_ref().ok_or_else(|| StateError::Unavailable { verb, source: Box::new(ReaderOnly) })
    }

    /// Does something to what lives in memory.
    fn model<T>(&self, verb: &'static str, act: impl FnOnce(&mut StoreModel, Timestamp) -> T) -> Result<T, StateError> {
        let owned = self.owned(verb)?;
        Ok(act(&mut owned.model(), self.clock.now()))
    }

    /// The same, where it may put something into an inbox.
    fn happen<T>(
        &self,
        verb: &'static str,
        act: impl FnOnce(&mut StoreModel, Timestamp) -> T,
    ) -> Result<T, StateError> {
        let result = self.model(verb, act);
        if let Some(owned) = &self.owned {
            owned.news.notify_waiters();
        }
        result
    }

    /// A panic while the lock was held has rolled its transaction back.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work`, which writes about so many bytes, in one transaction: as a whole or not at all.
    fn transaction<T>(
        &self,
        connection: &mut Connection,
        verb: &'static str,
        bytes: usize,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        // Immediate, because a reader of another process may be writing: to wait at the start is to wait in order.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(verb))?;
        let result = work(&transaction)?;
        transaction.commit().map_err(failed(verb))?;
        if let Some(owned) = &self.owned {
            owned.checkpoints.written(bytes);
        }
        Ok(result)
    }

    /// The owner row says that the home is this store's still, even where file locks mean nothing.
    fn check_home(&self, connection: &Connection, verb: &'static str, shard: Shard) -> Result<(), StateError> {
        let owner = rows::meta(connection, "owner").map_err(failed(verb))?;
        if owner == self.id.0 { Ok(()) } else { Err(StateError::Deposed { shard }) }
    }

    /// No run ends before this time from now on. An append takes its time while it holds the writer; what the owner in
    /// another process is about to write is at most as old as a write may wait.
    fn ends_told_until(&self) -> Timestamp {
        let _writer = self.writer();
        let now = self.clock.now();
        if self.owned.is_some() { now } else { Timestamp(now.0.saturating_sub(STORE_CALL_MS)) }
    }

    /// Makes a run; beside the owner as a posted event, which the owner takes in.
    fn create_run(&self, new: &NewRun) -> Result<Created, StateError> {
        const VERB: &str = "make a run";
        let mut writer = self.writer();
        let now = self.clock.now();
        let created = self.transaction(&mut writer.connection, VERB, new.entry.len(), |transaction| {
            if self.owned.is_some() {
                self.check_home(transaction, VERB, new.run.shard())?;
            }
            let submission = new.idempotency.as_ref().map(|(_, submission)| *submission);
            let known = match &new.idempotency {
                Some((key, _)) => rows::key_use(transaction, &new.namespace, key).map_err(failed(VERB))?,
                None => None,
            };
            let existing = rows::head(transaction, new.run).map_err(failed(VERB))?.map(|_| new.run);
            if let Some(before) = submitted_before(known, submission, existing, now) {
                return Ok(before);
            }
            match &self.owned {
                Some(owned) => owned.model().check_create(new.run)?,
                None => check_posted(transaction, VERB)?,
            }
            if let Some((key, submission)) = &new.idempotency {
                let used = KeyUse { run: new.run, submission: *submission, at: now };
                rows::remember_key(transaction, &new.namespace, key, used, keys_remembered_from(now))
                    .map_err(failed(VERB))?;
            }
            rows::insert_run(transaction, new, now).map_err(failed(VERB))?;
            if self.owned.is_none() {
                let event = wire::encode(&InboxEvent::Created { run: new.run });
                rows::insert_command(transaction, new.run.shard(), &event).map_err(failed(VERB))?;
            }
            Ok(Created::New)
        })?;
        if let (Created::New, Some(owned)) = (created, &self.owned) {
            owned.model().create(new.run, now);
            owned.news.notify_waiters();
        }
        Ok(created)
    }

    fn append(&self, append: &Append) -> Result<(), StateError> {
        const VERB: &str = "append to the journal";
        let owned = self.owned(VERB)?;
        let mut writer = self.writer();
        let now = self.clock.now();
        // A run that ended long ago isn't in memory; an append to it may open it again.
        for entry in &append.entries {
            let known = owned.model().head(entry.run).is_some();
            if !known && let Some(head) = rows::head(&writer.connection, entry.run).map_err(failed(VERB))? {
                owned.model().insert_run(entry.run, head);
            }
        }
        let result = self.append_loaded(owned, &mut writer, append, now);
        let mut model = owned.model();
        for entry in &append.entries {
            if model.head(entry.run).is_some_and(|head| head.state.ended().is_some()) {
                writer.ended.push_back(entry.run);
            }
        }
        while writer.ended.len() > ENDED_RUNS_KEPT
            && let Some(run) = writer.ended.pop_front()
        {
            model.forget_ended(run);
        }
        result
    }

    /// Checks in memory, commits on disk, then applies in memory. Whatever else happens in memory between
    /// check and commit counts as having happened after the append: only the writer's holder moves heads.
    fn append_loaded(
        &self,
        owned: &Owned,
        writer: &mut Writer,
        append: &Append,
        now: Timestamp,
    ) -> Result<(), StateError> {
        const VERB: &str = "append to the journal";
        let write = owned.model().check_append(append, now)?;
        let commands: Vec<((Shard, InboxId), i64)> = append
            .consumed
            .iter()
            .map(|&id| (append.shard, id))
            .filter_map(|place| writer.commands.get(&place).map(|&row| (place, row)))
            .collect();
        if !write.is_empty() || !commands.is_empty() {
            let bytes = append.entries.iter().map(|entry| entry.body.len()).sum();
            self.transaction(&mut writer.connection, VERB, bytes, |transaction| {
                self.check_home(transaction, VERB, append.shard)?;
                for entry in write.iter().filter_map(|&place| append.entries.get(place)) {
                    rows::append_entry(transaction, append.id, entry, now).map_err(failed(VERB))?;
                    let state = match entry.status {
                        StatusChange::None => continue,
                        StatusChange::Closing => RunState::Closing,
                        StatusChange::Reopened => RunState::Open,
                        StatusChange::Ended(status) => RunState::Ended(status),
                    };
                    rows::set_state(transaction, entry.run, state, now).map_err(failed(VERB))?;
                }
                commands.iter().try_for_each(|&(_, row)| rows::delete_command(transaction, row)).map_err(failed(VERB))
            })?;
        }
        for (place, _) in &commands {
            writer.commands.remove(place);
        }
        owned.model().apply_append(append, &write, now);
        Ok(())
    }

    fn post(&self, shard: Shard, event: &InboxEvent) -> Result<(), StateError> {
        const VERB: &str = "post an event";
        let mut writer = self.writer();
        let bytes = wire::encode(event);
        self.transaction(&mut writer.connection, VERB, bytes.len(), |transaction| {
            check_posted(transaction, VERB)?;
            rows::insert_command(transaction, shard, &bytes).map_err(failed(VERB))
        })?;
        if self.owned.is_some() {
            self.take_commands(&mut writer)?;
        }
        Ok(())
    }

    /// Takes in what other processes posted, if it is time to look and somebody wrote at all.
    fn look_for_commands(&self) -> Result<(), StateError> {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            // Whoever waits for an inbox isn't to wait for the disk; the next look is near.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(writer)) => writer.into_inner(),
        };
        if writer.looked.elapsed() < COMMAND_POLL {
            return Ok(());
        }
        writer.looked = Instant::now();
        let version = data_version(&writer.connection).map_err(failed("look for posted events"))?;
        if version != writer.data_version {
            self.take_commands(&mut writer)?;
            writer.data_version = version;
        }
        Ok(())
    }

    /// Puts posted events into the inbox. They stay in their table until an append has dealt with them.
    fn take_commands(&self, writer: &mut Writer) -> Result<(), StateError> {
        const VERB: &str = "read posted events";
        let owned = self.owned(VERB)?;
        loop {
            let found =
                rows::commands_after(&writer.connection, writer.seen, COMMANDS_AT_A_TIME).map_err(failed(VERB))?;
            let last = found.len() < COMMANDS_AT_A_TIME;
            for command in found {
                writer.seen = command.id;
                match wire::decode::<InboxEvent>("a posted event", &command.event) {
                    Ok(event) => {
                        if let InboxEvent::Created { run } = event
                            && owned.model().head(run).is_none()
                            && let Some(head) = rows::head(&writer.connection, run).map_err(failed(VERB))?
                        {
                            owned.model().insert_run(run, head);
                        }
                        let id = owned.model().post(command.shard, event, self.clock.now());
                        writer.commands.insert((command.shard, id), command.id);
                    }
                    // It was posted by a newer program; it stays for an owner that can read it.
                    Err(error) => tracing::warn!(row = command.id, %error, "skipped a posted event"),
                }
            }
            owned.news.notify_waiters();
            if last {
                return Ok(());
            }
        }
    }

    fn put(&self, key: &str, expected: u64, body: &[u8]) -> Result<u64, StateError> {
        const VERB: &str = "write a document";
        self.transaction(&mut self.writer().connection, VERB, body.len(), |transaction| {
            check_document(transaction, VERB, key, expected)?;
            let version = rows::meta(transaction, "document").map_err(failed(VERB))? + 1;
            rows::set_meta(transaction, "document", version).map_err(failed(VERB))?;
            rows::put_document(transaction, key, version, body).map_err(failed(VERB))?;
            Ok(version)
        })
    }

    fn delete(&self, key: &str, expected: u64) -> Result<(), StateError> {
        const VERB: &str = "remove a document";
        self.transaction(&mut self.writer().connection, VERB, 0, |transaction| {
            check_document(transaction, VERB, key, expected)?;
            rows::delete_document(transaction, key).map_err(failed(VERB))
        })
    }

    fn log_append(&self, log: &str, position: u64, token: u64, body: &[u8]) -> Result<(), StateError> {
        const VERB: &str = "append to a log";
        let now = self.clock.now();
        self.transaction(&mut self.writer().connection, VERB, body.len(), |transaction| {
            if rows::log_token(transaction, log, position).map_err(failed(VERB))? == Some(token) {
                return Ok(());
            }
            let found = rows::log_head(transaction, log).map_err(failed(VERB))?;
            if found.checked_add(1) != Some(position) {
                return Err(StateError::Conflict { key: log.to_owned(), expected: position.saturating_sub(1), found });
            }
            rows::insert_log(transaction, log, position, token, body, now).map_err(failed(VERB))
        })
    }
}

fn check_document(transaction: &Connection, verb: &'static str, key: &str, expected: u64) -> Result<(), StateError> {
    let found = rows::document_version(transaction, key).map_err(failed(verb))?;
    if found == expected { Ok(()) } else { Err(StateError::Conflict { key: key.to_owned(), expected, found }) }
}

impl Owned {
    /// Verbs of the model don't panic half-way; a poisoned lock means a panic elsewhere.
    fn model(&self) -> MutexGuard<'_, StoreModel> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl State for EmbeddedState {
    async fn clock(&self) -> Result<StoreClock, StateError> {
        Ok(StoreClock { store: self.inner.id, now: self.inner.clock.now() })
    }

    async fn own(&self, shard: Shard, token: OwnerToken, ttl: Duration) -> Result<Ownership, StateError> {
        self.inner.model("own a shard", |model, now| model.own(shard, token, ttl, now))
    }

    async fn disown(&self, shard: Shard, token: OwnerToken) -> Result<(), StateError> {
        self.inner.model("give up a shard", |model, _| model.disown(shard, token))
    }

    async fn create_run(&self, run: NewRun) -> Result<Created, StateError> {
        self.write("make a run", move |inner| inner.create_run(&run)).await
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StateError> {
        self.read("read a run", move |connection| rows::run(connection, run)).await
    }

    async fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError> {
        let (filter, limit) = (filter.checked()?, page_size(limit));
        self.read("list runs", move |connection| listing::find(connection, &filter, before, limit)).await
    }

    async fn ended_runs(&self, after: (Timestamp, RunId), limit: usize) -> Result<Vec<RunRecord>, StateError> {
        const VERB: &str = "list ended runs";
        self.blocking(VERB, move |inner| {
            let until = inner.ends_told_until();
            let connection = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            listing::ended(&connection, after, until, page_size(limit)).map_err(failed(VERB))
        })
        .await
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRecord>, StateError> {
        self.read("list open runs", move |connection| rows::open_runs(connection, shard)).await
    }

    async fn post(&self, shard: Shard, event: InboxEvent) -> Result<(), StateError> {
        self.write("post an event", move |inner| inner.post(shard, &event)).await
    }

    async fn inbox(
        &self,
        after: &[(Shard, InboxId)],
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        let owned = self.inner.owned("read the inbox")?;
        let end = tokio::time::Instant::now() + wait;
        loop {
            let mut news = std::pin::pin!(owned.news.notified());
            // Listening starts before looking, so that nothing falls in between.
            news.as_mut().enable();
            self.inner.look_for_commands()?;
            let entries = owned.model().inbox(after, limit);
            let now = tokio::time::Instant::now();
            if !entries.is_empty() || now >= end {
                return Ok(entries);
            }
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep_until(end.min(now + COMMAND_POLL)) => {}
            }
        }
    }

    async fn append(&self, append: Append) -> Result<(), StateError> {
        self.write("append to the journal", move |inner| inner.append(&append)).await
    }

    async fn journal(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        self.read("read the journal", move |connection| rows::journal(connection, run, after, limit)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StateError> {
        self.inner.model("claim attempts", |model, now| model.claim(&claim, now))
    }

    async fn renew(&self, renewal: Renewal) -> Result<Renewed, StateError> {
        let store = self.inner.id;
        self.inner.model("renew leases", |model, now| {
            let stop = model.renew(renewal, now);
            Renewed { clock: StoreClock { store, now }, stop }
        })
    }

    async fn finish(&self, finish: Finish) -> Result<Vec<FinishAnswer>, StateError> {
        self.inner.happen("finish attempts", |model, now| model.finish(finish, now))
    }

    async fn expire(&self, shard: Shard, token: OwnerToken, limit: usize) -> Result<usize, StateError> {
        self.inner.happen("expire leases", |model, now| model.expire(shard, token, limit, now))?
    }

    async fn revoke(&self, shard: Shard, token: OwnerToken, attempts: &[AttemptRef]) -> Result<(), StateError> {
        self.inner.happen("revoke attempts", |model, now| model.revoke(shard, token, attempts, now))?
    }

    async fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Result<Vec<LeaseView>, StateError> {
        self.inner.model("look up leases", |model, _| model.leases(shard, attempts))
    }

    async fn workers(&self) -> Result<Vec<WorkerView>, StateError> {
        self.inner.model("list workers", |model, now| model.workers(now))
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StateError> {
        self.inner.model("forget a worker", |model, _| model.leave(worker))
    }

    async fn announce(&self, scheduler: SchedulerView) -> Result<Vec<SchedulerView>, StateError> {
        self.inner.model("announce a scheduler", |model, now| model.announce(scheduler, now))
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerView>, StateError> {
        self.inner.model("list schedulers", |model, now| model.schedulers(now))
    }

    async fn retire(&self, instance: u64) -> Result<(), StateError> {
        self.inner.model("forget a scheduler", |model, _| model.retire(instance))
    }

    async fn get(&self, key: &str) -> Result<Option<Document>, StateError> {
        let key = key.to_owned();
        self.read("read a document", move |connection| rows::document(connection, &key)).await
    }

    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError> {
        let key = key.to_owned();
        self.write("write a document", move |inner| inner.put(&key, expected, &body)).await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<(), StateError> {
        let key = key.to_owned();
        self.write("remove a document", move |inner| inner.delete(&key, expected)).await
    }

    async fn keys(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StateError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.read("list documents", move |connection| rows::keys(connection, &prefix, &after, limit)).await
    }

    async fn log_append(&self, log: &str, position: u64, token: u64, body: Vec<u8>) -> Result<(), StateError> {
        let log = log.to_owned();
        self.write("append to a log", move |inner| inner.log_append(&log, position, token, &body)).await
    }

    async fn log_read(&self, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        let log = log.to_owned();
        self.read("read a log", move |connection| rows::log(connection, &log, after, limit)).await
    }

    async fn logs(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let prefix = prefix.to_owned();
        self.read("list logs", move |connection| rows::logs(connection, &prefix)).await
    }
}
