//! Runs: submitted, listed, cancelled, resumed.

mod detail;
mod listing;
mod tasks;
mod view;
mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use futures_util::{StreamExt as _, stream};
use gristmill_backends::state::RunRecord;
use gristmill_protocol::api::{RunAsked, SUBMISSIONS_MAX, Submit, SubmitMany, SubmitResult, Submitted, SubmittedMany};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::NAME_CHARS_MAX;
use gristmill_protocol::message::InboxEvent;
use gristmill_protocol::{ErrorCode, RunId, Timestamp};
use gristmill_scheduler::message::{Key, NAMESPACE, submit_message};

pub(crate) use detail::{detail, explain, timeline};
pub(crate) use listing::list;
pub(crate) use tasks::{task, tasks};
pub(crate) use view::Views;
pub(crate) use watch::{events, run_events};

use crate::request::{Asked, Body, Named, Nothing};
use crate::{Api, Caller, Refusal};

/// Bytes of a request with many submissions.
pub(crate) const SUBMIT_MANY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Submissions of one request that are made at a time: enough to hide the store's latency.
const AT_ONCE: usize = 64;
/// How long the answer to a resume waits until the run is open again.
const RESUME_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const RESUME_LOOK: Duration = Duration::from_millis(20);
/// Characters of an idempotency key: a digest, a path or a date fit.
const KEY_CHARS_MAX: usize = 255;

/// `POST /v1/runs`
pub(crate) async fn submit(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
    headers: HeaderMap,
    Body(mut submit): Body<Submit>,
) -> Result<(StatusCode, Json<Submitted>), Refusal> {
    if let Some(key) = key_of(&headers)? {
        if submit.key.as_ref().is_some_and(|own| *own != key) {
            return Err(Refusal::bad_input("the body's `key` and the header `Idempotency-Key` differ"));
        }
        submit.key = Some(key);
    }
    let submitted = submit_one(&api, &caller, submit).await?;
    let status = if submitted.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(submitted)))
}

/// `POST /v1/runs/batch`
pub(crate) async fn submit_many(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(many): Body<SubmitMany>,
) -> Result<Json<SubmittedMany>, Refusal> {
    if many.submissions.len() > SUBMISSIONS_MAX {
        let text = format!("{} submissions in one request; at most {SUBMISSIONS_MAX}", many.submissions.len());
        return Err(Refusal::new(ErrorCode::TooLarge, text).hint("send several requests"));
    }
    let results = stream::iter(many.submissions).map(|submit| async {
        match submit_one(&api, &caller, submit).await {
            Ok(submitted) => SubmitResult::Submitted(submitted),
            Err(refusal) => SubmitResult::Refused { error: refusal.into_info() },
        }
    });
    Ok(Json(SubmittedMany { results: results.buffered(AT_ONCE).collect().await }))
}

async fn submit_one(api: &Api, caller: &Caller, submit: Submit) -> Result<Submitted, Refusal> {
    caller.check(submit.namespace.as_deref().unwrap_or(NAMESPACE))?;
    if let Some(key) = &submit.key {
        check_key(key)?;
    }
    if let Some(priority) = submit.priority.filter(|priority| !(-100..=100).contains(priority)) {
        return Err(Refusal::bad_input(format!("`priority` is {priority}; it is from -100 to 100")));
    }
    let key = match &submit.key {
        Some(key) => Key::Remembered(key.clone()),
        None => Key::Timed(random_key()),
    };
    let made = submit_message(&*api.state, &*api.artifacts, submit.into(), key, wall_clock()).await?;
    Ok(Submitted { run: made.run, created: made.created })
}

/// `POST /v1/runs/{run}/cancel`
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<(StatusCode, Json<RunAsked>), Refusal> {
    let record = find(&api, &caller, &run).await?;
    if let Some(status) = record.status {
        return Err(Refusal::new(ErrorCode::Conflict, format!("`{run}` has ended already: {}", status.as_str())));
    }
    let run = record.run;
    api.state.post(run.shard(), InboxEvent::Cancel { run, by: caller.name }).await?;
    Ok((StatusCode::ACCEPTED, Json(RunAsked { run })))
}

/// `POST /v1/runs/{run}/resume`
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<(StatusCode, Json<RunAsked>), Refusal> {
    let record = find(&api, &caller, &run).await?;
    match record.status {
        None => return Err(Refusal::new(ErrorCode::Conflict, format!("`{run}` hasn't ended"))),
        Some(RunStatus::Succeeded) => {
            return Err(Refusal::new(ErrorCode::Conflict, format!("`{run}` has succeeded: nothing is left to do")));
        }
        Some(RunStatus::Failed | RunStatus::Rejected | RunStatus::Cancelled) => {}
    }
    let run = record.run;
    api.state.post(run.shard(), InboxEvent::Resume { run, by: caller.name }).await?;
    // Whoever looks next should see it open; a scheduler that is away takes it up later.
    let opened = async {
        while let Ok(Some(record)) = api.state.run(run).await
            && record.status.is_some()
        {
            tokio::time::sleep(RESUME_LOOK).await;
        }
    };
    tokio::time::timeout(RESUME_WAIT, opened).await.ok();
    Ok((StatusCode::ACCEPTED, Json(RunAsked { run })))
}

/// The record of a run that the caller may see; others aren't there for it.
pub(crate) async fn find(api: &Api, caller: &Caller, run: &str) -> Result<RunRecord, Refusal> {
    let missing = || Refusal::not_found(format!("run `{}`", run.chars().take(NAME_CHARS_MAX).collect::<String>()));
    let id: RunId = run.parse().map_err(|_| missing().hint("a run id is `run-` and 32 hexadecimal digits"))?;
    let record = api.state.run(id).await?.ok_or_else(missing)?;
    if !caller.sees(&record.namespace) {
        return Err(missing());
    }
    Ok(record)
}

/// The key in a request's header, if it has one.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().map_err(|_| Refusal::bad_input("`Idempotency-Key` isn't plain text"))?;
    check_key(key)?;
    Ok(Some(key.to_owned()))
}

fn check_key(key: &str) -> Result<(), Refusal> {
    match key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
        true => Err(Refusal::bad_input(format!("a key has 1 to {KEY_CHARS_MAX} characters"))),
        false => Ok(()),
    }
}

/// A key that nobody else has.
pub(crate) fn random_key() -> String {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the system's source of randomness answers");
    format!("{:032x}", u128::from_le_bytes(bits))
}

fn wall_clock() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}
