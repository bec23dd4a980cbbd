//! `gristmill api` as MLflow's clients see it: what a pipeline registered is a registered model, and its run is a run.

mod support;

use serde_json::{Value, json};
use support::Place;
use support::server::{Server, register};

#[test]
fn a_pipelines_model_and_run_are_there_for_mlflows_clients() {
    let place = Place::new();
    register(&place, 4);
    let server = Server::api(&place);
    let api = |method: &str, path: &str, body: Value| {
        let (status, answer) = server.ask(method, &format!("/api/2.0/mlflow/{path}"), &body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    };
    let model = api("GET", "registered-models/get?name=late", Value::Null);
    assert_eq!(model["registered_model"]["aliases"][0], json!({ "alias": "champion", "version": "1" }), "{model}");
    let version = api("GET", "registered-models/alias?name=late&alias=champion", Value::Null);
    assert_eq!(version["model_version"]["status"], "READY", "{version}");

    let experiments = api("POST", "experiments/search", json!({ "max_results": 10 }));
    let experiments = experiments["experiments"].as_array().expect("experiments").iter();
    let ours = experiments.clone().find(|experiment| experiment["name"] == "pipelines/late").expect("the pipeline");
    let runs = api("POST", "runs/search", json!({ "experiment_ids": [ours["experiment_id"]] }));
    let run = &runs["runs"][0];
    assert_eq!(run["info"]["status"], "FINISHED", "{run}");
    let params = run["data"]["params"].as_array().expect("parameters");
    let trees = json!({ "key": "model.random_forest.trees", "value": "20" });
    assert!(params.contains(&trees), "{params:?}");
    assert_eq!(version["model_version"]["run_id"], run["info"]["run_id"], "{version} {run}");

    // What is registered over MLflow's API stands in the same log.
    api("POST", "registered-models/create", json!({ "name": "elsewhere" }));
    api("POST", "registered-models/alias", json!({ "name": "late", "alias": "reviewed", "version": "1" }));
    let log = place.gristmill(&["registry", "log", "late"]).stdout;
    assert!(log.contains("alias reviewed new → 1") && log.contains("over MLflow"), "{log}");
    assert_eq!(place.json(&["model", "elsewhere", "--json"])["versions"], json!([]));
}
