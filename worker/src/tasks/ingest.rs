//! Files into a dataset: one child a file, joined in the order of the files.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gristmill_ml::ingest::{self, FileReport, Quarantine, ReadOptions, SourceFile};
use gristmill_ml::partition;
use gristmill_ml::profile::Profiler;
use gristmill_ml::table::TableSchema;
use gristmill_protocol::message::InputValue;
use gristmill_protocol::output::{Output, Quarantined};
use gristmill_protocol::payload::{Files, StepPayload, UploadedFile};
use gristmill_protocol::pipeline::steps::{BadLines, Ingest};
use gristmill_protocol::{Digest, ErrorCode, Failure, wire};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd};
use crate::context::TaskContext;
use crate::datasets::{keep, store_manifest};
use crate::documents::{Manifest, PartitionRef};
use crate::failure::IntoFailure;
use crate::{fanout, spans};

/// Reads one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadFile {
    schema: TableSchema,
    options: ReadOptions,
}

/// Gathers what was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GatherFiles {
    schema: TableSchema,
    bad_lines: BadLines,
    files: usize,
}

/// What came of one file.
#[derive(Serialize, Deserialize)]
struct Read {
    partitions: Vec<PartitionRef>,
    report: FileReport,
}

/// The names, sizes and times of the files, which tell whether they are the same as before.
pub(crate) fn world(context: &TaskContext<'_>, ingest: &Ingest, payload: &StepPayload) -> Result<String, Failure> {
    let mut text = String::new();
    for file in discover(context, ingest, payload)? {
        if let Some(artifact) = file.artifact {
            text += &format!("{}\0{artifact}\n", file.path.display());
            continue;
        }
        let modified = std::fs::metadata(&file.path).and_then(|metadata| metadata.modified()).ok();
        let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        text += &format!("{}\0{}\0{}\n", file.path.display(), file.size, modified.as_nanos());
    }
    Ok(text)
}

fn discover(context: &TaskContext<'_>, step: &Ingest, payload: &StepPayload) -> Result<Vec<SourceFile>, Failure> {
    let found = match &payload.files {
        Files::Here => ingest::discover(&step.source.to_vec(), Path::new(&payload.folder), step.format),
        Files::Uploaded { sources } => {
            let list = sources.ok_or_else(|| super::internal("the sources of a step weren't uploaded"))?;
            let list: Vec<UploadedFile> =
                wire::decode("a list of uploaded files", &context.get(list)?).map_err(IntoFailure::into_failure)?;
            let source = |file: &UploadedFile| {
                SourceFile::uploaded(PathBuf::from(&file.path), file.bytes, file.digest, step.format)
            };
            list.iter().map(source).collect()
        }
    };
    found.map_err(IntoFailure::into_failure)
}

/// Brings the bytes of an uploaded file to this disk, if it is one.
fn fetch(context: &TaskContext<'_>, file: &mut SourceFile, folder: &Path) -> Result<(), Failure> {
    let Some(artifact) = file.artifact else { return Ok(()) };
    let _fetching = spans::fetch_source().entered();
    file.local = match context.resources.artifacts.local_path(artifact) {
        Some(path) => Some(path),
        None => {
            let path = folder.join(format!("source-{}", artifact.hex()));
            context.save(artifact, &path)?;
            Some(path)
        }
    };
    Ok(())
}

/// Finds the files and what their columns are.
pub(crate) fn plan(
    context: &TaskContext<'_>,
    step: &Ingest,
    payload: &StepPayload,
    cache_key: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let mut files = discover(context, step, payload)?;
    let scratch = context.scratch()?;
    for file in &mut files {
        fetch(context, file, scratch.path())?;
    }
    let inferred = spans::infer_schema(files.len()).in_scope(|| ingest::infer(&files, step));
    let schema = inferred.map_err(IntoFailure::into_failure)?;
    let options = ReadOptions::of(step).map_err(IntoFailure::into_failure)?;
    let join = Join {
        what: JoinWhat::Ingest(GatherFiles { schema: schema.clone(), bad_lines: step.bad_lines, files: files.len() }),
        cache_key,
    };
    let child = Child::Ingest(ReadFile { schema, options });
    fanout::expand(context, &files, &child, &join).map(TaskEnd::Expanded)
}

/// Reads one file into partitions.
pub(crate) fn read(context: &TaskContext<'_>, read: &ReadFile, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    let mut file: SourceFile = fanout::item(context, item)?;
    let scratch = context.scratch()?;
    fetch(context, &mut file, scratch.path())?;
    let mut partitions = Vec::new();
    let mut failure = None;
    let reading = spans::read_file().entered();
    let result = {
        let mut sink = |finished| keep(context, finished, &mut partitions, &mut failure);
        ingest::read_file(&file, &read.schema, &read.options, scratch.path(), &mut sink)
    };
    if let Some(failure) = failure {
        return Err(failure);
    }
    let report = result.map_err(IntoFailure::into_failure)?;
    reading.record(spans::ROWS, report.rows as i64);
    drop(reading);
    context.control.progress(report.rows, None, "rows");
    context.put_result(&Read { partitions, report }).map(TaskEnd::Result)
}

/// Puts the files' partitions into one dataset, unless too many lines couldn't be read.
pub(crate) fn gather(
    context: &TaskContext<'_>,
    gather: &GatherFiles,
    children: &InputValue,
) -> Result<TaskEnd, Failure> {
    let mut profile = Profiler::new(&gather.schema);
    let mut quarantine = Quarantine::default();
    let mut partitions = Vec::new();
    for read in fanout::children::<Read>(context, children)? {
        partitions.extend(read.partitions);
        profile.merge(&read.report.profile).map_err(|error| super::internal(error.to_string()))?;
        quarantine.merge(read.report.quarantine);
    }
    if let Some((message, hint)) = quarantine.over(&gather.bad_lines, profile.rows()) {
        let failure = Failure::new(ErrorCode::BadInput, message);
        return Err(match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        });
    }
    let quarantined = store_quarantine(context, &quarantine)?;
    let profile = context.put_json(&profile.finish())?;
    let manifest = Manifest { schema: gather.schema.clone(), partitions, profile: Some(profile) };
    let dataset = store_manifest(context, &manifest)?;
    Ok(TaskEnd::Made(Output::Dataset { dataset, quarantine: quarantined }))
}

fn store_quarantine(context: &TaskContext<'_>, quarantine: &Quarantine) -> Result<Option<Quarantined>, Failure> {
    if quarantine.total == 0 {
        return Ok(None);
    }
    let batch = quarantine.to_batch().map_err(|error| super::internal(error.to_string()))?;
    let bytes = partition::to_bytes(&Quarantine::schema(), &[batch]).map_err(IntoFailure::into_failure)?;
    Ok(Some(Quarantined { lines: quarantine.total, table: context.put(bytes)? }))
}
