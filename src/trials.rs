//! `trials`: what a run's searches have tried, while they run and after.

use std::fmt::Write;

use anyhow::Context;
use gristmill_backends::state::State;
use gristmill_learn::search::{Assignment, Better, Trial, TrialState};
use gristmill_protocol::RunId;
use gristmill_worker::study;
use gristmill_worker::study_log::{Search, StudyLog, log_name, search_of};
use serde_json::{Value, json};

use crate::text::{self, Table};

/// A search and its trials as far as they have come.
pub struct Searched {
    step: String,
    search: Search,
    trials: Vec<Trial>,
    /// Seconds that trials took together, as their workers measured.
    seconds: f64,
    winner: Option<u32>,
    is_over: bool,
}

/// All searches of a run, by step.
pub async fn read(state: &dyn State, run: RunId) -> anyhow::Result<Vec<Searched>> {
    let prefix = log_name(run, "");
    let mut found = Vec::new();
    for name in state.logs(&prefix).await? {
        let Some(search) = search_of(state, &name).await? else { continue };
        let asked = study(&search.tune, search.better)
            .map_err(|failure| anyhow::anyhow!(failure.message))
            .context("the search can't be read")?;
        let mut log = StudyLog::new(state, name.clone(), asked);
        log.read().await?;
        found.push(Searched {
            step: name[prefix.len()..].to_owned(),
            trials: log.study().trials(),
            seconds: log.records().iter().map(|record| record.seconds).sum(),
            winner: log.study().winner().map(|trial| trial.number),
            is_over: log.study().is_over(),
            search,
        });
    }
    Ok(found)
}

/// The searches as text: the best trials first.
pub fn text(searches: &[Searched]) -> String {
    if searches.is_empty() {
        return "the run has no search, or none that has begun\n".to_owned();
    }
    let mut out = String::new();
    for searched in searches {
        let measured = searched.trials.iter().filter(|trial| !trial.scores.is_empty()).count();
        let how = if searched.is_over { "over" } else { "under way" };
        writeln!(
            out,
            "{}: {how}, {measured} of {} trials measured, {} of work; by `{}`",
            searched.step,
            searched.search.tune.trials,
            text::seconds(searched.seconds),
            searched.search.metric,
        )
        .expect("a string takes all text");
        let mut table = Table::new(&["", ">trial", ">score", ">rows", "state", "settings"]);
        for trial in by_rank(searched) {
            let (rows, score) = match trial.scores.last() {
                // Without halving all rows are seen, and the resource is 1.
                Some((1, score)) => ("100 %".to_owned(), format!("{score:.5}")),
                Some((percent, score)) => (format!("{percent} %"), format!("{score:.5}")),
                None => (String::new(), String::new()),
            };
            let mark = if searched.winner == Some(trial.number) { "*" } else { "" };
            table.row([
                mark.to_owned(),
                trial.number.to_string(),
                score,
                rows,
                state(trial),
                settings(&trial.assignment),
            ]);
        }
        out += &table.to_string();
    }
    out
}

/// The searches as JSON, trials in their order.
pub fn to_json(searches: &[Searched]) -> anyhow::Result<Value> {
    let each = searches.iter().map(|searched| {
        Ok(json!({
            "step": searched.step,
            "metric": searched.search.metric,
            "over": searched.is_over,
            "winner": searched.winner,
            "seconds": searched.seconds,
            "trials": serde_json::to_value(&searched.trials)?,
        }))
    });
    Ok(Value::Array(each.collect::<anyhow::Result<_>>()?))
}

/// The trials that got furthest first, of these the best.
fn by_rank(searched: &Searched) -> Vec<&Trial> {
    let better: Better = searched.search.better;
    let mut trials: Vec<&Trial> = searched.trials.iter().collect();
    trials.sort_by(|a, b| {
        let rank = |trial: &Trial| trial.scores.last().map(|(resource, score)| (*resource, better.loss(*score)));
        match (rank(a), rank(b)) {
            (Some((far_a, loss_a)), Some((far_b, loss_b))) => far_b.cmp(&far_a).then(loss_a.total_cmp(&loss_b)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    });
    trials
}

fn state(trial: &Trial) -> String {
    match &trial.state {
        TrialState::Running { .. } => "running".to_owned(),
        TrialState::Scored => "scored".to_owned(),
        TrialState::Pruned { reason } => format!("pruned: {reason}"),
        TrialState::Failed { reason } => format!("failed: {reason}"),
    }
}

fn settings(assignment: &Assignment) -> String {
    assignment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
