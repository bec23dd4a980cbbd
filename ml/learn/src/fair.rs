//! Fairness by group: does a model decide for one group of people as it does for another?
//!
//! Counts are kept a group, so that partitions and workers can count apart and add up. A group, or a part of it
//! that a rate is about, with fewer rows than asked for is listed and not compared: its rate is mostly chance.
//! Nothing here says what is fair; the measures contradict each other wherever groups differ
//! (Kleinberg, Mullainathan and Raghavan 2017).

use serde::{Deserialize, Serialize};

/// The least share of the highest selection rate that a group's may be (four-fifths rule, Uniform Guidelines on
/// Employee Selection Procedures, 29 CFR 1607.4 D).
pub const FOUR_FIFTHS: f64 = 0.8;

/// Rows of a group by truth and decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub true_positives: u64,
    pub false_positives: u64,
    pub true_negatives: u64,
    pub false_negatives: u64,
}

impl Counts {
    /// Counts a row: what was decided and what was true.
    pub fn add(&mut self, decided: bool, truth: bool) {
        *match (decided, truth) {
            (true, true) => &mut self.true_positives,
            (true, false) => &mut self.false_positives,
            (false, false) => &mut self.true_negatives,
            (false, true) => &mut self.false_negatives,
        } += 1;
    }

    /// Adds the rows of another part of the group.
    pub fn merge(&mut self, other: Counts) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.true_negatives += other.true_negatives;
        self.false_negatives += other.false_negatives;
    }

    pub fn rows(&self) -> u64 {
        self.selected() + self.true_negatives + self.false_negatives
    }

    /// Rows that are decided positive.
    pub fn selected(&self) -> u64 {
        self.true_positives + self.false_positives
    }
}

/// Counts rows by group: `groups` holds each row's group, from 0 up to but without `count`. Panics when the lengths
/// differ or a group is out of range.
pub fn count(groups: &[u32], decided: &[bool], truth: &[bool], count: usize) -> Vec<Counts> {
    assert!(
        groups.len() == decided.len() && groups.len() == truth.len(),
        "each row has a group, a decision and a truth"
    );
    let mut counts = vec![Counts::default(); count];
    for ((group, decided), truth) in groups.iter().zip(decided).zip(truth) {
        counts[*group as usize].add(*decided, *truth);
    }
    counts
}

/// How a model decides for one group. A rate without rows is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    pub counts: Counts,
    /// Share of the rows that are decided positive.
    pub selection_rate: Option<f64>,
    /// Share of the positive rows that are decided positive.
    pub true_positive_rate: Option<f64>,
    /// Share of the negative rows that are decided positive.
    pub false_positive_rate: Option<f64>,
    /// Share of the rows decided positive that are positive.
    pub precision: Option<f64>,
    /// The selection rate over the highest of the groups compared; none when the group isn't compared.
    pub impact_ratio: Option<f64>,
    /// Whether it has the rows to be compared.
    pub compared: bool,
}

/// The smallest and the largest value of a rate over the groups compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Largest minus smallest: 0 is equal.
    pub difference: f64,
    /// Smallest over largest: 1 is equal, also when both are 0.
    pub ratio: f64,
}

/// How far groups are apart. A measure is none when fewer than two groups have the rows for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    pub groups: Vec<Group>,
    /// Of selection rates (Calders, Kamiran and Pechenizkiy 2009).
    pub demographic_parity: Option<Spread>,
    /// Of true positive rates (Hardt, Price and Srebro 2016).
    pub equal_opportunity: Option<Spread>,
    /// The worse of true and false positive rates (Hardt, Price and Srebro 2016).
    pub equalised_odds: Option<Spread>,
    /// Of precision (Chouldechova 2017).
    pub predictive_parity: Option<Spread>,
    /// Whether each group compared is selected at least four fifths as often as the most selected.
    pub four_fifths: Option<bool>,
}

/// Compares groups, given by name and counts. A rate is compared where it is over at least `rows_min` rows (1 at the
/// least): a selection rate over the group's rows, a true positive rate over its positive rows, and so on.
pub fn fairness(groups: Vec<(String, Counts)>, rows_min: u64) -> Fairness {
    let rate = |part: u64, whole: u64, least: u64| (whole >= least.max(1)).then(|| part as f64 / whole as f64);
    let over = |of: fn(&Counts) -> (u64, u64)| {
        let of_group = |(_, counts): &(String, Counts)| {
            let (part, whole) = of(counts);
            rate(part, whole, rows_min)
        };
        groups.iter().map(of_group).collect::<Vec<Option<f64>>>()
    };
    let selection: fn(&Counts) -> (u64, u64) = |counts| (counts.selected(), counts.rows());
    let true_positive: fn(&Counts) -> (u64, u64) =
        |counts| (counts.true_positives, counts.true_positives + counts.false_negatives);
    let false_positive: fn(&Counts) -> (u64, u64) =
        |counts| (counts.false_positives, counts.false_positives + counts.true_negatives);
    let precision: fn(&Counts) -> (u64, u64) = |counts| (counts.true_positives, counts.selected());
    let selected = over(selection);
    let (true_positives, false_positives) = (spread(&over(true_positive)), spread(&over(false_positive)));
    let equalised_odds = true_positives
        .zip(false_positives)
        .map(|(a, b)| Spread { difference: a.difference.max(b.difference), ratio: a.ratio.min(b.ratio) });
    let demographic_parity = spread(&selected);
    let predictive_parity = spread(&over(precision));
    let highest = selected.iter().flatten().copied().fold(0.0, f64::max);
    let described = groups.into_iter().zip(selected).map(|((name, counts), selected)| {
        let all = |of: fn(&Counts) -> (u64, u64)| {
            let (part, whole) = of(&counts);
            rate(part, whole, 1)
        };
        Group {
            name,
            counts,
            selection_rate: all(selection),
            true_positive_rate: all(true_positive),
            false_positive_rate: all(false_positive),
            precision: all(precision),
            impact_ratio: selected.map(|rate| if highest > 0.0 { rate / highest } else { 1.0 }),
            compared: selected.is_some(),
        }
    });
    Fairness {
        groups: described.collect(),
        demographic_parity,
        equal_opportunity: true_positives,
        equalised_odds,
        predictive_parity,
        four_fifths: demographic_parity.map(|spread| spread.ratio >= FOUR_FIFTHS),
    }
}

/// None with fewer than two rates.
fn spread(rates: &[Option<f64>]) -> Option<Spread> {
    let rates: Vec<f64> = rates.iter().flatten().copied().collect();
    if rates.len() < 2 {
        return None;
    }
    let smallest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = rates.iter().copied().fold(0.0, f64::max);
    Some(Spread { difference: largest - smallest, ratio: if largest > 0.0 { smallest / largest } else { 1.0 } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(true_positives: u64, false_positives: u64, true_negatives: u64, false_negatives: u64) -> Counts {
        Counts { true_positives, false_positives, true_negatives, false_negatives }
    }

    fn near(found: Option<Spread>, difference: f64, ratio: f64) {
        let found = found.unwrap();
        assert!((found.difference - difference).abs() < 1e-12 && (found.ratio - ratio).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn groups_are_compared_by_all_measures() {
        // Selected 50 and 20 of 100; of the positive 40/50 and 15/30; of the negative 10/50 and 5/70.
        let groups = vec![("a".to_owned(), counts(40, 10, 40, 10)), ("b".to_owned(), counts(15, 5, 65, 15))];
        let found = fairness(groups, 10);
        near(found.demographic_parity, 0.3, 0.4);
        near(found.equal_opportunity, 0.3, 0.625);
        near(found.equalised_odds, 0.3, 0.2_f64.recip() * 5.0 / 70.0);
        near(found.predictive_parity, 0.05, 0.75 / 0.8);
        assert_eq!(found.four_fifths, Some(false));
        assert_eq!(found.groups[0].impact_ratio, Some(1.0));
        assert_eq!(found.groups[1].impact_ratio, Some(0.4));
        let bytes = rmp_serde::to_vec_named(&found).unwrap();
        assert_eq!(rmp_serde::from_slice::<Fairness>(&bytes).unwrap(), found);
    }

    #[test]
    fn small_groups_are_listed_and_not_compared() {
        let groups = vec![
            ("a".to_owned(), counts(40, 10, 40, 10)),
            ("b".to_owned(), counts(36, 9, 41, 14)),
            ("few".to_owned(), counts(0, 0, 5, 0)),
        ];
        let found = fairness(groups.clone(), 30);
        near(found.demographic_parity, 0.05, 0.9);
        assert_eq!(found.four_fifths, Some(true));
        let few = &found.groups[2];
        assert_eq!((few.compared, few.selection_rate, few.impact_ratio), (false, Some(0.0), None));
        assert_eq!((few.true_positive_rate, few.precision), (None, None));
        assert_eq!(fairness(groups.clone(), 5).four_fifths, Some(false));
        // With 50 rows asked for, precision is over the 50 and 45 that are selected.
        let found = fairness(groups, 50);
        assert!(found.demographic_parity.is_some() && found.predictive_parity.is_none());
    }

    #[test]
    fn groups_that_are_never_selected_are_equal() {
        let groups = vec![("a".to_owned(), counts(0, 0, 9, 1)), ("b".to_owned(), counts(0, 0, 5, 5))];
        near(fairness(groups, 1).demographic_parity, 0.0, 1.0);
        assert_eq!(fairness(Vec::new(), 1).four_fifths, None);
    }

    #[test]
    fn rows_are_counted_by_group_and_parts_add_up() {
        let (groups, decided, truth) =
            ([0, 1, 1, 1, 0], [true, true, false, false, true], [true, false, false, true, true]);
        let found = count(&groups, &decided, &truth, 3);
        assert_eq!(found, [counts(2, 0, 0, 0), counts(0, 1, 1, 1), Counts::default()]);
        let mut parts = count(&groups[..2], &decided[..2], &truth[..2], 3);
        let rest = count(&groups[2..], &decided[2..], &truth[2..], 3);
        parts.iter_mut().zip(rest).for_each(|(part, more)| part.merge(more));
        assert_eq!(parts, found);
    }
}
