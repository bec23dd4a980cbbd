//! Gates, end to end: each kind lets a good model through and stops a poor one, with the number that stopped it.
//! Beside them calibration, thresholds and the card, which the same evidence tells of.

mod support;

use serde_json::Value;
use support::{Place, Said, flights};

/// A pipeline on the flights of January. `train` and `validate` are what is added to these steps, a line each.
fn pipeline(place: &Place, train: &str, validate: &str) {
    let name = "flights-2013-01.csv.gz";
    if !place.path().join("data").join(name).exists() {
        place.write(&format!("data/{name}"), std::fs::read(flights().join(name)).expect("the example's data"));
    }
    place.write(
        "flights.yaml",
        format!(
            r#"name: gated
params: {{ depth: 6 }}
steps:
  flights: {{ ingest: {{ source: data }} }}
  trips:
    transform:
      sql: >
        select hour, carrier, origin, distance, dep_delay, arr_delay, arr_delay > 15 as late
        from flights where arr_delay is not null
  parts: {{ split: {{ input: trips, test: 0.3, stratify: late, seed: 7 }} }}
  model:
    train:
      input: parts.train
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier] }}
      algorithm: {{ decision_tree: {{ max_depth: "${{depth}}" }} }}
      {train}
  quality:
    validate:
      model: model
      input: parts.test
      {validate}
  release: {{ register: {{ model: model, evidence: quality, name: gated, alias: champion }} }}
  scores: {{ score: {{ model: model, input: parts.test, output: out/scores.csv }} }}
"#
        ),
    );
}

fn run(place: &Place, arguments: &[&str]) -> Said {
    place.gristmill(&[&["run", "flights.yaml", "--json"][..], arguments].concat())
}

/// Runs the pipeline with a gate that holds, which must succeed, and with one that doesn't, which must be rejected
/// with a sentence that has these parts.
fn holds_and_stops(beside: &str, good: &str, bad: &str, says: &[&str]) {
    let place = Place::new();
    pipeline(&place, "", &format!("require: [ {good} ]\n      {beside}"));
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(0), "{good}: {}{}", said.stdout, said.stderr);
    pipeline(&place, "", &format!("require: [ {bad} ]\n      {beside}"));
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(3), "{bad}: {}{}", said.stdout, said.stderr);
    let error = said.json()["steps"]["quality"]["error"]["message"].as_str().expect("a message").to_owned();
    for part in says {
        assert!(error.contains(part), "{error} lacks `{part}`");
    }
    // What stopped it is in the report of the rejected run too.
    assert_eq!(place.gristmill(&["report", "-o", "report.html"]).code, Some(0));
    let html = std::fs::read_to_string(place.path().join("report.html")).expect("a report");
    assert!(html.contains("! not met"), "the report lacks the gate");
}

/// The evidence of the latest version.
fn evidence(place: &Place) -> Value {
    place.json(&["model", "gated", "--card", "--json"])["evidence"].clone()
}

#[test]
fn a_confidence_bound_is_a_gate() {
    holds_and_stops(
        "intervals: { draws: 200 }",
        "{ metric: roc_auc, bound: lower, min: 0.7 }",
        "{ metric: roc_auc, bound: lower, min: 0.999 }",
        &["the lower end of the 95 % interval of `roc_auc`", "at least 0.999 is required", "too low"],
    );
    holds_and_stops(
        "",
        "{ metric: log_loss, bound: upper, max: 0.9 }",
        "{ metric: log_loss, bound: upper, max: 0.001 }",
        &["the upper end of the 95 % interval of `log_loss`", "too high"],
    );
}

#[test]
fn a_metric_in_a_slice_is_a_gate() {
    holds_and_stops(
        "slices: { jfk: \"origin = 'JFK'\", far: distance > 1500 and hour < 12 }",
        "{ metric: roc_auc, slice: jfk, min: 0.6 }",
        "{ metric: roc_auc, slice: far, min: 0.9999 }",
        &["`roc_auc` in the slice `far` of", "too low"],
    );
}

#[test]
fn a_slice_of_an_unknown_column_fails_and_names_it() {
    let place = Place::new();
    pipeline(&place, "", "slices: { near: distanse < 100 }");
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    let error = &said.json()["steps"]["quality"]["error"];
    assert!(error["message"].as_str().expect("a message").contains("the slice `near` can't be made"), "{error}");
}

#[test]
fn a_slice_without_rows_stops() {
    let place = Place::new();
    pipeline(
        &place,
        "",
        "slices: { none: distance < 0 }\n      require: [ { metric: accuracy, slice: none, min: 0 } ]",
    );
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(3), "{}{}", said.stdout, said.stderr);
}

#[test]
fn fairness_is_a_gate_by_ratio_and_by_difference() {
    holds_and_stops(
        "fairness: { by: [origin], min_rows: 50 }",
        "{ fairness: ratio, min: 0.1 }",
        "{ fairness: ratio, min: 0.9999 }",
        &["the ratio of the smallest to the largest of the selection rates by `origin`", "too low"],
    );
    holds_and_stops(
        "fairness: { by: [origin, carrier], min_rows: 50 }",
        "{ fairness: difference, by: origin, measure: equal_opportunity, max: 0.9 }",
        "{ fairness: difference, by: carrier, max: 0.0001 }",
        &["the difference of the selection rates by `carrier`", "too high"],
    );
}

#[test]
fn flipped_predictions_are_a_gate() {
    holds_and_stops(
        "robustness: { noise: 0.5 }",
        "{ flips: missing, max: 0.5 }",
        "{ flips: noise, max: 0.0001 }",
        &["the share of predictions flipped by noise", "too high"],
    );
}

#[test]
fn size_and_time_are_gates() {
    holds_and_stops(
        "",
        "{ budget: model_bytes, max: 10000000 }",
        "{ budget: model_bytes, max: 100 }",
        &["the size of the model in bytes", "at most 100 is required", "too high"],
    );
    holds_and_stops(
        "",
        "{ budget: row_us, max: 1000000 }",
        "{ budget: row_us, max: 0.0001 }",
        &["the time of one row in µs (p50)", "too high"],
    );
}

#[test]
fn only_a_significantly_better_model_beats_the_champion() {
    let place = Place::new();
    let gate = "require: [ { beats: champion, significant: true, p_max: 0.01 } ]";
    pipeline(&place, "", gate);
    // There is no champion yet, so the first passes.
    let first = run(&place, &["--set", "depth=1"]);
    assert_eq!(first.code, Some(0), "{}{}", first.stdout, first.stderr);
    let better = run(&place, &["--set", "depth=6"]);
    assert_eq!(better.code, Some(0), "{}{}", better.stdout, better.stderr);
    let comparison = evidence(&place)["assessment"]["comparisons"][0].clone();
    assert_eq!((comparison["other"].as_str(), comparison["test"].as_str()), (Some("champion"), Some("delong")));
    assert!(comparison["p"].as_f64().expect("a p-value") < 0.01, "{comparison}");
    assert!(comparison["ours"].as_f64() > comparison["theirs"].as_f64(), "{comparison}");

    let worse = run(&place, &["--set", "depth=2"]);
    assert_eq!(worse.code, Some(3), "{}{}", worse.stdout, worse.stderr);
    let error = worse.json()["steps"]["quality"]["error"]["message"].as_str().expect("a message").to_owned();
    assert!(error.contains("worse") && error.contains("DeLong's test"), "{error}");
    // By accuracy it is McNemar's test.
    pipeline(&place, "", "require: [ { beats: champion, metric: accuracy, significant: true } ]");
    let said = run(&place, &["--set", "depth=2"]);
    assert_eq!(said.code, Some(3), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("McNemar's test"), "{}", said.stdout);
}

#[test]
fn an_input_that_gives_the_target_away_is_warned_of() {
    let place = Place::new();
    pipeline(&place, "", "require: []");
    let text = std::fs::read_to_string(place.path().join("flights.yaml")).expect("the pipeline");
    place.write("flights.yaml", text.replace("numeric: [dep_delay", "numeric: [arr_delay, dep_delay"));
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let shown = place.gristmill(&["show"]);
    assert!(shown.stdout.contains("1 warning, evidence"), "{}", shown.stdout);
    let card = place.gristmill(&["model", "gated", "--card"]);
    assert!(card.stdout.contains("`arr_delay` has an area under the ROC curve of"), "{}", card.stdout);
}

#[test]
fn the_same_run_without_the_cache_has_the_same_evidence() {
    let place = Place::new();
    let all = "slices: { jfk: \"origin = 'JFK'\" }\n      fairness: { by: [origin] }\n      robustness: {}\n      importance: {}\n      attributions: { rows: 50 }";
    pipeline(&place, "", all);
    for arguments in [&[][..], &["--no-cache"], &["--no-cache", "--slots", "1"]] {
        let said = run(&place, arguments);
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    }
    let versions = place.json(&["model", "gated", "--json"])["versions"].as_array().map(Vec::len);
    assert_eq!(versions, Some(1), "equal evidence is one version");
    let found = evidence(&place);
    let interval = &found["assessment"]["intervals"]["roc_auc"];
    let (low, value) = (interval["low"].as_f64(), found["evaluation"]["metrics"]["roc_auc"].as_f64());
    assert!(low < value && value < interval["high"].as_f64(), "{interval}");
}

#[test]
fn a_threshold_and_a_calibration_are_part_of_the_model() {
    let place = Place::new();
    pipeline(&place, "", "require: []");
    assert_eq!(run(&place, &[]).code, Some(0));
    let plain = evidence(&place)["evaluation"]["metrics"].clone();
    let costs = "calibrate: isotonic\n      threshold: { costs: { false_positive: 1, false_negative: 9 } }";
    pipeline(&place, costs, "require: []");
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let card = place.json(&["model", "gated", "--card", "--json"]);
    let threshold = card["decision"]["threshold"]["at"].as_f64().expect("a threshold");
    assert!(threshold < 0.4, "{threshold}");
    let recall = |metrics: &Value| metrics["recall"].as_f64().expect("a recall");
    assert!(recall(&card["evidence"]["evaluation"]["metrics"]) > recall(&plain), "{card}");
    // `prediction` in the scores is what the threshold says of `probability`.
    let scores = std::fs::read_to_string(place.path().join("out/scores.csv")).expect("scores");
    let mut lines = scores.lines();
    assert!(lines.next().expect("a header").ends_with(",prediction,probability"));
    let mut positive = 0;
    for line in lines {
        let cells: Vec<&str> = line.rsplitn(3, ',').collect();
        let probability: f64 = cells[0].parse().expect("a probability");
        assert_eq!(cells[1] == "true", probability >= threshold, "{line}");
        positive += u32::from(cells[1] == "true");
    }
    assert!(positive > 0);
}

#[test]
fn the_card_tells_of_training_and_evidence() {
    let place = Place::new();
    pipeline(
        &place,
        "calibrate: platt",
        "slices: { jfk: \"origin = 'JFK'\" }\n      fairness: { by: [origin] }\n      robustness: {}\n      importance: {}\n      attributions: { rows: 50 }",
    );
    assert_eq!(run(&place, &[]).code, Some(0));
    for reference in ["gated", "gated@1", "gated@champion"] {
        let card = place.gristmill(&["model", reference, "--card"]);
        assert_eq!(card.code, Some(0), "{}", card.stderr);
        for part in [
            "# gated version 1",
            "decision_tree",
            "| roc_auc |",
            "95% interval",
            "| jfk | origin = 'JFK' |",
            "Decisions for `true` by `origin`",
            "When inputs are wrong",
            "without an input",
            "What moved 50 predictions",
            "calibrated on",
            "What to watch out for",
        ] {
            assert!(card.stdout.contains(part), "the card of {reference} lacks `{part}`: {}", card.stdout);
        }
    }
    assert_eq!(place.gristmill(&["report", "-o", "report.html"]).code, Some(0));
    let html = std::fs::read_to_string(place.path().join("report.html")).expect("a report");
    assert!(html.contains("What moved predictions"), "the report lacks the attributions");
    let unknown = place.gristmill(&["model", "gated@9", "--card"]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.stderr.contains("has no version 9"), "{}", unknown.stderr);
}
