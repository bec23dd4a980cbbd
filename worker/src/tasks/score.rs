//! Scores a dataset into a file: written aside, synced and renamed, so a file is whole or not there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use gristmill_ml::dates::{format_date, format_timestamp};
use gristmill_ml::model::Model;
use gristmill_ml::partition::{PartitionReader, PartitionWriter};
use gristmill_ml::table::TableSchema;
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::{Files, StepPayload};
use gristmill_protocol::pipeline::steps::Score;
use gristmill_protocol::{Digest, ErrorCode, Failure};

use super::validate::{load, model_of};
use super::{TaskEnd, if_stopped};
use crate::context::{TaskContext, resolve};
use crate::datasets::{blobs, load_manifest};
use crate::documents::Manifest;
use crate::failure::{IntoFailure, io};
use crate::spans;

/// The file that the step writes and the model it uses, which may be the registry's.
pub(crate) fn world(context: &TaskContext<'_>, score: &Score, work_folder: &str) -> Result<String, Failure> {
    let output = resolve(work_folder, &score.output);
    Ok(format!("{}\n{}", output.display(), model_digest(context, score)?))
}

/// Size and time of change of a file, which tell whether it is still the one that was written.
pub(crate) fn file_facts(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), modified.as_millis() as u64))
}

fn model_digest(context: &TaskContext<'_>, score: &Score) -> Result<Digest, Failure> {
    if score.model.contains('@') {
        let (_, _, version) =
            context.wait(context.resources.registry.resolve(&score.model)).map_err(IntoFailure::into_failure)?;
        return Ok(version.model);
    }
    model_of(context, &score.model)
}

/// Scores all rows in their order.
pub(crate) fn score(context: &TaskContext<'_>, score: &Score, payload: &StepPayload) -> Result<TaskEnd, Failure> {
    let model = load(context, model_digest(context, score)?)?;
    let manifest = load_manifest(context, context.dataset(&score.input)?.manifest)?;
    let keep: Vec<String> = match &score.keep {
        Some(keep) => keep.clone(),
        None => manifest.schema.names().map(str::to_owned).collect(),
    };
    let path = resolve(&payload.work_folder, &score.output);
    let scratch = match payload.files {
        Files::Here => None,
        // The file is somebody else's to put there; here it is on its way into the artifact store.
        Files::Uploaded { .. } => Some(context.scratch()?),
    };
    let attempted = |verb: &str, path: &Path| format!("failed to {verb} `{}`", path.display());
    let folder = match &scratch {
        Some(scratch) => scratch.path(),
        None => path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
    };
    std::fs::create_dir_all(folder).map_err(|error| io(&error, attempted("make folder", folder)))?;
    let aside = tempfile::Builder::new()
        .prefix(".scores-")
        .tempfile_in(folder)
        .map_err(|error| io(&error, attempted("write in", folder)))?;
    let csv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let file = aside.as_file().try_clone().map_err(|error| io(&error, attempted("write", &path)))?;
    let Some(rows) = write_rows(context, &model, &manifest, &keep, csv, file, &path)? else {
        return Ok(TaskEnd::Stopped);
    };
    aside.as_file().sync_all().map_err(|error| io(&error, attempted("write", &path)))?;
    if scratch.is_some() {
        let (artifact, bytes) = context.put_file(aside.path())?;
        let path = path.display().to_string();
        return Ok(TaskEnd::Made(Output::Scores { path, rows, bytes, modified_ms: 0, artifact: Some(artifact) }));
    }
    // Temporary files are private; the result is as any file that the user makes.
    make_readable(aside.as_file()).map_err(|error| io(&error, attempted("write", &path)))?;
    aside.persist(&path).map_err(|error| io(&error.error, attempted("write", &path)))?;
    let (bytes, modified_ms) = file_facts(&path).unwrap_or_default();
    Ok(TaskEnd::Made(Output::Scores { path: path.display().to_string(), rows, bytes, modified_ms, artifact: None }))
}

fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// Writes the scored rows; returns how many, or nothing when the task was told to stop.
fn write_rows(
    context: &TaskContext<'_>,
    model: &Model,
    manifest: &Manifest,
    keep: &[String],
    csv: bool,
    file: File,
    path: &Path,
) -> Result<Option<u64>, Failure> {
    let mut columns: Vec<String> = keep.to_vec();
    let read = model.signature().iter().map(|input| &input.name).filter(|name| !keep.contains(name));
    columns.extend(read.cloned());
    let mut writer: Option<Writer> = None;
    let mut rows = 0;
    let mut file = Some(file);
    for blob in blobs(context, manifest)? {
        if if_stopped(context).is_some() {
            return Ok(None);
        }
        let _scoring = spans::score_partition().entered();
        for batch in PartitionReader::open(blob, Some(&columns)).map_err(IntoFailure::into_failure)? {
            let batch = batch.map_err(IntoFailure::into_failure)?;
            let scored = scored_batch(model, &batch, keep)?;
            if let Some(file) = file.take() {
                writer = Some(Writer::begin(csv, file, &scored, path)?);
            }
            if let Some(writer) = &mut writer {
                writer.write(&scored, path)?;
            }
            rows += batch.num_rows() as u64;
            context.control.progress(rows, Some(manifest.rows()), "rows");
        }
    }
    match writer {
        Some(writer) => writer.finish(path)?,
        None => return Err(Failure::new(ErrorCode::BadInput, "there are no rows to score")),
    }
    Ok(Some(rows))
}

/// The kept columns and what the model says, whose names give way to the table's own.
fn scored_batch(model: &Model, batch: &RecordBatch, keep: &[String]) -> Result<RecordBatch, Failure> {
    let predictions = model.predict(batch).map_err(IntoFailure::into_failure)?;
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for name in keep {
        let at = batch.schema().index_of(name).map_err(|error| Failure::new(ErrorCode::BadInput, error.to_string()))?;
        fields.push(batch.schema().field(at).clone());
        arrays.push(batch.column(at).clone());
    }
    for (name, array) in predictions.columns() {
        let name = if keep.contains(&name) { format!("model_{name}") } else { name };
        fields.push(Field::new(name, array.data_type().clone(), array.null_count() > 0));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| super::internal(error.to_string()))
}

/// What writes the rows.
enum Writer {
    Parquet(Box<PartitionWriter<BufWriter<File>>>),
    Csv(Box<csv::Writer<BufWriter<File>>>),
}

impl Writer {
    fn begin(csv: bool, file: File, first: &RecordBatch, path: &Path) -> Result<Writer, Failure> {
        let file = BufWriter::new(file);
        if csv {
            let mut writer = csv::Writer::from_writer(file);
            let schema = first.schema();
            let names = schema.fields().iter().map(|field| field.name());
            writer.write_record(names).map_err(|error| csv_failure(error, path))?;
            return Ok(Writer::Csv(Box::new(writer)));
        }
        let schema = TableSchema::from_arrow(&first.schema()).map_err(|error| super::internal(error.to_string()))?;
        Ok(Writer::Parquet(Box::new(PartitionWriter::new(file, &schema).map_err(IntoFailure::into_failure)?)))
    }

    fn write(&mut self, batch: &RecordBatch, path: &Path) -> Result<(), Failure> {
        match self {
            Writer::Parquet(writer) => writer.write(batch).map_err(IntoFailure::into_failure),
            Writer::Csv(writer) => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| cell(column, row));
                    writer.write_record(cells).map_err(|error| csv_failure(error, path))?;
                }
                Ok(())
            }
        }
    }

    fn finish(self, path: &Path) -> Result<(), Failure> {
        let flushed = match self {
            Writer::Parquet(writer) => writer.finish().map_err(IntoFailure::into_failure)?.0.flush(),
            Writer::Csv(mut writer) => writer.flush(),
        };
        flushed.map_err(|error| io(&error, format!("failed to write `{}`", path.display())))
    }
}

fn csv_failure(error: csv::Error, path: &Path) -> Failure {
    let attempted = format!("failed to write `{}`", path.display());
    match error.into_kind() {
        csv::ErrorKind::Io(error) => io(&error, attempted),
        other => super::internal(format!("{attempted}: {other:?}")),
    }
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
