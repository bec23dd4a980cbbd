//! How a model's scores become probabilities that mean what they say, and decisions: fitted on rows that the model
//! hasn't learned from ([`crate::kept`]), and part of the model.

use gristmill_learn::calibrate::{
    Aim, CalibrateError, Calibration, CostMatrix, CostsError, Method, ThresholdError, choose,
};
use gristmill_protocol::pipeline::steps::{self, Calibrate, ThresholdMetric};
use serde::{Deserialize, Serialize};

use super::{Model, ModelError};
use crate::features::FeatureError;
use crate::target::{Target, TargetError};

/// Why no decisions could be fitted.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    #[error("`{what}` is for classes, and the target `{target}` is a number")]
    Number { what: &'static str, target: String },
    #[error("`threshold` parts two classes, and the target `{target}` has {classes}")]
    Classes { target: String, classes: usize },
    #[error("`threshold` says nothing to choose it for")]
    NoAim,
    #[error("the probabilities can't be calibrated on the {rows} rows kept apart")]
    Calibrate {
        rows: usize,
        #[source]
        source: CalibrateError,
    },
    #[error("no threshold can be chosen on the {rows} rows kept apart")]
    Threshold {
        rows: usize,
        #[source]
        source: ThresholdError,
    },
    #[error("`costs` are no cost matrix")]
    Costs(#[from] CostsError),
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl DecisionError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            DecisionError::Number { what, .. } => Some(format!("remove `{what}`")),
            DecisionError::Classes { .. } => Some("remove `threshold`".to_owned()),
            DecisionError::NoAim => Some("give it `metric`, `costs`, `min_recall` or `min_precision`".to_owned()),
            DecisionError::Calibrate { .. } | DecisionError::Threshold { .. } => {
                Some("keep a larger share of the rows: `kept: 0.3`".to_owned())
            }
            DecisionError::Features(error) => error.hint(),
            DecisionError::Target(error) => error.hint(),
            DecisionError::Costs(_) | DecisionError::Model(_) => None,
        }
    }
}

/// How scores become probabilities and decisions; the default leaves both as the algorithm has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// A curve for two classes, one a class for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Rows kept apart that they were fitted on.
    pub rows: u64,
}

/// The probability from which on a row is of the second of two classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    pub at: f64,
    /// What it was chosen for.
    pub aim: Aim,
    /// The aim's value on the rows kept apart: the metric, or the mean cost.
    pub value: f64,
}

/// Whether a row is of the second of two classes.
#[inline]
pub(crate) fn is_positive(probability: f64, threshold: Option<f64>) -> bool {
    match threshold {
        Some(threshold) => probability >= threshold,
        None => probability > 0.5,
    }
}

impl Decision {
    /// Whether there is nothing to do.
    pub fn is_plain(&self) -> bool {
        self.calibration.is_none() && self.threshold.is_none()
    }

    /// Why this can't be of a model of such a target.
    pub(super) fn misfit(&self, target: &Target) -> Option<String> {
        let curves = self.calibration.as_ref().map(|calibration| calibration.curves().len());
        let classes = target.classes().map_or(0, |classes| classes.count());
        if curves.is_some_and(|curves| classes == 0 || curves != target.outputs()) {
            return Some("its calibration isn't for its classes".to_owned());
        }
        if self.threshold.as_ref().is_some_and(|threshold| classes != 2 || !threshold.at.is_finite()) {
            return Some("its threshold isn't for its classes".to_owned());
        }
        None
    }
}

/// Checks that a target can have what is asked for, before anything is trained.
pub fn check(
    calibrate: Option<Calibrate>,
    threshold: Option<&steps::Threshold>,
    target: &Target,
) -> Result<(), DecisionError> {
    let number = |what| DecisionError::Number { what, target: target.column.clone() };
    let classes = target.classes().map(|classes| classes.count());
    if calibrate.is_some() && classes.is_none() {
        return Err(number("calibrate"));
    }
    if let Some(threshold) = threshold {
        aim(threshold)?;
        match classes {
            None => return Err(number("threshold")),
            Some(2) => {}
            Some(classes) => return Err(DecisionError::Classes { target: target.column.clone(), classes }),
        }
    }
    Ok(())
}

/// Fits what is asked for to rows that the model hasn't learned from: first the calibration, then the threshold on the
/// calibrated probabilities. Both on the same rows: the curves never fall, so they hardly touch which rows a threshold
/// parts.
pub fn fit(
    model: Model,
    calibrate: Option<Calibrate>,
    threshold: Option<&steps::Threshold>,
    kept: &[arrow::array::RecordBatch],
) -> Result<Model, DecisionError> {
    check(calibrate, threshold, model.target())?;
    let Some(classes) = model.target().classes().map(|classes| classes.count()) else { return Ok(model) };
    let (mut scores, mut truth): (Vec<f64>, Vec<u32>) = (Vec::new(), Vec::new());
    for batch in kept {
        truth.extend(model.target().values(batch)?.iter().map(|&class| class as u32));
        if let super::Predictions::Classes { probabilities, .. } = model.predict(batch)? {
            match classes {
                2 => scores.extend(probabilities.chunks(2).map(|row| row[1])),
                _ => scores.extend(probabilities),
            }
        }
    }
    let rows = truth.len();
    let calibration = match calibrate {
        Some(method) => {
            let method = match method {
                Calibrate::Platt => Method::Platt,
                Calibrate::Isotonic => Method::Isotonic,
            };
            let fitted = Calibration::fit(method, &scores, &truth, classes, None);
            let fitted = fitted.map_err(|source| DecisionError::Calibrate { rows, source })?;
            fitted.apply(&mut scores);
            Some(fitted)
        }
        None => None,
    };
    let threshold = match threshold {
        Some(threshold) => {
            let aim = aim(threshold)?;
            let positive: Vec<bool> = truth.iter().map(|&class| class == 1).collect();
            let choice = choose(&scores, &positive, None, &aim);
            let choice = choice.map_err(|source| DecisionError::Threshold { rows, source })?;
            Some(Threshold { at: choice.threshold, aim, value: choice.value })
        }
        None => None,
    };
    Ok(model.with_decision(Decision { calibration, threshold, rows: rows as u64 })?)
}

/// What a pipeline's threshold is chosen for.
fn aim(threshold: &steps::Threshold) -> Result<Aim, DecisionError> {
    if let Some(metric) = threshold.metric {
        return Ok(match metric {
            ThresholdMetric::Accuracy => Aim::Accuracy,
            ThresholdMetric::BalancedAccuracy => Aim::BalancedAccuracy,
            ThresholdMetric::F1 => Aim::F1,
            ThresholdMetric::Mcc => Aim::Mcc,
            ThresholdMetric::Youden => Aim::Youden,
        });
    }
    if let Some(costs) = threshold.costs {
        let matrix =
            vec![vec![costs.true_negative, costs.false_positive], vec![costs.false_negative, costs.true_positive]];
        return Ok(Aim::Cost(CostMatrix::try_from(matrix)?));
    }
    match (threshold.min_recall, threshold.min_precision) {
        (Some(recall), _) => Ok(Aim::PrecisionAtRecall { recall }),
        (None, Some(precision)) => Ok(Aim::RecallAtPrecision { precision }),
        (None, None) => Err(DecisionError::NoAim),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::Evaluator;
    use crate::samples::{algorithm, model, village, village_features};

    fn fitted(target: &str, calibrate: Option<Calibrate>, threshold: Option<serde_json::Value>) -> (Model, Model) {
        let village = village(3_000);
        let forest = algorithm(json!({"random_forest": {"trees": 10, "max_depth": 12}}));
        let plain = model(&village.slice(0, 1_000), target, &village_features(json!({})), &forest);
        let threshold: Option<steps::Threshold> = threshold.map(|json| serde_json::from_value(json).unwrap());
        let kept = village.slice(1_000, 1_000);
        (plain.clone(), fit(plain, calibrate, threshold.as_ref(), &[kept]).unwrap())
    }

    fn metric(model: &Model, name: &str) -> f64 {
        let rest = village(3_000).slice(2_000, 1_000);
        let mut evaluator = Evaluator::new(model);
        evaluator.push(&model.predict(&rest).unwrap(), &model.target().values(&rest).unwrap());
        evaluator.metrics()[name]
    }

    #[test]
    fn calibrated_probabilities_are_nearer_to_what_happens_and_stay_in_the_model() {
        for target in ["yes", "grade"] {
            for method in [Calibrate::Platt, Calibrate::Isotonic] {
                let (plain, calibrated) = fitted(target, Some(method), None);
                let (before, after) = (metric(&plain, "brier"), metric(&calibrated, "brier"));
                assert!(after <= before + 0.005, "{target} {method:?}: {after} instead of {before}");
                assert_eq!(Model::from_bytes(&calibrated.to_bytes()).unwrap(), calibrated);
                assert_ne!(plain.to_bytes(), calibrated.to_bytes());
                let rest = village(50);
                let Ok(super::super::Predictions::Classes { classes, probabilities, .. }) = calibrated.predict(&rest)
                else {
                    panic!("classes are predicted")
                };
                for row in probabilities.chunks(classes.count()) {
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row:?}");
                }
            }
        }
    }

    #[test]
    fn a_threshold_decides_the_prediction() {
        let (plain, cautious) = fitted("yes", None, Some(json!({"min_recall": 0.98})));
        assert!(cautious.threshold().unwrap() < 0.5);
        assert!(metric(&cautious, "recall") > metric(&plain, "recall"));
        assert_eq!(metric(&cautious, "roc_auc"), metric(&plain, "roc_auc"));
        let rest = village(500);
        let predictions = cautious.predict(&rest).unwrap();
        let super::super::Predictions::Classes { probabilities, .. } = &predictions else { panic!("classes") };
        let expected: Vec<usize> =
            probabilities.chunks(2).map(|row| usize::from(row[1] >= cautious.threshold().unwrap())).collect();
        assert_eq!(predictions.class_indexes(), expected);
        let before: usize = plain.predict(&rest).unwrap().class_indexes().iter().sum();
        assert!(expected.iter().sum::<usize>() > before);
    }

    #[test]
    fn dear_misses_lower_the_threshold_and_dear_alarms_raise_it() {
        let at = |json| fitted("yes", Some(Calibrate::Platt), Some(json)).1.threshold().unwrap();
        let low = at(json!({"costs": {"false_positive": 1, "false_negative": 9}}));
        let high = at(json!({"costs": {"false_positive": 9, "false_negative": 1}}));
        // Elkan (2001): 1 / 10 and 9 / 10 of calibrated probabilities.
        assert!(low < 0.4 && high > 0.6, "{low} {high}");
    }

    #[test]
    fn what_has_no_two_classes_is_refused() {
        let village = village(300);
        let ridge = algorithm(json!({"ridge": {}}));
        let number = model(&village, "price", &village_features(json!({})), &ridge);
        let error = fit(number, Some(Calibrate::Platt), None, &[]).unwrap_err();
        assert_eq!(error.to_string(), "`calibrate` is for classes, and the target `price` is a number");
        let tree = algorithm(json!({"decision_tree": {}}));
        let grades = model(&village, "grade", &village_features(json!({})), &tree);
        let threshold: steps::Threshold = serde_json::from_value(json!({"metric": "f1"})).unwrap();
        let error = fit(grades, None, Some(&threshold), &[]).unwrap_err();
        assert_eq!(error.to_string(), "`threshold` parts two classes, and the target `grade` has 3");
        let yes = model(&village, "yes", &village_features(json!({})), &algorithm(json!({"decision_tree": {}})));
        let error = fit(yes, None, Some(&threshold), &[]).unwrap_err();
        assert_eq!(error.to_string(), "no threshold can be chosen on the 0 rows kept apart");
    }
}
