//! The column to predict: what is learned from it, and its values as numbers.
//!
//! A row without a target value is an error and not left out in silence: whether such rows are noise or a
//! fault upstream is for the author of the pipeline to say, with `where target is not null`.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use gristmill_protocol::limits::CLASSES_MAX;
use gristmill_protocol::pipeline::{ColumnType, Learning};
use serde::{Deserialize, Serialize};

use crate::columns::{self, Keys, kind_name, kind_of};

/// Why a column can't be the target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("there is no column `{column}` to predict")]
    Missing { column: String, nearest: Option<String> },
    #[error("column `{column}` is of type {found}, which can't be predicted{}", .learning.map(|l| format!(" by {}", learning_name(l))).unwrap_or_default())]
    Type { column: String, found: String, learning: Option<Learning> },
    #[error("{nulls} of {rows} rows have no value in the target `{column}`")]
    Nulls { column: String, nulls: u64, rows: u64 },
    #[error("all {rows} rows have the same value in the target `{column}`: `{value}`")]
    Constant { column: String, value: String, rows: u64 },
    #[error("the target `{column}` has more than {CLASSES_MAX} classes")]
    Classes { column: String },
    #[error("there are no rows to learn from")]
    NoRows,
    #[error("`{value}` in the target `{column}` is none of the model's classes")]
    Unknown { column: String, value: String },
    #[error("failed to read the target `{column}`")]
    Read {
        column: String,
        #[source]
        source: ArrowError,
    },
}

impl TargetError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TargetError::Missing { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            TargetError::Missing { .. } | TargetError::NoRows | TargetError::Read { .. } => None,
            TargetError::Type { .. } => {
                Some("classes are of type boolean, integer, string or date; values are numbers".to_owned())
            }
            TargetError::Nulls { column, .. } => {
                Some(format!("leave them out in a transform before: `where {column} is not null`"))
            }
            TargetError::Constant { .. } => Some("look at the filters before: there is nothing to learn".to_owned()),
            TargetError::Classes { .. } => {
                Some("set `task: regression` for a number; else group rare classes in a transform".to_owned())
            }
            TargetError::Unknown { .. } => {
                Some("the model was trained without it: leave such rows out, or train again with them".to_owned())
            }
        }
    }
}

/// The classes of a classification, sorted. Of two classes the second (true, 1) is the positive one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// `false` and `true`.
    Boolean,
    Integer(Vec<i64>),
    /// Days since 1970.
    Date(Vec<i64>),
    Text(Vec<String>),
}

impl Classes {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Classes::Boolean => 2,
            Classes::Integer(classes) | Classes::Date(classes) => classes.len(),
            Classes::Text(classes) => classes.len(),
        }
    }

    /// The classes as text, in their order.
    pub fn names(&self) -> Vec<String> {
        match self {
            Classes::Boolean => vec!["false".to_owned(), "true".to_owned()],
            Classes::Integer(classes) => classes.iter().map(i64::to_string).collect(),
            Classes::Date(classes) => classes.iter().map(|&days| date_text(days)).collect(),
            Classes::Text(classes) => classes.clone(),
        }
    }

    /// An Arrow array of the classes at these indexes, of the target's type.
    pub fn array(&self, indexes: impl Iterator<Item = usize>) -> ArrayRef {
        use std::sync::Arc;
        match self {
            Classes::Boolean => Arc::new(BooleanArray::from_iter(indexes.map(|index| Some(index == 1)))),
            Classes::Integer(classes) => Arc::new(Int64Array::from_iter_values(indexes.map(|index| classes[index]))),
            Classes::Date(classes) => Arc::new(arrow::array::Date32Array::from_iter_values(
                indexes.map(|index| i32::try_from(classes[index]).unwrap_or(i32::MAX)),
            )),
            Classes::Text(classes) => Arc::new(StringArray::from_iter_values(indexes.map(|index| &classes[index]))),
        }
    }

    fn index_of_integer(&self, key: i64) -> Option<usize> {
        match self {
            Classes::Boolean => usize::try_from(key).ok().filter(|&index| index < 2),
            Classes::Integer(classes) | Classes::Date(classes) => classes.binary_search(&key).ok(),
            Classes::Text(_) => None,
        }
    }

    fn index_of_text(&self, key: &str) -> Option<usize> {
        match self {
            Classes::Text(classes) => classes.binary_search_by(|class| class.as_str().cmp(key)).ok(),
            Classes::Boolean | Classes::Integer(_) | Classes::Date(_) => None,
        }
    }
}

/// What the model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// One of these classes, with the rows that training saw of each.
    Classes { classes: Classes, counts: Vec<u64> },
    /// A number; mean and standard deviation in training.
    Value { mean: f64, std: f64 },
    /// A group, which no column tells.
    Groups,
}

/// The column to predict, as training found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub column: String,
    pub kind: ColumnType,
    pub goal: Goal,
    /// Rows that training saw.
    pub rows: u64,
}

impl Target {
    /// What is predicted, for people: `late (classification)`.
    pub fn text(&self) -> String {
        match (self.column.as_str(), learning_name(self.learning())) {
            ("", learning) => learning.to_owned(),
            (column, learning) => format!("{column} ({learning})"),
        }
    }

    /// Classification, regression or clustering.
    pub fn learning(&self) -> Learning {
        match self.goal {
            Goal::Classes { .. } => Learning::Classification,
            Goal::Value { .. } => Learning::Regression,
            Goal::Groups => Learning::Clustering,
        }
    }

    /// The classes of a classification.
    pub fn classes(&self) -> Option<&Classes> {
        match &self.goal {
            Goal::Classes { classes, .. } => Some(classes),
            Goal::Value { .. } | Goal::Groups => None,
        }
    }

    /// How many scores a prediction has: one for regression and two classes, else one a class.
    pub fn outputs(&self) -> usize {
        match self.classes().map(Classes::count) {
            None | Some(0..=2) => 1,
            Some(count) => count,
        }
    }

    /// What is learned where no column tells it.
    pub fn groups(rows: u64) -> Target {
        Target { column: String::new(), kind: ColumnType::Integer, goal: Goal::Groups, rows }
    }

    /// The rows' target values: the class's index, or the number itself; zeros where there is no target.
    pub fn values(&self, batch: &RecordBatch) -> Result<Vec<f64>, TargetError> {
        if self.goal == Goal::Groups {
            return Ok(vec![0.0; batch.num_rows()]);
        }
        let column = find(batch, &self.column)?;
        let nulls = column.null_count() as u64;
        if nulls > 0 {
            return Err(TargetError::Nulls { column: self.column.clone(), nulls, rows: column.len() as u64 });
        }
        let read = |source| TargetError::Read { column: self.column.clone(), source };
        let unknown = |value: String| TargetError::Unknown { column: self.column.clone(), value };
        let Goal::Classes { classes, .. } = &self.goal else {
            let numbers = columns::numbers(column).map_err(read)?;
            let nulls = numbers.null_count() as u64;
            if nulls > 0 {
                return Err(TargetError::Nulls { column: self.column.clone(), nulls, rows: column.len() as u64 });
            }
            return Ok(numbers.values().to_vec());
        };
        let keys = columns::keys(column).map_err(read)?.ok_or_else(|| self.type_error(column))?;
        match keys {
            Keys::Integer(keys) => keys
                .values()
                .iter()
                .map(|&key| classes.index_of_integer(key).map(|i| i as f64).ok_or_else(|| unknown(key.to_string())))
                .collect(),
            Keys::Text(keys) => keys
                .iter()
                .flatten()
                .map(|key| classes.index_of_text(key).map(|i| i as f64).ok_or_else(|| unknown(key.to_owned())))
                .collect(),
        }
    }

    fn type_error(&self, column: &ArrayRef) -> TargetError {
        TargetError::Type {
            column: self.column.clone(),
            found: column.data_type().to_string(),
            learning: Some(self.learning()),
        }
    }
}

/// Reads the target column once, to find what is learned. Partitions can be read apart and merged in order.
#[derive(Clone, Debug)]
pub struct TargetFitter {
    column: String,
    kind: ColumnType,
    task: Option<Learning>,
    rows: u64,
    nulls: u64,
    moments: Moments,
    integers: BTreeMap<i64, u64>,
    texts: BTreeMap<String, u64>,
    /// More distinct values than classes are allowed.
    overflow: bool,
}

impl TargetFitter {
    /// Looks for the column in the schema; `task` is what the pipeline asks for, if it does.
    pub fn new(schema: &Schema, column: &str, task: Option<Learning>) -> Result<TargetFitter, TargetError> {
        let field = schema.field_with_name(column).map_err(|_| TargetError::Missing {
            column: column.to_owned(),
            nearest: columns::nearest(column, schema.fields().iter().map(|field| field.name().as_str())),
        })?;
        let kind = kind_of(field.data_type());
        let unfit = matches!(
            (kind, task),
            (None, _)
                | (Some(ColumnType::String), Some(Learning::Regression))
                | (Some(ColumnType::Float | ColumnType::Timestamp), Some(Learning::Classification))
        );
        match kind {
            Some(kind) if !unfit => Ok(TargetFitter {
                column: column.to_owned(),
                kind,
                task,
                rows: 0,
                nulls: 0,
                moments: Moments::default(),
                integers: BTreeMap::new(),
                texts: BTreeMap::new(),
                overflow: false,
            }),
            kind => Err(TargetError::Type {
                column: column.to_owned(),
                found: kind.map_or_else(|| field.data_type().to_string(), |kind| kind_name(kind).to_owned()),
                learning: task,
            }),
        }
    }

    /// Takes the rows of a batch.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), TargetError> {
        let column = find(batch, &self.column)?;
        let read = |source| TargetError::Read { column: self.column.clone(), source };
        self.rows += column.len() as u64;
        if self.kind != ColumnType::String {
            let numbers = columns::numbers(column).map_err(read)?;
            self.nulls += numbers.null_count() as u64;
            numbers.iter().flatten().for_each(|number| self.moments.add(number));
        } else {
            self.nulls += column.null_count() as u64;
        }
        if self.task == Some(Learning::Regression) || self.overflow {
            return Ok(());
        }
        match columns::keys(column).map_err(read)? {
            Some(Keys::Integer(keys)) => {
                keys.iter().flatten().for_each(|key| *self.integers.entry(key).or_default() += 1)
            }
            Some(Keys::Text(keys)) => {
                for key in keys.iter().flatten() {
                    match self.texts.get_mut(key) {
                        Some(count) => *count += 1,
                        None => drop(self.texts.insert(key.to_owned(), 1)),
                    }
                }
            }
            None => {}
        }
        self.check_overflow();
        Ok(())
    }

    /// Adds what another fitter of the same column found in later rows.
    pub fn merge(&mut self, later: TargetFitter) {
        self.rows += later.rows;
        self.nulls += later.nulls;
        self.moments.merge(&later.moments);
        self.overflow |= later.overflow;
        for (key, count) in later.integers {
            *self.integers.entry(key).or_default() += count;
        }
        for (key, count) in later.texts {
            *self.texts.entry(key).or_default() += count;
        }
        self.check_overflow();
    }

    fn check_overflow(&mut self) {
        self.overflow |= self.integers.len().max(self.texts.len()) > CLASSES_MAX;
        if self.overflow {
            self.integers.clear();
            self.texts.clear();
        }
    }

    /// What is learned. Boolean, text and date targets make a classification, floating-point ones and
    /// timestamps a regression; whole numbers a classification when there are two values, else a regression.
    pub fn finish(self) -> Result<Target, TargetError> {
        let column = self.column.clone();
        if self.rows == 0 {
            return Err(TargetError::NoRows);
        }
        if self.nulls > 0 {
            return Err(TargetError::Nulls { column, nulls: self.nulls, rows: self.rows });
        }
        let learning = self.task.unwrap_or(match self.kind {
            ColumnType::Boolean | ColumnType::String | ColumnType::Date => Learning::Classification,
            ColumnType::Float | ColumnType::Timestamp => Learning::Regression,
            ColumnType::Integer if !self.overflow && self.integers.len() == 2 => Learning::Classification,
            ColumnType::Integer => Learning::Regression,
        });
        let goal = match learning {
            Learning::Clustering => Goal::Groups,
            Learning::Regression => {
                if self.moments.min == self.moments.max {
                    return Err(TargetError::Constant { column, value: self.moments.min.to_string(), rows: self.rows });
                }
                Goal::Value { mean: self.moments.mean, std: self.moments.std() }
            }
            Learning::Classification if self.overflow => return Err(TargetError::Classes { column }),
            Learning::Classification => {
                let keys: Vec<i64> = self.integers.keys().copied().collect();
                let (classes, counts): (_, Vec<u64>) = match self.kind {
                    ColumnType::String => {
                        let counts = self.texts.values().copied().collect();
                        (Classes::Text(self.texts.into_keys().collect()), counts)
                    }
                    kind => {
                        let classes = match kind {
                            ColumnType::Boolean if keys.len() == 2 => Classes::Boolean,
                            ColumnType::Date => Classes::Date(keys),
                            _ => Classes::Integer(keys),
                        };
                        (classes, self.integers.values().copied().collect())
                    }
                };
                if counts.len() < 2 {
                    let value = match (self.kind, classes.names().into_iter().next().unwrap_or_default()) {
                        (ColumnType::Boolean, key) => (key == "1").to_string(),
                        (_, name) => name,
                    };
                    return Err(TargetError::Constant { column, value, rows: self.rows });
                }
                Goal::Classes { classes, counts }
            }
        };
        Ok(Target { column, kind: self.kind, goal, rows: self.rows })
    }
}

/// The name of a kind of learning, as pipeline files write it.
pub fn learning_name(learning: Learning) -> &'static str {
    match learning {
        Learning::Classification => "classification",
        Learning::Regression => "regression",
        Learning::Clustering => "clustering",
    }
}

fn find<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a ArrayRef, TargetError> {
    columns::column(batch, column).map_err(|nearest| TargetError::Missing { column: column.to_owned(), nearest })
}

/// A day as `2013-01-31`.
pub(crate) fn date_text(days: i64) -> String {
    i32::try_from(days)
        .ok()
        .and_then(arrow::temporal_conversions::date32_to_datetime)
        .map_or_else(|| format!("day {days}"), |date| date.format("%Y-%m-%d").to_string())
}

/// Count, mean and squared deviations in one pass (Welford 1962), mergeable (Chan, Golub and LeVeque 1983).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    pub count: u64,
    pub mean: f64,
    m2: f64,
    pub min: f64,
    pub max: f64,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments { count: 0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let delta = value - self.mean;
        self.mean += delta / self.count as f64;
        self.m2 += delta * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// `count` equal values.
    pub fn repeated(value: f64, count: u64) -> Moments {
        match count {
            0 => Moments::default(),
            count => Moments { count, mean: value, m2: 0.0, min: value, max: value },
        }
    }

    pub fn merge(&mut self, other: &Moments) {
        if other.count == 0 {
            return;
        }
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let (all, delta) = (ours + theirs, other.mean - self.mean);
        self.m2 += other.m2 + delta * delta * ours * theirs / all;
        self.mean += delta * theirs / all;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The standard deviation of the values themselves (divided by their number, as scikit-learn's scaler does).
    pub fn std(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.m2 / self.count as f64).sqrt() }
    }
}
