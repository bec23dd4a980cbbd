//! What a report draws: few points, chosen by rules, so that equal evaluations draw equal charts.

use serde::{Deserialize, Serialize};

use super::classification::{Confusion, Ranking, calibration_bins};

/// Points of a curve at the most: more than a chart has pixels to tell apart.
const CURVE_POINTS: usize = 200;
/// Bins of histograms.
const HISTOGRAM_BINS: usize = 30;
/// Rows shown of predicted against actual values.
const SCATTER_POINTS: usize = 500;
/// Classes that get curves of their own; more can't be told apart in a chart.
const CURVE_CLASSES: usize = 10;

/// The charts of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charts {
    Classification(ClassificationCharts),
    Regression(RegressionCharts),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassificationCharts {
    pub classes: Vec<String>,
    /// Rows by true class (first index) and predicted class.
    pub confusion: Vec<Vec<u64>>,
    /// Of the positive class; of more than two, of each of the first ten that have rows on both sides.
    pub curves: Vec<ClassCurve>,
}

/// The curves of one class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassCurve {
    pub class: String,
    /// True positive rate (y) over false positive rate (x).
    pub roc: Vec<Point>,
    /// Precision (y) over recall (x).
    pub precision_recall: Vec<Point>,
    pub calibration: Vec<CalibrationBin>,
    /// Rows by score.
    pub scores: Vec<ScoreBin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

/// Rows whose probability lies in one tenth of 0 to 1; empty bins are left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    pub rows: u64,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of them that are of the class.
    pub observed: f64,
}

/// Rows whose score is at least `from` and under the next bin's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreBin {
    pub from: f64,
    pub of_class: u64,
    pub of_rest: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegressionCharts {
    /// Actual (x) and predicted (y) of rows evenly picked.
    pub scatter: Vec<Point>,
    /// Predicted minus actual.
    pub residuals: Vec<Bin>,
}

/// Rows whose value is at least `from` and under the next bin's; the last holds the largest too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub rows: u64,
}

pub(super) fn classification(
    probabilities: &[f64],
    truth: &[u8],
    names: &[String],
    threshold: Option<f64>,
) -> ClassificationCharts {
    let classes = names.len();
    let shown = if classes == 2 { 1..2 } else { 0..classes };
    let curves = shown.filter_map(|class| {
        let scores: Vec<f64> = match classes {
            2 => probabilities.to_vec(),
            _ => probabilities.iter().skip(class).step_by(classes).copied().collect(),
        };
        let of_class: Vec<bool> = truth.iter().map(|&label| usize::from(label) == class).collect();
        class_curve(&names[class], &scores, &of_class)
    });
    ClassificationCharts {
        classes: names.to_vec(),
        confusion: Confusion::count(probabilities, truth, classes, threshold).counts,
        curves: curves.take(CURVE_CLASSES).collect(),
    }
}

/// None when all rows are on one side.
fn class_curve(name: &str, scores: &[f64], of_class: &[bool]) -> Option<ClassCurve> {
    let ranking = Ranking::new(scores.iter().copied(), of_class.iter().copied());
    if ranking.positives == 0 || ranking.negatives == 0 {
        return None;
    }
    let (positives, negatives) = (ranking.positives as f64, ranking.negatives as f64);
    let roc = ranking.steps.iter().map(|&(_, tp, fp)| Point { x: fp as f64 / negatives, y: tp as f64 / positives });
    let roc = thin(std::iter::once(Point { x: 0.0, y: 0.0 }).chain(roc));
    let precision_recall =
        ranking.steps.iter().map(|&(_, tp, fp)| Point { x: tp as f64 / positives, y: tp as f64 / (tp + fp) as f64 });
    let calibration = calibration_bins(scores.iter().copied().zip(of_class.iter().copied()))
        .iter()
        .filter(|bin| bin.0 > 0)
        .map(|&(rows, sum, hits)| CalibrationBin { rows, predicted: sum / rows as f64, observed: hits / rows as f64 })
        .collect();
    let mut bins: Vec<ScoreBin> = (0..HISTOGRAM_BINS)
        .map(|at| ScoreBin { from: at as f64 / HISTOGRAM_BINS as f64, of_class: 0, of_rest: 0 })
        .collect();
    for (&score, &of_class) in scores.iter().zip(of_class) {
        let bin = &mut bins[((score * HISTOGRAM_BINS as f64) as usize).min(HISTOGRAM_BINS - 1)];
        bin.of_class += u64::from(of_class);
        bin.of_rest += u64::from(!of_class);
    }
    Some(ClassCurve {
        class: name.to_owned(),
        roc,
        precision_recall: thin(precision_recall),
        calibration,
        scores: bins,
    })
}

/// Keeps the first and last point, and between them one each time the curve has moved on by its share.
fn thin(points: impl Iterator<Item = Point> + Clone) -> Vec<Point> {
    let step = |from: Point, to: Point| (to.x - from.x).abs() + (to.y - from.y).abs();
    let length: f64 = points.clone().zip(points.clone().skip(1)).map(|(from, to)| step(from, to)).sum();
    let share = length / (CURVE_POINTS - 2) as f64;
    let mut kept: Vec<Point> = Vec::with_capacity(CURVE_POINTS);
    let (mut moved, mut last) = (0.0, None);
    for point in points {
        if let Some(last) = last {
            moved += step(last, point);
        }
        if last.is_none() || (moved >= share && kept.len() < CURVE_POINTS - 1) {
            kept.push(point);
            moved = 0.0;
        }
        last = Some(point);
    }
    match last {
        Some(last) if kept.last() != Some(&last) => kept.push(last),
        _ => {}
    }
    kept
}

pub(super) fn regression(predicted: &[f64], actual: &[f64]) -> RegressionCharts {
    let every = actual.len().div_ceil(SCATTER_POINTS);
    let points = actual.iter().zip(predicted).step_by(every);
    let residuals: Vec<f64> = predicted.iter().zip(actual).map(|(predicted, actual)| predicted - actual).collect();
    RegressionCharts { scatter: points.map(|(&x, &y)| Point { x, y }).collect(), residuals: histogram(&residuals) }
}

fn histogram(values: &[f64]) -> Vec<Bin> {
    let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), &v| (min.min(v), max.max(v)));
    if min == max {
        return vec![Bin { from: min, to: max, rows: values.len() as u64 }];
    }
    let width = (max - min) / HISTOGRAM_BINS as f64;
    let edge = |at: usize| if at == HISTOGRAM_BINS { max } else { min + at as f64 * width };
    let mut bins: Vec<Bin> = (0..HISTOGRAM_BINS).map(|at| Bin { from: edge(at), to: edge(at + 1), rows: 0 }).collect();
    for value in values {
        bins[(((value - min) / width) as usize).min(HISTOGRAM_BINS - 1)].rows += 1;
    }
    bins
}
