use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use expect_test::expect;
use gristmill_protocol::pipeline::Learning;
use serde_json::json;

use super::*;
use crate::metrics::{Evaluation, Evaluator};
use crate::samples::{algorithm, floats, model, shown, table, target, texts, village, village_features};
use crate::target::{TargetError, TargetFitter};

fn evaluate(model: &Model, batch: &RecordBatch) -> Evaluation {
    let mut evaluator = Evaluator::new(model);
    for from in (0..batch.num_rows()).step_by(100) {
        let batch = batch.slice(from, 100.min(batch.num_rows() - from));
        evaluator.push(&model.predict(&batch).unwrap(), &model.target().values(&batch).unwrap());
    }
    evaluator.finish().unwrap()
}

#[test]
fn every_algorithm_learns_learns_the_same_again_and_is_read_back() {
    let (train, rest) = (village(1_200).slice(0, 900), village(1_200).slice(900, 300));
    for (column, settings, metric, at_least) in [
        ("yes", json!({"logistic_regression": {}}), "roc_auc", 0.8),
        ("yes", json!({"decision_tree": {"max_depth": 5}}), "roc_auc", 0.8),
        ("yes", json!({"random_forest": {"trees": 30, "max_depth": 6}}), "roc_auc", 0.8),
        ("yes", json!({"gradient_boosting": {"iterations": 40}}), "roc_auc", 0.8),
        ("grade", json!({"logistic_regression": {"alpha": 1}}), "accuracy", 0.55),
        ("grade", json!({"decision_tree": {"max_depth": 5}}), "accuracy", 0.55),
        ("grade", json!({"random_forest": {"trees": 30, "max_depth": 6}}), "accuracy", 0.55),
        ("price", json!({"linear_regression": {}}), "r2", 0.6),
        ("price", json!({"ridge": {}}), "r2", 0.6),
        ("price", json!({"lasso": {"alpha": 0.1}}), "r2", 0.6),
        ("price", json!({"elastic_net": {"alpha": 0.1}}), "r2", 0.6),
        ("price", json!({"decision_tree": {"max_depth": 6}}), "r2", 0.6),
        ("price", json!({"random_forest": {"trees": 30, "max_depth": 8}}), "r2", 0.6),
        ("hits", json!({"ridge": {}}), "r2", 0.6),
    ] {
        let algorithm = algorithm(settings.clone());
        let trained = model(&train, column, &village_features(json!({})), &algorithm);
        let bytes = trained.to_bytes();
        let again = model(&train, column, &village_features(json!({})), &algorithm);
        assert!(bytes == again.to_bytes(), "{settings} learns the same again");
        assert_eq!(Model::from_bytes(&bytes).unwrap(), trained);
        let evaluation = evaluate(&trained, &rest);
        assert!(evaluation.metrics[metric] > at_least, "{column} by {settings}: {:?}", evaluation.metrics);
        let shares: f64 = trained.importances().iter().map(|importance| importance.share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}

#[test]
fn rows_are_scored_one_by_one_as_in_a_batch() {
    let village = village(2_500);
    for (column, settings) in [
        ("yes", json!({"random_forest": {"trees": 12, "max_depth": 6}})),
        ("grade", json!({"random_forest": {"trees": 3, "max_depth": 6}})),
        ("yes", json!({"logistic_regression": {}})),
    ] {
        let model = model(&village, column, &village_features(json!({})), &algorithm(settings));
        let of_all = model.predict(&village).unwrap();
        let (_, all) = &of_all.columns()[1];
        for row in [0, 1_023, 1_024, 2_499] {
            let (_, one) = &model.predict(&village.slice(row, 1)).unwrap().columns()[1];
            assert_eq!(shown(one)[0], shown(all)[row]);
        }
    }
}

#[test]
fn predictions_have_the_type_of_the_target() {
    let columns = |target: ArrayRef| {
        let rows = target.len();
        let x = floats((0..rows).map(|row| Some(row as f64)));
        let batch = table(vec![("x", x), ("y", target)]);
        let features = serde_json::from_value(json!({"numeric": ["x"]})).unwrap();
        let model = model(&batch, "y", &features, &algorithm(json!({"decision_tree": {}})));
        let columns = model.predict(&batch).unwrap().columns();
        columns.iter().map(|(name, column)| format!("{name} {:?}\n", shown(column))).collect::<String>()
    };
    let found = [
        columns(Arc::new(BooleanArray::from(vec![false, true, true]))),
        columns(Arc::new(Int64Array::from(vec![4, 9, 4]))),
        columns(texts([Some("b"), Some("a"), Some("c")])),
        columns(floats([Some(1.5), Some(2.5), Some(-1.0)])),
    ];
    expect![[r#"
        prediction ["false", "true", "true"]
        probability ["0.0", "1.0", "1.0"]
        prediction ["4", "9", "4"]
        probability ["0.0", "1.0", "0.0"]
        prediction ["b", "a", "c"]
        probability_a ["0.0", "1.0", "0.0"]
        probability_b ["1.0", "0.0", "0.0"]
        probability_c ["0.0", "0.0", "1.0"]
        prediction ["1.5", "2.5", "-1.0"]
    "#]]
    .assert_eq(&found.concat());
}

#[test]
fn damage_anywhere_in_a_model_is_an_error_or_another_model_but_never_a_panic() {
    let village = village(120);
    for settings in [json!({"random_forest": {"trees": 2, "max_depth": 3}}), json!({"logistic_regression": {}})] {
        let model = model(&village, "yes", &village_features(json!({})), &algorithm(settings));
        let bytes = model.to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            if let Ok(model) = Model::from_bytes(&damaged) {
                // Whatever it says now, it says it of every row.
                if let Ok(predictions) = model.predict(&village) {
                    assert_eq!(predictions.rows(), village.num_rows());
                }
            }
            assert!(Model::from_bytes(&bytes[..at]).is_err());
        }
    }
    assert_eq!(Model::from_bytes(b"").unwrap_err().to_string().split(':').next(), Some("the model is damaged"));
}

#[test]
fn what_is_learned_follows_the_type_of_the_target() {
    let village = village(300);
    for (column, learning, outputs) in [
        ("yes", Learning::Classification, 1),
        ("grade", Learning::Classification, 3),
        ("price", Learning::Regression, 1),
        ("hits", Learning::Regression, 1),
    ] {
        let target = target(&village, column);
        assert_eq!((target.learning(), target.outputs()), (learning, outputs), "{column}");
    }
    let two = table(vec![("y", Arc::new(Int64Array::from(vec![3, 7, 3])))]);
    assert_eq!(target(&two, "y").learning(), Learning::Classification);
    assert_eq!(target(&two, "y").values(&two).unwrap(), [0.0, 1.0, 0.0]);
}

#[test]
fn each_mistake_about_the_target_has_its_message_and_hint() {
    let village = village(400);
    let fit = |batch: &RecordBatch, column: &str, task: Option<Learning>| -> Result<Target, TargetError> {
        let mut fitter = TargetFitter::new(&batch.schema(), column, task)?;
        fitter.push(batch)?;
        fitter.finish()
    };
    let flat = table(vec![("y", Arc::new(BooleanArray::from(vec![true; 4])))]);
    let many = table(vec![("y", Arc::new(Int64Array::from_iter_values(0..300)))]);
    let errors = [
        fit(&village, "prize", None),
        fit(&village, "grade", Some(Learning::Regression)),
        fit(&village, "price", Some(Learning::Classification)),
        fit(&village, "x", None),
        fit(&flat, "y", None),
        fit(&many, "y", Some(Learning::Classification)),
        fit(&village.slice(0, 0), "yes", None),
    ];
    let mut complaints = String::new();
    for error in errors.into_iter().map(Result::unwrap_err) {
        complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    }
    let other = table(vec![("yes", Arc::new(Int64Array::from(vec![5])))]);
    complaints += &format!("{}\n", target(&village, "yes").values(&other).unwrap_err());
    expect![[r#"
        there is no column `prize` to predict
          did you mean `price`?
        column `grade` is of type string, which can't be predicted by regression
          classes are of type boolean, integer, string or date; values are numbers
        column `price` is of type float, which can't be predicted by classification
          classes are of type boolean, integer, string or date; values are numbers
        24 of 400 rows have no value in the target `x`
          leave them out in a transform before: `where x is not null`
        all 4 rows have the same value in the target `y`: `true`
          look at the filters before: there is nothing to learn
        the target `y` has more than 256 classes
          set `task: regression` for a number; else group rare classes in a transform
        there are no rows to learn from
          
        `5` in the target `yes` is none of the model's classes
    "#]]
    .assert_eq(&complaints);
}
