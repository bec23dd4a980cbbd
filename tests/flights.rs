//! The main job, end to end, by the real program on real data: ingest to scores in one process with no server.

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Place, Said, in_parts, small_flights};

fn steps(summary: &Value) -> Vec<(String, String, bool)> {
    let steps = summary["steps"].as_object().expect("steps");
    let step = |(name, step): (&String, &Value)| {
        (name.clone(), step["status"].as_str().expect("a status").to_owned(), step["cached"] == true)
    };
    steps.iter().map(step).collect()
}

fn model_digest(summary: &Value) -> String {
    summary["models"][0]["digest"].as_str().expect("a model").to_owned()
}

#[test]
fn a_pipeline_runs_from_files_to_scores_and_again_without_work() {
    let place = Place::new();
    small_flights(&place, &[1, 2], 10);
    let first = place.json(&["run", "flights.yaml", "--json"]);
    assert_eq!(first["status"], "succeeded");
    assert!(steps(&first).iter().all(|(_, status, cached)| status == "succeeded" && !cached), "{first}");
    assert!(first["models"][0]["metrics"]["roc_auc"].as_f64().expect("a metric") > 0.8, "{first}");
    assert_eq!(first["models"][0]["name"], "small-flights");

    // Header and 20 % of the flights of two months that arrived.
    let scores = std::fs::read_to_string(place.path().join("out/scores.csv")).expect("scores");
    let lines: Vec<&str> = scores.lines().collect();
    assert!(lines[0].ends_with("late,prediction,probability"), "{}", lines[0]);
    assert_eq!(lines.len(), 1 + 10_002);

    // Nothing has changed: no work is done, and it says so.
    let again = place.json(&["run", "flights.yaml", "--json"]);
    assert!(steps(&again).iter().all(|(.., cached)| *cached), "{again}");
    assert_eq!(model_digest(&again), model_digest(&first));
    let said = place.gristmill(&["run", "flights.yaml"]);
    assert!(said.stdout.contains("no work was done"), "{}", said.stdout);
    assert_eq!(place.json(&["model", "small-flights", "--json"])["versions"].as_array().map(Vec::len), Some(1));

    // Without the cache the same bytes are made again.
    let anew = place.json(&["run", "flights.yaml", "--no-cache", "--json"]);
    assert!(steps(&anew).iter().any(|(.., cached)| !cached), "{anew}");
    assert_eq!(model_digest(&anew), model_digest(&first));

    // One parameter of `train` changes: what depends on it runs, nothing else.
    // (A gate may say no to it.)
    let deeper = place.gristmill(&["run", "flights.yaml", "--set", "depth=6", "--json"]).json();
    let worked: Vec<String> =
        steps(&deeper).into_iter().filter(|(.., cached)| !cached).map(|(name, ..)| name).collect();
    assert!(worked.contains(&"model".to_owned()) && !worked.contains(&"parts".to_owned()), "{deeper}");
}

#[test]
fn slots_and_the_order_of_tasks_do_not_change_the_model() {
    let digests: Vec<String> = ["1", "3"]
        .iter()
        .map(|slots| {
            let place = Place::new();
            small_flights(&place, &[1, 2], 10);
            model_digest(&place.json(&["run", "flights.yaml", "--json", "--slots", slots]))
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

/// kill -9 at moments spread over the run; what had succeeded isn't done again and the result is the same.
#[test]
fn a_killed_run_goes_on_and_ends_as_if_it_had_not_been() {
    let undisturbed = Place::new();
    small_flights(&undisturbed, &[1, 2, 3], 40);
    let started = Instant::now();
    let expected = model_digest(&undisturbed.json(&["run", "flights.yaml", "--json"]));
    let whole = started.elapsed();
    for tenth in 0..10u32 {
        let place = Place::new();
        small_flights(&place, &[1, 2, 3], 40);
        if tenth % 2 == 1 {
            in_parts(&place, 4);
        }
        kill_after(&place, whole * (2 * tenth + 1) / 20);
        let before = spans(&place);
        let resumed = place.gristmill(&["resume", "--json"]);
        if resumed.code == Some(2) {
            assert!(
                resumed.stderr.contains("has succeeded") || resumed.stderr.contains("no runs"),
                "{}",
                resumed.stderr
            );
            continue;
        }
        assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
        assert_eq!(model_digest(&resumed.json()), expected, "killed at {tenth} of ten");
        let after = spans(&place);
        for (name, count) in before {
            let now = after.iter().find(|(other, _)| *other == name).map(|(_, count)| *count);
            assert_eq!(now, Some(count), "`{name}` had succeeded and ran again");
        }
    }
}

/// Runs the pipeline and kills it after a while.
fn kill_after(place: &Place, moment: Duration) {
    let mut child = place.start(&["run", "flights.yaml", "--json"]);
    let deadline = Instant::now() + moment;
    // A moment of the run's own time, found by waiting for the run or the clock, whichever is first.
    let mut stdout = child.stdout.take().expect("a pipe");
    let (sender, ended) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).is_ok();
        // The receiver is gone when the clock was first.
        sender.send(read).is_ok()
    });
    let _first = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    child.kill().expect("the process can be killed");
    child.wait().expect("the process has ended");
    reader.join().expect("the reader ends with the pipe");
}

/// Tasks that have succeeded, and how many attempts each had.
fn spans(place: &Place) -> Vec<(String, usize)> {
    let said = place.gristmill(&["trace", "--json"]);
    if said.code != Some(0) {
        return Vec::new();
    }
    let mut counts = std::collections::BTreeMap::new();
    let mut succeeded = std::collections::BTreeSet::new();
    for span in said.json().as_array().expect("spans") {
        if span["attributes"]["attempt"].is_null() {
            continue;
        }
        let task = span["name"].as_str().expect("a name").to_owned();
        *counts.entry(task.clone()).or_insert(0) += 1;
        if span["attributes"]["outcome"] == "succeeded" {
            succeeded.insert(task);
        }
    }
    counts.into_iter().filter(|(task, _)| succeeded.contains(task)).collect()
}

#[test]
fn a_run_is_cancelled_from_beside_and_resumed() {
    let place = Place::new();
    place.write(
        "slow.yaml",
        "name: slow\nsteps:\n  one: { noop: { tasks: 4 } }\n  two: { noop: { ms: 600000 }, after: [one] }\n",
    );
    let child = place.start(&["run", "slow.yaml", "--json"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The run is there once another process sees it.
    while place.gristmill(&["explain"]).code != Some(0) {
        assert!(Instant::now() < deadline, "the run never came to be");
    }
    let asked = Instant::now();
    assert_eq!(place.gristmill(&["cancel"]).code, Some(0));
    let said = Said::of(child.wait_with_output().expect("the program ends"));
    assert_eq!(said.code, Some(4), "{}", said.stderr);
    assert!(asked.elapsed() < Duration::from_secs(10), "cancelling took {:?}", asked.elapsed());
    assert_eq!(said.json()["status"], "cancelled");
}

#[test]
fn init_writes_a_pipeline_that_runs() {
    let place = Place::new();
    let data = std::fs::read(support::flights().join("flights-2013-01.csv.gz")).expect("the example's data");
    place.write("flights.csv.gz", data);
    let said = place.gristmill(&["init", "flights.csv.gz", "--target", "carrier"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let summary = place.gristmill(&["run", "pipeline.yaml", "--json"]);
    assert!(matches!(summary.code, Some(0 | 3)), "{}{}", summary.stdout, summary.stderr);
}

#[test]
fn versions_are_promoted_and_rolled_back() {
    let place = Place::new();
    small_flights(&place, &[1], 10);
    place.json(&["run", "flights.yaml", "--set", "depth=2", "--json"]);
    place.json(&["run", "flights.yaml", "--json"]);
    let model = place.json(&["model", "small-flights", "--json"]);
    assert_eq!(model["versions"].as_array().expect("versions").len(), 2, "{model}");
    assert_eq!(place.gristmill(&["promote", "small-flights", "1", "champion"]).code, Some(0));
    assert_eq!(place.json(&["model", "small-flights", "--json"])["aliases"]["champion"], 1);
    assert_eq!(place.gristmill(&["rollback", "small-flights"]).code, Some(0));
    assert_eq!(place.json(&["model", "small-flights", "--json"])["aliases"]["champion"], 2);
}

#[test]
fn a_report_is_one_file_that_needs_no_network() {
    let place = Place::new();
    small_flights(&place, &[1], 10);
    place.json(&["run", "flights.yaml", "--json"]);
    assert_eq!(place.gristmill(&["report", "-o", "report.html"]).code, Some(0));
    let html = std::fs::read_to_string(place.path().join("report.html")).expect("a report");
    for part in ["small-flights", "ROC", "roc_auc", "dep_delay", "<svg"] {
        assert!(html.contains(part), "the report lacks {part}");
    }
    assert!(!html.contains("NaN") && !html.contains("src=\"http") && !html.contains("href=\"http"));
}
