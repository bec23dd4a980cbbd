use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::tree::decision_tree_regressor::{DecisionTreeRegressor, DecisionTreeRegressorParameters};

use super::*;
use crate::samples::{MEMORY, algorithm, fit_features, part, table, target, training_set, village, village_features};

/// Rows of few distinct values, so that columns have ties, and a target for each.
fn cells() -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<f64>)> {
    (1usize..5, 8usize..60).prop_flat_map(|(columns, rows)| {
        let value = prop_oneof![(-3i8..3).prop_map(f32::from), -1.0f32..1.0];
        let row = proptest::collection::vec(value, columns);
        (proptest::collection::vec(row, rows), proptest::collection::vec(-5.0..5.0f64, rows))
    })
}

fn rows_of(cells: &[Vec<f32>]) -> Matrix<f32> {
    let mut rows = Matrix::zeros(cells.len(), cells[0].len(), Layout::Rows);
    for (row, cells) in cells.iter().enumerate() {
        cells.iter().enumerate().for_each(|(column, &cell)| rows.set(row, column, cell));
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_forests_predict_what_smartcore_predicts((cells, y) in cells(), seed in any::<u64>(), depth in 1u16..8) {
        let x = DenseMatrix::from_2d_vec(&cells).unwrap();
        let parameters = RandomForestRegressorParameters::default().with_n_trees(7).with_seed(seed).with_max_depth(depth);
        let model = RandomForestRegressor::fit(&x, &y, parameters).unwrap();
        let (forest, _) = mirror::compile_forest(&model, cells[0].len()).unwrap();
        let expected: Vec<f64> = model.predict(&x).unwrap();
        prop_assert_eq!(forest.predict(&rows_of(&cells)), expected);
    }

    #[test]
    fn compiled_trees_predict_what_smartcore_predicts((cells, y) in cells()) {
        let x = DenseMatrix::from_2d_vec(&cells).unwrap();
        let model = DecisionTreeRegressor::fit(&x, &y, DecisionTreeRegressorParameters::default()).unwrap();
        let (forest, importances) = mirror::compile_tree(&model, cells[0].len()).unwrap();
        let expected: Vec<f64> = model.predict(&x).unwrap();
        prop_assert_eq!(forest.predict(&rows_of(&cells)), expected);
        let smartcore = model.compute_feature_importances(true).unwrap();
        prop_assert!(importances.iter().zip(&smartcore).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn labels_of_a_byte_grow_the_trees_of_labels_of_eight((cells, y) in cells(), seed in any::<u64>()) {
        let x = DenseMatrix::from_2d_vec(&cells).unwrap();
        let bytes: Vec<u8> = y.iter().map(|&y| u8::from(y > 0.0)).collect();
        let floats: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte)).collect();
        let parameters = RandomForestRegressorParameters::default().with_n_trees(3).with_seed(seed);
        let of_bytes = RandomForestRegressor::fit(&x, &bytes, parameters.clone()).unwrap();
        let of_floats = RandomForestRegressor::fit(&x, &floats, parameters).unwrap();
        let columns = cells[0].len();
        prop_assert_eq!(mirror::compile_forest(&of_bytes, columns), mirror::compile_forest(&of_floats, columns));
    }
}

#[test]
fn a_forest_is_the_same_however_its_units_are_spread() {
    let village = village(400);
    for (column, forest) in [
        ("yes", json!({"random_forest": {"trees": 45, "max_depth": 6}})),
        ("grade", json!({"random_forest": {"trees": 25, "max_depth": 4}})),
        ("price", json!({"random_forest": {"trees": 31, "max_depth": 5, "min_samples_leaf": 3}})),
    ] {
        let (forest, target) = (algorithm(forest), target(&village, column));
        let fitted = fit_features(&village, &village_features(json!({})), true, &target);
        let set = training_set(&village, &fitted, &target, &forest).unwrap();
        let all = units(&forest, &target);
        let whole = join(vec![part(&set, &forest, 0..all, 1)], &forest, &target).unwrap();
        let apart = [part(&set, &forest, 2..all, 3), part(&set, &forest, 0..2, 2)];
        let apart = apart.iter().map(|part| Part::from_bytes(&part.to_bytes()).unwrap()).collect();
        assert_eq!(join(apart, &forest, &target).unwrap(), whole, "{column}");
        let Estimator::Trees(forests) = &whole.estimator else { panic!("a forest has trees") };
        let Algorithm::RandomForest(settings) = &forest else { unreachable!() };
        assert_eq!(forests.len(), target.outputs());
        assert!(forests.iter().all(|forest| forest.trees() == settings.trees as usize));
        let sum: f64 = whole.importances.unwrap().iter().sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
}

#[test]
fn parts_that_do_not_make_a_whole_are_refused() {
    let village = village(100);
    let forest = algorithm(json!({"random_forest": {"trees": 30, "max_depth": 2}}));
    let target = target(&village, "yes");
    let fitted = fit_features(&village, &village_features(json!({})), true, &target);
    let set = training_set(&village, &fitted, &target, &forest).unwrap();
    let refused = |ranges: &[Range<u32>]| {
        let parts = ranges.iter().map(|range| part(&set, &forest, range.clone(), 1)).collect();
        join(parts, &forest, &target).unwrap_err().to_string()
    };
    assert_eq!(refused(&[0..1, 2..3]), "failed to join the trained parts: unit 1 comes in no part");
    assert_eq!(refused(&[0..2, 1..3]), "failed to join the trained parts: unit 2 comes in two parts");
    assert_eq!(refused(&[0..1, 1..2]), "failed to join the trained parts: 2 of 3 units are there");
    assert!(Part::from_bytes(b"nonsense").is_err());
}

/// The rows of this snippet, which also made the expected coefficients (scikit-learn 1.9):
///
/// ```python
/// n = 24; i = np.arange(n)
/// X = np.column_stack([((i*7)%11)/3.0, ((i*5)%13)/4.0, ((i*3)%7)-2.0])
/// t = 1.5*X[:,0] - 2*X[:,1] + 0.3*X[:,2] + ((i*11)%5)/2.0 + 4
/// c = (t > np.median(t)).astype(int); c[::5] = 1 - c[::5]
/// k = (i*7 + (t>3)) % 3
/// LinearRegression().fit(X, t); Ridge(alpha=2).fit(X, t)
/// Lasso(alpha=0.1, tol=1e-12, max_iter=100000).fit(X, t)
/// ElasticNet(alpha=0.2, l1_ratio=0.3, tol=1e-12, max_iter=100000).fit(X, t)
/// LogisticRegression(C=2, tol=1e-12, max_iter=10000).fit(X, c)       # and C=inf
/// LogisticRegression(C=1, tol=1e-12, max_iter=10000).fit(X, k)
/// ```
fn small() -> RecordBatch {
    let i = 0..24usize;
    let x = |i: usize| [((i * 7) % 11) as f64 / 3.0, ((i * 5) % 13) as f64 / 4.0, ((i * 3) % 7) as f64 - 2.0];
    let t: Vec<f64> =
        i.clone().map(|i| 1.5 * x(i)[0] - 2.0 * x(i)[1] + 0.3 * x(i)[2] + ((i * 11) % 5) as f64 / 2.0 + 4.0).collect();
    let mut sorted = t.clone();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[11] + sorted[12]) / 2.0;
    let column = |at: usize| Arc::new(Float64Array::from_iter_values((0..24).map(|i| x(i)[at]))) as ArrayRef;
    table(vec![
        ("a", column(0)),
        ("b", column(1)),
        ("c", column(2)),
        ("yes", Arc::new(BooleanArray::from_iter(i.clone().map(|i| Some((t[i] > median) != (i % 5 == 0)))))),
        ("kind", crate::samples::texts(i.map(|i| Some(["p", "q", "r"][(i * 7 + usize::from(t[i] > 3.0)) % 3])))),
        ("t", Arc::new(Float64Array::from(t))),
    ])
}

fn linear(settings: Value, column: &str) -> Linear {
    let (small, settings) = (small(), algorithm(settings));
    let target = target(&small, column);
    let features = serde_json::from_value(json!({"numeric": ["a", "b", "c"], "scale": "none"})).unwrap();
    let fitted = fit_features(&small, &features, false, &target);
    let set = training_set(&small, &fitted, &target, &settings).unwrap();
    match join(vec![part(&set, &settings, 0..1, 1)], &settings, &target).unwrap().estimator {
        Estimator::Linear(linear) => linear,
        _ => panic!("a linear model has coefficients"),
    }
}

#[test]
fn linear_models_have_the_coefficients_of_scikit_learn() {
    for (settings, column, tolerance, coefficients, intercept) in [
        (
            json!({"linear_regression": {}}),
            "t",
            1e-7,
            [1.6758632170131613, -2.1667731542031645, 0.3703455862784228],
            4.8541069710695535,
        ),
        (
            json!({"ridge": {"alpha": 2}}),
            "t",
            1e-9,
            [1.5200397133798433, -1.941335811563178, 0.3474230070259109],
            4.789738424113727,
        ),
        (
            json!({"lasso": {"alpha": 0.1}}),
            "t",
            1e-4,
            [1.5586002383612971, -2.0148890732357687, 0.3360423871765001],
            4.849554263186251,
        ),
        (
            json!({"elastic_net": {"alpha": 0.2, "l1_ratio": 0.3}}),
            "t",
            1e-4,
            [1.3700063552750226, -1.736469288266464, 0.3151509055987257],
            4.756380921231834,
        ),
        (
            json!({"logistic_regression": {"alpha": 0.5}}),
            "yes",
            1e-6,
            [1.074309920008391, -0.8226666607640986, 0.02484060474211526],
            0.6440495592142614,
        ),
        (
            json!({"logistic_regression": {}}),
            "yes",
            1e-6,
            [1.3825900171383687, -1.0736782830181977, 0.029576019939434463],
            0.6772119622987819,
        ),
    ] {
        let linear = linear(settings.clone(), column);
        let found = linear.coefficients().next().unwrap();
        let near = |a: &f64, b: &f64| (a - b).abs() < tolerance;
        assert!(found.iter().zip(&coefficients).all(|(a, b)| near(a, b)), "{settings}: {found:?}");
        assert!(near(&linear.intercepts()[0], &intercept), "{settings}: {:?}", linear.intercepts());
    }
}

#[test]
fn more_classes_have_the_coefficients_of_scikit_learn() {
    let linear = linear(json!({"logistic_regression": {"alpha": 1}}), "kind");
    let expected = [
        [0.24074877782201848, 0.2225241278258597, 0.08981044153662775],
        [0.1601248540114824, -0.2042813381716576, -0.26375376229569797],
        [-0.4008736318335001, -0.018242789654201928, 0.1739433207590709],
    ];
    for (found, expected) in linear.coefficients().zip(expected) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }
}

#[test]
fn columns_that_say_the_same_share_their_weight() {
    let small = small();
    let twice = |settings: &str| {
        let settings = algorithm(json!({settings: {}}));
        let column = if settings == algorithm(json!({"linear_regression": {}})) { "t" } else { "yes" };
        let double = RecordBatch::try_from_iter([
            ("a", Arc::clone(small.column_by_name("a").unwrap())),
            ("again", Arc::clone(small.column_by_name("a").unwrap())),
            ("flat", Arc::new(Int64Array::from(vec![3; 24])) as ArrayRef),
            (column, Arc::clone(small.column_by_name(column).unwrap())),
        ]);
        let (double, features) = (double.unwrap(), json!({"numeric": ["a", "again", "flat"], "scale": "none"}));
        let target = target(&double, column);
        let fitted = fit_features(&double, &serde_json::from_value(features).unwrap(), false, &target);
        let set = training_set(&double, &fitted, &target, &settings).unwrap();
        match join(vec![part(&set, &settings, 0..1, 1)], &settings, &target).unwrap().estimator {
            Estimator::Linear(linear) => linear.coefficients().next().unwrap().to_vec(),
            _ => panic!("a linear model has coefficients"),
        }
    };
    for settings in ["linear_regression", "logistic_regression"] {
        let found = twice(settings);
        assert!((found[0] - found[1]).abs() < 1e-6 && found[0] != 0.0 && found[2] == 0.0, "{settings}: {found:?}");
    }
}

#[test]
fn each_mistake_has_its_message_and_hint() {
    let village = village(60);
    let mut complaints = String::new();
    for (settings, column) in [
        (json!({"ridge": {}}), "yes"),
        (json!({"logistic_regression": {}}), "price"),
        (json!({"ridge": {"alpha": -1}}), "price"),
        (json!({"elastic_net": {"l1_ratio": 1.5}}), "price"),
        (json!({"random_forest": {"trees": 0}}), "yes"),
        (json!({"decision_tree": {"max_depth": 0}}), "yes"),
    ] {
        let error = check(&algorithm(settings), &target(&village, column)).unwrap_err();
        complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    }
    let target = target(&village, "yes");
    let fitted = fit_features(&village, &village_features(json!({})), true, &target);
    let forest = algorithm(json!({"random_forest": {}}));
    let error = TrainingSetBuilder::new(&fitted, &target, &forest, 1_000).err().unwrap();
    complaints += &format!("{error}\n  {}\n", error.hint().unwrap_or_default());
    let mut builder = TrainingSetBuilder::new(&fitted, &target, &forest, MEMORY).unwrap();
    builder.push(&village.slice(0, 10)).unwrap();
    complaints += &format!("{}\n", builder.finish().err().unwrap());
    expect![[r#"
        `ridge` learns regression, and the target `yes` asks for classification
          use `logistic_regression`, `random_forest` or `gradient_boosting`, or set `task: regression`
        `logistic_regression` learns classification, and the target `price` asks for regression
          use `ridge`, `random_forest` or `gradient_boosting`, or set `task: classification`
        `alpha` of `ridge` is -1, and must be 0 or more
  
        `l1_ratio` of `elastic_net` is 1.5, and must be between 0 and 1
  
        `trees` of `random_forest` is 0, and must be between 1 and 10000
  
        `max_depth` of `decision_tree` is 0, and must be 1 or more
  
        60 rows of 4 feature columns need about 0 MB to train on, and the memory limit is 0 MB
          train on a sample of the rows, leave out categorical columns with many levels, set `encoding: ordered`, or give the worker more memory
        the training rows changed between two readings: 60 were counted, 10 came
    "#]]
    .assert_eq(&complaints);
}

#[test]
fn fewer_threads_are_used_where_memory_is_short() {
    let memory = Memory { set: 100, thread: 50 };
    assert_eq!(memory.threads_within(1_000, 4), Some(4));
    assert_eq!(memory.threads_within(220, 4), Some(2));
    assert_eq!(memory.threads_within(149, 4), None);
    assert_eq!(memory.threads_within(99, 4), None);
}

#[test]
fn boosting_is_the_same_on_any_number_of_threads_and_stops_when_nothing_helps() {
    let village = village(1_500);
    for (column, more) in
        [("yes", json!({})), ("grade", json!({"max_leaves": 7})), ("price", json!({"subsample": 0.7}))]
    {
        let mut settings = json!({"iterations": 400, "early_stopping": {"rounds": 5, "validation_share": 0.2}});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (boosting, target) = (algorithm(json!({ "gradient_boosting": settings })), target(&village, column));
        let fitted = fit_features(&village, &village_features(json!({})), true, &target);
        let set = training_set(&village, &fitted, &target, &boosting).unwrap();
        let models: Vec<Part> = [1, 2, 5].map(|threads| part(&set, &boosting, 0..1, threads)).into();
        assert!(models.iter().all(|model| model.to_bytes() == models[0].to_bytes()), "{column}");
        let trained = join(vec![models[0].clone()], &boosting, &target).unwrap();
        let Estimator::Boosted(model) = &trained.estimator else { panic!("boosting boosts") };
        assert_eq!(model.outputs(), target.outputs());
        assert!((1..400).contains(&model.iterations()), "{column}: {} trees", model.iterations());
        let sum: f64 = trained.importances.unwrap().iter().sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_loss_that_does_not_fit_is_refused() {
    let village = village(50);
    let poisson = algorithm(json!({"gradient_boosting": {"loss": "poisson"}}));
    let refusal = check(&poisson, &target(&village, "yes")).unwrap_err().to_string();
    expect![
        "`loss` of `gradient_boosting` is set, and must be left out for classes, which are learned by their log loss"
    ]
    .assert_eq(&refusal);
    let fast = algorithm(json!({"gradient_boosting": {"learning_rate": 0.0}}));
    let refusal = check(&fast, &target(&village, "price")).unwrap_err().to_string();
    expect!["`learning_rate` of `gradient_boosting` is 0, and must be over 0"].assert_eq(&refusal);
}
