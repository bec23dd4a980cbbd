//! Files into a dataset: one child a file, joined in the order of the files.

use std::path::Path;
use std::time::UNIX_EPOCH;

use gristmill_ml::ingest::{self, FileReport, Quarantine, ReadOptions, SourceFile};
use gristmill_ml::partition;
use gristmill_ml::profile::Profiler;
use gristmill_ml::table::TableSchema;
use gristmill_protocol::message::InputValue;
use gristmill_protocol::output::{Output, Quarantined};
use gristmill_protocol::pipeline::steps::{BadLines, Ingest};
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd};
use crate::context::TaskContext;
use crate::datasets::{keep, store_manifest};
use crate::documents::{Manifest, PartitionRef};
use crate::failure::IntoFailure;
use crate::fanout;

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
pub(crate) fn world(ingest: &Ingest, folder: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for file in discover(ingest, folder)? {
        let modified = std::fs::metadata(&file.path).and_then(|metadata| metadata.modified()).ok();
        let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        text += &format!("{}\0{}\0{}\n", file.path.display(), file.size, modified.as_nanos());
    }
    Ok(text)
}

fn discover(step: &Ingest, folder: &str) -> Result<Vec<SourceFile>, Failure> {
    ingest::discover(&step.source.to_vec(), Path::new(folder), step.format).map_err(IntoFailure::into_failure)
}

/// Finds the files and what their columns are.
pub(crate) fn plan(
    context: &TaskContext<'_>,
    step: &Ingest,
    folder: &str,
    cache_key: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let files = discover(step, folder)?;
    let schema = ingest::infer(&files, step).map_err(IntoFailure::into_failure)?;
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
    let file: SourceFile = fanout::item(context, item)?;
    let scratch = context.scratch()?;
    let mut partitions = Vec::new();
    let mut failure = None;
    let result = {
        let mut sink = |finished| keep(context, finished, &mut partitions, &mut failure);
        ingest::read_file(&file, &read.schema, &read.options, scratch.path(), &mut sink)
    };
    if let Some(failure) = failure {
        return Err(failure);
    }
    let report = result.map_err(IntoFailure::into_failure)?;
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
