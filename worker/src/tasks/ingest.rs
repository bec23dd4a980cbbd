//! Files into a dataset: one child a file or a part of a large one, joined in the order of the files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gristmill_ml::ingest::{self, Chain, FilePart, FileReport, Link, Quarantine, ReadOptions, SourceFile, Stretch};
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
use crate::failure::{IntoFailure, io};
use crate::{fanout, spans};

/// Reads a file or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadFile {
    schema: TableSchema,
    options: ReadOptions,
}

/// Gathers what was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GatherFiles {
    read: ReadFile,
    bad_lines: BadLines,
}

/// What came of a file or a part of one.
#[derive(Serialize, Deserialize)]
struct Read {
    partitions: Vec<PartitionRef>,
    report: FileReport,
    /// The file, when this is a part of it.
    part_of: Option<SourceFile>,
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
    let mut parts = Vec::new();
    for file in &files {
        let split = FilePart::split(file);
        parts.extend(split.map_err(|error| io(&error, format!("failed to read `{}`", file.path.display())))?);
    }
    let read = ReadFile { schema, options };
    let what = JoinWhat::Ingest(GatherFiles { read: read.clone(), bad_lines: step.bad_lines });
    fanout::expand(context, &parts, &Child::Ingest(read), &Join { what, cache_key }).map(TaskEnd::Expanded)
}

/// Reads one file, or a part of it, into partitions.
pub(crate) fn read(context: &TaskContext<'_>, read: &ReadFile, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    let mut part: FilePart = fanout::item(context, item)?;
    let (partitions, report) = read_part(context, read, &mut part)?;
    context.control.progress(report.rows, None, "rows");
    let part_of = (!part.is_whole()).then_some(part.file);
    context.put_result(&Read { partitions, report, part_of }).map(TaskEnd::Result)
}

fn read_part(
    context: &TaskContext<'_>,
    read: &ReadFile,
    part: &mut FilePart,
) -> Result<(Vec<PartitionRef>, FileReport), Failure> {
    let scratch = context.scratch()?;
    match part.file.artifact {
        // Of a part no more is fetched than is read.
        Some(artifact) if !part.is_whole() => part.bytes = Some(context.blob(artifact)?),
        _ => fetch(context, &mut part.file, scratch.path())?,
    }
    let mut partitions = Vec::new();
    let mut failure = None;
    let reading = spans::read_file().entered();
    let result = {
        let mut sink = |finished| keep(context, finished, &mut partitions, &mut failure);
        ingest::read_part(part, &read.schema, &read.options, scratch.path(), &mut sink)
    };
    if let Some(failure) = failure {
        return Err(failure);
    }
    let report = result.map_err(IntoFailure::into_failure)?;
    reading.record(spans::ROWS, report.rows as i64);
    Ok((partitions, report))
}

/// Puts the files' partitions into one dataset, unless too many lines couldn't be read.
pub(crate) fn gather(
    context: &TaskContext<'_>,
    gather: &GatherFiles,
    children: &InputValue,
) -> Result<TaskEnd, Failure> {
    let mut gathered = Gathered {
        profile: Profiler::new(&gather.read.schema),
        quarantine: Quarantine::default(),
        partitions: Vec::new(),
    };
    let mut reads: VecDeque<Read> = fanout::children::<Read>(context, children)?.into();
    while let Some(first) = reads.pop_front() {
        let Some(file) = first.part_of.clone() else {
            gathered.add(first, 0)?;
            continue;
        };
        let mut parts = vec![first];
        while reads.front().is_some_and(|next| next.part_of.as_ref().is_some_and(|of| of.path == file.path)) {
            parts.extend(reads.pop_front());
        }
        gather_parts(context, &gather.read, &file, parts, &mut gathered)?;
    }
    let Gathered { profile, quarantine, partitions } = gathered;
    refuse_more_than(&quarantine, &gather.bad_lines, profile.rows(), "lines can't be read")?;
    let quarantined = store_quarantine(context, &quarantine)?;
    let profile = context.put_json(&profile.finish())?;
    let manifest = Manifest { schema: gather.read.schema.clone(), partitions, profile: Some(profile) };
    let dataset = store_manifest(context, &manifest)?;
    Ok(TaskEnd::Made(Output::Dataset { dataset, quarantine: quarantined }))
}

/// What was read so far.
struct Gathered {
    profile: Profiler,
    quarantine: Quarantine,
    partitions: Vec<PartitionRef>,
}

impl Gathered {
    fn add(&mut self, read: Read, lines_before: u64) -> Result<(), Failure> {
        let Read { partitions, mut report, .. } = read;
        self.partitions.extend(partitions);
        self.profile.merge(&report.profile).map_err(|error| super::internal(error.to_string()))?;
        report.quarantine.shift(lines_before);
        self.quarantine.merge(report.quarantine);
        Ok(())
    }
}

/// Puts the parts of a file together, and reads again what was read from the middle of a record.
fn gather_parts(
    context: &TaskContext<'_>,
    read: &ReadFile,
    file: &SourceFile,
    parts: Vec<Read>,
    gathered: &mut Gathered,
) -> Result<(), Failure> {
    let stretches: Vec<Stretch> = parts.iter().map(|part| part.report.stretch).collect();
    let mut parts: Vec<Option<Read>> = parts.into_iter().map(Some).collect();
    let mut chain = Chain::default();
    loop {
        match chain.next(file, &stretches) {
            Link::Take { part, lines_before } => {
                let part = parts[part].take().ok_or_else(|| super::internal("a part of a file came twice"))?;
                gathered.add(part, lines_before)?;
            }
            Link::Read(mut part, lines_before) => {
                let (partitions, report) = read_part(context, read, &mut part)?;
                chain.was_read(report.stretch);
                gathered.add(Read { partitions, report, part_of: None }, lines_before)?;
            }
            Link::End => return Ok(()),
        }
    }
}

/// Refuses to go on when more was set apart than is tolerated; see [`Quarantine::over`].
pub(super) fn refuse_more_than(
    quarantine: &Quarantine,
    limits: &BadLines,
    rows: u64,
    what: &str,
) -> Result<(), Failure> {
    let Some((message, hint)) = quarantine.over(limits, rows, what) else { return Ok(()) };
    let failure = Failure::new(ErrorCode::BadInput, message);
    Err(match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    })
}

/// Keeps the table of what was set apart, if anything was.
pub(super) fn store_quarantine(
    context: &TaskContext<'_>,
    quarantine: &Quarantine,
) -> Result<Option<Quarantined>, Failure> {
    if quarantine.total == 0 {
        return Ok(None);
    }
    let batch = quarantine.to_batch().map_err(|error| super::internal(error.to_string()))?;
    let bytes = partition::to_bytes(&Quarantine::schema(), &[batch]).map_err(IntoFailure::into_failure)?;
    Ok(Some(Quarantined { lines: quarantine.total, table: context.put(bytes)? }))
}
