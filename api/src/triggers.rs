//! Triggers: what is submitted when something happens.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use gristmill_protocol::api::{Page, Submitted, TriggerInfo};
use gristmill_protocol::trigger::{Trigger, TriggerDocument};
use gristmill_scheduler::triggers::{self, TriggerError};

use crate::request::{AnyBody, Asked, Body, InNamespace, Listed, Named, limit, namespace};
use crate::runs::{key_of, random_key};
use crate::{Api, Caller, Refusal};

/// `GET /v1/triggers`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Listed>,
) -> Result<Json<Page<TriggerInfo>>, Refusal> {
    let limit = limit(asked.limit)?;
    let after = asked.cursor.unwrap_or_default();
    let mut found = Vec::new();
    // Each namespace by itself, so that not even a cursor tells of those that aren't the caller's.
    for namespace in caller.listed(asked.namespace.as_deref())? {
        let is_over = namespace.as_ref().is_some_and(|namespace| after.split('/').next() > Some(namespace));
        if found.len() < limit && !is_over {
            let rest = limit - found.len();
            found.extend(triggers::list(&*api.state, namespace.as_deref(), &after, rest).await?);
        }
    }
    let next = (found.len() == limit).then(|| found.last().map(|last| format!("{}/{}", last.namespace, last.name)));
    let items = found.into_iter().map(told);
    Ok(Json(Page { items: items.collect(), next: next.flatten() }))
}

/// `GET /v1/triggers/{name}`
pub(crate) async fn trigger(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
) -> Result<Json<TriggerInfo>, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    if !caller.sees(&namespace) {
        return Err(TriggerError::None { namespace, name }.into());
    }
    Ok(Json(told(triggers::get(&*api.state, &namespace, &name).await?)))
}

/// `PUT /v1/triggers/{name}`
pub(crate) async fn set(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
    Body(trigger): Body<Trigger>,
) -> Result<(StatusCode, Json<TriggerInfo>), Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    let (document, is_new) = triggers::put(&*api.state, &namespace, &name, trigger, &caller.name).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(told(document))))
}

/// `DELETE /v1/triggers/{name}`
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
) -> Result<StatusCode, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    triggers::delete(&*api.state, &namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/triggers/{name}/pause`
pub(crate) async fn pause(
    state: State<Arc<Api>>,
    caller: Extension<Caller>,
    name: Named<String>,
    asked: Asked<InNamespace>,
) -> Result<Json<TriggerInfo>, Refusal> {
    set_paused(state, caller, name, asked, true).await
}

/// `POST /v1/triggers/{name}/unpause`
pub(crate) async fn unpause(
    state: State<Arc<Api>>,
    caller: Extension<Caller>,
    name: Named<String>,
    asked: Asked<InNamespace>,
) -> Result<Json<TriggerInfo>, Refusal> {
    set_paused(state, caller, name, asked, false).await
}

async fn set_paused(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
    paused: bool,
) -> Result<Json<TriggerInfo>, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    Ok(Json(told(triggers::set_paused(&*api.state, &namespace, &name, paused, &caller.name).await?)))
}

/// `POST /v1/triggers/{name}/fire`: the address of a webhook.
pub(crate) async fn fire(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
    headers: HeaderMap,
    AnyBody(body): AnyBody,
) -> Result<(StatusCode, Json<Submitted>), Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    caller.check(&namespace)?;
    let key = key_of(&headers)?.unwrap_or_else(random_key);
    let fired = triggers::fire(&*api.state, &*api.artifacts, &namespace, &name, &body, &key).await?;
    Ok((StatusCode::ACCEPTED, Json(Submitted { run: fired.run, created: fired.created })))
}

fn told(document: TriggerDocument) -> TriggerInfo {
    let Trigger { on, submit, paused } = document.trigger;
    TriggerInfo {
        namespace: document.namespace,
        name: document.name,
        on,
        submit,
        paused,
        by: document.by,
        updated_ms: document.updated_ms.0,
        last: document.recent.last().cloned(),
        recent: document.recent,
    }
}

impl From<TriggerError> for Refusal {
    fn from(error: TriggerError) -> Refusal {
        match error {
            TriggerError::Submission(error) => error.into(),
            TriggerError::State(error) => error.into(),
            error => Refusal::of(error.code(), &error),
        }
    }
}
