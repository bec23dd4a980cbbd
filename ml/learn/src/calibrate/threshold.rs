//! The score from which on a row counts as positive, chosen for what matters.
//!
//! A row is positive when its score is **at least** the threshold. Thresholds lie half-way between two scores
//! that occur, so that rows near them are as far from it on either side. A ratio without rows is 0, as
//! in the metrics.

use serde::{Deserialize, Serialize};

use super::costs::CostMatrix;

/// What is to be as good as can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    Accuracy,
    BalancedAccuracy,
    F1,
    /// Recall counts `beta` times as much as precision (van Rijsbergen 1979).
    FBeta {
        beta: f64,
    },
    /// Matthews' correlation.
    Mcc,
    /// Recall plus specificity minus 1 (Youden 1950).
    Youden,
    /// The best precision with at least this recall.
    PrecisionAtRecall {
        recall: f64,
    },
    /// The best recall with at least this precision.
    RecallAtPrecision {
        precision: f64,
    },
    /// The smallest mean cost.
    Cost(CostMatrix),
}

/// Weights of rows by truth and decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    pub true_positives: f64,
    pub false_positives: f64,
    pub true_negatives: f64,
    pub false_negatives: f64,
}

/// A threshold and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub threshold: f64,
    /// Of the aim: the metric, or the mean cost.
    pub value: f64,
    pub outcomes: Outcomes,
}

/// Why there is no threshold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    #[error("there are {scores} scores, {truth} rows of truth and {weights} weights")]
    Shape { scores: usize, truth: usize, weights: usize },
    #[error("the score of row {row} is `{score}`")]
    Score { row: usize, score: f64 },
    #[error("the weight of row {row} is `{weight}`; it is a number of at least 0")]
    Weight { row: usize, weight: f64 },
    #[error("a threshold is chosen on rows of both classes, and there are rows of one or none")]
    OneClass,
    #[error("`{setting}` is {value}; it is {range}")]
    Setting { setting: &'static str, value: f64, range: &'static str },
    #[error("a threshold parts two classes, and the cost matrix has {classes}")]
    Costs { classes: usize },
    #[error("no threshold has a precision of {wanted}; the best is {best}")]
    Unreachable { wanted: f64, best: f64 },
}

impl Outcomes {
    fn rows(&self) -> f64 {
        self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
    }

    pub fn precision(&self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    pub fn recall(&self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Share of the negative rows that are taken for negative.
    pub fn specificity(&self) -> f64 {
        ratio(self.true_negatives, self.true_negatives + self.false_positives)
    }

    fn f_beta(&self, beta: f64) -> f64 {
        let hits = (1.0 + beta * beta) * self.true_positives;
        ratio(hits, hits + beta * beta * self.false_negatives + self.false_positives)
    }

    fn mcc(&self) -> f64 {
        let Outcomes { true_positives: tp, false_positives: fp, true_negatives: tn, false_negatives: fn_ } = *self;
        // Root by root, since the product of four counts of a large table isn't exact.
        let spread = (tp + fp).sqrt() * (tp + fn_).sqrt() * (tn + fp).sqrt() * (tn + fn_).sqrt();
        ratio(tp * tn - fp * fn_, spread)
    }

    fn cost(&self, costs: &CostMatrix) -> f64 {
        let sum = self.true_negatives * costs.cost(0, 0)
            + self.false_positives * costs.cost(0, 1)
            + self.false_negatives * costs.cost(1, 0)
            + self.true_positives * costs.cost(1, 1);
        sum / self.rows()
    }
}

impl Aim {
    fn check(&self) -> Result<(), ThresholdError> {
        let within = |setting, value: f64| {
            let range = "over 0 and at most 1";
            if value > 0.0 && value <= 1.0 { Ok(()) } else { Err(ThresholdError::Setting { setting, value, range }) }
        };
        match self {
            Aim::FBeta { beta } if !(*beta > 0.0 && beta.is_finite()) => {
                Err(ThresholdError::Setting { setting: "beta", value: *beta, range: "over 0" })
            }
            Aim::PrecisionAtRecall { recall } => within("recall", *recall),
            Aim::RecallAtPrecision { precision } => within("precision", *precision),
            Aim::Cost(costs) if costs.classes() != 2 => Err(ThresholdError::Costs { classes: costs.classes() }),
            _ => Ok(()),
        }
    }

    /// The aim's value, and what of equal values is better; none when the outcomes miss what is required.
    fn value(&self, outcomes: &Outcomes) -> Option<(f64, f64)> {
        let plain = |value: f64| Some((value, 0.0));
        match self {
            Aim::Accuracy => plain((outcomes.true_positives + outcomes.true_negatives) / outcomes.rows()),
            Aim::BalancedAccuracy => plain((outcomes.recall() + outcomes.specificity()) / 2.0),
            Aim::F1 => plain(outcomes.f_beta(1.0)),
            Aim::FBeta { beta } => plain(outcomes.f_beta(*beta)),
            Aim::Mcc => plain(outcomes.mcc()),
            Aim::Youden => plain(outcomes.recall() + outcomes.specificity() - 1.0),
            Aim::PrecisionAtRecall { recall } => {
                (outcomes.recall() >= *recall).then(|| (outcomes.precision(), outcomes.recall()))
            }
            Aim::RecallAtPrecision { precision } => {
                (outcomes.precision() >= *precision).then(|| (outcomes.recall(), outcomes.precision()))
            }
            Aim::Cost(costs) => plain(outcomes.cost(costs)),
        }
    }

    /// Whether smaller values of the aim are better.
    pub fn smaller_is_better(&self) -> bool {
        matches!(self, Aim::Cost(_))
    }
}

/// The best threshold for rows of two classes. Of equally good ones the one nearest to 0.5, and of two as near
/// the larger: small changes of the rows then change it the least. Taking all rows for positive has the
/// lowest score as its threshold, taking none the next number above the highest.
pub fn choose(scores: &[f64], positive: &[bool], weights: Option<&[f64]>, aim: &Aim) -> Result<Choice, ThresholdError> {
    aim.check()?;
    let given = weights.map_or(scores.len(), <[f64]>::len);
    if scores.len() != positive.len() || given != scores.len() {
        return Err(ThresholdError::Shape { scores: scores.len(), truth: positive.len(), weights: given });
    }
    if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
        return Err(ThresholdError::Score { row, score: scores[row] });
    }
    let weight = |row: usize| weights.map_or(1.0, |weights| weights[row]);
    if let Some(row) = (0..scores.len()).find(|row| !(weight(*row) >= 0.0 && weight(*row).is_finite())) {
        return Err(ThresholdError::Weight { row, weight: weight(row) });
    }
    // Rows without weight have no say in where thresholds can lie either.
    let mut order: Vec<usize> = (0..scores.len()).filter(|row| weight(*row) > 0.0).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let total = |class: bool| order.iter().filter(|row| positive[**row] == class).map(|row| weight(*row)).sum::<f64>();
    let (positives, negatives) = (total(true), total(false));
    if positives == 0.0 || negatives == 0.0 {
        return Err(ThresholdError::OneClass);
    }
    let mut best: Option<(Choice, f64)> = None;
    let mut best_precision = 0.0_f64;
    let mut consider = |threshold: f64, true_positives: f64, false_positives: f64| {
        let outcomes = Outcomes {
            true_positives,
            false_positives,
            true_negatives: (negatives - false_positives).max(0.0),
            false_negatives: (positives - true_positives).max(0.0),
        };
        best_precision = best_precision.max(outcomes.precision());
        let Some((value, second)) = aim.value(&outcomes) else { return };
        let choice = Choice { threshold, value, outcomes };
        if best.is_none_or(|(other, other_second)| {
            let gain = if aim.smaller_is_better() { other.value - value } else { value - other.value };
            let distance = |threshold: f64| (threshold - 0.5).abs();
            let nearer = distance(other.threshold).total_cmp(&distance(threshold));
            gain.total_cmp(&0.0)
                .then(second.total_cmp(&other_second))
                .then(nearer)
                .then(threshold.total_cmp(&other.threshold))
                .is_gt()
        }) {
            best = Some((choice, second));
        }
    };
    consider(scores[order[0]].next_up(), 0.0, 0.0);
    let (mut true_positives, mut false_positives) = (0.0, 0.0);
    for (place, &row) in order.iter().enumerate() {
        if positive[row] {
            true_positives += weight(row)
        } else {
            false_positives += weight(row)
        }
        match order.get(place + 1).map(|next| scores[*next]) {
            Some(next) if next == scores[row] => {}
            Some(next) => consider(between(next, scores[row]), true_positives, false_positives),
            None => consider(scores[row], positives, negatives),
        }
    }
    let unreachable = |wanted: f64| ThresholdError::Unreachable { wanted, best: best_precision };
    match (best, aim) {
        (Some((choice, _)), _) => Ok(choice),
        (None, Aim::RecallAtPrecision { precision }) => Err(unreachable(*precision)),
        (None, _) => Err(unreachable(1.0)),
    }
}

/// A number above `low` and at most `high`, in the middle if there is one.
fn between(low: f64, high: f64) -> f64 {
    let middle = low + (high - low) / 2.0;
    if middle > low && middle <= high { middle } else { high }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
