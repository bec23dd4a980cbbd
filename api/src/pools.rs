//! Pools: what waits in them, who serves them, and how many workers they should have.
//!
//! KEDA asks `GET /v1/pools/{name}/scale`. Each server of the API that is asked follows the policy by itself and
//! remembers what it saw: several of them come to the same answers a few looks apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use gristmill_pools::policy::{Memory, Rules, decide};
use gristmill_protocol::Timestamp;
use gristmill_protocol::api::{Page, PoolItem, PoolScale};
use gristmill_protocol::error::ErrorCode;
use gristmill_scheduler::pools::{Thought, sight, tell};

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
    let scaled: Vec<&str> = api.scaled.rules.keys().map(String::as_str).collect();
    Ok(Json(Page { items: gristmill_scheduler::pools::pools(&*api.state, &scaled).await?, next: None }))
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
            live: 0,
            starting: 0,
            is_able: false,
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
