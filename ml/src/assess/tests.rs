//! Assessments of small models whose faults are known.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use gristmill_protocol::pipeline::steps::Validate;
use serde_json::{Value, json};

use super::*;
use crate::columns;
use crate::samples::{algorithm, floats, model, table, texts, village, village_features};
use crate::table::TableSchema;

fn validate(more: Value) -> Validate {
    let mut json = json!({"model": "m", "input": "t", "intervals": {"draws": 100}});
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

/// Assesses a model on a table that comes in pieces of so many rows.
fn assess(model: &Model, batch: &RecordBatch, more: Value, piece: usize) -> Result<Assessment, AssessError> {
    let validate = validate(more);
    let schema = TableSchema::from_arrow(&batch.schema()).unwrap();
    let mut assessor = Assessor::new(model, &validate, &schema, batch.num_rows() as u64)?;
    let places: Vec<usize> = assessor.columns().iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
    let narrow = batch.project(&places).unwrap();
    for from in (0..narrow.num_rows()).step_by(piece) {
        assessor.push(&narrow.slice(from, piece.min(narrow.num_rows() - from)))?;
    }
    assessor.finish(2, model.to_bytes().len() as u64)
}

fn tree(batch: &RecordBatch, target: &str) -> Model {
    let settings = algorithm(json!({"decision_tree": {"max_depth": 5}}));
    model(batch, target, &village_features(json!({})), &settings)
}

#[test]
fn an_assessment_is_the_same_however_rows_come() {
    let village = village(900);
    let tree = tree(&village.slice(0, 600), "yes");
    let more = json!({
        "slices": {"low": "x < 3", "elm": "town = 'elm' and x is not null"},
        "fairness": {"by": ["town"], "min_rows": 20},
        "robustness": {},
        "importance": {},
    });
    let found = assess(&tree, &village, more.clone(), 900).unwrap();
    assert_eq!(found, assess(&tree, &village, more, 77).unwrap());
    let text = serde_json::to_string(&found).unwrap();
    let again: Assessment = serde_json::from_str(&text).unwrap();
    assert_eq!(again.slices, found.slices);

    // Slices and groups hold the rows that they say.
    let count = |inside: &dyn Fn(usize) -> bool| (0..900).filter(|row| inside(*row)).count() as u64;
    let x = columns::numbers(village.column_by_name("x").unwrap()).unwrap();
    assert_eq!(found.slices[0].rows, count(&|row| x.is_valid(row) && x.value(row) < 3.0));
    let groups = &found.fairness[0].found.groups;
    assert_eq!(groups.iter().map(|group| group.counts.rows()).sum::<u64>(), 900);
    assert!(groups.iter().any(|group| group.name == MISSING), "{groups:?}");
    assert!(found.intervals["accuracy"].low < found.intervals["accuracy"].high);

    // `x` decides and `day` hardly does.
    let worth = found.permutation.unwrap();
    assert_eq!((worth.metric.as_str(), worth.inputs[0].name.as_str()), ("roc_auc", "x"));
    let day = worth.inputs.iter().find(|input| input.name == "day").unwrap();
    assert!(day.mean < worth.inputs[0].mean / 5.0, "{worth:?}");
}

#[test]
fn wrong_inputs_flip_decisions_and_right_ones_do_not() {
    let village = village(800);
    let tree = tree(&village, "yes");
    let of = |robustness: Value| assess(&tree, &village, json!({"robustness": robustness}), 800).unwrap().robustness;
    let flips = |found: &[Perturbed]| found.iter().map(|way| way.flips.unwrap()).collect::<Vec<f64>>();
    assert_eq!(flips(&of(json!({"noise": 0, "missing": 0, "out_of_range": 0}))), [0.0, 0.0, 0.0]);
    let (little, much) = (of(json!({})), of(json!({"noise": 2, "missing": 0.9, "out_of_range": 0.9})));
    for (little, much) in flips(&little).into_iter().zip(flips(&much)) {
        assert!(little > 0.0 && much > 2.0 * little, "{little} {much}");
    }
    let price = model(&village, "price", &village_features(json!({})), &algorithm(json!({"ridge": {}})));
    let found = assess(&price, &village, json!({"robustness": {}}), 800).unwrap().robustness;
    assert!(found.iter().all(|way| way.flips.is_none() && way.shift.unwrap() > 0.0), "{found:?}");
}

#[test]
fn what_is_known_afterwards_is_told() {
    let rows = 400;
    let yes = |row: usize| (row * 7 + row / 9) % 3 == 0;
    let fee = floats((0..rows).map(|row| yes(row).then_some(3.0 + row as f64)));
    let kind = texts((0..rows).map(|row| Some(if yes(row) { "done" } else { "open" })));
    let noise = floats((0..rows).map(|row| Some(((row * 7919) % 101) as f64)));
    let target: ArrayRef = Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(yes(row)))));
    let batch = table(vec![("fee", fee), ("noise", noise), ("kind", kind), ("yes", target)]);
    let features = serde_json::from_value(json!({"numeric": ["fee", "noise"], "categorical": ["kind"]})).unwrap();
    let tree = model(&batch, "yes", &features, &algorithm(json!({"decision_tree": {}})));
    let found = assess(&tree, &batch, json!({}), 400).unwrap();
    let names: Vec<&str> = found.leaks.iter().map(|leak| leak.name.as_str()).collect();
    assert_eq!(names, ["fee", "kind"]);
    assert!(found.warnings[0].contains("`fee`"), "{:?}", found.warnings);
}

#[test]
fn groups_that_are_decided_for_less_often_are_told() {
    let rows = 600;
    let group = |row: usize| if row % 2 == 0 { "a" } else { "b" };
    let yes = |row: usize| if row % 2 == 0 { row % 10 < 6 } else { row % 10 < 2 };
    let group_column = texts((0..rows).map(|row| Some(group(row))));
    let digit = floats((0..rows).map(|row| Some((row % 10) as f64)));
    let target: ArrayRef = Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(yes(row)))));
    let batch = table(vec![("digit", digit), ("group", group_column), ("yes", target)]);
    let features = serde_json::from_value(json!({"numeric": ["digit"]})).unwrap();
    let tree = model(&batch, "yes", &features, &algorithm(json!({"decision_tree": {}})));
    let found = assess(&tree, &batch, json!({"fairness": {"by": ["group"]}}), 100).unwrap();
    let by = &found.fairness[0];
    // Even digits under 6 are three of five, odd ones under 2 one of five.
    assert!((by.found.demographic_parity.unwrap().ratio - 1.0 / 3.0).abs() < 1e-9, "{by:?}");
    assert_eq!((by.positive.as_str(), by.found.four_fifths), ("true", Some(false)));
    assert!(found.warnings.iter().any(|warning| warning.contains("`b` of `group`")), "{:?}", found.warnings);
}

#[test]
fn one_row_takes_some_time() {
    let village = village(100);
    let tree = tree(&village, "yes");
    let us = latency::row_us(&tree, &village).unwrap().unwrap();
    assert!(us > 0.0 && us < 1e6, "{us}");
    assert_eq!(latency::row_us(&tree, &village.slice(0, 0)).unwrap(), None);
}

#[test]
fn what_does_not_fit_the_model_or_the_rows_says_so() {
    let village = village(200);
    let yes = tree(&village, "yes");
    let says = |model: &Model, more: Value| {
        let error = assess(model, &village, more, 200).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let (message, hint) = says(&yes, json!({"fairness": {"by": ["twon"]}}));
    assert_eq!(message, "`fairness` compares its groups: there is no column `twon`");
    assert_eq!(hint, "did you mean `town`?");
    let (message, _) = says(&yes, json!({"fairness": {"by": ["town"], "positive": "maybe"}}));
    assert_eq!(message, "`maybe` is no class of the target `yes`");
    let (message, _) = says(&tree(&village, "grade"), json!({"fairness": {"by": ["town"]}}));
    assert_eq!(message, "`fairness` doesn't say which of 3 classes is a positive decision");
    let (message, _) = says(&yes, json!({"slices": {"far": "distance > 3"}}));
    assert_eq!(message, "the slice `far` can't be made");
    let price = model(&village, "price", &village_features(json!({})), &algorithm(json!({"ridge": {}})));
    let (message, _) = says(&price, json!({"fairness": {"by": ["town"]}}));
    assert_eq!(message, "`fairness` is for classes, and the model tells a number");
}
