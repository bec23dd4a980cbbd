//! Scores a dataset into a file: one child some row groups, joined in their order. The file is written aside, synced
//! and renamed, so it is whole or not there.

use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use gristmill_ml::ingest::Quarantine;
use gristmill_ml::model::Model;
use gristmill_ml::partition::{self, PartitionReader};
use gristmill_ml::table::TableSchema;
use gristmill_protocol::message::InputValue;
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::{Files, StepPayload};
use gristmill_protocol::pipeline::steps::{BadLines, Score};
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_registry::{Act, VersionRef};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::ingest::{refuse_more_than, store_quarantine};
use super::validate::{load, model_of};
use super::{Child, Join, JoinWhat, TaskEnd, if_stopped, internal};
use crate::context::{TaskContext, resolve};
use crate::datasets::load_manifest;
use crate::failure::IntoFailure;
use crate::score_file::{Piece, ScoreFile, row_text};
use crate::{fanout, spans};

/// Rows of a child, rounded to row groups: half a second of a forest of a hundred trees, so that a child's own
/// cost doesn't show, and a lost one is soon done again.
const CHILD_ROWS: u64 = 4 * partition::ROW_GROUP_ROWS as u64;

/// Scores row groups of one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScoreGroups {
    model: Digest,
    /// What the dataset is called, for rows that can't be scored.
    input: String,
    keep: Vec<String>,
    output: TableSchema,
    csv: bool,
}

/// Row groups of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Groups {
    partition: Digest,
    first: u32,
    count: u32,
    /// The number of their first row in the dataset, from 0.
    first_row: u64,
}

/// What came of a child.
#[derive(Serialize, Deserialize)]
struct Scored {
    /// The rows as they will stand in the file; none when there are none.
    piece: Option<Digest>,
    rows: u64,
    quarantine: Quarantine,
}

/// Puts the children's pieces into one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WriteFile {
    path: String,
    /// Whether the file goes into the artifact store, because it is somebody else's to put where it belongs.
    uploaded: bool,
    output: TableSchema,
    csv: bool,
    bad_rows: BadLines,
    /// The registered version that scores, and the manifest of what it scores.
    #[serde(default)]
    of: Option<(VersionRef, Digest)>,
}

/// The file that the step writes and the model it uses, which may be the registry's.
pub(crate) fn world(context: &TaskContext<'_>, score: &Score, work_folder: &str) -> Result<String, Failure> {
    let output = resolve(work_folder, &score.output);
    Ok(format!("{}\n{}", output.display(), model_digest(context, score)?.0))
}

/// Size and time of change of a file, which tell whether it is still the one that was written.
pub(crate) fn file_facts(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), modified.as_millis() as u64))
}

/// The model's bytes, and which version they are when the registry was asked.
fn model_digest(context: &TaskContext<'_>, score: &Score) -> Result<(Digest, Option<VersionRef>), Failure> {
    if score.model.contains('@') {
        let (of, version) =
            context.wait(context.resources.registry.version(&score.model)).map_err(IntoFailure::into_failure)?;
        return Ok((version.new.model, Some(of)));
    }
    Ok((model_of(context, &score.model)?, None))
}

/// Checks that the model fits the dataset and that the file can be written, and grows the children.
pub(crate) fn plan(
    context: &TaskContext<'_>,
    score: &Score,
    payload: &StepPayload,
    cache_key: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let (digest, of) = model_digest(context, score)?;
    let model = load(context, digest)?;
    let input = context.dataset(&score.input)?.manifest;
    let manifest = load_manifest(context, input)?;
    if manifest.rows() == 0 {
        return Err(Failure::new(ErrorCode::BadInput, "there are no rows to score"));
    }
    let keep: Vec<String> = match &score.keep {
        Some(keep) => keep.clone(),
        None => manifest.schema.names().map(str::to_owned).collect(),
    };
    let kept = manifest.schema.project(&keep).map_err(IntoFailure::into_failure)?;
    let nothing = RecordBatch::new_empty(manifest.schema.to_arrow());
    let predictions = model.predict(&nothing).map_err(IntoFailure::into_failure)?.columns();
    let output = with_predictions(&kept.to_arrow(), &keep, &predictions);
    let output = TableSchema::from_arrow(&output).map_err(|error| internal(error.to_string()))?;

    let path = resolve(&payload.work_folder, &score.output);
    let uploaded = matches!(payload.files, Files::Uploaded { .. });
    if !uploaded {
        ScoreFile::make_folder(&path)?;
    }
    let mut pieces = Vec::new();
    let mut first_row = 0;
    for partition in &manifest.partitions {
        let groups = partition::row_groups(context.blob(partition.digest)?).map_err(IntoFailure::into_failure)?;
        let mut current = Groups { partition: partition.digest, first: 0, count: 0, first_row };
        let mut rows = 0;
        for (at, group) in (0..).zip(groups) {
            if rows > 0 && rows + group > CHILD_ROWS {
                pieces.push(current.clone());
                current = Groups { first: at, count: 0, first_row, ..current };
                rows = 0;
            }
            current.count += 1;
            rows += group;
            first_row += group;
        }
        if rows > 0 {
            pieces.push(current);
        }
    }
    let csv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let path = path.display().to_string();
    let what = WriteFile {
        path,
        uploaded,
        output: output.clone(),
        csv,
        bad_rows: score.bad_rows,
        of: of.map(|of| (of, input)),
    };
    let child = ScoreGroups { model: digest, input: score.input.clone(), keep, output, csv };
    let join = Join { what: JoinWhat::Score(what), cache_key };
    fanout::expand(context, &pieces, &Child::Score(child), &join).map(TaskEnd::Expanded)
}

/// Scores some row groups.
pub(crate) fn run(context: &TaskContext<'_>, score: &ScoreGroups, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    let groups: Groups = fanout::item(context, item)?;
    let model = load(context, score.model)?;
    let mut columns = score.keep.clone();
    let read = model.signature().iter().map(|input| &input.name).filter(|name| !score.keep.contains(name));
    columns.extend(read.cloned());
    let scratch = context.scratch()?;
    let mut piece = Piece::begin(&scratch.path().join("piece"), &score.output, score.csv)?;
    let mut quarantine = Quarantine::default();
    let mut row = groups.first_row;
    {
        let _scoring = spans::score_partition().entered();
        let range = groups.first as usize..(groups.first + groups.count) as usize;
        let reader = PartitionReader::open_groups(context.blob(groups.partition)?, Some(&columns), range)
            .map_err(IntoFailure::into_failure)?;
        for batch in reader {
            if let Some(end) = if_stopped(context) {
                return Ok(end);
            }
            let batch = batch.map_err(IntoFailure::into_failure)?;
            score_rows(&model, score, &batch, row, &mut piece, &mut quarantine)?;
            row += batch.num_rows() as u64;
            context.control.progress(row - groups.first_row, None, "rows");
        }
    }
    let (path, rows) = piece.finish()?;
    let piece = if rows > 0 { Some(context.put_file(&path)?.0) } else { None };
    context.put_result(&Scored { piece, rows, quarantine }).map(TaskEnd::Result)
}

/// Scores rows; when one of them can't be, halves are looked at until it alone is set apart.
fn score_rows(
    model: &Model,
    score: &ScoreGroups,
    batch: &RecordBatch,
    first_row: u64,
    piece: &mut Piece,
    quarantine: &mut Quarantine,
) -> Result<(), Failure> {
    match model.predict(batch) {
        Ok(predictions) => {
            let keep: Vec<usize> = (0..score.keep.len()).collect();
            let kept = batch.project(&keep).map_err(|error| internal(error.to_string()))?;
            let mut arrays = kept.columns().to_vec();
            arrays.extend(predictions.columns().into_iter().map(|(_, array)| array));
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let scored = RecordBatch::try_new_with_options(score.output.to_arrow(), arrays, &options)
                .map_err(|error| internal(error.to_string()))?;
            piece.write(&scored)
        }
        Err(error) if error.is_of_a_row() && batch.num_rows() == 1 => {
            let text = row_text(batch);
            quarantine.add(Path::new(&score.input), first_row + 1, error.reason(), text.as_bytes());
            Ok(())
        }
        Err(error) if error.is_of_a_row() => {
            let half = batch.num_rows() / 2;
            score_rows(model, score, &batch.slice(0, half), first_row, piece, quarantine)?;
            let rest = batch.slice(half, batch.num_rows() - half);
            score_rows(model, score, &rest, first_row + half as u64, piece, quarantine)
        }
        Err(error) => Err(error.into_failure()),
    }
}

/// The kept columns and what the model says, whose names give way to the table's own.
fn with_predictions(kept: &Schema, keep: &[String], predictions: &[(String, ArrayRef)]) -> Schema {
    let mut fields: Vec<Field> = kept.fields().iter().map(|field| field.as_ref().clone()).collect();
    for (name, array) in predictions {
        let name = if keep.contains(name) { format!("model_{name}") } else { name.clone() };
        fields.push(Field::new(name, array.data_type().clone(), false));
    }
    Schema::new(fields)
}

/// What a version said of a dataset, as its lineage names it.
#[derive(Serialize)]
struct ScoresManifest<'a> {
    /// The file that was asked for.
    path: &'a str,
    rows: u64,
    /// The rows of the file, in order.
    pieces: &'a [Digest],
}

/// Notes in the registry what a registered version has scored, under the run: however often it is done, it is noted
/// once. A version that is gone by now keeps no lineage, and the scores are none the worse for it.
fn note_predictions(
    context: &TaskContext<'_>,
    gather: &WriteFile,
    pieces: &[Digest],
    rows: u64,
) -> Result<(), Failure> {
    let Some((of, input)) = &gather.of else { return Ok(()) };
    let output = context.put_json(&ScoresManifest { path: &gather.path, rows, pieces })?;
    let clock = context.wait(context.resources.state.clock()).map_err(IntoFailure::into_failure)?;
    let act = Act { by: context.author(), trace: Some(context.run), at: clock.now, ..Act::default() };
    let acting = context.resources.registry.on_behalf(act);
    match context.wait(acting.scored(of, output, rows, Some(*input))) {
        Err(error) if error.code() == ErrorCode::NotFound => {
            warn!(model = of.name, version = of.version, %error, "what it scored isn't noted");
            Ok(())
        }
        noted => noted.map_err(IntoFailure::into_failure),
    }
}

/// Puts the pieces into one file, unless too many rows couldn't be scored.
pub(crate) fn gather(context: &TaskContext<'_>, gather: &WriteFile, children: &InputValue) -> Result<TaskEnd, Failure> {
    let (mut pieces, mut rows, mut quarantine) = (Vec::new(), 0, Quarantine::default());
    for scored in fanout::children::<Scored>(context, children)? {
        rows += scored.rows;
        pieces.extend(scored.piece);
        quarantine.merge(scored.quarantine);
    }
    refuse_more_than(&quarantine, &gather.bad_rows, rows, "rows can't be scored")?;
    let quarantine = store_quarantine(context, &quarantine)?;
    let path = Path::new(&gather.path);
    let scratch = if gather.uploaded { Some(context.scratch()?) } else { None };
    let folder = scratch.as_ref().map(tempfile::TempDir::path);
    let mut file = ScoreFile::begin(path, folder, &gather.output, gather.csv)?;
    for piece in &pieces {
        if let Some(end) = if_stopped(context) {
            return Ok(end);
        }
        file.append(context.blob(*piece)?)?;
    }
    let path = gather.path.clone();
    if gather.uploaded {
        let (artifact, bytes) = context.put_file(file.finish()?.path())?;
        let artifact = Some(artifact);
        note_predictions(context, gather, &pieces, rows)?;
        return Ok(TaskEnd::Made(Output::Scores { path, rows, bytes, modified_ms: 0, artifact, quarantine }));
    }
    file.persist()?;
    note_predictions(context, gather, &pieces, rows)?;
    let (bytes, modified_ms) = file_facts(Path::new(&path)).unwrap_or_default();
    Ok(TaskEnd::Made(Output::Scores { path, rows, bytes, modified_ms, artifact: None, quarantine }))
}
