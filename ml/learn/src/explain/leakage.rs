//! Features that alone predict too well: most often something that is known only after what it predicts.
//!
//! Three measures, each from 0 for nothing to 1 for everything: the area under the curve of a number against two
//! classes, the share of a number's variance that groups explain, and the information that two divisions
//! share. A missing value is a value here, since what is filled in afterwards is missing before.

use std::collections::BTreeMap;

use crate::resample::Ranked;

/// From this area on a single feature is suspicious: it ranks 49 of 50 pairs right.
pub const LEAK_AUC: f64 = 0.98;
/// From this share of variance or information on a single feature is suspicious: a twentieth is left to all
/// others and to chance.
pub const LEAK_SHARE: f64 = 0.95;

/// How well a number alone ranks rows of two classes, rising or falling, whichever is better: 0.5 to 1. Missing
/// values (not a number) rank below or above all, whichever is better. None when a class has no rows. Panics
/// when the lengths differ.
pub fn single_auc(values: &[f64], positive: &[bool]) -> Option<f64> {
    let counts = vec![1; values.len()];
    let with = |missing: f64| {
        let filled: Vec<f64> = values.iter().map(|value| if value.is_nan() { missing } else { *value }).collect();
        let area = Ranked::new(&filled, positive).roc_auc(&counts);
        area.max(1.0 - area)
    };
    let area = if values.iter().any(|value| value.is_nan()) {
        with(f64::NEG_INFINITY).max(with(f64::INFINITY))
    } else {
        with(0.0)
    };
    area.is_finite().then_some(area)
}

/// The share of a number's variance that lies between groups: ε² (Kelley 1935), which is η² without what
/// chance alone gives to many small groups, so that a column of ids has no share. 0 at the least. None with
/// fewer rows than groups and one, or when the number never varies. Panics when the lengths differ.
pub fn correlation_ratio(groups: &[u32], values: &[f64]) -> Option<f64> {
    assert_eq!(groups.len(), values.len(), "each row has a group and a value");
    let rows = values.len() as f64;
    let mean = values.iter().sum::<f64>() / rows;
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (group, value) in groups.iter().zip(values) {
        let sum = sums.entry(*group).or_default();
        *sum = (sum.0 + 1.0, sum.1 + (value - mean));
    }
    let total: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let between: f64 = sums.values().map(|(count, sum)| sum * sum / count).sum();
    let free = rows - sums.len() as f64;
    if free < 1.0 || total.is_nan() || total <= 0.0 {
        return None;
    }
    Some((1.0 - (1.0 - between / total) * (rows - 1.0) / free).clamp(0.0, 1.0))
}

/// The information that two divisions of the rows share, divided by the mean of what each has: scikit-learn's
/// `normalized_mutual_info_score`. Many small groups share some by chance. None when neither divides. Panics
/// when the lengths differ.
pub fn mutual_information(first: &[u32], second: &[u32]) -> Option<f64> {
    assert_eq!(first.len(), second.len(), "each row is in both divisions");
    let rows = first.len() as f64;
    fn counts<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, f64> {
        let mut counts = BTreeMap::new();
        keys.for_each(|key| *counts.entry(key).or_default() += 1.0);
        counts
    }
    let (a, b) = (counts(first.iter().copied()), counts(second.iter().copied()));
    let both = counts(first.iter().copied().zip(second.iter().copied()));
    let entropy = |counts: &BTreeMap<u32, f64>| -counts.values().map(|n| n / rows * (n / rows).ln()).sum::<f64>();
    let whole = (entropy(&a) + entropy(&b)) / 2.0;
    let shared: f64 = both.iter().map(|((x, y), n)| n / rows * (n * rows / (a[x] * b[y])).ln()).sum();
    (whole > 0.0).then(|| (shared / whole).clamp(0.0, 1.0))
}

/// Numbers as groups of about equal size, by rank; equal numbers are in one group. Missing values are a group
/// of their own, the last.
pub fn quantile_bins(values: &[f64], bins: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..values.len()).filter(|row| !values[*row].is_nan()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut found = vec![bins; values.len()];
    let mut bin = 0;
    for (place, &row) in order.iter().enumerate() {
        let tied = place > 0 && values[order[place - 1]] == values[row];
        if !tied {
            bin = (place as u64 * u64::from(bins) / order.len() as u64) as u32;
        }
        found[row] = bin;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [u32; 12] = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 0, 1];
    const NUMBERS: [f64; 12] = [1.5, 2.0, 3.5, 4.0, 8.0, 7.5, 9.0, 2.2, 1.0, 3.0, 1.1, 4.4];

    /// `normalized_mutual_info_score` of scikit-learn 1.9; ε² by its formula in numpy 2.4.
    #[test]
    fn measures_are_those_of_scikit_learn_and_numpy() {
        let classes = [0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1];
        let found = mutual_information(&GROUPS, &classes).unwrap();
        assert!((found - 0.36056805531517044).abs() < 1e-12, "{found}");
        let found = correlation_ratio(&GROUPS, &NUMBERS).unwrap();
        assert!((found - 0.9355703259005147).abs() < 1e-12, "{found}");
    }

    #[test]
    fn a_column_of_ids_explains_nothing() {
        let ids: Vec<u32> = (0..12).collect();
        assert_eq!(correlation_ratio(&ids, &NUMBERS), None);
        let nearly: Vec<u32> = (0..12).map(|row| row.max(1)).collect();
        assert!(correlation_ratio(&nearly, &NUMBERS).unwrap() < 1.0);
        assert_eq!(correlation_ratio(&GROUPS, &[2.0; 12]), None);
        assert_eq!(mutual_information(&[1; 4], &[2; 4]), None);
        assert_eq!(mutual_information(&GROUPS, &GROUPS), Some(1.0));
    }

    #[test]
    fn a_feature_that_falls_or_is_missing_gives_away_as_much() {
        let truth = [true, true, false, false];
        assert_eq!(single_auc(&[1.0, 2.0, 3.0, 4.0], &truth), Some(1.0));
        assert_eq!(single_auc(&[f64::NAN, f64::NAN, 3.0, -4.0], &truth), Some(1.0));
        assert_eq!(single_auc(&[9.0, 1.0, f64::NAN, f64::NAN], &truth), Some(1.0));
        assert_eq!(single_auc(&[1.0, 2.0, 1.0, 2.0], &truth), Some(0.5));
        assert_eq!(single_auc(&[1.0; 4], &[true; 4]), None);
    }

    #[test]
    fn bins_are_of_equal_size_and_keep_ties_together() {
        assert_eq!(quantile_bins(&[5.0, 1.0, 4.0, 2.0, 3.0, 0.0], 3), [2, 0, 2, 1, 1, 0]);
        assert_eq!(quantile_bins(&[1.0, 1.0, 1.0, f64::NAN, 7.0], 2), [0, 0, 0, 2, 1]);
    }
}
