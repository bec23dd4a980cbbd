use proptest::prelude::*;

use super::*;

/// Drawn with `numpy.random.RandomState(5)`.
const SCORES: [f64; 24] = [
    0.66, -0.5, 3.65, -0.38, 0.16, 2.37, -1.36, -0.89, 0.28, -0.49, -1.79, -0.31, -0.54, 0.91, -2.5, -1.05, 1.73, 2.79,
    -2.27, 0.97, -1.47, -1.29, -1.31, -0.63,
];
/// The same rounded by `numpy.round(x, 1)`, so that they tie.
const ROUNDED: [f64; 24] = [
    0.7, -0.5, 3.6, -0.4, 0.2, 2.4, -1.4, -0.9, 0.3, -0.5, -1.8, -0.3, -0.5, 0.9, -2.5, -1.0, 1.7, 2.8, -2.3, 1.0,
    -1.5, -1.3, -1.3, -0.6,
];
const TRUTH: [u32; 24] = [1, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0];
const WEIGHTS: [f64; 24] = [
    1.0, 2.0, 3.0, 4.0, 1.0, 4.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 3.0, 3.0, 1.0, 4.0, 4.0, 3.0, 4.0, 1.0, 1.0, 1.0, 3.0,
    1.0,
];

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
}

/// The minimum of the same likelihood found by scipy 1.17 (BFGS and twenty Newton steps); scikit-learn 1.9's
/// `_sigmoid_calibration` stops within 5e-8 of it.
#[test]
fn the_sigmoid_is_the_likeliest() {
    for (weights, (a, b)) in [
        (None, (-0.5302828061116899, 0.27801632386485753)),
        (Some(&WEIGHTS[..]), (-0.3341386439873886, 0.24272262645553783)),
    ] {
        let calibration = Calibration::fit(Method::Platt, &SCORES, &TRUTH, 2, weights).unwrap();
        let Curve::Platt(platt) = &calibration.curves()[0] else { panic!("a sigmoid was asked for") };
        near(platt.parameters().0, a);
        near(platt.parameters().1, b);
        near(platt.probability(1.0), 1.0 / (1.0 + (a + b).exp()));
    }
}

/// `IsotonicRegression(out_of_bounds="clip")` of scikit-learn 1.9, with the weights.
#[test]
fn steps_are_those_of_scikit_learn() {
    let calibration = Calibration::fit(Method::Isotonic, &ROUNDED, &TRUTH, 2, Some(&WEIGHTS)).unwrap();
    let mut scores = [-5.0, -2.0, -1.33, -0.5, -0.05, 0.0, 0.31, 0.77, 1.2, 2.9, 6.0];
    calibration.apply(&mut scores);
    let (low, middle) = (0.2692307692307692, 0.42105263157894735);
    for (found, expected) in scores.iter().zip([0.0, low, low, low, middle, middle, middle, middle, middle, 1.0, 1.0]) {
        near(*found, expected);
    }
    let Curve::Isotonic(isotonic) = &calibration.curves()[0] else { panic!("steps were asked for") };
    let points: Vec<f64> = isotonic.points().map(|(score, _)| score).collect();
    assert_eq!(points, [-2.5, -2.3, -0.5, -0.4, 1.7, 2.4, 3.6]);
}

#[test]
fn three_classes_are_calibrated_one_against_the_rest() {
    // The score of class k is highest where k is the truth, and class 2 is often wrong.
    let truth: Vec<u32> = (0..90).map(|row| row % 3).collect();
    let scores: Vec<f64> = (0..90)
        .flat_map(|row| {
            let shown = if row % 9 == 2 { 0 } else { row % 3 };
            (0..3).map(move |class| f64::from(u8::from(class == shown)) + 0.01 * f64::from(row as u8 % 5))
        })
        .collect();
    for method in [Method::Platt, Method::Isotonic] {
        let calibration = Calibration::fit(method, &scores, &truth, 3, None).unwrap();
        let mut probabilities = scores.clone();
        calibration.apply(&mut probabilities);
        for row in probabilities.chunks(3) {
            near(row.iter().sum(), 1.0);
        }
        // Where class 0 is shown, it is the truth in three of four rows.
        assert!((probabilities[0] - 0.75).abs() < 0.1, "{:?}", &probabilities[..3]);
        let bytes = rmp_serde::to_vec_named(&calibration).unwrap();
        assert_eq!(rmp_serde::from_slice::<Calibration>(&bytes).unwrap(), calibration);
    }
    // A row whose every class has probability 0.
    let curve = r#"{"isotonic": {"scores": [0.0, 1.0], "probabilities": [0.0, 0.5]}}"#;
    let calibration: Calibration = serde_json::from_str(&format!("[{curve}, {curve}, {curve}]")).unwrap();
    let mut row = [0.0; 3];
    calibration.apply(&mut row);
    assert_eq!(row, [1.0 / 3.0; 3]);
}

#[test]
fn damaged_curves_are_refused() {
    for (text, complaint) in [
        (r#"[]"#, "a calibration has 0 curves"),
        (r#"[{"isotonic": {"scores": [], "probabilities": []}}]"#, "a curve has 0 scores"),
        (r#"[{"isotonic": {"scores": [1.0, 1.0], "probabilities": [0.1, 0.2]}}]"#, "don't rise"),
        (r#"[{"isotonic": {"scores": [1.0, 2.0], "probabilities": [0.3, 0.2]}}]"#, "fall, or aren't"),
        (r#"[{"isotonic": {"scores": [1.0], "probabilities": [1.2]}}]"#, "fall, or aren't"),
        (r#"[{"platt": {"a": 1.0, "b": 2.0, "c": 0.0}}]"#, "unknown field"),
    ] {
        let error = serde_json::from_str::<Calibration>(text).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn what_cannot_be_calibrated_says_why() {
    let fit = |scores: &[f64], truth: &[u32], weights: Option<&[f64]>| {
        Calibration::fit(Method::Platt, scores, truth, 2, weights).unwrap_err().to_string()
    };
    assert_eq!(fit(&[1.0], &[0, 1], None), "there are 1 scores, 2 rows of truth and 2 weights for 2 classes");
    assert_eq!(fit(&[1.0, f64::NAN], &[0, 1], None), "the score of row 1 is `NaN`");
    assert_eq!(fit(&[1.0, 2.0], &[1, 1], None), "all or none of the rows to calibrate on are of class 1");
    assert_eq!(fit(&[1.0, 2.0], &[0, 1], Some(&[1.0, 0.0])), "all or none of the rows to calibrate on are of class 1");
    assert!(fit(&[1.0, 2.0], &[0, 1], Some(&[1.0, -1.0])).starts_with("the weight of row 1 is `-1`"));
}

#[test]
fn perfectly_parted_rows_have_a_finite_sigmoid() {
    let scores: Vec<f64> = (0..50).map(|row| f64::from(row) * 1e3).collect();
    let truth: Vec<u32> = (0..50).map(|row| u32::from(row >= 25)).collect();
    let calibration = Calibration::fit(Method::Platt, &scores, &truth, 2, None).unwrap();
    let mut ends = [0.0, 49e3];
    calibration.apply(&mut ends);
    assert!(ends[0] < 0.1 && ends[1] > 0.9, "{ends:?}");
}

proptest! {
    #[test]
    fn isotonic_probabilities_never_fall_and_keep_the_mean(
        rows in prop::collection::vec((-20_i32..20, any::<bool>(), 1_u8..5), 2..80)
    ) {
        prop_assume!(rows.iter().any(|row| row.1) && rows.iter().any(|row| !row.1));
        let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
        let truth: Vec<u32> = rows.iter().map(|row| row.1.into()).collect();
        let weights: Vec<f64> = rows.iter().map(|row| row.2.into()).collect();
        let calibration = Calibration::fit(Method::Isotonic, &scores, &truth, 2, Some(&weights)).unwrap();
        let mut probabilities = scores.clone();
        calibration.apply(&mut probabilities);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        prop_assert!(order.windows(2).all(|pair| probabilities[pair[0]] <= probabilities[pair[1]]));
        let sum = |of: &dyn Fn(usize) -> f64| (0..rows.len()).map(|row| weights[row] * of(row)).sum::<f64>();
        let (found, expected) = (sum(&|row| probabilities[row]), sum(&|row| f64::from(truth[row])));
        prop_assert!((found - expected).abs() < 1e-9);
    }

    /// Against trying every threshold there is.
    #[test]
    fn no_threshold_is_better_than_the_one_chosen(
        rows in prop::collection::vec((0_u8..12, any::<bool>(), 0_u8..4), 2..40), recall in 0.05_f64..1.0
    ) {
        let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 11.0).collect();
        let positive: Vec<bool> = rows.iter().map(|row| row.1).collect();
        let weights: Vec<f64> = rows.iter().map(|row| row.2.into()).collect();
        let costs = CostMatrix::try_from(vec![vec![-0.5, 3.0], vec![5.0, -1.0]]).unwrap();
        let at = |threshold: f64| {
            let mut found = Outcomes::default();
            for row in 0..rows.len() {
                *match (scores[row] >= threshold, positive[row]) {
                    (true, true) => &mut found.true_positives,
                    (true, false) => &mut found.false_positives,
                    (false, false) => &mut found.true_negatives,
                    (false, true) => &mut found.false_negatives,
                } += weights[row];
            }
            found
        };
        let every: Vec<Outcomes> = (-1..=24).map(|step| at((f64::from(step) + 0.5) / 22.0)).collect();
        let value = |aim: &Aim, o: &Outcomes| {
            let Outcomes { true_positives: tp, false_positives: fp, true_negatives: tn, false_negatives: fne } = *o;
            let or0 = |x: f64| if x.is_nan() { 0.0 } else { x };
            Some(match aim {
                Aim::Accuracy => (tp + tn) / (tp + fp + tn + fne),
                Aim::BalancedAccuracy => (tp / (tp + fne) + tn / (tn + fp)) / 2.0,
                Aim::F1 => 2.0 * tp / (2.0 * tp + fp + fne),
                Aim::FBeta { beta } => (1.0 + beta * beta) * tp / ((1.0 + beta * beta) * tp + beta * beta * fne + fp),
                Aim::Mcc => or0((tp * tn - fp * fne) / ((tp + fp) * (tp + fne) * (tn + fp) * (tn + fne)).sqrt()),
                Aim::Youden => tp / (tp + fne) - fp / (tn + fp),
                Aim::PrecisionAtRecall { recall } if tp / (tp + fne) >= *recall => tp / (tp + fp),
                Aim::PrecisionAtRecall { .. } | Aim::RecallAtPrecision { .. } => return None,
                Aim::Cost(_) => -(3.0 * fp + 5.0 * fne - tp - 0.5 * tn) / (tp + fp + tn + fne),
            })
        };
        let aims = [
            Aim::Accuracy, Aim::BalancedAccuracy, Aim::F1, Aim::FBeta { beta: 2.0 }, Aim::Mcc, Aim::Youden,
            Aim::PrecisionAtRecall { recall }, Aim::Cost(costs),
        ];
        for aim in aims {
            match choose(&scores, &positive, Some(&weights), &aim) {
                Ok(choice) => {
                    prop_assert_eq!(at(choice.threshold), choice.outcomes);
                    let best = every.iter().filter_map(|o| value(&aim, o)).fold(f64::NEG_INFINITY, f64::max);
                    let found = if aim.smaller_is_better() { -choice.value } else { choice.value };
                    prop_assert!((found - best).abs() < 1e-9, "{:?}: {} instead of {}", aim, found, best);
                }
                Err(error) => {
                    prop_assert_eq!(error, ThresholdError::OneClass);
                    let total = |class: bool| (0..rows.len()).filter(|r| positive[*r] == class).map(|r| weights[r]).sum::<f64>();
                    prop_assert!(total(true) == 0.0 || total(false) == 0.0);
                }
            }
        }
    }
}

#[test]
fn thresholds_lie_between_scores_and_ties_go_to_the_middle() {
    let scores = [0.1, 0.2, 0.6, 0.9];
    let choice = choose(&scores, &[false, false, true, true], None, &Aim::F1).unwrap();
    assert_eq!((choice.threshold, choice.value), (0.4, 1.0));
    // Accuracy is 3/4 at 0.15 and at 0.75; the second is nearer to 0.5.
    let choice = choose(&scores, &[false, true, false, true], None, &Aim::Accuracy).unwrap();
    assert_eq!((choice.threshold, choice.value), (0.75, 0.75));
    // All scores equal: all or none.
    let choice = choose(&[0.5; 3], &[true, true, false], None, &Aim::Accuracy).unwrap();
    assert_eq!(choice.threshold, 0.5);
    let choice = choose(&[0.5; 3], &[true, false, false], None, &Aim::Accuracy).unwrap();
    assert_eq!(choice.threshold, 0.5_f64.next_up());
    // Neighbouring numbers have nothing between them.
    let close = [0.5, 0.5_f64.next_up()];
    assert_eq!(choose(&close, &[false, true], None, &Aim::Mcc).unwrap().threshold, close[1]);
}

#[test]
fn what_no_threshold_reaches_is_said() {
    let scores = [0.1, 0.2, 0.6, 0.9];
    let truth = [true, false, true, false];
    let fails = |aim: Aim| choose(&scores, &truth, None, &aim).unwrap_err().to_string();
    assert_eq!(
        fails(Aim::RecallAtPrecision { precision: 0.9 }),
        "no threshold has a precision of 0.9; the best is 0.5"
    );
    assert_eq!(fails(Aim::PrecisionAtRecall { recall: 0.0 }), "`recall` is 0; it is over 0 and at most 1");
    assert_eq!(fails(Aim::FBeta { beta: -1.0 }), "`beta` is -1; it is over 0");
    let choice = choose(&scores, &truth, None, &Aim::RecallAtPrecision { precision: 0.5 }).unwrap();
    assert_eq!(choice.outcomes.recall(), 1.0);
    assert_eq!(choose(&scores, &[true; 4], None, &Aim::F1), Err(ThresholdError::OneClass));
}

#[test]
fn costs_decide() {
    let costs: CostMatrix = serde_json::from_str("[[0, 1], [9, 0]]").unwrap();
    assert_eq!(costs.threshold(), Some(0.1));
    assert_eq!((costs.decide(&[0.88, 0.12]), costs.decide(&[0.92, 0.08])), (1, 0));
    let three = CostMatrix::try_from(vec![vec![0.0, 1.0, 1.0], vec![1.0, 0.0, 1.0], vec![10.0, 10.0, 0.0]]).unwrap();
    assert_eq!(three.decide(&[0.5, 0.35, 0.15]), 2);
    assert_eq!(three.threshold(), None);
    assert!(serde_json::from_str::<CostMatrix>("[[0, 1]]").unwrap_err().to_string().contains("a row for each class"));
}
