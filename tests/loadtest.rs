//! `gristmill loadtest`, short: every scenario runs to its end with the real program, and what is wrong is noticed.

mod support;

use serde_json::Value;
use support::{Place, flights};

/// Runs a scenario; its result.
fn loadtest(place: &Place, arguments: &[&str]) -> Value {
    let said = place.gristmill(&[&["loadtest", "--json", "--quiet"], arguments].concat());
    assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
    let result: Value = serde_json::from_str(&said.stdout).expect("a result");
    assert_ne!(result["passed"], Value::Bool(false), "{result}");
    result
}

fn figure(result: &Value, name: &str) -> f64 {
    let figures = result["figures"].as_array().expect("figures");
    let found = figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("{name} in {result}"));
    found["value"].as_f64().expect("a number")
}

#[test]
fn speeds_are_measured_compared_and_reported() {
    let place = Place::new();
    let short = ["throughput", "--tasks", "500", "--rounds", "2", "--messages", "500"];
    let result = loadtest(&place, &[&short[..], &["-o", "first.json", "--report", "report.html"]].concat());
    assert!(figure(&result, "tasks_per_second") > 0.0);
    let report = std::fs::read_to_string(place.path().join("report.html")).expect("a report");
    assert!(report.contains("<svg") && !report.contains("NaN"), "{report}");
    // Against a first result that no machine reaches it got worse.
    let first = std::fs::read_to_string(place.path().join("first.json")).expect("a result");
    let mut first: Value = serde_json::from_str(&first).expect("a result");
    first["figures"][0]["value"] = Value::from(1e12);
    place.write("first.json", first.to_string());
    let worse = [&["loadtest"], &short[..], &["--compare", "first.json", "--fail-on-worse", "50"]].concat();
    let said = place.gristmill(&worse);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("WORSE"), "{}", said.stdout);
}

#[test]
fn waits_are_measured() {
    let place = Place::new();
    let chain =
        ["chain", "--steps", "20", "--rounds", "1", "--starts", "5", "--worker-starts", "1", "--messages", "200"];
    assert!(figure(&loadtest(&place, &chain), "hop_ms_p50") > 0.0);
    let fan_out = ["fan-out", "--tasks", "300", "--rounds", "1", "--messages", "200"];
    assert!(figure(&loadtest(&place, &fan_out), "fan_out_seconds") > 0.0);
}

#[test]
fn models_are_learnt_and_served_under_load() {
    let place = Place::new();
    let data = place.path().join("flights");
    std::fs::create_dir(&data).expect("a folder");
    let month = "flights-2013-01.csv.gz";
    std::fs::copy(flights().join(month), data.join(month)).expect("a month");
    let mixed = loadtest(&place, &["mixed", "--data", "flights", "--rounds", "1", "--trees", "5"]);
    assert!(figure(&mixed, "mixed_seconds") > 0.0 && figure(&mixed, "step_scores_seconds") >= 0.0);
    let scoring = loadtest(&place, &["scoring", "--rates", "20,40", "--seconds", "1", "--p99-limit", "5000"]);
    assert_eq!(figure(&scoring, "scoring_errors"), 0.0);
    assert_eq!(figure(&scoring, "scoring_requests_per_second"), 40.0);
}

#[test]
fn a_pool_follows_its_load_and_kills_nothing() {
    let place = Place::new();
    let bursts = ["bursts", "--shape", "burst", "--seconds", "10", "--max", "3", "--idle", "2", "--scale-downs", "4"];
    let result = loadtest(&place, &bursts);
    assert!(figure(&result, "burst_paid_worker_seconds") > 0.0);
    assert!(figure(&result, "scale_downs") >= 4.0);
    assert_eq!(figure(&result, "scale_downs_tasks_killed"), 0.0);
}

#[test]
fn an_upgrade_under_load_loses_nothing() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_gristmill");
    let upgrade = ["upgrade", "--old", program, "--new", program, "--every", "0.5", "--workers", "2"];
    assert_eq!(figure(&loadtest(&place, &upgrade), "lost"), 0.0);
}

#[test]
fn a_soak_tells_slopes() {
    let place = Place::new();
    // Too short for a verdict on growth that means anything; all that is looked at is there.
    let said = place.gristmill(&[
        "loadtest",
        "--json",
        "--quiet",
        "soak",
        "--minutes",
        "0.3",
        "--every",
        "1",
        "--capacity-runs",
        "30",
    ]);
    let result: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{}", said.stderr));
    assert_eq!(figure(&result, "lost"), 0.0);
    for name in ["redis_keys_per_run", "worker-0_resident_growth_per_hour", "rabbitmq_files_growth_per_hour"] {
        figure(&result, name);
    }
}

#[test]
fn nothing_is_lost_when_everything_is_killed() {
    chaos("20000", "14");
}

#[test]
#[ignore = "ten minutes"]
fn nothing_is_lost_in_a_long_chaos() {
    chaos("200000", "200");
}

fn chaos(tasks: &str, faults: &str) {
    let place = Place::new();
    let result = loadtest(&place, &["chaos", "--tasks", tasks, "--faults", faults, "--every", "2"]);
    assert_eq!(result["passed"], Value::Bool(true), "{result}");
}
