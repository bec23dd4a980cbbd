//! What is logged to a run: metrics, parameters, tags, inputs and outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::runs::RUN_ID;
use super::{Answer, Api, endpoint, nothing};
use crate::Mlflow;
use crate::refusal::Refusal;
use crate::request::{Asked, Field, KEY_VALUE, Kind, missing};
use crate::tracking::{DatasetInput, LoggedModel, LoggedModelFact, Metric, Run, RunFact};
use crate::validate::{self, BATCH_MAX};

/// Parameters, tags, metrics by name, inputs and outputs of one run, all together: a run is folded in memory.
pub(super) const ENTITIES_MAX: usize = 50_000;
/// Metrics in one fact, which with the longest names stays under what an entry of a log may hold.
const METRICS_IN_FACT: usize = 100;
/// The tag that old clients find a run's models in.
const LOGGED_MODELS: &str = "mlflow.log-model.history";

const METRIC: &[Field] = &[
    Field::text("key"),
    Field::new("value", Kind::Float),
    Field::int("timestamp"),
    Field::int("step"),
    Field::text("model_id"),
    Field::text("dataset_name"),
    Field::text("dataset_digest"),
];

pub(super) fn routes() -> Api {
    const LOG_METRIC: &[Field] = &[
        RUN_ID,
        Field::text("key").required(),
        Field::new("value", Kind::Float).required(),
        Field::int("timestamp").required(),
        Field::int("step"),
        Field::text("model_id"),
        Field::text("dataset_name"),
        Field::text("dataset_digest"),
    ];
    const PAIR: &[Field] = &[RUN_ID, Field::text("key").required(), Field::text("value")];
    const KEY: &[Field] = &[RUN_ID, Field::text("key").required()];
    const BATCH: &[Field] = &[
        RUN_ID,
        Field::new("metrics", Kind::Objects(METRIC)),
        Field::new("params", Kind::Objects(KEY_VALUE)),
        Field::new("tags", Kind::Objects(KEY_VALUE)),
    ];
    const DATASET: &[Field] = &[
        Field::text("name"),
        Field::text("digest"),
        Field::text("source_type"),
        Field::text("source"),
        Field::text("schema"),
        Field::text("profile"),
    ];
    const DATASET_INPUT: &[Field] =
        &[Field::new("tags", Kind::Objects(KEY_VALUE)), Field::new("dataset", Kind::Object(DATASET))];
    const MODEL: &[Field] = &[Field::text("model_id"), Field::int("step")];
    const INPUTS: &[Field] =
        &[RUN_ID, Field::new("datasets", Kind::Objects(DATASET_INPUT)), Field::new("models", Kind::Objects(MODEL))];
    const OUTPUTS: &[Field] = &[RUN_ID, Field::new("models", Kind::Objects(MODEL)).required()];
    const LOG_MODEL: &[Field] = &[RUN_ID, Field::text("model_json").required()];
    let post = MethodFilter::POST;
    Api::new()
        .route("/runs/log-metric", endpoint(post, LOG_METRIC, log_metric))
        .route("/runs/log-parameter", endpoint(post, PAIR, log_parameter))
        .route("/runs/set-tag", endpoint(post, PAIR, set_tag))
        .route("/runs/delete-tag", endpoint(post, KEY, delete_tag))
        .route("/runs/log-batch", endpoint(post, BATCH, log_batch))
        .route("/runs/log-inputs", endpoint(post, INPUTS, log_inputs))
        .route("/runs/outputs", endpoint(post, OUTPUTS, log_outputs))
        .route("/runs/log-model", endpoint(post, LOG_MODEL, log_model))
}

/// Checks a key and its value, which stand at a path of the request.
type CheckPair = fn(&str, &str, &str) -> Result<(String, String), Refusal>;

fn metric(path: &str, asked: &Asked) -> Result<Metric, Refusal> {
    let text = |name: &str| Some(asked.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let (key, timestamp) = (asked.text("key"), asked.int("timestamp").unwrap_or_default());
    validate::metric(path, key, timestamp)?;
    Ok(Metric {
        key: key.to_owned(),
        value: Metric::kept(asked.float("value").unwrap_or_default()),
        timestamp,
        step: asked.int("step").unwrap_or_default(),
        model: text("model_id"),
        dataset: text("dataset_name").map(|name| (name, asked.text("dataset_digest").to_owned())),
        run: None,
    })
}

fn measured(metrics: &[Metric]) -> impl Iterator<Item = RunFact> {
    metrics.chunks(METRICS_IN_FACT).map(|metrics| RunFact::Measured { metrics: metrics.to_vec() })
}

/// Refuses facts that would make a run too large.
fn check_size(run: &Run, facts: &[RunFact]) -> Result<(), Refusal> {
    let new = facts.iter().map(|fact| match fact {
        RunFact::Param { key, .. } => usize::from(!run.params.contains_key(key)),
        RunFact::Tagged { key, value: Some(_) } => usize::from(!run.tags.contains_key(key)),
        RunFact::Measured { metrics } => metrics.iter().filter(|one| !run.metrics.contains_key(&one.key)).count(),
        RunFact::DatasetUsed { .. } | RunFact::ModelUsed { .. } | RunFact::ModelMade { .. } => 1,
        _ => 0,
    });
    if run.entities() + new.sum::<usize>() <= ENTITIES_MAX {
        return Ok(());
    }
    let text = format!("a run has up to {ENTITIES_MAX} parameters, tags, metrics, inputs and outputs, all together");
    Err(Refusal::invalid(text))
}

impl Mlflow {
    /// Adds facts to a run, for as long as it doesn't get too large.
    async fn log(&self, asked: &Asked, decide: impl Fn(&Run) -> Result<Vec<RunFact>, Refusal>) -> Result<(), Refusal> {
        let checked = |run: &Run| {
            let facts = decide(run)?;
            check_size(run, &facts)?;
            Ok((facts, ()))
        };
        self.change_run(asked, false, checked).await
    }

    /// Adds to logged models what was measured of them.
    async fn log_to_models(&self, asked: &Asked, metrics: &[Metric]) -> Result<(), Refusal> {
        let mut by_model: BTreeMap<&str, Vec<Metric>> = BTreeMap::new();
        for metric in metrics {
            if let Some(model) = &metric.model {
                let of_run = Metric { run: Some(asked.text("run_id").to_owned()), ..metric.clone() };
                by_model.entry(model).or_default().push(of_run);
            }
        }
        for (model, metrics) in by_model {
            let facts =
                metrics.chunks(METRICS_IN_FACT).map(|some| LoggedModelFact::Measured { metrics: some.to_vec() });
            let facts: Vec<LoggedModelFact> = facts.collect();
            let count = metrics.len();
            let decide = |known: &LoggedModel| {
                if known.entities() + count > ENTITIES_MAX {
                    return Err(Refusal::invalid(format!("a logged model has up to {ENTITIES_MAX} metrics")));
                }
                Ok(facts.clone())
            };
            self.change_logged_model(model, &asked.by, decide).await?;
        }
        Ok(())
    }
}

async fn log_metric(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let metric = metric("", &asked)?;
    mlflow.log(&asked, |_| Ok(measured(std::slice::from_ref(&metric)).collect())).await?;
    mlflow.log_to_models(&asked, &[metric]).await?;
    Ok(nothing())
}

async fn log_parameter(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (key, value) = validate::param("", asked.text("key"), asked.text("value"))?;
    let decide = |run: &Run| match run.params.get(&key) {
        Some(known) if *known == value => Ok(Vec::new()),
        Some(known) => Err(Refusal::invalid(format!(
            "Changing param values is not allowed. Param with key='{key}' was already logged with value='{known}' for run \
             ID='{}'. Attempted logging new value '{value}'.",
            run.id
        ))),
        None => Ok(vec![RunFact::Param { key: key.clone(), value: value.clone() }]),
    };
    mlflow.log(&asked, decide).await?;
    Ok(nothing())
}

async fn set_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (key, value) = validate::run_tag("", asked.text("key"), asked.text("value"))?;
    mlflow.log(&asked, |_| Ok(vec![RunFact::Tagged { key: key.clone(), value: Some(value.clone()) }])).await?;
    Ok(nothing())
}

async fn delete_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let key = asked.text("key");
    let decide = |run: &Run| match run.tags.contains_key(key) {
        true => Ok((vec![RunFact::Tagged { key: key.to_owned(), value: None }], ())),
        false => Err(Refusal::missing(format!("No tag with name: {key} in run with id {}", run.id))),
    };
    mlflow.change_run(&asked, false, decide).await?;
    Ok(nothing())
}

async fn log_batch(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    for (list, needed) in [("metrics", &["key", "value", "timestamp"][..]), ("params", &["key"]), ("tags", &["key"])] {
        for (place, one) in asked.objects(list).iter().enumerate() {
            let lacks = |name: &&&str| !one.has(name) || (**name == "key" && one.text(name).is_empty());
            if let Some(name) = needed.iter().find(lacks) {
                return Err(missing(&format!("{list}[{place}].{name}")));
            }
        }
    }
    let metrics = asked.objects("metrics");
    let metrics = metrics.iter().enumerate().map(|(place, one)| metric(&format!("metrics[{place}]"), one));
    let metrics = metrics.collect::<Result<Vec<Metric>, _>>()?;
    let pairs = |name: &str, check: CheckPair| {
        let pairs = asked.pairs(name).into_iter().enumerate();
        let checked = pairs.map(|(place, (key, value))| check(&format!("{name}[{place}]"), &key, &value));
        checked.collect::<Result<Vec<_>, Refusal>>()
    };
    let params = pairs("params", validate::param)?;
    let tags = pairs("tags", validate::run_tag)?;
    validate::batch(metrics.len(), params.len(), tags.len())?;
    let again =
        params.iter().enumerate().find(|(place, (key, _))| params[..*place].iter().any(|(known, _)| known == key));
    if let Some((_, (key, _))) = again {
        return Err(Refusal::invalid(format!(
            "Duplicate parameter keys have been submitted: ['{key}']. Please ensure the request contains only one param \
             value per param key."
        )));
    }
    let decide = |run: &Run| {
        let mut facts = Vec::new();
        for (key, value) in &params {
            match run.params.get(key) {
                Some(known) if known == value => {}
                Some(known) => {
                    return Err(Refusal::invalid(format!(
                        "Changing param values is not allowed. Params were already logged='[{{'key': '{key}', \
                         'old_value': '{known}', 'new_value': '{value}'}}]' for run ID='{}'.",
                        run.id
                    )));
                }
                None => facts.push(RunFact::Param { key: key.clone(), value: value.clone() }),
            }
        }
        facts.extend(measured(&metrics));
        facts.extend(tags.iter().cloned().map(|(key, value)| RunFact::Tagged { key, value: Some(value) }));
        Ok(facts)
    };
    mlflow.log(&asked, decide).await?;
    mlflow.log_to_models(&asked, &metrics).await?;
    Ok(nothing())
}

async fn log_inputs(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let datasets: Vec<DatasetInput> = asked.objects("datasets").iter().map(dataset_input).collect();
    let models = asked.objects("models");
    if datasets.len() > BATCH_MAX || models.len() > BATCH_MAX {
        return Err(Refusal::invalid(format!("a request can contain at most {BATCH_MAX} inputs")));
    }
    let decide = |run: &Run| {
        let mut facts: Vec<RunFact> = Vec::new();
        let mut known: Vec<(&str, &str)> = run.datasets.iter().map(|one| (&*one.name, &*one.digest)).collect();
        for input in &datasets {
            if !known.contains(&(&input.name, &input.digest)) {
                known.push((&input.name, &input.digest));
                facts.push(RunFact::DatasetUsed { input: input.clone() });
            }
        }
        let new =
            models.iter().map(|one| one.text("model_id")).filter(|id| !run.models_used.iter().any(|one| one == id));
        facts.extend(new.map(|id| RunFact::ModelUsed { model: id.to_owned() }));
        Ok(facts)
    };
    mlflow.log(&asked, decide).await?;
    Ok(nothing())
}

fn dataset_input(asked: &Asked) -> DatasetInput {
    let dataset = asked.object("dataset").unwrap_or_default();
    let text = |name: &str| dataset.text(name).to_owned();
    DatasetInput {
        tags: asked.pairs("tags"),
        name: text("name"),
        digest: text("digest"),
        source_type: text("source_type"),
        source: text("source"),
        schema: dataset.given("schema").map(str::to_owned),
        profile: dataset.given("profile").map(str::to_owned),
    }
}

async fn log_outputs(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let models = asked.objects("models");
    if models.len() > BATCH_MAX {
        return Err(Refusal::invalid(format!("a request can contain at most {BATCH_MAX} outputs")));
    }
    let made = |one: &Asked| (one.text("model_id").to_owned(), one.int("step").unwrap_or_default());
    let decide = |run: &Run| {
        let new = models.iter().map(made).filter(|made| !run.models_made.contains(made));
        Ok(new.map(|(model, step)| RunFact::ModelMade { model, step }).collect())
    };
    mlflow.log(&asked, decide).await?;
    Ok(nothing())
}

/// What clients before MLflow 3 say of a model: it is kept in a tag.
async fn log_model(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let text = asked.text("model_json");
    let malformed = || Refusal::invalid(format!("Malformed model info. \n {text} \n is not a valid JSON."));
    let model: Value = serde_json::from_str(text).map_err(|_| malformed())?;
    let Value::Object(model) = model else { return Err(malformed()) };
    let needed = ["artifact_path", "flavors", "run_id", "utc_time_created"];
    let lacking: Vec<&str> = needed.into_iter().filter(|name| !model.contains_key(*name)).collect();
    if !lacking.is_empty() {
        return Err(Refusal::invalid(format!("Model json is missing mandatory fields: {lacking:?}")));
    }
    let decide = |run: &Run| {
        let known = run.tags.get(LOGGED_MODELS).and_then(|text| serde_json::from_str(text).ok());
        let mut all: Vec<Value> = known.unwrap_or_default();
        let mut kept = model.clone();
        // Of a flavour its configuration is what is looked for; the rest can be long.
        kept.remove("signature");
        all.push(json!(kept));
        let value = Value::Array(all).to_string();
        Ok(vec![RunFact::Tagged { key: LOGGED_MODELS.to_owned(), value: Some(value) }])
    };
    mlflow.log(&asked, decide).await?;
    Ok(nothing())
}
