//! Fitting features in one pass over the training rows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use arrow::array::{Array, Float64Array, RecordBatch};
use arrow::datatypes::Schema;
use gristmill_protocol::limits::FEATURE_LEVELS_TRACKED_MAX;
use gristmill_protocol::pipeline::ColumnType;
use gristmill_protocol::pipeline::steps::{Encoding, Impute, Scale};

use super::{Coding, Feature, FeatureError, FeaturePlan, FittedData, FittedFeatures, Input, Levels, ORDER_PRIOR_ROWS};
use super::{Output, integer_name};
use crate::columns::{self, Keys, kind_name, kind_of};
use crate::target::{Moments, Target};

/// Learns means, levels and orders from the training rows. Partitions can be read apart and merged; the
/// result is the same for the same partitions in the same order.
#[derive(Clone, Debug)]
pub struct FeatureFitter {
    plan: FeaturePlan,
    inputs: Vec<(String, ColumnType)>,
    seen: Vec<Seen>,
    target: Moments,
}

/// What was seen of one column.
#[derive(Clone, Debug)]
enum Seen {
    /// `values` are kept only for a median, which is exact: eight bytes a row.
    Numeric {
        moments: Moments,
        missing: u64,
        values: Vec<f64>,
    },
    Integer(LevelCounts<i64>),
    Text(LevelCounts<String>),
}

#[derive(Clone, Debug)]
struct LevelCounts<K> {
    levels: BTreeMap<K, Level>,
    missing: Level,
}

/// The rows of a level, and the sum of their target values.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    rows: u64,
    target_sum: f64,
}

impl Level {
    fn add(&mut self, other: Level) {
        self.rows += other.rows;
        self.target_sum += other.target_sum;
    }
}

impl FeatureFitter {
    /// Looks for the columns in the schema.
    pub fn new(schema: &Schema, plan: FeaturePlan, target: &Target) -> Result<FeatureFitter, FeatureError> {
        if plan.numeric.is_empty() && plan.categorical.is_empty() {
            return Err(FeatureError::None);
        }
        let names =
            plan.numeric.iter().map(|name| (name, true)).chain(plan.categorical.iter().map(|name| (name, false)));
        let mut known = HashSet::new();
        let mut inputs = Vec::new();
        let mut seen = Vec::new();
        for (name, numeric) in names {
            if *name == target.column {
                return Err(FeatureError::Target { column: name.clone() });
            }
            if !known.insert(name) {
                return Err(FeatureError::Twice { column: name.clone() });
            }
            let field = schema.field_with_name(name).map_err(|_| FeatureError::Missing {
                column: name.clone(),
                nearest: columns::nearest(name, schema.fields().iter().map(|field| field.name().as_str())),
            })?;
            let kind = kind_of(field.data_type());
            let empty = match (kind, numeric) {
                (Some(ColumnType::String), true) | (None, _) => None,
                (Some(_), true) => Some(Seen::Numeric { moments: Moments::default(), missing: 0, values: Vec::new() }),
                (Some(ColumnType::Float | ColumnType::Timestamp), false) => None,
                (Some(ColumnType::String), false) => Some(Seen::Text(LevelCounts::default())),
                (Some(_), false) => Some(Seen::Integer(LevelCounts::default())),
            };
            let (Some(kind), Some(empty)) = (kind, empty) else {
                return Err(FeatureError::Type {
                    column: name.clone(),
                    found: kind.map_or_else(|| field.data_type().to_string(), |kind| kind_name(kind).to_owned()),
                    wanted: if numeric { "numeric" } else { "categorical" },
                });
            };
            inputs.push((name.clone(), kind));
            seen.push(empty);
        }
        Ok(FeatureFitter { plan, inputs, seen, target: Moments::default() })
    }

    /// Takes the rows of a batch. `target` are their values by [`Target::values`]; one each.
    pub fn push(&mut self, batch: &RecordBatch, target: &[f64]) -> Result<(), FeatureError> {
        assert_eq!(batch.num_rows(), target.len(), "each row has one target value");
        target.iter().for_each(|&value| self.target.add(value));
        for ((name, kind), seen) in self.inputs.iter().zip(&mut self.seen) {
            let column = columns::column(batch, name)
                .map_err(|nearest| FeatureError::Missing { column: name.clone(), nearest })?;
            let read = |source| FeatureError::Read { column: name.clone(), source };
            let changed = || FeatureError::Changed {
                column: name.clone(),
                trained: kind_name(*kind),
                found: column.data_type().to_string(),
            };
            match seen {
                Seen::Numeric { moments, missing, values } => {
                    let numbers: Float64Array = columns::numbers(column).map_err(read)?;
                    *missing += numbers.null_count() as u64;
                    numbers.iter().flatten().for_each(|number| moments.add(number));
                    if self.plan.impute == Impute::Median {
                        values.extend(numbers.iter().flatten());
                    }
                }
                Seen::Integer(counts) => match columns::keys(column).map_err(read)? {
                    Some(Keys::Integer(keys)) => {
                        for (key, &target) in keys.iter().zip(target) {
                            counts.slot(key).add(Level { rows: 1, target_sum: target });
                        }
                    }
                    _ => return Err(changed()),
                },
                Seen::Text(counts) => match columns::keys(column).map_err(read)? {
                    Some(Keys::Text(keys)) => {
                        for (key, &target) in keys.iter().zip(target) {
                            let one = Level { rows: 1, target_sum: target };
                            match key.and_then(|key| counts.levels.get_mut(key)) {
                                Some(level) => level.add(one),
                                None => counts.slot(key.map(str::to_owned)).add(one),
                            }
                        }
                    }
                    _ => return Err(changed()),
                },
            }
            if seen.level_count() > FEATURE_LEVELS_TRACKED_MAX {
                return Err(FeatureError::Levels { column: name.clone() });
            }
        }
        Ok(())
    }

    /// Adds what another fitter of the same plan and schema saw in later rows.
    pub fn merge(&mut self, later: FeatureFitter) -> Result<(), FeatureError> {
        self.target.merge(&later.target);
        for (((name, _), seen), later) in self.inputs.iter().zip(&mut self.seen).zip(later.seen) {
            match (&mut *seen, later) {
                (
                    Seen::Numeric { moments, missing, values },
                    Seen::Numeric { moments: more, missing: missing_too, values: mut rest },
                ) => {
                    moments.merge(&more);
                    *missing += missing_too;
                    values.append(&mut rest);
                }
                (Seen::Integer(counts), Seen::Integer(later)) => counts.merge(later),
                (Seen::Text(counts), Seen::Text(later)) => counts.merge(later),
                (_, _) => unreachable!("fitters of the same plan and schema look at the same columns"),
            }
            if seen.level_count() > FEATURE_LEVELS_TRACKED_MAX {
                return Err(FeatureError::Levels { column: name.clone() });
            }
        }
        Ok(())
    }

    /// The fitted features.
    pub fn finish(self) -> Result<FittedFeatures, FeatureError> {
        let rows = self.target.count;
        let mut data = FittedData { inputs: Vec::new(), features: Vec::new(), outputs: Vec::new(), rows };
        for ((name, kind), seen) in self.inputs.into_iter().zip(self.seen) {
            let (nullable, feature) = match seen {
                Seen::Numeric { moments, missing, values } => {
                    if moments.count == 0 {
                        return Err(FeatureError::Empty { column: name });
                    }
                    (missing > 0, fit_numeric(&self.plan, &name, moments, missing, values, &mut data.outputs))
                }
                Seen::Integer(counts) => {
                    if counts.levels.is_empty() {
                        return Err(FeatureError::Empty { column: name });
                    }
                    let chosen = counts.choose(self.plan.levels_max);
                    let names = chosen.levels.iter().map(|(key, _)| integer_name(*key, kind)).collect();
                    let coding =
                        fit_levels(self.plan.encoding, &name, names, &chosen, self.target.mean, &mut data.outputs);
                    let levels = Levels::Integer(chosen.levels.into_iter().map(|(key, _)| key).collect());
                    (chosen.missing, Feature::Categorical { levels, coding })
                }
                Seen::Text(counts) => {
                    if counts.levels.is_empty() {
                        return Err(FeatureError::Empty { column: name });
                    }
                    let chosen = counts.choose(self.plan.levels_max);
                    let names = chosen.levels.iter().map(|(key, _)| key.clone()).collect();
                    let coding =
                        fit_levels(self.plan.encoding, &name, names, &chosen, self.target.mean, &mut data.outputs);
                    let levels = Levels::Text(chosen.levels.into_iter().map(|(key, _)| key).collect());
                    (chosen.missing, Feature::Categorical { levels, coding })
                }
            };
            data.inputs.push(Input { name, kind, nullable });
            data.features.push(feature);
        }
        Ok(FittedFeatures::try_from(data).expect("what was just fitted fits together"))
    }
}

impl Seen {
    fn level_count(&self) -> usize {
        match self {
            Seen::Numeric { .. } => 0,
            Seen::Integer(counts) => counts.levels.len(),
            Seen::Text(counts) => counts.levels.len(),
        }
    }
}

/// The levels that are kept, sorted, and what the others have in common.
struct Chosen<K> {
    levels: Vec<(K, Level)>,
    unknown: Level,
    missing: bool,
}

impl<K: Ord + Clone + Hash> LevelCounts<K> {
    fn slot(&mut self, key: Option<K>) -> &mut Level {
        match key {
            Some(key) => self.levels.entry(key).or_default(),
            None => &mut self.missing,
        }
    }

    fn merge(&mut self, later: LevelCounts<K>) {
        self.missing.add(later.missing);
        for (key, level) in later.levels {
            self.slot(Some(key)).add(level);
        }
    }

    /// Keeps the most frequent levels; of equally frequent ones those that sort first.
    fn choose(self, levels_max: usize) -> Chosen<K> {
        let missing = self.missing.rows > 0;
        let mut unknown = self.missing;
        let mut levels: Vec<(K, Level)> = self.levels.into_iter().collect();
        if levels.len() > levels_max {
            levels.sort_by(|(a, left), (b, right)| (Reverse(left.rows), a).cmp(&(Reverse(right.rows), b)));
            levels.drain(levels_max..).for_each(|(_, level)| unknown.add(level));
            levels.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        Chosen { levels, unknown, missing }
    }
}

impl<K> Default for LevelCounts<K> {
    fn default() -> LevelCounts<K> {
        LevelCounts { levels: BTreeMap::new(), missing: Level::default() }
    }
}

fn fit_numeric(
    plan: &FeaturePlan,
    name: &str,
    moments: Moments,
    missing: u64,
    mut values: Vec<f64>,
    outputs: &mut Vec<Output>,
) -> Feature {
    let impute = match plan.impute {
        Impute::Mean => moments.mean,
        Impute::Median => median(&mut values),
        Impute::Constant(value) => value,
    };
    let mut filled = moments;
    filled.merge(&Moments::repeated(impute, missing));
    let (center, scale) = match plan.scale {
        Scale::None => (0.0, 1.0),
        // A constant column stays as it is but for its mean, as in scikit-learn.
        Scale::Standard => (filled.mean, if filled.std() > 0.0 { filled.std() } else { 1.0 }),
    };
    outputs.push(Output {
        name: name.to_owned(),
        mean: (filled.mean - center) / scale,
        std: filled.std() / scale,
        flag: false,
    });
    let indicator = plan.missing_indicator && missing > 0;
    if indicator {
        outputs.push(flag_output(format!("{name}=<missing>"), missing, filled.count));
    }
    Feature::Numeric { impute, center, scale, indicator }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower + (upper - lower) / 2.0
}

fn fit_levels<K>(
    encoding: Encoding,
    name: &str,
    level_names: Vec<String>,
    chosen: &Chosen<K>,
    target_mean: f64,
    outputs: &mut Vec<Output>,
) -> Coding {
    let rows = chosen.levels.iter().map(|(_, level)| level.rows).sum::<u64>() + chosen.unknown.rows;
    match encoding {
        Encoding::OneHot => {
            for (level_name, (_, level)) in level_names.iter().zip(&chosen.levels) {
                outputs.push(flag_output(format!("{name}={level_name}"), level.rows, rows));
            }
            let unknown = chosen.unknown.rows > 0;
            if unknown {
                outputs.push(flag_output(format!("{name}=<unknown>"), chosen.unknown.rows, rows));
            }
            Coding::OneHot { unknown }
        }
        Encoding::Ordered => {
            let mixed = |level: &Level| {
                (level.target_sum + ORDER_PRIOR_ROWS * target_mean) / (level.rows as f64 + ORDER_PRIOR_ROWS)
            };
            let mut order: Vec<usize> = (0..chosen.levels.len()).collect();
            // A stable sort: equal means stay in the order of their names.
            order.sort_by(|&a, &b| mixed(&chosen.levels[a].1).total_cmp(&mixed(&chosen.levels[b].1)));
            let mut codes = vec![0.0; order.len()];
            for (rank, &at) in order.iter().enumerate() {
                codes[at] = rank as f64;
            }
            let below = order.iter().filter(|&&at| mixed(&chosen.levels[at].1) < target_mean).count();
            let unknown = below as f64 - 0.5;
            let mut moments = Moments::repeated(unknown, chosen.unknown.rows);
            for (code, (_, level)) in codes.iter().zip(&chosen.levels) {
                moments.merge(&Moments::repeated(*code, level.rows));
            }
            outputs.push(Output { name: name.to_owned(), mean: moments.mean, std: moments.std(), flag: false });
            Coding::Ordered { codes, unknown }
        }
    }
}

fn flag_output(name: String, ones: u64, rows: u64) -> Output {
    let share = ones as f64 / rows.max(1) as f64;
    Output { name, mean: share, std: (share * (1.0 - share)).sqrt(), flag: true }
}
