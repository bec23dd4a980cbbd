//! Pieces of one table into one Parquet file, without decoding a row.

use std::io::Write;
use std::sync::Arc;

use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::writer::SerializedFileWriter;

use super::{BlobChunks, PartitionError, PartitionWriter};
use crate::blob::SharedBlob;
use crate::table::TableSchema;

/// Appends the row groups of one partition after the other.
///
/// **Invariant:** the bytes depend on the partitions and their order alone.
pub struct PartitionJoiner<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    rows: u64,
}

impl<W: Write + Send> PartitionJoiner<W> {
    /// Begins a file in `out` for partitions of this schema.
    pub fn new(out: W, schema: &TableSchema) -> Result<PartitionJoiner<W>, PartitionError> {
        // What a writer of this schema would say at the end of an empty file.
        let empty = PartitionWriter::new(Vec::new(), schema)?.finish()?.0;
        let empty: SharedBlob = Arc::new(crate::blob::MemoryBlob(empty.into()));
        let metadata =
            ParquetMetaDataReader::new().parse_and_finish(&BlobChunks(empty)).map_err(PartitionError::Read)?;
        let root = metadata.file_metadata().schema_descr().root_schema_ptr();
        let properties = Arc::new(super::properties(schema)?);
        let writer = SerializedFileWriter::new(out, root, properties).map_err(PartitionError::Write)?;
        Ok(PartitionJoiner { writer, rows: 0 })
    }

    /// Adds all rows of a partition.
    pub fn append(&mut self, partition: SharedBlob) -> Result<(), PartitionError> {
        let partition = BlobChunks(partition);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&partition).map_err(PartitionError::Read)?;
        let found = metadata.file_metadata().schema_descr().root_schema_ptr();
        if found != self.writer.schema_descr().root_schema_ptr() {
            let text = "the partition has another schema than the file it is to be part of".to_owned();
            return Err(PartitionError::Read(ParquetError::General(text)));
        }
        for group in metadata.row_groups() {
            let mut copied = self.writer.next_row_group().map_err(PartitionError::Write)?;
            for column in group.columns() {
                let closed = ColumnCloseResult {
                    bytes_written: column.compressed_size() as u64,
                    rows_written: group.num_rows() as u64,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                copied.append_column(&partition, closed).map_err(PartitionError::Write)?;
            }
            copied.close().map_err(PartitionError::Write)?;
            self.rows += group.num_rows() as u64;
        }
        Ok(())
    }

    /// Ends the file; returns where it was written and how many rows it has.
    pub fn finish(self) -> Result<(W, u64), PartitionError> {
        let out = self.writer.into_inner().map_err(PartitionError::Write)?;
        Ok((out, self.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::MemoryBlob;
    use crate::partition::{PartitionReader, to_blob};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::compute::concat_batches;

    #[test]
    fn rows_of_joined_partitions_come_back_in_order() {
        let rows = 300_000;
        let numbers: Int64Array = (0..rows).map(|row| (row % 7 != 3).then_some(row)).collect();
        let texts: StringArray = (0..rows).map(|row| Some(format!("text {}", row % 100))).collect();
        let columns = [("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let schema = TableSchema::from_arrow(batch.schema_ref()).unwrap();
        let mut joiner = PartitionJoiner::new(Vec::new(), &schema).unwrap();
        for (start, length) in [(0, 140_000), (140_000, 1), (140_001, 159_999)] {
            joiner.append(to_blob(&schema, &[batch.slice(start, length)]).unwrap()).unwrap();
        }
        let other = RecordBatch::try_from_iter([("m", batch.column(0).clone())]).unwrap();
        let other_schema = TableSchema::from_arrow(other.schema_ref()).unwrap();
        assert!(joiner.append(to_blob(&other_schema, &[other]).unwrap()).is_err());
        let (bytes, joined) = joiner.finish().unwrap();
        assert_eq!(joined, rows as u64);
        let blob: SharedBlob = Arc::new(MemoryBlob(bytes.into()));
        let reader = PartitionReader::open_all(blob).unwrap();
        assert_eq!(reader.schema(), &schema);
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(concat_batches(&schema.to_arrow(), &batches).unwrap().columns(), batch.columns());
    }
}
