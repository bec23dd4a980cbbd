//! What runs cost, how budgets stand and what is recommended for pools, as the API tells it.

mod support;

use std::time::{Duration, Instant};

use gristmill_backends::state::{Append, AppendEntry, StatusChange};
use gristmill_pools::costs::{Budgets, Prices};
use gristmill_pools::sizing::{Peak, StepUsage, TaskUse};
use gristmill_protocol::api::Role;
use gristmill_protocol::fact::{AssignedRange, Fact, JournalBody, RunStatus, Succeeded, Success};
use gristmill_protocol::{OwnerToken, RunId, WorkerId, wire};
use gristmill_scheduler::budgets::CostsKeeper;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::support::Server;

/// How long something may take that has to come, on a machine that builds something else as well.
const PATIENCE: Duration = Duration::from_secs(60);

fn keeper(server: &Server, budgets: Value) -> CostsKeeper {
    // A euro a slot-second.
    let prices = json!({ "currency": "EUR", "pools": { "default": { "worker_hour": 7_200.0, "slots": 2 } } });
    let prices: Prices = serde_json::from_value(prices).expect("they are right");
    let budgets: Budgets = serde_json::from_value(budgets).expect("they are right");
    CostsKeeper::new(server.state.clone(), prices, budgets)
}

/// Asks until the answer fits.
async fn asked_until(server: &Server, path: &str, token: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let answer = server.ask("GET", path, Some(token), None, &[]).await;
        if answer.status == StatusCode::OK && fits(&answer.json()) {
            return answer.json();
        }
        assert!(start.elapsed() < PATIENCE, "{path}: {:?}", answer.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Submits a run in a namespace, and lets its task take five seconds; it ends if it is to.
async fn run(server: &Server, token: &str, namespace: &str, ends: bool) -> String {
    let submit = json!({ "pipeline": "name: nightly\nsteps:\n  a: { noop: {} }\n", "namespace": namespace });
    let made = server.ask("POST", "/v1/runs", Some(token), Some(submit), &[]).await.json();
    let name = made["run"].as_str().expect("a run").to_owned();
    let run: RunId = name.parse().expect("an id");
    let at = server.state.clock().await.expect("it answers").now;
    let mut facts =
        vec![Fact::Assigned { at, solo: false, ranges: vec![AssignedRange { first: 0, count: 1, attempt: 1 }] }];
    let mut status = StatusChange::None;
    if ends {
        let mut column = Succeeded { worker: Some(WorkerId(7)), ..Succeeded::default() };
        let started_us = at.0 * 1_000 + 20_000;
        let success = Success { task: 0, attempt: 1, started_us, slot_us: 5_000_000, output: b"", cached: false };
        column.push(&mut (0, 0), success);
        facts.extend([Fact::Succeeded(column), Fact::RunEnded { at, status: RunStatus::Succeeded }]);
        status = StatusChange::Ended(RunStatus::Succeeded);
    }
    let (shard, token) = (run.shard(), OwnerToken { epoch: 1, instance: 1 });
    server.state.own(shard, token, Duration::from_secs(60)).await.expect("owned");
    let position = server.state.run(run).await.expect("read").expect("it is there").head + 1;
    let entry = AppendEntry { run, position, body: wire::encode(&JournalBody { facts }), settled: vec![], status };
    let append = Append { shard, token, id: 1, entries: vec![entry], consumed: Vec::new() };
    server.state.append(append).await.expect("written");
    name
}

#[tokio::test]
async fn costs_and_budgets_are_told_to_those_who_see_the_namespace() {
    let server = Server::for_others().await;
    let admin = server.token("admin", Role::Admin, &["*"]).await;
    let ours = server.token("ours", Role::Viewer, &["team-a"]).await;
    let ended = run(&server, &admin, "team-a", true).await;
    run(&server, &admin, "team-b", true).await;
    let path = format!("/v1/runs/{ended}/cost");
    let free = server.ask("GET", &path, Some(&ours), None, &[]).await.json();
    assert_eq!((&free["currency"], &free["unpriced_ms"], &free["amount"]), (&Value::Null, &json!(5_000), &json!(0.0)));
    let team = |name: &str| json!({ "namespace": name, "period": "month", "amount": 4 });
    let keeper =
        keeper(&server, json!({ "a": team("team-a"), "b": team("team-b"), "all": { "period": "day", "amount": 100 } }));
    let keeping = tokio::spawn(keeper.run());
    let costs = asked_until(&server, "/v1/costs?group=namespace", &admin, |costs| costs["amount"] == 10.0).await;
    assert_eq!(costs["items"][0]["name"], "team-a");
    assert_eq!((&costs["items"][0]["slot_ms"], &costs["currency"]), (&json!(5_000), &json!("EUR")));
    let seen = asked_until(&server, "/v1/costs?group=step", &ours, |_| true).await;
    assert_eq!((&seen["amount"], &seen["items"][0]["name"]), (&json!(5.0), &json!("nightly/a")));
    assert!(seen["counted_until_ms"].is_u64(), "{seen}");
    let models = asked_until(&server, "/v1/costs?group=model", &admin, |_| true).await;
    assert_eq!(models["items"], json!([]));
    let cost = asked_until(&server, &path, &ours, |cost| cost["currency"] == "EUR").await;
    assert_eq!((&cost["amount"], &cost["ended"], &cost["wasted"]), (&json!(5.0), &json!(true), &json!(0.0)));
    assert_eq!(cost["pools"], json!([{ "pool": "default", "slot_ms": 5_000, "amount": 5.0, "wasted": 0.0 }]));
    let is_counted = |page: &Value| page["items"][2]["ratio"] == 1.25;
    let budgets = asked_until(&server, "/v1/budgets", &admin, is_counted).await;
    let spent: Vec<(&str, f64)> = budgets["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| (item["name"].as_str().expect("a name"), item["ratio"].as_f64().expect("a number")))
        .collect();
    assert_eq!(spent, [("a", 1.25), ("all", 0.1), ("b", 1.25)]);
    assert!(budgets["items"][0]["reached_ms"].is_u64() && budgets["items"][1]["warned_ms"].is_null());
    let seen = asked_until(&server, "/v1/budgets", &ours, |_| true).await;
    assert_eq!((seen["items"].as_array().map(Vec::len), &seen["items"][0]["name"]), (Some(1), &json!("a")));
    // What isn't theirs isn't there, and what can't be is refused.
    let theirs = run(&server, &admin, "team-b", false).await;
    let status = async |path: &str| server.ask("GET", path, Some(&ours), None, &[]).await.status;
    assert_eq!(status(&format!("/v1/runs/{theirs}/cost")).await, StatusCode::NOT_FOUND);
    assert_eq!(status("/v1/costs?namespace=team-b").await, StatusCode::FORBIDDEN);
    assert_eq!(status("/v1/costs?group=colour").await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/v1/costs?from_ms=5&to_ms=4").await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/v1/costs?to_ms=18446744073709551615").await, StatusCode::BAD_REQUEST);
    // What is out costs as it goes.
    let path = format!("/v1/runs/{theirs}/cost");
    let cost =
        asked_until(&server, &path, &admin, |cost| cost["amount"].as_f64().is_some_and(|amount| amount > 0.0)).await;
    assert_eq!((&cost["ended"], &cost["steps"][0]["attempts"]), (&json!(false), &json!(0)));
    keeping.abort();
}

#[tokio::test]
async fn sizes_rest_on_what_workers_wrote_down() {
    let server = Server::start().await;
    let nothing = server.get("/v1/pools/default/sizing").await.json();
    assert_eq!((&nothing["confidence"], &nothing["slots"]), (&json!("nothing measured"), &Value::Null));
    let mut usage = StepUsage { cores: 8, memory_bytes: 32 << 30, base_kib: 200 << 10, ..StepUsage::default() };
    for _ in 0..100 {
        usage.count(TaskUse { wall_us: 2_000_000, cpu_us: 1_900_000, peak: Some(Peak::Alone(512 << 10)) });
    }
    let body = serde_json::to_vec(&usage).expect("plain data");
    server.state.put("usage/default/train", 0, body).await.expect("written");
    let sizing = server.get("/v1/pools/default/sizing").await.json();
    assert_eq!((&sizing["slots"], &sizing["tasks"], &sizing["confidence"]), (&json!(8), &json!(100), &json!("good")));
    let memory = sizing["memory_mib"].as_u64().expect("a number");
    assert!((200 + 8 * 512..=200 + 8 * 577).contains(&memory), "{memory}");
    assert_eq!(sizing["steps"][0]["step"], "train");
    assert!(sizing["reasons"].as_array().is_some_and(|reasons| reasons.len() >= 3), "{sizing}");
    assert_eq!(server.get("/v1/pools/default2/sizing").await.json()["slots"], Value::Null, "another pool");
    assert_eq!(server.get("/v1/pools/No/sizing").await.status, StatusCode::BAD_REQUEST);
}
