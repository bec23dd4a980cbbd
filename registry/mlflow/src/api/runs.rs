//! Runs: made, found, ended, deleted and restored.

use std::sync::Arc;

use axum::routing::MethodFilter;
use serde_json::json;
use uuid::Uuid;

use super::{Answer, Api, endpoint, nothing};
use crate::Mlflow;
use crate::pipelines::run_of;
use crate::refusal::{Code, Refusal};
use crate::request::{Asked, Field, KEY_VALUE, Kind};
use crate::tracking::{MemberFact, Run, RunFact, RunStatus};
use crate::validate;

/// Runs of one experiment: a search looks at each.
const RUNS_MAX: usize = 100_000;
/// The tag that names a run.
const RUN_NAME: &str = "mlflow.runName";

pub(super) const RUN_ID: Field = Field::text("run_id").required();

pub(super) fn routes() -> Api {
    const CREATE: &[Field] = &[
        Field::text("experiment_id"),
        Field::text("user_id").unchecked(),
        Field::text("run_name"),
        Field::int("start_time"),
        Field::new("tags", Kind::Objects(KEY_VALUE)).unchecked(),
    ];
    const UPDATE: &[Field] =
        &[RUN_ID, Field::new("status", Kind::Name), Field::int("end_time"), Field::text("run_name")];
    const SEARCH: &[Field] = &[
        Field::texts("experiment_ids"),
        Field::text("filter"),
        Field::new("run_view_type", Kind::Name).unchecked(),
        Field::int("max_results"),
        Field::texts("order_by"),
        Field::text("page_token"),
    ];
    const HISTORY: &[Field] = &[
        RUN_ID,
        Field::text("metric_key").required(),
        Field::text("page_token"),
        Field::int("max_results").unchecked(),
    ];
    const LIST: &[Field] = &[RUN_ID, Field::text("path"), Field::text("page_token")];
    let (get, post) = (MethodFilter::GET, MethodFilter::POST);
    Api::new()
        .route("/runs/create", endpoint(post, CREATE, create))
        .route("/runs/get", endpoint(get, &[RUN_ID], show))
        .route("/runs/update", endpoint(post, UPDATE, update))
        .route("/runs/delete", endpoint(post, &[RUN_ID], delete))
        .route("/runs/restore", endpoint(post, &[RUN_ID], restore))
        .route("/runs/search", endpoint(post, SEARCH, super::search_runs::search))
        .route("/metrics/get-history", endpoint(get, HISTORY, super::history::history))
        .route("/artifacts/list", endpoint(get, LIST, super::artifacts::list_of_run))
}

pub(super) fn no_run(id: &str) -> Refusal {
    Refusal::missing(format!("Run with id={id} not found"))
}

impl Mlflow {
    /// A run, deleted or not, of a client or of a pipeline.
    pub(super) async fn run(&self, id: &str) -> Result<Arc<Run>, Refusal> {
        let run = self.runs.read(id).await?;
        if !run.id.is_empty() {
            return Ok(run);
        }
        match self.pipeline_run(id).await? {
            Some(run) => Ok(Arc::new(run)),
            None => Err(no_run(id)),
        }
    }

    async fn pipeline_run(&self, id: &str) -> Result<Option<Run>, Refusal> {
        let (Some(pipelines), Some(run)) = (&self.pipelines, run_of(id)) else { return Ok(None) };
        Ok(pipelines.run(run).await?.map(crate::PipelineRun::view))
    }

    /// Whether a run counts as deleted: it is, or its experiment is.
    pub(super) async fn is_deleted(&self, run: &Run) -> Result<bool, Refusal> {
        Ok(run.deleted || self.experiment(&run.experiment).await?.deleted)
    }

    /// Changes a run that clients made. `any` allows it to be deleted.
    pub(super) async fn change_run<T>(
        &self,
        asked: &Asked,
        any: bool,
        decide: impl Fn(&Run) -> Result<(Vec<RunFact>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let id = asked.text("run_id");
        let run = self.runs.read(id).await?;
        if run.id.is_empty() {
            let Some(run) = self.pipeline_run(id).await? else { return Err(no_run(id)) };
            let pipeline = run.tags.get("gristmill.pipeline").map_or("", String::as_str);
            let text = format!("the run {id} is one of the pipeline `{pipeline}`, which can't be changed over MLflow");
            return Err(Refusal::new(Code::PermissionDenied, text));
        }
        let gone = self.experiment(&run.experiment).await?.deleted;
        self.runs
            .change(id, &asked.by, |run| {
                if !any && (run.deleted || gone) {
                    let text = format!("The run {id} must be in the 'active' state. Current state is deleted.");
                    return Err(Refusal::invalid(text));
                }
                decide(run)
            })
            .await
    }
}

async fn create(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let experiment = mlflow.active_experiment(asked.text("experiment_id")).await?;
    let id = Uuid::new_v4().simple().to_string();
    let tags = asked.pairs("tags");
    let tags: Result<Vec<_>, _> = tags.iter().map(|(key, value)| validate::run_tag("", key, value)).collect();
    let tags = tags?;
    if tags.len() > super::logging::ENTITIES_MAX {
        return Err(Refusal::invalid(format!("a run has up to {} tags", super::logging::ENTITIES_MAX)));
    }
    let tagged = tags.iter().rfind(|(key, _)| key == RUN_NAME).map(|(_, name)| name.as_str());
    let tagged = tagged.filter(|name| !name.trim().is_empty());
    let given = Some(asked.text("run_name")).filter(|name| !name.is_empty());
    let name = match (given, tagged) {
        (Some(given), Some(tagged)) if given != tagged => {
            return Err(Refusal::invalid(format!(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
                 (run_name='{given}', mlflow.runName='{tagged}')."
            )));
        }
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => some_name(&id),
    };
    let mut facts = vec![RunFact::Created {
        id: id.clone(),
        experiment: experiment.id.clone(),
        user: asked.text("user_id").to_owned(),
        name,
        start_time: asked.int("start_time").unwrap_or_default(),
        artifact_uri: format!("{}/{id}/artifacts", experiment.location),
    }];
    let tags = tags.into_iter().filter(|(key, _)| key != RUN_NAME);
    facts.extend(tags.map(|(key, value)| RunFact::Tagged { key, value: Some(value) }));
    // The run first: one that its experiment doesn't list was never answered, and harms nobody.
    mlflow.runs.change(&id, &asked.by, |_| Ok((facts.clone(), ()))).await?;
    mlflow
        .members
        .change(&experiment.id, &asked.by, |members| {
            if members.runs.len() >= RUNS_MAX {
                return Err(Refusal::invalid(format!("an experiment has up to {RUNS_MAX} runs; begin another one")));
            }
            Ok((vec![MemberFact::Run { id: id.clone() }], ()))
        })
        .await?;
    let mut run = mlflow.run(&id).await?.json(false);
    // MLflow's server tells of outputs of runs that are looked up.
    run.as_object_mut().map(|run| run.remove("outputs"));
    Ok(json!({ "run": run }))
}

/// A name that people can tell from others.
fn some_name(id: &str) -> String {
    const FIRST: [&str; 16] = [
        "amber", "brisk", "calm", "dusty", "early", "fair", "golden", "hearty", "mellow", "northern", "plain", "quiet",
        "rolling", "sunlit", "upland", "windy",
    ];
    const SECOND: [&str; 16] = [
        "barley",
        "brook",
        "chaff",
        "furrow",
        "grain",
        "hopper",
        "kernel",
        "meadow",
        "millstone",
        "oat",
        "orchard",
        "rye",
        "sail",
        "sheaf",
        "spelt",
        "wheel",
    ];
    let digit =
        |place: usize| id[place..=place].chars().next().and_then(|digit| digit.to_digit(16)).unwrap_or_default();
    format!("{}-{}-{}", FIRST[digit(0) as usize], SECOND[digit(1) as usize], &id[2..6])
}

async fn show(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let run = mlflow.run(asked.text("run_id")).await?;
    let deleted = mlflow.is_deleted(&run).await?;
    Ok(json!({ "run": run.json(deleted) }))
}

async fn update(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let status = asked.name_of("status", 1, RunStatus::NAMES).and_then(RunStatus::named);
    let name = asked.given("run_name").filter(|name| !name.is_empty()).map(str::to_owned);
    if let Some(name) = &name {
        validate::run_tag("", RUN_NAME, name)?;
    }
    let end_time = asked.int("end_time");
    let changes = status.is_some() || name.is_some() || end_time.is_some();
    let decide = |_: &Run| {
        let fact = RunFact::Updated { status, end_time, name: name.clone() };
        Ok((changes.then_some(fact).into_iter().collect(), ()))
    };
    mlflow.change_run(&asked, false, decide).await?;
    Ok(json!({ "run_info": mlflow.run(asked.text("run_id")).await?.info(false) }))
}

async fn delete(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    mlflow.change_run(&asked, true, |_| Ok((vec![RunFact::Deleted], ()))).await?;
    Ok(nothing())
}

async fn restore(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    mlflow.change_run(&asked, true, |_| Ok((vec![RunFact::Restored], ()))).await?;
    Ok(nothing())
}
