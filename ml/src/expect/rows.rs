//! Fetches the rows that failed, for people to look at.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use gristmill_protocol::pipeline::steps::ColumnType;

use super::conclude::{ExpectReport, RowAt};
use crate::blob::SharedBlob;
use crate::partition::{PartitionError, PartitionReader};
use crate::table::{Column, TableError, TableSchema};

/// Failing rows kept of each check: enough to see what they have in common.
pub const FAILING_ROWS_MAX: usize = 1_000;

/// The columns that come before those of the table.
const OWN_COLUMNS: [(&str, ColumnType); 4] = [
    ("_rule", ColumnType::Integer),
    ("_check", ColumnType::String),
    ("_partition", ColumnType::Integer),
    ("_row", ColumnType::Integer),
];

/// What the table of failing rows looks like: the number of the rule from 1, the check, the partition and the row in it
/// from 0, then the table's columns. A column of the table that is called like one of the first goes without.
pub fn failing_schema(schema: &TableSchema) -> TableSchema {
    let own = OWN_COLUMNS.map(|(name, kind)| Column { name: name.to_owned(), kind, nullable: false });
    let others = schema.columns.iter().filter(|column| OWN_COLUMNS.iter().all(|(name, _)| column.name != *name));
    TableSchema { columns: own.into_iter().chain(others.cloned()).collect() }
}

/// The failing rows of a report, of [`failing_schema`], ordered by partition, row and check. `partitions` are those
/// that were checked.
pub fn failing_rows(
    report: &ExpectReport,
    schema: &TableSchema,
    partitions: &[SharedBlob],
) -> Result<Vec<RecordBatch>, PartitionError> {
    let mut wanted: Vec<(RowAt, usize)> = Vec::new();
    for (index, outcome) in report.outcomes.iter().enumerate() {
        wanted.extend(outcome.rows.iter().map(|at| (*at, index)));
    }
    wanted.sort_unstable();
    let output = failing_schema(schema);
    let columns: Vec<&str> = output.names().skip(OWN_COLUMNS.len()).collect();
    let mut batches = Vec::new();
    for group in wanted.chunk_by(|one, other| one.0.partition == other.0.partition) {
        let Some(blob) = partitions.get(group[0].0.partition as usize) else { continue };
        let mut left = group;
        let mut first = 0;
        for batch in PartitionReader::open(blob.clone(), Some(&columns))? {
            let batch = batch?;
            let end = first + batch.num_rows() as u64;
            let here = left.partition_point(|(at, _)| at.row < end);
            if here > 0 {
                batches.push(assemble(report, &output, &batch, first, &left[..here])?);
            }
            left = &left[here..];
            first = end;
            if left.is_empty() {
                break;
            }
        }
    }
    Ok(batches)
}

fn assemble(
    report: &ExpectReport,
    output: &TableSchema,
    batch: &RecordBatch,
    first: u64,
    wanted: &[(RowAt, usize)],
) -> Result<RecordBatch, PartitionError> {
    let rows: UInt32Array = wanted.iter().map(|(at, _)| Some((at.row - first) as u32)).collect();
    let taken = take_record_batch(batch, &rows).map_err(PartitionError::Decode)?;
    let numbers = |number: &dyn Fn(&(RowAt, usize)) -> i64| -> ArrayRef {
        Arc::new(wanted.iter().map(|row| Some(number(row))).collect::<Int64Array>())
    };
    let checks: StringArray = wanted.iter().map(|(_, check)| Some(report.outcomes[*check].check.as_str())).collect();
    let mut columns: Vec<ArrayRef> = vec![
        numbers(&|(_, check)| report.outcomes[*check].rule as i64 + 1),
        Arc::new(checks),
        numbers(&|(at, _)| i64::from(at.partition)),
        numbers(&|(at, _)| at.row as i64),
    ];
    columns.extend(taken.columns().iter().cloned());
    let batch = RecordBatch::try_new(output.to_arrow(), columns).map_err(TableError::Assemble)?;
    Ok(batch)
}
