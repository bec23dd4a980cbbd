//! The state on Redis keeps what the seam promises, and what a server's end and return do to it.
//!
//! Each test starts a `redis-server` of its own in a folder of its own, so they need that program alone.

#![cfg(feature = "redis")]

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use expect_test::expect;
use gristmill_backends::conformance::{self, StateFixture};
use gristmill_backends::state::model::Ageing;
use gristmill_backends::state::redis::{RedisOptions, RedisState};
use gristmill_backends::state::{
    Append, AppendEntry, Claim, ClaimAnswer, ClaimItem, Claimed, Created, Finish, FinishAnswer, HeldLease, LeaseView,
    NewRun, Ownership, Progress, Renewal, RunFilter, State, StateError, StatusChange, StatusFilter, StoreClock,
    WorkerAbout,
};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::{ACTIVE_RUNS_MAX, INBOX_MAX, STORE_CALL_MS};
use gristmill_protocol::message::{InboxEvent, InboxId, Outcome, Report};
use gristmill_protocol::{AttemptRef, Digest, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};
use redis::Commands;
use tempfile::TempDir;

const SHARD: Shard = Shard(3);
const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 7 };
const W1: WorkerId = WorkerId(1);
const W2: WorkerId = WorkerId(2);
const HOUR: Duration = Duration::from_secs(3_600);
/// How long a thing may take that has to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const TICK: Duration = Duration::from_millis(20);

/// A server in a folder of its own, which can be killed and started again.
struct Server {
    folder: TempDir,
    port: u16,
    settings: &'static [&'static str],
    child: Option<Child>,
}

impl Server {
    async fn start(settings: &'static [&'static str]) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Server { folder, port: free_port(), settings, child: None };
        server.run().await;
        server
    }

    /// Starts the program and waits until it takes connections.
    async fn run(&mut self) {
        let first = self.child.is_none() && !self.folder.path().join("appendonlydir").exists();
        let end = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(TICK);
        while Instant::now() < end {
            let ended = match &mut self.child {
                Some(child) => child.try_wait().expect("it is ours").is_some(),
                None => true,
            };
            if ended {
                // A connection of another test may have got the port in between.
                self.port = if first { free_port() } else { self.port };
                self.spawn();
            }
            ticks.tick().await;
            if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok() {
                return;
            }
        }
        panic!("`redis-server` doesn't take connections on port {}", self.port);
    }

    fn spawn(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(self.folder.path())
            .args(self.settings)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("can't start `redis-server` ({error}): install the package `redis-server`"));
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Sends a signal with the program `kill`.
    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("`kill` can be run").success());
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn state(&self) -> RedisState {
        RedisState::connect(&self.url(), RedisOptions::default()).await.expect("the server will do")
    }

    fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("the server runs")
    }

    /// The file to which commands are appended.
    fn log(&self) -> PathBuf {
        let folder = self.folder.path().join("appendonlydir");
        let files = std::fs::read_dir(folder).expect("the folder of the append-only file");
        let mut paths = files.map(|entry| entry.expect("readable").path());
        paths.find(|path| path.to_string_lossy().ends_with(".incr.aof")).expect("the append-only file")
    }

    fn log_len(&self) -> u64 {
        self.log().metadata().expect("readable").len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port").port()
}

const SAFE: &[&str] = &["--appendonly", "yes"];
/// For tests that kill the server: while another sync of the disk lasts, `everysec` keeps what it was told in
/// memory for up to 2 s, and a kill forgets it.
const SYNCED: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Looks again and again until there is something; fails when that takes too long.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(TICK);
    while Instant::now() < end {
        ticks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
    }
    panic!("it takes too long until {what}");
}

/// New prefixes on one server.
struct Fixture {
    server: Server,
    made: AtomicU64,
    first: RedisState,
}

#[async_trait]
impl StateFixture for Fixture {
    async fn fresh(&self) -> Arc<dyn State> {
        let prefix = format!("t{}", self.made.fetch_add(1, Ordering::Relaxed));
        let options = RedisOptions { prefix, ..RedisOptions::default() };
        Arc::new(RedisState::connect(&self.server.url(), options).await.expect("the server will do"))
    }

    /// The server's clock is the machine's, so it is waited for, where that isn't too long.
    async fn pass(&self, by: Duration) -> bool {
        if by > Duration::from_secs(15) {
            return false;
        }
        let end = self.first.clock().await.expect("readable").now + by;
        let mut ticks = tokio::time::interval(TICK);
        while self.first.clock().await.expect("readable").now < end {
            ticks.tick().await;
        }
        true
    }

    fn ageing(&self) -> Ageing {
        Ageing::ByTime
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_the_promises_of_a_state() {
    let server = Server::start(SAFE).await;
    let first = server.state().await;
    conformance::state(Arc::new(Fixture { server, made: AtomicU64::new(0), first })).await;
}

fn run_id(number: u64) -> RunId {
    RunId::derive(Timestamp(1_600_000_000_000 + number), "default", "key", Some(SHARD))
}

fn new_run(run: RunId) -> NewRun {
    let idempotency = Some((format!("key of {run}"), Digest::of(b"it")));
    NewRun { run, pipeline: "flights".to_owned(), namespace: "default".to_owned(), entry: b"one".to_vec(), idempotency }
}

fn attempt(run: RunId, index: u32, attempt: u16) -> AttemptRef {
    AttemptRef { run, task: TaskKey { index, tag: 7 }, attempt }
}

fn append(id: u64, entry: AppendEntry, consumed: Vec<InboxId>) -> Append {
    Append { shard: SHARD, token: OWNER, id, entries: vec![entry], consumed }
}

fn entry(run: RunId, position: u64) -> AppendEntry {
    let body = format!("entry {position}").into_bytes();
    AppendEntry { run, position, body, settled: vec![], status: StatusChange::None }
}

fn renewal(worker: WorkerId, held: &[AttemptRef]) -> Renewal {
    let progress = Some(Progress { done: 1, total: None, unit: "rows".to_owned() });
    let hold = |&attempt| HeldLease { attempt, timeout_left_ms: Some(60_000), progress: progress.clone() };
    let held = held.iter().map(hold).collect();
    Renewal {
        worker,
        pools: vec!["default".to_owned()],
        slots: 2,
        draining: false,
        about: WorkerAbout::default(),
        held,
    }
}

async fn claim(state: &RedisState, worker: WorkerId, attempt: AttemptRef) -> ClaimAnswer {
    let attempts = vec![ClaimItem { attempt, timeout_ms: Some(60_000) }];
    match state.claim(Claim { shard: SHARD, worker, attempts }).await.expect("answered") {
        Claimed::Answers(answers) => answers[0],
        Claimed::Busy => panic!("the inbox is far from full"),
    }
}

async fn finish(state: &RedisState, worker: WorkerId, attempt: AttemptRef, outcome: Outcome) -> FinishAnswer {
    let reports = vec![Report { attempt, started_us: 1, slot_us: 2, outcome }];
    state.finish(Finish { shard: SHARD, worker, reports }).await.expect("answered")[0]
}

async fn inbox(state: &RedisState) -> Vec<(InboxId, InboxEvent)> {
    let found = state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 100).await.expect("readable");
    found.into_iter().map(|(_, entry)| (entry.id, entry.event)).collect()
}

fn success() -> Outcome {
    Outcome::Succeeded { output: serde_bytes::ByteBuf::from(b"out".to_vec()), cached: false }
}

/// A shard with an owner and a run.
async fn begun(state: &RedisState) -> RunId {
    let run = run_id(1);
    assert_eq!(state.own(SHARD, OWNER, HOUR).await.expect("answered"), Ownership::Owned { new: true });
    assert_eq!(state.create_run(new_run(run)).await.expect("answered"), Created::New);
    run
}

/// Waits until a server that was started again answers.
async fn back(state: &RedisState) -> StoreClock {
    until("the store answers again", async || {
        // Not only the clock, which a server tells while it reads its file.
        state.run(run_id(1)).await.ok()?;
        state.clock().await.ok()
    })
    .await
}

#[tokio::test]
async fn a_killed_server_comes_back_with_all_it_was_told() {
    let mut server = Server::start(SYNCED).await;
    let state = server.state().await;
    let before = state.clock().await.expect("answered");
    let run = begun(&state).await;
    let held = attempt(run, 0, 1);
    assert_eq!(claim(&state, W1, held).await, ClaimAnswer::Granted);
    state.append(append(9, entry(run, 2), vec![])).await.expect("it follows");
    assert_eq!(state.renew(renewal(W1, &[held])).await.expect("answered").clock.store, before.store);

    server.kill();
    server.run().await;
    let after = back(&state).await;
    assert_ne!(after.store, before.store);
    assert_eq!(state.renew(renewal(W1, &[held])).await.expect("answered").clock.store, after.store);
    assert!(matches!(state.leases(SHARD, &[held]).await.expect("answered")[0], LeaseView::Held(_)));
    assert_eq!(state.own(SHARD, OWNER, HOUR).await.expect("answered"), Ownership::Owned { new: false });
    assert_eq!(state.create_run(new_run(run)).await.expect("answered"), Created::Existing(run));
    // The same append again, as its owner says it when it doesn't know what came of it.
    state.append(append(9, entry(run, 2), vec![])).await.expect("it was done");
    assert_eq!(state.journal(run, 0, 10).await.expect("readable").len(), 2);
    assert_eq!(inbox(&state).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_lost_its_last_second_is_whole_at_an_earlier_time() {
    let mut server = Server::start(SYNCED).await;
    let state = server.state().await;
    let before = state.clock().await.expect("answered").store;
    let run = begun(&state).await;
    let created = inbox(&state).await[0].0;
    let held = attempt(run, 0, 1);
    assert_eq!(claim(&state, W1, held).await, ClaimAnswer::Granted);
    let kept = server.log_len();
    // What follows is one script each, of which the file's end may hold a part.
    let ended = AppendEntry { settled: vec![5], ..entry(run, 2) };
    state.append(append(9, ended, vec![created])).await.expect("it follows");
    let with_append = server.log_len();
    assert_eq!(finish(&state, W1, held, success()).await, FinishAnswer::Recorded);
    let whole = server.log_len();
    assert!(kept < with_append && with_append < whole);

    for (cut, positions, events) in
        [(whole - 1, 2, 0), (with_append + 1, 2, 0), (with_append - 1, 1, 1), (kept + 1, 1, 1)]
    {
        server.kill();
        let log = OpenOptions::new().write(true).open(server.log()).expect("writable");
        log.set_len(cut).expect("it can be cut");
        drop(log);
        server.run().await;
        assert_ne!(back(&state).await.store, before);
        assert_eq!(state.journal(run, 0, 10).await.expect("readable").len(), positions);
        assert_eq!(state.run(run).await.expect("readable").expect("there").head, positions as u64);
        assert_eq!(inbox(&state).await.len(), events);
        assert!(matches!(state.leases(SHARD, &[held]).await.expect("answered")[0], LeaseView::Held(_)));
        let settled = claim(&state, W2, attempt(run, 5, 1)).await;
        assert_eq!(settled == ClaimAnswer::Settled, positions == 2);
        if positions == 1 {
            // Its trace must not meet the next cut.
            assert_eq!(settled, ClaimAnswer::Granted);
            break;
        }
    }
    // Everybody says again what was lost.
    state.append(append(9, entry(run, 2), vec![created])).await.expect("it follows");
    assert_eq!(finish(&state, W1, held, success()).await, FinishAnswer::Recorded);
    assert_eq!(inbox(&state).await.len(), 1);
}

#[tokio::test]
async fn calls_fail_in_time_while_the_server_is_away_and_work_again_after() {
    let mut server = Server::start(SYNCED).await;
    let state = Arc::new(server.state().await);
    let run = begun(&state).await;
    let seen = inbox(&state).await.last().expect("an event").0;
    let waiter = tokio::spawn({
        let state = Arc::clone(&state);
        async move { state.inbox(&[(SHARD, seen)], HOUR, 10).await }
    });
    for gone in [true, false] {
        if gone {
            server.kill();
        } else {
            // A server that takes connections and says nothing.
            server.signal("-STOP");
        }
        for _ in 0..2 {
            let begun = Instant::now();
            let (one, two) = tokio::join!(state.clock(), state.append(append(9, entry(run, 2), vec![])));
            for error in [one.map(|_| ()).expect_err("it is away"), two.expect_err("it is away")] {
                assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
            }
            assert!(begun.elapsed() < Duration::from_millis(STORE_CALL_MS + 1_000));
        }
        if gone {
            server.run().await;
        } else {
            server.signal("-CONT");
        }
        back(&state).await;
        state.append(append(9, entry(run, 2), vec![])).await.expect("it follows, or was done");
    }
    let waited = tokio::time::timeout(PATIENCE, waiter).await.expect("it ends").expect("it doesn't panic");
    assert!(matches!(waited, Err(StateError::Unavailable { .. })), "{waited:?}");
}

#[tokio::test]
async fn a_wait_does_not_hold_up_other_calls_and_can_be_dropped() {
    let server = Server::start(SAFE).await;
    let state = Arc::new(server.state().await);
    let run = begun(&state).await;
    let seen = inbox(&state).await.last().expect("an event").0;
    let wait = |after| {
        let state = Arc::clone(&state);
        tokio::spawn(async move { state.inbox(&[(SHARD, after)], HOUR, 10).await })
    };
    let (first, second) = (wait(seen), wait(seen));
    assert_eq!(claim(&state, W1, attempt(run, 0, 1)).await, ClaimAnswer::Granted);
    first.abort();
    state.post(SHARD, InboxEvent::Cancel { run, by: "me".to_owned() }).await.expect("posted");
    let found = tokio::time::timeout(PATIENCE, second).await.expect("it is woken").expect("it ends");
    assert_eq!(found.expect("readable").len(), 1);
}

#[tokio::test]
async fn heartbeats_of_another_runtime_have_their_own_connections() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let run = begun(&state).await;
    let held = attempt(run, 0, 1);
    assert_eq!(claim(&state, W1, held).await, ClaimAnswer::Granted);
    let beside = state.another();
    // This thread is blocked meanwhile, and with it the runtime of the first connections.
    let renewed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(beside.renew(renewal(W1, &[held])))
    })
    .join();
    assert_eq!(renewed.expect("it doesn't panic").expect("answered").stop, []);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let run = begun(&state).await;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).expect("flushed");
    assert_eq!(claim(&state, W1, attempt(run, 0, 1)).await, ClaimAnswer::Granted);
}

#[tokio::test]
async fn a_server_that_may_lose_data_is_refused() {
    let volatile = Server::start(&["--appendonly", "no"]).await;
    let error = RedisState::connect(&volatile.url(), RedisOptions::default()).await.err().expect("refused");
    expect!["the Redis server (its append-only file is off) can't be the store: set `appendonly yes` in `redis.conf`, or allow an unsafe store"]
        .assert_eq(&error.to_string());
    let allowed = RedisOptions { allow_unsafe: true, ..RedisOptions::default() };
    RedisState::connect(&volatile.url(), allowed).await.expect("it is allowed");

    let unsynced = Server::start(&["--appendonly", "yes", "--appendfsync", "no"]).await;
    let error = RedisState::connect(&unsynced.url(), RedisOptions::default()).await.err().expect("refused");
    assert!(error.to_string().contains("set `appendfsync everysec`"), "{error}");

    let evicting = Server::start(&["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"]).await;
    let error = RedisState::connect(&evicting.url(), RedisOptions::default()).await.err().expect("refused");
    assert!(error.to_string().contains("set `maxmemory-policy noeviction`"), "{error}");

    let nowhere = RedisState::connect("http://localhost", RedisOptions::default()).await.err().expect("refused");
    assert!(nowhere.to_string().contains("write it as `redis://host:port/`"), "{nowhere}");
    let nobody = RedisState::connect("redis://127.0.0.1:1/", RedisOptions::default()).await.err().expect("refused");
    assert!(matches!(nobody, StateError::Unavailable { .. }), "{nobody}");
}

/// All keys with what they hold; times as `T`, so that it is the same each time.
fn dump(server: &Server) -> String {
    let mut client = server.client();
    let mut keys: Vec<String> = client.keys("*").expect("readable");
    keys.sort_unstable();
    let mut text = String::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut client).expect("readable");
        let mut command = match kind.as_str() {
            "string" => redis::cmd("GET"),
            "hash" => redis::cmd("HGETALL"),
            "zset" => redis::cmd("ZRANGE"),
            _ => redis::cmd("XRANGE"),
        };
        command.arg(&key);
        match kind.as_str() {
            "zset" => command.arg(0).arg(-1).arg("WITHSCORES"),
            "stream" => command.arg("-").arg("+"),
            _ => &mut command,
        };
        let value: redis::Value = command.query(&mut client).expect("readable");
        let expires: i64 = client.pttl(&key).expect("readable");
        let expires = if expires > 0 { " (expires)" } else { "" };
        let fields = if kind == "hash" { sorted(&value) } else { plain(&value) };
        text += &format!("{key} {kind}{expires}:{fields}\n");
    }
    // Two events of one millisecond differ in what follows the time.
    timeless(&text).replace("T-1", "T-0")
}

/// The fields of a hash, which have no order.
fn sorted(hash: &redis::Value) -> String {
    let redis::Value::Array(values) = hash else { return plain(hash) };
    let mut fields: Vec<String> = values.chunks(2).map(|pair| pair.iter().map(plain).collect()).collect();
    fields.sort_unstable();
    fields.concat()
}

fn plain(value: &redis::Value) -> String {
    match value {
        redis::Value::Array(values) => values.iter().map(plain).collect(),
        redis::Value::BulkString(bytes) => format!(" {}", bytes.escape_ascii()),
        other => format!(" {other:?}"),
    }
}

/// Numbers of 13 digits are times of these decades.
fn timeless(text: &str) -> String {
    let mut found = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        if digits.len() == 13 {
            found += "T";
            found += &part[13..];
        } else {
            found += part;
        }
    }
    found
}

#[tokio::test]
async fn the_scripts_leave_these_keys() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let run = begun(&state).await;
    let created = inbox(&state).await[0].0;
    for (worker, held) in [(W1, attempt(run, 0, 1)), (W2, attempt(run, 0, 2)), (W1, attempt(run, 16, 1))] {
        assert_eq!(claim(&state, worker, held).await, ClaimAnswer::Granted);
    }
    state.renew(renewal(W2, &[attempt(run, 0, 2)])).await.expect("answered");
    assert_eq!(finish(&state, W1, attempt(run, 0, 1), success()).await, FinishAnswer::Recorded);
    state.revoke(SHARD, OWNER, &[attempt(run, 16, 1), attempt(run, 17, 1)]).await.expect("the owner may");
    let settled = AppendEntry { settled: vec![9], ..entry(run, 2) };
    state.append(append(u64::MAX, settled, vec![created])).await.expect("it follows");
    state.put("a document", 0, b"body".to_vec()).await.expect("it is new");
    state.log_append("a log", 1, 77, b"first".to_vec()).await.expect("it is new");
    expect![[r#"
        gm:{3}:due zset: run-0174876e800172508b3dde21b9edb7f3:00000000:00000007:0002 T
        gm:{3}:inbox stream: T-0 at T kind finished worker w-0000000000000001 report \x01\x84\xa7attempt\x83\xa3run\xd9$run-0174876e800172508b3dde21b9edb7f3\xa4task\x82\xa5index\x00\xa3tag\x07\xa7attempt\x01\xaastarted_us\x01\xa7slot_us\x02\xa7outcome\x81\xa9succeeded\x82\xa6output\xc4\x03out\xa6cached\xc2 T-0 at T kind revoked run-0174876e800172508b3dde21b9edb7f3:00000010:00000007:0001 w-0000000000000001 T run-0174876e800172508b3dde21b9edb7f3:00000011:00000007:0001 
        gm:{3}:j:run-0174876e800172508b3dde21b9edb7f3 stream: 1-0 a 0 t T b one 2-0 a 18446744073709551615 t T b entry 2
        gm:{3}:ok:run-0174876e800172508b3dde21b9edb7f3 string: \x00@
        gm:{3}:open zset: run-0174876e800172508b3dde21b9edb7f3 2
        gm:{3}:owner string (expires): 1-7
        gm:{3}:r:run-0174876e800172508b3dde21b9edb7f3 hash: append 18446744073709551615 created T head 2 namespace default pipeline flights settled_at T status open
        gm:{3}:runs zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:filled string: all
        gm:{3}:runs:namespace:default zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:pipeline:flights zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:status:open zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:t:run-0174876e800172508b3dde21b9edb7f3 hash: 00000000 00000007,0002,o,w-0000000000000002,T,T,T,0001:w-0000000000000001:p 00000010 00000007,0001,r,w-0000000000000001,T,,, 00000011 00000007,0001,r,,T,,,
        gm:{8}:key:d72a192a2e354f2741ff0b98aaeda6733d1b425f084ab5d8a96752fe012a458e string (expires): run-0174876e800172508b3dde21b9edb7f3 sha256:2ad8a7049d7c5511ac254f5f51fe70a046ebd884729056f0fe57f5160d467153
        gm:{docs}:doc:a document hash: b body v 1
        gm:{docs}:keys zset: a document 0
        gm:{docs}:version string: 1
        gm:{logs}:log:a log stream: 1-0 a 77 t T b first
        gm:{logs}:names zset: a log 0
        gm:{workers}:seen zset: w-0000000000000002 T
        gm:{workers}:view hash: w-0000000000000002 \x01\x85\xa5pools\x91\xa7default\xa5slots\x02\xa8draining\xc2\xa5about\x84\xa6labels\x80\xa4host\xa0\xa3pid\x00\xa5reads\x00\xa4held\x91\x92\x83\xa3run\xd9$run-0174876e800172508b3dde21b9edb7f3\xa4task\x82\xa5index\x00\xa3tag\x07\xa7attempt\x02\x83\xa4done\x01\xa5total\xc0\xa4unit\xa4rows
    "#]].assert_eq(&dump(&server));

    let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Failed), ..entry(run, 3) };
    state.append(append(3, ended, vec![])).await.expect("it follows");
    expect![[r#"
        gm:{3}:ended zset: run-0174876e800172508b3dde21b9edb7f3 7 defaultflights T
        gm:{3}:j:run-0174876e800172508b3dde21b9edb7f3 stream (expires): 1-0 a 0 t T b one 2-0 a 18446744073709551615 t T b entry 2 3-0 a 3 t T b entry 3
        gm:{3}:owner string (expires): 1-7
        gm:{3}:r:run-0174876e800172508b3dde21b9edb7f3 hash (expires): append 3 created T ended T head 3 namespace default pipeline flights settled_at T status failed
        gm:{3}:runs zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:filled string: all
        gm:{3}:runs:namespace:default zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:pipeline:flights zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:status:failed zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:t:run-0174876e800172508b3dde21b9edb7f3 hash (expires): 00000000 00000007,0002,x,w-0000000000000002,T,,,0001:w-0000000000000001:p 00000010 00000007,0001,r,w-0000000000000001,T,,, 00000011 00000007,0001,r,,T,,,
    "#]].assert_eq(&keys_of_run(&server));

    let reopened = AppendEntry { status: StatusChange::Reopened, ..entry(run, 4) };
    state.append(append(4, reopened, vec![])).await.expect("it follows");
    expect![[r#"
        gm:{3}:j:run-0174876e800172508b3dde21b9edb7f3 stream: 1-0 a 0 t T b one 2-0 a 18446744073709551615 t T b entry 2 3-0 a 3 t T b entry 3 4-0 a 4 t T b entry 4
        gm:{3}:open zset: run-0174876e800172508b3dde21b9edb7f3 4
        gm:{3}:owner string (expires): 1-7
        gm:{3}:r:run-0174876e800172508b3dde21b9edb7f3 hash: append 4 created T head 4 namespace default pipeline flights settled_at T status open
        gm:{3}:runs zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:filled string: all
        gm:{3}:runs:namespace:default zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:pipeline:flights zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:runs:status:open zset: run-0174876e800172508b3dde21b9edb7f3 0
        gm:{3}:t:run-0174876e800172508b3dde21b9edb7f3 hash: 00000000 00000007,0002,x,w-0000000000000002,T,,,0001:w-0000000000000001:p 00000010 00000007,0001,r,w-0000000000000001,T,,, 00000011 00000007,0001,r,,T,,,
    "#]].assert_eq(&keys_of_run(&server));
}

/// The keys of a shard that change when a run ends.
fn keys_of_run(server: &Server) -> String {
    let all = dump(server);
    let kept =
        all.split_inclusive('\n').filter(|line| line.starts_with("gm:{3}:") && !line.starts_with("gm:{3}:inbox"));
    kept.collect()
}

#[tokio::test]
async fn a_full_inbox_grants_no_claims_and_takes_reports_still() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let run = begun(&state).await;
    assert_eq!(claim(&state, W1, attempt(run, 0, 1)).await, ClaimAnswer::Granted);
    let fill = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'at', '0', 'kind', 'expired') end";
    redis::cmd("EVAL")
        .arg(fill)
        .arg(&[1])
        .arg("gm:{3}:inbox")
        .arg(INBOX_MAX - 1)
        .exec(&mut server.client())
        .expect("filled");
    let attempts = vec![ClaimItem { attempt: attempt(run, 1, 1), timeout_ms: None }];
    let busy = state.claim(Claim { shard: SHARD, worker: W1, attempts }).await.expect("answered");
    assert_eq!(busy, Claimed::Busy);
    let event = InboxEvent::Cancel { run, by: "me".to_owned() };
    for error in [
        state.post(SHARD, event).await.expect_err("there is no room"),
        state.create_run(new_run(run_id(2))).await.map(|_| ()).expect_err("there is no room"),
    ] {
        assert_eq!(error.to_string(), "the inbox of shard 3 has 100000 entries; the limit is 100000");
    }
    assert_eq!(finish(&state, W1, attempt(run, 0, 1), success()).await, FinishAnswer::Recorded);
}

#[tokio::test]
async fn ids_of_events_go_up_though_the_clock_went_back() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let run = begun(&state).await;
    let ahead = InboxId { ms: 9_999_999_999_999, seq: 0 };
    let event = ["gm:{3}:inbox", "9999999999999-0", "at", "0", "kind", "expired"];
    redis::cmd("XADD").arg(&event).exec(&mut server.client()).expect("added");
    let all = inbox(&state).await.into_iter().map(|(id, _)| id).collect();
    state.append(append(1, entry(run, 2), all)).await.expect("it follows");
    assert_eq!(inbox(&state).await, []);
    assert_eq!(finish(&state, W1, attempt(run, 0, 1), success()).await, FinishAnswer::Recorded);
    let after = state.inbox(&[(SHARD, ahead)], PATIENCE, 10).await.expect("readable");
    assert_eq!(after.iter().map(|(_, entry)| entry.id).collect::<Vec<_>>(), [InboxId { seq: 1, ..ahead }]);
}

#[tokio::test]
async fn a_shard_has_a_limit_of_active_runs() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let fill = "for i = 1, ARGV[1] do redis.call('ZADD', KEYS[1], 1, 'run-' .. i) end";
    redis::cmd("EVAL")
        .arg(fill)
        .arg(&[1])
        .arg("gm:{3}:open")
        .arg(ACTIVE_RUNS_MAX)
        .exec(&mut server.client())
        .expect("filled");
    let error = state.create_run(new_run(run_id(1))).await.expect_err("there is no room");
    assert_eq!(error.to_string(), "shard 3 has 10000 active runs; the limit is 10000");
    assert_eq!(state.run(run_id(1)).await.expect("readable"), None);
}

#[tokio::test]
async fn runs_whose_days_are_over_are_not_listed() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let old = begun(&state).await;
    let (middle, new) = (run_id(2), run_id(3));
    state.create_run(new_run(middle)).await.expect("answered");
    let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Succeeded), ..entry(middle, 2) };
    state.append(append(1, ended, vec![])).await.expect("it follows");
    // As if its keys had expired.
    let mut client = server.client();
    let _: () = client.del(format!("gm:{{3}}:r:{middle}")).expect("removed");
    let _: () = client.zadd("gm:{3}:ended", format!("{middle} 7 defaultflights"), 1).expect("changed");
    state.create_run(new_run(new)).await.expect("answered");
    let _: () = client.zadd("gm:{3}:runs", run_id(4).to_string(), 0).expect("changed");
    let listed = state.runs(None, 2).await.expect("readable");
    assert_eq!(listed.iter().map(|record| record.run).collect::<Vec<_>>(), [new, old]);
    let mut lists: Vec<String> = client.keys("gm:{3}:runs*").expect("readable");
    lists.retain(|list| list != "gm:{3}:runs:filled");
    assert_eq!(lists.len(), 4, "{lists:?}");
    for list in lists {
        let names: Vec<String> = client.zrange(&list, 0, -1).expect("readable");
        assert!(!names.contains(&middle.to_string()) && names.contains(&new.to_string()), "{list}: {names:?}");
    }
    assert_eq!(client.zcard("gm:{3}:ended"), Ok(0));
}

/// An earlier version kept one list of runs, and ended ones under their ids alone.
#[tokio::test]
async fn runs_of_an_earlier_version_are_found_by_filters() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let first = begun(&state).await;
    let all: Vec<RunId> = (1..=900).map(run_id).collect();
    for &run in &all[1..] {
        let namespace = if run == run_id(700) { "other" } else { "default" };
        let new = NewRun { namespace: namespace.to_owned(), ..new_run(run) };
        state.create_run(new).await.expect("answered");
    }
    let end = |id, run, position| {
        let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Failed), ..entry(run, position) };
        append(id, ended, vec![])
    };
    for (id, number) in [(1, 5), (2, 899)] {
        state.append(end(id, run_id(number), 2)).await.expect("it follows");
    }
    let mut client = server.client();
    let lists: Vec<String> = client.keys("gm:{3}:runs:*").expect("readable");
    let _: () = client.del(lists).expect("removed");
    let ended: Vec<(String, u64)> = client.zrange_withscores("gm:{3}:ended", 0, -1).expect("readable");
    for (member, at) in ended {
        let _: () = client.zrem("gm:{3}:ended", &member).expect("changed");
        let _: () = client.zadd("gm:{3}:ended", &member[..36], at).expect("changed");
    }

    // Things go on before anybody asks for a filter.
    state.append(end(3, first, 2)).await.expect("it follows");
    let reopened = AppendEntry { status: StatusChange::Reopened, ..entry(run_id(899), 3) };
    state.append(append(4, reopened, vec![])).await.expect("it follows");
    let new = run_id(1_000);
    state.create_run(new_run(new)).await.expect("answered");
    let ends = until("the ends are told", async || {
        let ended = state.ended_runs((Timestamp(0), run_id(0)), 10).await.expect("readable");
        (ended.len() == 2).then_some(ended)
    });
    let ends: Vec<RunId> = ends.await.iter().map(|record| record.run).collect();
    assert_eq!(ends, [run_id(5), first]);

    let find = async |filter: &RunFilter| {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = state.find_runs(filter, before, 1_000).await.expect("readable");
            found.extend(page.records.iter().map(|record| record.run));
            if page.next.is_none() {
                return found;
            }
            before = page.next;
        }
    };
    let all = RunFilter::default();
    let open = RunFilter { status: Some(StatusFilter::Open), ..all.clone() };
    let failed = RunFilter { status: Some(StatusFilter::Ended(RunStatus::Failed)), ..all.clone() };
    let other = RunFilter { namespaces: Some(vec!["other".to_owned()]), ..all.clone() };
    let flights = RunFilter { pipeline: Some("flights".to_owned()), ..all };
    // While lists are filled and after, filters find the same. A call fills a bounded part.
    state.find_runs(&other, None, 10).await.expect("readable");
    let mut filled: String = client.get("gm:{3}:runs:filled").expect("it was begun");
    assert_ne!(filled, "all");
    let mut rounds = 0;
    while filled != "all" || rounds < 2 {
        assert_eq!(find(&other).await, [run_id(700)]);
        assert_eq!(find(&failed).await, [run_id(5), first]);
        assert_eq!((find(&open).await.len(), find(&flights).await.len()), (899, 901));
        filled = client.get("gm:{3}:runs:filled").expect("it was begun");
        rounds += 1;
        assert!(rounds < 20, "the lists aren't filled: {filled}");
    }
    // From now on all is as if it had been made by this version.
    let ended: Vec<String> = client.zrange("gm:{3}:ended", 0, -1).expect("readable");
    assert_eq!(ended, [format!("{} 7 defaultflights", run_id(5)), format!("{first} 7 defaultflights")]);
}

#[tokio::test]
async fn many_attempts_go_in_several_calls() {
    let server = Server::start(SAFE).await;
    let state = server.state().await;
    let run = begun(&state).await;
    let created = inbox(&state).await.len();
    let attempts: Vec<AttemptRef> = (0..2_500).map(|index| attempt(run, index, 1)).collect();
    let items = attempts.iter().map(|&attempt| ClaimItem { attempt, timeout_ms: Some(1) }).collect();
    let Claimed::Answers(answers) =
        state.claim(Claim { shard: SHARD, worker: W1, attempts: items }).await.expect("answered")
    else {
        panic!("the inbox is empty");
    };
    assert!(answers.iter().all(|&answer| answer == ClaimAnswer::Granted) && answers.len() == attempts.len());
    let report = |&attempt| Report { attempt, started_us: 0, slot_us: 0, outcome: success() };
    let reports = attempts[..600].iter().map(report).collect();
    let answers = state.finish(Finish { shard: SHARD, worker: W1, reports }).await.expect("answered");
    assert_eq!(answers, [FinishAnswer::Recorded; 600]);
    let ended = until("all leases have ended", async || {
        let ended = state.expire(SHARD, OWNER, usize::MAX).await.expect("the owner may");
        (ended > 0).then_some(ended)
    });
    assert_eq!(ended.await, 1_000);
    state.revoke(SHARD, OWNER, &attempts).await.expect("the owner may");
    let counts: Vec<usize> = inbox(&state).await[created..]
        .iter()
        .map(|(_, event)| match event {
            InboxEvent::Finished { reports, .. } => reports.len(),
            InboxEvent::Expired { ended } => ended.len(),
            InboxEvent::Revoked { ended } => ended.len(),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(counts, [256, 256, 88, 1_000, 1_000, 1_000, 500]);
}
