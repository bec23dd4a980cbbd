//! Workers, as they say of themselves, and whether this server is well.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gristmill_backends::state::WorkerView;
use gristmill_protocol::api::{HeldItem, Page, TaskProgress, WorkerItem};

use crate::request::{Asked, Paged, limit};
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
        labels: worker.about.labels.clone(),
        host: worker.about.host.clone(),
        seen_ms: worker.seen.0,
        held: held.collect(),
    }
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
