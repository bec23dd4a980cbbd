//! Files of scored rows: pieces of them, and the whole that is put together of these.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use gristmill_ml::blob::SharedBlob;
use gristmill_ml::dates::{format_date, format_timestamp};
use gristmill_ml::partition::{PartitionJoiner, PartitionWriter};
use gristmill_ml::table::TableSchema;
use gristmill_protocol::Failure;
use tempfile::NamedTempFile;

use crate::failure::{IntoFailure, io};
use crate::tasks::internal;

/// Bytes copied at a time from a piece of CSV.
const COPY_BYTES: usize = 1 << 20;

/// Some rows of the file, as they will stand in it: Parquet, or CSV without a header.
pub(crate) struct Piece {
    path: PathBuf,
    rows: u64,
    writer: Writer,
}

enum Writer {
    Parquet(Box<PartitionWriter<BufWriter<File>>>),
    Csv(Box<csv::Writer<BufWriter<File>>>),
}

impl Piece {
    /// Begins a piece in a new file.
    pub(crate) fn begin(path: &Path, schema: &TableSchema, csv: bool) -> Result<Piece, Failure> {
        let file = File::create_new(path).map_err(|error| io(&error, attempted("write", path)))?;
        let file = BufWriter::new(file);
        let writer = if csv {
            Writer::Csv(Box::new(csv::WriterBuilder::new().has_headers(false).from_writer(file)))
        } else {
            Writer::Parquet(Box::new(PartitionWriter::new(file, schema).map_err(IntoFailure::into_failure)?))
        };
        Ok(Piece { path: path.to_owned(), rows: 0, writer })
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Parquet(writer) => writer.write(batch).map_err(IntoFailure::into_failure),
            Writer::Csv(writer) => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| cell(column, row));
                    writer.write_record(cells).map_err(|error| csv_failure(error, &self.path))?;
                }
                Ok(())
            }
        }
    }

    /// Ends the piece; returns its file and how many rows it has.
    pub(crate) fn finish(self) -> Result<(PathBuf, u64), Failure> {
        let flushed = match self.writer {
            Writer::Parquet(writer) => writer.finish().map_err(IntoFailure::into_failure)?.0.flush(),
            Writer::Csv(mut writer) => writer.flush(),
        };
        flushed.map_err(|error| io(&error, attempted("write", &self.path)))?;
        Ok((self.path, self.rows))
    }
}

/// The whole file, which is nowhere to be seen until it is finished.
pub(crate) struct ScoreFile {
    path: PathBuf,
    aside: NamedTempFile,
    joiner: Joiner,
}

enum Joiner {
    Parquet(Box<PartitionJoiner<BufWriter<File>>>),
    Csv(BufWriter<File>),
}

impl ScoreFile {
    /// Makes the folder that the file goes into.
    pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
        let folder = folder_of(path);
        std::fs::create_dir_all(folder).map_err(|error| io(&error, attempted("make folder", folder)))
    }

    /// Begins the file at `path`, in `folder` as long as it isn't finished; by default in the folder it goes into.
    pub(crate) fn begin(
        path: &Path,
        folder: Option<&Path>,
        schema: &TableSchema,
        csv: bool,
    ) -> Result<ScoreFile, Failure> {
        let folder = match folder {
            Some(folder) => folder,
            None => {
                ScoreFile::make_folder(path)?;
                folder_of(path)
            }
        };
        let aside = tempfile::Builder::new()
            .prefix(".scores-")
            .tempfile_in(folder)
            .map_err(|error| io(&error, attempted("write in", folder)))?;
        let file = aside.as_file().try_clone().map_err(|error| io(&error, attempted("write", path)))?;
        let file = BufWriter::new(file);
        let joiner = if csv {
            let mut header = csv::Writer::from_writer(file);
            header.write_record(schema.names()).map_err(|error| csv_failure(error, path))?;
            let file = header.into_inner().map_err(|error| io(error.error(), attempted("write", path)))?;
            Joiner::Csv(file)
        } else {
            Joiner::Parquet(Box::new(PartitionJoiner::new(file, schema).map_err(IntoFailure::into_failure)?))
        };
        Ok(ScoreFile { path: path.to_owned(), aside, joiner })
    }

    /// Adds a piece.
    pub(crate) fn append(&mut self, piece: SharedBlob) -> Result<(), Failure> {
        match &mut self.joiner {
            Joiner::Parquet(joiner) => joiner.append(piece).map_err(IntoFailure::into_failure),
            Joiner::Csv(file) => {
                let mut offset = 0;
                while offset < piece.size() {
                    let length = usize::try_from(piece.size() - offset).unwrap_or(usize::MAX).min(COPY_BYTES);
                    let bytes = piece
                        .read_at(offset, length)
                        .map_err(|error| io(&error, "failed to read scores".to_owned()))?;
                    file.write_all(&bytes).map_err(|error| io(&error, attempted("write", &self.path)))?;
                    offset += length as u64;
                }
                Ok(())
            }
        }
    }

    /// Ends the file where it is, safe on disk.
    pub(crate) fn finish(self) -> Result<NamedTempFile, Failure> {
        let flushed = match self.joiner {
            Joiner::Parquet(joiner) => joiner.finish().map_err(IntoFailure::into_failure)?.0.flush(),
            Joiner::Csv(mut file) => file.flush(),
        };
        let synced = flushed.and_then(|()| self.aside.as_file().sync_all());
        synced.map_err(|error| io(&error, attempted("write", &self.path)))?;
        Ok(self.aside)
    }

    /// Ends the file and puts it where it belongs.
    pub(crate) fn persist(self) -> Result<(), Failure> {
        let path = self.path.clone();
        let aside = self.finish()?;
        // Temporary files are private; the result is as any file that the user makes.
        make_readable(aside.as_file()).map_err(|error| io(&error, attempted("write", &path)))?;
        aside.persist(&path).map_err(|error| io(&error.error, attempted("write", &path)))?;
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn attempted(verb: &str, path: &Path) -> String {
    format!("failed to {verb} `{}`", path.display())
}

fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn csv_failure(error: csv::Error, path: &Path) -> Failure {
    let attempted = attempted("write", path);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => io(&error, attempted),
        other => internal(format!("{attempted}: {other:?}")),
    }
}

/// The values of a batch's first row, as JSON texts by column.
pub(crate) fn row_text(batch: &RecordBatch) -> String {
    let cells = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = if column.is_null(0) { serde_json::Value::Null } else { cell(column, 0).into() };
        (field.name().clone(), value)
    });
    serde_json::Value::Object(cells.collect()).to_string()
}

/// A cell as text; nothing for a missing value.
fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Date32 => format_date(column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => format_timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        _ => column.as_string::<i32>().value(row).to_owned(),
    }
}
