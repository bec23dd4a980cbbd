//! What is submitted, listed and looked at, and what wrong requests are told.

mod support;

use gristmill_api::{openapi, routes};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::support::Server;

fn pipeline(name: &str) -> String {
    format!("name: {name}\nparams: {{ tasks: 1 }}\nsteps:\n  a: {{ noop: {{ tasks: \"${{tasks}}\" }} }}\n")
}

#[tokio::test]
async fn the_same_key_makes_one_run_and_another_content_is_a_conflict() {
    let server = Server::start().await;
    let submit = json!({ "pipeline": pipeline("nightly"), "key": "2026-11-22" });
    let first = server.post("/v1/runs", submit.clone()).await;
    assert_eq!((first.status, first.json()["created"].clone()), (StatusCode::CREATED, json!(true)));
    let again = server.post("/v1/runs", submit).await;
    assert_eq!((again.status, again.json()["created"].clone()), (StatusCode::OK, json!(false)));
    assert_eq!(again.json()["run"], first.json()["run"]);
    let by_header = json!({ "pipeline": pipeline("nightly") });
    let header = [("idempotency-key", "2026-11-22")];
    let by_header = server.ask("POST", "/v1/runs", None, Some(by_header), &header).await;
    assert_eq!(by_header.json()["run"], first.json()["run"]);
    let other = json!({ "pipeline": pipeline("other"), "key": "2026-11-22" });
    let other = server.post("/v1/runs", other).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::CONFLICT, "conflict"));
    let differs = json!({ "pipeline": pipeline("nightly"), "key": "one" });
    let differs = server.ask("POST", "/v1/runs", None, Some(differs), &[("idempotency-key", "two")]).await;
    assert_eq!(differs.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn many_submissions_are_answered_each_for_itself() {
    let server = Server::start().await;
    let good = |number: usize| json!({ "pipeline": pipeline("many"), "key": format!("k{number}") });
    let submissions: Vec<Value> = (0..200).map(good).chain([json!({ "name": "nobody" })]).collect();
    let answer = server.post("/v1/runs/batch", json!({ "submissions": submissions })).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = answer.json();
    let results = answer["results"].as_array().expect("a list");
    assert_eq!(results.len(), 201);
    assert!(results[..200].iter().all(|result| result["created"] == true), "{:?}", results[0]);
    assert_eq!(results[200]["error"]["code"], "not_found");
    let too_many: Vec<Value> = (0..1_001).map(good).collect();
    let too_many = server.post("/v1/runs/batch", json!({ "submissions": too_many })).await;
    assert_eq!(too_many.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Pages of the list, to its end, without gaps or repeats.
    let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/runs?limit=70{cursor}")).await.json();
        for item in page["items"].as_array().expect("a list") {
            assert!(seen.insert(item["run"].as_str().expect("a run").to_owned()));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 200);
    let count = async |query: &str| {
        server.get(&format!("/v1/runs?limit=500&{query}")).await.json()["items"].as_array().map(Vec::len)
    };
    assert_eq!(count("pipeline=many").await, Some(200));
    assert_eq!(count("pipeline=other").await, Some(0));
    assert_eq!(count("status=running").await, Some(200));
    assert_eq!(count("status=failed").await, Some(0));
    assert_eq!(count("search=man").await, Some(200));
    let run = seen.first().expect("a run");
    assert_eq!(count(&format!("search={}", &run[run.len() - 8..])).await, Some(1));
}

#[tokio::test]
async fn a_kept_pipeline_is_submitted_by_name_and_version() {
    let server = Server::start().await;
    let keep = async |text: &str| server.post("/v1/pipelines", json!({ "pipeline": text })).await;
    assert_eq!(keep(&pipeline("nightly")).await.json(), json!({ "name": "nightly", "version": 1 }));
    assert_eq!(keep(&pipeline("nightly")).await.status, StatusCode::OK);
    let second = "name: nightly\nsteps:\n  b: { noop: {} }\n";
    assert_eq!(keep(second).await.json(), json!({ "name": "nightly", "version": 2 }));
    for (submit, step) in [(json!({ "name": "nightly" }), "b"), (json!({ "name": "nightly", "version": 1 }), "a")] {
        let made = server.post("/v1/runs", submit).await.json();
        let run = server.get(&format!("/v1/runs/{}", made["run"].as_str().expect("a run"))).await.json();
        assert_eq!(run["steps"][0]["name"], step);
        assert!(run["trace"]["url"].as_str().is_some_and(|url| url.starts_with("https://jaeger/trace/01")), "{run}");
    }
    let missing = server.post("/v1/runs", json!({ "name": "nightly", "version": 3 })).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let version = server.get("/v1/pipelines/nightly/versions/2").await.json();
    assert_eq!(version["pipeline"], second);
    let versions = server.get("/v1/pipelines/nightly").await.json();
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.get("/v1/pipelines").await.json()["items"][0]["version"], 2);
}

#[tokio::test]
async fn wrong_requests_are_told_what_and_where() {
    let server = Server::start().await;
    let run = "/v1/runs/run-0192f0c1a2b37000a1b2c3d4e5f60718";
    let cases: [(&str, &str, Option<Value>, u16, &str); 14] = [
        ("POST", "/v1/runs", Some(json!({ "pipelin": "x" })), 400, "unknown field `pipelin`"),
        ("POST", "/v1/runs", Some(json!({})), 400, "`pipeline` or the `name`"),
        ("POST", "/v1/runs", Some(json!({ "name": "a", "pipeline": "b" })), 400, "`pipeline` or the `name`"),
        ("POST", "/v1/runs", Some(json!({ "pipeline": "name: x\nsteps:\n  a: { nop: {} }\n" })), 422, "a mistake"),
        ("POST", "/v1/runs", Some(json!({ "name": "a", "namespace": "No" })), 400, "can't be a namespace"),
        ("POST", "/v1/runs", Some(json!({ "name": "a", "key": "" })), 400, "1 to 255 characters"),
        ("POST", "/v1/runs", Some(json!({ "name": "a", "priority": 101 })), 400, "from -100 to 100"),
        ("GET", "/v1/runs?limit=0", None, 400, "from 1 to 500"),
        ("GET", "/v1/runs?cursor=x", None, 400, "isn't one that this list gave"),
        ("GET", "/v1/runs?colour=red", None, 400, "unknown field `colour`"),
        ("GET", "/v1/runs?status=gone", None, 400, "is no status of a run"),
        ("GET", run, None, 404, "there is no run"),
        ("GET", "/v1/artifacts/x", None, 400, "is not a digest"),
        ("GET", "/v1/nothing", None, 404, "there is no endpoint"),
    ];
    for (method, path, body, status, text) in cases {
        let answer = server.ask(method, path, None, body, &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {:?}", answer.body);
        let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(text), "{method} {path}: {message}");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    let wrong = json!({ "pipeline": "name: x\nsteps:\n  a: { nop: {} }\n" });
    let complaints = server.post("/v1/pipelines/check", wrong).await.json();
    let complaint = &complaints["error"]["complaints"][0];
    assert_eq!((complaint["line"].as_u64(), complaint["column"].as_u64()), (Some(3), Some(8)));
    let large = "x".repeat(300 * 1024);
    assert_eq!(server.post("/v1/runs", json!({ "pipeline": large })).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let larger = "x".repeat(3 * 1024 * 1024);
    assert_eq!(server.post("/v1/runs", json!({ "pipeline": larger })).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn files_come_in_and_artifacts_go_out_whole_or_in_part() {
    let server = Server::start().await;
    let body = json!({ "some": "text" });
    let uploaded = server.post("/v1/files", body.clone()).await;
    assert_eq!(uploaded.status, StatusCode::CREATED);
    let digest = uploaded.json()["digest"].as_str().expect("a digest").to_owned();
    let path = format!("/v1/artifacts/{digest}");
    let whole = server.get(&path).await;
    assert_eq!((whole.status, whole.json()), (StatusCode::OK, body.clone()));
    assert_eq!(whole.headers["content-type"], "application/json");
    let part = server.ask("GET", &path, None, None, &[("range", "bytes=2-5")]).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &b"some"[..]));
    assert_eq!(part.headers["content-range"], format!("bytes 2-5/{}", whole.body.len()));
    let outside = server.ask("GET", &path, None, None, &[("range", "bytes=900-")]).await;
    assert_eq!(outside.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let missing = server.get(&format!("/v1/artifacts/sha256:{}", "0".repeat(64))).await;
    assert_eq!((missing.status, missing.code().as_str()), (StatusCode::NOT_FOUND, "artifact_missing"));
    let files = json!({ "a": [{ "path": "x.csv", "digest": digest, "bytes": 15 }] });
    let no_ingest = server.post("/v1/runs", json!({ "pipeline": pipeline("x"), "files": files })).await;
    assert_eq!(no_ingest.status, StatusCode::BAD_REQUEST, "step `a` reads no files");
}

#[test]
fn the_document_has_every_endpoint_and_every_shape_that_it_names() {
    let document = openapi();
    for route in routes() {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{} {}", route.method, route.path);
        assert!(operation["responses"][route.answer.0.to_string()].is_object());
    }
    let text = document.to_string();
    for (at, _) in text.match_indices("\"#/components/schemas/") {
        let name = text[at + 22..].split('"').next().expect("a name");
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
