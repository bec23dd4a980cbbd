//! Manifests and partitions in the artifact store.

use std::path::Path;

use arrow::array::RecordBatch;
use gristmill_ml::blob::SharedBlob;
use gristmill_ml::partition::{FinishedPartition, PartitionReader, PartitionRoller};
use gristmill_ml::table::TableSchema;
use gristmill_protocol::output::DatasetRef;
use gristmill_protocol::{Digest, Failure};

use crate::context::TaskContext;
use crate::documents::{Manifest, PartitionRef};
use crate::failure::IntoFailure;

/// Reads a dataset's manifest.
pub(crate) fn load_manifest(context: &TaskContext<'_>, manifest: Digest) -> Result<Manifest, Failure> {
    context.get_json(manifest, "manifest")
}

/// Keeps a manifest.
pub(crate) fn store_manifest(context: &TaskContext<'_>, manifest: &Manifest) -> Result<DatasetRef, Failure> {
    Ok(DatasetRef { manifest: context.put_json(manifest)?, rows: manifest.rows() })
}

/// The partitions of a manifest, ready to be read.
pub(crate) fn blobs(context: &TaskContext<'_>, manifest: &Manifest) -> Result<Vec<SharedBlob>, Failure> {
    manifest.partitions.iter().map(|partition| context.blob(partition.digest)).collect()
}

/// The rows of these partitions in their order, with these columns. A partition is opened when the one before it is done;
/// one that can't be is an error in its place.
pub(crate) fn batches<'a, S: AsRef<str>>(
    blobs: &'a [SharedBlob],
    columns: &'a [S],
) -> impl Iterator<Item = Result<RecordBatch, Failure>> + 'a {
    blobs.iter().flat_map(|blob| {
        let (reader, failure) = match PartitionReader::open(blob.clone(), Some(columns)) {
            Ok(reader) => (Some(reader), None),
            Err(error) => (None, Some(Err(error.into_failure()))),
        };
        let batches = reader.into_iter().flatten().map(|batch| batch.map_err(IntoFailure::into_failure));
        failure.into_iter().chain(batches)
    })
}

/// Writes rows into partitions and keeps these: `fill` gets the roller, `folder` holds a file while it grows.
pub(crate) fn write_partitions(
    context: &TaskContext<'_>,
    folder: &Path,
    prefix: &str,
    schema: &TableSchema,
    fill: impl FnOnce(&mut PartitionRoller<'_>) -> Result<(), Failure>,
) -> Result<Vec<PartitionRef>, Failure> {
    let mut partitions = Vec::new();
    let mut failure = None;
    let mut sink = |finished: FinishedPartition| keep(context, finished, &mut partitions, &mut failure);
    let mut roller = PartitionRoller::new(folder, prefix, schema.clone(), &mut sink);
    let filled = fill(&mut roller).and_then(|()| roller.finish().map_err(IntoFailure::into_failure));
    match (failure, filled) {
        // What the store said is nearer to the cause than what the writer made of it.
        (Some(failure), _) | (None, Err(failure)) => Err(failure),
        (None, Ok(())) => Ok(partitions),
    }
}

/// Keeps a finished partition; a failure of the store is put aside for whoever asked.
pub(crate) fn keep(
    context: &TaskContext<'_>,
    finished: FinishedPartition,
    partitions: &mut Vec<PartitionRef>,
    failure: &mut Option<Failure>,
) -> std::io::Result<()> {
    match context.put_file(&finished.path) {
        Ok((digest, bytes)) => {
            partitions.push(PartitionRef { digest, rows: finished.rows, bytes });
            Ok(())
        }
        Err(error) => {
            let text = error.message.clone();
            *failure = Some(error);
            Err(std::io::Error::other(text))
        }
    }
}
