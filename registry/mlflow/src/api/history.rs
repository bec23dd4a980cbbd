//! The history of a metric, read from the run's log when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, nothing};
use crate::Mlflow;
use crate::refusal::{Code, Refusal};
use crate::request::Asked;
use crate::search::Page;
use crate::tracking::{Metric, RunFact};

/// Values of one history in memory: some hundred megabytes, with their JSON.
const VALUES_MAX: usize = 500_000;
/// Values of one answer that doesn't ask for a number; clients go on with its token.
const PAGE: usize = 25_000;

pub(super) async fn history(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (id, key) = (asked.text("run_id"), asked.text("metric_key"));
    let size = match asked.int("max_results") {
        Some(size) => usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| {
            let text =
                format!("Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer.");
            Refusal::invalid(text)
        })?,
        None => PAGE,
    };
    let page = Page::at(asked.text("page_token"), size)?;
    let values = match mlflow.run(id).await {
        // A value that is logged again is there once.
        Ok(run) if !run.metrics.contains_key(key) => BTreeMap::new(),
        Ok(run) if mlflow.runs.read(id).await?.id.is_empty() => {
            run.metrics.get(key).map(|metric| (metric.place(), metric.clone())).into_iter().collect()
        }
        Ok(_) => mlflow.values_of(id, key).await?,
        // MLflow's server doesn't ask whether the run is there.
        Err(refusal) if refusal.code == Code::ResourceDoesNotExist => BTreeMap::new(),
        Err(refusal) => return Err(refusal),
    };
    let (values, next) = page.of(values.into_values().collect());
    let mut answer = nothing();
    if !values.is_empty() {
        answer["metrics"] = Value::Array(values.iter().map(Metric::json).collect());
    }
    if let Some(next) = next {
        answer["next_page_token"] = json!(next);
    }
    Ok(answer)
}

impl Mlflow {
    /// All values of a metric, by time, step and value.
    async fn values_of(&self, run: &str, key: &str) -> Result<BTreeMap<(i64, i64, u64, bool), Metric>, Refusal> {
        let mut values = BTreeMap::new();
        let mut too_many = false;
        let take = |_, fact| {
            let RunFact::Measured { metrics } = fact else { return };
            for metric in metrics.into_iter().filter(|metric| metric.key == key) {
                too_many |= values.len() >= VALUES_MAX;
                if !too_many {
                    values.insert(metric.place(), metric);
                }
            }
        };
        self.runs.each(run, take).await?;
        if too_many {
            return Err(Refusal::invalid(format!(
                "the metric has more than {VALUES_MAX} values, which is too long to tell"
            )));
        }
        Ok(values)
    }
}
