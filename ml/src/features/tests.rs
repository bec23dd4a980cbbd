use std::sync::Arc;

use arrow::array::{BooleanArray, Date32Array, Int64Array, RecordBatch};
use expect_test::expect;
use gristmill_protocol::pipeline::Features;
use serde_json::{Value, json};

use super::*;
use crate::matrix::{Layout, Matrix};
use crate::samples::{fit_features, floats, table, target, texts, village, village_features};

/// Five flights: a gap in each feature, and a late and an early carrier.
fn flights() -> RecordBatch {
    table(vec![
        ("delay", floats([Some(1.0), Some(3.0), None, Some(8.0), Some(f64::NAN)])),
        ("carrier", texts([Some("UA"), Some("AA"), Some("UA"), None, Some("B6")])),
        ("month", Arc::new(Int64Array::from(vec![12, 2, 2, 12, 2]))),
        ("late", Arc::new(BooleanArray::from(vec![true, false, true, false, false]))),
    ])
}

fn features(json: Value) -> Features {
    serde_json::from_value(json).unwrap()
}

fn shown(fitted: &FittedFeatures, batch: &RecordBatch) -> String {
    let names = fitted.names();
    let mut matrix = Matrix::<f64>::zeros(batch.num_rows(), names.len(), Layout::Rows);
    fitted.transform(batch, &mut matrix, 0).unwrap();
    let lines = (0..batch.num_rows())
        .map(|row| matrix.row(row).iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(" ") + "\n");
    names.join(" ") + "\n" + &lines.collect::<String>()
}

fn fitted(batch: &RecordBatch, json: Value, trees: bool) -> FittedFeatures {
    fit_features(batch, &features(json), trees, &target(batch, "late"))
}

#[test]
fn one_hot_has_a_column_for_each_level_and_one_for_the_unknown_that_training_met() {
    let flights = flights();
    let settings = json!({"numeric": ["delay"], "categorical": ["carrier", "month"], "missing_indicator": true, "scale": "none", "encoding": "one_hot"});
    expect![[r#"
        delay delay=<missing> carrier=AA carrier=B6 carrier=UA carrier=<unknown> month=2 month=12
        1.0000 0.0000 0.0000 0.0000 1.0000 0.0000 0.0000 1.0000
        3.0000 0.0000 1.0000 0.0000 0.0000 0.0000 1.0000 0.0000
        4.0000 1.0000 0.0000 0.0000 1.0000 0.0000 1.0000 0.0000
        8.0000 0.0000 0.0000 0.0000 0.0000 1.0000 0.0000 1.0000
        4.0000 1.0000 0.0000 1.0000 0.0000 0.0000 1.0000 0.0000
    "#]]
    .assert_eq(&shown(&fitted(&flights, settings, true), &flights));
}

#[test]
fn levels_that_training_did_not_meet_are_unknown() {
    let flights = flights();
    let settings = json!({"numeric": [], "categorical": ["carrier", "month"], "encoding": "one_hot"});
    let fitted = fitted(&flights, settings, true);
    let later = table(vec![("carrier", texts([Some("ZZ"), None])), ("month", Arc::new(Int64Array::from(vec![7, 12])))]);
    expect![[r#"
        carrier=AA carrier=B6 carrier=UA carrier=<unknown> month=2 month=12
        0.0000 0.0000 0.0000 1.0000 0.0000 0.0000
        0.0000 0.0000 0.0000 1.0000 0.0000 1.0000
    "#]]
    .assert_eq(&shown(&fitted, &later));
}

#[test]
fn ordered_levels_rank_by_their_mean_of_the_target_and_the_unknown_stands_at_the_mean() {
    let flights = flights();
    let fitted = fitted(&flights, json!({"numeric": [], "categorical": ["carrier"]}), true);
    // UA is always late; AA and B6, never late, stand in the order of their names.
    expect![[r#"
        carrier
        2.0000
        0.0000
        2.0000
        1.5000
        1.0000
    "#]]
    .assert_eq(&shown(&fitted, &flights));
}

#[test]
fn the_most_frequent_levels_are_kept_and_of_equal_ones_the_first() {
    let flights = flights();
    let settings = json!({"numeric": [], "categorical": ["carrier"], "encoding": "one_hot", "levels_max": 2});
    assert_eq!(fitted(&flights, settings, true).names(), ["carrier=AA", "carrier=UA", "carrier=<unknown>"]);
}

#[test]
fn numbers_are_imputed_and_scaled_as_asked() {
    let flights = flights();
    // numpy, on the filled column: (v - v.mean()) / v.std()
    for (impute, expected) in [
        (json!("mean"), [-1.3156, -0.4385, 0.0, 1.7541, 0.0]),
        (json!("median"), [-1.1147, -0.2572, -0.2572, 1.8865, -0.2572]),
        (json!({"constant": -1.0}), [-0.2988, 0.2988, -0.8964, 1.7928, -0.8964]),
    ] {
        let settings = json!({"numeric": ["delay"], "impute": impute, "scale": "standard"});
        let fitted = fitted(&flights, settings, false);
        let mut matrix = Matrix::<f64>::zeros(5, 1, Layout::Columns);
        fitted.transform(&flights, &mut matrix, 0).unwrap();
        let values: Vec<f64> = (0..5).map(|row| matrix.get(row, 0)).collect();
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{impute}: {values:?}");
        let mean: f64 = values.iter().sum::<f64>() / 5.0;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 5.0;
        assert!(mean.abs() < 1e-12 && (spread - 1.0).abs() < 1e-12, "{impute}: mean {mean}, variance {spread}");
    }
}

#[test]
fn outputs_carry_the_mean_and_deviation_of_their_column() {
    let village = village(500);
    for encoding in ["one_hot", "ordered"] {
        let features = village_features(json!({"encoding": encoding, "missing_indicator": true, "levels_max": 4}));
        let fitted = fit_features(&village, &features, false, &target(&village, "price"));
        let mut matrix = Matrix::<f64>::zeros(500, fitted.names().len(), Layout::Rows);
        fitted.transform(&village, &mut matrix, 0).unwrap();
        for (column, output) in fitted.outputs().iter().enumerate() {
            let values: Vec<f64> = (0..500).map(|row| matrix.get(row, column)).collect();
            let mean = values.iter().sum::<f64>() / 500.0;
            let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 500.0).sqrt();
            assert!((output.mean - mean).abs() < 1e-9 && (output.std - std).abs() < 1e-9, "{output:?}: {mean} {std}");
        }
    }
}

#[test]
fn partitions_fitted_apart_and_merged_are_fitted_as_one() {
    let village = village(900);
    let target = target(&village, "yes");
    let features = village_features(json!({"impute": "median", "missing_indicator": true}));
    let plan = FeaturePlan::new(&features, true, &target).unwrap();
    let fitter = |from: usize, rows: usize| {
        let batch = village.slice(from, rows);
        let mut fitter = FeatureFitter::new(&batch.schema(), plan.clone(), &target).unwrap();
        fitter.push(&batch, &target.values(&batch).unwrap()).unwrap();
        fitter
    };
    let mut merged = fitter(0, 300);
    merged.merge(fitter(300, 600)).unwrap();
    let (whole, merged) = (fitter(0, 900).finish().unwrap(), merged.finish().unwrap());
    assert_eq!(whole.data.features, merged.data.features);
    for (a, b) in whole.outputs().iter().zip(merged.outputs()) {
        assert!((a.mean - b.mean).abs() < 1e-12 && (a.std - b.std).abs() < 1e-12);
    }
}

#[test]
fn days_and_booleans_are_levels_and_numbers() {
    let batch = table(vec![
        ("day", Arc::new(Date32Array::from(vec![15_706, 15_707, 15_706]))),
        ("wet", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("late", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ]);
    let levels = fitted(&batch, json!({"categorical": ["day", "wet"], "encoding": "one_hot"}), true);
    assert_eq!(levels.names(), ["day=2013-01-01", "day=2013-01-02", "wet=false", "wet=true"]);
    let numbers = fitted(&batch, json!({"numeric": ["day", "wet"], "scale": "none"}), true);
    assert!(shown(&numbers, &batch).starts_with("day wet\n15706.0000 1.0000\n15707.0000 0.0000\n"));
}

#[test]
fn what_was_fitted_is_stored_and_read_back() {
    let village = village(200);
    let fitted = fit_features(&village, &village_features(json!({})), true, &target(&village, "yes"));
    let bytes = rmp_serde::to_vec_named(&fitted).unwrap();
    assert_eq!(rmp_serde::from_slice::<FittedFeatures>(&bytes).unwrap(), fitted);
}

#[test]
fn each_mistake_has_its_message_and_hint() {
    let flights = flights();
    let target = target(&flights, "late");
    let mut complaints = String::new();
    for settings in [
        json!({}),
        json!({"numeric": ["dely"]}),
        json!({"numeric": ["delay"], "categorical": ["delay"]}),
        json!({"numeric": ["delay", "late"]}),
        json!({"numeric": ["carrier"]}),
        json!({"categorical": ["delay"]}),
    ] {
        let plan = FeaturePlan::new(&features(settings), true, &target).unwrap();
        let error = FeatureFitter::new(&flights.schema(), plan, &target).unwrap_err();
        complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    }
    let empty = table(vec![("delay", floats([None, None])), ("late", Arc::new(BooleanArray::from(vec![true, false])))]);
    let plan = FeaturePlan::new(&features(json!({"numeric": ["delay"]})), true, &target).unwrap();
    let mut fitter = FeatureFitter::new(&empty.schema(), plan, &target).unwrap();
    fitter.push(&empty, &[1.0, 0.0]).unwrap();
    complaints += &format!("{}\n", fitter.finish().unwrap_err());
    expect![[r#"
        there are no feature columns
          name columns under `features: { numeric: […], categorical: […] }`
        there is no column `dely` to learn from
          did you mean `delay`?
        column `delay` is named twice among the features
          a column is either numeric or categorical
        the target `late` is also among the features
          a model can't be given what it is to predict: remove it
        column `carrier` is of type string, which can't be taken as numeric
          name it under `categorical`, or `cast` it in a transform
        column `delay` is of type float, which can't be taken as categorical
          name it under `numeric`, or `cast` it in a transform
        column `delay` has no values in the training rows
    "#]]
    .assert_eq(&complaints);
}

#[test]
fn a_column_that_changed_its_type_is_refused() {
    let flights = flights();
    let fitted = fitted(&flights, json!({"numeric": ["delay"], "categorical": ["month"]}), true);
    let refused = |batch: RecordBatch| {
        let mut matrix = Matrix::<f32>::zeros(1, 2, Layout::Rows);
        fitted.transform(&batch, &mut matrix, 0).unwrap_err().to_string()
    };
    let late = table(vec![("delay", texts([Some("late")])), ("month", Arc::new(Int64Array::from(vec![1])))]);
    assert_eq!(refused(late), "column `delay` was of type float in training and is now of type string");
    let june = table(vec![("delay", floats([Some(1.0)])), ("month", texts([Some("June")]))]);
    assert_eq!(refused(june), "column `month` was of type integer in training and is now of type string");
    let without = table(vec![("delay", floats([Some(1.0)]))]);
    assert_eq!(refused(without), "there is no column `month` to learn from");
}
