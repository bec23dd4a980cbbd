use proptest::prelude::*;

use super::*;
use crate::chance::Chance;

/// Forty rows drawn with `numpy.random.RandomState(3)`; two models' scores, rounded so that they tie.
const TRUTH: [u8; 40] = [
    0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0,
    1, 1,
];
const FIRST: [f64; 40] = [
    0.24, 0.28, 0.56, 0.18, 0.27, 0.52, 0.75, 0.57, 0.57, 0.27, 0.52, 0.12, 0.31, 0.45, 0.29, 0.22, 0.82, 0.45, 0.81,
    0.41, 0.62, 0.4, 0.2, 0.74, 0.2, 0.27, 0.44, 0.55, 0.98, 0.14, 0.41, 0.39, 0.43, 0.29, 0.76, 0.44, 0.04, 0.12,
    0.49, 0.46,
];
const SECOND: [f64; 40] = [
    0.1, 0.44, 0.35, 0.76, 0.55, 0.43, 0.77, 0.41, 0.94, 0.67, 0.78, 0.38, 0.67, 0.8, 0.53, 0.73, 0.71, 0.29, 0.64,
    0.16, 0.35, 0.58, 0.63, 0.98, 0.68, 0.43, 0.27, 0.59, 0.94, 0.63, 0.39, 0.36, 0.17, 0.14, 0.26, 0.91, 0.51, 0.11,
    0.53, 0.24,
];

fn truth() -> Vec<bool> {
    TRUTH.map(|class| class == 1).to_vec()
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-10 * expected.abs().max(1.0), "{found} instead of {expected}");
}

/// Made by scikit-learn 1.9: `roc_auc_score` and `average_precision_score` with `sample_weight`.
#[test]
fn areas_of_counted_rows_are_those_of_weighted_rows() {
    let counts = [
        1, 0, 1, 3, 3, 1, 3, 0, 3, 2, 3, 1, 1, 1, 0, 0, 0, 3, 0, 3, 2, 0, 1, 2, 3, 0, 0, 0, 3, 2, 2, 3, 3, 1, 0, 1, 0,
        1, 2, 3,
    ];
    let ranked = Ranked::new(&FIRST, &truth());
    near(ranked.roc_auc(&counts), 0.9840686274509804);
    near(ranked.average_precision(&counts), 0.9713288858216396);
    assert!(ranked.roc_auc(&[0; 40]).is_nan());
}

/// From the definition of DeLong et al. in numpy 2.4: the components of each row by comparing all pairs, then
/// `numpy.cov`, and `scipy.stats.norm.sf`.
#[test]
fn delong_is_the_test_of_the_definition() {
    let found = delong(&FIRST, &SECOND, &truth()).unwrap();
    near(found.first, 0.979539641943734);
    near(found.second, 0.6790281329923273);
    near(found.variances[0], 0.0002912804730476646);
    near(found.variances[1], 0.008604880444742825);
    near(found.variances[2], 9.309825645733977e-06);
    near(found.z, 3.1894423702725625);
    near(found.p, 0.0014254755799190545);
    assert_eq!(delong(&FIRST, &FIRST, &truth()).unwrap().p, 1.0);
    assert_eq!(delong(&FIRST, &SECOND, &[true; 40]), None);
}

/// `scipy.stats.binomtest(k, n, 0.5)` and `scipy.stats.chi2.sf((|b - c| - 1)² / (b + c), 1)` of scipy 1.17.
#[test]
fn mcnemar_is_scipys_binomial_test() {
    near(mcnemar(4, 13), 0.049041748046875);
    near(mcnemar(13, 4), 0.049041748046875);
    near(mcnemar(10, 10), 1.0);
    near(mcnemar(40, 65), 0.018740915408258018);
    near(mcnemar(700, 600), 0.006036981097798615);
    assert_eq!(mcnemar(0, 0), 1.0);
    assert!(mcnemar(u64::MAX, 3) < 1e-300);
}

/// Forty means of ten numbers drawn with `numpy.random.RandomState(i)`; the quantiles that
/// `scipy.stats._resampling._bca_interval` of scipy 1.17 chooses, taken with `numpy.percentile`.
#[test]
fn the_bca_interval_is_scipys() {
    let rows = [3.1, 0.4, 1.7, 2.2, 9.5, 0.9, 1.1, 4.6, 2.8, 0.2];
    let mut draws = [
        2.75,
        1.73,
        2.8299999999999996,
        1.7399999999999998,
        2.72,
        3.0800000000000005,
        2.61,
        3.2,
        2.5,
        2.29,
        2.3,
        2.4000000000000004,
        2.2600000000000002,
        3.3800000000000003,
        2.16,
        2.3899999999999997,
        2.99,
        3.5200000000000005,
        1.7399999999999998,
        2.53,
        2.7199999999999998,
        2.86,
        4.87,
        1.83,
        3.4,
        4.02,
        2.3499999999999996,
        1.97,
        2.73,
        1.72,
        2.59,
        2.15,
        1.97,
        2.62,
        1.9899999999999998,
        2.1699999999999995,
        2.52,
        2.12,
        2.34,
        3.1900000000000004,
    ];
    draws.sort_by(f64::total_cmp);
    let total: f64 = rows.iter().sum();
    let left_out: Vec<f64> = rows.iter().map(|row| (total - row) / 9.0).collect();
    let (low, high) = bca(total / 10.0, &draws, &left_out, 0.9);
    assert!((low - 2.05154596).abs() < 1e-8 && (high - 4.74818382).abs() < 1e-8, "{low} {high}");
    let (low, high) = percentile(&draws, 0.9);
    assert!((low - 1.7395).abs() < 1e-12 && (high - 3.545).abs() < 1e-12, "{low} {high}");
}

fn mean_of(values: &[f64]) -> impl Fn(&[u32]) -> f64 + Sync + '_ {
    |counts| {
        let rows: u32 = counts.iter().sum();
        values.iter().zip(counts).map(|(value, count)| value * f64::from(*count)).sum::<f64>() / f64::from(rows)
    }
}

#[test]
fn intervals_hold_the_true_value_about_as_often_as_they_say() {
    for (draw, method) in [(Draw::Rows, Method::Percentile), (Draw::Rows, Method::Bca), (Draw::Poisson, Method::Bca)] {
        let held = (0..300).filter(|seed| {
            let mut chance = Chance::stream(*seed, &[]);
            // Exponential with mean 1: skewed.
            let values: Vec<f64> = (0..60).map(|_| -(1.0 - chance.unit()).ln()).collect();
            let settings = Bootstrap { seed: *seed, draws: 400, level: 0.9, method, draw };
            let interval = bootstrap(60, &settings, mean_of(&values)).unwrap();
            interval.low <= 1.0 && 1.0 <= interval.high
        });
        // 90 % of 300 is 270, and five standard deviations are 26.
        let held = held.count();
        assert!((244..=296).contains(&held), "{held} of 300 with {draw:?} {method:?}");
    }
}

#[test]
fn an_interval_is_the_same_on_any_number_of_threads() {
    let truth = truth();
    let ranked = Ranked::new(&FIRST, &truth);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bootstrap(40, &Bootstrap::default(), |counts| ranked.roc_auc(counts)).unwrap())
    };
    assert_eq!(on(1), on(3));
    let interval = on(1);
    assert!(interval.low < interval.estimate && interval.estimate <= interval.high && interval.low > 0.9);
}

#[test]
fn poisson_counts_are_of_mean_and_variance_one() {
    let counts: Vec<f64> = (0..100_000).map(|row| f64::from(poisson_count(1, 2, row))).collect();
    let mean = counts.iter().sum::<f64>() / 1e5;
    let variance = counts.iter().map(|count| (count - 1.0).powi(2)).sum::<f64>() / 1e5;
    // Five standard deviations: of the mean 1/√1e5, of the variance √(3/1e5).
    assert!((mean - 1.0).abs() < 0.016 && (variance - 1.0).abs() < 0.028, "{mean} {variance}");
    let draws = |settings: Bootstrap| settings.draws(5, <[u32]>::to_vec);
    let settings = Bootstrap { draw: Draw::Poisson, seed: 9, ..Bootstrap::default() };
    assert_eq!(draws(settings)[3], (0..5).map(|row| poisson_count(9, 3, row)).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn a_draw_of_rows_has_as_many_as_there_are(rows in 2_usize..300, seed: u64) {
        let settings = Bootstrap { seed, ..Bootstrap::default() };
        for counts in settings.draws(rows, <[u32]>::to_vec) {
            prop_assert_eq!(counts.iter().sum::<u32>() as usize, rows);
        }
    }
}

#[test]
fn a_better_model_is_told_from_an_equal_one() {
    let truth = truth();
    let (first, second) = (Ranked::new(&FIRST, &truth), Ranked::new(&SECOND, &truth));
    let settings = Bootstrap { draws: 2_000, ..Bootstrap::default() };
    let found = difference(40, &settings, |counts| (first.roc_auc(counts), second.roc_auc(counts))).unwrap();
    near(found.first - found.second, found.interval.estimate);
    assert!(found.interval.low > 0.0 && found.p < 0.01, "{found:?}");
    // About as surprising as DeLong's test finds it.
    assert!(found.p > 0.000_5);
    let same = difference(40, &settings, |counts| (first.roc_auc(counts), first.roc_auc(counts))).unwrap();
    assert_eq!((same.interval.low, same.interval.high, same.p), (0.0, 0.0, 1.0));
}

#[test]
fn what_has_no_interval_says_why() {
    let settings = Bootstrap::default();
    let fails = |rows: usize, settings: Bootstrap, metric: fn(&[u32]) -> f64| {
        bootstrap(rows, &settings, metric).unwrap_err().to_string()
    };
    assert_eq!(fails(1, settings, |_| 1.0), "1 rows can't be drawn from; 2 to 4294967295 can");
    assert_eq!(fails(5, Bootstrap { draws: 3, ..settings }, |_| 1.0), "100 to 100000 draws are possible, not 3");
    assert_eq!(
        fails(5, Bootstrap { level: 1.0, ..settings }, |_| 1.0),
        "the level of an interval is over 0 and under 1, not 1"
    );
    assert_eq!(fails(5, settings, |_| f64::NAN), "the metric isn't defined on the 5 rows");
    // Defined only on the draw that has each row once.
    let error = fails(5, settings, |counts| if counts == [1; 5] { 1.0 } else { f64::NAN });
    assert!(error.contains("draws: there are too few rows of some kind"), "{error}");
    // A metric that never varies has an interval of no width.
    let interval = bootstrap(5, &settings, |_| 2.0).unwrap();
    assert_eq!((interval.low, interval.high, interval.undefined), (2.0, 2.0, 0));
}

#[test]
fn metrics_that_share_their_draws_have_the_intervals_that_each_has_alone() {
    let ranked = Ranked::new(&FIRST, &truth());
    let undefined = |_: &[u32]| f64::NAN;
    for method in [Method::Bca, Method::Percentile] {
        let settings = Bootstrap { draws: 200, method, ..Bootstrap::default() };
        let all = |counts: &[u32]| vec![ranked.roc_auc(counts), ranked.average_precision(counts), undefined(counts)];
        let found = bootstrap_all(40, &settings, all).unwrap();
        assert_eq!(found[0], bootstrap(40, &settings, |counts| ranked.roc_auc(counts)));
        assert_eq!(found[1], bootstrap(40, &settings, |counts| ranked.average_precision(counts)));
        assert_eq!(found[2], Err(BootstrapError::Undefined { rows: 40 }));
        assert!(found[0].as_ref().unwrap().low < found[0].as_ref().unwrap().high);
    }
}
