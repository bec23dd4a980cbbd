//! Metrics of classifications. For more than two classes those made for two are taken class against rest
//! and averaged, each class counting the same ("macro").

use crate::model::is_positive;

/// Smallest probability whose logarithm is taken, as in scikit-learn.
pub(super) const PROBABILITY_MIN: f64 = f64::EPSILON;
/// Bins of the calibration error.
pub(super) const CALIBRATION_BINS: usize = 10;

/// All metrics; those that aren't defined are not a number. `probabilities` hold one a row for two classes
/// (of the positive one), else one a row and class.
pub(super) fn metrics(
    probabilities: &[f64],
    truth: &[u8],
    classes: usize,
    threshold: Option<f64>,
) -> Vec<(&'static str, f64)> {
    let confusion = Confusion::count(probabilities, truth, classes, threshold);
    let areas: Vec<(f64, f64)> = if classes == 2 {
        let ranking = Ranking::new(probabilities.iter().copied(), truth.iter().map(|&class| class == 1));
        vec![(ranking.roc_auc(), ranking.average_precision())]
    } else {
        (0..classes)
            .map(|class| {
                let scores = probabilities.iter().skip(class).step_by(classes).copied();
                let ranking = Ranking::new(scores, truth.iter().map(|&label| usize::from(label) == class));
                (ranking.roc_auc(), ranking.average_precision())
            })
            .collect()
    };
    let mean = |of: fn(&(f64, f64)) -> f64| areas.iter().map(of).sum::<f64>() / areas.len() as f64;
    let (precision, recall, f1) = confusion.precision_recall_f1();
    vec![
        ("accuracy", confusion.accuracy()),
        ("balanced_accuracy", confusion.balanced_accuracy()),
        ("brier", brier(probabilities, truth, classes)),
        ("ece", calibration_error(probabilities, truth, classes)),
        ("f1", f1),
        ("log_loss", log_loss(probabilities, truth, classes)),
        ("mcc", confusion.mcc()),
        ("pr_auc", mean(|(_, pr)| *pr)),
        ("precision", precision),
        ("recall", recall),
        ("roc_auc", mean(|(roc, _)| *roc)),
    ]
}

/// The index of the predicted class: the most probable, of equal ones the first; of two classes the second from the
/// model's threshold on, where it has one.
pub(super) fn predicted(probabilities: &[f64], classes: usize, threshold: Option<f64>, row: usize) -> usize {
    if classes == 2 {
        return usize::from(is_positive(probabilities[row], threshold));
    }
    let row = &probabilities[row * classes..(row + 1) * classes];
    (1..classes).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

/// Rows by falling score: at each distinct score the positives and negatives with that score or a higher one.
pub(super) struct Ranking {
    /// Score, true positives, false positives.
    pub steps: Vec<(f64, u64, u64)>,
    pub positives: u64,
    pub negatives: u64,
}

impl Ranking {
    pub fn new(scores: impl Iterator<Item = f64>, positive: impl Iterator<Item = bool>) -> Ranking {
        let mut rows: Vec<(f64, bool)> = scores.zip(positive).collect();
        // Equal scores are counted together, so their order doesn't matter.
        rows.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut steps: Vec<(f64, u64, u64)> = Vec::new();
        let (mut positives, mut negatives) = (0, 0);
        for (score, positive) in rows {
            positives += u64::from(positive);
            negatives += u64::from(!positive);
            match steps.last_mut() {
                Some(last) if last.0 == score => *last = (score, positives, negatives),
                _ => steps.push((score, positives, negatives)),
            }
        }
        Ranking { steps, positives, negatives }
    }

    /// Area under the curve of true against false positive rates: the chance that a positive row scores
    /// higher than a negative one, ties counting half (Hanley and McNeil 1982).
    pub fn roc_auc(&self) -> f64 {
        let mut area = 0.0;
        let (mut tp, mut fp) = (0, 0);
        for &(_, next_tp, next_fp) in &self.steps {
            area += (next_fp - fp) as f64 * (tp + next_tp) as f64 / 2.0;
            (tp, fp) = (next_tp, next_fp);
        }
        area / (self.positives as f64 * self.negatives as f64)
    }

    /// Average precision: precision at each step, weighted by how much recall rises there; no interpolation
    /// between steps (`average_precision_score`).
    pub fn average_precision(&self) -> f64 {
        let mut area = 0.0;
        let mut tp = 0;
        for &(_, next_tp, next_fp) in &self.steps {
            area += (next_tp - tp) as f64 * next_tp as f64 / (next_tp + next_fp) as f64;
            tp = next_tp;
        }
        area / self.positives as f64
    }
}

/// Rows by true class (first index) and predicted class.
pub(super) struct Confusion {
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    pub fn count(probabilities: &[f64], truth: &[u8], classes: usize, threshold: Option<f64>) -> Confusion {
        let mut counts = vec![vec![0; classes]; classes];
        for (row, &class) in truth.iter().enumerate() {
            counts[usize::from(class)][predicted(probabilities, classes, threshold, row)] += 1;
        }
        Confusion { counts }
    }

    fn classes(&self) -> usize {
        self.counts.len()
    }

    fn hits(&self, class: usize) -> f64 {
        self.counts[class][class] as f64
    }

    fn actual(&self, class: usize) -> f64 {
        self.counts[class].iter().sum::<u64>() as f64
    }

    fn predicted(&self, class: usize) -> f64 {
        self.counts.iter().map(|row| row[class]).sum::<u64>() as f64
    }

    fn rows(&self) -> f64 {
        (0..self.classes()).map(|class| self.actual(class)).sum()
    }

    /// Share of rows whose class was predicted.
    pub fn accuracy(&self) -> f64 {
        (0..self.classes()).map(|class| self.hits(class)).sum::<f64>() / self.rows()
    }

    /// Recall averaged over the classes that occur.
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = (0..self.classes())
            .filter(|&class| self.actual(class) > 0.0)
            .map(|class| self.hits(class) / self.actual(class))
            .collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }

    /// Of the positive class of two; for more the mean over classes that occur or are predicted. A ratio
    /// without rows is 0.
    pub fn precision_recall_f1(&self) -> (f64, f64, f64) {
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let of_class = |class: usize| {
            let (hits, actual, predicted) = (self.hits(class), self.actual(class), self.predicted(class));
            (ratio(hits, predicted), ratio(hits, actual), ratio(2.0 * hits, actual + predicted))
        };
        if self.classes() == 2 {
            return of_class(1);
        }
        let present: Vec<(f64, f64, f64)> = (0..self.classes())
            .filter(|&class| self.actual(class) + self.predicted(class) > 0.0)
            .map(of_class)
            .collect();
        let mean = |of: fn(&(f64, f64, f64)) -> f64| present.iter().map(of).sum::<f64>() / present.len() as f64;
        (mean(|scores| scores.0), mean(|scores| scores.1), mean(|scores| scores.2))
    }

    /// Matthews' correlation of truth and prediction, generalised to any number of classes (Gorodkin 2004);
    /// 0 when either never varies.
    pub fn mcc(&self) -> f64 {
        let rows = self.rows();
        let hits: f64 = (0..self.classes()).map(|class| self.hits(class)).sum();
        let (mut both, mut actual_squares, mut predicted_squares) = (0.0, 0.0, 0.0);
        for class in 0..self.classes() {
            let (actual, predicted) = (self.actual(class), self.predicted(class));
            both += actual * predicted;
            actual_squares += actual * actual;
            predicted_squares += predicted * predicted;
        }
        let spread = ((rows * rows - predicted_squares) * (rows * rows - actual_squares)).sqrt();
        if spread > 0.0 { (hits * rows - both) / spread } else { 0.0 }
    }
}

/// The probability given to a class.
pub(super) fn probability(probabilities: &[f64], classes: usize, row: usize, class: usize) -> f64 {
    match (classes, class) {
        (2, 1) => probabilities[row],
        (2, _) => 1.0 - probabilities[row],
        _ => probabilities[row * classes + class],
    }
}

/// Mean of the negative logarithm of the probability given to what happened.
fn log_loss(probabilities: &[f64], truth: &[u8], classes: usize) -> f64 {
    let losses = truth.iter().enumerate().map(|(row, &class)| {
        -probability(probabilities, classes, row, usize::from(class)).clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN).ln()
    });
    losses.sum::<f64>() / truth.len() as f64
}

/// Mean squared distance of probabilities from what happened (Brier 1950): of the positive class for two
/// classes, summed over all classes for more, as scikit-learn has it.
fn brier(probabilities: &[f64], truth: &[u8], classes: usize) -> f64 {
    let sum: f64 = if classes == 2 {
        truth.iter().zip(probabilities).map(|(&class, p)| (p - f64::from(class)).powi(2)).sum()
    } else {
        let rows = truth.iter().zip(probabilities.chunks(classes));
        rows.map(|(&class, row)| {
            row.iter()
                .enumerate()
                .map(|(at, p)| (p - f64::from(u8::from(at == usize::from(class)))).powi(2))
                .sum::<f64>()
        })
        .sum()
    };
    sum / truth.len() as f64
}

/// Expected calibration error with ten bins of equal width: how far the share of hits is from the mean
/// probability, weighted by rows (Naeini, Cooper and Hauskrecht 2015). For two classes of the positive one,
/// for more of the most probable one (Guo et al. 2017).
fn calibration_error(probabilities: &[f64], truth: &[u8], classes: usize) -> f64 {
    let rows = truth.iter().enumerate().map(|(row, &class)| match classes {
        2 => (probabilities[row], class == 1),
        _ => {
            let top = predicted(probabilities, classes, None, row);
            (probability(probabilities, classes, row, top), top == usize::from(class))
        }
    });
    let bins = calibration_bins(rows);
    let error: f64 = bins.iter().map(|bin| (bin.1 - bin.2).abs()).sum();
    error / truth.len() as f64
}

/// For each bin the rows, the sum of their probabilities and the number of hits.
pub(super) fn calibration_bins(rows: impl Iterator<Item = (f64, bool)>) -> [(u64, f64, f64); CALIBRATION_BINS] {
    let mut bins = [(0, 0.0, 0.0); CALIBRATION_BINS];
    for (probability, hit) in rows {
        let at = ((probability * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
        let bin = &mut bins[at];
        bin.0 += 1;
        bin.1 += probability;
        bin.2 += f64::from(u8::from(hit));
    }
    bins
}
