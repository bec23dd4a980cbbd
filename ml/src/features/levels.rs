//! Levels: counted in training, then coded as columns of zeros and ones or as one number.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use arrow::array::{Int64Array, StringArray};
use gristmill_protocol::pipeline::steps::Encoding;

use super::plan::LevelPlan;
use super::{Coding, ORDER_PRIOR_ROWS, Output, flag_output};
use crate::hash;
use crate::target::Moments;

/// Parts of the training rows for `encoding: target`; each row gets the means over the other parts. Five, as in
/// scikit-learn's `TargetEncoder`.
pub(super) const FOLDS: usize = 5;

/// The part of a training row, by its number.
pub(super) fn fold_of(row: u64) -> usize {
    (hash::mix(hash::mix(FOLDS as u64).wrapping_add(row)) % FOLDS as u64) as usize
}

/// The rows of a level, and the sum of their target values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    pub rows: u64,
    pub target_sum: f64,
}

impl Level {
    fn one(target: f64) -> Level {
        Level { rows: 1, target_sum: target }
    }

    pub fn add(&mut self, other: Level) {
        self.rows += other.rows;
        self.target_sum += other.target_sum;
    }

    /// The mean of the target, mixed with `prior_rows` rows' worth of the overall mean: the blend of Micci-Barreca
    /// (2001, "A preprocessing scheme for high-cardinality categorical attributes") with λ = n / (n + m).
    fn smoothed(&self, prior_rows: f64, mean: f64) -> f64 {
        let rows = self.rows as f64 + prior_rows;
        if rows > 0.0 { (self.target_sum + prior_rows * mean) / rows } else { mean }
    }
}

/// The mean of the target over these rows.
fn mean_of(level: Level) -> f64 {
    level.smoothed(0.0, 0.0)
}

/// What was seen of a column of levels.
#[derive(Clone, Debug)]
pub(super) struct LevelCounts<K> {
    levels: BTreeMap<K, Level>,
    missing: Level,
    /// The same for each part of the rows, where training rows need it.
    folds: Vec<LevelCounts<K>>,
}

impl<K: Ord> LevelCounts<K> {
    pub fn new(plan: &LevelPlan) -> LevelCounts<K> {
        let folds = if plan.encoding == Encoding::Target { FOLDS } else { 0 };
        LevelCounts { folds: (0..folds).map(|_| LevelCounts::without_folds()).collect(), ..Self::without_folds() }
    }

    fn without_folds() -> LevelCounts<K> {
        LevelCounts { levels: BTreeMap::new(), missing: Level::default(), folds: Vec::new() }
    }

    pub fn count(&self) -> usize {
        self.levels.len()
    }

    /// Whether the result depends on which row is which.
    pub fn has_folds(&self) -> bool {
        !self.folds.is_empty()
    }

    fn slot(&mut self, key: Option<K>) -> &mut Level {
        match key {
            Some(key) => self.levels.entry(key).or_default(),
            None => &mut self.missing,
        }
    }

    pub fn merge(&mut self, later: LevelCounts<K>) {
        self.missing.add(later.missing);
        for (key, level) in later.levels {
            self.slot(Some(key)).add(level);
        }
        for (fold, later) in self.folds.iter_mut().zip(later.folds) {
            fold.merge(later);
        }
    }
}

impl LevelCounts<i64> {
    /// Takes the rows from `first_row` on.
    pub fn push(&mut self, keys: &Int64Array, target: &[f64], first_row: u64) {
        for ((key, &target), row) in keys.iter().zip(target).zip(first_row..) {
            self.slot(key).add(Level::one(target));
            if let Some(fold) = self.folds.get_mut(fold_of(row)) {
                fold.slot(key).add(Level::one(target));
            }
        }
    }
}

impl LevelCounts<String> {
    /// Takes the rows from `first_row` on.
    pub fn push(&mut self, keys: &StringArray, target: &[f64], first_row: u64) {
        for ((key, &target), row) in keys.iter().zip(target).zip(first_row..) {
            self.add(key, Level::one(target));
            if let Some(fold) = self.folds.get_mut(fold_of(row)) {
                fold.add(key, Level::one(target));
            }
        }
    }

    fn add(&mut self, key: Option<&str>, one: Level) {
        match key.and_then(|key| self.levels.get_mut(key)) {
            Some(level) => level.add(one),
            None => self.slot(key.map(str::to_owned)).add(one),
        }
    }
}

/// Fitted levels of a column.
pub(super) struct FittedLevels<K> {
    /// Sorted.
    pub keys: Vec<K>,
    pub coding: Coding,
    /// Whether training met missing ones.
    pub missing: bool,
    pub folds: Option<FoldCodes>,
}

/// The codes of training rows: for each part of the rows, what the other parts say.
#[derive(Clone, Debug)]
pub(crate) struct FoldCodes {
    /// By part, then by level.
    codes: Vec<Vec<f64>>,
    unknown: Vec<f64>,
}

impl FoldCodes {
    pub fn code(&self, row: u64, level: Option<u32>) -> f64 {
        let fold = fold_of(row);
        level.map_or(self.unknown[fold], |level| self.codes[fold][level as usize])
    }
}

impl<K: Ord + Clone> LevelCounts<K> {
    /// Keeps the most frequent levels, of equally frequent ones those that sort first, and codes them. `folds` are
    /// the target's rows and sums by part, `mean` its mean.
    pub fn fit(
        self,
        plan: &LevelPlan,
        name: &str,
        names: impl Fn(&K) -> String,
        mean: f64,
        folds: &[Level; FOLDS],
        outputs: &mut Vec<Output>,
    ) -> FittedLevels<K> {
        let missing = self.missing.rows > 0;
        let mut unknown = self.missing;
        let mut levels: Vec<(K, Level)> = Vec::with_capacity(self.levels.len());
        for (key, level) in self.levels {
            if level.rows >= plan.min_rows {
                levels.push((key, level));
            } else {
                unknown.add(level);
            }
        }
        if levels.len() > plan.levels_max {
            levels.sort_by(|(a, left), (b, right)| (Reverse(left.rows), a).cmp(&(Reverse(right.rows), b)));
            levels.drain(plan.levels_max..).for_each(|(_, level)| unknown.add(level));
            levels.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        let (keys, levels): (Vec<K>, Vec<Level>) = levels.into_iter().unzip();
        let rows = levels.iter().map(|level| level.rows).sum::<u64>() + unknown.rows;
        let coding = match plan.encoding {
            Encoding::OneHot | Encoding::Hashed => {
                for (key, level) in keys.iter().zip(&levels) {
                    outputs.push(flag_output(format!("{name}={}", names(key)), level.rows, rows));
                }
                if unknown.rows > 0 {
                    outputs.push(flag_output(format!("{name}=<unknown>"), unknown.rows, rows));
                }
                return FittedLevels {
                    keys,
                    coding: Coding::OneHot { unknown: unknown.rows > 0 },
                    missing,
                    folds: None,
                };
            }
            Encoding::Ordered => ranks(&levels, mean),
            Encoding::Ordinal => {
                Coding::Ordered { codes: (0..levels.len()).map(|at| at as f64).collect(), unknown: -1.0 }
            }
            Encoding::Target => Coding::Ordered {
                codes: levels.iter().map(|level| level.smoothed(plan.smoothing, mean)).collect(),
                unknown: unknown.smoothed(plan.smoothing, mean),
            },
        };
        if let Coding::Ordered { codes, unknown: code } = &coding {
            let mut moments = Moments::repeated(*code, unknown.rows);
            for (code, level) in codes.iter().zip(&levels) {
                moments.merge(&Moments::repeated(*code, level.rows));
            }
            outputs.push(Output { name: name.to_owned(), mean: moments.mean, std: moments.std(), flag: false });
        }
        let folds = (!self.folds.is_empty()).then(|| fold_codes(&self.folds, &keys, plan.smoothing, folds));
        FittedLevels { keys, coding, missing, folds }
    }
}

/// The rank of each level by its mean of the target.
fn ranks(levels: &[Level], mean: f64) -> Coding {
    let mixed = |level: &Level| level.smoothed(ORDER_PRIOR_ROWS, mean);
    let mut order: Vec<usize> = (0..levels.len()).collect();
    // A stable sort: equal means stay in the order of their names.
    order.sort_by(|&a, &b| mixed(&levels[a]).total_cmp(&mixed(&levels[b])));
    let mut codes = vec![0.0; order.len()];
    for (rank, &at) in order.iter().enumerate() {
        codes[at] = rank as f64;
    }
    let below = order.iter().filter(|&&at| mixed(&levels[at]) < mean).count();
    Coding::Ordered { codes, unknown: below as f64 - 0.5 }
}

fn fold_codes<K: Ord>(folds: &[LevelCounts<K>], keys: &[K], smoothing: f64, targets: &[Level; FOLDS]) -> FoldCodes {
    let of_folds: Vec<(Vec<Level>, Level)> = folds
        .iter()
        .map(|fold| {
            let (mut known, mut unknown) = (vec![Level::default(); keys.len()], fold.missing);
            for (key, level) in &fold.levels {
                match keys.binary_search(key) {
                    Ok(at) => known[at] = *level,
                    Err(_) => unknown.add(*level),
                }
            }
            (known, unknown)
        })
        .collect();
    let mut fitted = FoldCodes { codes: Vec::new(), unknown: Vec::new() };
    for left_out in 0..folds.len() {
        // Sums over the others, and not differences, so that no row's own target shines through in rounding.
        let (mut known, mut unknown, mut all) =
            (vec![Level::default(); keys.len()], Level::default(), Level::default());
        for (fold, (of_known, of_unknown)) in of_folds.iter().enumerate().filter(|(fold, _)| *fold != left_out) {
            known.iter_mut().zip(of_known).for_each(|(level, more)| level.add(*more));
            unknown.add(*of_unknown);
            all.add(targets[fold]);
        }
        let mean = mean_of(all);
        fitted.codes.push(known.iter().map(|level| level.smoothed(smoothing, mean)).collect());
        fitted.unknown.push(unknown.smoothed(smoothing, mean));
    }
    fitted
}

/// Which of `buckets` columns the key of a level belongs to.
pub(super) fn bucket_of_text(key: &str, buckets: u32) -> usize {
    bucket(hash::bytes(key.as_bytes(), 0), buckets)
}

/// Which of `buckets` columns the key of a level belongs to.
pub(super) fn bucket_of_integer(key: i64, buckets: u32) -> usize {
    bucket(hash::bytes(&key.to_le_bytes(), 1), buckets)
}

/// Multiplies instead of dividing: Lemire 2019, "Fast random integer generation in an interval".
fn bucket(hash: u64, buckets: u32) -> usize {
    ((u128::from(hash) * u128::from(buckets)) >> 64) as usize
}
