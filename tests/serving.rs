//! Online scoring, end to end: a registered model answers as a batch does, and a moved alias is served without a failed
//! request.

mod support;

use std::time::Instant;

use serde_json::{Value, json};
use support::Place;
use support::server::{PATIENCE, Server, register, scored};

#[test]
fn a_server_answers_as_a_batch_does() {
    let place = Place::new();
    register(&place, 8);
    let server = Server::start(&place);
    assert_eq!(server.ask("GET", "/v2/health/ready", &Value::Null).0, 200);
    let (status, model) = server.ask("GET", "/v2/models/late", &Value::Null);
    assert_eq!(status, 200, "{model}");
    let inputs: Vec<&str> =
        model["inputs"].as_array().expect("inputs").iter().filter_map(|i| i["name"].as_str()).collect();
    for name in ["carrier", "hour", "distance", "dep_delay", "time_hour"] {
        assert!(inputs.contains(&name), "{inputs:?}");
    }
    let rows = scored(&place);
    let records: Vec<&Value> = rows.iter().take(500).map(|(record, _)| record).collect();
    let (status, answer) = server.ask("POST", "/invocations", &json!({ "dataframe_records": records }));
    assert_eq!(status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().expect("predictions");
    assert_eq!(predictions.len(), 500);
    for ((_, expected), found) in rows.iter().zip(predictions) {
        let found = found["probability"].as_f64().expect("a probability");
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }
    let mut bad = rows[0].0.clone();
    bad["time_hour"] = json!("yesterday");
    let (status, answer) = server.ask("POST", "/invocations", &json!({ "dataframe_records": [bad] }));
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["message"].as_str().is_some_and(|text| text.contains("`yesterday` in row 0 of column `time_hour`")),
        "{answer}"
    );
    let (status, answer) = server.ask("POST", "/invocations", &json!({ "dataframe_records": [{ "carrier": "AA" }] }));
    assert_eq!(status, 400, "{answer}");
    let (_, metrics) = server.ask("GET", "/metrics", &Value::Null);
    assert!(metrics.as_str().is_some_and(|text| text.contains("gristmill_")), "{metrics}");
}

#[test]
fn a_moved_alias_is_served_without_a_failed_request() {
    let place = Place::new();
    register(&place, 8);
    let server = Server::start(&place);
    let (record, _) = scored(&place).swap_remove(0);
    let inputs: Vec<Value> = ["carrier", "hour", "distance", "dep_delay", "time_hour"]
        .iter()
        .map(|name| {
            let datatype = if record[name].is_string() { "BYTES" } else { "FP64" };
            json!({ "name": name, "shape": [1, 1], "datatype": datatype, "data": [record[name]] })
        })
        .collect();
    let version = || {
        let (status, answer) = server.ask("POST", "/v2/models/late/infer", &json!({ "inputs": inputs }));
        assert_eq!(status, 200, "{answer}");
        answer["model_version"].as_str().expect("a version").to_owned()
    };
    assert_eq!(version(), "1");
    let until = |wanted: &str| {
        let began = Instant::now();
        while version() != wanted {
            assert!(began.elapsed() < PATIENCE, "version {wanted} isn't served");
        }
    };
    register(&place, 3);
    until("2");
    for wanted in ["1", "2", "1"] {
        let said = place.gristmill(&["promote", "late", wanted, "champion", "--why", "to see it move"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        until(wanted);
    }
}
