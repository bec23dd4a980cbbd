use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::partition::to_blob;

/// Rows parted over partitions of these lengths: a number, a class (none for every seventh row), a time.
fn table(lengths: &[usize]) -> (TableSchema, Vec<SharedBlob>) {
    let mut first = 0;
    let mut schema = TableSchema::default();
    let blobs = lengths.iter().map(|length| {
        let rows = first..first + *length as i64;
        first = rows.end;
        let numbers: Int64Array = rows.clone().map(Some).collect();
        let classes: StringArray =
            rows.clone().map(|row| (row % 7 != 0).then_some(if row % 3 == 0 { "yes" } else { "no" })).collect();
        let times: Int64Array = rows.map(|row| (row % 10 != 9).then_some(row * 37 % 101)).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(numbers) as ArrayRef, true),
            ("class", Arc::new(classes) as ArrayRef, true),
            ("time", Arc::new(times) as ArrayRef, true),
            ("none", Arc::new(Int64Array::new_null(*length)) as ArrayRef, true),
        ])
        .unwrap();
        schema = TableSchema::from_arrow(batch.schema_ref()).unwrap();
        to_blob(&schema, &[batch]).unwrap()
    });
    let blobs = blobs.collect();
    (schema, blobs)
}

fn split(settings: serde_json::Value) -> Split {
    let mut settings = settings;
    settings["input"] = json!("t");
    serde_json::from_value(settings).unwrap()
}

fn parts(lengths: &[usize], settings: serde_json::Value) -> Result<Vec<u8>, String> {
    let (schema, blobs) = table(lengths);
    let assignment = assign(&schema, &split(settings), &blobs).map_err(|error| error.to_string())?;
    assert_eq!(assignment.partitions.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
    Ok(assignment.partitions.concat())
}

fn count(parts: &[u8], part: Part) -> usize {
    parts.iter().filter(|row| **row == part as u8).count()
}

#[test]
fn a_seed_decides_and_partitions_do_not() {
    let settings = json!({ "test": 0.2, "validation": 0.1, "seed": 7 });
    let whole = parts(&[1_000], settings.clone()).unwrap();
    assert_eq!((count(&whole, Part::Test), count(&whole, Part::Validation)), (200, 100));
    assert_eq!(whole, parts(&[1, 499, 0, 500], settings).unwrap());
    let other = parts(&[1_000], json!({ "test": 0.2, "validation": 0.1, "seed": 8 })).unwrap();
    let same = whole.iter().zip(&other).filter(|(one, other)| one == other).count();
    assert!((400..700).contains(&same), "{same}");
    // Halves of the table get about their share.
    assert!((70..130).contains(&count(&whole[..500], Part::Test)));
}

#[test]
fn times_are_parted_in_their_order() {
    let rows: Vec<u8> = parts(&[60, 40], json!({ "test": 0.2, "validation": 0.2, "time": "time" })).unwrap();
    let time = |row: usize| if row % 10 == 9 { -1 } else { row as i64 * 37 % 101 };
    let of = |part: Part| (0..100).filter(|row| rows[*row] == part as u8).map(time).collect::<Vec<_>>();
    let (train, validation, test) = (of(Part::Train), of(Part::Validation), of(Part::Test));
    assert_eq!((train.len(), validation.len(), test.len()), (60, 20, 20));
    assert!(train.iter().max() <= validation.iter().min() && validation.iter().max() <= test.iter().min());
    assert_eq!(train.iter().filter(|time| **time == -1).count(), 10);
}

#[test]
fn what_can_not_be_parted_is_explained() {
    let error = |lengths: &[usize], settings| parts(lengths, settings).unwrap_err();
    assert_eq!(error(&[2], json!({ "test": 0.2 })), "the table has 2 rows, too few for part `test`");
    assert_eq!(error(&[], json!({ "test": 0.2 })), "the table has 0 rows, too few for part `test`");
    assert_eq!(
        error(&[9], json!({ "test": 0.2, "validation": 0.01 })),
        "the table has 9 rows, too few for part `validation`"
    );
    assert_eq!(error(&[1], json!({ "test": 0.9 })), "the table has 1 rows, too few for part `train`");
    assert_eq!(error(&[9], json!({ "test": 1.2 })), "`test` is a share over 0 and under 1, not 1.2");
    assert_eq!(
        error(&[9], json!({ "test": 0.6, "validation": 0.4 })),
        "`test` and `validation` together leave nothing for `train`"
    );
    assert_eq!(
        error(&[9], json!({ "test": 0.6, "stratify": "clas" })),
        "`stratify` names column `clas`, which the table doesn't have"
    );
    assert_eq!(
        error(&[9], json!({ "test": 0.6, "time": "class" })),
        "`time` names column `class`, which is of type string and has no order in time"
    );
    assert_eq!(error(&[9], json!({ "test": 0.6, "time": "none" })), "column `none` of `time` has no value in any row");
    assert_eq!(
        error(&[9], json!({ "test": 0.6, "stratify": "none" })),
        "column `none` of `stratify` has no value in any row"
    );
    assert_eq!(
        error(&[9], json!({ "test": 0.6, "stratify": "n", "time": "n" })),
        "`stratify` and `time` exclude each other"
    );
    assert_eq!(
        error(&[20_000], json!({ "test": 0.6, "stratify": "n" })),
        "column `n` of `stratify` has more than 10000 different values"
    );
}

#[test]
fn a_partition_is_parted_row_by_row() {
    let (schema, blobs) = table(&[40_000, 100]);
    let assignment = assign(&schema, &split(json!({ "test": 0.3 })), &blobs).unwrap();
    let mut rows = [0; 3];
    let mut last = [-1; 3];
    for (blob, parts) in blobs.iter().zip(&assignment.partitions) {
        apply::<SplitError>(blob.clone(), parts, |part, batch| {
            rows[part as usize] += batch.num_rows() as u64;
            for number in batch.column(0).as_primitive::<Int64Type>().values() {
                assert!(*number > last[part as usize], "rows keep their order");
                last[part as usize] = *number;
            }
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(rows, assignment.rows);
    let other = apply::<SplitError>(blobs[1].clone(), &assignment.partitions[0], |_, _| Ok(())).unwrap_err();
    assert_eq!(other.to_string(), "the assignment is of 40000 rows and the partition has 100");
}

proptest! {
    #[test]
    fn classes_keep_their_shares(rows in 30_usize..600, test in 0.1..0.5_f64, validation in 0.1..0.4_f64, seed in any::<u64>()) {
        let settings = json!({ "test": test, "validation": validation, "stratify": "class", "seed": seed });
        let parts = parts(&[rows], settings).unwrap();
        prop_assert_eq!(count(&parts, Part::Test), (rows as f64 * test).round() as usize);
        prop_assert_eq!(count(&parts, Part::Validation), (rows as f64 * validation).round() as usize);
        for class in 0..3 {
            let of = |row: &usize| match (row % 7, row % 3) { (0, _) => 0, (_, 0) => 1, _ => 2 };
            let of_class: Vec<u8> = (0..rows).filter(|row| of(row) == class).map(|row| parts[row]).collect();
            for (part, share) in [(Part::Test, test), (Part::Validation, validation)] {
                let exact = of_class.len() as f64 * share;
                prop_assert!((count(&of_class, part) as f64 - exact).abs() <= 2.0, "{} of {}", count(&of_class, part), exact);
            }
        }
    }

    #[test]
    fn seats_go_by_size_and_are_all_given(counts in prop::collection::vec(0_usize..50, 1..8), share in 0.0..1.0_f64) {
        let rows: usize = counts.iter().sum();
        let total = (rows as f64 * share) as usize;
        let seats = apportion(&counts, total);
        prop_assert_eq!(seats.iter().sum::<usize>(), total);
        prop_assert!(seats.iter().zip(&counts).all(|(seats, count)| seats <= count));
    }
}
