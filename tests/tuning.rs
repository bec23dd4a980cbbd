//! A search over algorithms and settings: the same winner however many slots work on it, and after a kill.

mod support;

use serde_json::Value;
use support::{Place, flights};

/// A month of flights and a search over two algorithms.
fn place(more: &str) -> Place {
    let place = Place::new();
    let name = "flights-2013-02.csv.gz";
    place.write(&format!("data/{name}"), std::fs::read(flights().join(name)).expect("the example's data"));
    place.write(
        "search.yaml",
        format!(
            r#"name: search
steps:
  flights: {{ ingest: {{ source: data }} }}
  trips:
    transform:
      sql: >
        select month, hour, carrier, origin, distance, dep_delay, arr_delay > 15 as late
        from flights where arr_delay is not null limit 6000
  parts: {{ split: {{ input: trips, test: 0.2, stratify: late, seed: 7 }} }}
  best:
    tune:
      input: parts.train
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier, origin] }}
      algorithms:
        - random_forest: {{ trees: 10 }}
        - gradient_boosting: {{ iterations: 20 }}
      space:
        random_forest.max_depth: {{ type: integer, low: 2, high: 12 }}
        gradient_boosting.learning_rate: {{ type: float, low: 0.02, high: 0.5, log: true }}
        features.missing_indicator: {{ type: categorical, choices: [true, false] }}
      trials: 14
      folds: {{ count: 3 }}
      seed: 3
{more}
  quality: {{ validate: {{ model: best, input: parts.test, require: [{{ metric: roc_auc, min: 0.8 }}] }} }}
  release: {{ register: {{ model: best, evidence: quality, name: late, alias: champion }} }}
"#
        ),
    );
    place
}

fn digest(summary: &Value) -> String {
    summary["models"][0]["digest"].as_str().unwrap_or_else(|| panic!("a model in {summary}")).to_owned()
}

#[test]
fn the_winner_is_the_same_on_any_number_of_slots() {
    let (one, many) = (place(""), place(""));
    let first = one.json(&["run", "search.yaml", "--slots", "1", "--json"]);
    assert_eq!(first["status"], "succeeded", "{first}");
    let second = many.json(&["run", "search.yaml", "--slots", "4", "--json"]);
    assert_eq!(digest(&first), digest(&second));
    assert_eq!(one.gristmill(&["report", "-o", "report.html"]).code, Some(0));
    let html = std::fs::read_to_string(one.path().join("report.html")).expect("a report");
    assert!(html.contains("Search of best") && html.contains("over trials"), "the report lacks the search");
    let trials = |place: &Place| place.json(&["trials", "--json"])[0].clone();
    let (first, second) = (trials(&one), trials(&many));
    assert_eq!(first["trials"], second["trials"]);
    assert_eq!(first["over"], true);
    let all = first["trials"].as_array().expect("trials");
    assert_eq!(all.len(), 14);
    assert!(all.iter().all(|trial| trial["state"] == "scored"), "{first}");
    let chosen = |name: &str| all.iter().filter(|trial| trial["assignment"]["algorithm"] == name).count();
    assert!(chosen("random_forest") > 0 && chosen("gradient_boosting") > 0);
    let text = one.gristmill(&["trials"]).stdout;
    assert!(text.contains("14 of 14 trials measured") && text.contains("algorithm=gradient_boosting"), "{text}");
}

#[test]
fn halving_measures_few_trials_on_all_rows() {
    let place = place("      halving: { min_percent: 10 }\n");
    let summary = place.json(&["run", "search.yaml", "--slots", "2", "--json"]);
    assert_eq!(summary["status"], "succeeded", "{summary}");
    let found = place.json(&["trials", "--json"])[0].clone();
    let full =
        |trial: &&Value| trial["scores"].as_array().is_some_and(|scores| scores.iter().any(|score| score[0] == 100));
    let all = found["trials"].as_array().expect("trials");
    let on_all_rows = all.iter().filter(full).count();
    assert!((1..all.len()).contains(&on_all_rows), "{on_all_rows} of {} saw all rows", all.len());
}

#[test]
fn a_killed_search_goes_on_and_ends_as_if_it_had_not_been() {
    let (whole, killed) = (place(""), place(""));
    let expected = digest(&whole.json(&["run", "search.yaml", "--slots", "2", "--json"]));
    let mut process = killed.start(&["run", "search.yaml", "--slots", "2", "--json"]);
    // Some trials are done, and some aren't.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let said = killed.gristmill(&["trials", "--json"]);
        let done = (said.code == Some(0)).then(|| {
            said.json()[0]["trials"]
                .as_array()
                .map_or(0, |all| all.iter().filter(|trial| trial["state"] == "scored").count())
        });
        if done.is_some_and(|done| done >= 3) {
            break;
        }
        assert!(std::time::Instant::now() < end, "no trial was made");
        std::thread::yield_now();
    }
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    let resumed = killed.json(&["resume", "--json"]);
    assert_eq!(digest(&resumed), expected);
}

#[test]
fn what_cannot_be_searched_is_said_before_the_first_trial() {
    let place = Place::new();
    place.write("data.csv", "a,b,y\n1,2,true\n3,4,false\n2,5,true\n4,1,false\n");
    let search = |space: &str| {
        format!(
            "name: s\nsteps:\n  d: {{ ingest: {{ source: data.csv }} }}\n  m:\n    tune:\n      input: d\n      target: y\n      \
             features: {{ numeric: [a, b] }}\n      algorithms: [{{ random_forest: {{}} }}]\n      space: {{ {space} }}\n"
        )
    };
    place.write("unknown.yaml", search("random_forest.depth: { type: integer, low: 1, high: 3 }"));
    let said = place.gristmill(&["run", "unknown.yaml"]);
    assert!(said.code != Some(0) && said.stdout.contains("unknown field `depth`"), "{}", said.stdout);
    place.write("other.yaml", search("ridge.alpha: { type: float, low: 1, high: 3 }"));
    let said = place.gristmill(&["check", "other.yaml"]);
    assert!(said.stderr.contains("`ridge.alpha` is no setting of the algorithms"), "{}", said.stderr);
    place.write("bounds.yaml", search("random_forest.max_depth: { type: integer, low: 9 }"));
    let said = place.gristmill(&["check", "bounds.yaml"]);
    assert!(said.stderr.contains("has no bounds"), "{}", said.stderr);
}
