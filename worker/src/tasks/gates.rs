//! Whether what was measured is good enough: a verdict for each gate, in a sentence with the numbers.
//!
//! Gates fail closed: what wasn't or can't be measured didn't pass.

use std::collections::BTreeMap;

use gristmill_learn::fair::Spread;
use gristmill_ml::assess::Assessment;
use gristmill_ml::metrics::{Comparison, Direction, MetricInterval, PairedTest};
use gristmill_protocol::pipeline::steps::{Apart, Budget, End, FairnessMeasure, Gate, Wrong};

use crate::documents::GateResult;

/// The largest p-value that passes where a gate names none.
const P_MAX: f64 = 0.05;

/// The verdict on a gate that compares with no other model.
pub(crate) fn judge(gate: &Gate, metrics: &BTreeMap<String, f64>, assessment: &Assessment) -> GateResult {
    match subject(gate, metrics, assessment) {
        Ok((what, value)) => bounded(gate, &what, value),
        Err(message) => GateResult { passed: false, message },
    }
}

/// What a gate is about, and its number; else why there is none.
fn subject(gate: &Gate, metrics: &BTreeMap<String, f64>, assessment: &Assessment) -> Result<(String, f64), String> {
    if let Some(apart) = gate.fairness {
        return fairness(gate, apart, assessment);
    }
    if let Some(wrong) = gate.flips {
        let name = wrong_name(wrong);
        let found = assessment.robustness.iter().find(|way| way.wrong == wrong).and_then(|way| way.flips);
        let value = found.ok_or_else(|| format!("the share of predictions flipped by {name} can't be computed"))?;
        return Ok((format!("the share of predictions flipped by {name}"), value));
    }
    match gate.budget {
        Some(Budget::ModelBytes) => {
            return Ok(("the size of the model in bytes".to_owned(), assessment.model_bytes as f64));
        }
        Some(Budget::RowUs) => {
            let value = assessment.row_us.ok_or("the time of one row wasn't measured")?;
            return Ok(("the time of one row in µs (p50)".to_owned(), value));
        }
        None => {}
    }
    let metric = gate.metric.as_deref().ok_or("the gate names no metric")?;
    let (values, intervals, place) = match &gate.slice {
        None => (metrics, &assessment.intervals, String::new()),
        Some(name) => {
            let slice = assessment.slices.iter().find(|slice| slice.name == *name);
            let slice = slice.ok_or_else(|| format!("there is no slice `{name}`"))?;
            (&slice.metrics, &slice.intervals, format!(" in the slice `{name}` of {} rows", slice.rows))
        }
    };
    match gate.bound {
        None => {
            let value =
                values.get(metric).ok_or_else(|| format!("`{metric}`{place} can't be computed for this model"))?;
            Ok((format!("`{metric}`{place}"), *value))
        }
        Some(end) => {
            let MetricInterval { low, high } =
                intervals.get(metric).ok_or_else(|| format!("`{metric}`{place} has no confidence interval"))?;
            let (which, value) = match end {
                End::Lower => ("lower", *low),
                End::Upper => ("upper", *high),
            };
            let level = assessment.level * 100.0;
            Ok((format!("the {which} end of the {level:.0} % interval of `{metric}`{place}"), value))
        }
    }
}

fn fairness(gate: &Gate, apart: Apart, assessment: &Assessment) -> Result<(String, f64), String> {
    let by = match &gate.by {
        Some(column) => assessment.fairness.iter().find(|by| by.column == *column),
        None => assessment.fairness.first().filter(|_| assessment.fairness.len() == 1),
    };
    let by = by.ok_or_else(|| match &gate.by {
        Some(column) => format!("groups of `{column}` weren't compared"),
        None => "the gate doesn't say whose groups it compares".to_owned(),
    })?;
    let measure = gate.measure.unwrap_or_default();
    let (rates, spread) = match measure {
        FairnessMeasure::DemographicParity => ("selection rates", by.found.demographic_parity),
        FairnessMeasure::EqualOpportunity => ("true positive rates", by.found.equal_opportunity),
        FairnessMeasure::EqualisedOdds => ("true and false positive rates", by.found.equalised_odds),
        FairnessMeasure::PredictiveParity => ("precisions", by.found.predictive_parity),
    };
    let column = &by.column;
    let Spread { difference, ratio } = spread
        .ok_or_else(|| format!("fewer than two groups of `{column}` have {} rows to compare {rates}", by.min_rows))?;
    Ok(match apart {
        Apart::Ratio => (format!("the ratio of the smallest to the largest of the {rates} by `{column}`"), ratio),
        Apart::Difference => (format!("the difference of the {rates} by `{column}`"), difference),
    })
}

fn wrong_name(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Noise => "noise",
        Wrong::Missing => "missing values",
        Wrong::OutOfRange => "values out of range",
    }
}

/// A number within its bounds, or by how much it isn't. What is no number is in no bounds.
fn bounded(gate: &Gate, what: &str, value: f64) -> GateResult {
    let required = match (gate.min, gate.max) {
        (Some(min), Some(max)) => format!("from {min} to {max} is required"),
        (Some(min), None) => format!("at least {min} is required"),
        (None, Some(max)) => format!("at most {max} is required"),
        (None, None) => return GateResult { passed: false, message: format!("the gate on {what} has no bound") },
    };
    let found = format!("{what} is {}; {required}", shown(value));
    let missed = match (gate.min, gate.max) {
        (Some(min), _) if value < min => Some(format!("{} too low", shown(min - value))),
        (_, Some(max)) if value > max => Some(format!("{} too high", shown(value - max))),
        _ if value.is_nan() => Some("it is no number".to_owned()),
        _ => None,
    };
    match missed {
        Some(by) => GateResult { passed: false, message: format!("{found}: {by}") },
        None => GateResult { passed: true, message: found },
    }
}

/// Four places, as metrics are told; whole numbers as they are, and small differences with what they have.
fn shown(value: f64) -> String {
    match value.abs() {
        size if value.fract() == 0.0 && size >= 1.0 => format!("{value:.0}"),
        size if size > 0.0 && size < 0.000_1 => format!("{value:.1e}"),
        _ => format!("{value:.4}"),
    }
}

/// How a model stands against another.
pub(crate) struct Standing<'a> {
    pub metric: &'a str,
    pub alias: &'a str,
    pub ours: f64,
    pub theirs: f64,
    pub direction: Direction,
}

/// The verdict on a gate that compares with another model.
pub(crate) fn beats(gate: &Gate, standing: &Standing<'_>, comparison: Option<&Comparison>) -> GateResult {
    let Standing { metric, alias, ours, theirs, direction } = standing;
    let no_worse = direction.no_worse(*ours, *theirs);
    let better = no_worse && !direction.no_worse(*theirs, *ours);
    let mut message = format!("`{metric}` is {ours:.4}; `{alias}` has {theirs:.4} on the same rows");
    if !no_worse {
        let by = match direction {
            Direction::NearerToZero => ours.abs() - theirs.abs(),
            Direction::Larger | Direction::Smaller => ours - theirs,
        };
        message += &format!(": {} worse", shown(by.abs()));
    }
    if !gate.significant {
        return GateResult { passed: no_worse, message };
    }
    let p_max = gate.p_max.unwrap_or(P_MAX);
    let Some(comparison) = comparison else {
        return GateResult { passed: false, message: format!("{message}; no test can tell them apart") };
    };
    let test = match comparison.test {
        PairedTest::Delong => "DeLong's test",
        PairedTest::Mcnemar => "McNemar's test",
        PairedTest::Bootstrap => "the paired bootstrap",
    };
    let p = comparison.p;
    let passed = better && p <= p_max;
    message += &format!("; p is {} by {test}, and at most {p_max} is required", shown(p));
    if !better && no_worse {
        message += ": it isn't better";
    } else if p > p_max {
        message += &format!(": {} too high", shown(p - p_max));
    }
    GateResult { passed, message }
}

#[cfg(test)]
mod tests {
    use gristmill_learn::fair::{Counts, fairness};
    use gristmill_ml::assess::{ByGroup, Perturbed, Slice};
    use serde_json::{Value, json};

    use super::*;

    fn gate(json: Value) -> Gate {
        serde_json::from_value(json).expect("a gate")
    }

    fn assessment() -> Assessment {
        let interval = BTreeMap::from([("roc_auc".to_owned(), MetricInterval { low: 0.83, high: 0.87 })]);
        let counts =
            |selected, rows| Counts { true_positives: selected, true_negatives: rows - selected, ..Counts::default() };
        let groups = vec![("a".to_owned(), counts(50, 100)), ("b".to_owned(), counts(30, 100))];
        Assessment {
            level: 0.95,
            intervals: interval.clone(),
            slices: vec![Slice {
                name: "jfk".to_owned(),
                condition: "origin = 'JFK'".to_owned(),
                rows: 120,
                metrics: BTreeMap::from([("roc_auc".to_owned(), 0.8)]),
                intervals: interval,
            }],
            fairness: vec![ByGroup {
                column: "carrier".to_owned(),
                positive: "true".to_owned(),
                min_rows: 100,
                found: fairness(groups, 100),
            }],
            robustness: vec![Perturbed {
                wrong: Wrong::Noise,
                amount: 0.1,
                rows: 1_000,
                flips: Some(0.125),
                shift: None,
            }],
            model_bytes: 2_000_000,
            row_us: Some(12.5),
            ..Assessment::default()
        }
    }

    #[test]
    fn each_gate_says_what_was_found_and_what_is_missing() {
        let metrics = BTreeMap::from([("roc_auc".to_owned(), 0.85)]);
        let cases = [
            (json!({"metric": "roc_auc", "min": 0.8}), true, "`roc_auc` is 0.8500; at least 0.8 is required"),
            (
                json!({"metric": "roc_auc", "min": 0.9}),
                false,
                "`roc_auc` is 0.8500; at least 0.9 is required: 0.0500 too low",
            ),
            (
                json!({"metric": "roc_auc", "bound": "lower", "min": 0.84}),
                false,
                "the lower end of the 95 % interval of `roc_auc` is 0.8300; at least 0.84 is required: 0.0100 too low",
            ),
            (
                json!({"metric": "roc_auc", "bound": "upper", "max": 0.9}),
                true,
                "the upper end of the 95 % interval of `roc_auc` is 0.8700; at most 0.9 is required",
            ),
            (
                json!({"metric": "roc_auc", "slice": "jfk", "min": 0.85}),
                false,
                "`roc_auc` in the slice `jfk` of 120 rows is 0.8000; at least 0.85 is required: 0.0500 too low",
            ),
            (
                json!({"fairness": "ratio", "min": 0.8}),
                false,
                "the ratio of the smallest to the largest of the selection rates by `carrier` is 0.6000; at least 0.8 \
                 is required: 0.2000 too low",
            ),
            (
                json!({"fairness": "difference", "by": "carrier", "max": 0.1}),
                false,
                "the difference of the selection rates by `carrier` is 0.2000; at most 0.1 is required: 0.1000 too high",
            ),
            (
                json!({"fairness": "ratio", "measure": "equal_opportunity", "min": 0.8}),
                false,
                "fewer than two groups of `carrier` have 100 rows to compare true positive rates",
            ),
            (
                json!({"flips": "noise", "max": 0.1}),
                false,
                "the share of predictions flipped by noise is 0.1250; at most 0.1 is required: 0.0250 too high",
            ),
            (
                json!({"budget": "model_bytes", "max": 1_000_000.0}),
                false,
                "the size of the model in bytes is 2000000; at most 1000000 is required: 1000000 too high",
            ),
            (
                json!({"budget": "row_us", "max": 20.0}),
                true,
                "the time of one row in µs (p50) is 12.5000; at most 20 is required",
            ),
        ];
        for (json, passed, message) in cases {
            let result = judge(&gate(json), &metrics, &assessment());
            assert_eq!((result.passed, result.message.as_str()), (passed, message));
        }
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let nothing = Assessment::default();
        for json in [
            json!({"metric": "f1", "min": 0.0}),
            json!({"metric": "roc_auc", "bound": "lower", "min": 0.0}),
            json!({"metric": "roc_auc", "slice": "jfk", "min": 0.0}),
            json!({"fairness": "ratio", "min": 0.0}),
            json!({"flips": "missing", "max": 1.0}),
            json!({"budget": "row_us", "max": 1e9}),
            json!({}),
        ] {
            let result = judge(&gate(json), &BTreeMap::from([("roc_auc".to_owned(), f64::NAN)]), &nothing);
            assert!(!result.passed, "{}", result.message);
        }
        let result =
            judge(&gate(json!({"metric": "r2", "min": 0.1})), &BTreeMap::from([("r2".to_owned(), f64::NAN)]), &nothing);
        assert!(!result.passed, "{}", result.message);
    }

    #[test]
    fn better_is_not_enough_where_it_must_be_sure() {
        let standing = |ours, theirs| Standing {
            metric: "roc_auc",
            alias: "champion",
            ours,
            theirs,
            direction: Direction::Larger,
        };
        let tested = |p| Comparison {
            other: "champion".to_owned(),
            metric: "roc_auc".to_owned(),
            ours: 0.9,
            theirs: 0.89,
            test: PairedTest::Delong,
            p,
            rows: 1_000,
            difference: None,
        };
        let plain = gate(json!({"beats": "champion"}));
        let sure = gate(json!({"beats": "champion", "significant": true, "p_max": 0.01}));
        assert!(beats(&plain, &standing(0.9, 0.9), None).passed);
        let worse = beats(&plain, &standing(0.88, 0.9), None);
        assert!(!worse.passed && worse.message.ends_with("on the same rows: 0.0200 worse"), "{}", worse.message);
        assert!(beats(&sure, &standing(0.9, 0.89), Some(&tested(0.001))).passed);
        let unsure = beats(&sure, &standing(0.9, 0.89), Some(&tested(0.03)));
        assert_eq!(
            unsure.message,
            "`roc_auc` is 0.9000; `champion` has 0.8900 on the same rows; p is 0.0300 by DeLong's test, and at most 0.01 \
             is required: 0.0200 too high"
        );
        assert!(!unsure.passed);
        assert!(!beats(&sure, &standing(0.88, 0.89), Some(&tested(0.001))).passed);
        assert!(!beats(&sure, &standing(0.9, 0.9), Some(&tested(0.001))).passed);
        assert!(!beats(&sure, &standing(0.9, 0.89), None).passed);
    }
}
