//! Workers and pools, as they say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gristmill_backends::state::WorkerView;
use gristmill_protocol::api::{HeldItem, Page, PoolItem, TaskProgress, WorkerItem};

use crate::request::{Asked, Nothing, Paged, limit};
use crate::{Api, Refusal};

/// `GET /v1/workers`
pub(crate) async fn workers(
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<WorkerItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let after = asked.cursor.unwrap_or_default();
    let mut workers = api.state.workers().await?;
    workers.sort_by_key(|worker| worker.worker.to_string());
    let mut workers = workers.iter().filter(|worker| worker.worker.to_string() > after);
    let items: Vec<WorkerItem> = workers.by_ref().take(limit).map(item).collect();
    let next = workers.next().and(items.last()).map(|worker| worker.worker.to_string());
    Ok(Json(Page { items, next }))
}

fn item(worker: &WorkerView) -> WorkerItem {
    let held = worker.held.iter().map(|(attempt, progress)| HeldItem {
        run: attempt.run,
        task: attempt.task.index,
        attempt: attempt.attempt,
        progress: progress.as_ref().map(|progress| TaskProgress {
            done: progress.done,
            total: progress.total,
            unit: progress.unit.clone(),
        }),
    });
    WorkerItem {
        worker: worker.worker,
        pools: worker.pools.clone(),
        slots: worker.slots,
        draining: worker.draining,
        seen_ms: worker.seen.0,
        held: held.collect(),
    }
}

/// `GET /v1/pools`
pub(crate) async fn pools(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Page<PoolItem>>, Refusal> {
    let workers = api.state.workers().await?;
    let schedulers = api.state.schedulers().await?;
    let mut demand: BTreeMap<&str, u64> = BTreeMap::new();
    for (pool, wanted) in schedulers.iter().flat_map(|scheduler| &scheduler.demand) {
        *demand.entry(pool).or_default() += wanted;
    }
    let served = workers.iter().flat_map(|worker| &worker.pools).map(String::as_str);
    let names: BTreeSet<&str> = served.chain(demand.keys().copied()).collect();
    let pool = |name: &&str| {
        let of = || workers.iter().filter(|worker| worker.pools.iter().any(|pool| pool == name));
        PoolItem {
            name: (*name).to_owned(),
            workers: of().filter(|worker| !worker.draining).count() as u32,
            slots: of().filter(|worker| !worker.draining).map(|worker| worker.slots).sum(),
            busy: of().map(|worker| worker.held.len() as u32).sum(),
            demand: demand.get(name).copied().unwrap_or_default(),
        }
    };
    Ok(Json(Page { items: names.iter().map(pool).collect(), next: None }))
}

/// `GET /healthz`
pub(crate) async fn healthy() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Result<&'static str, Refusal> {
    api.state.clock().await?;
    Ok("ok\n")
}
