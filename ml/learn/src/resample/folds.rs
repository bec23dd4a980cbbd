//! Cross-validation: which rows a fold trains on and which it is tested on.
//!
//! Sizes, and without a seed the rows too, are those of scikit-learn's `KFold`, `StratifiedKFold`,
//! `GroupKFold` and `TimeSeriesSplit`.

use std::collections::BTreeMap;

use crate::chance::Chance;

/// Rows at the most: their places are 32-bit numbers.
pub const ROWS_MAX: usize = u32::MAX as usize;
/// Folds at the most: each is a training; beyond some hundreds a bootstrap tells more.
pub const FOLDS_MAX: usize = 1_000;

/// Why rows can't be parted into folds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error("2 to {FOLDS_MAX} folds are possible, not {folds}")]
    Folds { folds: usize },
    #[error("{rows} rows can't be parted into {folds} folds")]
    Rows { rows: usize, folds: usize },
    #[error("no class has the {folds} rows that {folds} stratified folds need")]
    Classes { folds: usize },
    #[error("{groups} groups can't be parted into {folds} folds")]
    Groups { groups: usize, folds: usize },
    #[error("{folds} folds of {test} rows and a gap of {gap} leave nothing of {rows} rows to train the first on")]
    Times { folds: usize, test: usize, gap: usize, rows: usize },
}

impl FoldError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            FoldError::Folds { .. } => "5 and 10 are usual",
            FoldError::Rows { .. } | FoldError::Classes { .. } | FoldError::Groups { .. } => "ask for fewer folds",
            FoldError::Times { .. } => "ask for fewer folds, smaller tests or a smaller gap",
        }
    }
}

/// What a row is to a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Train,
    Test,
    /// In time after the test, in the gap before it, or longer ago than training looks back.
    Neither,
}

/// Which rows each fold trains on and is tested on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    count: usize,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    /// For each row the fold that it tests; it trains all others.
    Each(Vec<u16>),
    /// For each row its place in time, and for each fold where in time training starts and ends and the test
    /// starts and ends.
    Times { places: Vec<u32>, windows: Vec<[u32; 4]> },
}

impl Folds {
    /// Number of folds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match &self.parts {
            Parts::Each(folds) => folds.len(),
            Parts::Times { places, .. } => places.len(),
        }
    }

    /// What a row is to a fold. Panics outside rows and folds.
    pub fn role(&self, fold: usize, row: usize) -> Role {
        assert!(fold < self.count, "fold {fold} is one of {}", self.count);
        match &self.parts {
            Parts::Each(folds) if usize::from(folds[row]) == fold => Role::Test,
            Parts::Each(_) => Role::Train,
            Parts::Times { places, windows } => {
                let [train, train_end, test, test_end] = windows[fold];
                match places[row] {
                    place if (train..train_end).contains(&place) => Role::Train,
                    place if (test..test_end).contains(&place) => Role::Test,
                    _ => Role::Neither,
                }
            }
        }
    }

    /// The rows with a role, rising.
    pub fn rows_of(&self, fold: usize, role: Role) -> Vec<u32> {
        (0..self.rows()).filter(|row| self.role(fold, *row) == role).map(|row| row as u32).collect()
    }

    /// For each row the fold that it tests: none for folds over time, where some rows test nothing.
    pub fn test_folds(&self) -> Option<&[u16]> {
        match &self.parts {
            Parts::Each(folds) => Some(folds),
            Parts::Times { .. } => None,
        }
    }
}

/// Folds of equal size; the first ones have a row more when the rows don't divide. In the order of rows, or
/// at random by a seed.
pub fn kfold(rows: usize, folds: usize, seed: Option<u64>) -> Result<Folds, FoldError> {
    check(rows, folds)?;
    let (size, larger) = (rows / folds, rows % folds);
    let mut order: Vec<u32> = (0..rows as u32).collect();
    if let Some(seed) = seed {
        Chance::stream(seed, &[]).shuffle(&mut order);
    }
    let mut parts = vec![0; rows];
    for (place, row) in order.into_iter().enumerate() {
        let in_larger = larger * (size + 1);
        let fold = if place < in_larger { place / (size + 1) } else { larger + (place - in_larger) / size };
        parts[row as usize] = fold as u16;
    }
    Ok(Folds { count: folds, parts: Parts::Each(parts) })
}

/// Folds that have the classes in the shares that all rows have them, as nearly as whole rows allow.
pub fn stratified(classes: &[u32], folds: usize, seed: Option<u64>) -> Result<Folds, FoldError> {
    check(classes.len(), folds)?;
    // Classes are taken in the order in which they come up, as scikit-learn does.
    let mut known: BTreeMap<u32, usize> = BTreeMap::new();
    let mut members: Vec<Vec<u32>> = Vec::new();
    for (row, class) in classes.iter().enumerate() {
        let at = *known.entry(*class).or_insert_with(|| {
            members.push(Vec::new());
            members.len() - 1
        });
        members[at].push(row as u32);
    }
    if members.iter().all(|rows| rows.len() < folds) {
        return Err(FoldError::Classes { folds });
    }
    let mut parts = vec![0; classes.len()];
    let mut start = 0;
    for (class, rows) in members.iter().enumerate() {
        // Rows sorted by class go to the folds in turn; so many of this class go to each.
        let end = start + rows.len();
        let before = |place: usize, fold: usize| (place + folds - 1 - fold) / folds;
        let mut of_class: Vec<u16> = Vec::with_capacity(rows.len());
        for fold in 0..folds {
            let count = before(end, fold) - before(start, fold);
            of_class.extend(std::iter::repeat_n(fold as u16, count));
        }
        if let Some(seed) = seed {
            Chance::stream(seed, &[class as u64]).shuffle(&mut of_class);
        }
        rows.iter().zip(of_class).for_each(|(row, fold)| parts[*row as usize] = fold);
        start = end;
    }
    Ok(Folds { count: folds, parts: Parts::Each(parts) })
}

/// Folds between which no group is torn: the largest group first, each to the fold with the fewest rows. Of
/// equally large groups the one with the larger number comes first, of equally full folds the first.
pub fn grouped(groups: &[u64], folds: usize) -> Result<Folds, FoldError> {
    check(groups.len(), folds)?;
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    groups.iter().for_each(|group| *sizes.entry(*group).or_default() += 1);
    if sizes.len() < folds {
        return Err(FoldError::Groups { groups: sizes.len(), folds });
    }
    let mut order: Vec<(usize, u64)> = sizes.into_iter().map(|(group, size)| (size, group)).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut filled = vec![0; folds];
    let mut fold_of = BTreeMap::new();
    for (size, group) in order {
        let lightest = (0..folds).fold(0, |best, fold| if filled[fold] < filled[best] { fold } else { best });
        filled[lightest] += size;
        fold_of.insert(group, lightest as u16);
    }
    let parts = groups.iter().map(|group| fold_of[group]).collect();
    Ok(Folds { count: folds, parts: Parts::Each(parts) })
}

/// How folds over time are laid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSeries {
    pub folds: usize,
    /// Rows of each test; by default the rows divided by one more than the folds.
    pub test: Option<usize>,
    /// Rows left out between training and test, so that what is known only later doesn't leak.
    pub gap: usize,
    /// Training looks back so many rows at most.
    pub train_max: Option<usize>,
}

/// Folds over time: each is tested on the rows that follow in time those that it is trained on; the last test
/// ends with the last row. Rows of the same time keep their order.
pub fn time_series(times: &[i64], settings: TimeSeries) -> Result<Folds, FoldError> {
    let TimeSeries { folds, test, gap, train_max } = settings;
    check(times.len(), folds)?;
    let rows = times.len();
    let test = test.unwrap_or(rows / (folds + 1)).max(1);
    if test.saturating_mul(folds).saturating_add(gap) >= rows {
        return Err(FoldError::Times { folds, test, gap, rows });
    }
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.sort_by_key(|row| times[*row as usize]);
    let mut places = vec![0; rows];
    order.into_iter().enumerate().for_each(|(place, row)| places[row as usize] = place as u32);
    let window = |fold: usize| {
        let start = rows - (folds - fold) * test;
        let train_end = start - gap;
        let train = train_max.map_or(0, |most| train_end.saturating_sub(most));
        [train as u32, train_end as u32, start as u32, (start + test) as u32]
    };
    Ok(Folds { count: folds, parts: Parts::Times { places, windows: (0..folds).map(window).collect() } })
}

/// The same folds several times over, each time by another seed.
pub fn repeated(
    times: usize,
    seed: u64,
    fold: impl Fn(u64) -> Result<Folds, FoldError>,
) -> Result<Vec<Folds>, FoldError> {
    (0..times as u64).map(|time| fold(Chance::stream(seed, &[time]).bits())).collect()
}

fn check(rows: usize, folds: usize) -> Result<(), FoldError> {
    if !(2..=FOLDS_MAX).contains(&folds) {
        return Err(FoldError::Folds { folds });
    }
    if rows < folds || rows > ROWS_MAX {
        return Err(FoldError::Rows { rows, folds });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn each(folds: Result<Folds, FoldError>) -> Vec<u16> {
        folds.unwrap().test_folds().unwrap().to_vec()
    }

    /// Made by scikit-learn 1.9: the fold in whose `test` a row is.
    #[test]
    fn folds_are_those_of_scikit_learn() {
        assert_eq!(each(kfold(11, 4, None)), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]);
        let classes = [2, 0, 1, 0, 2, 2, 1, 0, 0, 1, 2, 0, 0, 0, 1, 2, 2];
        assert_eq!(each(stratified(&classes, 3, None)), [0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        let groups = [5, 5, 1, 1, 1, 2, 3, 3, 3, 3, 4, 2, 5, 9, 9, 5];
        assert_eq!(each(grouped(&groups, 3)), [0, 0, 2, 2, 2, 0, 1, 1, 1, 1, 1, 0, 0, 2, 2, 0]);
    }

    /// Made by `TimeSeriesSplit` of scikit-learn 1.9 over 14 rows: starts and ends of training and test.
    #[test]
    fn folds_over_time_are_those_of_scikit_learn() {
        // Rows come in the opposite order of time.
        let times: Vec<i64> = (0..14).rev().collect();
        let plain = TimeSeries { folds: 3, test: None, gap: 0, train_max: None };
        let windows = |settings: TimeSeries| {
            let folds = time_series(&times, settings).unwrap();
            let ends = |fold: usize, role: Role| {
                let rows = folds.rows_of(fold, role);
                (13 - rows[rows.len() - 1], 14 - rows[0])
            };
            (0..3).map(|fold| (ends(fold, Role::Train), ends(fold, Role::Test))).collect::<Vec<_>>()
        };
        assert_eq!(windows(plain), [((0, 5), (5, 8)), ((0, 8), (8, 11)), ((0, 11), (11, 14))]);
        assert_eq!(windows(TimeSeries { gap: 2, ..plain }), [((0, 3), (5, 8)), ((0, 6), (8, 11)), ((0, 9), (11, 14))]);
        assert_eq!(
            windows(TimeSeries { test: Some(2), gap: 1, train_max: Some(4), ..plain }),
            [((3, 7), (8, 10)), ((5, 9), (10, 12)), ((7, 11), (12, 14))]
        );
    }

    proptest! {
        #[test]
        fn shuffled_folds_keep_their_sizes(rows in 10_usize..200, folds in 2_usize..10, seed: u64) {
            let sizes = |parts: Vec<u16>| (0..folds).map(|f| parts.iter().filter(|p| usize::from(**p) == f).count()).collect::<Vec<_>>();
            prop_assert_eq!(sizes(each(kfold(rows, folds, Some(seed)))), sizes(each(kfold(rows, folds, None))));
            prop_assert_eq!(each(kfold(rows, folds, Some(seed))), each(kfold(rows, folds, Some(seed))));
        }

        #[test]
        fn stratified_folds_have_each_class_within_a_row_of_its_share(
            classes in prop::collection::vec(0_u32..4, 40..200), folds in 2_usize..6, seed: Option<u64>
        ) {
            let parts = each(stratified(&classes, folds, seed));
            for class in 0..4 {
                let count = |fold: usize| {
                    let here = |at: &usize| classes[*at] == class && usize::from(parts[*at]) == fold;
                    (0..classes.len()).filter(here).count()
                };
                let counts: Vec<usize> = (0..folds).map(count).collect();
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }

        #[test]
        fn no_group_is_torn(groups in prop::collection::vec(0_u64..20, 100..200), folds in 2_usize..5) {
            let parts = each(grouped(&groups, folds));
            for (group, part) in groups.iter().zip(&parts) {
                let torn = groups.iter().zip(&parts).any(|(other, there)| other == group && there != part);
                prop_assert!(!torn);
            }
        }
    }

    #[test]
    fn repeats_differ_and_come_again() {
        let folds = |seed| repeated(3, seed, |seed| kfold(50, 5, Some(seed))).unwrap();
        assert_ne!(folds(1)[0], folds(1)[1]);
        assert_eq!(folds(1), folds(1));
        assert_ne!(folds(1), folds(2));
    }

    #[test]
    fn what_cannot_be_parted_is_refused() {
        assert_eq!(kfold(10, 1, None).unwrap_err().to_string(), "2 to 1000 folds are possible, not 1");
        assert_eq!(kfold(3, 5, None).unwrap_err().to_string(), "3 rows can't be parted into 5 folds");
        assert_eq!(stratified(&[0, 1, 2], 3, None), Err(FoldError::Classes { folds: 3 }));
        assert_eq!(grouped(&[1, 1, 1], 2), Err(FoldError::Groups { groups: 1, folds: 2 }));
        let settings = TimeSeries { folds: 3, test: Some(3), gap: 1, train_max: None };
        let error = time_series(&[0; 10], settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "3 folds of 3 rows and a gap of 1 leave nothing of 10 rows to train the first on"
        );
        assert!(error.hint().contains("fewer folds"));
    }
}
