//! Runs of pipelines as MLflow's clients see them: read from the journals, never changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gristmill_backends::state::{RunRecord, State};
use gristmill_mlflow::{Pipeline, PipelineError, PipelineRun, PipelineRuns, RunStatus};
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::Payload;
use gristmill_protocol::pipeline::Task;
use gristmill_protocol::{RunId, fact, wire};
use gristmill_scheduler::history::History;
use serde_json::Value;

/// Records that are looked through for pipelines and for one's runs: what is older isn't shown.
const RECORDS_MAX: usize = 10_000;
/// Records read at a time.
const PAGE: usize = 500;
/// Ended runs that are remembered; they don't change any more.
const REMEMBERED_MAX: usize = 10_000;
/// Parameters of one run, as many as MLflow's clients log in one call.
const PARAMS_MAX: usize = 100;

/// Runs as their journals tell them.
pub struct JournalRuns {
    state: Arc<dyn State>,
    ended: Mutex<HashMap<RunId, PipelineRun>>,
}

impl JournalRuns {
    pub fn new(state: Arc<dyn State>) -> JournalRuns {
        JournalRuns { state, ended: Mutex::default() }
    }

    /// Looks at records, newest first, until `each` has seen enough.
    async fn look(
        &self,
        mut before: Option<RunId>,
        mut each: impl FnMut(&RunRecord) -> bool + Send,
    ) -> Result<(), PipelineError> {
        for _ in 0..RECORDS_MAX / PAGE {
            let records = self.state.runs(before, PAGE).await.map_err(unreadable)?;
            for record in &records {
                if !each(record) {
                    return Ok(());
                }
            }
            match records.last() {
                Some(last) if records.len() == PAGE => before = Some(last.run),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn read(&self, record: &RunRecord) -> Result<PipelineRun, PipelineError> {
        let known = self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(&record.run).cloned();
        if let Some(known) = known.filter(|known| known.ended == record.ended) {
            return Ok(known);
        }
        let history = History::read(&*self.state, record.run).await.map_err(unreadable)?;
        let run = told(record, &history);
        if run.ended.is_some() {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.len() >= REMEMBERED_MAX {
                ended.clear();
            }
            ended.insert(record.run, run.clone());
        }
        Ok(run)
    }
}

#[async_trait]
impl PipelineRuns for JournalRuns {
    async fn pipelines(&self) -> Result<Vec<Pipeline>, PipelineError> {
        let mut pipelines: BTreeMap<String, Pipeline> = BTreeMap::new();
        self.look(None, |record| {
            let name = record.pipeline.clone();
            let new = || Pipeline { name, first: record.created, last: record.created };
            let known = pipelines.entry(record.pipeline.clone()).or_insert_with(new);
            known.first = known.first.min(record.created);
            true
        })
        .await?;
        Ok(pipelines.into_values().collect())
    }

    async fn runs(
        &self,
        pipeline: &str,
        before: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<PipelineRun>, PipelineError> {
        let mut found = Vec::new();
        self.look(before, |record| {
            if record.pipeline == pipeline {
                found.push(record.clone());
            }
            found.len() < limit
        })
        .await?;
        let mut runs = Vec::new();
        for record in &found {
            runs.push(self.read(record).await?);
        }
        Ok(runs)
    }

    async fn run(&self, run: RunId) -> Result<Option<PipelineRun>, PipelineError> {
        match self.state.run(run).await.map_err(unreadable)? {
            Some(record) => self.read(&record).await.map(Some),
            None => Ok(None),
        }
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> PipelineError {
    PipelineError(Box::new(error))
}

/// A run in MLflow's words: what it ran with are its parameters, what its steps measured are its metrics.
fn told(record: &RunRecord, history: &History) -> PipelineRun {
    let status = match record.status {
        None => RunStatus::Running,
        Some(fact::RunStatus::Succeeded) => RunStatus::Finished,
        Some(fact::RunStatus::Failed | fact::RunStatus::Rejected) => RunStatus::Failed,
        Some(fact::RunStatus::Cancelled) => RunStatus::Killed,
    };
    let mut params: BTreeMap<String, String> =
        history.about.params.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    for (step, plan) in history.steps.iter().zip(&history.plan.steps) {
        if let Ok(Payload::Step(payload)) = wire::decode::<Payload>("a step's payload", &plan.payload)
            && let Task::Train(train) = &payload.task
            && let Ok(settings) = serde_json::to_value(&train.algorithm)
        {
            flatten(&mut params, &step.name, &settings);
        }
    }
    while params.len() > PARAMS_MAX {
        params.pop_last();
    }
    let evaluations = || {
        history.steps.iter().filter_map(|step| match &step.output {
            Some(Output::Evaluation { metrics, .. }) => Some((&step.name, metrics)),
            _ => None,
        })
    };
    // One evaluation's metrics need no prefix to be told apart.
    let is_alone = evaluations().count() == 1;
    let named = |step: &str, metric: &str| if is_alone { metric.to_owned() } else { format!("{step}/{metric}") };
    let metrics = evaluations()
        .flat_map(|(step, metrics)| metrics.iter().map(move |(metric, value)| (named(step, metric), *value)))
        .collect();
    let mut tags = BTreeMap::from([("gristmill.status".to_owned(), history.status_name().to_owned())]);
    for step in &history.steps {
        if let Some(Output::Version { name, version, .. }) = &step.output {
            tags.insert(format!("gristmill.version.{}", step.name), format!("{name}@{version}"));
        }
    }
    PipelineRun {
        run: record.run,
        pipeline: record.pipeline.clone(),
        status,
        started: record.created,
        ended: record.ended,
        params,
        tags,
        metrics,
    }
}

/// Settings within settings by path: `model.random_forest.trees`.
fn flatten(params: &mut BTreeMap<String, String>, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(params, &format!("{path}.{name}"), value);
            }
        }
        value => {
            params.insert(path.to_owned(), text(value));
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
