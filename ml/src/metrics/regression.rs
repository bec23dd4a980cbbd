//! Metrics of regressions, as scikit-learn defines them.

/// All metrics; those that aren't defined are not a number.
pub(super) fn metrics(predicted: &[f64], actual: &[f64]) -> Vec<(&'static str, f64)> {
    let rows = actual.len() as f64;
    let errors: Vec<f64> = predicted.iter().zip(actual).map(|(predicted, actual)| predicted - actual).collect();
    let squares: f64 = errors.iter().map(|error| error * error).sum();
    let mean = actual.iter().sum::<f64>() / rows;
    let spread: f64 = actual.iter().map(|actual| (actual - mean).powi(2)).sum();
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    vec![
        // Mean of predicted minus actual: positive when the model predicts too much.
        ("bias", errors.iter().sum::<f64>() / rows),
        ("mae", sizes.iter().sum::<f64>() / rows),
        // Mean of |error| / |actual|. An actual value of zero counts as 2.2e-16, as in scikit-learn, so that
        // the metric becomes huge rather than undefined: don't use it where zeros occur.
        (
            "mape",
            sizes.iter().zip(actual).map(|(size, actual)| size / actual.abs().max(f64::EPSILON)).sum::<f64>() / rows,
        ),
        ("max_error", sizes.iter().copied().fold(0.0, f64::max)),
        ("medae", median(&mut sizes)),
        // Share of the variance that the model explains; not defined when the actual values are all equal.
        ("r2", if spread > 0.0 { 1.0 - squares / spread } else { f64::NAN }),
        ("rmse", (squares / rows).sqrt()),
    ]
}

fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if even { (below.iter().copied().fold(0.0, f64::max) + upper) / 2.0 } else { upper }
}
