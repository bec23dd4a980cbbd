//! Checks one partition: counts, the first failing rows by number, and for `unique` the values' keys.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use gristmill_protocol::pipeline::steps::ColumnType;
use serde::{Deserialize, Serialize};

use super::compile::{Check, Range, Rules, Set, What, float_bits};
use super::{ExpectError, FAILING_ROWS_MAX};
use crate::blob::SharedBlob;
use crate::partition::{PartitionError, PartitionReader};
use crate::table::TableError;
use crate::{dates, hash};

/// Failing values that a message shows.
const EXAMPLES_MAX: usize = 3;

/// What one partition says about the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartialReport {
    pub(super) rows: u64,
    pub(super) checks: Vec<PartialCheck>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PartialCheck {
    /// Rows looked at, and those of them that failed.
    pub checked: u64,
    pub failing: u64,
    /// The first failing rows, by their number in the partition.
    pub rows: Vec<u64>,
    /// Some failing values, as text.
    pub examples: Vec<String>,
    /// Keys of the values and their rows, for `unique`: which of them repeat shows when all are together.
    pub keys: Vec<(u128, u64)>,
}

impl Rules {
    /// Checks one partition.
    pub fn check(&self, partition: SharedBlob) -> Result<PartialReport, ExpectError> {
        let mut report = PartialReport { rows: 0, checks: vec![PartialCheck::default(); self.checks.len()] };
        for batch in PartitionReader::open(partition, Some(&self.columns))? {
            self.check_batch(&batch?, &mut report)?;
        }
        Ok(report)
    }

    fn check_batch(&self, batch: &RecordBatch, report: &mut PartialReport) -> Result<(), ExpectError> {
        let first = report.rows;
        report.rows += batch.num_rows() as u64;
        for (check, partial) in self.checks.iter().zip(&mut report.checks) {
            let column = match check.column() {
                Some(name) => Some(batch.column_by_name(name).ok_or_else(|| missing(name))?),
                None => None,
            };
            match (&check.what, column) {
                (What::Unique { .. }, Some(column)) => {
                    partial.checked += (column.len() - column.null_count()) as u64;
                    keys(self.kind(check)?, column, first, &mut partial.keys);
                }
                (What::Rows(_), _) => partial.checked += batch.num_rows() as u64,
                (What::Sql { condition, .. }, _) => {
                    let holds = condition.evaluate(batch)?;
                    let fails = (0..holds.len()).map(|row| holds.is_null(row) || !holds.value(row));
                    partial.checked += batch.num_rows() as u64;
                    partial.take(&BooleanBuffer::from_iter(fails), first, None);
                }
                (What::Nulls { .. }, Some(column)) => {
                    partial.checked += batch.num_rows() as u64;
                    if let Some(nulls) = column.logical_nulls() {
                        partial.take(&!nulls.inner(), first, None);
                    }
                }
                (what, Some(column)) => {
                    partial.checked += (column.len() - column.null_count()) as u64;
                    let fails = failing(what, self.kind(check)?, column);
                    partial.take(&fails, first, Some((self.kind(check)?, column)));
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn kind(&self, check: &Check) -> Result<ColumnType, ExpectError> {
        let name = check.column().unwrap_or_default();
        Ok(self.schema.column(name).map_err(PartitionError::Table)?.kind)
    }
}

fn missing(name: &str) -> ExpectError {
    ExpectError::Read(PartitionError::Table(TableError::UnknownColumn { column: name.to_owned(), hint: None }))
}

impl PartialCheck {
    /// Takes in which rows of a batch failed.
    fn take(&mut self, fails: &BooleanBuffer, first: u64, values: Option<(ColumnType, &ArrayRef)>) {
        self.failing += fails.count_set_bits() as u64;
        let room = FAILING_ROWS_MAX.saturating_sub(self.rows.len());
        for row in fails.set_indices().take(room) {
            self.rows.push(first + row as u64);
            if let Some((kind, column)) = values
                && self.examples.len() < EXAMPLES_MAX
            {
                let example = show(kind, column, row);
                if !self.examples.contains(&example) {
                    self.examples.push(example);
                }
            }
        }
    }
}

/// Which rows have a value that a check doesn't allow.
fn failing(what: &What, kind: ColumnType, column: &ArrayRef) -> BooleanBuffer {
    let values: BooleanBuffer = match (what, kind) {
        (What::Between { range, .. }, _) => outside(range, kind, column),
        (What::In { set, .. }, _) => not_in(set, kind, column),
        (What::Matches { pattern, .. }, ColumnType::String) => {
            let texts = column.as_string::<i32>();
            BooleanBuffer::collect_bool(texts.len(), |row| !pattern.is_match(texts.value(row)))
        }
        _ => BooleanBuffer::new_unset(column.len()),
    };
    match column.nulls() {
        Some(nulls) => &values & nulls.inner(),
        None => values,
    }
}

fn outside(range: &Range, kind: ColumnType, column: &ArrayRef) -> BooleanBuffer {
    fn beyond<T: PartialOrd + Copy>(values: &[T], low: T, high: T) -> BooleanBuffer {
        // Also true of what is not a number.
        BooleanBuffer::collect_bool(values.len(), |row| !(values[row] >= low && values[row] <= high))
    }
    match range {
        Range::Integer(low, high) => {
            let (low, high) = (low.unwrap_or(f64::NEG_INFINITY).ceil(), high.unwrap_or(f64::INFINITY).floor());
            // Bounds beyond 64 bits saturate to what every number is inside of.
            beyond(column.as_primitive::<Int64Type>().values(), low as i64, high as i64)
        }
        Range::Float(low, high) => {
            let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
            beyond(column.as_primitive::<Float64Type>().values(), low, high)
        }
        Range::Time(low, high) => {
            let (low, high) = (low.unwrap_or(i64::MIN), high.unwrap_or(i64::MAX));
            if kind == ColumnType::Date {
                let days = column.as_primitive::<Date32Type>().values();
                BooleanBuffer::collect_bool(days.len(), |row| {
                    let day = i64::from(days[row]);
                    day < low || day > high
                })
            } else {
                beyond(column.as_primitive::<TimestampMicrosecondType>().values(), low, high)
            }
        }
        Range::Text(low, high) => {
            let texts = column.as_string::<i32>();
            BooleanBuffer::collect_bool(texts.len(), |row| {
                let text = texts.value(row);
                low.as_deref().is_some_and(|low| text < low) || high.as_deref().is_some_and(|high| text > high)
            })
        }
    }
}

fn not_in(set: &Set, kind: ColumnType, column: &ArrayRef) -> BooleanBuffer {
    let length = column.len();
    match set {
        Set::Integer(set) => {
            let has = |value: i64| set.binary_search(&value).is_ok();
            match kind {
                ColumnType::Date => {
                    let days = column.as_primitive::<Date32Type>().values();
                    BooleanBuffer::collect_bool(length, |row| !has(days[row].into()))
                }
                ColumnType::Timestamp => {
                    let instants = column.as_primitive::<TimestampMicrosecondType>().values();
                    BooleanBuffer::collect_bool(length, |row| !has(instants[row]))
                }
                _ => {
                    let numbers = column.as_primitive::<Int64Type>().values();
                    BooleanBuffer::collect_bool(length, |row| !has(numbers[row]))
                }
            }
        }
        Set::Float(set) => {
            let numbers = column.as_primitive::<Float64Type>().values();
            BooleanBuffer::collect_bool(length, |row| set.binary_search(&float_bits(numbers[row])).is_err())
        }
        Set::Text(set) => {
            let texts = column.as_string::<i32>();
            BooleanBuffer::collect_bool(length, |row| {
                set.binary_search_by(|allowed| allowed.as_str().cmp(texts.value(row))).is_err()
            })
        }
        Set::Boolean(set) => {
            let values: &BooleanArray = column.as_boolean();
            BooleanBuffer::collect_bool(length, |row| !set.contains(&values.value(row)))
        }
    }
}

/// The keys of a column's values, with their rows. Equal values have equal keys; different ones have different
/// keys but for texts of 16 bytes and more, where a chance of some 2^-127 a pair remains.
fn keys(kind: ColumnType, column: &ArrayRef, first: u64, keys: &mut Vec<(u128, u64)>) {
    let mut add = |row: usize, key: u128| keys.push((key, first + row as u64));
    let rows = (0..column.len()).filter(|row| column.is_valid(*row));
    match kind {
        ColumnType::Boolean => {
            let values = column.as_boolean();
            rows.for_each(|row| add(row, values.value(row).into()));
        }
        ColumnType::Integer => {
            let values = column.as_primitive::<Int64Type>().values();
            rows.for_each(|row| add(row, values[row] as u64 as u128));
        }
        ColumnType::Float => {
            let values = column.as_primitive::<Float64Type>().values();
            rows.for_each(|row| add(row, float_bits(values[row]).into()));
        }
        ColumnType::Date => {
            let values = column.as_primitive::<Date32Type>().values();
            rows.for_each(|row| add(row, values[row] as u32 as u128));
        }
        ColumnType::Timestamp => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            rows.for_each(|row| add(row, values[row] as u64 as u128));
        }
        ColumnType::String => {
            let values = column.as_string::<i32>();
            rows.for_each(|row| add(row, hash::wide(values.value(row).as_bytes())));
        }
    }
}

/// A value as people write it, cut to 60 bytes.
pub(super) fn show(kind: ColumnType, column: &ArrayRef, row: usize) -> String {
    match kind {
        ColumnType::Boolean => column.as_boolean().value(row).to_string(),
        ColumnType::Integer => column.as_primitive::<Int64Type>().value(row).to_string(),
        ColumnType::Float => column.as_primitive::<Float64Type>().value(row).to_string(),
        ColumnType::Date => dates::format_date(column.as_primitive::<Date32Type>().value(row)),
        ColumnType::Timestamp => dates::format_timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        ColumnType::String => {
            let text = column.as_string::<i32>().value(row);
            let cut = &text[..text.floor_char_boundary(60)];
            if cut.len() < text.len() { format!("{cut}…") } else { cut.to_owned() }
        }
    }
}
