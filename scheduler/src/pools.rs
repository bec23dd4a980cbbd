//! What the live cluster says of a pool, and what whoever scales it has decided.
//!
//! The policy itself is pure ([`gristmill_pools::policy`]). Whoever follows it, `gristmill pool` on a machine or the API
//! for KEDA, leaves its last decision in the document `pools/{pool}/{by}`, so that people can see what it thinks.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_backends::state::{Backlog, SchedulerView, State, StateError, WorkerView};
use gristmill_pools::policy::Sight;
use gristmill_protocol::Timestamp;
use gristmill_protocol::api::{PoolItem, ScaleDecision};
use serde::{Deserialize, Serialize};

/// What documents of decisions are called before pool and decider.
const THOUGHTS: &str = "pools/";
/// Deciders of one pool that are read: one a machine that runs `gristmill pool`.
const DECIDERS_MAX: usize = 1_000;
/// After this a decision says nothing any more: ten looks of the slowest decider there is, KEDA's default of 30 s.
const STALE_MS: u64 = 300_000;
/// How often a writer that lost a race to another tries again.
const RACES_MAX: usize = 10;

/// What was last decided on a pool, by one decider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thought {
    /// Who decides: a machine's name, or `api`.
    pub by: String,
    pub at: Timestamp,
    /// Workers that it wants, and the bounds it was given.
    pub wanted: u32,
    pub min: u32,
    pub max: u32,
    /// The reason, as a sentence.
    pub why: String,
    /// Milliseconds of workers that it has started, from their start to their end; where it starts them itself.
    pub paid_ms: Option<u64>,
    /// Workers that ended without being told to; where it starts them itself.
    pub lost: Option<u64>,
    /// Its own workers that take work, and that are on their way.
    #[serde(default)]
    pub live: u32,
    #[serde(default)]
    pub starting: u32,
    /// Whether it starts workers and could just now.
    #[serde(default)]
    pub is_able: bool,
}

/// What is ready and out in a pool, summed over the schedulers.
pub fn backlog(schedulers: &[SchedulerView], pool: &str) -> Backlog {
    let here = schedulers.iter().filter_map(|scheduler| scheduler.backlog.get(pool));
    here.fold(Backlog::default(), |sum, one| Backlog {
        ready: sum.ready + one.ready,
        out: sum.out + one.out,
        work_ms: sum.work_ms.saturating_add(one.work_ms),
        unknown: sum.unknown + one.unknown,
    })
}

/// All pools of which anybody has heard, and those that are `named`.
pub async fn pools(state: &dyn State, named: &[&str]) -> Result<Vec<PoolItem>, StateError> {
    let (workers, schedulers) = (state.workers().await?, state.schedulers().await?);
    let now = state.clock().await?.now;
    let mut demand: BTreeMap<&str, u64> = BTreeMap::new();
    for (pool, wanted) in schedulers.iter().flat_map(|scheduler| &scheduler.demand) {
        *demand.entry(pool).or_default() += wanted;
    }
    let served = workers.iter().flat_map(|worker| &worker.pools).map(String::as_str);
    let names: BTreeSet<&str> = served.chain(demand.keys().copied()).chain(named.iter().copied()).collect();
    let mut items = Vec::with_capacity(names.len());
    for name in names {
        let of = || workers.iter().filter(|worker| worker.pools.iter().any(|pool| pool == name));
        let Backlog { ready, out, work_ms, unknown } = backlog(&schedulers, name);
        let decisions = thoughts(state, name, now).await?;
        items.push(PoolItem {
            name: name.to_owned(),
            workers: of().filter(|worker| !worker.draining).count() as u32,
            slots: of().filter(|worker| !worker.draining).map(|worker| worker.slots).sum(),
            busy: of().map(|worker| worker.held.len() as u32).sum(),
            demand: demand.get(name).copied().unwrap_or_default(),
            ready,
            out,
            work_ms,
            unknown,
            decisions: decisions.into_iter().map(decision).collect(),
        });
    }
    Ok(items)
}

fn decision(thought: Thought) -> ScaleDecision {
    let Thought { by, at, wanted, min, max, why, paid_ms, lost, .. } = thought;
    ScaleDecision { by, at_ms: at.0, wanted, min, max, why, paid_ms, lost }
}

/// A pool as its policy sees it; `starting` workers are known to whoever has started them alone.
pub fn sight(now: Timestamp, workers: &[WorkerView], schedulers: &[SchedulerView], pool: &str, starting: u32) -> Sight {
    let Backlog { ready, out, work_ms, unknown } = backlog(schedulers, pool);
    // What draining workers hold is theirs to finish; how long it takes is only known of all together.
    let leaving = workers.iter().filter(|worker| worker.draining && worker.pools.iter().any(|name| name == pool));
    let leaving = leaving.map(|worker| worker.held.len() as u64).sum::<u64>().min(out);
    let stays =
        |whole: u64| (u128::from(whole) * u128::from(ready + out - leaving) / u128::from((ready + out).max(1))) as u64;
    let (out, work_ms, unknown) = (out - leaving, stays(work_ms), stays(unknown));
    let serving = || workers.iter().filter(|worker| worker.pools.iter().any(|name| name == pool));
    Sight {
        now,
        ready,
        out,
        work_ms,
        unknown,
        live: serving().filter(|worker| !worker.draining).count() as u32,
        starting,
        draining: serving().filter(|worker| worker.draining).count() as u32,
    }
}

/// Leaves a decision where people find it.
pub async fn tell(state: &dyn State, pool: &str, thought: &Thought) -> Result<(), StateError> {
    let key = key(pool, &thought.by);
    let body = serde_json::to_vec(thought).expect("plain data");
    let mut race = 0;
    loop {
        let version = state.get(&key).await?.map_or(0, |found| found.version);
        match state.put(&key, version, body.clone()).await {
            Err(StateError::Conflict { .. }) if race < RACES_MAX => race += 1,
            done => return done.map(|_| ()),
        }
    }
}

/// Takes a decision back: its decider ends.
pub async fn forget(state: &dyn State, pool: &str, by: &str) -> Result<(), StateError> {
    let key = key(pool, by);
    match state.get(&key).await? {
        Some(found) => state.delete(&key, found.version).await,
        None => Ok(()),
    }
}

/// What is thought of a pool just now.
pub async fn thoughts(state: &dyn State, pool: &str, now: Timestamp) -> Result<Vec<Thought>, StateError> {
    let prefix = key(pool, "");
    let mut found = Vec::new();
    for key in state.keys(&prefix, "", DECIDERS_MAX).await? {
        let Some(document) = state.get(&key).await? else { continue };
        let damaged = |error: serde_json::Error| StateError::Damaged { verb: "read a pool", detail: error.to_string() };
        let thought: Thought = serde_json::from_slice(&document.body).map_err(damaged)?;
        if now.since(thought.at) < STALE_MS {
            found.push(thought);
        }
    }
    Ok(found)
}

fn key(pool: &str, by: &str) -> String {
    format!("{THOUGHTS}{pool}/{by}")
}
