use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use expect_test::{Expect, expect};
use gristmill_protocol::pipeline::steps::Rule;
use serde_json::json;

use super::*;
use crate::blob::SharedBlob;
use crate::partition::to_blob;
use crate::table::TableSchema;

/// Two partitions of six rows.
fn table() -> (TableSchema, Vec<SharedBlob>) {
    let batch = |from: i64| {
        let ids: Int64Array = (from..from + 6).map(|row| Some(row % 9)).collect();
        let delays: Float64Array = (from..from + 6).map(|row| (row % 4 != 1).then_some(row as f64 * 10.0)).collect();
        let names: StringArray =
            ["AA", "B6", "a longer name than sixteen", "AA", "UA", "x"].into_iter().map(Some).collect();
        let days: Date32Array = (from..from + 6).map(|row| Some(15_706 + row as i32)).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(ids) as ArrayRef, true),
            ("delay", Arc::new(delays) as ArrayRef, true),
            ("name", Arc::new(names) as ArrayRef, true),
            ("day", Arc::new(days) as ArrayRef, true),
        ])
        .unwrap()
    };
    let schema = TableSchema::from_arrow(batch(0).schema_ref()).unwrap();
    let blobs = [0, 6].map(|from| to_blob(&schema, &[batch(from)]).unwrap());
    (schema, blobs.to_vec())
}

fn rules(rules: serde_json::Value) -> Vec<Rule> {
    serde_json::from_value(rules).unwrap()
}

fn report(written: serde_json::Value) -> (ExpectReport, TableSchema, Vec<SharedBlob>) {
    let (schema, partitions) = table();
    let rules = Rules::compile(&schema, &rules(written)).unwrap();
    let partials: Vec<PartialReport> = partitions
        .iter()
        .map(|partition| {
            let partial = rules.check(partition.clone()).unwrap();
            rmp_serde::from_slice(&rmp_serde::to_vec_named(&partial).unwrap()).unwrap()
        })
        .collect();
    (rules.conclude(&partials).unwrap(), schema, partitions)
}

fn check(written: serde_json::Value, expected: Expect) {
    let (report, ..) = report(written);
    let mut text = format!("accepted: {}\n", report.accepted);
    for outcome in &report.outcomes {
        let passed = if outcome.passed { "ok  " } else { "FAIL" };
        let rows: Vec<String> = outcome.rows.iter().map(|at| format!("{}/{}", at.partition, at.row)).collect();
        text += &format!("{passed} {} {} [{}]\n", outcome.rule + 1, outcome.message, rows.join(" "));
    }
    expected.assert_eq(&text);
}

#[test]
fn each_check_says_what_was_found_and_what_was_expected() {
    check(
        json!([
            { "rows": { "min": 10, "max": 11 } },
            { "rows": { "min": 12 } },
            { "column": "delay", "nulls": { "max": 0.25 }, "between": [0, 100] },
            { "column": "delay", "nulls": { "max": 0.1 }, "severity": "warn" },
            { "column": "delay", "between": [20, null], "tolerate": 0.5 },
            { "column": "name", "in": ["AA", "B6", "UA"] },
            { "column": "name", "matches": "[A-Z][A-Z0-9]" },
            { "column": "day", "between": ["2013-01-02", "2013-01-10"] },
            { "column": "day", "in": ["2013-01-01"], "tolerate": 0.95 },
            { "column": "id", "unique": true },
            { "column": "name", "unique": true, "tolerate": 0.75 },
            { "sql": "delay > 5 or id = 0" },
            { "column": "name", "between": ["A", "Z"], "severity": "warn" }
        ]),
        expect![[r#"
            accepted: false
            FAIL 1 12 rows; 10 to 11 expected []
            ok   2 12 rows; at least 12 expected []
            ok   3 `delay`: 3 of 12 rows (25 %) without a value; at most 25 % expected []
            FAIL 3 `delay`: 1 of 9 rows (11.11 %) outside 0 to 100 (such as `110`); 0 % tolerated [1/5]
            FAIL 4 `delay`: 3 of 12 rows (25 %) without a value; at most 10 % expected [0/1 0/5 1/3]
            ok   5 `delay`: 1 of 9 rows (11.11 %) outside 20 and more (such as `0`); 50 % tolerated [0/0]
            FAIL 6 `name`: 4 of 12 rows (33.33 %) not among the 3 values allowed (such as `a longer name than sixteen`, `x`); 0 % tolerated [0/2 0/5 1/2 1/5]
            FAIL 7 `name`: 4 of 12 rows (33.33 %) not matching `[A-Z][A-Z0-9]` (such as `a longer name than sixteen`, `x`); 0 % tolerated [0/2 0/5 1/2 1/5]
            FAIL 8 `day`: 3 of 12 rows (25 %) outside `2013-01-02` to `2013-01-10` (such as `2013-01-01`, `2013-01-11`, `2013-01-12`); 0 % tolerated [0/0 1/4 1/5]
            ok   9 `day`: 11 of 12 rows (91.67 %) not among the one value allowed (such as `2013-01-02`, `2013-01-03`, `2013-01-04`); 95 % tolerated [0/1 0/2 0/3 0/4 0/5 1/0 1/1 1/2 1/3 1/4 1/5]
            FAIL 10 `id`: 3 of 12 rows (25 %) repeat the value of an earlier row; 0 % tolerated [1/3 1/4 1/5]
            ok   11 `name`: 7 of 12 rows (58.33 %) repeat the value of an earlier row; 75 % tolerated [0/3 1/0 1/1 1/2 1/3 1/4 1/5]
            FAIL 12 `delay > 5 or id = 0` doesn't hold for 2 of 12 rows (16.67 %); 0 % tolerated [0/1 0/5]
            FAIL 13 `name`: 4 of 12 rows (33.33 %) outside `A` to `Z` (such as `a longer name than sixteen`, `x`); 0 % tolerated [0/2 0/5 1/2 1/5]
        "#]],
    );
}

#[test]
fn warnings_alone_accept_a_table() {
    check(
        json!([{ "rows": { "min": 13 }, "severity": "warn" }]),
        expect![[r#"
        accepted: true
        FAIL 1 12 rows; at least 13 expected []
    "#]],
    );
    check(
        json!([{ "column": "id", "in": [0, 1, 2, 3, 4, 5, 6, 7, 8] }]),
        expect![[r#"
        accepted: true
        ok   1 `id`: 0 of 12 rows (0 %) not among the 9 values allowed; 0 % tolerated []
    "#]],
    );
}

#[test]
fn failing_rows_are_fetched_with_their_place() {
    let (report, schema, partitions) = report(json!([
        { "column": "name", "in": ["AA", "B6", "UA", "x"] },
        { "column": "id", "unique": true }
    ]));
    let batches = failing_rows(&report, &schema, &partitions).unwrap();
    let output = failing_schema(&schema);
    assert_eq!(
        output.names().collect::<Vec<_>>(),
        ["_rule", "_check", "_partition", "_row", "id", "delay", "name", "day"]
    );
    let rows: Vec<Vec<i64>> = batches
        .iter()
        .flat_map(|batch| {
            assert_eq!(batch.schema(), output.to_arrow());
            let column = |index: usize| batch.column(index).as_primitive::<Int64Type>();
            (0..batch.num_rows())
                .map(|row| [0, 2, 3, 4].map(|index| column(index).value(row)).to_vec())
                .collect::<Vec<_>>()
        })
        .collect();
    // Rule, partition, row, id.
    assert_eq!(rows, [[1, 0, 2, 2], [1, 1, 2, 8], [2, 1, 3, 0], [2, 1, 4, 1], [2, 1, 5, 2]]);
}

#[test]
fn wrong_rules_are_all_complained_about_at_once() {
    let (schema, _) = table();
    let errors = Rules::compile(
        &schema,
        &rules(json!([
            { "column": "dely", "nulls": { "max": 0.1 } },
            { "column": "id" },
            {},
            { "between": [1, 2] },
            { "column": "id", "between": ["a", 2] },
            { "column": "id", "between": [null, null] },
            { "column": "delay", "between": [5, 2] },
            { "column": "day", "between": ["2013-02-30", null] },
            { "column": "id", "in": [1.5] },
            { "column": "name", "in": [] },
            { "column": "name", "matches": "a(b" },
            { "column": "id", "matches": "a" },
            { "column": "id", "unique": false },
            { "rows": {} },
            { "rows": { "min": 5, "max": 2 } },
            { "column": "id", "nulls": { "max": 5 } },
            { "rows": { "min": 5 }, "tolerate": 0.1 },
            { "sql": "dely > 5", "tolerate": 2 },
            { "sql": "delay" }
        ])),
    )
    .unwrap_err();
    let text: String = errors
        .iter()
        .map(|error| format!("{error}{}\n", error.hint.as_ref().map(|hint| format!(" -- {hint}")).unwrap_or_default()))
        .collect();
    expect![[r#"
        rule 1: there is no column `dely` -- did you mean `delay`?
        rule 2: it checks nothing -- give it `rows`, `sql`, or `column` with `nulls`, `between`, `in`, `matches` or `unique: true`
        rule 3: it checks nothing -- give it `rows`, `sql`, or `column` with `nulls`, `between`, `in`, `matches` or `unique: true`
        rule 4: `between` needs a `column`
        rule 5: `between`: "a" is not a value of `id`, which is of type integer
        rule 6: `between` has no bound
        rule 7: `between`: 5 to 2 is empty
        rule 8: `between`: "2013-02-30" is not a value of `day`, which is of type date
        rule 9: `in`: 1.5 is not a value of `id`, which is of type integer
        rule 10: `in` allows no value at all
        rule 11: `matches`: `a(b` is not a regular expression: unclosed group
        rule 12: `matches`: `id` is of type integer, not text
        rule 13: `unique: false` checks nothing -- leave it out
        rule 14: `rows` has neither `min` nor `max`
        rule 15: `rows`: `min` 5 is over `max` 2
        rule 16: `nulls` is a share from 0 to 1, not 5
        rule 17: `tolerate` has no meaning for `rows` and `nulls` -- widen its bounds instead
        rule 18: `tolerate` is a share from 0 to 1, not 2
        rule 18: `sql`: there is no column `dely` -- did you mean `delay`?
        rule 19: `sql`: the condition is of type Float64, not true or false
    "#]].assert_eq(&text);
}

#[test]
fn results_of_other_rules_are_refused() {
    let (schema, partitions) = table();
    let one = Rules::compile(&schema, &rules(json!([{ "rows": { "min": 1 } }]))).unwrap();
    let two = Rules::compile(&schema, &rules(json!([{ "rows": { "min": 1 } }, { "sql": "id > 0" }]))).unwrap();
    let partial = one.check(partitions[0].clone()).unwrap();
    assert!(matches!(two.conclude(&[partial]), Err(ExpectError::OtherRules)));
}
