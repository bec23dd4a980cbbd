//! The state seam on Redis.
//!
//! What writes is one script (`protocol/scripts`), with the store's time taken inside it; what reads is one command or
//! one script too, but for lists of runs (see `listing`). All keys of a shard share one hash tag. The rules of the verbs are
//! those of [`super::model`] with leases that age by time.
//!
//! Calls share one connection, on which they don't wait for each other; a wait for an inbox has one of its own.
//! A connection belongs to the runtime that opened it: whoever must not be starved by what else runs there
//! (heartbeats) takes [`RedisState::another`]. After any error the connection is given up and the next call opens a
//! new one, within its own time limit. A new connection asks for the server's `run_id` first, so no answer is taken
//! for one of another life of the store.
//!
//! An idempotency key and a run are in one script but not always on one shard: the key's record is on the shard that
//! follows from the key, because the same key must be found by submissions that are pinned elsewhere. On one server
//! that is atomic all the same. A Redis Cluster would refuse that call and a wait for inboxes of several shards, so
//! it is refused as a whole.

mod codec;
mod link;
mod listing;
mod scripts;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_protocol::limits::{
    ACTIVE_RUNS_MAX, FINISH_REPORTS_MAX, INBOX_MAX, LEASE_MS, RUN_RECORD_DAYS, RUN_TASKS_MAX, SHARD_LEASE_MS,
};
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId};
use gristmill_protocol::{AttemptRef, Digest, OwnerToken, RunId, Shard, Timestamp, WorkerId, wire};
use redis::{Cmd, Value, cmd};
use tokio::time::Instant;

use self::codec::{Presence, RECORD_FIELDS, Read, attempt_text, inbox_id_text, outcome_text, status_text, token_text};
pub use self::link::ObserveCalls;
use self::link::{Address, Ask, Links};
use self::scripts::{Call, Script};
use super::{
    Append, Claim, ClaimAnswer, Claimed, Created, Document, Finish, FinishAnswer, JournalEntry, LeaseView, NewRun,
    Ownership, Renewal, Renewed, RunFilter, RunPage, RunRecord, SchedulerView, State, StateError, StoreClock,
    WorkerView, page_size,
};

/// Milliseconds for which ended runs and idempotency keys are kept.
const KEEP_MS: u64 = RUN_RECORD_DAYS * 24 * 60 * 60 * 1_000;
/// Attempts of one call whose event has a field for each: a script can hand some 8,000 values to a command.
const EVENT_ATTEMPTS_MAX: usize = 1_000;
/// Entries of one read: more than anybody asks for, and a number that every server takes.
const READ_MAX: usize = 1_000_000;
/// One blocking read. A server that vanished without a word is noticed after this and the time of a call.
const BLOCK_MAX: Duration = Duration::from_secs(5);

/// How to use a server.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// What all keys begin with, so that clusters can share a server.
    pub prefix: String,
    /// Takes a server that may lose data (no append-only file, or one that evicts keys), with a warning.
    pub allow_unsafe: bool,
    /// Who is told of calls.
    pub observer: Option<Arc<dyn ObserveCalls>>,
}

impl Default for RedisOptions {
    fn default() -> RedisOptions {
        RedisOptions { prefix: "gm".to_owned(), allow_unsafe: false, observer: None }
    }
}

/// The state of a cluster on a Redis server.
pub struct RedisState {
    links: Links,
    prefix: Arc<str>,
}

impl RedisState {
    /// Connects to a server: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    ///
    /// # Errors
    /// When the server can't be reached, or must not be the store: it is older than 6.2, has no append-only file
    /// or evicts keys. The error says what to change.
    pub async fn connect(url: &str, options: RedisOptions) -> Result<RedisState, StateError> {
        let links = Links::new(Arc::new(Address::new(url, options.allow_unsafe, options.observer)?));
        links.connect("connect to Redis").await?;
        Ok(RedisState { links, prefix: options.prefix.into() })
    }

    /// The same store over connections of its own, which are opened at its first call, on the runtime of that call.
    pub fn another(&self) -> RedisState {
        RedisState { links: self.links.another(), prefix: Arc::clone(&self.prefix) }
    }

    /// What the keys of a shard begin with.
    fn shard(&self, shard: Shard) -> String {
        self.tag(shard)
    }

    fn tag(&self, tag: impl std::fmt::Display) -> String {
        format!("{}:{{{tag}}}:", self.prefix)
    }

    fn inbox_key(&self, shard: Shard) -> String {
        format!("{}inbox", self.shard(shard))
    }

    fn on_shard(&self, script: &'static Script, shard: Shard) -> Call {
        Call::new(script, self.shard(shard))
    }

    async fn script(&self, verb: &'static str, call: Call) -> Result<Value, StateError> {
        self.links.ask(verb, Ask::Script(call)).await
    }

    async fn command(&self, verb: &'static str, command: Cmd) -> Result<Value, StateError> {
        self.links.ask(verb, Ask::Command(command)).await
    }

    /// A script that only the owner may have run: its answer's word, and the rest.
    async fn as_owner(
        &self,
        verb: &'static str,
        shard: Shard,
        call: Call,
    ) -> Result<(String, std::vec::IntoIter<Value>), StateError> {
        match Read(verb).answer(self.script(verb, call).await?)? {
            (word, _) if word == "deposed" => Err(StateError::Deposed { shard }),
            answer => Ok(answer),
        }
    }

    fn record_command(&self, run: RunId) -> Cmd {
        let mut command = cmd("HMGET");
        command.arg(format!("{}r:{run}", self.shard(run.shard()))).arg(&RECORD_FIELDS);
        command
    }

    fn inbox_command(&self, after: &[(Shard, InboxId)], block: Option<Duration>, limit: usize) -> Cmd {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(limit.min(READ_MAX));
        if let Some(block) = block {
            // Zero would wait for ever.
            command.arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        command.arg("STREAMS");
        for &(shard, _) in after {
            command.arg(self.inbox_key(shard));
        }
        for &(_, id) in after {
            command.arg(inbox_id_text(id));
        }
        command
    }

    fn inbox_entries(
        &self,
        read: Read,
        after: &[(Shard, InboxId)],
        answer: Value,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        let shards: BTreeMap<String, Shard> = after.iter().map(|&(shard, _)| (self.inbox_key(shard), shard)).collect();
        let mut found = Vec::new();
        for (key, entries) in read.streams(answer)? {
            let shard = *shards.get(&key).ok_or_else(|| read.damaged(format!("unexpected stream `{key}`")))?;
            found.extend(entries.into_iter().map(|entry| (shard, entry)));
        }
        Ok(found)
    }

    async fn finish_some(
        &self,
        shard: Shard,
        worker: WorkerId,
        finish: &Finish,
        from: usize,
    ) -> Result<Vec<FinishAnswer>, StateError> {
        let verb = "finish";
        let reports = finish.reports.get(from..).unwrap_or_default();
        let reports = reports.get(..FINISH_REPORTS_MAX).unwrap_or(reports);
        let mut call = self.on_shard(&scripts::FINISH, shard).arg(worker.to_string());
        for report in reports {
            call.push(attempt_text(report.attempt));
            call.push(outcome_text(&report.outcome));
            call.push(wire::encode(report));
        }
        Read(verb).words(self.script(verb, call).await?, reports.len(), |word| match word {
            "recorded" => Some(FinishAnswer::Recorded),
            "stale" => Some(FinishAnswer::Stale),
            "settled" => Some(FinishAnswer::Settled),
            "over" => Some(FinishAnswer::Over),
            _ => None,
        })
    }
}

fn timeout_text(ms: Option<u64>) -> String {
    ms.map(|ms| ms.to_string()).unwrap_or_default()
}

fn inbox_full(shard: Shard, waiting: u64) -> StateError {
    StateError::TooMany { what: format!("the inbox of shard {shard} has {waiting} entries"), limit: INBOX_MAX }
}

#[async_trait]
impl State for RedisState {
    async fn clock(&self) -> Result<StoreClock, StateError> {
        let verb = "read the clock";
        let (mut answers, store) = self.links.ask_all(verb, vec![Ask::Command(cmd("TIME"))]).await?;
        Ok(StoreClock { store, now: Read(verb).time(answers.pop().unwrap_or_default())? })
    }

    async fn own(&self, shard: Shard, token: OwnerToken, ttl: Duration) -> Result<Ownership, StateError> {
        let verb = "own a shard";
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX.unsigned_abs() / 4);
        let call = self.on_shard(&scripts::OWN, shard).arg(token_text(token)).number(ttl);
        let read = Read(verb);
        let (word, mut rest) = read.answer(self.script(verb, call).await?)?;
        match word.as_str() {
            "new" => Ok(Ownership::Owned { new: true }),
            "kept" => Ok(Ownership::Owned { new: false }),
            _ => Ok(Ownership::HeldBy(read.token(rest.next().unwrap_or_default())?)),
        }
    }

    async fn disown(&self, shard: Shard, token: OwnerToken) -> Result<(), StateError> {
        let call = self.on_shard(&scripts::DISOWN, shard).arg(token_text(token));
        self.script("disown a shard", call).await.map(|_| ())
    }

    async fn create_run(&self, new: NewRun) -> Result<Created, StateError> {
        let verb = "make a run";
        let shard = new.run.shard();
        let event = InboxEvent::Created { run: new.run };
        let mut call = self
            .on_shard(&scripts::CREATE, shard)
            .arg(new.run.to_string())
            .arg(new.pipeline)
            .arg(new.namespace.clone())
            .arg(new.entry)
            .arg(wire::encode(&event))
            .number(INBOX_MAX)
            .number(ACTIVE_RUNS_MAX)
            .number(KEEP_MS);
        if let Some((key, submission)) = new.idempotency {
            let home = RunId::derive(Timestamp(0), &new.namespace, &key, None);
            let name = Digest::of(format!("{}:{}{key}", new.namespace.len(), new.namespace).as_bytes());
            call = call.arg(submission.to_string()).key(format!("{}key:{}", self.shard(home.shard()), name.hex()));
        }
        let read = Read(verb);
        let (word, mut rest) = read.answer(self.script(verb, call).await?)?;
        let found = rest.next().unwrap_or_default();
        match word.as_str() {
            "new" => Ok(Created::New),
            "existing" => Ok(Created::Existing(read.run(found)?)),
            "taken" => Ok(Created::KeyTaken(read.run(found)?)),
            "inbox_full" => Err(inbox_full(shard, read.number(found)?)),
            "runs_full" => Err(StateError::TooMany {
                what: format!("shard {shard} has {} active runs", read.number(found)?),
                limit: ACTIVE_RUNS_MAX,
            }),
            other => Err(read.damaged(format!("unexpected {other}"))),
        }
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StateError> {
        let verb = "read a run";
        Read(verb).record(run, self.command(verb, self.record_command(run)).await?)
    }

    async fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError> {
        self.page(&filter.checked()?, before, page_size(limit)).await
    }

    async fn ended_runs(&self, after: (Timestamp, RunId), limit: usize) -> Result<Vec<RunRecord>, StateError> {
        self.ended_after(after, page_size(limit)).await
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRecord>, StateError> {
        let verb = "list open runs";
        let read = Read(verb);
        let found = self.script(verb, self.on_shard(&scripts::OPEN_RUNS, shard)).await?;
        read.list(found)?
            .into_iter()
            .map(|record| {
                let [run, pipeline, namespace, created, head] = read.tuple(record)?;
                Ok(RunRecord {
                    run: read.run(run)?,
                    pipeline: read.text(pipeline)?,
                    namespace: read.text(namespace)?,
                    status: None,
                    created: Timestamp(read.number(created)?),
                    ended: None,
                    head: read.number(head)?,
                })
            })
            .collect()
    }

    async fn post(&self, shard: Shard, event: InboxEvent) -> Result<(), StateError> {
        let verb = "post an event";
        let call = self.on_shard(&scripts::POST, shard).arg(wire::encode(&event)).number(INBOX_MAX);
        let read = Read(verb);
        let (word, mut rest) = read.answer(self.script(verb, call).await?)?;
        if word == "inbox_full" {
            return Err(inbox_full(shard, read.number(rest.next().unwrap_or_default())?));
        }
        Ok(())
    }

    async fn inbox(
        &self,
        after: &[(Shard, InboxId)],
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        let verb = "read an inbox";
        let read = Read(verb);
        if after.is_empty() || limit == 0 {
            tokio::time::sleep(wait).await;
            return Ok(Vec::new());
        }
        if wait.is_zero() {
            let answer = self.command(verb, self.inbox_command(after, None, limit)).await?;
            return self.inbox_entries(read, after, answer);
        }
        let end = Instant::now() + wait;
        loop {
            let block = end.saturating_duration_since(Instant::now()).min(BLOCK_MAX);
            let answer = self.links.wait(verb, &self.inbox_command(after, Some(block), limit), block).await?;
            let found = self.inbox_entries(read, after, answer)?;
            if !found.is_empty() || Instant::now() >= end {
                return Ok(found);
            }
        }
    }

    async fn append(&self, append: Append) -> Result<(), StateError> {
        let verb = "append";
        let mut call = self
            .on_shard(&scripts::APPEND, append.shard)
            .arg(token_text(append.token))
            .number(append.id)
            .number(KEEP_MS)
            .number(RUN_TASKS_MAX)
            .number(append.consumed.len());
        for &id in &append.consumed {
            call.push(inbox_id_text(id));
        }
        let mut places = Vec::with_capacity(append.entries.len());
        for entry in append.entries {
            places.push((entry.run, entry.position));
            call.push(entry.run.to_string());
            call.push(entry.position.to_string());
            call.push(entry.body);
            call.push(status_text(entry.status));
            call.push(entry.settled.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
        }
        let read = Read(verb);
        let (word, mut rest) = self.as_owner(verb, append.shard, call).await?;
        if word == "done" {
            return Ok(());
        }
        let place = read.number(rest.next().unwrap_or_default())?;
        let place = usize::try_from(place).ok().and_then(|place| places.get(place));
        let &(run, position) = place.ok_or_else(|| read.damaged("there is no such entry"))?;
        match word.as_str() {
            "moved" => Err(StateError::Moved {
                run,
                expected: position.saturating_sub(1),
                found: read.number(rest.next().unwrap_or_default())?,
            }),
            "absent" => Err(StateError::NotFound { what: format!("`{run}` in shard {}", append.shard) }),
            "index" => Err(StateError::TooMany {
                what: format!("`{run}` has no task with index {}", read.text(rest.next().unwrap_or_default())?),
                limit: RUN_TASKS_MAX as usize,
            }),
            other => Err(read.damaged(format!("unexpected {other}"))),
        }
    }

    async fn journal(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        let key = format!("{}j:{run}", self.shard(run.shard()));
        self.entries("read a journal", key, after, limit).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StateError> {
        let verb = "claim";
        let mut call = self
            .on_shard(&scripts::CLAIM, claim.shard)
            .arg(claim.worker.to_string())
            .number(LEASE_MS)
            .number(INBOX_MAX);
        for item in &claim.attempts {
            call.push(attempt_text(item.attempt));
            call.push(timeout_text(item.timeout_ms));
        }
        let answer = self.script(verb, call).await?;
        if let Value::Array(words) = &answer
            && matches!(words.as_slice(), [Value::BulkString(word)] if word == b"busy")
        {
            return Ok(Claimed::Busy);
        }
        let answers = Read(verb).words(answer, claim.attempts.len(), |word| match word {
            "granted" => Some(ClaimAnswer::Granted),
            "taken" => Some(ClaimAnswer::Taken),
            "stale" => Some(ClaimAnswer::Stale),
            "over" => Some(ClaimAnswer::Over),
            "settled" => Some(ClaimAnswer::Settled),
            _ => None,
        })?;
        Ok(Claimed::Answers(answers))
    }

    /// One call for each shard on which something is held, and one for the worker, all at once. They aren't one
    /// step together, and needn't be: a lease is renewed by itself.
    async fn renew(&self, renewal: Renewal) -> Result<Renewed, StateError> {
        let verb = "renew";
        let read = Read(verb);
        let worker = renewal.worker.to_string();
        let mut shards: BTreeMap<Shard, (Call, Vec<usize>)> = BTreeMap::new();
        for (place, held) in renewal.held.iter().enumerate() {
            let shard = held.attempt.run.shard();
            let (call, places) = shards.entry(shard).or_insert_with(|| {
                (self.on_shard(&scripts::RENEW, shard).arg(worker.clone()).number(LEASE_MS), Vec::new())
            });
            call.push(attempt_text(held.attempt));
            call.push(timeout_text(held.timeout_left_ms));
            places.push(place);
        }
        let attempts: Vec<AttemptRef> = renewal.held.iter().map(|held| held.attempt).collect();
        let presence = Presence {
            pools: renewal.pools,
            slots: renewal.slots,
            draining: renewal.draining,
            about: renewal.about,
            held: renewal.held.into_iter().map(|held| (held.attempt, held.progress)).collect(),
        };
        let (calls, places): (Vec<Call>, Vec<Vec<usize>>) = shards.into_values().unzip();
        let mut asks: Vec<Ask> = calls.into_iter().map(Ask::Script).collect();
        let call = Call::new(&scripts::PRESENCE, self.tag("workers"));
        asks.push(Ask::Script(call.arg(worker).arg(wire::encode(&presence)).number(LEASE_MS)));

        let (mut answers, store) = self.links.ask_all(verb, asks).await?;
        let now = Timestamp(read.number(answers.pop().unwrap_or_default())?);
        let mut stop = Vec::new();
        for (answer, places) in answers.into_iter().zip(places) {
            let stops = read.words(answer, places.len(), |word| match word {
                "held" => Some(false),
                "stop" => Some(true),
                _ => None,
            })?;
            stop.extend(places.into_iter().zip(stops).filter(|(_, stop)| *stop).map(|(place, _)| place));
        }
        stop.sort_unstable();
        let stop = stop.into_iter().filter_map(|place| attempts.get(place).copied()).collect();
        Ok(Renewed { clock: StoreClock { store, now }, stop })
    }

    /// Reports over the limit of one call go in several, each of which is one step.
    async fn finish(&self, finish: Finish) -> Result<Vec<FinishAnswer>, StateError> {
        let mut answers = Vec::with_capacity(finish.reports.len());
        while answers.len() < finish.reports.len() {
            answers.extend(self.finish_some(finish.shard, finish.worker, &finish, answers.len()).await?);
        }
        Ok(answers)
    }

    async fn expire(&self, shard: Shard, token: OwnerToken, limit: usize) -> Result<usize, StateError> {
        let verb = "expire leases";
        let limit = limit.min(EVENT_ATTEMPTS_MAX);
        let call = self.on_shard(&scripts::EXPIRE, shard).arg(token_text(token)).number(limit);
        let (_, mut rest) = self.as_owner(verb, shard, call).await?;
        let count = Read(verb).number(rest.next().unwrap_or_default())?;
        Ok(usize::try_from(count).unwrap_or(limit))
    }

    /// Attempts over the limit of one call go in several, each of which is one step.
    async fn revoke(&self, shard: Shard, token: OwnerToken, attempts: &[AttemptRef]) -> Result<(), StateError> {
        let mut parts = attempts.chunks(EVENT_ATTEMPTS_MAX);
        // The right is checked with no attempt, too.
        let mut part = parts.next().unwrap_or_default();
        loop {
            let mut call = self.on_shard(&scripts::REVOKE, shard).arg(token_text(token));
            for &attempt in part {
                call.push(attempt_text(attempt));
            }
            self.as_owner("revoke", shard, call).await?;
            match parts.next() {
                Some(next) => part = next,
                None => return Ok(()),
            }
        }
    }

    async fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Result<Vec<LeaseView>, StateError> {
        let verb = "look up leases";
        let mut call = self.on_shard(&scripts::LEASES, shard);
        for &attempt in attempts {
            call.push(attempt_text(attempt));
        }
        Read(verb).views(self.script(verb, call).await?, attempts.len())
    }

    async fn workers(&self) -> Result<Vec<WorkerView>, StateError> {
        let verb = "list workers";
        let read = Read(verb);
        let call = Call::new(&scripts::WORKERS, self.tag("workers")).number(LEASE_MS);
        let mut views = Vec::new();
        for found in read.list(self.script(verb, call).await?)? {
            let [worker, seen, body] = read.tuple(found)?;
            let worker = read.text(worker)?.parse().map_err(|error| read.damaged(error))?;
            let body = read.bytes(body)?;
            let Presence { pools, slots, draining, about, held } =
                wire::decode("a worker's presence", &body).map_err(|error| read.damaged(error))?;
            let seen = Timestamp(read.number(seen)?);
            views.push(WorkerView { worker, pools, slots, draining, about, seen, held });
        }
        views.sort_by_key(|view| view.worker);
        Ok(views)
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StateError> {
        let call = Call::new(&scripts::LEAVE, self.tag("workers")).arg(worker.to_string());
        self.script("forget a worker", call).await.map(|_| ())
    }

    async fn announce(&self, scheduler: SchedulerView) -> Result<Vec<SchedulerView>, StateError> {
        let verb = "announce a scheduler";
        let read = Read(verb);
        let base = self.tag("schedulers");
        // As a number of fixed length, so that the order of texts is that of the numbers.
        let name = format!("{:016x}", scheduler.instance);
        let say = Call::new(&scripts::PRESENCE, base.clone()).arg(name).arg(wire::encode(&scheduler));
        let hear = Call::new(&scripts::WORKERS, base).number(SHARD_LEASE_MS);
        let asks = vec![Ask::Script(say.number(SHARD_LEASE_MS)), Ask::Script(hear)];
        let (mut answers, _) = self.links.ask_all(verb, asks).await?;
        read.schedulers(answers.pop().unwrap_or_default())
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerView>, StateError> {
        let verb = "list schedulers";
        let call = Call::new(&scripts::WORKERS, self.tag("schedulers")).number(SHARD_LEASE_MS);
        Read(verb).schedulers(self.script(verb, call).await?)
    }

    async fn retire(&self, instance: u64) -> Result<(), StateError> {
        let call = Call::new(&scripts::LEAVE, self.tag("schedulers")).arg(format!("{instance:016x}"));
        self.script("forget a scheduler", call).await.map(|_| ())
    }

    async fn get(&self, key: &str) -> Result<Option<Document>, StateError> {
        let verb = "read a document";
        let read = Read(verb);
        let mut command = cmd("HMGET");
        command.arg(format!("{}doc:{key}", self.tag("docs"))).arg(&["v", "b"]);
        match read.tuple(self.command(verb, command).await?)? {
            [Value::Nil, _] => Ok(None),
            [version, body] => Ok(Some(Document { version: read.number(version)?, body: read.bytes(body)? })),
        }
    }

    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError> {
        let verb = "write a document";
        let call = Call::new(&scripts::PUT, self.tag("docs")).arg(key).number(expected).arg(body);
        let read = Read(verb);
        let (word, mut rest) = read.answer(self.script(verb, call).await?)?;
        let version = read.number(rest.next().unwrap_or_default())?;
        if word == "done" { Ok(version) } else { Err(conflict(key, expected, version)) }
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<(), StateError> {
        let verb = "remove a document";
        let call = Call::new(&scripts::DELETE, self.tag("docs")).arg(key).number(expected);
        self.unless_conflict(verb, call, key, expected).await
    }

    async fn keys(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StateError> {
        self.names("list documents", format!("{}keys", self.tag("docs")), prefix, after, limit).await
    }

    async fn log_append(&self, log: &str, position: u64, token: u64, body: Vec<u8>) -> Result<(), StateError> {
        let verb = "append to a log";
        let call = Call::new(&scripts::LOG_APPEND, self.tag("logs")).arg(log).number(position).number(token).arg(body);
        self.unless_conflict(verb, call, log, position.saturating_sub(1)).await
    }

    async fn log_read(&self, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        self.entries("read a log", format!("{}log:{log}", self.tag("logs")), after, limit).await
    }

    async fn logs(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.names("list logs", format!("{}names", self.tag("logs")), prefix, "", READ_MAX).await
    }
}

/// What several verbs of documents and logs share.
impl RedisState {
    async fn unless_conflict(
        &self,
        verb: &'static str,
        call: Call,
        key: &str,
        expected: u64,
    ) -> Result<(), StateError> {
        let read = Read(verb);
        match read.answer(self.script(verb, call).await?)? {
            (word, _) if word == "done" => Ok(()),
            (_, mut rest) => Err(conflict(key, expected, read.number(rest.next().unwrap_or_default())?)),
        }
    }

    /// Entries of a journal or log after a position.
    async fn entries(
        &self,
        verb: &'static str,
        key: String,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let Some(from) = after.checked_add(1).filter(|_| limit > 0) else { return Ok(Vec::new()) };
        let mut command = cmd("XRANGE");
        command.arg(key).arg(format!("{from}-0")).arg("+").arg("COUNT").arg(limit.min(READ_MAX));
        Read(verb).journal(self.command(verb, command).await?)
    }

    /// Names of a list that start with `prefix`, after `after`, in order of their bytes.
    async fn names(
        &self,
        verb: &'static str,
        list: String,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, StateError> {
        let start = if after < prefix || after.is_empty() { format!("[{prefix}") } else { format!("({after}") };
        // No text holds the byte 0xff.
        let end = [b"(", prefix.as_bytes(), b"\xff"].concat();
        let mut command = cmd("ZRANGEBYLEX");
        command.arg(list).arg(start).arg(end).arg("LIMIT").arg(0).arg(limit.min(READ_MAX));
        Read(verb).texts(self.command(verb, command).await?)
    }
}

fn conflict(key: &str, expected: u64, found: u64) -> StateError {
    StateError::Conflict { key: key.to_owned(), expected, found }
}
