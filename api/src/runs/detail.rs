//! One run: as a whole, over time, and why it is where it is.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use gristmill_backends::state::RunRecord;
use gristmill_protocol::api::{
    ErrorInfo, Explanation, Group, Life, Made, Run, Step, StepNeed, StepReason, Timeline, TimelineAttempt, Trace,
    WorkerTally,
};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::{Failure, Timestamp};
use gristmill_scheduler::explain::explain_history;
use gristmill_scheduler::history::{GroupHistory, History, HistoryError, StepHistory};
use gristmill_scheduler_core::GroupKind;

use super::find;
use crate::request::{Asked, Named, Nothing};
use crate::{Api, Caller, Refusal};

/// `GET /v1/runs/{run}`
pub(crate) async fn detail(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Run>, Refusal> {
    let record = find(&api, &caller, &run).await?;
    let (history, mut run) = whole(&api, &record).await?;
    run.source = Some(history.about.source.clone());
    Ok(Json(run))
}

/// A run as it stands, without its source.
pub(super) async fn whole(api: &Api, record: &RunRecord) -> Result<(Arc<History>, Run), Refusal> {
    let now = api.state.clock().await?.now;
    let looked = api.views.look(&*api.state, record.run, |viewed| Ok((viewed.history()?, viewed.position()))).await?;
    let (history, position) = looked;
    let run = told(&history, &record.namespace, position, now, api.settings.trace_url.as_deref());
    Ok((history, run))
}

/// `GET /v1/runs/{run}/timeline`
pub(crate) async fn timeline(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Timeline>, Refusal> {
    let record = find(&api, &caller, &run).await?;
    let history = api.views.look(&*api.state, record.run, |viewed| viewed.history()).await?;
    let attempts = history.attempts.iter().map(|attempt| {
        let step = usize::from(history.groups[attempt.group].view.step);
        TimelineAttempt {
            task: attempt.task,
            name: attempt.name.clone(),
            step: history.steps[step].name.clone(),
            number: attempt.number,
            worker: attempt.worker,
            started_us: attempt.started_us,
            took_us: attempt.took_us,
            outcome: attempt.outcome.as_str().to_owned(),
        }
    });
    Ok(Json(Timeline { attempts: attempts.collect(), left_out: history.attempts_left_out }))
}

/// `GET /v1/runs/{run}/explain`
pub(crate) async fn explain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Explanation>, Refusal> {
    let record = find(&api, &caller, &run).await?;
    let now = api.state.clock().await?.now;
    // A home's workers are known to the process that owns it alone; the journal says the rest.
    let workers = api.state.workers().await.ok();
    let explained = api
        .views
        .look(&*api.state, record.run, |viewed| {
            let history = viewed.history()?;
            Ok::<_, HistoryError>(explain_history(&history, viewed.folding().core(), workers.as_deref(), now))
        })
        .await?;
    let step = |step: &gristmill_scheduler::explain::StepReason| StepReason {
        step: step.step.clone(),
        status: step.state.as_str().to_owned(),
        reasons: step.reasons.clone(),
        hint: step.hint.clone(),
    };
    Ok(Json(Explanation {
        run: explained.run,
        status: explained.status.to_owned(),
        summary: explained.summary.clone(),
        steps: explained.steps.iter().map(step).collect(),
        hint: explained.hint.clone(),
    }))
}

fn told(history: &History, namespace: &str, position: u64, now: Timestamp, trace_url: Option<&str>) -> Run {
    let life = |life: &gristmill_scheduler::history::Life| Life {
        from_ms: life.from.0,
        resumed_by: life.resumed_by.clone(),
        ended_ms: life.ended.map(|(at, _)| at.0),
        status: life.ended.map(|(_, status)| RunStatus::as_str(status).to_owned()),
    };
    let made = |made: gristmill_scheduler::history::MadeModel| Made {
        name: made.name,
        version: made.version,
        alias: made.alias,
        digest: made.digest,
        metrics: made.metrics,
    };
    let worker = |(worker, tally): (&gristmill_protocol::WorkerId, &gristmill_scheduler::history::Tally)| WorkerTally {
        worker: *worker,
        attempts: tally.attempts,
        succeeded: tally.succeeded,
        failed: tally.failed,
        seconds: tally.busy_us as f64 / 1e6,
    };
    let trace = format!("{:032x}", history.run.as_u128());
    Run {
        run: history.run,
        pipeline: history.plan.pipeline.clone(),
        namespace: namespace.to_owned(),
        status: history.status_name().to_owned(),
        created_ms: history.created.0,
        ended_ms: history.ended().map(|at| at.0),
        seconds: rounded(history.seconds(now)),
        params: history.about.params.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        cancelled_by: history.cancelled_by.clone(),
        lives: history.lives.iter().map(life).collect(),
        source: None,
        position,
        tasks: history.tasks(),
        ended: history.steps.iter().map(|step| u64::from(step.ended)).sum(),
        steps: history.steps.iter().enumerate().map(|(at, step)| told_step(history, at, step, now)).collect(),
        models: history.models().into_iter().map(made).collect(),
        workers: history.workers.iter().map(worker).collect(),
        trace: Trace { url: trace_url.map(|url| url.replace("{trace}", &trace)), id: trace },
    }
}

fn told_step(history: &History, at: usize, step: &StepHistory, now: Timestamp) -> Step {
    let need = |need: &gristmill_protocol::plan::PlanNeed| StepNeed {
        step: history.steps[usize::from(need.step)].name.clone(),
        output: need.output,
    };
    let groups = history.groups.iter().filter(|group| usize::from(group.view.step) == at);
    Step {
        name: step.name.clone(),
        kind: step.kind.clone(),
        needs: step.needs.iter().map(need).collect(),
        when: step.when,
        pool: history.plan.steps[at].pool.clone(),
        status: step.state.as_str().to_owned(),
        cached: step.is_cached(),
        tasks: step.tasks,
        ended: step.ended,
        out: step.out,
        out_since_ms: step.out_since.map(|at| at.0),
        attempts: step.tally.attempts,
        failed_attempts: step.tally.failed,
        seconds: rounded(step.seconds_until(now)),
        rows: step.rows(),
        error: step.failure.as_ref().map(error),
        output: step.output.clone(),
        groups: groups.map(|group| told_group(&step.name, group)).collect(),
    }
}

fn told_group(step: &str, group: &GroupHistory) -> Group {
    let view = &group.view;
    let kind = match view.kind {
        GroupKind::Step => "step",
        GroupKind::Children => "children",
        GroupKind::Join => "join",
    };
    let name = if view.path.is_empty() { step.to_owned() } else { format!("{step}/{}", view.path) };
    let states = group.states.iter().map(|(state, count)| (state.as_str().to_owned(), *count));
    Group { name, kind: kind.to_owned(), first: view.first, count: view.count, states: states.collect() }
}

/// A task's failure in the API's shape.
pub(super) fn error(failure: &Failure) -> ErrorInfo {
    let Failure { code, message, hint } = failure.clone();
    ErrorInfo { code, message, hint, complaints: Vec::new() }
}

/// Milliseconds are as fine as times of steps are.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
