//! How fast the embedded store is on this machine:
//! `cargo run --release -p gristmill-backends --example store_speed [FOLDER]`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::broker::embedded::EmbeddedBroker;
use gristmill_backends::broker::{Broker, Message};
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_backends::state::{Append, AppendEntry, Claim, ClaimItem, Finish, NewRun, State, StatusChange};
use gristmill_protocol::message::{InboxId, Outcome, Report};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};
use serde_bytes::ByteBuf;

const SHARD: Shard = Shard(3);
const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 1 };

type Outcomes = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcomes {
    let root = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(root)?;
    appends(folder.path(), Synchronous::Normal, 100, 50_000).await?;
    appends(folder.path(), Synchronous::Normal, 8_000, 20_000).await?;
    appends(folder.path(), Synchronous::Full, 100, 1_000).await?;
    turns(folder.path()).await?;
    hops().await?;
    puts(folder.path()).await
}

async fn open(
    folder: &Path,
    name: &str,
    synchronous: Synchronous,
) -> Result<(EmbeddedState, RunId), Box<dyn std::error::Error>> {
    let state = EmbeddedState::open(&folder.join(name), synchronous)?;
    state.own(SHARD, OWNER, Duration::from_secs(3_600)).await?;
    let run = RunId::derive(Timestamp(1), "default", name, Some(SHARD));
    let pipeline = "speed".to_owned();
    state
        .create_run(NewRun { run, pipeline, namespace: "default".to_owned(), entry: vec![1], idempotency: None })
        .await?;
    Ok((state, run))
}

fn entry(run: RunId, position: u64, bytes: usize) -> AppendEntry {
    AppendEntry { run, position, body: vec![7; bytes], settled: vec![], status: StatusChange::None }
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    let all: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what:<52} {:>9.0}/s  p50 {:>9.1?}  p99 {:>9.1?}  max {:>9.1?}",
        times.len() as f64 / all.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

async fn appends(folder: &Path, synchronous: Synchronous, bytes: usize, count: u64) -> Outcomes {
    let (state, run) = open(folder, &format!("{synchronous:?}-{bytes}"), synchronous).await?;
    let mut times = Vec::new();
    for position in 2..count + 2 {
        let entries = vec![entry(run, position, bytes)];
        let append = Append { shard: SHARD, token: OWNER, id: position, entries, consumed: vec![] };
        let start = Instant::now();
        state.append(append).await?;
        times.push(start.elapsed());
    }
    print_times(&format!("appends of one entry of {bytes} bytes at {synchronous:?}"), times);
    Ok(())
}

/// Claim 256, finish them in one call, take the report from the inbox, append what it says.
async fn turns(folder: &Path) -> Outcomes {
    let (state, run) = open(folder, "turns", Synchronous::Normal).await?;
    let worker = WorkerId(1);
    let mut seen = InboxId::default();
    let (mut claims, mut finishes, mut inboxes, mut appends) = (vec![], vec![], vec![], vec![]);
    for turn in 0..1_000u32 {
        let attempts: Vec<AttemptRef> = (turn * 256..(turn + 1) * 256)
            .map(|index| AttemptRef { run, task: TaskKey { index, tag: 1 }, attempt: 1 })
            .collect();
        let items = attempts.iter().map(|&attempt| ClaimItem { attempt, timeout_ms: Some(60_000) }).collect();
        let claim = Claim { shard: SHARD, worker, attempts: items };
        let start = Instant::now();
        state.claim(claim).await?;
        claims.push(start.elapsed());

        let outcome = Outcome::Succeeded { output: ByteBuf::from(vec![1; 32]), cached: false };
        let report = |&attempt: &AttemptRef| Report { attempt, started_us: 1, slot_us: 1, outcome: outcome.clone() };
        let finish = Finish { shard: SHARD, worker, reports: attempts.iter().map(report).collect() };
        let start = Instant::now();
        state.finish(finish).await?;
        finishes.push(start.elapsed());

        let start = Instant::now();
        let found = state.inbox(&[(SHARD, seen)], Duration::ZERO, 1_000).await?;
        inboxes.push(start.elapsed());
        let consumed: Vec<InboxId> = found.iter().map(|(_, entry)| entry.id).collect();
        seen = consumed.last().copied().unwrap_or(seen);

        let position = u64::from(turn) + 2;
        let settled = attempts.iter().map(|attempt| attempt.task.index).collect();
        let entries = vec![AppendEntry { settled, ..entry(run, position, 256 * 12) }];
        let append = Append { shard: SHARD, token: OWNER, id: position, entries, consumed };
        let start = Instant::now();
        state.append(append).await?;
        appends.push(start.elapsed());
    }
    print_times("claims of 256 attempts", claims);
    print_times("finishes of 256 attempts", finishes);
    print_times("looks into the inbox with 256 reports", inboxes);
    print_times("appends of what they say (3 KiB, 256 settled)", appends);
    Ok(())
}

/// From a publish to the delivery in another task.
async fn hops() -> Outcomes {
    let broker = EmbeddedBroker::new();
    let mut consumer = broker.consume("pool", 1).await?;
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(delivery) = consumer.next().await {
            let at = Instant::now();
            delivery.ack();
            if sender.send(at).await.is_err() {
                return;
            }
        }
    });
    let message = Message { content_type: "a".to_owned(), id: "1".to_owned(), traceparent: None, body: Bytes::new() };
    let mut times = Vec::new();
    for _ in 0..20_000 {
        let start = Instant::now();
        broker.publish("pool", message.clone()).await?;
        times.push(seen.recv().await.ok_or("the consumer ended")?.saturating_duration_since(start));
    }
    print_times("deliveries to another task, from the publish", times);
    Ok(())
}

async fn puts(folder: &Path) -> Outcomes {
    let artifacts = DirectoryArtifacts::open(&folder.join("artifacts"))?;
    for (bytes, count) in [(1_000, 500u32), (64 << 10, 200), (16 << 20, 10)] {
        let (mut puts, mut again, mut gets) = (vec![], vec![], vec![]);
        for number in 0..count {
            let mut body = vec![0; bytes];
            body[..4].copy_from_slice(&number.to_be_bytes());
            let body = Bytes::from(body);
            let start = Instant::now();
            let digest = artifacts.put(body.clone()).await?;
            puts.push(start.elapsed());
            let start = Instant::now();
            artifacts.put(body).await?;
            again.push(start.elapsed());
            let start = Instant::now();
            artifacts.get(digest).await?;
            gets.push(start.elapsed());
        }
        print_times(&format!("artifacts of {bytes} bytes put"), puts);
        print_times(&format!("artifacts of {bytes} bytes put again"), again);
        print_times(&format!("artifacts of {bytes} bytes read and checked"), gets);
    }
    Ok(())
}
