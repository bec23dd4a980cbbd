//! The tasks of a run: a page of them, and one with its attempts.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use gristmill_backends::artifacts::Artifacts;
use gristmill_protocol::RunId;
use gristmill_protocol::api::{Page, TaskAttempt, TaskInfo, TaskInput, TaskItem};
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::Payload;
use gristmill_protocol::wire;
use gristmill_scheduler::explain::explain_task;
use gristmill_scheduler::history::{AttemptHistory, AttemptOutcome, History, HistoryError, StepState};
use gristmill_scheduler_core::Scheduler;
use serde::Deserialize;
use serde_json::{Value, json};

use super::detail::error;
use super::find;
use crate::request::{Asked, Named, Nothing, cursor, limit};
use crate::{Api, Caller, Refusal};

/// Attempts of one task whose logs are shown; a task has some retries.
const LOGS_MAX: usize = 100;
/// Bytes of an attempt's log; workers keep 64 KiB of it.
const LOG_BYTES_MAX: u64 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    step: Option<String>,
    status: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /v1/runs/{run}/tasks`
pub(crate) async fn tasks(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(asked): Asked<Filter>,
) -> Result<Json<Page<TaskItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let from: u32 = cursor(asked.cursor.as_deref())?.unwrap_or(0);
    let status = asked.status.as_deref().map(status_of).transpose()?;
    let record = find(&api, &caller, &run).await?;
    let page = api
        .views
        .look(&*api.state, record.run, |viewed| {
            let history = viewed.history()?;
            Ok(page(&history, viewed.folding().core(), asked.step.as_deref(), status, from, limit))
        })
        .await?;
    Ok(Json(page))
}

fn page(
    history: &History,
    core: &Scheduler,
    step: Option<&str>,
    status: Option<StepState>,
    from: u32,
    limit: usize,
) -> Page<TaskItem> {
    let mut items = Vec::new();
    for group in &history.groups {
        let view = &group.view;
        let name = &history.steps[usize::from(view.step)].name;
        let is_none_here = status.is_some_and(|status| !group.states.contains_key(&status));
        if step.is_some_and(|step| step != name) || view.first + view.count <= from || is_none_here {
            continue;
        }
        for task in view.first.max(from)..view.first + view.count {
            let Some(state) = state_of(history, core, task).filter(|state| status.is_none_or(|want| want == *state))
            else {
                continue;
            };
            if items.len() == limit {
                return Page { items, next: Some(task.to_string()) };
            }
            let (step, status) = (name.clone(), state.as_str().to_owned());
            items.push(TaskItem { task, name: view.task_name(name, task), step, status });
        }
    }
    Page { items, next: None }
}

fn state_of(history: &History, core: &Scheduler, task: u32) -> Option<StepState> {
    core.task_state(history.run, task).map(|state| StepState::of(state, history.status))
}

fn status_of(text: &str) -> Result<StepState, Refusal> {
    let found = StepState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = StepState::ALL.iter().map(|state| state.as_str()).collect();
        Refusal::bad_input(format!("`{text}` is no status of a task")).hint(format!("there are: {}", names.join(", ")))
    })
}

/// `GET /v1/runs/{run}/tasks/{task}`
pub(crate) async fn task(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named((run, task)): Named<(String, u32)>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<TaskInfo>, Refusal> {
    let record = find(&api, &caller, &run).await?;
    let now = api.state.clock().await?.now;
    let workers = api.state.workers().await.ok();
    let found = api
        .views
        .look(&*api.state, record.run, |viewed| {
            let history = viewed.history()?;
            let core = viewed.folding().core();
            let mut info = told(&history, core, task);
            if let Some(info) = &mut info {
                (info.waiting, info.hint) = explain_task(&history, core, task, workers.as_deref(), now);
            }
            Ok::<_, HistoryError>(info)
        })
        .await?;
    let mut info = found.ok_or_else(|| Refusal::not_found(format!("task {task} in `{run}`")))?;
    for (number, log) in logs(&*api.artifacts, record.run, task).await? {
        if let Some(attempt) = info.attempts.iter_mut().find(|attempt| attempt.number == number) {
            attempt.log = Some(log);
        }
    }
    Ok(Json(info))
}

/// What the attempts of a task have logged, by number, where their workers have kept it: an artifact each, found by a
/// mark `attempt-log/RUN/TASK.ATTEMPT.DIGEST`.
async fn logs(artifacts: &dyn Artifacts, run: RunId, task: u32) -> Result<Vec<(u16, String)>, Refusal> {
    let prefix = format!("attempt-log/{run}/{task}.");
    let mut logs = Vec::new();
    for mark in artifacts.marks(&prefix, "", LOGS_MAX).await? {
        let named = mark.strip_prefix(&prefix).and_then(|rest| rest.split_once('.'));
        let Some((number, digest)) = named else { continue };
        let (Ok(number), Ok(digest)) = (number.parse(), format!("sha256:{digest}").parse()) else { continue };
        match artifacts.size(digest).await? {
            Some(size) if size <= LOG_BYTES_MAX => {
                logs.push((number, String::from_utf8_lossy(&artifacts.get(digest).await?).into_owned()));
            }
            // It was erased, or is no log.
            _ => {}
        }
    }
    Ok(logs)
}

fn told(history: &History, core: &Scheduler, task: u32) -> Option<TaskInfo> {
    let state = state_of(history, core, task)?;
    let group = history.groups.get(core.group_of(history.run, task)?)?;
    let view = &group.view;
    let at = usize::from(view.step);
    let (step, planned) = (&history.steps[at], &history.plan.steps[at]);
    let settings = match wire::decode::<Payload>("a step's payload", &planned.payload) {
        Ok(Payload::Step(payload)) => json!(payload.task),
        // A benchmark's tasks have payloads of their own.
        Ok(Payload::Child(_) | Payload::Join(_)) | Err(_) => Value::Null,
    };
    let input = |need: &gristmill_protocol::plan::PlanNeed| {
        let step = &history.steps[usize::from(need.step)];
        TaskInput { step: step.name.clone(), output: step.output.clone() }
    };
    let output = core.output(history.run, task);
    let attempts = history.attempts.iter().filter(|attempt| attempt.task == task);
    let mut attempts: Vec<TaskAttempt> = attempts.map(told_attempt).collect();
    attempts.sort_by_key(|attempt| attempt.number);
    Some(TaskInfo {
        task,
        name: view.task_name(&step.name, task),
        step: step.name.clone(),
        kind: step.kind.clone(),
        pool: planned.pool.clone(),
        status: state.as_str().to_owned(),
        settings,
        inputs: planned.needs.iter().filter(|need| need.output).map(input).collect(),
        output: output.and_then(|bytes| wire::decode::<Output>("an output", bytes).ok()),
        attempts,
        waiting: Vec::new(),
        hint: None,
    })
}

fn told_attempt(attempt: &AttemptHistory) -> TaskAttempt {
    let error = match &attempt.outcome {
        AttemptOutcome::Failed(failure) => Some(error(failure)),
        AttemptOutcome::Rejected { reason } => {
            Some(gristmill_protocol::api::ErrorInfo::new(gristmill_protocol::ErrorCode::BadInput, reason.clone()))
        }
        _ => None,
    };
    TaskAttempt {
        number: attempt.number,
        worker: attempt.worker,
        started_us: attempt.started_us,
        took_us: attempt.took_us,
        outcome: attempt.outcome.as_str().to_owned(),
        error,
        log: None,
    }
}
