use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::hash;

fn profiler(batches: &[RecordBatch]) -> Profiler {
    let schema = TableSchema::from_arrow(batches[0].schema_ref()).unwrap();
    let mut profiler = Profiler::new(&schema);
    batches.iter().for_each(|batch| profiler.update(batch).unwrap());
    profiler
}

fn one(name: &str, array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([(name, array)]).unwrap()
}

fn column(array: ArrayRef) -> ColumnProfile {
    profiler(&[one("x", array)]).finish().columns.remove(0)
}

#[test]
fn a_column_of_few_values_is_described_exactly() {
    let values = (1..=101).map(|value| (value != 50).then_some(value)).collect::<Int64Array>();
    let profile = column(Arc::new(values));
    assert_eq!((profile.nulls, profile.distinct, profile.approximate), (1, 100, false));
    assert_eq!((profile.min, profile.max), (Some(Scalar::Integer(1)), Some(Scalar::Integer(101))));
    // By numpy: mean 51.01, std (n - 1) 29.4476, percentiles 1.99, 5.95, 25.75, 51.5, 76.25, 96.05, 100.01.
    assert!((profile.mean.unwrap() - 51.01).abs() < 1e-12);
    assert!((profile.std.unwrap() - 29.447_606_272_0).abs() < 1e-6, "{:?}", profile.std);
    let quantiles: Vec<f64> =
        profile.quantiles.iter().map(|quantile| (quantile.value * 100.0).round() / 100.0).collect();
    assert_eq!(quantiles, [1.99, 5.95, 25.75, 51.5, 76.25, 96.05, 100.01]);
    let histogram = profile.histogram.unwrap();
    assert_eq!(histogram.counts.iter().sum::<u64>(), 100);
    assert!(profile.top.is_empty(), "every value comes once");
}

#[test]
fn booleans_days_instants_and_texts_are_shown_as_people_write_them() {
    let booleans = column(Arc::new(BooleanArray::from(vec![Some(true), Some(true), None, Some(false)])));
    assert_eq!(booleans.mean, Some(2.0 / 3.0));
    assert_eq!(booleans.top[0], TopValue { value: Scalar::Boolean(true), count: 2 });
    let days = column(Arc::new(Date32Array::from(vec![15_706, 15_707, 15_706])));
    assert_eq!(days.min, Some(Scalar::Text("2013-01-01".into())));
    assert_eq!((days.mean, days.quantiles[3].value), (None, 15_706.0));
    let instants = TimestampMicrosecondArray::from(vec![1_357_034_400_000_000]).with_timezone("UTC");
    assert_eq!(column(Arc::new(instants)).max, Some(Scalar::Text("2013-01-01T10:00:00Z".into())));
    let texts = column(Arc::new(StringArray::from(vec!["b", "a", "c", "b", "a"])));
    let top: Vec<_> = texts.top.iter().map(|top| (top.value.clone(), top.count)).collect();
    let text = |text: &str| Scalar::Text(text.into());
    assert_eq!(top, [(text("a"), 2), (text("b"), 2), (text("c"), 1)]);
    assert_eq!((texts.min, texts.max, texts.distinct), (Some(text("a")), Some(text("c")), 3));
}

#[test]
fn numbers_that_are_none_are_counted_apart() {
    let values = vec![1.0, f64::NAN, f64::INFINITY, -0.0, 0.0, 3.0];
    let profile = column(Arc::new(Float64Array::from(values)));
    assert_eq!((profile.not_finite, profile.distinct, profile.mean), (2, 3, Some(1.0)));
    assert_eq!(profile.max, Some(Scalar::Float(3.0)));
}

#[test]
fn nothing_but_nulls_and_no_rows_at_all_have_a_profile() {
    let nulls = column(Arc::new(Float64Array::from(vec![None, None])));
    assert_eq!((nulls.nulls, nulls.distinct, nulls.mean, nulls.histogram), (2, 0, None, None));
    assert_eq!(column(Arc::new(StringArray::from(Vec::<&str>::new()))).distinct, 0);
}

#[test]
fn far_values_get_bins_of_their_own() {
    let mut values: Vec<i64> = (0..10_000).map(|row| row % 40).collect();
    values.push(100_000);
    let histogram = column(Arc::new(Int64Array::from(values))).histogram.unwrap();
    assert_eq!(histogram.edges.len(), 22);
    assert_eq!(histogram.counts.last(), Some(&1));
    assert_eq!(histogram.counts[0], 500);
}

#[test]
fn many_different_values_are_estimated_and_say_so() {
    let rows = 200_000_u64;
    let numbers: Float64Array = (0..rows).map(|row| Some((hash::mix(row) % rows) as f64)).collect();
    let texts: StringArray = (0..rows).map(|row| Some(format!("key {}", row % 50_000))).collect();
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)]).unwrap();
    let profile = profiler(&[batch]).finish();
    let [numbers, texts] = &profile.columns[..] else { panic!("two columns") };
    assert!(numbers.approximate && texts.approximate);
    for quantile in &numbers.quantiles {
        assert!((quantile.value / rows as f64 - quantile.share).abs() < 0.005, "{quantile:?}");
    }
    assert!((texts.distinct as f64 - 50_000.0).abs() < 2_500.0, "{}", texts.distinct);
    assert_eq!(numbers.histogram.as_ref().unwrap().counts.iter().sum::<u64>(), rows);
}

fn same(merged: &TableProfile, whole: &TableProfile) {
    assert_eq!(merged.rows, whole.rows);
    for (merged, whole) in merged.columns.iter().zip(&whole.columns) {
        let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * (1.0 + a.abs()),
            (a, b) => a == b,
        };
        assert!(close(merged.mean, whole.mean) && close(merged.std, whole.std));
        let rest = |profile: &ColumnProfile| ColumnProfile { mean: None, std: None, ..profile.clone() };
        assert_eq!(rest(merged), rest(whole));
    }
}

proptest! {
    #[test]
    fn parts_merged_are_the_whole(rows in prop::collection::vec(prop::option::of(-50_i64..50), 1..400), cut in 0..400_usize) {
        let numbers: Int64Array = rows.iter().copied().collect();
        let floats: Float64Array = rows.iter().map(|row| row.map(|row| row as f64 / 4.0)).collect();
        let texts: StringArray = rows.iter().map(|row| row.map(|row| format!("v{row}"))).collect();
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(numbers) as ArrayRef),
            ("f", Arc::new(floats) as ArrayRef),
            ("t", Arc::new(texts) as ArrayRef),
        ]).unwrap();
        let cut = cut.min(rows.len());
        let whole = profiler(std::slice::from_ref(&batch)).finish();
        let mut merged = profiler(&[batch.slice(0, cut)]);
        let rest = profiler(&[batch.slice(cut, rows.len() - cut)]);
        let rest: Profiler = rmp_serde::from_slice(&rmp_serde::to_vec_named(&rest).unwrap()).unwrap();
        merged.merge(&rest).unwrap();
        same(&merged.finish(), &whole);
        // Against counting by hand.
        let mut counts = BTreeMap::new();
        rows.iter().flatten().for_each(|row| *counts.entry(*row).or_insert(0_u64) += 1);
        prop_assert_eq!(whole.columns[0].distinct, counts.len() as u64);
        let most = counts.values().copied().max().unwrap_or(0);
        if let Some(top) = whole.columns[0].top.first() {
            prop_assert_eq!(top.count, most);
        }
    }
}

#[test]
fn merging_keeps_estimates_good_and_is_repeatable() {
    let parts: Vec<Profiler> = (0..10_u64)
        .map(|part| {
            let values: Int64Array =
                (0..30_000).map(|row| Some((hash::mix(part * 30_000 + row) % 100_000) as i64)).collect();
            profiler(&[one("x", Arc::new(values))])
        })
        .collect();
    let merged = || {
        let mut merged = parts[0].clone();
        parts[1..].iter().for_each(|part| merged.merge(part).unwrap());
        merged.finish()
    };
    let profile = merged();
    assert_eq!(profile, merged());
    assert_eq!(profile.rows, 300_000);
    for quantile in &profile.columns[0].quantiles {
        assert!((quantile.value / 100_000.0 - quantile.share).abs() < 0.006, "{quantile:?}");
    }
    // 1 - e^-3 of the hundred thousand are expected to come.
    assert!((profile.columns[0].distinct as f64 - 95_021.0).abs() < 4_000.0, "{}", profile.columns[0].distinct);
}
