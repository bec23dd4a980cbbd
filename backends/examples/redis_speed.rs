//! How fast the verbs are on a Redis server, beside what the server does alone.
//!
//! `cargo run --release -p gristmill-backends --features redis --example redis_speed -- redis://127.0.0.1/`
//! writes keys that begin with `speed-` and the process id, and leaves them there. Each line says the median and the
//! 99th percentile of one call after another, and calls a second with 64 at a time.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_backends::state::redis::{RedisOptions, RedisState};
use gristmill_backends::state::{Append, AppendEntry, Claim, ClaimItem, Finish, NewRun, State, StatusChange};
use gristmill_protocol::message::{Outcome, Report};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};
use redis::aio::MultiplexedConnection;
use serde_bytes::ByteBuf;

const SHARD: Shard = Shard(0);
const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 1 };
const WORKER: WorkerId = WorkerId(1);
const CALLS: u32 = 4_000;
const AT_A_TIME: u32 = 64;

type Outcomes<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcomes<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    let prefix = format!("speed-{}", std::process::id());
    let state = RedisState::connect(
        &url,
        RedisOptions { prefix: prefix.clone(), allow_unsafe: true, ..RedisOptions::default() },
    )
    .await?;
    let state = Arc::new(state);
    state.own(SHARD, OWNER, Duration::from_secs(3_600)).await?;
    let run = RunId::derive(Timestamp(1), "speed", "run", Some(SHARD));
    let (pipeline, namespace) = ("speed".to_owned(), "speed".to_owned());
    state.create_run(NewRun { run, pipeline, namespace, entry: vec![0; 100], idempotency: None }).await?;

    let raw = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    println!("{:<28} {:>9} {:>9} {:>12}", "call", "p50 µs", "p99 µs", "calls/s");
    measure("PING", |_| {
        let mut raw = raw.clone();
        async move { Ok(redis::cmd("PING").exec_async(&mut raw).await?) }
    })
    .await?;
    measure("XADD of 100 bytes", |_| {
        let (mut raw, key) = (raw.clone(), format!("{prefix}-raw"));
        async move { Ok(add(&mut raw, &key).await?) }
    })
    .await?;
    measure("claim of 1", |number| {
        let state = Arc::clone(&state);
        let attempts = vec![ClaimItem { attempt: attempt(run, number), timeout_ms: None }];
        async move { Ok(state.claim(Claim { shard: SHARD, worker: WORKER, attempts }).await.map(|_| ())?) }
    })
    .await?;
    measure("finish of 1", |number| {
        let state = Arc::clone(&state);
        let reports = vec![report(attempt(run, number))];
        async move { Ok(state.finish(Finish { shard: SHARD, worker: WORKER, reports }).await.map(|_| ())?) }
    })
    .await?;
    measure("finish of 64", |number| {
        let state = Arc::clone(&state);
        let first = 100_000 + number * 64;
        let reports = (first..first + 64).map(|index| report(attempt(run, index))).collect();
        async move { Ok(state.finish(Finish { shard: SHARD, worker: WORKER, reports }).await.map(|_| ())?) }
    })
    .await?;
    // One append of a shard is in flight at a time, so calls at a time are to runs of their own.
    let mut runs = Vec::new();
    for number in 0..2 * CALLS {
        let run = RunId::derive(Timestamp(u64::from(number)), "speed", "append", Some(SHARD));
        let (pipeline, namespace) = ("speed".to_owned(), "speed".to_owned());
        state.create_run(NewRun { run, pipeline, namespace, entry: vec![0; 100], idempotency: None }).await?;
        runs.push(run);
    }
    measure("append of 1", |number| {
        let state = Arc::clone(&state);
        let run = runs.get(number as usize).copied();
        async move {
            let run = run.ok_or("there are enough runs")?;
            let (body, settled) = (vec![0; 100], vec![number]);
            let entry = AppendEntry { run, position: 2, body, settled, status: StatusChange::None };
            let append = Append { shard: SHARD, token: OWNER, id: 1, entries: vec![entry], consumed: vec![] };
            Ok(state.append(append).await?)
        }
    })
    .await
}

async fn add(raw: &mut MultiplexedConnection, key: &str) -> redis::RedisResult<()> {
    redis::cmd("XADD").arg(key).arg("*").arg("b").arg(&[0u8; 100][..]).exec_async(raw).await
}

fn attempt(run: RunId, index: u32) -> AttemptRef {
    AttemptRef { run, task: TaskKey { index, tag: 0 }, attempt: 1 }
}

fn report(attempt: AttemptRef) -> Report {
    let outcome = Outcome::Succeeded { output: ByteBuf::from(vec![0; 64]), cached: false };
    Report { attempt, started_us: 0, slot_us: 0, outcome }
}

/// Calls one after another, then some at a time; each call has a number of its own.
async fn measure<F: Future<Output = Outcomes<()>> + Send + 'static>(
    name: &str,
    call: impl Fn(u32) -> F,
) -> Outcomes<()> {
    let mut took = Vec::new();
    for number in 0..CALLS {
        let begun = Instant::now();
        call(number).await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).map_or(0.0, |took| took.as_secs_f64() * 1e6);
    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for number in CALLS..2 * CALLS {
        if running.len() >= AT_A_TIME as usize
            && let Some(ended) = running.join_next().await
        {
            ended??;
        }
        running.spawn(call(number));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let rate = f64::from(CALLS) / begun.elapsed().as_secs_f64();
    println!("{name:<28} {:>9.0} {:>9.0} {rate:>12.0}", at(50), at(99));
    Ok(())
}
