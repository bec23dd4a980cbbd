//! Costs, budgets and sizes of workers: what keepers and workers have written down, and single runs.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use gristmill_pools::costs::Scope;
use gristmill_protocol::api::{BudgetItem, CostGroup, Costs, Page, RunCost, Sizing};
use gristmill_protocol::limits::COST_DAYS_MAX;
use gristmill_protocol::pipeline::names::is_name;
use gristmill_scheduler::budgets::{self, BudgetDocument, DAY_MS, told};
use gristmill_scheduler::history::HistoryError;
use serde::Deserialize;

use crate::request::{Asked, Named, Nothing};
use crate::{Api, Caller, Refusal, runs};

/// Days that are summed up where nothing is asked for.
const DAYS: u64 = 7;

/// `GET /v1/runs/{run}/cost`
pub(crate) async fn run_cost(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<RunCost>, Refusal> {
    let record = runs::find(&api, &caller, &run).await?;
    let (now, prices) = (api.state.clock().await?.now, budgets::prices(&*api.state).await?);
    let told = api.views.look(&*api.state, record.run, |viewed| {
        let history = viewed.history()?;
        Ok::<_, HistoryError>(told::run_cost(&record, &history, viewed.folding(), &prices, now))
    });
    Ok(Json(told.await?))
}

/// Which costs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CostsAsked {
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    group: Option<CostGroup>,
    namespace: Option<String>,
}

/// `GET /v1/costs`
pub(crate) async fn costs(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<CostsAsked>,
) -> Result<Json<Costs>, Refusal> {
    let namespaces = caller.listed(asked.namespace.as_deref())?;
    let is_seen = |name: &str| namespaces.iter().any(|one| one.as_deref().is_none_or(|one| one == name));
    let today = api.state.clock().await?.now.0 / DAY_MS;
    let to = asked.to_ms.map_or(today, |to| to / DAY_MS);
    let from = asked.from_ms.map_or(to.saturating_sub(DAYS - 1), |from| from / DAY_MS);
    // Times that are far ahead would have more digits than the keys of days.
    let is_reversed = asked.from_ms.zip(asked.to_ms).is_some_and(|(from, to)| from > to) || from > to;
    if is_reversed || to - from >= COST_DAYS_MAX || to > today + COST_DAYS_MAX {
        let text = format!("`from_ms` and `to_ms` are at most {COST_DAYS_MAX} days apart, the earlier one first");
        return Err(Refusal::bad_input(text));
    }
    Ok(Json(told::costs(&*api.state, from, to, asked.group.unwrap_or_default(), is_seen).await?))
}

/// `GET /v1/budgets`
pub(crate) async fn list_budgets(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Page<BudgetItem>>, Refusal> {
    // What others spend is seen by those alone who see all namespaces.
    let is_seen = |document: &BudgetDocument| match &document.budget.scope {
        Scope::Namespace(namespace) => caller.sees(namespace),
        Scope::Everything | Scope::Pipeline(_) => caller.namespaces.is_none(),
    };
    let documents = budgets::budgets(&*api.state).await?.into_iter().filter(is_seen);
    Ok(Json(Page { items: documents.map(told::budget).collect(), next: None }))
}

/// `GET /v1/pools/{name}/sizing`
pub(crate) async fn sizing(
    State(api): State<Arc<Api>>,
    Named(pool): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Sizing>, Refusal> {
    if !is_name(&pool) {
        return Err(Refusal::bad_input("that can't be a pool's name"));
    }
    Ok(Json(told::sizing(&*api.state, &pool).await?))
}
