//! Rows sorted by score once, for areas under curves of many draws of them.

/// Rows of two classes by falling score.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Row numbers by falling score.
    order: Vec<u32>,
    /// In this order, whether the row is positive, and whether the next row's score is another.
    marks: Vec<(bool, bool)>,
}

impl Ranked {
    /// Sorts rows by score. Panics when scores and truth differ in number, or are more than 2³² - 1.
    pub fn new(scores: &[f64], positive: &[bool]) -> Ranked {
        assert_eq!(scores.len(), positive.len(), "each score has its truth");
        let rows = u32::try_from(scores.len()).expect("row numbers have 32 bits");
        let mut order: Vec<u32> = (0..rows).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        let mark = |place: usize| {
            let score = |place: usize| scores[order[place] as usize];
            let ends = place + 1 == order.len() || score(place + 1) != score(place);
            (positive[order[place] as usize], ends)
        };
        let marks = (0..order.len()).map(mark).collect();
        Ranked { order, marks }
    }

    /// Area under the curve of true against false positive rates, where `counts` says how often each row is
    /// there: the chance that a positive row scores higher than a negative one, ties counting half (Hanley and
    /// McNeil 1982). Not a number when either class isn't there.
    pub fn roc_auc(&self, counts: &[u32]) -> f64 {
        // In whole halves: exact, whatever the order of adding.
        let (mut area, mut positives, mut negatives) = (0_u128, 0_u64, 0_u64);
        self.steps(counts, |more_positives, more_negatives| {
            area += u128::from(more_negatives) * u128::from(2 * positives + more_positives);
            positives += more_positives;
            negatives += more_negatives;
        });
        area as f64 / 2.0 / (positives as f64 * negatives as f64)
    }

    /// Average precision, as `average_precision_score` of scikit-learn. Not a number without positive rows.
    pub fn average_precision(&self, counts: &[u32]) -> f64 {
        let (mut area, mut positives, mut negatives) = (0.0, 0_u64, 0_u64);
        self.steps(counts, |more_positives, more_negatives| {
            positives += more_positives;
            negatives += more_negatives;
            if more_positives > 0 {
                area += more_positives as f64 * positives as f64 / (positives + negatives) as f64;
            }
        });
        area / positives as f64
    }

    /// Positive and negative rows of each distinct score, falling.
    fn steps(&self, counts: &[u32], mut step: impl FnMut(u64, u64)) {
        assert_eq!(counts.len(), self.order.len(), "each row has its count");
        let mut tied = [0_u64; 2];
        for (row, (positive, ends)) in self.order.iter().zip(&self.marks) {
            tied[usize::from(*positive)] += u64::from(counts[*row as usize]);
            if *ends {
                step(tied[1], tied[0]);
                tied = [0; 2];
            }
        }
    }
}
