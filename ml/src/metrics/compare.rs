//! Two models on the same rows: is one better, or did the rows happen to suit it?

use gristmill_learn::resample::{BootstrapError, delong, difference, mcnemar};
use gristmill_protocol::pipeline::steps::Intervals;
use serde::{Deserialize, Serialize};

use super::intervals::{MetricInterval, bootstrap, evenly, rows_max};
use super::weighted::Weighted;
use super::{Collected, Evaluator};

/// Draws where the step asks for no intervals: a p-value needs them.
const DRAWS: u32 = 1_000;

/// How a p-value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedTest {
    /// DeLong, DeLong and Clarke-Pearson (1988), for areas under ROC curves of two classes.
    Delong,
    /// McNemar (1947), for accuracy.
    Mcnemar,
    /// The paired bootstrap, for every other metric.
    Bootstrap,
}

/// A model against another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The alias, or whatever the other is called.
    pub other: String,
    pub metric: String,
    pub ours: f64,
    pub theirs: f64,
    pub test: PairedTest,
    /// Two-sided: how likely rows alone make such a difference between models that are equally good.
    pub p: f64,
    /// Rows that the test looked at: all, for the bootstrap an even choice of at most 20,000, which errs on the side
    /// of "not sure".
    pub rows: u64,
    /// Ours minus theirs, on those rows; the bootstrap alone tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<MetricInterval>,
}

/// Compares two models by a metric. None when it isn't defined for both, or the models tell different things. Panics
/// when they are of different rows.
pub fn compare(
    ours: &Evaluator,
    theirs: &Evaluator,
    other: &str,
    metric: &str,
    settings: &Intervals,
) -> Option<Comparison> {
    assert_eq!(ours.rows(), theirs.rows(), "two models are compared on the same rows");
    let (first, second) = (*ours.metrics().get(metric)?, *theirs.metrics().get(metric)?);
    let found = |test, p, rows: usize, difference| Comparison {
        other: other.to_owned(),
        metric: metric.to_owned(),
        ours: first,
        theirs: second,
        test,
        p,
        rows: rows as u64,
        difference,
    };
    match (&ours.collected, &theirs.collected) {
        (
            Collected::Classes { names, probabilities, truth, .. },
            Collected::Classes { names: others, probabilities: theirs, .. },
        ) if metric == "roc_auc" && names.len() == 2 && others.len() == 2 => {
            let positive: Vec<bool> = truth.iter().map(|&class| class == 1).collect();
            let test = delong(probabilities, theirs, &positive)?;
            Some(found(PairedTest::Delong, test.p, truth.len(), None))
        }
        (Collected::Classes { .. }, Collected::Classes { .. }) if metric == "accuracy" => {
            let ((truth, ours), (other_truth, theirs)) = (ours.decisions()?, theirs.decisions()?);
            let right = |truth: &[u8], decided: &[usize], row: usize| usize::from(truth[row]) == decided[row];
            let (mut only_ours, mut only_theirs) = (0, 0);
            for row in 0..truth.len() {
                match (right(truth, &ours, row), right(other_truth, &theirs, row)) {
                    (true, false) => only_ours += 1,
                    (false, true) => only_theirs += 1,
                    _ => {}
                }
            }
            Some(found(PairedTest::Mcnemar, mcnemar(only_ours, only_theirs), truth.len(), None))
        }
        (Collected::Classes { .. }, Collected::Values { .. })
        | (Collected::Values { .. }, Collected::Classes { .. }) => None,
        _ => {
            let rows = ours.rows();
            let chosen = evenly(rows, rows.min(rows_max(ours)));
            let (a, b) = (Weighted::new(&ours.select(&chosen)), Weighted::new(&theirs.select(&chosen)));
            let at = a.names().iter().position(|name| *name == metric)?;
            let settings = Intervals { draws: if settings.draws == 0 { DRAWS } else { settings.draws }, ..*settings };
            let settings = bootstrap(&settings, chosen.len());
            let drawn: Result<_, BootstrapError> =
                difference(chosen.len(), &settings, |counts| (a.metrics(counts)[at], b.metrics(counts)[at]));
            let drawn = drawn.ok()?;
            let interval = MetricInterval { low: drawn.interval.low, high: drawn.interval.high };
            Some(found(PairedTest::Bootstrap, drawn.p, chosen.len(), Some(interval)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::samples::{algorithm, model, village, village_features};

    fn measured(target: &str, depth: u16) -> Evaluator {
        let village = village(1_000);
        let settings = algorithm(json!({"decision_tree": {"max_depth": depth}}));
        let model = model(&village.slice(0, 600), target, &village_features(json!({})), &settings);
        let rest = village.slice(600, 400);
        let mut evaluator = Evaluator::new(&model);
        evaluator.push(&model.predict(&rest).unwrap(), &model.target().values(&rest).unwrap());
        evaluator
    }

    #[test]
    fn a_better_model_is_told_from_an_equal_one_by_each_test() {
        for (target, metric, test) in [
            ("yes", "roc_auc", PairedTest::Delong),
            ("yes", "accuracy", PairedTest::Mcnemar),
            ("yes", "brier", PairedTest::Bootstrap),
            ("grade", "roc_auc", PairedTest::Bootstrap),
            ("price", "rmse", PairedTest::Bootstrap),
        ] {
            let (good, poor) = (measured(target, 5), measured(target, 1));
            let settings = Intervals::default();
            let found = compare(&good, &poor, "champion", metric, &settings).unwrap();
            assert_eq!(found.test, test, "{target} {metric}");
            assert!(found.p < 0.05, "{target} {metric}: {found:?}");
            let same = compare(&good, &good, "champion", metric, &settings).unwrap();
            assert!(same.p > 0.9 && same.ours == same.theirs, "{same:?}");
        }
        assert_eq!(compare(&measured("yes", 2), &measured("yes", 2), "a", "rmse", &Intervals::default()), None);
    }
}
