//! The list of runs, filtered.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use gristmill_backends::state::{RunFilter, RunPage, RunRecord, StatusFilter};
use gristmill_protocol::RunId;
use gristmill_protocol::api::{Page, RunItem};
use gristmill_protocol::fact::RunStatus;
use serde::Deserialize;

use crate::request::{Asked, cursor, limit, namespace};
use crate::{Api, Caller, Refusal};

/// Pages of records that a search looks through before it says where to go on.
const SEARCH_PAGES: usize = 20;
/// Characters of a search.
const SEARCH_CHARS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    namespace: Option<String>,
    pipeline: Option<String>,
    status: Option<String>,
    /// Part of the pipeline's name, or the last digits of the run's id.
    search: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /v1/runs`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Filter>,
) -> Result<Json<Page<RunItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let mut before: Option<RunId> = cursor(asked.cursor.as_deref())?;
    let namespaces = match &asked.namespace {
        Some(name) => {
            let name = namespace(Some(name))?;
            caller.check(&name)?;
            Some(vec![name])
        }
        None => caller.namespaces.clone(),
    };
    let status = asked.status.as_deref().map(status_filter).transpose()?;
    let filter = RunFilter { namespaces, pipeline: asked.pipeline, status };
    let search = asked.search.filter(|text| !text.is_empty());
    if search.as_ref().is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX) {
        return Err(Refusal::bad_input(format!("`search` has at most {SEARCH_CHARS_MAX} characters")));
    }
    let mut items = Vec::new();
    for _ in 0..SEARCH_PAGES {
        let RunPage { records, next } = api.state.find_runs(&filter, before, limit).await?;
        for record in records.iter().filter(|record| search.as_ref().is_none_or(|text| fits(record, text))) {
            items.push(item(record));
            if items.len() == limit {
                let last = items.last().map(|item: &RunItem| item.run);
                let is_all = next.is_none() && records.last().map(|record| record.run) == last;
                return Ok(Json(Page { next: last.filter(|_| !is_all).map(|run| run.to_string()), items }));
            }
        }
        before = next;
        if next.is_none() || (search.is_none() && !items.is_empty()) {
            break;
        }
    }
    Ok(Json(Page { items, next: before.map(|run| run.to_string()) }))
}

fn fits(record: &RunRecord, text: &str) -> bool {
    let digits = text.trim_start_matches("run-");
    record.pipeline.contains(text) || record.run.to_string().ends_with(digits)
}

fn status_filter(text: &str) -> Result<StatusFilter, Refusal> {
    const ENDED: [RunStatus; 4] = [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Rejected, RunStatus::Cancelled];
    if text == "running" {
        return Ok(StatusFilter::Open);
    }
    let found = ENDED.into_iter().find(|status| status.as_str() == text).map(StatusFilter::Ended);
    found.ok_or_else(|| {
        Refusal::bad_input(format!("`{text}` is no status of a run"))
            .hint("there are: running, succeeded, failed, rejected, cancelled")
    })
}

/// A record as a list shows it.
pub(super) fn item(record: &RunRecord) -> RunItem {
    RunItem {
        run: record.run,
        pipeline: record.pipeline.clone(),
        namespace: record.namespace.clone(),
        status: record.status.map_or("running", RunStatus::as_str).to_owned(),
        created_ms: record.created.0,
        ended_ms: record.ended.map(|at| at.0),
    }
}
