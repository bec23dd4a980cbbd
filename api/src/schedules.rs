//! Schedules: what is submitted at which times.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use gristmill_protocol::Timestamp;
use gristmill_protocol::api::{Page, ScheduleInfo};
use gristmill_protocol::schedule::{Schedule, ScheduleDocument};
use gristmill_scheduler::schedules::{self, ScheduleError};

use crate::request::{Asked, Body, InNamespace, Listed, Named, limit, namespace};
use crate::{Api, Caller, Refusal};

/// Ticks to come that are told.
const NEXT: usize = 5;

/// `GET /v1/schedules`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Listed>,
) -> Result<Json<Page<ScheduleInfo>>, Refusal> {
    let limit = limit(asked.limit)?;
    let now = api.state.clock().await?.now;
    let after = asked.cursor.unwrap_or_default();
    let mut found = Vec::new();
    // Each namespace by itself, so that not even a cursor tells of those that aren't the caller's.
    for namespace in caller.listed(asked.namespace.as_deref())? {
        let is_over = namespace.as_ref().is_some_and(|namespace| after.split('/').next() > Some(namespace));
        if found.len() < limit && !is_over {
            let rest = limit - found.len();
            found.extend(schedules::list(&*api.state, namespace.as_deref(), &after, rest).await?);
        }
    }
    let next = (found.len() == limit).then(|| found.last().map(|last| format!("{}/{}", last.namespace, last.name)));
    let items = found.into_iter().map(|found| told(found, now));
    Ok(Json(Page { items: items.collect::<Result<_, _>>()?, next: next.flatten() }))
}

/// `GET /v1/schedules/{name}`
pub(crate) async fn schedule(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
) -> Result<Json<ScheduleInfo>, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    if !caller.sees(&namespace) {
        return Err(ScheduleError::None { namespace, name }.into());
    }
    let now = api.state.clock().await?.now;
    Ok(Json(told(schedules::get(&*api.state, &namespace, &name).await?, now)?))
}

/// `PUT /v1/schedules/{name}`
pub(crate) async fn set(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
    Body(schedule): Body<Schedule>,
) -> Result<(StatusCode, Json<ScheduleInfo>), Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    let (document, is_new) = schedules::put(&*api.state, &namespace, &name, schedule, &caller.name).await?;
    let now = api.state.clock().await?.now;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(told(document, now)?)))
}

/// `DELETE /v1/schedules/{name}`
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
) -> Result<StatusCode, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    schedules::delete(&*api.state, &namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/schedules/{name}/pause`
pub(crate) async fn pause(
    state: State<Arc<Api>>,
    caller: Extension<Caller>,
    name: Named<String>,
    asked: Asked<InNamespace>,
) -> Result<Json<ScheduleInfo>, Refusal> {
    set_paused(state, caller, name, asked, true).await
}

/// `POST /v1/schedules/{name}/unpause`
pub(crate) async fn unpause(
    state: State<Arc<Api>>,
    caller: Extension<Caller>,
    name: Named<String>,
    asked: Asked<InNamespace>,
) -> Result<Json<ScheduleInfo>, Refusal> {
    set_paused(state, caller, name, asked, false).await
}

async fn set_paused(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
    paused: bool,
) -> Result<Json<ScheduleInfo>, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    let document = schedules::set_paused(&*api.state, &namespace, &name, paused, &caller.name).await?;
    let now = api.state.clock().await?.now;
    Ok(Json(told(document, now)?))
}

fn told(document: ScheduleDocument, now: Timestamp) -> Result<ScheduleInfo, Refusal> {
    let ticks = schedules::next_ticks(&document.schedule, now, NEXT).map_err(ScheduleError::from)?;
    let Schedule { cron, timezone, submit, overlap, catch_up, paused } = document.schedule;
    Ok(ScheduleInfo {
        namespace: document.namespace,
        name: document.name,
        cron,
        timezone,
        submit,
        overlap,
        catch_up,
        paused,
        by: document.by,
        updated_ms: document.updated_ms.0,
        next_ms: ticks.into_iter().map(|tick| tick.0).collect(),
        last: document.recent.last().cloned(),
        recent: document.recent,
    })
}

impl From<ScheduleError> for Refusal {
    fn from(error: ScheduleError) -> Refusal {
        match error {
            ScheduleError::Submission(error) => error.into(),
            ScheduleError::State(error) => error.into(),
            error => Refusal::of(error.code(), &error),
        }
    }
}
