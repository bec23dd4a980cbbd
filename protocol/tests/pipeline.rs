//! Good pipeline files, what becomes of them, and that no file makes the checker panic.

use expect_test::expect;
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::pipeline::{Pipeline, PipelineFile, Task, check};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../examples/flight-delays/pipeline.yaml");

fn checked(text: &str, overrides: &[(&str, &str)]) -> Pipeline {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    check("pipeline.yaml", text, &overrides).unwrap_or_else(|complaints| panic!("{complaints}"))
}

/// The steps with what they need, a line each.
fn graph(pipeline: &Pipeline) -> String {
    let mut text = String::new();
    for step in &pipeline.steps {
        text += &format!("{} ({})", step.name, step.task.kind());
        for need in &step.needs {
            let arrow = if need.order_only { "after" } else { "<-" };
            let output = need.output.as_ref().map(|output| format!(".{output}")).unwrap_or_default();
            text += &format!(" {arrow} {}{output}", need.step);
        }
        text.push('\n');
    }
    let order: Vec<&str> = pipeline.order.iter().map(|index| pipeline.steps[*index].name.as_str()).collect();
    text + &format!("order: {}\n", order.join(" "))
}

#[test]
fn the_example_checks_clean() {
    let pipeline = checked(EXAMPLE, &[]);
    assert!(pipeline.warnings.is_empty(), "{}", pipeline.warnings);
    assert_eq!(pipeline.params["source"], "data");
    expect![[r#"
        flights (ingest)
        trips (transform) <- flights
        trusted (expect) <- trips
        parts (split) <- trusted
        model (train) <- parts.train
        quality (validate) <- model <- parts.test
        release (register) <- model <- quality
        scores (score) <- model <- parts.test
        order: flights trips trusted parts model quality release scores
    "#]]
    .assert_eq(&graph(&pipeline));
}

#[test]
fn a_gate_that_compares_gets_the_name_under_which_the_model_is_registered() {
    let pipeline = checked(EXAMPLE, &[]);
    let Some(Task::Validate(validate)) = pipeline.step("quality").map(|step| &step.task) else {
        panic!("`quality` validates");
    };
    assert_eq!(validate.require[1].name.as_deref(), Some("flight-delays"));
}

#[test]
fn the_order_is_one_of_needs_and_not_of_the_file() {
    let pipeline = checked(
        "
name: backwards
steps:
  last: { transform: { sql: 'select * from \"parts.test\" join first on true' }, after: [other, first] }
  parts: { split: { input: first, test: 0.5 } }
  other: { noop: {} }
  first: { ingest: { source: [a.csv, b.csv] } }
",
        &[],
    );
    expect![[r#"
        last (transform) <- parts.test <- first after other
        parts (split) <- first
        other (noop)
        first (ingest)
        order: other first parts last
    "#]]
    .assert_eq(&graph(&pipeline));
}

#[test]
fn what_a_step_does_not_say_has_its_default() {
    let pipeline = checked(
        "
name: options
priority: -5
weight: 3
limits: { disk: 2 }
steps:
  plain: { noop: {} }
  full:
    noop: {}
    after: [plain]
    when: always
    retries: 0
    timeout: 90s
    pool: bigmem
    priority: 7
    limits: [disk]
    cache: false
",
        &[],
    );
    assert_eq!(pipeline.weight, 3);
    let plain = pipeline.step("plain").expect("it is there");
    assert_eq!((plain.when, plain.retries, plain.timeout_ms), (When::Success, 2, None));
    assert_eq!((plain.pool.as_str(), plain.priority, plain.limits.len(), plain.cache), ("default", -5, 0, true));
    let full = pipeline.step("full").expect("it is there");
    assert_eq!((full.when, full.retries, full.timeout_ms), (When::Always, 0, Some(90_000)));
    assert_eq!((full.pool.as_str(), full.priority, full.cache), ("bigmem", 7, false));
    assert_eq!((full.limits[0].name.as_str(), full.limits[0].capacity), ("disk", 2));
}

#[test]
fn parameters_keep_their_types_and_texts_take_them_in() {
    let text = "
name: parameters
params: { folder: 2013, month: 1, columns: [a, b], share: 1, note: none }
steps:
  flights: { ingest: { source: \"data/${folder}/flights-${month}.csv\", columns: \"${columns}\" } }
  some: { transform: { sql: \"select * from flights where note = '$${note} ${note}'\" } }
  parts: { split: { input: some, test: \"${share}\" } }
";
    let pipeline =
        checked(text, &[("month", "3"), ("columns", "[b, c]"), ("share", "0.25"), ("note", "1"), ("month", "4")]);
    let json =
        |name: &str| serde_json::to_string(&pipeline.step(name).expect("it is there").task).expect("a task is JSON");
    expect![[r#"
        {"ingest":{"source":"data/2013/flights-4.csv","columns":["b","c"],"bad_lines":{"max_share":0.01}}}
        {"transform":{"sql":"select * from flights where note = '${note} 1'"}}
        {"split":{"input":"some","test":0.25,"validation":0.0,"seed":0}}
    "#]]
    .assert_eq(&format!("{}\n{}\n{}\n", json("flights"), json("some"), json("parts")));
    expect![[r#"{"folder":2013,"month":4,"columns":["b","c"],"share":0.25,"note":"1"}"#]]
        .assert_eq(&serde_json::to_string(&pipeline.params).expect("parameters are JSON"));
}

#[test]
fn json_is_a_pipeline_file_too() {
    let text = r#"{"name": "json", "steps": {"a": {"noop": {"tasks": 3}}, "b": {"noop": {}, "after": ["a"]}}}"#;
    let from_json = checked(text, &[]);
    let from_yaml = checked("name: json\nsteps:\n  a: { noop: { tasks: 3 } }\n  b: { noop: {}, after: [a] }\n", &[]);
    assert_eq!(from_json, from_yaml);
}

#[test]
fn aliases_stand_for_what_they_name() {
    let text = "
name: aliases
steps:
  flights: { ingest: { source: data } }
  one: { expect: { input: flights, rules: &rules [ { rows: { min: 1 } } ] } }
  two: { expect: { input: one, rules: *rules } }
";
    let pipeline = checked(text, &[]);
    let rules = |name: &str| match &pipeline.step(name).expect("it is there").task {
        Task::Expect(expect) => expect.rules.clone(),
        other => panic!("{} is no expect", other.kind()),
    };
    assert_eq!(rules("one"), rules("two"));
}

#[test]
fn a_checked_file_goes_through_its_types_and_back() {
    let file: PipelineFile = {
        let source = gristmill_protocol::pipeline::source::Source::new("pipeline.yaml", EXAMPLE);
        let tree = gristmill_protocol::pipeline::source::parse(&source).expect("the example is YAML");
        serde_json::from_value(tree.root.to_value()).expect("the example has the types")
    };
    let written = serde_json::to_string_pretty(&file).expect("the types write JSON");
    let again = checked(&written, &[]);
    let first = checked(EXAMPLE, &[]);
    assert_eq!(again.steps, first.steps);
    for step in &first.steps {
        let packed = rmp_serde::to_vec_named(&step.task).expect("a task packs");
        assert_eq!(rmp_serde::from_slice::<Task>(&packed).expect("a task unpacks"), step.task);
    }
}

/// Pieces that break YAML, SQL, parameters and references in interesting ways.
const PIECES: [&str; 32] = [
    "\n",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    "&a ",
    "*a",
    "!!str ",
    "|",
    ">",
    "'",
    "\"",
    "\\",
    "${",
    "}",
    "$${source}",
    "parts.train",
    "select",
    "null",
    "-1",
    "1e999",
    "é",
    "\u{feff}",
    "\r\n",
    "---\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_example_is_complained_about_and_never_panics(
        edits in proptest::collection::vec((0.0..1.0f64, 0usize..24, 0usize..PIECES.len()), 1..12),
    ) {
        let mut text = EXAMPLE.to_owned();
        for (place, deleted, piece) in edits {
            let start = text.floor_char_boundary((text.len() as f64 * place) as usize);
            let end = text.ceil_char_boundary((start + deleted).min(text.len()));
            text.replace_range(start..end, PIECES[piece]);
        }
        match check("pipeline.yaml", &text, &[("source".to_owned(), "x".to_owned())]) {
            Ok(pipeline) => {
                prop_assert_eq!(pipeline.order.len(), pipeline.steps.len());
            }
            Err(complaints) => {
                prop_assert!(complaints.has_errors());
                // Every place is one in the file.
                let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(&text).split('\n').collect();
                for complaint in complaints.iter().filter(|complaint| complaint.line > 0) {
                    let line = lines.get(complaint.line as usize - 1);
                    prop_assert!(line.is_some(), "{}", complaint);
                    let characters = line.map_or(0, |line| line.chars().count());
                    prop_assert!(complaint.column as usize <= characters + 1, "{}", complaint);
                }
                prop_assert!(!complaints.to_string().is_empty());
                prop_assert!(
                    !complaints.iter().any(|complaint| complaint.message.contains("can't be read")),
                    "the types refuse what the schema allows: {}", complaints
                );
            }
        }
    }

    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}", prefix in prop::bool::ANY) {
        let text = if prefix { format!("name: x\nsteps:\n  a: {text}") } else { text };
        let _ = check("pipeline.yaml", &text, &[]);
    }
}

#[test]
fn a_python_step_takes_datasets_and_makes_one() {
    let pipeline = checked(
        "
name: python
params: { limit: 3 }
steps:
  trips: { ingest: { source: trips.csv } }
  parts: { split: { input: trips, test: 0.5 } }
  clean: { python: { task: clean-up, inputs: { left: parts.train, right: parts.test }, params: { limit: '${limit}', deep: { a: [1] } } } }
  there: { python: { task: report, inputs: { rows: clean } }, pool: gpu }
  model: { train: { input: clean, target: late, features: { infer: true }, algorithm: { random_forest: {} } } }
",
        &[],
    );
    expect![[r#"
        trips (ingest)
        parts (split) <- trips
        clean (python) <- parts.train <- parts.test
        there (python) <- clean
        model (train) <- clean
        order: trips parts clean there model
    "#]]
    .assert_eq(&graph(&pipeline));
    let pools: Vec<&str> = pipeline.steps.iter().map(|step| step.pool.as_str()).collect();
    assert_eq!(pools, ["default", "default", "python", "gpu", "default"]);
    let Some(Task::Python(python)) = pipeline.step("clean").map(|step| &step.task) else { panic!("it is Python") };
    assert_eq!(python.params["limit"], 3);
    assert_eq!(python.inputs.keys().collect::<Vec<_>>(), ["left", "right"]);
}
