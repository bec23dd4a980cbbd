//! Forests against scikit-learn on the same numbers, and their promises.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::samples;

const RF_CLASSES: f64 = 0.0596;
const ET_CLASSES: f64 = 0.0649;
const RF_NUMBERS: f64 = 0.00823;
const ET_NUMBERS: f64 = 0.0254;

fn grow_all(matrix: &Matrix<f32>, labels: &[f64], settings: &Settings, trees: Range<u32>) -> Grown {
    grow(&Coded::new(matrix, 1).unwrap(), labels, None, settings, trees, 1, || true).unwrap()
}

fn train() -> Matrix<f32> {
    samples::matrix(1, 2_000, 5, Layout::Columns)
}

fn test() -> Matrix<f32> {
    samples::matrix(2, 2_000, 5, Layout::Rows)
}

fn curve(matrix: &Matrix<f32>) -> Vec<f64> {
    samples::labels(matrix, |x, _| 3.0 * x[0] + (4.0 * x[1]).sin())
}

fn squared_error(predicted: &[f64], expected: &[f64]) -> f64 {
    predicted.iter().zip(expected).map(|(p, y)| (p - y).powi(2)).sum::<f64>() / expected.len() as f64
}

fn forest() -> Settings {
    Settings { depth_max: 10, ..Settings::default() }
}

fn extra_trees() -> Settings {
    Settings { bootstrap: false, random_cuts: true, ..forest() }
}

/// The Brier scores of `RandomForestClassifier(100, max_depth=10, max_features=2)` and `ExtraTreesClassifier`
/// with the same, for `random_state` 0 and 1.
#[test]
fn classes_are_learned_as_well_as_by_scikit_learn() {
    let (train, test) = (train(), test());
    let (labels, expected) = (samples::two_classes(&train), samples::two_classes(&test));
    for (settings, theirs) in [(forest(), RF_CLASSES), (extra_trees(), ET_CLASSES)] {
        let settings = Settings { columns_tried: Some(2), ..settings };
        let grown = grow_all(&train, &labels, &settings, 0..100);
        let error = squared_error(&grown.forest.predict(&test), &expected);
        assert!((error / theirs - 1.0).abs() < 0.05, "{error} and theirs is {theirs}");
    }
}

/// The mean squared errors of `RandomForestRegressor(100, max_depth=10)` and of `ExtraTreesRegressor`.
#[test]
fn numbers_are_learned_as_well_as_by_scikit_learn() {
    let (train, test) = (train(), test());
    for (settings, theirs) in [(forest(), RF_NUMBERS), (extra_trees(), ET_NUMBERS)] {
        let grown = grow_all(&train, &curve(&train), &settings, 0..100);
        let error = squared_error(&grown.forest.predict(&test), &curve(&test));
        assert!((error / theirs - 1.0).abs() < 0.10, "{error} and theirs is {theirs}");
    }
}

#[test]
fn pieces_and_threads_give_the_same_trees() {
    let train = train();
    let labels = samples::two_classes(&train);
    for settings in [forest(), extra_trees()] {
        let settings = Settings { columns_tried: Some(2), ..settings };
        let whole = grow_all(&train, &labels, &settings, 0..10);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut piece = pool.install(|| grow_all(&train, &labels, &settings, 0..4)).forest;
        piece.append(grow_all(&train, &labels, &settings, 4..10).forest);
        assert_eq!(piece, whole.forest);
        assert_ne!(grow_all(&train, &labels, &settings, 10..20).forest, whole.forest);
    }
}

#[test]
fn a_full_tree_repeats_what_it_learned() {
    let train = train();
    let mut rows = Matrix::zeros(200, 5, Layout::Rows);
    let mut few = Matrix::zeros(200, 5, Layout::Columns);
    for row in 0..200 {
        for column in 0..5 {
            rows.set(row, column, train.get(row, column));
            few.set(row, column, train.get(row, column));
        }
    }
    let labels = curve(&few);
    for settings in [forest(), extra_trees()] {
        let settings = Settings { bootstrap: false, depth_max: 1_000, ..settings };
        let predicted = grow_all(&few, &labels, &settings, 0..1).forest.predict(&rows);
        assert!(squared_error(&predicted, &labels) < 1e-20);
    }
    // The same numbers far from zero keep their differences.
    let far: Vec<f64> = labels.iter().map(|label| label + 1e9).collect();
    let settings = Settings { bootstrap: false, depth_max: 1_000, ..forest() };
    assert!(squared_error(&grow_all(&few, &far, &settings, 0..1).forest.predict(&rows), &far) < 1e-10);
}

#[test]
fn limits_of_trees_hold() {
    let train = train();
    let labels = curve(&train);
    let nodes = |settings: Settings| grow_all(&train, &labels, &settings, 0..1).forest.nodes();
    let all = Settings { bootstrap: false, ..forest() };
    assert_eq!(nodes(Settings { depth_max: 3, ..all.clone() }), 15);
    assert_eq!(nodes(Settings { min_samples_leaf: 1_001, ..all.clone() }), 1);
    assert_eq!(nodes(Settings { min_samples_split: 2_000, ..all.clone() }), 3);
    let even = vec![4.5; 2_000];
    let grown = grow_all(&train, &even, &all, 0..1);
    assert_eq!((grown.forest.nodes(), grown.forest.predict(&test())[0]), (1, 4.5));
    assert_eq!(grown.importances, [0.0; 5]);
}

#[test]
fn weights_are_rows_that_come_several_times() {
    let train = samples::matrix(1, 300, 3, Layout::Columns);
    let labels = samples::two_classes(&train);
    let weights: Vec<f64> = (0..300).map(|row| f64::from(row % 3)).collect();
    let times: Vec<usize> = (0..300).flat_map(|row| std::iter::repeat_n(row, row % 3)).collect();
    let mut repeated = Matrix::zeros(times.len(), 3, Layout::Columns);
    for (at, &row) in times.iter().enumerate() {
        (0..3).for_each(|column| repeated.set(at, column, train.get(row, column)));
    }
    let repeated_labels: Vec<f64> = times.iter().map(|&row| labels[row]).collect();
    // With a bin for each value, both have the same cuts but for those between rows of weight 0.
    let settings = Settings { bootstrap: false, depth_max: 1, ..forest() };
    let weighted =
        grow(&Coded::new(&train, 1).unwrap(), &labels, Some(&weights), &settings, 0..1, 1, || true).unwrap().forest;
    let repeated = grow_all(&repeated, &repeated_labels, &settings, 0..1).forest;
    let rows = samples::matrix(1, 300, 3, Layout::Rows);
    let (weighted, repeated) = (weighted.predict(&rows), repeated.predict(&rows));
    let same = (0..300).filter(|row| row % 3 > 0 && (weighted[*row] - repeated[*row]).abs() < 1e-6).count();
    assert!(same >= 195, "{same} of 200");
}

#[test]
fn missing_values_are_learned_as_the_largest() {
    let mut train = Matrix::zeros(600, 2, Layout::Columns);
    let mut rows = Matrix::zeros(600, 2, Layout::Rows);
    for row in 0..600 {
        let value = if row % 3 == 0 { f32::NAN } else { (row % 7) as f32 };
        train.set(row, 1, value);
        rows.set(row, 1, value);
    }
    let labels: Vec<f64> = (0..600).map(|row| f64::from(u8::from(row % 3 == 0))).collect();
    for settings in [forest(), extra_trees()] {
        let grown = grow_all(&train, &labels, &settings, 0..10);
        assert_eq!(grown.forest.predict(&rows), labels);
        assert_eq!(grown.importances, [0.0, 10.0]);
    }
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let train = train();
    let coded = Coded::new(&train, 1).unwrap();
    let mut labels = vec![0.0; 2_000];
    let refused = |labels: &[f64], weights: Option<&[f64]>, settings: &Settings| {
        grow(&coded, labels, weights, settings, 0..1, 1, || true).unwrap_err().to_string()
    };
    assert_eq!(refused(&labels[1..], None, &forest()), "2000 rows have 1999 labels");
    assert_eq!(refused(&labels, Some(&labels), &forest()), "all rows have the weight 0");
    labels[5] = f64::NAN;
    assert_eq!(refused(&labels, None, &forest()), "the label of row 5 is NaN, and must be a number within ±1e100");
    let settings = Settings { depth_max: 0, ..forest() };
    assert_eq!(refused(&labels, None, &settings), "`depth_max` of a forest is 0, and must be 1 or more");
    assert_eq!(
        Coded::new(&test(), 1).unwrap_err(),
        ForestError::Shape { rows: 2_000, found: 5, what: "columns, or aren't laid out in columns" }
    );
}

#[test]
fn it_stops_between_trees() {
    let train = train();
    let asked = AtomicU32::new(0);
    let go_on = || asked.fetch_add(1, Ordering::Relaxed) < 2;
    let coded = Coded::new(&train, 1).unwrap();
    let result = grow(&coded, &samples::two_classes(&train), None, &forest(), 0..5, 1, go_on);
    assert_eq!(result, Err(ForestError::Stopped));
}
