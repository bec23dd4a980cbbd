//! A search of logged models, by what was measured of them on which dataset too.

use std::sync::Arc;

use serde_json::{Value, json};

use super::run_views::key_of;
use super::{Answer, nothing, page_size};
use crate::Mlflow;
use crate::refusal::{Code, Refusal};
use crate::request::Asked;
use crate::search::{Dialect, Found, Key, Order, Page, Searched, Subject, by_clauses, parse};
use crate::tracking::{LoggedModel, Metric};

/// Rows when nobody says how many, and at the most.
const USUAL: i64 = 50;
const MOST: i64 = 50_000;
/// Fields of an order, datasets and experiments of one search.
const LIST_MAX: usize = 1_000;

const DIALECT: Dialect = Dialect {
    text_attributes: &["name", "model_id", "model_type", "status", "source_run_id"],
    number_attributes: &["creation_timestamp", "creation_time", "last_updated_timestamp", "last_updated_time"],
    lists: &["name", "model_id", "model_type", "status", "source_run_id"],
    runs: true,
    nulls: false,
    quoted_numbers: false,
};

/// A dataset to which measurements are limited: name, and digest where one is given.
type Dataset = (String, Option<String>);

/// A logged model, of which only what was measured on some datasets counts.
struct Seen<'a> {
    model: &'a LoggedModel,
    datasets: &'a [Dataset],
}

fn is_on(metric: &Metric, (name, digest): &Dataset) -> bool {
    let Some((of, with)) = &metric.dataset else { return false };
    of == name && digest.as_ref().is_none_or(|digest| digest == with)
}

impl Seen<'_> {
    /// What was measured on the datasets, where there are some.
    fn metrics(&self) -> impl Iterator<Item = &Metric> {
        let counts = |metric: &&Metric| self.datasets.is_empty() || self.datasets.iter().any(|one| is_on(metric, one));
        self.model.metrics.values().filter(counts)
    }
}

impl Searched for Seen<'_> {
    fn found(&self, subject: &Subject) -> Found<'_> {
        let model = self.model;
        match subject {
            Subject::Attribute(key) => match key.as_str() {
                "name" => model.name.as_str().into(),
                "model_id" => model.id.as_str().into(),
                "model_type" => model.model_type.as_str().into(),
                "status" => model.status.short().into(),
                "source_run_id" => model.run.as_str().into(),
                "creation_timestamp" | "creation_time" => Found::Number(model.created.0 as f64),
                _ => Found::Number(model.changed.0 as f64),
            },
            Subject::Metric(key) => {
                let newest = self.metrics().filter(|metric| metric.key == *key).max_by_key(|metric| metric.timestamp);
                newest.map_or(Found::Nothing, |metric| Found::Number(metric.value))
            }
            Subject::Param(key) => model.params.get(key).into(),
            Subject::Tag(key) => model.tags.get(key).into(),
            Subject::Dataset(_) => Found::Nothing,
        }
    }
}

/// A field to sort by, and the dataset that it is limited to.
fn order(asked: &Asked) -> Result<(Order, Vec<Dataset>), Refusal> {
    let name = asked.text("field_name").trim();
    let subject = match name.split_once('.') {
        Some(("metrics", key)) => Subject::Metric(key.to_owned()),
        None if DIALECT.text_attributes.iter().chain(DIALECT.number_attributes).any(|known| *known == name) => {
            Subject::Attribute(name.to_owned())
        }
        _ => return Err(Refusal::invalid(format!("Invalid order by field name: {name}"))),
    };
    let dataset = dataset(asked);
    if asked.has("dataset_digest") && dataset.is_none() {
        let text = "`dataset_digest` can only be specified if `dataset_name` is also specified.";
        return Err(Refusal::invalid(text));
    }
    let ascending = !asked.has("ascending") || asked.bool("ascending");
    Ok((Order { subject, ascending }, dataset.into_iter().collect()))
}

fn dataset(asked: &Asked) -> Option<Dataset> {
    let text = |name: &str| Some(asked.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    Some((text("dataset_name")?, text("dataset_digest")))
}

pub(super) async fn search(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let size = page_size(&asked, USUAL, MOST)?;
    let page = Page::at(asked.text("page_token"), size)?;
    let clauses = parse(asked.text("filter"), &DIALECT)?;
    let orders = asked.objects("order_by").iter().map(order).collect::<Result<Vec<_>, _>>()?;
    let datasets: Vec<Dataset> = asked.objects("datasets").iter().filter_map(dataset).collect();
    let ids = asked.texts("experiment_ids");
    if [orders.len(), datasets.len(), ids.len()].into_iter().any(|length| length > LIST_MAX) {
        return Err(Refusal::invalid(format!("a list of a search has up to {LIST_MAX} entries")));
    }
    let asks_metrics = clauses.iter().any(|clause| matches!(clause.subject, Subject::Metric(_)));
    let fits = |model: &LoggedModel| {
        let seen = Seen { model, datasets: &datasets };
        let measured = datasets.is_empty() || asks_metrics || seen.metrics().next().is_some();
        !model.id.is_empty() && !model.deleted && measured && clauses.iter().all(|clause| clause.fits(&seen))
    };
    let mut found: Vec<Arc<LoggedModel>> = Vec::new();
    for id in ids {
        let experiment = match mlflow.experiment(&id).await {
            Ok(experiment) => experiment.id,
            Err(refusal) if refusal.code == Code::ResourceDoesNotExist => continue,
            Err(refusal) => return Err(refusal),
        };
        let members = mlflow.members.read(&experiment).await?;
        found.append(&mut mlflow.logged_models.read_fitting(&members.logged_models, fits).await?);
    }
    let keys = |model: &LoggedModel| -> Vec<Key> {
        let key = |(order, datasets): &(Order, Vec<Dataset>)| key_of(Seen { model, datasets }.found(&order.subject));
        orders.iter().map(key).collect()
    };
    let by: Vec<Order> = orders.iter().map(|(order, _)| order.clone()).collect();
    found.sort_by(|left, right| {
        by_clauses(&by, &keys(left), &keys(right))
            .then_with(|| right.created.cmp(&left.created))
            .then_with(|| left.id.cmp(&right.id))
    });
    found.dedup_by(|left, right| left.id == right.id);
    let (found, next) = page.of(found);
    let mut answer = nothing();
    if !found.is_empty() {
        answer["models"] = Value::Array(found.iter().map(|model| model.json()).collect());
    }
    if let Some(next) = next {
        answer["next_page_token"] = json!(next);
    }
    Ok(answer)
}
