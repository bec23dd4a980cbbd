//! How fast lists of runs are when there are many:
//! `cargo run --release -p gristmill-backends --features redis --example listing_speed -- [RUNS [redis://HOST:PORT/ [PREFIX]]]`.
//!
//! Without an address it makes the runs (a million if not said otherwise) in a home in the folder for temporary files.
//! On a server it writes keys that begin with `listing-` and the process id, and leaves them there; with a prefix it
//! looks at what was made under that. Each line says the times of many calls for a page of 50 from some place: what fits is common, rare or nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_backends::state::redis::{RedisOptions, RedisState};
use gristmill_backends::state::{
    Append, AppendEntry, NewRun, RunFilter, State, StateError, StatusChange, StatusFilter,
};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::InboxId;
use gristmill_protocol::{OwnerToken, RunId, Shard, Timestamp};
use tokio::task::JoinSet;

const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 1 };
const AT_A_TIME: u64 = 2_000;
const PAGE: usize = 50;
const CALLS: u64 = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let (url, made) = (args.next(), args.next());
    let state: Arc<dyn State> = match url {
        Some(url) => {
            let prefix = made.clone().unwrap_or_else(|| format!("listing-{}", std::process::id()));
            println!("prefix {prefix}");
            Arc::new(
                RedisState::connect(&url, RedisOptions { prefix, allow_unsafe: true, ..RedisOptions::default() })
                    .await?,
            )
        }
        None => Arc::new(EmbeddedState::open(folder.path(), Synchronous::Normal)?),
    };
    if made.is_none() {
        make_all(&state, count).await?;
    }
    lists(&*state, count).await?;
    ends(&*state).await
}

async fn make_all(state: &Arc<dyn State>, count: u64) -> Result<(), Box<dyn Error>> {
    for shard in Shard::all() {
        state.own(shard, OWNER, Duration::from_secs(86_400)).await?;
    }
    let start = Instant::now();
    let mut seen = BTreeMap::new();
    for first in (0..count).step_by(usize::try_from(AT_A_TIME)?) {
        make(state, first..(first + AT_A_TIME).min(count), &mut seen).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{count} runs made and ended in {seconds:.0} s: {:.0}/s", count as f64 / seconds);
    Ok(())
}

fn run_of(number: u64) -> RunId {
    RunId::derive(Timestamp(1_700_000_000_000 + number), "speed", "listing", None)
}

/// A number that has nothing in common with its neighbours (the finalizer of SplitMix64, Steele et al. 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Half of the runs are `team-0`'s, a quarter `team-1`'s and so on; pipelines likewise, by other bits.
fn new_run(number: u64) -> NewRun {
    let bits = mixed(number + 1);
    let namespace = format!("team-{}", (bits & 0xffff).trailing_zeros());
    let pipeline = format!("pipeline-{}", (bits >> 16 & 0xffff).trailing_zeros());
    NewRun { run: run_of(number), pipeline, namespace, entry: vec![7; 200], idempotency: None }
}

/// One in a thousand stays open, one in a hundred fails, one in ten thousand is cancelled.
fn end_of(number: u64) -> Option<RunStatus> {
    match mixed(number + 1) >> 32 {
        bits if bits % 1_000 == 0 => None,
        bits if bits % 100 == 1 => Some(RunStatus::Failed),
        bits if bits % 10_000 == 2 => Some(RunStatus::Cancelled),
        _ => Some(RunStatus::Succeeded),
    }
}

/// Makes some runs, and ends them with one append a shard.
async fn make(
    state: &Arc<dyn State>,
    numbers: std::ops::Range<u64>,
    seen: &mut BTreeMap<Shard, InboxId>,
) -> Result<(), Box<dyn Error>> {
    let mut creates: JoinSet<Result<(), StateError>> = JoinSet::new();
    for number in numbers.clone() {
        let state = Arc::clone(state);
        creates.spawn(async move { state.create_run(new_run(number)).await.map(|_| ()) });
    }
    while let Some(created) = creates.join_next().await {
        created??;
    }
    let mut entries: BTreeMap<Shard, Vec<AppendEntry>> = BTreeMap::new();
    for number in numbers.clone() {
        if let Some(status) = end_of(number) {
            let (run, status) = (run_of(number), StatusChange::Ended(status));
            let entry = AppendEntry { run, position: 2, body: vec![7; 200], settled: vec![], status };
            entries.entry(run.shard()).or_default().push(entry);
        }
    }
    for (shard, entries) in entries {
        let after = seen.get(&shard).copied().unwrap_or_default();
        let inbox = state.inbox(&[(shard, after)], Duration::ZERO, 10_000).await?;
        let consumed: Vec<InboxId> = inbox.iter().map(|(_, entry)| entry.id).collect();
        seen.extend(consumed.last().map(|&last| (shard, last)));
        state.append(Append { shard, token: OWNER, id: numbers.start, entries, consumed }).await?;
    }
    Ok(())
}

async fn lists(state: &dyn State, count: u64) -> Result<(), Box<dyn Error>> {
    let namespaces = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    let pipeline = |name: &str| Some(name.to_owned());
    let open = Some(StatusFilter::Open);
    let ended = |status| Some(StatusFilter::Ended(status));
    let all = RunFilter::default();
    let many: Vec<String> = (0..20).map(|number| format!("team-{number}")).collect();
    let filters = [
        ("all", all.clone()),
        ("namespace, half of all", RunFilter { namespaces: namespaces(&["team-0"]), ..all.clone() }),
        ("namespace, 1 in 4,096", RunFilter { namespaces: namespaces(&["team-11"]), ..all.clone() }),
        ("namespaces, 20", RunFilter { namespaces: Some(many), ..all.clone() }),
        ("pipeline, half of all", RunFilter { pipeline: pipeline("pipeline-0"), ..all.clone() }),
        ("pipeline, none", RunFilter { pipeline: pipeline("nothing"), ..all.clone() }),
        ("open", RunFilter { status: open, ..all.clone() }),
        ("failed", RunFilter { status: ended(RunStatus::Failed), ..all.clone() }),
        ("succeeded", RunFilter { status: ended(RunStatus::Succeeded), ..all.clone() }),
        (
            "namespace 1/2, pipeline 1/2",
            RunFilter { namespaces: namespaces(&["team-0"]), pipeline: pipeline("pipeline-0"), status: None },
        ),
        (
            "namespace 1/64, pipeline 1/64",
            RunFilter { namespaces: namespaces(&["team-5"]), pipeline: pipeline("pipeline-5"), status: None },
        ),
        (
            "namespace 1/2, failed",
            RunFilter { namespaces: namespaces(&["team-0"]), status: ended(RunStatus::Failed), ..all.clone() },
        ),
        (
            "pipeline 1/64, cancelled",
            RunFilter { pipeline: pipeline("pipeline-5"), status: ended(RunStatus::Cancelled), ..all.clone() },
        ),
        (
            "namespace 1/2, pipeline 1/2, succeeded",
            RunFilter {
                namespaces: namespaces(&["team-0"]),
                pipeline: pipeline("pipeline-0"),
                status: ended(RunStatus::Succeeded),
            },
        ),
        (
            "namespace 1/64, pipeline 1/64, failed",
            RunFilter {
                namespaces: namespaces(&["team-5"]),
                pipeline: pipeline("pipeline-5"),
                status: ended(RunStatus::Failed),
            },
        ),
    ];
    for (what, filter) in filters {
        let (mut times, mut found, mut followed) = (Vec::new(), 0, 0);
        for call in 0..CALLS {
            // Every third from the newest, the others from anywhere.
            let before = (call % 3 > 0).then(|| run_of(mixed(call) % count));
            let start = Instant::now();
            let page = state.find_runs(&filter, before, PAGE).await?;
            times.push(start.elapsed());
            found += page.records.len();
            followed += usize::from(page.next.is_some());
        }
        let calls = CALLS as usize;
        print_times(what, times, &format!("{} records, {}% followed", found / calls, followed * 100 / calls));
    }
    Ok(())
}

async fn ends(state: &dyn State) -> Result<(), Box<dyn Error>> {
    let (mut times, mut after) = (Vec::new(), (Timestamp(0), RunId::from_u128(0)));
    for _ in 0..CALLS {
        let start = Instant::now();
        let page = state.ended_runs(after, PAGE).await?;
        times.push(start.elapsed());
        let Some(last) = page.last() else { break };
        after = (last.ended.ok_or("it has ended")?, last.run);
    }
    print_times("ends, one page after another", times, "");
    Ok(())
}

fn print_times(what: &str, mut times: Vec<Duration>, note: &str) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what:<40} p50 {:>9.1?}  p99 {:>9.1?}  max {:>9.1?}  {note}", at(0.5), at(0.99), at(1.0));
}
