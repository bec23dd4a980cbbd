//! Partitions: the Parquet pieces that a table is kept in.
//!
//! A reader takes a partition through the [`blob`](crate::blob) seam, batch by batch and only the columns
//! asked for. A writer makes the same bytes of the same rows every time, since partitions are named by
//! their digest. Row filters and page indexes are left out: a step reads nearly all of what it asks for.

mod joiner;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use gristmill_protocol::pipeline::ColumnType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;

pub use joiner::PartitionJoiner;

use crate::blob::{BlobRead, SharedBlob};
use crate::table::{self, TableError, TableSchema};

/// Rows of a batch. Large enough that the cost of a batch doesn't show, small enough that the columns
/// worked on stay in the processor's cache.
pub const BATCH_ROWS: usize = 16_384;

/// Rows of a row group: the unit of reading. Eight batches, so that one column chunk of a narrow table is
/// still a read of some hundred KiB.
pub const ROW_GROUP_ROWS: usize = 131_072;

/// Bytes of encoded rows that a writer holds before it ends the row group early, so that wide rows
/// don't take all the memory.
pub const ROW_GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes at which a partition is full. Large enough that a task's own cost doesn't show against its work,
/// small enough that a lost worker gives back a second or two and that a table of some GiB uses all workers.
pub const PARTITION_BYTES: u64 = 64 * 1024 * 1024;

/// Why a partition can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("failed to read a partition")]
    Read(#[source] ParquetError),
    #[error("failed to decode rows of a partition")]
    Decode(#[source] ArrowError),
    #[error("failed to write a partition")]
    Write(#[source] ParquetError),
    #[error("failed to create `{path}`")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to hand on the partition `{path}`")]
    HandOn {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Reads the rows of a partition, in order.
pub struct PartitionReader {
    reader: ParquetRecordBatchReader,
    /// Where the wanted columns stand among those read, when not in the file's order.
    order: Option<Vec<usize>>,
    schema: TableSchema,
    arrow_schema: SchemaRef,
    rows: u64,
}

impl PartitionReader {
    /// Opens a partition; with `columns` only these, in this order.
    pub fn open<S: AsRef<str>>(blob: SharedBlob, columns: Option<&[S]>) -> Result<PartitionReader, PartitionError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(BlobChunks(blob)).map_err(PartitionError::Read)?;
        PartitionReader::build(builder, columns)
    }

    /// The same for some of its row groups; see [`row_groups`].
    pub fn open_groups<S: AsRef<str>>(
        blob: SharedBlob,
        columns: Option<&[S]>,
        groups: Range<usize>,
    ) -> Result<PartitionReader, PartitionError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(BlobChunks(blob)).map_err(PartitionError::Read)?;
        PartitionReader::build(builder.with_row_groups(groups.collect()), columns)
    }

    fn build<S: AsRef<str>>(
        builder: ParquetRecordBatchReaderBuilder<BlobChunks>,
        columns: Option<&[S]>,
    ) -> Result<PartitionReader, PartitionError> {
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let (builder, schema, order) = match columns {
            None => {
                let schema = TableSchema::from_arrow(builder.schema())?;
                (builder, schema, None)
            }
            Some(columns) => {
                let file_schema = builder.schema().clone();
                let mut wanted = Vec::with_capacity(columns.len());
                for column in columns {
                    wanted.push(index_in(&file_schema, column.as_ref())?);
                }
                let schema = TableSchema::from_arrow(&file_schema.project(&wanted).map_err(PartitionError::Decode)?)?;
                let mut in_file: Vec<usize> = wanted.clone();
                in_file.sort_unstable();
                in_file.dedup();
                let order = (in_file != wanted).then(|| {
                    wanted.iter().map(|index| in_file.partition_point(|read| read < index)).collect::<Vec<_>>()
                });
                let mask = ProjectionMask::roots(builder.parquet_schema(), in_file);
                (builder.with_projection(mask), schema, order)
            }
        };
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(PartitionError::Read)?;
        let arrow_schema = schema.to_arrow();
        Ok(PartitionReader { reader, order, schema, arrow_schema, rows })
    }

    /// All columns of a partition.
    pub fn open_all(blob: SharedBlob) -> Result<PartitionReader, PartitionError> {
        PartitionReader::open::<&str>(blob, None)
    }

    /// What the batches hold.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// How many rows the partition has, by its metadata.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn arrange(&self, batch: RecordBatch) -> Result<RecordBatch, PartitionError> {
        let batch = match &self.order {
            Some(order) => batch.project(order).map_err(PartitionError::Decode)?,
            None => batch,
        };
        Ok(table::coerce(&batch, &self.arrow_schema)?)
    }
}

impl Iterator for PartitionReader {
    type Item = Result<RecordBatch, PartitionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?.map_err(PartitionError::Decode);
        Some(batch.and_then(|batch| self.arrange(batch)))
    }
}

/// The schema that a Parquet file states, before anything is brought to our kinds.
pub fn arrow_schema(blob: SharedBlob) -> Result<SchemaRef, PartitionError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(BlobChunks(blob)).map_err(PartitionError::Read)?;
    Ok(builder.schema().clone())
}

/// The rows of each row group of a partition.
pub fn row_groups(blob: SharedBlob) -> Result<Vec<u64>, PartitionError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&BlobChunks(blob)).map_err(PartitionError::Read)?;
    Ok(metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).collect())
}

fn index_in(schema: &SchemaRef, name: &str) -> Result<usize, TableError> {
    schema.index_of(name).map_err(|_| TableError::UnknownColumn {
        column: name.to_owned(),
        hint: crate::names::hint(name, schema.fields().iter().map(|field| field.name().as_str())),
    })
}

/// Parquet's view of a blob.
struct BlobChunks(SharedBlob);

impl Length for BlobChunks {
    fn len(&self) -> u64 {
        self.0.size()
    }
}

impl ChunkReader for BlobChunks {
    type T = BufReader<BlobRead>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(BlobRead::new(self.0.clone(), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.read_at(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// How large a finished partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    pub rows: u64,
    pub bytes: u64,
}

/// Writes rows into one partition.
///
/// **Invariant:** the bytes depend on the schema and the rows alone, not on how they were batched.
pub struct PartitionWriter<W: Write + Send> {
    writer: ArrowWriter<Counted<W>>,
    schema: SchemaRef,
    rows: u64,
    /// Rows that don't fill a step yet.
    waiting: Vec<RecordBatch>,
}

/// Counts what goes through: Parquet's own count ends before the footer.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write + Send> PartitionWriter<W> {
    /// Begins a partition in `out`.
    pub fn new(out: W, schema: &TableSchema) -> Result<PartitionWriter<W>, PartitionError> {
        // Our six kinds survive in Parquet's own types, so Arrow's schema needn't go along.
        let options = ArrowWriterOptions::new().with_properties(properties(schema)?).with_skip_arrow_metadata(true);
        let schema = schema.to_arrow();
        let writer = ArrowWriter::try_new_with_options(Counted { out, bytes: 0 }, schema.clone(), options)
            .map_err(PartitionError::Write)?;
        Ok(PartitionWriter { writer, schema, rows: 0, waiting: Vec::new() })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), PartitionError> {
        let batch = table::coerce(batch, &self.schema)?;
        // Parquet looks at sizes after each write, so that pages end where writes end: always the same number of rows.
        let mut start = 0;
        while start < batch.num_rows() {
            let waiting = (self.rows % WRITE_STEP_ROWS as u64) as usize;
            let length = (WRITE_STEP_ROWS - waiting).min(batch.num_rows() - start);
            let slice = batch.slice(start, length);
            start += length;
            self.rows += length as u64;
            if waiting + length < WRITE_STEP_ROWS {
                self.waiting.push(slice);
            } else if waiting == 0 {
                self.write_step(&slice)?;
            } else {
                self.waiting.push(slice);
                self.write_waiting()?;
            }
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<(), PartitionError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let step = concat_batches(&self.schema, &self.waiting).map_err(PartitionError::Decode)?;
        self.waiting.clear();
        self.write_step(&step)
    }

    fn write_step(&mut self, step: &RecordBatch) -> Result<(), PartitionError> {
        self.writer.write(step).map_err(PartitionError::Write)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES_MAX {
            self.writer.flush().map_err(PartitionError::Write)?;
        }
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes so far, with an estimate of what isn't compressed yet.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Ends the partition.
    pub fn finish(mut self) -> Result<(W, PartitionSize), PartitionError> {
        self.write_waiting()?;
        let Counted { out, bytes } = self.writer.into_inner().map_err(PartitionError::Write)?;
        Ok((out, PartitionSize { rows: self.rows, bytes }))
    }
}

fn properties(schema: &TableSchema) -> Result<WriterProperties, PartitionError> {
    let mut properties = WriterProperties::builder();
    for column in &schema.columns {
        if matches!(column.kind, ColumnType::Integer | ColumnType::Date | ColumnType::Timestamp) {
            // As small as a dictionary of them, and nothing has to be looked up.
            let path = ColumnPath::from(column.name.clone());
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(properties
        // Level 1 costs a third of the default's time for a few percent more bytes.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(PartitionError::Write)?))
        .set_created_by("gristmill".to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(None)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build())
}

/// Rows that the writer encodes at a time: Parquet's own step, and few enough that long texts stay under 2 GiB.
/// A divisor of [`BATCH_ROWS`], so that whole batches need no copies.
const WRITE_STEP_ROWS: usize = 1_024;

/// A partition that was written and closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedPartition {
    /// The file; it is the caller's to move or remove.
    pub path: PathBuf,
    pub rows: u64,
    pub bytes: u64,
}

/// What takes finished partitions.
pub type PartitionSink<'a> = dyn FnMut(FinishedPartition) -> io::Result<()> + 'a;

/// Writes any number of rows into as many partitions as they fill, handing each on as it is done.
pub struct PartitionRoller<'a> {
    folder: PathBuf,
    prefix: String,
    schema: TableSchema,
    sink: &'a mut PartitionSink<'a>,
    current: Option<(PathBuf, PartitionWriter<BufWriter<File>>)>,
    next: usize,
    bytes_max: u64,
}

impl<'a> PartitionRoller<'a> {
    /// Partitions are made in `folder`, as `prefix-00000.parquet` and so on, then go to `sink`.
    pub fn new(folder: &Path, prefix: &str, schema: TableSchema, sink: &'a mut PartitionSink<'a>) -> Self {
        PartitionRoller {
            folder: folder.to_owned(),
            prefix: prefix.to_owned(),
            schema,
            sink,
            current: None,
            next: 0,
            bytes_max: PARTITION_BYTES,
        }
    }

    /// Another size at which a partition is full, in bytes.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), PartitionError> {
        // Slices of a fixed grid, so that where a partition ends depends on the rows and not on the batches.
        let mut start = 0;
        while start < batch.num_rows() {
            let (_, writer) = match &mut self.current {
                Some(current) => current,
                None => {
                    let opened = self.open()?;
                    self.current.insert(opened)
                }
            };
            let step = BATCH_ROWS - (writer.rows() % BATCH_ROWS as u64) as usize;
            let length = step.min(batch.num_rows() - start);
            writer.write(&batch.slice(start, length))?;
            start += length;
            if writer.rows().is_multiple_of(BATCH_ROWS as u64) && writer.bytes() >= self.bytes_max {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Ends the last partition. No rows make no partition.
    pub fn finish(mut self) -> Result<(), PartitionError> {
        self.close()
    }

    fn open(&mut self) -> Result<(PathBuf, PartitionWriter<BufWriter<File>>), PartitionError> {
        let path = self.folder.join(format!("{}-{:05}.parquet", self.prefix, self.next));
        self.next += 1;
        let file = File::create(&path).map_err(|source| PartitionError::Create { path: path.clone(), source })?;
        let writer = PartitionWriter::new(BufWriter::with_capacity(256 * 1024, file), &self.schema)?;
        Ok((path, writer))
    }

    fn close(&mut self) -> Result<(), PartitionError> {
        let Some((path, writer)) = self.current.take() else { return Ok(()) };
        let (mut out, size) = writer.finish()?;
        out.flush().map_err(|source| PartitionError::Create { path: path.clone(), source })?;
        drop(out);
        let finished = FinishedPartition { path: path.clone(), rows: size.rows, bytes: size.bytes };
        (self.sink)(finished).map_err(|source| PartitionError::HandOn { path, source })
    }
}

/// A whole table in memory as one partition: for tests and for small artifacts such as failing rows.
pub fn to_bytes(schema: &TableSchema, batches: &[RecordBatch]) -> Result<Vec<u8>, PartitionError> {
    let mut writer = PartitionWriter::new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.finish()?.0)
}

/// The blob of a whole table in memory.
pub fn to_blob(schema: &TableSchema, batches: &[RecordBatch]) -> Result<SharedBlob, PartitionError> {
    Ok(Arc::new(crate::blob::MemoryBlob(to_bytes(schema, batches)?.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    fn table(rows: i64) -> (TableSchema, RecordBatch) {
        let numbers: Int64Array = (0..rows).map(|row| (row % 7 != 3).then_some(row)).collect();
        let texts: StringArray = (0..rows).map(|row| Some(format!("text {}", row % 100))).collect();
        let batch =
            RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)])
                .unwrap();
        (TableSchema::from_arrow(batch.schema_ref()).unwrap(), batch)
    }

    #[test]
    fn rows_come_back_in_order_and_only_the_columns_asked_for() {
        let (schema, batch) = table(40_000);
        let blob = to_blob(&schema, std::slice::from_ref(&batch)).unwrap();
        let reader = PartitionReader::open_all(blob.clone()).unwrap();
        assert_eq!((reader.rows(), reader.schema()), (40_000, &schema));
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [16_384, 16_384, 7_232]);
        let whole = arrow::compute::concat_batches(&schema.to_arrow(), &batches).unwrap();
        assert_eq!(whole.columns(), batch.columns());

        let swapped = PartitionReader::open(blob.clone(), Some(&["t", "n"])).unwrap().next().unwrap().unwrap();
        assert_eq!(swapped.schema_ref().field(0).name(), "t");
        assert_eq!(swapped.column(1).as_primitive::<Int64Type>().value(8), 8);

        let none = PartitionReader::open::<&str>(blob.clone(), Some(&[])).unwrap();
        assert_eq!(none.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 40_000);

        let error = PartitionReader::open(blob, Some(&["m"])).err().unwrap();
        assert_eq!(error.to_string(), "there is no column `m`");
    }

    #[test]
    fn the_same_rows_make_the_same_bytes_however_they_are_batched() {
        let (schema, batch) = table(50_000);
        let whole = to_bytes(&schema, std::slice::from_ref(&batch)).unwrap();
        let pieces: Vec<RecordBatch> =
            (0..50_000).step_by(777).map(|start| batch.slice(start, 777.min(50_000 - start))).collect();
        assert!(whole == to_bytes(&schema, &pieces).unwrap(), "the bytes differ");
    }

    #[test]
    fn a_full_partition_is_handed_on_and_the_next_begun() {
        let (schema, batch) = table(100_000);
        let folder = tempfile::tempdir().unwrap();
        let mut ends = Vec::new();
        for step in [100_000, 999] {
            let mut finished = Vec::new();
            let mut sink = |partition: FinishedPartition| {
                finished.push((partition.rows, std::fs::read(&partition.path)?.len() as u64 == partition.bytes));
                Ok(())
            };
            let mut roller =
                PartitionRoller::new(folder.path(), "part", schema.clone(), &mut sink).with_bytes_max(20_000);
            for start in (0..100_000).step_by(step) {
                roller.write(&batch.slice(start, step.min(100_000 - start))).unwrap();
            }
            roller.finish().unwrap();
            assert!(finished.len() > 1 && finished.iter().all(|(_, whole)| *whole));
            assert_eq!(finished.iter().map(|(rows, _)| rows).sum::<u64>(), 100_000);
            ends.push(finished);
        }
        assert_eq!(ends[0], ends[1]);
    }

    #[test]
    fn what_is_not_parquet_is_refused() {
        let blob: SharedBlob = Arc::new(crate::blob::MemoryBlob(Bytes::from_static(b"PAR1 but not really")));
        assert_eq!(PartitionReader::open_all(blob).err().unwrap().to_string(), "failed to read a partition");
    }
}
