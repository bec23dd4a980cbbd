//! Ingest: files of any of three formats become partitions, a profile and a list of what couldn't be read.
//!
//! [`discover()`] finds the files, [`infer()`] looks at a sample of each and settles one schema, and [`read_file`] turns
//! one file into partitions, or [`read_part`] a part of a large one: that is one unit of parallel work. What a unit
//! yields merges with the others in the order of the files.
//!
//! Decisions that callers and users meet:
//!
//! - The files of one source have the same columns, in any order. A file that lacks one or has one more is an
//!   error that names both; only columns left out by `columns:` may differ. (NDJSON lines may lack keys:
//!   that is how the format says null. Keys that no sampled line had are not read.)
//! - Types come from the sample. A line that doesn't fit them later is set apart with a hint to state the type; it
//!   is never read as something else.
//! - Numbers with leading zeros (`00501`) and whole numbers over 64 bits are text, since reading them as numbers loses
//!   what they say.
//! - Everything is read as a stream: memory holds some batches, however large the file.

pub mod cells;
mod csv;
mod discover;
mod infer;
mod input;
mod ndjson;
mod part;
pub mod quarantine;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use gristmill_protocol::pipeline::steps::{Format, Ingest};
use serde::{Deserialize, Serialize};

use crate::blob::FileBlob;
use crate::partition::{self, PartitionError, PartitionReader, PartitionRoller, PartitionSink};
use crate::profile::Profiler;
use crate::table::{self, TableError, TableSchema};
pub use discover::{SourceFile, discover};
pub use infer::infer;
pub use part::{Chain, FilePart, Link, Stretch};
pub use quarantine::{BadLine, Quarantine};

/// Texts that mean "no value" unless the pipeline says otherwise: what pandas, R and databases write.
pub const DEFAULT_NULLS: [&str; 8] = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"];

/// Why a source can't be ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("nothing matches `{pattern}`")]
    NothingMatches { pattern: String, hint: Option<String> },
    #[error("`{pattern}` is not a pattern of paths: {reason}")]
    BadPattern { pattern: String, reason: String },
    #[error("folder `{path}` has no file that can be read")]
    NothingReadable { path: PathBuf, hint: String },
    #[error("the ending of `{path}` names no format")]
    UnknownEnding { path: PathBuf },
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is empty: it has no header line")]
    Empty { path: PathBuf },
    #[error("no line of `{path}` is a JSON object")]
    NoObjects { path: PathBuf },
    #[error("the header of `{path}` can't be read: {reason}")]
    Header { path: PathBuf, reason: String },
    #[error("the header of `{path}` names column `{column}` twice")]
    DuplicateColumn { path: PathBuf, column: String },
    #[error("`{path}` seems to have another delimiter than `,`: its header is one column, `{header}`")]
    OtherDelimiter { path: PathBuf, header: String, delimiter: char },
    #[error("`{path}` has no column `{column}`, which `{first}` has")]
    MissingColumn { path: PathBuf, first: PathBuf, column: String },
    #[error("`{path}` has a column `{column}`, which `{first}` doesn't have")]
    ExtraColumn { path: PathBuf, first: PathBuf, column: String },
    #[error("`{setting}` names column `{column}`, which the files don't have")]
    UnknownColumn { setting: &'static str, column: String, hint: Option<String> },
    #[error("column `{column}` of `{path}` holds {found}, which tables can't hold")]
    Unfit { path: PathBuf, column: String, found: String },
    #[error("the delimiter `{0}` is not a single-byte character")]
    Delimiter(char),
    #[error("`{path}` can't be read as Parquet")]
    Parquet {
        path: PathBuf,
        #[source]
        source: PartitionError,
    },
    #[error("`{path}` doesn't fit the schema")]
    Schema {
        path: PathBuf,
        #[source]
        source: TableError,
    },
    #[error(transparent)]
    Write(#[from] PartitionError),
}

impl IngestError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            IngestError::NothingMatches { hint, .. } | IngestError::UnknownColumn { hint, .. } => hint.clone(),
            IngestError::NothingReadable { hint, .. } => Some(hint.clone()),
            IngestError::UnknownEnding { .. } => {
                Some("say `format: csv`, `parquet` or `ndjson` when it is one of them".to_owned())
            }
            IngestError::OtherDelimiter { delimiter: '\t', .. } => {
                Some("say `delimiter: \"\\t\"` or name the file `.tsv`".to_owned())
            }
            IngestError::OtherDelimiter { delimiter, .. } => Some(format!("say `delimiter: \"{delimiter}\"`")),
            IngestError::MissingColumn { .. } | IngestError::ExtraColumn { .. } => {
                Some("files of one source have the same columns; `columns:` keeps those they share".to_owned())
            }
            IngestError::Unfit { column, .. } => {
                Some(format!("leave `{column}` out with `columns:`, or flatten it before"))
            }
            IngestError::Schema { source, .. } => source.hint(),
            IngestError::Parquet { source: PartitionError::Table(source), .. } => source.hint(),
            _ => None,
        }
    }
}

/// How files are read: what of an ingest step a unit needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// The byte between fields of CSV; by default a comma, a tab for `.tsv`.
    pub delimiter: Option<u8>,
    /// Texts that mean "no value" in CSV.
    pub nulls: Vec<String>,
}

impl ReadOptions {
    /// The options of a step.
    pub fn of(step: &Ingest) -> Result<ReadOptions, IngestError> {
        let delimiter = match step.delimiter {
            None => None,
            Some(delimiter) if delimiter.is_ascii() && !matches!(delimiter, '"' | '\n' | '\r') => Some(delimiter as u8),
            Some(delimiter) => return Err(IngestError::Delimiter(delimiter)),
        };
        let nulls = match &step.nulls {
            Some(nulls) => nulls.clone(),
            None => DEFAULT_NULLS.map(str::to_owned).to_vec(),
        };
        Ok(ReadOptions { delimiter, nulls })
    }

    fn delimiter_of(&self, file: &SourceFile) -> u8 {
        self.delimiter.unwrap_or(if file.tabs { b'\t' } else { b',' })
    }
}

/// What came of one file, or of a part of it, beside its partitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileReport {
    /// Rows read.
    pub rows: u64,
    pub stretch: Stretch,
    pub profile: Profiler,
    pub quarantine: Quarantine,
}

/// Reads one file into partitions, which are made in `folder` and go to `sink` as they fill.
pub fn read_file<'a>(
    file: &SourceFile,
    schema: &TableSchema,
    options: &ReadOptions,
    folder: &Path,
    sink: &'a mut PartitionSink<'a>,
) -> Result<FileReport, IngestError> {
    read_part(&FilePart::whole(file.clone()), schema, options, folder, sink)
}

/// The same for a part of a file. Lines are counted from where it begins.
pub fn read_part<'a>(
    part: &FilePart,
    schema: &TableSchema,
    options: &ReadOptions,
    folder: &Path,
    sink: &'a mut PartitionSink<'a>,
) -> Result<FileReport, IngestError> {
    let file = &part.file;
    let mut roller = PartitionRoller::new(folder, "part", schema.clone(), sink);
    let mut profile = Profiler::new(schema);
    let mut quarantine = Quarantine::default();
    let mut take = |batch: RecordBatch| {
        profile.update(&batch).map_err(|source| IngestError::Schema { path: file.path.clone(), source })?;
        roller.write(&batch).map_err(IngestError::Write)
    };
    let stretch = match file.format {
        Format::Csv => csv::read(part, schema, options, &mut quarantine, &mut take)?,
        Format::Ndjson => ndjson::read(part, schema, &mut quarantine, &mut take)?,
        Format::Parquet => {
            read_parquet(file, schema, &mut take)?;
            Stretch { start: 0, end: file.size, lines: 0 }
        }
    };
    roller.finish()?;
    Ok(FileReport { rows: profile.rows(), stretch, profile, quarantine })
}

/// What takes batches as they are read.
type Take<'a> = dyn FnMut(RecordBatch) -> Result<(), IngestError> + 'a;

fn read_parquet(file: &SourceFile, schema: &TableSchema, take: &mut Take) -> Result<(), IngestError> {
    let reading = |source| IngestError::Parquet { path: file.path.clone(), source };
    let names: Vec<&str> = schema.names().collect();
    let arrow_schema = schema.to_arrow();
    for batch in open_parquet(file, Some(&names))? {
        let batch = table::coerce(&batch.map_err(reading)?, &arrow_schema)
            .map_err(|source| IngestError::Schema { path: file.path.clone(), source })?;
        take(batch)?;
    }
    Ok(())
}

fn open_parquet(file: &SourceFile, columns: Option<&[&str]>) -> Result<PartitionReader, IngestError> {
    PartitionReader::open(parquet_blob(file)?, columns)
        .map_err(|source| IngestError::Parquet { path: file.path.clone(), source })
}

/// The schema that a Parquet file states.
fn parquet_schema(file: &SourceFile) -> Result<SchemaRef, IngestError> {
    partition::arrow_schema(parquet_blob(file)?)
        .map_err(|source| IngestError::Parquet { path: file.path.clone(), source })
}

fn parquet_blob(file: &SourceFile) -> Result<Arc<FileBlob>, IngestError> {
    match FileBlob::open(file.to_open()) {
        Ok(blob) => Ok(Arc::new(blob)),
        Err(source) => Err(IngestError::Read { path: file.path.clone(), source }),
    }
}

#[cfg(test)]
mod tests;
