//! Parts a table into `train`, `test` and `validation`.
//!
//! [`assign`] looks at the one column it needs of all partitions and decides for each row, in a byte; [`apply`] then
//! parts one partition, so that the copying runs in parallel tasks.
//!
//! **Invariant:** a row's part depends on the seed, the settings and the rows' order in the whole table alone.
//! Each row's place in a random order is a one-to-one mix of its number, so that no two rows tie.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use gristmill_protocol::pipeline::steps::{ColumnType, Split};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use crate::blob::SharedBlob;
use crate::hash::{self, StableState};
use crate::partition::{PartitionError, PartitionReader};
use crate::table::{TableError, TableSchema, kind_name};

/// Different values of a stratified column at the most. Shares of more classes than this can't be kept in parts
/// of any usual size; it is most likely not a class that the column holds.
pub const CLASSES_MAX: usize = 10_000;

/// Rows of a table that is parted: places are 32-bit numbers, and deciding takes some 14 bytes a row.
pub const ROWS_MAX: u64 = u32::MAX as u64;

/// Why a table can't be parted.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("`{setting}` is a share over 0 and under 1, not {share}")]
    Share { setting: &'static str, share: f64 },
    #[error("`test` and `validation` together leave nothing for `train`")]
    NothingLeft,
    #[error("`stratify` and `time` exclude each other")]
    Both,
    #[error("`{setting}` names column `{column}`, which the table doesn't have")]
    UnknownColumn { setting: &'static str, column: String, hint: Option<String> },
    #[error("`time` names column `{column}`, which is of type {kind} and has no order in time")]
    NoOrder { column: String, kind: &'static str },
    #[error("column `{column}` of `{setting}` has no value in any row")]
    NoValues { setting: &'static str, column: String },
    #[error("column `{column}` of `stratify` has more than {CLASSES_MAX} different values")]
    TooManyClasses { column: String },
    #[error("the table has {rows} rows, too few for part `{part}`")]
    TooFewRows { rows: u64, part: &'static str },
    #[error("the table has {rows} rows, more than the {ROWS_MAX} that can be parted")]
    TooManyRows { rows: u64 },
    #[error("the assignment is of {expected} rows and the partition has {found}")]
    OtherPartition { expected: usize, found: u64 },
    #[error(transparent)]
    Read(#[from] PartitionError),
}

impl SplitError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            SplitError::UnknownColumn { hint, .. } => hint.clone(),
            SplitError::NoOrder { column, .. } => {
                Some(format!("say what `{column}` holds with `types:` of its ingest step, or `cast` it in a transform"))
            }
            SplitError::TooManyClasses { .. } => {
                Some("stratify by a column of classes, such as the target of a classification".to_owned())
            }
            SplitError::Both => Some("a split by time keeps no shares".to_owned()),
            _ => None,
        }
    }
}

/// A part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Part {
    Train = 0,
    Test = 1,
    Validation = 2,
}

impl Part {
    pub const ALL: [Part; 3] = [Part::Train, Part::Test, Part::Validation];

    /// What the part is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Test => "test",
            Part::Validation => "validation",
        }
    }
}

/// Which part each row goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// For each partition the number of each row's [`Part`].
    pub partitions: Vec<Vec<u8>>,
    /// Rows of each part, in the order of [`Part::ALL`].
    pub rows: [u64; 3],
}

/// Checks the settings of a split for a table of this schema.
pub fn check(schema: &TableSchema, split: &Split) -> Result<(), SplitError> {
    let share = |setting, share: f64, zero: bool| {
        let fits = (share > 0.0 || (zero && share == 0.0)) && share < 1.0;
        if fits { Ok(()) } else { Err(SplitError::Share { setting, share }) }
    };
    share("test", split.test, false)?;
    share("validation", split.validation, true)?;
    if split.test + split.validation >= 1.0 {
        return Err(SplitError::NothingLeft);
    }
    if split.stratify.is_some() && split.time.is_some() {
        return Err(SplitError::Both);
    }
    for (setting, column) in [("stratify", &split.stratify), ("time", &split.time)] {
        let Some(name) = column else { continue };
        let column = schema.column(name).map_err(|error| SplitError::UnknownColumn {
            setting,
            column: name.clone(),
            hint: error.hint(),
        })?;
        if setting == "time" && matches!(column.kind, ColumnType::String | ColumnType::Boolean) {
            return Err(SplitError::NoOrder { column: name.clone(), kind: kind_name(column.kind) });
        }
    }
    Ok(())
}

/// Decides for every row of a table which part it goes to.
///
/// `test` and `validation` get their shares of the rows, rounded. At random, by the seed; with `stratify` so that the
/// classes (rows without a value are one too) keep their shares in each part as exactly as whole rows allow; with `time`
/// the last rows by that column become `test` and those before them `validation`, where rows without a time count
/// as the oldest and rows of the same time keep the table's order.
pub fn assign(schema: &TableSchema, split: &Split, partitions: &[SharedBlob]) -> Result<Assignment, SplitError> {
    check(schema, split)?;
    let mut lengths = Vec::with_capacity(partitions.len());
    let setting = if split.time.is_some() { "time" } else { "stratify" };
    let column = split.time.as_ref().or(split.stratify.as_ref());
    let mut keys = Keys::new(split, column.map(|name| schema.column(name).map(|column| column.kind)))?;
    for partition in partitions {
        let names: Vec<&String> = column.into_iter().collect();
        let reader = PartitionReader::open(partition.clone(), Some(&names))?;
        lengths.push(usize::try_from(reader.rows()).unwrap_or(usize::MAX));
        let rows = lengths.iter().map(|length| *length as u64).sum();
        if rows > ROWS_MAX {
            return Err(SplitError::TooManyRows { rows });
        }
        for batch in reader {
            let batch = batch?;
            keys.add(batch.columns().first(), batch.num_rows())?;
        }
    }
    let rows: usize = lengths.iter().sum();
    if let (Some(column), false) = (column, keys.has_values) {
        return Err(SplitError::NoValues { setting, column: column.clone() });
    }
    let test = share_of(rows, split.test);
    let validation = share_of(rows, split.validation);
    for (part, wanted, count) in [
        (Part::Test, true, test),
        (Part::Validation, split.validation > 0.0, validation),
        (Part::Train, true, rows.saturating_sub(test + validation)),
    ] {
        if wanted && count == 0 {
            return Err(SplitError::TooFewRows { rows: rows as u64, part: part.as_str() });
        }
    }
    let parts = match keys.by {
        By::Time(times) => by_time(times, test, validation),
        By::Class { classes, counts, .. } => at_random(split.seed, &classes, &counts, test, validation),
        By::Nothing(rows) => at_random(split.seed, &vec![0; rows], &[rows], test, validation),
    };
    let mut counts = [0; 3];
    parts.iter().for_each(|part| counts[usize::from(*part)] += 1);
    let mut left = parts.as_slice();
    let partitions = lengths.iter().map(|length| {
        let (these, rest) = left.split_at(*length);
        left = rest;
        these.to_vec()
    });
    Ok(Assignment { partitions: partitions.collect(), rows: counts })
}

/// Parts one partition: gives `sink` the rows of each part, in their order.
pub fn apply<E: From<SplitError>>(
    partition: SharedBlob,
    assignment: &[u8],
    mut sink: impl FnMut(Part, RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let reader = PartitionReader::open_all(partition).map_err(SplitError::Read)?;
    if reader.rows() != assignment.len() as u64 {
        return Err(SplitError::OtherPartition { expected: assignment.len(), found: reader.rows() }.into());
    }
    let mut left = assignment;
    for batch in reader {
        let batch = batch.map_err(SplitError::Read)?;
        let (these, rest) = left.split_at(batch.num_rows().min(left.len()));
        left = rest;
        for part in Part::ALL {
            let mask: BooleanArray = these.iter().map(|row| Some(*row == part as u8)).collect();
            if mask.true_count() > 0 {
                let rows = filter_record_batch(&batch, &mask)
                    .map_err(|error| SplitError::Read(PartitionError::Decode(error)))?;
                sink(part, rows)?;
            }
        }
    }
    Ok(())
}

fn share_of(rows: usize, share: f64) -> usize {
    (rows as f64 * share).round() as usize
}

/// What decides about the rows, gathered batch by batch.
struct Keys {
    by: By,
    kind: Option<ColumnType>,
    has_values: bool,
    column: String,
}

enum By {
    /// A number whose order is the order in time.
    Time(Vec<u64>),
    /// The class of each row, in the order in which classes come up, and the rows of each class.
    Class { classes: Vec<u32>, counts: Vec<usize>, known: HashMap<u128, u32, StableState> },
    /// A number of rows without any distinction.
    Nothing(usize),
}

impl Keys {
    fn new(split: &Split, kind: Option<Result<ColumnType, TableError>>) -> Result<Keys, SplitError> {
        let by = match (&split.time, &split.stratify) {
            (Some(_), _) => By::Time(Vec::new()),
            (None, Some(_)) => By::Class { classes: Vec::new(), counts: Vec::new(), known: HashMap::default() },
            (None, None) => By::Nothing(0),
        };
        let kind = kind.transpose().map_err(PartitionError::Table)?;
        let column = split.time.clone().or(split.stratify.clone()).unwrap_or_default();
        Ok(Keys { by, kind, has_values: false, column })
    }

    fn add(&mut self, column: Option<&ArrayRef>, rows: usize) -> Result<(), SplitError> {
        let (Some(column), Some(kind)) = (column, self.kind) else {
            if let By::Nothing(count) = &mut self.by {
                *count += rows;
            }
            return Ok(());
        };
        self.has_values |= column.null_count() < rows;
        match &mut self.by {
            By::Time(times) => times.extend((0..rows).map(|row| time_key(kind, column, row))),
            By::Class { classes, counts, known } => {
                for row in 0..rows {
                    let class = *known.entry(class_key(kind, column, row)).or_insert_with(|| {
                        counts.push(0);
                        counts.len() as u32 - 1
                    });
                    counts[class as usize] += 1;
                    classes.push(class);
                }
                if counts.len() > CLASSES_MAX {
                    return Err(SplitError::TooManyClasses { column: self.column.clone() });
                }
            }
            By::Nothing(count) => *count += rows,
        }
        Ok(())
    }
}

/// A number whose order is that of the values; no value is the smallest.
fn time_key(kind: ColumnType, column: &ArrayRef, row: usize) -> u64 {
    const SIGN: u64 = 1 << 63;
    if column.is_null(row) {
        return 0;
    }
    let integer = |value: i64| (value as u64 ^ SIGN).max(1);
    match kind {
        ColumnType::Date => integer(column.as_primitive::<Date32Type>().value(row).into()),
        ColumnType::Timestamp => integer(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        ColumnType::Float => {
            let bits = (column.as_primitive::<Float64Type>().value(row) + 0.0).to_bits();
            if bits & SIGN == 0 { bits | SIGN } else { (!bits).max(1) }
        }
        _ => integer(column.as_primitive::<Int64Type>().value(row)),
    }
}

/// What tells classes apart.
fn class_key(kind: ColumnType, column: &ArrayRef, row: usize) -> u128 {
    if column.is_null(row) {
        return u128::MAX;
    }
    match kind {
        ColumnType::Boolean => column.as_boolean().value(row).into(),
        ColumnType::Integer => column.as_primitive::<Int64Type>().value(row) as u64 as u128,
        ColumnType::Float => (column.as_primitive::<Float64Type>().value(row) + 0.0).to_bits() as u128,
        ColumnType::Date => column.as_primitive::<Date32Type>().value(row) as u32 as u128,
        ColumnType::Timestamp => column.as_primitive::<TimestampMicrosecondType>().value(row) as u64 as u128,
        ColumnType::String => hash::wide(column.as_string::<i32>().value(row).as_bytes()),
    }
}

/// The last rows by time are `test`, those before them `validation`.
fn by_time(times: Vec<u64>, test: usize, validation: usize) -> Vec<u8> {
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_unstable_by_key(|row| (times[*row as usize], *row));
    let mut parts = vec![Part::Train as u8; times.len()];
    for (index, row) in order.iter().rev().take(test + validation).enumerate() {
        parts[*row as usize] = if index < test { Part::Test as u8 } else { Part::Validation as u8 };
    }
    parts
}

/// Each class gives its share to each part; which of its rows, the seed decides.
fn at_random(seed: u64, classes: &[u32], counts: &[usize], test: usize, validation: usize) -> Vec<u8> {
    let tests = apportion(counts, test);
    let left: Vec<usize> = counts.iter().zip(&tests).map(|(count, test)| count - test).collect();
    let validations = apportion(&left, validation);
    // Rows of each class in a random order.
    let place = |row: usize| hash::mix(row as u64 ^ hash::mix(seed ^ 0x5EED));
    let mut by_class: Vec<Vec<u32>> = counts.iter().map(|count| Vec::with_capacity(*count)).collect();
    classes.iter().enumerate().for_each(|(row, class)| by_class[*class as usize].push(row as u32));
    let mut parts = vec![Part::Train as u8; classes.len()];
    for (class, rows) in by_class.iter_mut().enumerate() {
        let (test, taken) = (tests[class], tests[class] + validations[class]);
        if taken > 0 && taken < rows.len() {
            rows.select_nth_unstable_by_key(taken, |row| place(*row as usize));
        }
        let taken = &mut rows[..taken];
        if test > 0 && test < taken.len() {
            taken.select_nth_unstable_by_key(test, |row| place(*row as usize));
        }
        for (index, row) in taken.iter().enumerate() {
            parts[*row as usize] = if index < test { Part::Test as u8 } else { Part::Validation as u8 };
        }
    }
    parts
}

/// Parts `total` over the classes by their sizes: the whole rows of each quota first, then one each for the largest
/// remainders, the earlier class first when they are equal (Hamilton's method).
fn apportion(counts: &[usize], total: usize) -> Vec<usize> {
    let rows: u128 = counts.iter().map(|count| *count as u128).sum();
    if rows == 0 {
        return vec![0; counts.len()];
    }
    let quota = |count: usize| count as u128 * total as u128;
    let mut shares: Vec<usize> = counts.iter().map(|count| (quota(*count) / rows) as usize).collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|class| std::cmp::Reverse(quota(counts[*class]) % rows));
    let missing = total.saturating_sub(shares.iter().sum());
    for class in order.into_iter().take(missing) {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
mod tests;
