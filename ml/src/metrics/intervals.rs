//! How sure metrics are: where each would lie, had other rows of the same kind come.
//!
//! Intervals are those of the bootstrap (Efron 1979). **Time is bounded:** of more rows than [`INTERVAL_ROWS_MAX`] an
//! even choice of so many is drawn from, and the distances from the estimate are made narrower by the root of the
//! share, since a metric scatters as the root of its rows (Politis and Romano 1994, subsampling; Bickel, Götze and van
//! Zwet 1997). Up to [`BCA_ROWS_MAX`] rows the ends are corrected for bias and skew (BCa, Efron 1987); with more the
//! quantiles of the draws are as good and cost half.
//!
//! `max_error` gets no interval: the bootstrap is wrong for the largest of values (Bickel and Freedman 1981).

use std::collections::BTreeMap;

use gristmill_learn::resample::{Bootstrap, Draw, Method, bootstrap_all};
use gristmill_protocol::pipeline::steps::Intervals;
use serde::{Deserialize, Serialize};

use super::Evaluator;
use super::weighted::Weighted;

/// Rows that are drawn from at the most: 400 draws of all metrics then take about a second on one thread.
pub const INTERVAL_ROWS_MAX: usize = 20_000;
/// Rows up to which each draw is one of very different ones, so that skew matters.
const BCA_ROWS_MAX: usize = 2_000;
/// Fewer rows have no interval: they can't tell what others would be like.
const ROWS_MIN: usize = 10;

/// Where a metric may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricInterval {
    pub low: f64,
    pub high: f64,
}

/// An interval for each metric that has one; none when no draws are asked for or rows are few.
pub fn intervals(rows: &Evaluator, settings: &Intervals) -> BTreeMap<String, MetricInterval> {
    if settings.draws == 0 || rows.rows() < ROWS_MIN {
        return BTreeMap::new();
    }
    let most = rows_max(rows);
    let (drawn, narrower) = match rows.rows() > most {
        true => (rows.select(&evenly(rows.rows(), most)), (most as f64 / rows.rows() as f64).sqrt()),
        false => (rows.clone(), 1.0),
    };
    let weighted = Weighted::new(&drawn);
    let Ok(found) = bootstrap_all(drawn.rows(), &bootstrap(settings, drawn.rows()), |counts| weighted.metrics(counts))
    else {
        return BTreeMap::new();
    };
    let estimates = rows.metrics();
    let of_metric = |(name, interval): (&&str, Result<gristmill_learn::resample::Interval, _>)| {
        let (interval, estimate) = (interval.ok()?, *estimates.get(*name)?);
        let end = |end: f64| within(name, estimate + (end - interval.estimate) * narrower);
        let interval = MetricInterval { low: end(interval.low), high: end(interval.high) };
        (*name != "max_error").then(|| ((*name).to_owned(), interval))
    };
    weighted.names().iter().zip(found).filter_map(of_metric).collect()
}

/// More classes have more curves to draw.
pub(super) fn rows_max(rows: &Evaluator) -> usize {
    (INTERVAL_ROWS_MAX / rows.width()).max(1_000)
}

pub(super) fn bootstrap(settings: &Intervals, rows: usize) -> Bootstrap {
    let method = if rows <= BCA_ROWS_MAX { Method::Bca } else { Method::Percentile };
    Bootstrap { seed: settings.seed, draws: settings.draws, level: settings.level, method, draw: Draw::Rows }
}

/// `count` of the rows, spread evenly.
pub(super) fn evenly(rows: usize, count: usize) -> Vec<u32> {
    (0..count).map(|at| (at as u64 * rows as u64 / count as u64) as u32).collect()
}

/// A narrowed interval can reach over a metric's own range by a little.
fn within(metric: &str, value: f64) -> f64 {
    match metric {
        "mcc" => value.clamp(-1.0, 1.0),
        "bias" => value,
        "r2" => value.min(1.0),
        "log_loss" | "brier" | "mae" | "mape" | "medae" | "rmse" => value.max(0.0),
        _ => value.clamp(0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::samples::{algorithm, model, village, village_features};

    fn measured(rows: usize) -> Evaluator {
        let train = village(600);
        let settings = algorithm(json!({"decision_tree": {"max_depth": 4}}));
        let model = model(&train, "yes", &village_features(json!({})), &settings);
        let batch = village(rows);
        let mut evaluator = Evaluator::new(&model);
        evaluator.push(&model.predict(&batch).unwrap(), &model.target().values(&batch).unwrap());
        evaluator
    }

    #[test]
    fn every_metric_lies_in_its_interval_and_more_rows_make_it_narrower() {
        let settings = Intervals { draws: 200, ..Intervals::default() };
        let width = |rows: usize| {
            let evaluator = measured(rows);
            let (metrics, found) = (evaluator.metrics(), intervals(&evaluator, &settings));
            assert_eq!(found, intervals(&evaluator, &settings), "the same seed gives the same ends");
            for (name, interval) in &found {
                let value = metrics[name];
                assert!(interval.low <= interval.high, "{name} {interval:?}");
                // A calibration error is pushed up by drawing, and so its interval may lie above it.
                let inside = interval.low - 1e-12 <= value && value <= interval.high + 1e-12;
                assert!(inside || name == "ece", "{name} is {value}, {interval:?}");
            }
            found["accuracy"].high - found["accuracy"].low
        };
        let (few, many, sampled) = (width(300), width(3_000), width(60_000));
        assert!(few > 2.0 * many && many > 2.0 * sampled, "{few} {many} {sampled}");
        // The standard error of a share p is the root of p (1 - p) / n; 95 % are 1.96 of it to either side.
        let accuracy = measured(60_000).metrics()["accuracy"];
        let expected = 2.0 * 1.96 * (accuracy * (1.0 - accuracy) / 60_000.0).sqrt();
        assert!((sampled / expected - 1.0).abs() < 0.25, "{sampled} {expected}");
    }

    #[test]
    fn without_draws_or_rows_there_are_none() {
        assert!(intervals(&measured(300), &Intervals { draws: 0, ..Intervals::default() }).is_empty());
        assert!(intervals(&measured(8), &Intervals::default()).is_empty());
    }
}
