//! Experiments: names under which runs and logged models are kept.

use std::sync::Arc;

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::{Answer, Api, endpoint, nothing, page_size};
use crate::Mlflow;
use crate::pipelines::{PREFIX, experiment_id};
use crate::refusal::{Code, Refusal};
use crate::request::{Asked, Field, KEY_VALUE, Kind};
use crate::search::{Dialect, Found, Key, Page, Searched, Subject, by_clauses, parse, parse_orders};
use crate::tracking::{Experiment, ExperimentFact, Experiments};
use crate::validate;

/// The log of all experiments.
const ALL: &str = "all";
/// Experiments at the most: all are folded together.
const EXPERIMENTS_MAX: usize = 10_000;
/// Tags of one experiment.
const TAGS_MAX: usize = 1_000;
/// The experiment of runs that name none.
const DEFAULT: &str = "0";

const ID: Field = Field::text("experiment_id").required();
/// Which of deleted and others are asked for.
pub(super) const VIEWS: &[&str] = &["ACTIVE_ONLY", "DELETED_ONLY", "ALL"];

const DIALECT: Dialect = Dialect {
    text_attributes: &["name", "experiment_id"],
    number_attributes: &["creation_time", "last_update_time"],
    lists: &["experiment_id"],
    runs: false,
    nulls: true,
    quoted_numbers: false,
};

pub(super) fn routes() -> Api {
    const CREATE: &[Field] = &[
        Field::text("name").required(),
        Field::text("artifact_location"),
        Field::new("tags", Kind::Objects(KEY_VALUE)),
    ];
    const UPDATE: &[Field] = &[ID, Field::text("new_name").required()];
    const SEARCH: &[Field] = &[
        Field::new("view_type", Kind::Name),
        Field::int("max_results"),
        Field::texts("order_by"),
        Field::text("filter"),
        Field::text("page_token"),
    ];
    const TAG: &[Field] = &[ID, Field::text("key").required(), Field::text("value")];
    const NAME: &[Field] = &[Field::text("experiment_name").required()];
    let (get, post) = (MethodFilter::GET, MethodFilter::POST);
    Api::new()
        .route("/experiments/create", endpoint(post, CREATE, create))
        .route("/experiments/get", endpoint(get, &[ID], show))
        .route("/experiments/get-by-name", endpoint(get, NAME, by_name))
        .route("/experiments/update", endpoint(post, UPDATE, update))
        .route("/experiments/delete", endpoint(post, &[ID], delete))
        .route("/experiments/restore", endpoint(post, &[ID], restore))
        .route("/experiments/set-experiment-tag", endpoint(post, TAG, set_tag))
        .route("/experiments/delete-experiment-tag", endpoint(post, TAG, delete_tag))
        .route("/experiments/search", endpoint(get.or(post), SEARCH, search))
}

/// The facts by which the experiment of runs that name none begins.
fn first(experiments: &Experiments) -> Vec<ExperimentFact> {
    if !experiments.0.is_empty() {
        return Vec::new();
    }
    let (name, location) = ("Default".to_owned(), "mlflow-artifacts:/0".to_owned());
    vec![ExperimentFact::Created { number: 0, name, location, tags: Vec::new() }]
}

fn none(id: &str) -> Refusal {
    if id.parse::<u64>().is_ok() || id.starts_with("p-") {
        return Refusal::missing(format!("No Experiment with id={id} exists"));
    }
    Refusal::invalid(format!("Invalid experiment ID '{id}'. Experiment ID must be a valid integer."))
}

impl Mlflow {
    /// Those that clients made.
    async fn own_experiments(&self) -> Result<Arc<Experiments>, Refusal> {
        let experiments = self.experiments.read(ALL).await?;
        if !experiments.0.is_empty() {
            return Ok(experiments);
        }
        self.experiments.change(ALL, "mlflow", |experiments| Ok((first(experiments), ()))).await?;
        self.experiments.read(ALL).await
    }

    /// All, those of pipelines included.
    async fn all_experiments(&self) -> Result<Vec<Experiment>, Refusal> {
        let mut all: Vec<Experiment> = self.own_experiments().await?.0.values().cloned().collect();
        if let Some(pipelines) = &self.pipelines {
            all.extend(pipelines.pipelines().await?.iter().map(|pipeline| pipeline.experiment()));
        }
        Ok(all)
    }

    /// An experiment, deleted or not.
    pub(super) async fn experiment(&self, id: &str) -> Result<Experiment, Refusal> {
        let id = if id.is_empty() { DEFAULT } else { id };
        if let Some(experiment) = self.own_experiments().await?.get(id) {
            return Ok(experiment.clone());
        }
        self.pipeline_of(id).await?.map(|pipeline| pipeline.experiment()).ok_or_else(|| none(id))
    }

    /// The pipeline of an experiment's id.
    pub(super) async fn pipeline_of(&self, id: &str) -> Result<Option<crate::Pipeline>, Refusal> {
        let Some(pipelines) = self.pipelines.as_ref().filter(|_| id.starts_with("p-")) else { return Ok(None) };
        Ok(pipelines.pipelines().await?.into_iter().find(|pipeline| experiment_id(&pipeline.name) == id))
    }

    /// An experiment that can take something up.
    pub(super) async fn active_experiment(&self, id: &str) -> Result<Experiment, Refusal> {
        let experiment = self.experiment(id).await?;
        refuse_pipeline(&experiment)?;
        check_active(&experiment)?;
        Ok(experiment)
    }

    /// Changes one of those that clients made.
    async fn change_experiment(
        &self,
        asked: &Asked,
        decide: impl Fn(&Experiments, &Experiment, u64) -> Result<Vec<ExperimentFact>, Refusal>,
    ) -> Answer {
        let id = asked.text("experiment_id");
        refuse_pipeline(&self.experiment(id).await?)?;
        self.experiments
            .change(ALL, &asked.by, |all| {
                let experiment = all.get(id).ok_or_else(|| none(id))?;
                let number = id.parse().map_err(|_| none(id))?;
                Ok((decide(all, experiment, number)?, ()))
            })
            .await?;
        Ok(nothing())
    }
}

fn refuse_pipeline(experiment: &Experiment) -> Result<(), Refusal> {
    if !experiment.id.starts_with("p-") {
        return Ok(());
    }
    let text =
        format!("the experiment `{}` shows a pipeline's runs, which can't be changed over MLflow", experiment.name);
    Err(Refusal::new(Code::PermissionDenied, text))
}

fn check_active(experiment: &Experiment) -> Result<(), Refusal> {
    if !experiment.deleted {
        return Ok(());
    }
    let id = &experiment.id;
    let text = format!("The experiment {id} must be in the 'active' state. Current state is deleted.");
    Err(Refusal::invalid(text))
}

async fn create(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, location) = (asked.text("name"), asked.text("artifact_location"));
    check_name(name)?;
    if location.starts_with("runs:") || location.starts_with("models:") {
        let text = format!("Artifact location cannot be a runs:/ or models:/ URI. Given: '{location}'");
        return Err(Refusal::invalid(text));
    }
    if !location.is_empty() && !location.contains(":/") {
        let text =
            format!("Artifact location '{location}' is a path on the client's machine; give an address, or none");
        return Err(Refusal::invalid(text));
    }
    let tags = asked.pairs("tags");
    tags.iter().try_for_each(|(key, value)| validate::experiment_tag(key, value))?;
    if tags.len() > TAGS_MAX {
        return Err(Refusal::invalid(format!("an experiment has up to {TAGS_MAX} tags")));
    }
    let number = mlflow
        .experiments
        .change(ALL, &asked.by, |all| {
            let mut facts = first(all);
            if all.named(name).is_some() || (!facts.is_empty() && name == "Default") {
                let text = format!("Experiment(name={name}) already exists.");
                return Err(Refusal::new(Code::ResourceAlreadyExists, text));
            }
            if all.0.len() >= EXPERIMENTS_MAX {
                return Err(Refusal::invalid(format!("there are {EXPERIMENTS_MAX} experiments, which is the most")));
            }
            let number = all.0.keys().last().copied().unwrap_or_default() + 1;
            let usual = || format!("mlflow-artifacts:/{number}");
            let location = if location.is_empty() { usual() } else { location.trim_end_matches('/').to_owned() };
            facts.push(ExperimentFact::Created { number, name: name.to_owned(), location, tags: tags.clone() });
            Ok((facts, number))
        })
        .await?;
    Ok(json!({ "experiment_id": number.to_string() }))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    validate::experiment_name(name)?;
    if name.starts_with(PREFIX) {
        return Err(Refusal::invalid(format!("names that begin with `{PREFIX}` are those of pipelines' experiments")));
    }
    Ok(())
}

async fn show(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let experiment = mlflow.experiment(asked.text("experiment_id")).await?;
    Ok(json!({ "experiment": view(&experiment) }))
}

async fn by_name(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let name = asked.text("experiment_name");
    let all = mlflow.all_experiments().await?;
    match all.iter().find(|experiment| experiment.name == name) {
        Some(experiment) => Ok(json!({ "experiment": view(experiment) })),
        None => Err(Refusal::missing(format!("Could not find experiment with name '{name}'"))),
    }
}

async fn update(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let name = asked.text("new_name");
    check_name(name)?;
    let decide = |all: &Experiments, experiment: &Experiment, number| {
        if experiment.deleted {
            return Err(Refusal::new(Code::InvalidState, "Cannot rename a non-active experiment."));
        }
        match all.named(name) {
            Some(other) if other.id != experiment.id => {
                Err(Refusal::new(Code::BadRequest, format!("Experiment(name={name}) already exists.")))
            }
            _ => Ok(vec![ExperimentFact::Renamed { number, name: name.to_owned() }]),
        }
    };
    mlflow.change_experiment(&asked, decide).await
}

async fn delete(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let decide = |_: &Experiments, experiment: &Experiment, number| match experiment.deleted {
        true => Err(none(&experiment.id)),
        false => Ok(vec![ExperimentFact::Deleted { number }]),
    };
    mlflow.change_experiment(&asked, decide).await
}

async fn restore(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let decide = |_: &Experiments, experiment: &Experiment, number| match experiment.deleted {
        true => Ok(vec![ExperimentFact::Restored { number }]),
        false => Err(none(&experiment.id)),
    };
    mlflow.change_experiment(&asked, decide).await
}

async fn set_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (key, value) = (asked.text("key"), asked.text("value"));
    validate::experiment_tag(key, value)?;
    let decide = |_: &Experiments, experiment: &Experiment, number| {
        check_active(experiment)?;
        if experiment.tags.len() >= TAGS_MAX && !experiment.tags.contains_key(key) {
            return Err(Refusal::invalid(format!("an experiment has up to {TAGS_MAX} tags")));
        }
        Ok(vec![ExperimentFact::Tagged { number, key: key.to_owned(), value: Some(value.to_owned()) }])
    };
    mlflow.change_experiment(&asked, decide).await
}

async fn delete_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let key = asked.text("key");
    let decide = |_: &Experiments, experiment: &Experiment, number| {
        check_active(experiment)?;
        if experiment.tags.contains_key(key) {
            return Ok(vec![ExperimentFact::Tagged { number, key: key.to_owned(), value: None }]);
        }
        Err(Refusal::missing(format!("No tag with name: {key} in experiment with id {}", experiment.id)))
    };
    mlflow.change_experiment(&asked, decide).await
}

async fn search(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    // Without a size, MLflow's server refuses too.
    let size = page_size(&asked, 0, 50_000)?;
    let page = Page::at(asked.text("page_token"), size)?;
    let clauses = parse(asked.text("filter"), &DIALECT)?;
    let usual = || vec!["creation_time DESC".to_owned(), "experiment_id ASC".to_owned()];
    let texts = Some(asked.texts("order_by")).filter(|texts| !texts.is_empty()).unwrap_or_else(usual);
    let orders = parse_orders(&texts, &DIALECT)?;
    if orders.iter().any(|order| matches!(order.subject, Subject::Tag(_))) {
        return Err(Refusal::invalid("Invalid order_by entity: tag"));
    }
    let view_type = asked.name_of("view_type", 1, VIEWS).unwrap_or("ACTIVE_ONLY");
    let mut found = mlflow.all_experiments().await?;
    found.retain(|one| is_seen(view_type, one.deleted) && clauses.iter().all(|clause| clause.fits(one)));
    let keys = |one: &Experiment| -> Vec<Key> { orders.iter().map(|order| key(one, &order.subject)).collect() };
    found.sort_by(|left, right| {
        by_clauses(&orders, &keys(left), &keys(right)).then_with(|| number(right).total_cmp(&number(left)))
    });
    let (found, next) = page.of(found);
    let mut answer = nothing();
    if !found.is_empty() {
        answer["experiments"] = Value::Array(found.iter().map(view).collect());
    }
    if let Some(next) = next {
        answer["next_page_token"] = json!(next);
    }
    Ok(answer)
}

/// Whether what is deleted or isn't is asked for.
pub(super) fn is_seen(view_type: &str, deleted: bool) -> bool {
    match view_type {
        "DELETED_ONLY" => deleted,
        "ALL" => true,
        _ => !deleted,
    }
}

/// The number of an experiment; those of pipelines come after all others.
fn number(experiment: &Experiment) -> f64 {
    experiment.id.parse().unwrap_or(f64::INFINITY)
}

fn key(experiment: &Experiment, subject: &Subject) -> Key {
    match subject {
        Subject::Attribute(key) if key == "name" => Key::Text(experiment.name.clone()),
        Subject::Attribute(key) if key == "experiment_id" => Key::Number(number(experiment)),
        subject => match experiment.found(subject) {
            Found::Number(number) => Key::Number(number),
            _ => Key::Nothing,
        },
    }
}

impl Searched for Experiment {
    fn found(&self, subject: &Subject) -> Found<'_> {
        match subject {
            Subject::Attribute(key) => match key.as_str() {
                "name" => self.name.as_str().into(),
                "experiment_id" => self.id.as_str().into(),
                "creation_time" => Found::Number(self.created.0 as f64),
                _ => Found::Number(self.changed.0 as f64),
            },
            Subject::Tag(key) => self.tags.get(key).into(),
            _ => Found::Nothing,
        }
    }
}

/// As MLflow's clients read it.
fn view(experiment: &Experiment) -> Value {
    let mut view = json!({
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": experiment.location,
        "lifecycle_stage": if experiment.deleted { "deleted" } else { "active" },
        "last_update_time": experiment.changed.0,
        "creation_time": experiment.created.0,
    });
    if !experiment.tags.is_empty() {
        let tag = |(key, value): (&String, &String)| json!({ "key": key, "value": value });
        view["tags"] = experiment.tags.iter().map(tag).collect();
    }
    view
}
