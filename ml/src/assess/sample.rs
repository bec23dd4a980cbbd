//! Rows picked by chance, for what looks at a few of them.

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

use super::AssessError;
use crate::hash;

/// Rows at the most: a share of 10,000 rows is known to half a hundredth.
pub const ROWS_MAX: u64 = 10_000;
/// Rows at the least, if there are as many.
pub const ROWS_MIN: u64 = 500;
/// Predictions that permutation importance may make: some seconds of a large forest.
pub const SCORED_MAX: u64 = 5_000_000;

/// The rows picked, with the columns that a model reads and predicts.
pub(super) struct Sample {
    columns: Vec<String>,
    /// A row is picked when its hash is at most this.
    threshold: u64,
    picked: Vec<RecordBatch>,
}

impl Sample {
    /// Picks about `wanted` of `rows`; all when there are no more.
    pub fn new(columns: Vec<String>, rows: u64, wanted: u64) -> Sample {
        let threshold = if rows <= wanted { u64::MAX } else { (wanted as f64 / rows as f64 * u64::MAX as f64) as u64 };
        Sample { columns, threshold, picked: Vec::new() }
    }

    /// Looks at the next rows; `first` is the place of the first.
    pub fn push(&mut self, batch: &RecordBatch, first: u64) -> Result<(), AssessError> {
        let rows = first..first + batch.num_rows() as u64;
        let mask: BooleanArray = rows.map(|row| Some(hash::mix(row) <= self.threshold)).collect();
        let indexes = self.columns.iter().map(|name| batch.schema().index_of(name));
        let narrow = batch.project(&indexes.collect::<Result<Vec<usize>, _>>()?)?;
        self.picked.push(filter_record_batch(&narrow, &mask)?);
        Ok(())
    }

    /// The rows picked, in their order.
    pub fn rows(&self) -> Result<RecordBatch, AssessError> {
        let schema: SchemaRef = match self.picked.first() {
            Some(batch) => batch.schema(),
            None => Arc::new(Schema::empty()),
        };
        if self.picked.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(0));
            return Ok(RecordBatch::try_new_with_options(schema, Vec::new(), &options)?);
        }
        Ok(concat_batches(&schema, &self.picked)?)
    }
}
