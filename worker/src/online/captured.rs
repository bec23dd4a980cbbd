//! Captured requests as Parquet files that the next pipeline can ingest: `FOLDER/MODEL/v3-….parquet`.
//!
//! A row has `request_id`, `row` (its number within the request, from 0), `captured_at`, `model` and `version`, then the
//! inputs that are kept, then what the model said. An input called like one of the former is called `input_…` in the
//! file, a prediction called like anything before `model_…`. Labels that come later join by `request_id` (and `row`).
//!
//! A file appears when it is whole. Rows that wait for theirs are lost when the process is killed: [`AGE_MAX`] of them
//! at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use gristmill_ml::partition::PartitionWriter;
use gristmill_ml::table::TableSchema;
use gristmill_online::capture::{Capture, Captured, Kept};
use gristmill_online::{Column, Values};

/// How long a row waits for its file: what a kill can lose.
pub const AGE_MAX: Duration = Duration::from_secs(10);
/// Rows and bytes that wait, of all models together.
const ROWS_WAITING_MAX: usize = 100_000;
const BYTES_WAITING_MAX: usize = 64 * 1024 * 1024;
/// The columns that every file begins with.
const OWN: [&str; 5] = ["request_id", "row", "captured_at", "model", "version"];

/// Writes captured requests into files of a folder.
pub struct ParquetCapture {
    folder: PathBuf,
    /// What waits, by model and version.
    waiting: BTreeMap<(Arc<str>, u64), Vec<Captured>>,
    rows: usize,
    bytes: usize,
    since: Instant,
}

impl ParquetCapture {
    /// Makes the folder if it isn't there.
    pub fn new(folder: &Path) -> std::io::Result<ParquetCapture> {
        std::fs::create_dir_all(folder)?;
        Ok(ParquetCapture {
            folder: folder.to_owned(),
            waiting: BTreeMap::new(),
            rows: 0,
            bytes: 0,
            since: Instant::now(),
        })
    }

    /// Writes a file for each model that something waits for. What can't be written is dropped, or memory would fill
    /// up with what a full disk has no place for.
    fn write_out(&mut self) -> Kept {
        let mut kept = Kept::default();
        (self.rows, self.bytes) = (0, 0);
        for ((model, version), requests) in std::mem::take(&mut self.waiting) {
            write_group(&self.folder, &model, version, &requests, &mut kept);
        }
        kept
    }

    fn is_due(&self) -> bool {
        let full = self.rows >= ROWS_WAITING_MAX || self.bytes >= BYTES_WAITING_MAX;
        full || (!self.waiting.is_empty() && self.since.elapsed() >= AGE_MAX)
    }
}

impl Capture for ParquetCapture {
    fn keep(&mut self, batch: Vec<Captured>) -> Kept {
        let mut kept = Kept::default();
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        for captured in batch {
            self.rows += captured.predictions.len();
            self.bytes += captured.bytes();
            let group = self.waiting.entry((Arc::clone(&captured.model), captured.version)).or_default();
            // A version loaded anew, with other tags, keeps other columns: they go into another file.
            if group.first().is_some_and(|first| !is_alike(first, &captured)) {
                write_group(&self.folder, &captured.model, captured.version, &std::mem::take(group), &mut kept);
            }
            group.push(captured);
        }
        kept.and(self.tick())
    }

    fn tick(&mut self) -> Kept {
        if self.is_due() { self.write_out() } else { Kept::default() }
    }

    fn finish(&mut self) -> Kept {
        self.write_out()
    }
}

/// Whether two requests have the same columns.
fn is_alike(a: &Captured, b: &Captured) -> bool {
    fn shape(captured: &Captured) -> impl Iterator<Item = (&Arc<str>, std::mem::Discriminant<Values>)> {
        let columns = captured.inputs.iter().chain(captured.predictions.columns());
        columns.map(|(name, column)| (name, std::mem::discriminant(column.values())))
    }
    a.inputs.len() == b.inputs.len() && shape(a).eq(shape(b))
}

fn write_group(folder: &Path, model: &str, version: u64, requests: &[Captured], kept: &mut Kept) {
    let count = requests.len() as u64;
    match write_file(folder, model, version, requests) {
        Ok(()) => kept.kept += count,
        Err(reason) => {
            kept.lost += count;
            kept.reason = Some(reason);
        }
    }
}

/// Writes requests of one version, under a name that no other process has, aside and then in its place.
fn write_file(folder: &Path, model: &str, version: u64, requests: &[Captured]) -> Result<(), String> {
    let Some(first) = requests.first() else { return Ok(()) };
    if matches!(model, "." | "..") {
        return Err(format!("`{model}` can't be a folder's name"));
    }
    let batch = table(requests).map_err(|error| error.to_string())?;
    let schema = TableSchema::from_arrow(&batch.schema()).map_err(|error| error.to_string())?;
    let folder = folder.join(model);
    let io = |error: std::io::Error| format!("`{}` can't be written: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(io)?;
    let aside = tempfile::Builder::new().prefix(".captured-").tempfile_in(&folder).map_err(io)?;
    let file = BufWriter::new(File::options().write(true).open(aside.path()).map_err(io)?);
    let mut writer = PartitionWriter::new(file, &schema).map_err(|error| error.to_string())?;
    writer.write(&batch).map_err(|error| error.to_string())?;
    let (file, ..) = writer.finish().map_err(|error| error.to_string())?;
    file.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)?;
    let unique = aside.path().file_name().and_then(|name| name.to_str()).unwrap_or("").trim_start_matches(".captured-");
    let name = format!("v{version}-{}-{}-{unique}.parquet", first.at_ms, std::process::id());
    aside.persist(folder.join(name)).map_err(|error| io(error.error))?;
    Ok(())
}

/// Requests of one version as one table.
fn table(requests: &[Captured]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let rows = |captured: &Captured| captured.predictions.len();
    let each = |text: &dyn Fn(&Captured) -> String| -> ArrayRef {
        let texts = requests.iter().flat_map(|captured| std::iter::repeat_n(text(captured), rows(captured)));
        Arc::new(StringArray::from(texts.collect::<Vec<_>>()))
    };
    let whole = |number: &dyn Fn(&Captured, usize) -> i64| -> ArrayRef {
        let numbers = requests.iter().flat_map(|captured| (0..rows(captured)).map(|row| number(captured, row)));
        Arc::new(Int64Array::from(numbers.collect::<Vec<_>>()))
    };
    let instants = requests.iter().flat_map(|captured| {
        let micros = i64::try_from(captured.at_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        std::iter::repeat_n(micros, rows(captured))
    });
    let own: [ArrayRef; 5] = [
        each(&|captured| captured.request_id.clone()),
        whole(&|_, row| row as i64),
        Arc::new(TimestampMicrosecondArray::from(instants.collect::<Vec<_>>()).with_timezone("UTC")),
        each(&|captured| captured.model.to_string()),
        whole(&|captured, _| captured.version as i64),
    ];
    let mut named: Vec<(String, ArrayRef)> = OWN.iter().map(|name| (*name).to_owned()).zip(own).collect();
    let mut taken: BTreeSet<String> = OWN.iter().map(|name| (*name).to_owned()).collect();
    let mut add = |name: &str, prefix: &str, columns: Vec<&Column>| {
        let mut name = name.to_owned();
        while !taken.insert(name.clone()) {
            name = format!("{prefix}{name}");
        }
        named.push((name, together(&columns)));
    };
    // All are alike.
    if let Some(first) = requests.first() {
        for (at, (name, _)) in first.inputs.iter().enumerate() {
            add(name, "input_", requests.iter().map(|captured| &captured.inputs[at].1).collect());
        }
        for (at, (name, _)) in first.predictions.columns().iter().enumerate() {
            add(name, "model_", requests.iter().map(|captured| &captured.predictions.columns()[at].1).collect());
        }
    }
    let field = |(name, array): &(String, ArrayRef)| {
        let data_type = array.data_type().clone();
        Field::new(name, data_type, !OWN.contains(&name.as_str()))
    };
    let schema = Schema::new(named.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), named.into_iter().map(|(_, array)| array).collect())
}

/// Columns of one kind, one after the other.
fn together(columns: &[&Column]) -> ArrayRef {
    fn cells<'a, T>(column: &'a Column, values: &'a [T]) -> impl Iterator<Item = Option<T>> + 'a
    where
        T: Copy,
    {
        values.iter().enumerate().map(|(row, value)| (!column.is_null(row)).then_some(*value))
    }
    let kind = columns.first().map_or(DataType::Utf8, |column| match column.values() {
        Values::Number(_) => DataType::Float64,
        Values::Integer(_) => DataType::Int64,
        Values::Bool(_) => DataType::Boolean,
        Values::Text(_) => DataType::Utf8,
    });
    let (mut numbers, mut integers, mut bools, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for column in columns {
        match column.values() {
            Values::Number(values) => numbers.extend(cells(column, values)),
            Values::Integer(values) => integers.extend(cells(column, values)),
            Values::Bool(values) => bools.extend(cells(column, values)),
            Values::Text(values) => {
                texts.extend((0..column.len()).map(|row| (!column.is_null(row)).then(|| values.get(row).to_owned())));
            }
        }
    }
    match kind {
        DataType::Float64 => Arc::new(Float64Array::from(numbers)),
        DataType::Int64 => Arc::new(Int64Array::from(integers)),
        DataType::Boolean => Arc::new(BooleanArray::from(bools)),
        _ => Arc::new(StringArray::from(texts)),
    }
}
