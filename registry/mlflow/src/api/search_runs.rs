//! A search of runs: every run of the experiments asked for is looked at, some at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::experiments::VIEWS;
use super::run_views::{DIALECT, is_run_seen, key_of};
use super::{Answer, nothing, page_size};
use crate::Mlflow;
use crate::refusal::{Code, Refusal};
use crate::request::Asked;
use crate::search::{Clause, Key, Page, Searched as _, by_clauses, parse, parse_orders};
use crate::tracking::Run;

/// Rows when nobody says how many, and at the most.
const USUAL: i64 = 1_000;
const MOST: i64 = 50_000;
/// Runs of pipelines read at a time.
const PIPELINE_PAGE: usize = 200;
/// Runs of one pipeline that are looked at: the newest. Each costs a look at its journal.
const PIPELINE_RUNS_MAX: usize = 2_000;
/// Experiments of one search.
const EXPERIMENTS_MAX: usize = 1_000;

pub(super) async fn search(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let size = page_size(&asked, USUAL, MOST)?;
    let page = Page::at(asked.text("page_token"), size)?;
    let clauses = parse(asked.text("filter"), &DIALECT)?;
    let orders = parse_orders(&asked.texts("order_by"), &DIALECT)?;
    let view_type = asked.name_of("run_view_type", 1, VIEWS).unwrap_or("ACTIVE_ONLY");
    let ids = asked.texts("experiment_ids");
    if ids.len() > EXPERIMENTS_MAX {
        return Err(Refusal::invalid(format!("a search is of up to {EXPERIMENTS_MAX} experiments")));
    }
    let mut found: Vec<Arc<Run>> = Vec::new();
    let mut deleted = BTreeMap::new();
    for id in ids {
        let experiment = match mlflow.experiment(&id).await {
            Ok(experiment) => experiment,
            Err(refusal) if refusal.code == Code::ResourceDoesNotExist => continue,
            Err(refusal) => return Err(refusal),
        };
        if deleted.insert(experiment.id.clone(), experiment.deleted).is_some() {
            continue;
        }
        let mut runs = mlflow.runs_of(&experiment.id, &clauses).await?;
        runs.retain(|run| is_run_seen(view_type, run, experiment.deleted));
        found.append(&mut runs);
    }
    let keys = |run: &Run| -> Vec<Key> { orders.iter().map(|order| key_of(run.found(&order.subject))).collect() };
    let mut keyed: Vec<(Vec<Key>, Arc<Run>)> = found.into_iter().map(|run| (keys(&run), run)).collect();
    keyed.sort_by(|(left_keys, left), (right_keys, right)| {
        by_clauses(&orders, left_keys, right_keys)
            .then_with(|| right.start_time.cmp(&left.start_time))
            .then_with(|| left.id.cmp(&right.id))
    });
    let (rows, next) = page.of(keyed);
    let mut answer = nothing();
    if !rows.is_empty() {
        let is_gone = |run: &Run| run.deleted || deleted.get(&run.experiment).copied().unwrap_or_default();
        answer["runs"] = Value::Array(rows.iter().map(|(_, run)| run.json(is_gone(run))).collect());
    }
    if let Some(next) = next {
        answer["next_page_token"] = json!(next);
    }
    Ok(answer)
}

impl Mlflow {
    /// The runs of an experiment that fit.
    async fn runs_of(&self, experiment: &str, clauses: &[Clause]) -> Result<Vec<Arc<Run>>, Refusal> {
        if let Some(pipeline) = self.pipeline_of(experiment).await? {
            return self.pipeline_runs(&pipeline.name, clauses).await;
        }
        let members = self.members.read(experiment).await?;
        let fits = |run: &Run| !run.id.is_empty() && clauses.iter().all(|clause| clause.fits(run));
        self.runs.read_fitting(&members.runs, fits).await
    }

    async fn pipeline_runs(&self, pipeline: &str, clauses: &[Clause]) -> Result<Vec<Arc<Run>>, Refusal> {
        let Some(pipelines) = &self.pipelines else { return Ok(Vec::new()) };
        let (mut found, mut before, mut seen) = (Vec::new(), None, 0);
        while seen < PIPELINE_RUNS_MAX {
            let page = pipelines.runs(pipeline, before, PIPELINE_PAGE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.run);
            seen += page.len();
            let full = page.len() == PIPELINE_PAGE;
            let runs = page.into_iter().map(crate::PipelineRun::view);
            found.extend(runs.filter(|run| clauses.iter().all(|clause| clause.fits(run))).map(Arc::new));
            if !full {
                break;
            }
        }
        Ok(found)
    }
}
