use std::collections::BTreeMap;

use gristmill_protocol::pipeline::Learning;

use super::*;

/// Made by scikit-learn 1.9: `roc_auc_score`, `average_precision_score`, `log_loss`, `brier_score_loss`
/// (`scale_by_half=False` for three classes), `accuracy_score`, `balanced_accuracy_score`, `precision_score`, `recall_score`,
/// `f1_score`, `matthews_corrcoef`, with `average='macro'` and one class against the rest for three. `ece` by
///
/// ```python
/// def ece(conf, hit, bins=10):
///     b = np.minimum((conf * bins).astype(int), bins - 1)
///     return sum(abs(conf[b == k].sum() - hit[b == k].sum()) for k in range(bins)) / len(conf)
/// ```
fn assert_near(found: Vec<(&'static str, f64)>, expected: &[(&str, f64)]) {
    let found: BTreeMap<&str, f64> = found.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    for (name, value) in expected {
        assert!((found[name] - value).abs() < 1e-12, "{name}: {} instead of {value}", found[name]);
    }
}

#[test]
fn two_classes_are_measured_as_by_scikit_learn() {
    let truth = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0];
    let probabilities = [0.1, 0.9, 0.4, 0.4, 0.8, 0.35, 0.6, 0.6, 0.7, 0.2, 0.05, 0.5];
    assert_near(
        classification::metrics(&probabilities, &truth, 2, None),
        &[
            ("accuracy", 0.75),
            ("balanced_accuracy", 0.75),
            ("brier", 0.20875000000000002),
            ("ece", 0.25833333333333336),
            ("f1", 0.7272727272727273),
            ("log_loss", 0.6656315132807905),
            ("mcc", 0.50709255283711),
            ("pr_auc", 0.8208333333333333),
            ("precision", 0.8),
            ("recall", 0.6666666666666666),
            ("roc_auc", 0.75),
        ],
    );
}

#[test]
fn three_classes_are_measured_as_by_scikit_learn() {
    let truth = [0, 1, 2, 2, 1, 0, 1, 2, 0, 2];
    #[rustfmt::skip]
    let probabilities = [
        0.7, 0.2, 0.1,  0.1, 0.6, 0.3,  0.2, 0.2, 0.6,  0.3, 0.4, 0.3,  0.25, 0.5, 0.25,
        0.4, 0.35, 0.25,  0.3, 0.3, 0.4,  0.05, 0.15, 0.8,  0.5, 0.1, 0.4,  0.1, 0.1, 0.8,
    ];
    assert_near(
        classification::metrics(&probabilities, &truth, 3, None),
        &[
            ("accuracy", 0.8),
            ("balanced_accuracy", 0.8055555555555555),
            ("brier", 0.35849999999999993),
            ("ece", 0.26999999999999996),
            ("f1", 0.8055555555555555),
            ("log_loss", 0.6535143995745052),
            ("mcc", 0.696969696969697),
            ("pr_auc", 0.9198412698412698),
            ("precision", 0.8055555555555555),
            ("recall", 0.8055555555555555),
            ("roc_auc", 0.933531746031746),
        ],
    );
}

#[test]
fn numbers_are_measured_as_by_scikit_learn() {
    let actual = [3.0, -0.5, 2.0, 7.0, 4.25, 1.0];
    let predicted = [2.5, 0.0, 2.1, 7.8, 4.25, 1.5];
    assert_near(
        regression::metrics(&predicted, &actual),
        &[
            ("bias", 0.2333333333333333),
            ("mae", 0.39999999999999997),
            ("mape", 0.3051587301587302),
            ("max_error", 0.7999999999999998),
            ("medae", 0.5),
            ("r2", 0.9594814591498342),
            ("rmse", 0.4830458915396479),
        ],
    );
}

#[test]
fn a_metric_that_is_not_defined_is_not_a_number() {
    let found: BTreeMap<&str, f64> = classification::metrics(&[0.2, 0.7], &[0, 0], 2, None).into_iter().collect();
    assert!(found["roc_auc"].is_nan() && found["pr_auc"].is_nan());
    assert_eq!(found["accuracy"], 0.5);
    let found: BTreeMap<&str, f64> = regression::metrics(&[1.0, 2.0], &[3.0, 3.0]).into_iter().collect();
    assert!(found["r2"].is_nan());
}

#[test]
fn every_metric_is_known_and_has_a_direction() {
    let names = |metrics: Vec<(&'static str, f64)>| metrics.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let known = |learning| known_metrics(learning).iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(classification::metrics(&[0.5], &[1], 2, None)), known(Learning::Classification));
    assert_eq!(names(regression::metrics(&[0.5], &[1.0])), known(Learning::Regression));
    assert!(direction(Learning::Classification, "log_loss").unwrap().no_worse(0.1, 0.2));
    assert!(direction(Learning::Classification, "roc_auc").unwrap().no_worse(0.9, 0.9));
    assert!(!direction(Learning::Regression, "bias").unwrap().no_worse(-2.0, 1.0));
    assert_eq!(direction(Learning::Classification, "roc_acu"), Err(Some("roc_auc".to_owned())));
    assert_eq!(direction(Learning::Regression, "roc_auc"), Err(None));
}

#[test]
fn curves_keep_their_ends_and_few_points() {
    let rows = 10_000;
    let probabilities: Vec<f64> = (0..rows).map(|row| ((row * 7919) % rows) as f64 / rows as f64).collect();
    let truth: Vec<u8> = (0..rows).map(|row| u8::from((row * 104_729) % rows < ((row * 7919) % rows))).collect();
    let charts = curves::classification(&probabilities, &truth, &["no".to_owned(), "yes".to_owned()], None);
    let [curve] = charts.curves.as_slice() else { panic!("two classes have one curve") };
    assert!(curve.roc.len() > 100 && curve.roc.len() <= 200 && curve.precision_recall.len() <= 200);
    assert_eq!(curve.roc.first(), Some(&Point { x: 0.0, y: 0.0 }));
    assert_eq!(curve.roc.last(), Some(&Point { x: 1.0, y: 1.0 }));
    assert_eq!(curve.precision_recall.last().map(|point| point.x), Some(1.0));
    assert!(curve.roc.windows(2).all(|pair| pair[0].x <= pair[1].x && pair[0].y <= pair[1].y));
    assert_eq!(curve.calibration.iter().map(|bin| bin.rows).sum::<u64>(), rows as u64);
    assert_eq!(curve.scores.iter().map(|bin| bin.of_class + bin.of_rest).sum::<u64>(), rows as u64);
    assert_eq!(charts.confusion.iter().flatten().sum::<u64>(), rows as u64);
}

#[test]
fn residuals_are_counted_and_rows_evenly_picked() {
    let actual: Vec<f64> = (0..1_201).map(f64::from).collect();
    let predicted: Vec<f64> = actual.iter().map(|value| value * 1.1 - 3.0).collect();
    let charts = curves::regression(&predicted, &actual);
    assert_eq!(charts.residuals.iter().map(|bin| bin.rows).sum::<u64>(), 1_201);
    assert_eq!(charts.residuals.len(), 30);
    assert_eq!(charts.scatter.len(), 401);
    let same = curves::regression(&[1.0, 1.0], &[1.0, 1.0]);
    assert_eq!(same.residuals, [Bin { from: 0.0, to: 0.0, rows: 2 }]);
}
