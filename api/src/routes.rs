//! The table of endpoints. The router, the published document and the test of rights all follow from it.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post, put};
use gristmill_protocol::api::{self, Role};
use gristmill_protocol::schedule::Schedule;
use gristmill_protocol::trigger::Trigger;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::access::Need;
use crate::{
    Api, cluster, costs, data, dead_letters, endpoints, models, openapi, pipelines, pools, runs, schedules, session,
    triggers,
};

/// A shape, added to the document's.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One endpoint.
pub struct Route {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// With its parts in braces.
    pub path: &'static str,
    pub need: Need,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Parameters after `?`: name and meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// The body that it takes.
    pub request: Payload,
    /// Status and body of its success.
    pub answer: (u16, Payload),
    /// Bytes of its body, where it may have more than others.
    pub body_bytes_max: Option<usize>,
    pub(crate) handler: MethodRouter<Arc<Api>>,
}

/// What a body is.
#[derive(Clone, Copy)]
pub enum Payload {
    Nothing,
    Json(Shape),
    Bytes,
    /// Server-sent events with this data.
    Events(Shape),
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn json<T: JsonSchema>() -> Payload {
    Payload::Json(shape::<T>)
}

impl Route {
    fn new(method: &'static str, path: &'static str, need: Need, handler: MethodRouter<Arc<Api>>) -> Route {
        Route {
            method,
            path,
            need,
            summary: "",
            query: &[],
            request: Payload::Nothing,
            answer: (200, Payload::Nothing),
            body_bytes_max: None,
            handler,
        }
    }

    fn does(mut self, summary: &'static str) -> Route {
        self.summary = summary;
        self
    }

    fn asks(mut self, query: &'static [(&'static str, &'static str)]) -> Route {
        self.query = query;
        self
    }

    fn takes(mut self, request: Payload) -> Route {
        self.request = request;
        self
    }

    fn up_to(mut self, bytes: usize) -> Route {
        self.body_bytes_max = Some(bytes);
        self
    }

    fn answers(mut self, status: u16, answer: Payload) -> Route {
        self.answer = (status, answer);
        self
    }
}

const VIEWER: Need = Need::Role(Role::Viewer);
const SUBMITTER: Need = Need::Role(Role::Submitter);
const DEPLOYER: Need = Need::Cluster(Role::Deployer);
const ADMIN: Need = Need::Cluster(Role::Admin);

const LIMIT: (&str, &str) = ("limit", "items of a page, 1 to 500");
const CURSOR: (&str, &str) = ("cursor", "`next` of the page before");
const NAMESPACE: (&str, &str) = ("namespace", "default: `default`");
const PAGED: &[(&str, &str)] = &[LIMIT, CURSOR];
const LISTED: &[(&str, &str)] = &[("namespace", "default: all that the token sees"), LIMIT, CURSOR];

/// All endpoints.
pub fn routes() -> Vec<Route> {
    [
        run_routes(),
        pipeline_routes(),
        schedule_routes(),
        trigger_routes(),
        data_routes(),
        model_routes(),
        cluster_routes(),
        cost_routes(),
        access_routes(),
        open_routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn run_routes() -> Vec<Route> {
    vec![
        Route::new("POST", "/v1/runs", SUBMITTER, post(runs::submit))
            .does("Submit a run. The header `Idempotency-Key` makes it once")
            .takes(json::<api::Submit>())
            .answers(201, json::<api::Submitted>()),
        Route::new("POST", "/v1/runs/batch", SUBMITTER, post(runs::submit_many))
            .does("Submit many runs, each for itself")
            .takes(json::<api::SubmitMany>())
            .up_to(runs::SUBMIT_MANY_BYTES_MAX)
            .answers(200, json::<api::SubmittedMany>()),
        Route::new("GET", "/v1/runs", VIEWER, get(runs::list))
            .does("List runs, newest first")
            .asks(&[
                ("namespace", "default: all that the token sees"),
                ("pipeline", "runs of this pipeline"),
                ("status", "running, succeeded, failed, rejected or cancelled"),
                ("search", "part of the pipeline's name, or the last digits of a run's id"),
                LIMIT,
                CURSOR,
            ])
            .answers(200, json::<api::Page<api::RunItem>>()),
        Route::new("GET", "/v1/runs/{run}", VIEWER, get(runs::detail))
            .does("Show a run")
            .answers(200, json::<api::Run>()),
        Route::new("GET", "/v1/runs/{run}/timeline", VIEWER, get(runs::timeline))
            .does("Show a run's attempts over time")
            .answers(200, json::<api::Timeline>()),
        Route::new("GET", "/v1/runs/{run}/explain", VIEWER, get(runs::explain))
            .does("Say why a run is where it is")
            .answers(200, json::<api::Explanation>()),
        Route::new("GET", "/v1/runs/{run}/tasks", VIEWER, get(runs::tasks))
            .does("List a run's tasks")
            .asks(&[("step", "tasks of this step"), ("status", "tasks with this status"), LIMIT, CURSOR])
            .answers(200, json::<api::Page<api::TaskItem>>()),
        Route::new("GET", "/v1/runs/{run}/tasks/{task}", VIEWER, get(runs::task))
            .does("Show a task: settings, inputs, output, attempts, why it waits")
            .answers(200, json::<api::TaskInfo>()),
        Route::new("GET", "/v1/runs/{run}/events", VIEWER, get(runs::run_events))
            .does("Watch a run: `run` whenever it has changed, `end` when it has ended")
            .answers(200, Payload::Events(shape::<api::Run>)),
        Route::new("POST", "/v1/runs/{run}/cancel", SUBMITTER, post(runs::cancel))
            .does("Ask a run to stop")
            .answers(202, json::<api::RunAsked>()),
        Route::new("POST", "/v1/runs/{run}/resume", SUBMITTER, post(runs::resume))
            .does("Ask a run that has ended to go on; what succeeded isn't done again")
            .answers(202, json::<api::RunAsked>()),
        Route::new("GET", "/v1/events", VIEWER, get(runs::events))
            .does("Watch the list of runs: first the newest, then those that are new or have changed")
            .answers(200, Payload::Events(shape::<api::RunItems>)),
    ]
}

fn pipeline_routes() -> Vec<Route> {
    vec![
        Route::new("POST", "/v1/pipelines/check", VIEWER, post(pipelines::check))
            .does("Check a pipeline as a whole")
            .takes(json::<api::CheckPipeline>())
            .answers(200, json::<api::CheckedPipeline>()),
        Route::new("POST", "/v1/pipelines", SUBMITTER, post(pipelines::keep))
            .does("Keep a pipeline as the next version of its name")
            .takes(json::<api::KeepPipeline>())
            .answers(201, json::<api::Kept>()),
        Route::new("GET", "/v1/pipelines", VIEWER, get(pipelines::list))
            .does("List kept pipelines")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::PipelineItem>>()),
        Route::new("GET", "/v1/pipelines/{name}", VIEWER, get(pipelines::versions))
            .does("List the versions of a kept pipeline")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::PipelineVersions>()),
        Route::new("GET", "/v1/pipelines/{name}/versions/{version}", VIEWER, get(pipelines::version))
            .does("Show a version of a kept pipeline")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::PipelineVersion>()),
    ]
}

fn schedule_routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/v1/schedules", VIEWER, get(schedules::list))
            .does("List schedules")
            .asks(LISTED)
            .answers(200, json::<api::Page<api::ScheduleInfo>>()),
        Route::new("GET", "/v1/schedules/{name}", VIEWER, get(schedules::schedule))
            .does("Show a schedule: its next ticks, and what became of the last")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::ScheduleInfo>()),
        Route::new("PUT", "/v1/schedules/{name}", SUBMITTER, put(schedules::set))
            .does("Set a schedule")
            .asks(&[NAMESPACE])
            .takes(json::<Schedule>())
            .answers(201, json::<api::ScheduleInfo>()),
        Route::new("DELETE", "/v1/schedules/{name}", SUBMITTER, delete(schedules::remove))
            .does("Remove a schedule; its runs go on")
            .asks(&[NAMESPACE])
            .answers(204, Payload::Nothing),
        Route::new("POST", "/v1/schedules/{name}/pause", SUBMITTER, post(schedules::pause))
            .does("Let ticks pass without effect")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::ScheduleInfo>()),
        Route::new("POST", "/v1/schedules/{name}/unpause", SUBMITTER, post(schedules::unpause))
            .does("Let a schedule go on; ticks of the time between aren't made up for")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::ScheduleInfo>()),
    ]
}

fn trigger_routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/v1/triggers", VIEWER, get(triggers::list))
            .does("List triggers")
            .asks(LISTED)
            .answers(200, json::<api::Page<api::TriggerInfo>>()),
        Route::new("GET", "/v1/triggers/{name}", VIEWER, get(triggers::trigger))
            .does("Show a trigger, and what became of its last firings")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::TriggerInfo>()),
        Route::new("PUT", "/v1/triggers/{name}", SUBMITTER, put(triggers::set))
            .does("Set a trigger: on a file, a webhook, or the end of a run")
            .asks(&[NAMESPACE])
            .takes(json::<Trigger>())
            .answers(201, json::<api::TriggerInfo>()),
        Route::new("DELETE", "/v1/triggers/{name}", SUBMITTER, delete(triggers::remove))
            .does("Remove a trigger; its runs go on")
            .asks(&[NAMESPACE])
            .answers(204, Payload::Nothing),
        Route::new("POST", "/v1/triggers/{name}/pause", SUBMITTER, post(triggers::pause))
            .does("Let nothing fire a trigger")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::TriggerInfo>()),
        Route::new("POST", "/v1/triggers/{name}/unpause", SUBMITTER, post(triggers::unpause))
            .does("Let a trigger go on")
            .asks(&[NAMESPACE])
            .answers(200, json::<api::TriggerInfo>()),
        Route::new("POST", "/v1/triggers/{name}/fire", SUBMITTER, post(triggers::fire))
            .does("Fire a webhook; the body is any object. The header `Idempotency-Key` fires it once")
            .asks(&[NAMESPACE])
            .takes(json::<serde_json::Map<String, Value>>())
            .answers(202, json::<api::Submitted>()),
    ]
}

fn data_routes() -> Vec<Route> {
    vec![
        Route::new("POST", "/v1/files", SUBMITTER, post(data::upload))
            .does("Put a file among the artifacts, for a submission to name")
            .takes(Payload::Bytes)
            .up_to(data::FILE_BYTES_MAX)
            .answers(201, json::<api::Uploaded>()),
        Route::new("GET", "/v1/artifacts/{digest}", VIEWER, get(data::artifact))
            .does("Read an artifact; ranges are allowed")
            .answers(200, Payload::Bytes),
        Route::new("GET", "/v1/datasets", VIEWER, get(data::datasets))
            .does("List datasets that runs have made, those of the newest runs first")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::DatasetItem>>()),
        Route::new("GET", "/v1/datasets/{digest}", VIEWER, get(data::dataset))
            .does("Show a dataset: columns, partitions, profile")
            .answers(200, json::<api::Dataset>()),
    ]
}

fn model_routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/v1/models", VIEWER, get(models::list))
            .does("List registered models")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::ModelItem>>()),
        Route::new("GET", "/v1/models/{name}", VIEWER, get(models::model))
            .does("Show a model: versions, metrics, aliases with their history")
            .answers(200, json::<api::Model>()),
        Route::new("GET", "/v1/models/{name}/log", VIEWER, get(models::log))
            .does("List a model's facts, oldest first")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::ModelFact>>()),
        Route::new("POST", "/v1/models/{name}/promote", DEPLOYER, post(models::promote))
            .does("Point an alias to a version, if its evidence allows")
            .takes(json::<api::Promote>())
            .answers(200, json::<api::AliasMoved>()),
        Route::new("POST", "/v1/models/{name}/rollback", DEPLOYER, post(models::rollback))
            .does("Point an alias back to where it was before")
            .takes(json::<api::Rollback>())
            .answers(200, json::<api::AliasMoved>()),
        Route::new("GET", "/v1/endpoints", VIEWER, get(endpoints::list))
            .does("List endpoints of online scoring")
            .answers(200, json::<api::Page<Value>>()),
        Route::new("GET", "/v1/endpoints/{name}", VIEWER, get(endpoints::endpoint))
            .does("Show an endpoint: what it serves, how canary and shadows do")
            .answers(200, json::<Value>()),
        Route::new("PUT", "/v1/endpoints/{name}", DEPLOYER, put(endpoints::set))
            .does("Say what an endpoint serves")
            .takes(json::<api::SetEndpoint>())
            .answers(200, json::<Value>()),
        Route::new("DELETE", "/v1/endpoints/{name}", DEPLOYER, delete(endpoints::remove))
            .does("Remove an endpoint")
            .answers(204, Payload::Nothing),
    ]
}

fn cluster_routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/v1/workers", VIEWER, get(cluster::workers))
            .does("List workers that were heard of lately")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::WorkerItem>>()),
        Route::new("GET", "/v1/pools", VIEWER, get(pools::pools))
            .does("List pools: what waits, who works, and what those who scale them have decided")
            .answers(200, json::<api::Page<api::PoolItem>>()),
        Route::new("GET", "/v1/pools/{name}/scale", VIEWER, get(pools::scale))
            .does("Say how many workers a pool should have, as KEDA's metrics-api scaler asks")
            .answers(200, json::<api::PoolScale>()),
        Route::new("GET", "/v1/dead-letters", Need::Cluster(Role::Viewer), get(dead_letters::list))
            .does("List messages that nobody could make anything of")
            .asks(&[("queue", "default: all that are known"), LIMIT])
            .answers(200, json::<api::Page<api::DeadLetterItem>>()),
        Route::new("POST", "/v1/dead-letters/{id}/requeue", DEPLOYER, post(dead_letters::requeue))
            .does("Send a dead letter to where it came from")
            .answers(204, Payload::Nothing),
        Route::new("DELETE", "/v1/dead-letters/{id}", ADMIN, delete(dead_letters::drop_letter))
            .does("Throw a dead letter away")
            .answers(204, Payload::Nothing),
    ]
}

fn cost_routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/v1/runs/{run}/cost", VIEWER, get(costs::run_cost))
            .does("Say what a run costs, by step and pool")
            .answers(200, json::<api::RunCost>()),
        Route::new("GET", "/v1/costs", VIEWER, get(costs::costs))
            .does("Sum up what ended runs cost, day by day in UTC")
            .asks(&[
                ("from_ms", "a time of the first day; default: six days before the last"),
                ("to_ms", "a time of the last day; default: today"),
                ("group", "pipeline (default), namespace, pool, step or model"),
                ("namespace", "default: all that the token sees"),
            ])
            .answers(200, json::<api::Costs>()),
        Route::new("GET", "/v1/budgets", VIEWER, get(costs::list_budgets))
            .does("List budgets and how they stand")
            .answers(200, json::<api::Page<api::BudgetItem>>()),
        Route::new("GET", "/v1/pools/{name}/sizing", VIEWER, get(costs::sizing))
            .does("Recommend slots and memory for a pool's workers, from what tasks used")
            .answers(200, json::<api::Sizing>()),
    ]
}

fn access_routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/v1/whoami", VIEWER, get(session::whoami))
            .does("Say who is asking")
            .answers(200, json::<api::WhoAmI>()),
        Route::new("GET", "/v1/tokens", ADMIN, get(session::tokens))
            .does("List tokens")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::TokenItem>>()),
        Route::new("POST", "/v1/tokens", ADMIN, post(session::create_token))
            .does("Make a token; it is shown this once")
            .takes(json::<api::NewToken>())
            .answers(201, json::<api::MadeToken>()),
        Route::new("DELETE", "/v1/tokens/{id}", ADMIN, delete(session::revoke_token))
            .does("Revoke a token")
            .answers(204, Payload::Nothing),
        Route::new("GET", "/v1/audit", ADMIN, get(session::audit))
            .does("List what was changed and denied, the latest first")
            .asks(PAGED)
            .answers(200, json::<api::Page<api::AuditItem>>()),
    ]
}

fn open_routes() -> Vec<Route> {
    vec![
        Route::new("POST", "/v1/session", Need::Nothing, post(session::sign_in))
            .does("Sign in with a token, for browsers: a cookie carries it from here on")
            .takes(json::<api::SignIn>())
            .answers(204, Payload::Nothing),
        Route::new("DELETE", "/v1/session", Need::Nothing, delete(session::sign_out))
            .does("Sign out")
            .answers(204, Payload::Nothing),
        Route::new("GET", "/openapi.json", Need::Nothing, get(openapi::published))
            .does("This document")
            .answers(200, json::<Value>()),
        Route::new("GET", "/healthz", Need::Nothing, get(cluster::healthy)).does("Say that the process lives"),
        Route::new("GET", "/readyz", Need::Nothing, get(cluster::ready)).does("Say whether the state answers"),
    ]
}
