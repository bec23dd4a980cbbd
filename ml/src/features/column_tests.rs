//! Settings of single columns, dates, texts and expressions. Constants are scikit-learn's 1.9.1 and pandas' own values
//! on the same 500 rows, and have to agree to 1e-9.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use expect_test::expect;
use gristmill_protocol::pipeline::Features;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dates::{parse_date, parse_timestamp};
use crate::matrix::{Layout, Matrix};
use crate::model::{FORMAT, FORMAT_FIRST, Model};
use crate::samples::{algorithm, fit_features, fit_for, floats, model, table, target, texts, village};

fn features(json: Value) -> Features {
    serde_json::from_value(json).unwrap()
}

fn matrix(fitted: &FittedFeatures, batch: &RecordBatch) -> Matrix<f64> {
    let mut matrix = Matrix::<f64>::zeros(batch.num_rows(), fitted.outputs().len(), Layout::Rows);
    fitted.transform(batch, &mut matrix, 0).unwrap();
    matrix
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

/// Rows 0, 3 (where `x` is missing), 7, 100 and 499 of the first column that these features make.
fn five(json: Value) -> [f64; 5] {
    let village = village(500);
    let matrix = matrix(&fit_features(&village, &features(json), true, &target(&village, "yes")), &village);
    [0, 3, 7, 100, 499].map(|row| matrix.get(row, 0))
}

#[test]
fn numbers_are_those_of_scikit_learn() {
    for (settings, expected) in [
        (
            json!({"scale": "standard"}),
            [1.0753282209258923, 0.0, 0.8970551119893245, 0.5405088941161892, -1.2422221952494876],
        ),
        (json!({"impute": "median", "scale": "robust"}), [0.6, 0.0, 0.5, 0.3, -0.7]),
        (json!({"scale": "min_max"}), [0.8, 0.498404255319149, 0.75, 0.65, 0.15]),
        (
            json!({"scale": "standard", "clip": {"quantiles": [0.1, 0.9]}}),
            [1.1348062650937611, 0.0, 0.9464067791898163, 0.5696078073819268, -1.314387051657521],
        ),
        (
            json!({"scale": "standard", "clip": [1, 9]}),
            [1.1348062650937611, 0.0, 0.9464067791898163, 0.5696078073819268, -1.314387051657521],
        ),
        (
            json!({"impute": "median", "scale": "min_max", "log": true}),
            [0.9163138199826525, 0.7472217363092141, 0.8924769099689619, 0.8402798251446779, 0.3821229151533518],
        ),
        (json!({"bins": 4}), [3.0, 2.0, 3.0, 2.0, 0.0]),
        (json!({"bins": 7}), [5.0, 3.0, 5.0, 4.0, 1.0]),
    ] {
        let mut column = settings.clone();
        column["column"] = json!("x");
        let found = five(json!({"numeric": [column]}));
        assert!(found.iter().zip(expected).all(|(a, b)| close(*a, b)), "{settings}: {found:?}");
    }
    // sign(x) ln(1 + |x|), of an expression.
    let logs =
        json!({"numeric": [{"column": "p", "log": true, "scale": "standard"}], "expressions": {"p": "price - 100"}});
    let expected =
        [0.6364101421729695, 0.8904853563389469, -0.4059320293414581, 0.9318866299724384, -1.1697560734123484];
    let found = five(logs);
    assert!(found.iter().zip(expected).all(|(a, b)| close(*a, b)), "{found:?}");
}

#[test]
fn level_means_are_those_of_scikit_learns_target_encoder() {
    let village = village(500);
    for (target_column, smoothing, expected) in [
        ("price", None, [104.80509319864532, 106.19019965350026, 104.23550185732974, 103.26503756269905]),
        ("yes", Some(5.0), [0.4673255813953488, 0.5118965517241378, 0.46879310344827585, 0.4601724137931034]),
    ] {
        let settings = json!({"categorical": [{"column": "code", "encoding": "target", "smoothing": smoothing}]});
        let fitted = fit_features(&village, &features(settings), true, &target(&village, target_column));
        let codes = table(vec![("code", Arc::new(Int64Array::from(vec![0, 1, 4, 7])))]);
        let found = matrix(&fitted, &codes);
        for (row, expected) in expected.into_iter().enumerate() {
            assert!(close(found.get(row, 0), expected), "{target_column}, {row}: {}", found.get(row, 0));
        }
    }
}

#[test]
fn a_training_rows_own_target_is_not_in_its_level_mean() {
    // Each row is a level of its own, so all that its mean could know is its own target.
    let rows = 400;
    let ids: Vec<String> = (0..rows).map(|row| format!("id{row}")).collect();
    let label = |row: usize| crate::hash::mix(row as u64).is_multiple_of(2);
    let batch = table(vec![
        ("id", texts(ids.iter().map(|id| Some(id.as_str())))),
        ("y", Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(label(row)))))),
    ]);
    let target = target(&batch, "y");
    let settings = json!({"categorical": [{"column": "id", "encoding": "target", "smoothing": 1, "levels_max": 1000}]});
    let fitted = fit_features(&batch, &features(settings), true, &target);
    let scored = matrix(&fitted, &batch);
    assert!((0..rows).all(|row| (scored.get(row, 0) > 0.6) == label(row)));
    let mut trained = Matrix::<f64>::zeros(rows, 1, Layout::Rows);
    // In two pieces, as batches come.
    fitted.transform_training(&batch.slice(0, 150), &mut trained, 0, 0).unwrap();
    fitted.transform_training(&batch.slice(150, 250), &mut trained, 150, 150).unwrap();
    let mean_of = |wanted: bool| {
        let of: Vec<f64> = (0..rows).filter(|&row| label(row) == wanted).map(|row| trained.get(row, 0)).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    assert!((mean_of(true) - mean_of(false)).abs() < 0.02, "{} {}", mean_of(true), mean_of(false));
    // What a model was read back from doesn't know the parts any more.
    let bytes = rmp_serde::to_vec_named(&fitted).unwrap();
    let read: FittedFeatures = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(read, fitted);
}

#[test]
fn rare_levels_are_unknown_and_ordinal_levels_are_places_in_order() {
    let village = village(500);
    let target = target(&village, "yes");
    // ash 216, birch 87, cedar 69, elm 57, fir 49, missing 22
    let settings = json!({"categorical": [{"column": "town", "encoding": "one_hot", "min_rows": 58}]});
    let fitted = fit_features(&village, &features(settings), true, &target);
    assert_eq!(fitted.names(), ["town=ash", "town=birch", "town=cedar", "town=<unknown>"]);
    let settings = json!({"categorical": [{"column": "town", "encoding": "ordinal"}]});
    let ordinal = matrix(&fit_features(&village, &features(settings), true, &target), &village);
    assert_eq!([0, 3, 5, 7, 100, 499].map(|row| ordinal.get(row, 0)), [1.0, 0.0, -1.0, 1.0, 0.0, 4.0]);
}

#[test]
fn hashed_levels_and_words_keep_their_columns() {
    let batch = table(vec![
        ("tail", texts([Some("N123"), Some("N456"), None, Some("N123")])),
        ("note", texts([Some("Late, late & LATE!"), None, Some("Über 9 gates"), Some("über_9")])),
        ("y", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
    ]);
    let settings = json!({
        "categorical": [{"column": "tail", "encoding": "hashed", "buckets": 8}],
        "text": [{"column": "note", "buckets": 8}],
    });
    let fitted = fit_features(&batch, &features(settings), true, &target(&batch, "y"));
    let matrix = matrix(&fitted, &batch);
    let lines = (0..4).map(|row| matrix.row(row).iter().map(f64::to_string).collect::<Vec<_>>().join(" ") + "\n");
    // Fixed for good: a model that was trained with them is scored with them.
    expect![[r#"
        0 1 0 0 0 0 0 0 0 0 0 0 3 0 0 0
        0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0
        0 0 0 0 0 0 0 0 0 0 0 2 0 1 0 0
        0 1 0 0 0 0 0 0 0 0 0 1 0 1 0 0
    "#]]
    .assert_eq(&lines.collect::<String>());
    for (column, output) in fitted.outputs().iter().enumerate() {
        let values: Vec<f64> = (0..4).map(|row| matrix.get(row, column)).collect();
        let mean = values.iter().sum::<f64>() / 4.0;
        let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 4.0).sqrt();
        assert!(close(output.mean, mean) && close(output.std, std), "{output:?}");
    }
}

#[test]
fn parts_of_dates_are_those_of_pandas() {
    let instants = ["2013-01-01T10:05:00Z", "1969-12-31T23:59:00Z", "2016-02-29T00:00:00Z", "2000-12-31T12:30:00Z"];
    let at: Vec<i64> = instants.iter().map(|text| parse_timestamp(text.as_bytes()).unwrap()).collect();
    let days: Vec<i32> = instants.iter().map(|text| parse_date(&text.as_bytes()[..10]).unwrap()).collect();
    let batch = table(vec![
        ("at", Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC"))),
        ("day", Arc::new(Date32Array::from(days))),
        ("y", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
    ]);
    let target = target(&batch, "y");
    let all = json!(["minute", "year", "month", "day", "day_of_year", "weekday", "hour"]);
    let settings = json!({"dates": [{"column": "at", "parts": all}, "day"]});
    let fitted = fit_features(&batch, &features(settings), true, &target);
    assert_eq!(
        fitted.names().join(" "),
        "at.year at.month at.day at.day_of_year at.weekday at.hour at.minute day.year day.month day.day day.weekday"
    );
    let found = matrix(&fitted, &batch);
    for (row, expected) in [
        [2013.0, 1.0, 1.0, 1.0, 1.0, 10.0, 5.0, 2013.0, 1.0, 1.0, 1.0],
        [1969.0, 12.0, 31.0, 365.0, 2.0, 23.0, 59.0, 1969.0, 12.0, 31.0, 2.0],
        [2016.0, 2.0, 29.0, 60.0, 0.0, 0.0, 0.0, 2016.0, 2.0, 29.0, 0.0],
        [2000.0, 12.0, 31.0, 366.0, 6.0, 12.0, 30.0, 2000.0, 12.0, 31.0, 6.0],
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(found.row(row), expected);
    }
    // A linear model gets waves, with January at their beginning.
    let fitted =
        fit_features(&batch, &features(json!({"dates": [{"column": "day", "parts": ["month"]}]})), false, &target);
    assert_eq!(fitted.names(), ["day.month.sin", "day.month.cos"]);
    let found = matrix(&fitted, &batch);
    assert!(close(found.get(0, 0), 0.0) && close(found.get(0, 1), 1.0));
    assert!(close(found.get(2, 0), 0.49999999999999994) && close(found.get(2, 1), 0.8660254037844387));
}

#[test]
fn boosting_keeps_missing_numbers_missing_where_training_met_some() {
    let village = village(300);
    let target = target(&village, "yes");
    let boosting = algorithm(json!({"gradient_boosting": {}}));
    let settings = json!({"numeric": ["x", "day"]});
    let fitted = fit_for(&village, &features(settings.clone()), &boosting, &target);
    let gap = table(vec![("x", floats([None])), ("day", floats([None]))]);
    let found = matrix(&fitted, &gap);
    assert!(found.get(0, 0).is_nan() && found.get(0, 1).is_finite());
    let forest = fit_features(&village, &features(settings), true, &target);
    assert!(matrix(&forest, &gap).get(0, 0).is_finite());
    let refused = FeaturePlan::new(&features(json!({"numeric": ["x"], "impute": "none"})), true, &target).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`impute: none` of column `x` leaves numbers missing, which only `gradient_boosting` can learn from"
    );
}

#[test]
fn expressions_are_features_with_names_of_their_own() {
    let batch = table(vec![
        ("delay", Arc::new(Int64Array::from(vec![Some(5), Some(-3), None, Some(7)]))),
        ("distance", Arc::new(Int64Array::from(vec![10, 2, 4, 0]))),
        ("carrier", texts([Some("UA"), Some("aa"), None, Some("ua")])),
        ("y", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
    ]);
    let settings = json!({
        "numeric": ["distance", {"column": "ratio", "clip": [null, 0.4]}],
        "scale": "none",
        "impute": {"constant": -9},
        "encoding": "one_hot",
        "expressions": {
            "ratio": "delay / nullif(distance, 0)",
            "long": "distance > 3",
            "upper": "upper(carrier)",
            "speed": "100 / distance",
        },
    });
    let fitted = fit_features(&batch, &features(settings), true, &target(&batch, "y"));
    assert_eq!(fitted.names().join(" "), "distance ratio long upper=AA upper=UA upper=<unknown> speed");
    // A ratio of whole numbers is no whole number, and one by zero is missing.
    let found = matrix(&fitted, &batch);
    for (row, expected) in [
        [10.0, 0.4, 1.0, 0.0, 1.0, 0.0, 10.0],
        [2.0, -1.5, 0.0, 1.0, 0.0, 0.0, 50.0],
        [4.0, -9.0, 1.0, 0.0, 0.0, 1.0, 25.0],
        [0.0, -9.0, 0.0, 0.0, 1.0, 0.0, -9.0],
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(found.row(row), expected);
    }
    let read: Vec<&str> = fitted.signature().iter().map(|input| input.name.as_str()).collect();
    assert_eq!(read, ["distance", "delay", "carrier"]);
}

#[test]
fn each_mistake_in_an_expression_has_its_message_and_hint() {
    let batch = table(vec![
        ("delay", floats([Some(1.0), Some(2.0)])),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]))),
        ("late", Arc::new(BooleanArray::from(vec![true, false]))),
    ]);
    let target = target(&batch, "late");
    let mut complaints = String::new();
    for settings in [
        json!({"expressions": {"a": "dely * 2"}}),
        json!({"expressions": {"a": "delay +"}}),
        json!({"expressions": {"a": "delay + random()"}}),
        json!({"expressions": {"a": "now()"}}),
        json!({"expressions": {"a": "1 + 1"}}),
        json!({"expressions": {"a": "sum(delay)"}}),
        json!({"expressions": {"a": "[delay]"}}),
        json!({"expressions": {"a": "at"}}),
        json!({"expressions": {"a": "case when late then delay end"}}),
        json!({"expressions": {"delay": "delay * 2"}}),
        json!({"expressions": {"a": "sqroot(delay)"}}),
        json!({"numeric": [{"column": "delay", "clip": [3, 1]}]}),
        json!({"numeric": [{"column": "delay", "bins": 3, "log": true}]}),
        json!({"dates": ["delay"]}),
        json!({"dates": [{"column": "day", "parts": ["hour"]}], "expressions": {"day": "cast(at as date)"}}),
        json!({"text": ["delay"]}),
    ] {
        let error = FeaturePlan::new(&features(settings), true, &target)
            .and_then(|plan| FeatureFitter::new(&batch.schema(), plan, &target))
            .unwrap_err();
        let mut source = std::error::Error::source(&error);
        complaints += &error.to_string();
        while let Some(cause) = source {
            complaints += &format!(": {cause}");
            source = cause.source();
        }
        complaints += &error.hint().map_or("\n".to_owned(), |hint| format!("\n  {hint}\n"));
    }
    expect![[r#"
        the expression `a`: there is no column `dely`
          did you mean `delay`?
        the expression `a`: the SQL can't be parsed: expected: an expression, found: EOF
        the expression `a`: `random()` gives another result each time it runs
          an expression must give the same for the same row; pass what changes as a column
        the expression `a`: `now()` gives another result each time it runs
          an expression must give the same for the same row; pass what changes as a column
        the expression `a`: it looks at no column, so it is the same for all rows
          name a column in it, or remove it
        the expression `a`: an expression about each row can't hold an aggregate
        the expression `a`: the SQL can't be planned: not supported: could not plan array literal. Hint: Please try with `nested_expressions` DataFusion feature enabled
        column `a` is of type timestamp, which can't be taken as a number or a level
          name it under `dates`, or `cast` it
        the target `late` is also among the features
          a model can't be given what it is to predict: remove it
        an expression is called `delay`, like a column of the table
          choose another name for it
        the expression `a`: the SQL can't be planned: invalid function 'sqroot'
          did you mean `sqrt`?
        `clip` of column `delay` has its bounds the wrong way round
          write the lower bound first
        `bins` of column `delay` stands beside `scale`, `log` or `clip`, which would change nothing
          bins hold the same rows whatever the scale; remove one of the two
        column `delay` is of type float, which can't be taken as a date
          `cast` it in a transform
        `parts` of column `day` asks for the time of day, and days have none
          take `hour` and `minute` of points in time only
        column `delay` is of type float, which can't be taken as text
          `cast` it in a transform
    "#]].assert_eq(&complaints);
}

/// Features of every kind over the village.
fn every_kind() -> Features {
    features(json!({
        "numeric": [
            "day",
            {"column": "x", "clip": {"quantiles": [0.05, 0.95]}, "log": true, "scale": "robust", "missing_indicator": true},
            {"column": "half", "bins": 5},
        ],
        "categorical": [
            {"column": "town", "encoding": "target"},
            {"column": "code", "encoding": "hashed", "buckets": 4},
        ],
        "dates": ["when"],
        "text": [{"column": "words", "buckets": 16}],
        "expressions": {
            "half": "x / 2",
            "when": "cast(cast(day * 17 as int) as date)",
            "words": "coalesce(town, 'no') || ' no ' || cast(code as varchar)",
            "ratio": "day / nullif(code, 0)",
            "both": "town || code",
        },
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// One row alone gives the same as in its batch.
    #[test]
    fn a_row_is_the_same_alone_and_in_its_batch(row in 0usize..300, trees in any::<bool>()) {
        let village = village(300);
        let fitted = fit_features(&village, &every_kind(), trees, &target(&village, "yes"));
        let all = matrix(&fitted, &village);
        let one = matrix(&fitted, &village.slice(row, 1));
        prop_assert_eq!(one.row(0), all.row(row));
    }

    /// The bytes of what was fitted don't depend on how rows came in batches.
    #[test]
    fn batches_leave_no_trace(mut cuts in proptest::collection::vec(0usize..300, 0..6), boosted in any::<bool>()) {
        let village = village(300);
        let target = target(&village, "yes");
        let algorithm = algorithm(if boosted { json!({"gradient_boosting": {}}) } else { json!({"logistic_regression": {}}) });
        let plan = FeaturePlan::for_algorithm(&every_kind(), &algorithm, &target).unwrap();
        let mut fitter = FeatureFitter::new(&village.schema(), plan, &target).unwrap();
        cuts.extend([0, 300]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            let batch = village.slice(pair[0], pair[1] - pair[0]);
            fitter.push(&batch, &target.values(&batch).unwrap()).unwrap();
        }
        let whole = fit_for(&village, &every_kind(), &algorithm, &target);
        let pieces = fitter.finish().unwrap();
        prop_assert_eq!(rmp_serde::to_vec_named(&pieces).unwrap(), rmp_serde::to_vec_named(&whole).unwrap());
    }
}

#[test]
fn outputs_of_every_kind_carry_their_mean_and_deviation() {
    let village = village(400);
    for trees in [true, false] {
        let fitted = fit_features(&village, &every_kind(), trees, &target(&village, "price"));
        let matrix = matrix(&fitted, &village);
        for (column, output) in fitted.outputs().iter().enumerate() {
            let values: Vec<f64> = (0..400).map(|row| matrix.get(row, column)).collect();
            let mean = values.iter().sum::<f64>() / 400.0;
            let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 400.0).sqrt();
            assert!((output.mean - mean).abs() < 1e-8 && (output.std - std).abs() < 1e-8, "{output:?}: {mean} {std}");
        }
    }
}

#[test]
fn models_of_new_features_have_a_format_of_their_own_and_are_read_back() {
    let village = village(300);
    for settings in [json!({"gradient_boosting": {"iterations": 5}}), json!({"logistic_regression": {"alpha": 1}})] {
        let trained = model(&village, "yes", &every_kind(), &algorithm(settings));
        let bytes = trained.to_bytes();
        let read = Model::from_bytes(&bytes).unwrap();
        assert_eq!(read, trained);
        assert_eq!(read.predict(&village).unwrap(), trained.predict(&village).unwrap());
        assert_eq!(format_of(&bytes), FORMAT);
    }
    let plain = features(json!({"numeric": ["x"], "categorical": [{"column": "town", "encoding": "ordinal"}]}));
    let plain = model(&village, "yes", &plain, &algorithm(json!({"decision_tree": {"max_depth": 3}})));
    assert_eq!(format_of(&plain.to_bytes()), FORMAT_FIRST);
}

fn format_of(bytes: &[u8]) -> u32 {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    rmp_serde::from_slice::<Head>(bytes).unwrap().format
}

#[test]
fn a_stored_expression_that_was_changed_is_refused() {
    let village = village(100);
    let fitted =
        fit_features(&village, &features(json!({"expressions": {"a": "x * 2"}})), true, &target(&village, "yes"));
    for sql in ["x * 3 + day", "x = 2", "now()", "x *"] {
        let mut data = FittedData::from(fitted.clone());
        data.expressions.list[0].sql = sql.to_owned();
        assert!(FittedFeatures::try_from(data).is_err(), "{sql}");
    }
    // As long as an expression may be, on a thread with the stack that threads have.
    let long = format!("x{}", "+x".repeat(249));
    let fitted = fit_features(&village, &features(json!({"expressions": {"a": long}})), true, &target(&village, "yes"));
    assert!(close(matrix(&fitted, &village).get(0, 0), 8.0 * 250.0), "{}", matrix(&fitted, &village).get(0, 0));
}

/// A model's view of flights: whole numbers, text, a day, and an expression.
fn signed() -> FittedFeatures {
    let batch = table(vec![
        ("delay", floats([Some(1.0), Some(2.5), None])),
        ("month", Arc::new(Int64Array::from(vec![1, 2, 12]))),
        ("carrier", texts([Some("UA"), Some("AA"), Some("B6")])),
        ("day", Arc::new(Date32Array::from(vec![1, 2, 3]))),
        ("seats", Arc::new(Int64Array::from(vec![100, 200, 300]))),
        ("late", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ]);
    let settings = json!({
        "numeric": ["delay"], "categorical": ["month", "carrier"], "dates": ["day"], "expressions": {"even": "seats % 2"},
    });
    fit_features(&batch, &features(settings), true, &target(&batch, "late"))
}

#[test]
fn the_signature_says_what_is_read_and_what_types_are_taken() {
    let json = serde_json::to_string_pretty(&signed().signature_json()).unwrap();
    expect![[r#"
        {
          "inputs": [
            {
              "name": "delay",
              "type": "float",
              "accepts": [
                "float",
                "boolean",
                "integer"
              ],
              "nulls": true
            },
            {
              "name": "month",
              "type": "integer",
              "accepts": [
                "integer",
                "boolean",
                "float"
              ],
              "nulls": false
            },
            {
              "name": "carrier",
              "type": "string",
              "accepts": [
                "string"
              ],
              "nulls": false
            },
            {
              "name": "day",
              "type": "date",
              "accepts": [
                "date"
              ],
              "nulls": false
            },
            {
              "name": "seats",
              "type": "integer",
              "accepts": [
                "integer",
                "boolean",
                "float"
              ],
              "nulls": false
            }
          ],
          "expressions": [
            {
              "name": "even",
              "sql": "seats % 2",
              "type": "integer"
            }
          ]
        }"#]]
    .assert_eq(&json);
}

#[test]
fn rows_of_json_are_brought_to_the_signature_or_refused_with_a_hint() {
    let fitted = signed();
    let good = json!({"delay": 3, "month": 2.0, "carrier": "AA", "day": "1970-01-03", "seats": 100, "more": true});
    let batch = fitted.read_rows(std::slice::from_ref(&good)).unwrap();
    fitted.check(&batch).unwrap();
    assert_eq!(matrix(&fitted, &batch).get(0, 0), 3.0);
    let mut complaints = String::new();
    for (name, value) in [
        ("delay", json!("3.5")),
        ("month", json!(2.5)),
        ("month", json!("2")),
        ("carrier", json!(7)),
        ("day", json!("3 January")),
        ("day", json!(2)),
        ("seats", json!([1])),
        ("seats", Value::Null),
    ] {
        let mut row = good.clone();
        row[name] = value;
        let error = fitted.read_rows(&[good.clone(), row]).and_then(|batch| fitted.check(&batch)).unwrap_err();
        complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    }
    let error = fitted.read_rows(&[json!({"delay": 1, "mnth": 2})]).unwrap_err();
    complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    expect![[r#"
        column `delay` was of type float in training and is now of type text
          write it without quotes: `3.5`
        column `month` holds whole numbers in training and now 2.5 in row 1
          training knew whole numbers as levels: round it in a transform, or train on floats
        column `month` was of type integer in training and is now of type text
          write it without quotes: `2`
        column `carrier` was of type string in training and is now of type number
          put it in quotes: `"7"`
        `3 January` in row 1 of column `day` is no date
          write it as `2013-01-31`
        column `day` was of type date in training and is now of type number
          write it as `"2013-01-31"`
        column `seats` was of type integer in training and is now of type list
          send a value of type integer
        row 1 has no value in column `seats`, in which training met none missing
          find out why it is missing; the model would take it as what it fills in or as unknown
        there is no column `month` to learn from
          did you mean `mnth`?
    "#]]
    .assert_eq(&complaints);
    // A missing value where training met some may be left out.
    let mut row = good;
    row.as_object_mut().unwrap().remove("delay");
    assert!(fitted.read_rows(&[row]).unwrap().column_by_name("delay").unwrap().is_null(0));
}

#[test]
fn columns_of_other_types_are_coerced_where_nothing_is_lost() {
    let fitted = signed();
    let with = |month: arrow::array::ArrayRef, seats: arrow::array::ArrayRef| {
        table(vec![
            ("delay", Arc::new(Int64Array::from(vec![1]))),
            ("month", month),
            ("carrier", texts([Some("AA")])),
            ("day", Arc::new(Date32Array::from(vec![2]))),
            ("seats", seats),
        ])
    };
    let whole = with(Arc::new(Int64Array::from(vec![2])), Arc::new(Int64Array::from(vec![100])));
    let float = with(floats([Some(2.0)]), floats([Some(100.0)]));
    assert_eq!(matrix(&fitted, &whole).row(0), matrix(&fitted, &float).row(0));
    let mut complaints = String::new();
    for bad in [
        with(floats([Some(2.5)]), floats([Some(100.0)])),
        with(floats([Some(2.0)]), texts([Some("100")])),
        with(floats([None]), floats([Some(100.0)])),
    ] {
        let error = fitted.check(&bad).unwrap_err();
        complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    }
    expect![[r#"
        column `month` holds whole numbers in training and now 2.5 in row 0
          training knew whole numbers as levels: round it in a transform, or train on floats
        column `seats` was of type integer in training and is now of type string
          text isn't read as a number: say `types: { seats: integer }` where it is ingested, or `cast` it in a transform
        row 0 has no value in column `month`, in which training met none missing
          find out why it is missing; the model would take it as what it fills in or as unknown
    "#]]
    .assert_eq(&complaints);
}
