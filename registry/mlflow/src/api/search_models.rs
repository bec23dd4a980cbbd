//! Searches of registered models and of versions. Prompts are kept as models and told only to who asks for them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::model_views::{IS_PROMPT, SearchedModel, SearchedVersion, is_prompt, model_json, version_json};
use super::run_views::key_of;
use super::{Answer, nothing};
use crate::Mlflow;
use crate::refusal::Refusal;
use crate::request::{Asked, wrong};
use crate::search::{
    Clause, Comparator, Dialect, Key, Order, Page, Searched, Subject, Value as Operand, by_clauses, parse,
    parse_orders, token_of,
};

/// Models when nobody says how many, and at the most.
const MODELS_USUAL: i64 = 100;
const MODELS_MOST: i64 = 1_000;
/// The same of versions.
const VERSIONS_USUAL: i64 = 10_000;
const VERSIONS_MOST: i64 = 200_000;

const MODELS: Dialect = Dialect {
    text_attributes: &["name"],
    number_attributes: &[],
    lists: &["name"],
    runs: false,
    nulls: false,
    quoted_numbers: true,
};
const MODEL_ORDERS: Dialect = Dialect { number_attributes: &["timestamp", "last_updated_timestamp"], ..MODELS };
const VERSIONS: Dialect = Dialect {
    text_attributes: &["name", "run_id", "source_path"],
    number_attributes: &["version_number"],
    lists: &["name", "run_id"],
    ..MODELS
};
const VERSION_ORDERS: Dialect = Dialect {
    text_attributes: &["name"],
    number_attributes: &["version_number", "creation_timestamp", "last_updated_timestamp"],
    ..MODELS
};

/// A filter, and whether it asks for prompts instead of models.
struct Filter {
    clauses: Vec<Clause>,
    prompts: bool,
}

impl Filter {
    fn read(text: &str, dialect: &Dialect) -> Result<Filter, Refusal> {
        let mut clauses = parse(text, dialect)?;
        let about = |clause: &Clause| matches!(&clause.subject, Subject::Tag(key) if key == IS_PROMPT);
        let says = |clause: &Clause, wanted: &str| matches!(&clause.value, Operand::Text(text) if text.eq_ignore_ascii_case(wanted));
        let prompts = clauses.iter().find(|clause| about(clause)).is_some_and(|clause| match clause.comparator {
            Comparator::Equal => says(clause, "true"),
            Comparator::NotEqual => says(clause, "false"),
            _ => false,
        });
        // A model has no such tag, and is none all the same.
        clauses.retain(|clause| !about(clause));
        Ok(Filter { clauses, prompts })
    }

    fn fits(&self, searched: &impl Searched, is_prompt: bool) -> bool {
        is_prompt == self.prompts && self.clauses.iter().all(|clause| clause.fits(searched))
    }

    /// The one name that is asked for, where it is one.
    fn name(&self) -> Option<&str> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause { subject: Subject::Attribute(key), comparator: Comparator::Equal, value: Operand::Text(text) } => {
                (key == "name").then_some(text.as_str())
            }
            _ => None,
        })
    }
}

impl Mlflow {
    /// The models among which a filter looks: all, or the one that it names.
    async fn models_for(&self, filter: &Filter) -> Result<Vec<Arc<gristmill_registry::ModelView>>, Refusal> {
        match filter.name() {
            Some(name) => Ok(self.find_model(name).await?.into_iter().collect()),
            None => Ok(self.registry.models().await?),
        }
    }
}

fn orders(asked: &Asked, usual: &[&str], dialect: &Dialect) -> Result<Vec<Order>, Refusal> {
    let mut texts = asked.texts("order_by");
    if texts.is_empty() {
        texts = usual.iter().map(|text| (*text).to_owned()).collect();
    }
    let orders = parse_orders(&texts, dialect)?;
    if orders.iter().any(|order| matches!(order.subject, Subject::Tag(_))) {
        return Err(Refusal::invalid("Invalid order_by entity: tag"));
    }
    Ok(orders)
}

fn keys(searched: &impl Searched, orders: &[Order]) -> Vec<Key> {
    orders.iter().map(|order| key_of(searched.found(&order.subject))).collect()
}

fn answer(name: &str, rows: Vec<Value>, next: Option<String>) -> Value {
    let mut answer = nothing();
    if !rows.is_empty() {
        answer[name] = Value::Array(rows);
    }
    if let Some(next) = next {
        answer["next_page_token"] = json!(next);
    }
    answer
}

fn size_of(asked: &Asked, usual: i64, most: i64) -> Result<i64, Refusal> {
    let size = asked.int("max_results").unwrap_or(usual);
    if size > most { Err(wrong("max_results", &json!(size))) } else { Ok(size) }
}

pub(super) async fn search_models(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let size = size_of(&asked, MODELS_USUAL, MODELS_MOST)?;
    // MLflow's server answers an empty page, whose next one is where it was.
    let size = usize::try_from(size).map_err(|_| wrong("max_results", &json!(size)))?;
    let filter = Filter::read(asked.text("filter"), &MODELS)?;
    let orders = orders(&asked, &[], &MODEL_ORDERS)?;
    let page = Page::at(asked.text("page_token"), size)?;
    let models = mlflow.models_for(&filter).await?.into_iter().map(SearchedModel);
    let fitting = models.filter(|model| filter.fits(model, is_prompt(&model.0)));
    let mut found: Vec<(Vec<Key>, SearchedModel)> = fitting.map(|model| (keys(&model, &orders), model)).collect();
    found.sort_by(|(left_keys, left), (right_keys, right)| {
        by_clauses(&orders, left_keys, right_keys).then_with(|| left.0.name.cmp(&right.0.name))
    });
    let (found, mut next) = page.of(found);
    if size == 0 && next.is_some() {
        next = Some(token_of(page.offset));
    }
    let rows = found.iter().map(|(_, model)| model_json(&model.0)).collect();
    Ok(answer("registered_models", rows, next))
}

pub(super) async fn search_versions(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let size = size_of(&asked, VERSIONS_USUAL, VERSIONS_MOST)?;
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| {
        Refusal::invalid(format!("Invalid value for max_results. It must be a positive integer, but got {size}"))
    })?;
    let filter = Filter::read(asked.text("filter"), &VERSIONS)?;
    let usual = ["last_updated_timestamp DESC", "name ASC", "version_number DESC"];
    let orders = orders(&asked, &usual, &VERSION_ORDERS)?;
    let page = Page::at(asked.text("page_token"), size)?;
    let mut found = Vec::new();
    for model in mlflow.models_for(&filter).await? {
        let versions = (0..model.versions.len()).map(|place| SearchedVersion { model: Arc::clone(&model), place });
        let fitting = versions.filter(|version| filter.fits(version, version.is_prompt()));
        found.extend(fitting.map(|version| (keys(&version, &orders), version)));
    }
    found.sort_by(|(left_keys, left), (right_keys, right)| {
        by_clauses(&orders, left_keys, right_keys)
            .then_with(|| left.model.name.cmp(&right.model.name))
            .then_with(|| right.version().version.cmp(&left.version().version))
    });
    let (found, next) = page.of(found);
    let rows = found.iter().map(|(_, one)| version_json(&one.model, one.version())).collect();
    Ok(answer("model_versions", rows, next))
}
