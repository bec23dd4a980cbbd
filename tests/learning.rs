//! Features, weights and estimators, end to end: what a pipeline says is what the model does, in training and in scoring.

mod support;

use serde_json::Value;
use support::{Place, Said, flights};

/// A month of flights, and a pipeline whose `train` step has these lines.
fn place(train: &str) -> Place {
    let place = Place::new();
    let name = "flights-2013-01.csv.gz";
    place.write(&format!("data/{name}"), std::fs::read(flights().join(name)).expect("the example's data"));
    pipeline(&place, train);
    place
}

fn pipeline(place: &Place, train: &str) {
    let text = format!(
        r#"name: learning
steps:
  flights: {{ ingest: {{ source: data }} }}
  trips:
    transform:
      sql: >
        select time_hour, hour, carrier, tailnum, origin, dest, distance, dep_delay, arr_delay,
          origin || ' to ' || dest as route, 1 + hour / 6 as importance, arr_delay > 15 as late
        from flights where arr_delay is not null limit 8000
  parts: {{ split: {{ input: trips, test: 0.25, stratify: late, seed: 7 }} }}
  model:
    train:
      input: parts.train
      {}
  scores: {{ score: {{ model: model, input: parts.test, output: out/scores.csv, keep: [origin] }} }}
"#,
        train.replace('\n', "\n      ")
    );
    place.write("learning.yaml", text);
}

fn run(place: &Place) -> Said {
    place.gristmill(&["run", "learning.yaml", "--json"])
}

fn digest(place: &Place) -> String {
    let said = run(place);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let summary = said.json();
    summary["models"][0]["digest"].as_str().unwrap_or_else(|| panic!("a model in {summary}")).to_owned()
}

/// What an artifact holds.
fn content(place: &Place, digest: &str) -> Value {
    place.json(&["artifacts", digest, "--json"])["content"].clone()
}

/// The columns of the scores, and their rows.
fn scores(place: &Place) -> (Vec<String>, Vec<Vec<String>>) {
    let text = std::fs::read_to_string(place.path().join("out/scores.csv")).expect("scores");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    (lines.next().expect("a header"), lines.collect())
}

#[test]
fn features_of_every_kind_are_fitted_and_kept_in_the_model() {
    let place = place(
        r#"target: late
features:
  numeric:
    - distance
    - { column: dep_delay, clip: [-20, 240], log: true }
    - { column: pace, impute: median, scale: robust }
    - { column: hour, bins: 6 }
  categorical:
    - origin
    - { column: carrier, encoding: target, smoothing: 10 }
    - { column: tailnum, encoding: hashed, buckets: 32 }
    - { column: dest, min_rows: 20, encoding: ordinal }
  dates: [ { column: time_hour, parts: [weekday, hour], cyclical: true } ]
  text: [ { column: route, buckets: 16 } ]
  expressions:
    pace: distance / nullif(dep_delay, 0)
    early: case when hour < 9 then 'early' else 'late' end
algorithm: { logistic_regression: { alpha: 1 } }"#,
    );
    let said = run(&place);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let digest = said.json()["models"][0]["digest"].as_str().expect("a digest").to_owned();
    let model = content(&place, &digest);
    let names: Vec<&str> = model["signature"]["inputs"]
        .as_array()
        .expect("inputs")
        .iter()
        .filter_map(|input| input["name"].as_str())
        .collect();
    for column in ["distance", "dep_delay", "hour", "origin", "carrier", "tailnum", "dest", "time_hour", "route"] {
        assert!(names.contains(&column), "{column} is not in {names:?}");
    }
    assert_eq!(model["signature"]["expressions"][0]["name"], "pace", "{model}");
    let (header, rows) = scores(&place);
    assert_eq!(header, ["origin", "prediction", "probability"]);
    assert_eq!(rows.len(), 2000);
    // It learned: those who leave late arrive late, and scores say so.
    let certain = rows.iter().filter(|row| row[2].parse::<f64>().expect("a probability") > 0.9).count();
    assert!(certain > 10, "{certain} rows over 0.9");
}

#[test]
fn components_stand_in_place_of_numbers() {
    let place = place(
        "target: late\nfeatures: { numeric: [distance, dep_delay, hour], categorical: [origin], pca: { components: 2 } }\n\
         algorithm: { logistic_regression: { alpha: 1 } }",
    );
    let model = content(&place, &digest(&place));
    let shares = model["importances"].as_array().expect("importances").iter();
    let sum: f64 = shares.filter_map(|input| input["share"].as_f64()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{model}");
    let (_, rows) = scores(&place);
    assert_eq!(rows.len(), 2000);
}

#[test]
fn features_are_found_in_the_profile_on_request() {
    let place = place(
        "target: late\nfeatures: { infer: true, numeric: [ { column: dep_delay, clip: [-20, 240] } ] }\n\
         algorithm: { gradient_boosting: { iterations: 5 } }",
    );
    let model = content(&place, &digest(&place));
    let names: Vec<&str> = model["inputs"].as_array().expect("inputs").iter().filter_map(Value::as_str).collect();
    assert_eq!(names[0], "dep_delay");
    for (column, is_taken) in
        [("time_hour", true), ("carrier", true), ("distance", true), ("tailnum", false), ("late", false)]
    {
        assert_eq!(names.contains(&column), is_taken, "{column}: {names:?}");
    }
}

#[test]
fn a_forest_is_the_same_in_any_number_of_parts() {
    let forest = |parts: &str| {
        format!(
            "target: late\nfeatures: {{ numeric: [distance, dep_delay, hour], categorical: [origin, carrier] }}\n\
             algorithm: {{ random_forest: {{ trees: 40, max_depth: 8 }} }}\n{parts}"
        )
    };
    let whole = place(&forest(""));
    let first = digest(&whole);
    for parts in [2, 4] {
        let place = place(&forest(&format!("parts: {parts}")));
        assert_eq!(digest(&place), first, "in {parts} parts");
        assert_eq!(scores(&place), scores(&whole));
    }
}

#[test]
fn weights_move_what_is_learned() {
    let train = |weights: &str| {
        format!(
            "target: late\nfeatures: {{ numeric: [distance, dep_delay] }}\n{weights}\n\
             algorithm: {{ gradient_boosting: {{ iterations: 20 }} }}"
        )
    };
    let mean = |place: &Place| {
        let (_, rows) = scores(place);
        rows.iter().map(|row| row[2].parse::<f64>().expect("a probability")).sum::<f64>() / rows.len() as f64
    };
    let place = place(&train(""));
    digest(&place);
    let even = mean(&place);
    for weights in ["class_weight: balanced", "class_weight: { \"true\": 4 }"] {
        pipeline(&place, &train(weights));
        digest(&place);
        assert!(mean(&place) > even + 0.03, "{weights}: {} against {even}", mean(&place));
    }
    let before = digest(&place);
    pipeline(&place, &train("weight: importance"));
    assert_ne!(digest(&place), before);

    pipeline(&place, &train("class_weight: { \"late\": 4 }"));
    let said = run(&place);
    assert_eq!(said.code, Some(1));
    let error = said.json()["steps"]["model"]["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("no such class")), "{error}");
    pipeline(&place, &train("weight: dep_delay"));
    let error = run(&place).json()["steps"]["model"]["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("the weight in column `dep_delay`")), "{error}");
}

#[test]
fn a_support_vector_machine_gives_probabilities() {
    for kernel in ["linear", "rbf"] {
        let place = place(&format!(
            "target: late\nfeatures: {{ numeric: [distance, dep_delay, hour] }}\n\
             algorithm: {{ support_vector_machine: {{ kernel: {kernel} }} }}"
        ));
        digest(&place);
        let (header, rows) = scores(&place);
        assert_eq!(header, ["origin", "prediction", "probability"]);
        let predicted = |row: &&Vec<String>| row[1] == "true";
        assert!(rows.iter().filter(predicted).count() > 100, "{kernel}");
    }
}

#[test]
fn groups_are_found_without_a_target_and_told_of_new_rows() {
    let place =
        place("features: { numeric: [distance, dep_delay, hour] }\nalgorithm: { k_means: { clusters: 5 } }\nseed: 3");
    digest(&place);
    let (header, rows) = scores(&place);
    assert_eq!(header, ["origin", "prediction"]);
    let mut groups: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, ["0", "1", "2", "3", "4"]);

    pipeline(
        &place,
        "features: { numeric: [distance, dep_delay] }\nalgorithm: { dbscan: { eps: 0.2, min_samples: 20 } }",
    );
    digest(&place);
    let (_, rows) = scores(&place);
    assert!(rows.iter().any(|row| row[1] == "-1") && rows.iter().any(|row| row[1] == "0"));

    pipeline(&place, "target: late\nfeatures: { numeric: [distance] }\nalgorithm: { k_means: {} }");
    let said = place.gristmill(&["check", "learning.yaml"]);
    assert_eq!(said.code, Some(2), "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("finds groups without a target"), "{}", said.stderr);
}

/// Rows whose expressions can't be computed are set apart with a reason, and the step fails when they are too many.
#[test]
fn rows_that_cannot_be_scored_are_set_apart() {
    let place = place("");
    let text = |bad_rows: &str| {
        format!(
            r#"name: apart
steps:
  flights: {{ ingest: {{ source: data }} }}
  trips:
    transform:
      sql: >
        select distance, dep_delay, cast(hour as varchar) as clock, flight, arr_delay > 15 as late
        from flights where arr_delay is not null limit 8000
  later:
    transform:
      sql: >
        select distance, dep_delay, late, flight, case when flight % 400 = 7 then 'noon' else clock end as clock
        from trips
  model:
    train:
      input: trips
      target: late
      features: {{ numeric: [distance, dep_delay, at], expressions: {{ at: cast(clock as double) }} }}
      algorithm: {{ decision_tree: {{}} }}
  scores: {{ score: {{ model: model, input: later, output: out/scores.parquet{bad_rows} }} }}
"#
        )
    };
    place.write("learning.yaml", text(""));
    let said = run(&place);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let shown = place.gristmill(&["show"]);
    assert!(shown.stdout.contains("couldn't be scored"), "{}", shown.stdout);
    place.write("learning.yaml", text(", bad_rows: { max: 0 }"));
    let said = run(&place);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    let error: Value = said.json()["steps"]["scores"]["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("rows can't be scored")), "{error}");
}

/// A file larger than a part is read by several tasks, and comes out as if one had read it.
#[test]
fn a_large_file_is_read_in_parts() {
    let place = Place::new();
    let mut text = String::from("id,note,value\n");
    for row in 0..1_700_000_u32 {
        // A few fields with lines in them, and a few lines that can't be read.
        match row {
            row if row % 100_000 == 77 => text += &format!("{row},\"two\nlines, {row}\",{row}.5\n"),
            row if row % 300_000 == 99 => text += "broken\n",
            row => text += &format!("{row},a note that takes some room here,{}.25\n", row % 1000),
        }
    }
    assert!(text.len() > 70 << 20, "{}", text.len());
    place.write("data/big.csv", &text);
    let bad = (0..1_700_000_u64).filter(|row| row % 300_000 == 99);
    let ids: u64 = (0..1_700_000_u64).sum::<u64>() - bad.clone().sum::<u64>();
    let rows = 1_700_000 - bad.count();
    place.write(
        "learning.yaml",
        format!(
            r#"name: big
steps:
  rows: {{ ingest: {{ source: data/big.csv }} }}
  sums:
    transform: {{ sql: "select count(*) as n, sum(id) as ids, count(distinct note) as notes from rows" }}
  right:
    expect:
      input: sums
      rules:
        - {{ column: n, between: [{rows}, {rows}] }}
        - {{ column: ids, between: [{ids}, {ids}] }}
        - {{ column: notes, between: [18, 18] }}
"#
        ),
    );
    let said = run(&place);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let shown = place.gristmill(&["show"]).stdout;
    assert!(shown.contains("6 lines couldn't be read"), "{shown}");
}
