//! `gristmill api` and `gristmill up` as programs: one address for all, tokens, what is logged, schedules that fire once.

#[allow(dead_code, reason = "the clients there are of online scoring")]
#[path = "../worker/online/tests/clients/python.rs"]
mod python;
mod support;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::Place;
use support::server::{Server, register};
use support::servers::{Servers, wait_for};

const NIGHTLY: &str = "name: nightly\nsteps:\n  a: { noop: {} }\n";

#[test]
fn up_serves_the_api_the_dashboard_mlflow_and_models() {
    let place = Place::new();
    register(&place, 4);
    let up = Server::of(place.command(&["up", "--api", "127.0.0.1:0", "--serve", "127.0.0.1:0"]));
    let (status, made) = up.ask("POST", "/v1/runs", &json!({ "pipeline": NIGHTLY }));
    assert_eq!(status, 201, "{made}");
    let path = format!("/v1/runs/{}", made["run"].as_str().expect("a run"));
    wait_for("the run's end", || (up.ask("GET", &path, &Value::Null).1["status"] == "succeeded").then_some(()));
    assert_eq!(up.ask("GET", "/v1/pools", &Value::Null).1["items"][0]["name"], "default");
    let (status, page) = up.ask("GET", "/", &Value::Null);
    assert!(status == 200 && page.as_str().is_some_and(|page| page.contains("<!DOCTYPE html>")), "{page}");
    assert_eq!(up.ask("GET", "/api/2.0/mlflow/registered-models/get?name=late", &Value::Null).0, 200);
    let (status, set) = up.ask("PUT", "/v1/endpoints/rides", &json!({ "champion": "late@champion" }));
    assert_eq!((status, set["endpoint"]["champion"].as_str()), (200, Some("late@champion")), "{set}");
    let (status, refused) = up.ask("PUT", "/v1/endpoints/rides", &json!({ "champion": "nobody@champion" }));
    assert_eq!((status, refused["error"]["code"].as_str()), (404, Some("not_found")), "{refused}");
    let (status, refused) = up.ask("POST", "/v1/models/late/rollback", &json!({ "alias": "champion" }));
    assert!(status >= 400, "there is nothing before: {refused}");
    up.end();
}

#[test]
fn whatever_the_openapi_document_allows_is_answered_as_it_says() {
    let place = Place::new();
    let up = Server::of(place.command(&["up", "--api", "127.0.0.1:0"]));
    let mut command = Command::new(python::SCHEMATHESIS.programs().join("schemathesis"));
    // In a folder of its own, where no settings are found.
    let folder = Place::new();
    command.current_dir(folder.path()).args(["--no-color", "run", "--phases", "coverage,fuzzing", "--checks", "all"]);
    // The document knows neither what a pipeline may say nor which names there are. Methods that it doesn't have are
    // nowhere, which is said with 404. Of many submissions each is refused for itself. Streams have no end.
    command.args(["--exclude-checks", "positive_data_acceptance,unsupported_method"]);
    command.args(["--exclude-path", "/v1/runs/batch", "--exclude-path-regex", "events"]);
    command.args(["--max-examples", "5", "--seed", "7", "--generation-database", "none", "--warnings", "off"]);
    command.arg(format!("http://{}/openapi.json", up.address));
    python::run(&mut command);
    // All of it has hurt nobody.
    assert_eq!(up.ask("GET", "/healthz", &Value::Null).0, 200);
}

#[test]
fn tokens_let_in_and_are_never_logged() {
    let place = Place::new();
    register(&place, 4);
    let token =
        |name: &str, role: &str| place.gristmill(&["token", "create", name, "--role", role]).stdout.trim().to_owned();
    let (viewer, submitter, deployer) = (token("ann", "viewer"), token("bob", "submitter"), token("eve", "deployer"));
    let mut command = place.command(&["api", "--listen", "127.0.0.1:0"]);
    let log = place.path().join("log");
    command.env("GRISTMILL_LOG", "trace").stdout(Stdio::null());
    command.stderr(std::fs::File::create(&log).expect("a file"));
    let mut child = command.spawn().expect("the program starts");
    let told = || std::fs::read_to_string(&log).expect("a file");
    let address = wait_for("the address", || {
        let text = told();
        let (address, _) = text.split("the API is at http://").nth(1)?.split_once(';')?;
        Some(address.to_owned())
    });
    let ask = |method: &str, path: &str, token: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = std::net::TcpStream::connect(&address).expect("the server accepts");
        std::io::Write::write_all(&mut stream, (head + &body).as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status")
    };
    // MLflow's clients send the same tokens.
    let mlflow = "/api/2.0/mlflow/registered-models/get?name=late";
    assert_eq!(ask("GET", mlflow, &viewer, Value::Null), 200);
    assert_eq!(ask("GET", mlflow, "gmt_0123456789abcdef_wrong", Value::Null), 401);
    let create = "/api/2.0/mlflow/registered-models/create";
    let statuses = [&viewer, &submitter, &deployer].map(|token| ask("POST", create, token, json!({ "name": "x" })));
    assert_eq!(statuses, [403, 403, 200]);
    let experiment = "/api/2.0/mlflow/experiments/create";
    let statuses = [&viewer, &submitter].map(|token| ask("POST", experiment, token, json!({ "name": "x" })));
    assert_eq!(statuses, [403, 200]);
    let submit = || json!({ "pipeline": NIGHTLY });
    let statuses = [&viewer, &submitter, &deployer].map(|token| ask("POST", "/v1/runs", token, submit()));
    assert_eq!(statuses, [403, 201, 201]);
    assert_eq!(ask("POST", "/v1/session", "none", json!({ "token": viewer })), 204);
    // Who did it stands in the model's log.
    let log_of = place.gristmill(&["registry", "log", "x"]).stdout;
    assert!(log_of.contains("eve"), "{log_of}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let text = told();
    assert!(text.contains("denied"), "the log is on");
    for token in [&viewer, &submitter, &deployer] {
        let secret = &token["gmt_0123456789abcdef_".len()..];
        assert!(!text.contains(secret), "a token is in the log");
    }
    assert!(!text.contains("wrong"), "what was tried isn't in the log either");
}

/// Takes two minutes, in which it waits: cron has no smaller unit.
#[test]
fn a_schedule_fires_once_a_tick_though_schedulers_are_killed_and_paused() {
    let servers = Servers::start();
    let place = Place::new();
    let mut schedulers = Vec::new();
    for _ in 0..3 {
        schedulers.push(servers.spawn_ready(&place, &["scheduler"], &[]));
    }
    let _worker = servers.spawn_ready(&place, &["worker"], &[]);
    let api = Server::of(servers.command(&place, &["api", "--listen", "127.0.0.1:0"]));
    let (status, kept) = api.ask("POST", "/v1/pipelines", &json!({ "pipeline": NIGHTLY }));
    assert_eq!(status, 201, "{kept}");
    let schedule = json!({ "cron": "* * * * *", "submit": { "name": "nightly" }, "catch_up": "all" });
    let (status, set) = api.ask("PUT", "/v1/schedules/each-minute", &schedule);
    assert_eq!(status, 201, "{set}");
    let ticks = set["next_ms"].as_array().expect("ticks").clone();
    let runs = || {
        let (_, page) = api.ask("GET", "/v1/runs?pipeline=nightly&limit=100", &Value::Null);
        let items = page["items"].as_array().expect("a list").clone();
        items.iter().map(|item| item["run"].as_str().expect("a run").to_owned()).collect::<BTreeSet<String>>()
    };
    // A scheduler stands still over the first tick, and another dies before the second.
    schedulers[0].signal("STOP");
    wait_for("the first tick", || (!runs().is_empty()).then_some(()));
    schedulers[1].signal("KILL");
    schedulers[0].signal("CONT");
    wait_for("the second tick", || (runs().len() >= 2).then_some(()));
    // The one that stood still has had its say when the schedule says that both ticks are dealt with.
    let recent = wait_for("both ticks' records", || {
        let (_, schedule) = api.ask("GET", "/v1/schedules/each-minute", &Value::Null);
        let recent = schedule["recent"].as_array().expect("a list").clone();
        (recent.len() >= 2).then_some(recent)
    });
    assert!(recent.iter().all(|record| record["outcome"] == "fired"), "{recent:?}");
    let fired: Vec<&Value> = recent.iter().map(|record| &record["tick_ms"]).collect();
    assert_eq!(fired, ticks.iter().take(recent.len()).collect::<Vec<_>>(), "each tick once, in order");
    let of_records: BTreeSet<String> =
        recent.iter().map(|record| record["run"].as_str().expect("a run").to_owned()).collect();
    // There are no runs but those of ticks, one each: an id begins with the time for which its run was made.
    let runs = runs();
    assert!(runs.is_superset(&of_records), "{runs:?} {of_records:?}");
    let times: BTreeSet<u64> =
        runs.iter().map(|run| u64::from_str_radix(&run[4..16], 16).expect("48 bits of time")).collect();
    assert_eq!(times.len(), runs.len(), "{runs:?}");
    assert!(times.iter().all(|time| time % 60_000 == 0), "{times:?}");
}
