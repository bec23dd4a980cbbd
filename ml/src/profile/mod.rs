//! Profiles: what a table's columns hold, in a few KiB.
//!
//! A [`Profiler`] takes batches, is kept and sent between tasks, and merges with others; [`Profiler::finish`] makes the
//! [`TableProfile`] that people read. Up to [`EXACT_MAX`] different values a column is counted exactly and
//! everything is derived from the counts; past that, sketches of fixed memory take over and the column says so.
//!
//! **Invariant:** the same batches, merged in the same order, give the same profile. Partitions are merged in
//! their own order, whichever task ended first.

mod counts;
mod number;
mod report;
mod sketch;
mod text;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use gristmill_protocol::pipeline::steps::ColumnType;
use serde::{Deserialize, Serialize};

use crate::table::{self, TableError, TableSchema};
pub use counts::EXACT_MAX;
use number::Numbers;
pub use report::{ColumnProfile, Histogram, QUANTILES, Quantile, Scalar, TOP_VALUES, TableProfile, TopValue};
use text::Texts;

/// A profile in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profiler {
    schema: TableSchema,
    rows: u64,
    columns: Vec<ColumnProfiler>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ColumnProfiler {
    nulls: u64,
    values: Values,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Values {
    Numbers(Numbers),
    Texts(Texts),
}

impl Profiler {
    /// The profile of no rows.
    pub fn new(schema: &TableSchema) -> Profiler {
        let columns = schema.columns.iter().map(|column| ColumnProfiler {
            nulls: 0,
            values: match column.kind {
                ColumnType::String => Values::Texts(Texts::default()),
                kind => Values::Numbers(Numbers::new(kind)),
            },
        });
        Profiler { schema: schema.clone(), rows: 0, columns: columns.collect() }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes in the rows of a batch.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let batch = table::coerce(batch, &self.schema.to_arrow())?;
        self.rows += batch.num_rows() as u64;
        for ((column, profiler), array) in self.schema.columns.iter().zip(&mut self.columns).zip(batch.columns()) {
            profiler.nulls += array.null_count() as u64;
            match &mut profiler.values {
                Values::Texts(texts) => texts.update(array.as_string::<i32>()),
                Values::Numbers(numbers) => match column.kind {
                    ColumnType::Boolean => numbers.update_booleans(array.as_boolean()),
                    ColumnType::Integer => numbers.update_integers(array.as_primitive::<Int64Type>()),
                    ColumnType::Float => numbers.update_floats(array.as_primitive::<Float64Type>()),
                    ColumnType::Date => numbers.update_integers(array.as_primitive::<Date32Type>()),
                    ColumnType::Timestamp => numbers.update_integers(array.as_primitive::<TimestampMicrosecondType>()),
                    ColumnType::String => unreachable!("strings are profiled as texts"),
                },
            }
        }
        Ok(())
    }

    /// Takes in what another profiler saw of later rows of the same table.
    pub fn merge(&mut self, other: &Profiler) -> Result<(), TableError> {
        if self.schema.columns.len() != other.schema.columns.len() {
            let (expected, found) = (self.schema.columns.len(), other.schema.columns.len());
            return Err(TableError::ColumnCount { expected, found });
        }
        for (index, (mine, theirs)) in self.schema.columns.iter().zip(&other.schema.columns).enumerate() {
            if (&mine.name, mine.kind) != (&theirs.name, theirs.kind) {
                let (expected, found) = (mine.name.clone(), theirs.name.clone());
                return Err(TableError::ColumnName { index, expected, found });
            }
        }
        self.rows += other.rows;
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            mine.nulls += theirs.nulls;
            match (&mut mine.values, &theirs.values) {
                (Values::Numbers(mine), Values::Numbers(theirs)) => mine.merge(theirs),
                (Values::Texts(mine), Values::Texts(theirs)) => mine.merge(theirs),
                _ => unreachable!("columns of one kind are profiled in one way"),
            }
        }
        Ok(())
    }

    /// The profile of all rows so far.
    pub fn finish(&self) -> TableProfile {
        let columns = self.schema.columns.iter().zip(&self.columns).map(|(column, profiler)| {
            let mut profile = match &profiler.values {
                Values::Numbers(numbers) => numbers.profile(column.kind),
                Values::Texts(texts) => texts.profile(),
            };
            profile.name.clone_from(&column.name);
            profile.nulls = profiler.nulls;
            profile
        });
        TableProfile { rows: self.rows, columns: columns.collect() }
    }
}

#[cfg(test)]
mod tests;
