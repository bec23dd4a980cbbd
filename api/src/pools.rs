//! Pools: what waits in them, who serves them, and how many workers they should have.
//!
//! KEDA asks `GET /v1/pools/{name}/scale`. Each server of the API that is asked follows the policy by itself and
//! remembers what it saw: several of them come to the same answers a few looks apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use gristmill_backends::state::Backlog;
use gristmill_pools::policy::{Memory, Rules, decide};
use gristmill_protocol::Timestamp;
use gristmill_protocol::api::{Page, PoolItem, PoolScale, ScaleDecision};
use gristmill_protocol::error::ErrorCode;
use gristmill_scheduler::pools::{Thought, backlog, sight, tell, thoughts};

use crate::request::{Asked, Nothing};
use crate::{Api, Refusal};

/// Who decides here, beside the machines that start workers themselves.
const BY: &str = "api";
/// Milliseconds between two decisions that are left for people to see; they are asked for more often.
const TOLD_EVERY_MS: u64 = 5_000;

/// The pools that are scaled from here.
#[derive(Default)]
pub struct Scaled {
    rules: BTreeMap<String, Rules>,
    memories: Mutex<BTreeMap<String, Remembered>>,
}

#[derive(Default)]
struct Remembered {
    memory: Memory,
    told: Timestamp,
}

impl Scaled {
    /// By these rules, one set a pool.
    pub fn new(rules: BTreeMap<String, Rules>) -> Scaled {
        Scaled { rules, memories: Mutex::default() }
    }
}

/// `GET /v1/pools`
pub(crate) async fn pools(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Page<PoolItem>>, Refusal> {
    let workers = api.state.workers().await?;
    let schedulers = api.state.schedulers().await?;
    let now = api.state.clock().await?.now;
    let mut demand: BTreeMap<&str, u64> = BTreeMap::new();
    for (pool, wanted) in schedulers.iter().flat_map(|scheduler| &scheduler.demand) {
        *demand.entry(pool).or_default() += wanted;
    }
    let served = workers.iter().flat_map(|worker| &worker.pools).map(String::as_str);
    let scaled = api.scaled.rules.keys().map(String::as_str);
    let names: BTreeSet<&str> = served.chain(demand.keys().copied()).chain(scaled).collect();
    let mut items = Vec::with_capacity(names.len());
    for name in names {
        let of = || workers.iter().filter(|worker| worker.pools.iter().any(|pool| pool == name));
        let Backlog { ready, out, work_ms, unknown } = backlog(&schedulers, name);
        let decisions = thoughts(&*api.state, name, now).await?;
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
    Ok(Json(Page { items, next: None }))
}

fn decision(thought: Thought) -> ScaleDecision {
    let Thought { by, at, wanted, min, max, why, paid_ms, lost } = thought;
    ScaleDecision { by, at_ms: at.0, wanted, min, max, why, paid_ms, lost }
}

/// `GET /v1/pools/{name}/scale`
pub(crate) async fn scale(
    State(api): State<Arc<Api>>,
    Path(pool): Path<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<PoolScale>, Refusal> {
    let Some(rules) = api.scaled.rules.get(&pool) else {
        return Err(Refusal::new(ErrorCode::NotFound, format!("pool `{pool}` has no rules here")).hint(format!(
            "set them where the API is started: `[pools.{pool}]` with `min` and `max` in `gristmill.toml`"
        )));
    };
    let workers = api.state.workers().await?;
    let schedulers = api.state.schedulers().await?;
    let now = api.state.clock().await?.now;
    // Whoever starts the workers doesn't say how many are on their way; those that don't live yet are asked for again.
    let seen = sight(now, &workers, &schedulers, &pool, 0);
    let (decision, is_due) = {
        let mut memories = api.scaled.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = memories.entry(pool.clone()).or_default();
        let decision = decide(rules, &mut remembered.memory, &seen);
        let is_due = now.since(remembered.told) >= TOLD_EVERY_MS;
        if is_due {
            remembered.told = now;
        }
        (decision, is_due)
    };
    let why = decision.why.to_string();
    if is_due {
        let thought = Thought {
            by: BY.to_owned(),
            at: now,
            wanted: decision.wanted,
            min: rules.min,
            max: rules.max,
            why: why.clone(),
            paid_ms: None,
            lost: None,
        };
        tell(&*api.state, &pool, &thought).await?;
    }
    Ok(Json(PoolScale {
        pool,
        wanted: decision.wanted,
        workers: seen.live,
        ready: seen.ready,
        out: seen.out,
        work_ms: seen.work_ms,
        unknown: seen.unknown,
        why,
    }))
}
