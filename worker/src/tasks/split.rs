//! Parts a dataset. Each row's part depends on the seed and its place in the dataset alone.

use std::collections::BTreeMap;

use gristmill_ml::partition::PartitionRoller;
use gristmill_ml::split::{self, Part, SplitError};
use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::Split;
use gristmill_protocol::{ErrorCode, Failure};

use super::{TaskEnd, if_stopped};
use crate::context::TaskContext;
use crate::datasets::{blobs, keep, load_manifest, store_manifest};
use crate::documents::{Manifest, PartitionRef};
use crate::failure::IntoFailure;
use crate::spans;

/// Why a partition can't be parted: it can't be read, or its parts can't be written.
enum ApplyError {
    Split(SplitError),
    Write(Failure),
}

impl From<SplitError> for ApplyError {
    fn from(error: SplitError) -> ApplyError {
        ApplyError::Split(error)
    }
}

/// Parts the dataset.
pub(crate) fn split(context: &TaskContext<'_>, settings: &Split) -> Result<TaskEnd, Failure> {
    let manifest = load_manifest(context, context.dataset(&settings.input)?.manifest)?;
    let blobs = blobs(context, &manifest)?;
    split::check(&manifest.schema, settings).map_err(IntoFailure::into_failure)?;
    let assignment = spans::assign_parts().in_scope(|| split::assign(&manifest.schema, settings, &blobs));
    let assignment = assignment.map_err(IntoFailure::into_failure)?;
    let scratch = context.scratch()?;
    let mut partitions: [Vec<PartitionRef>; 3] = Default::default();
    let mut failures: [Option<Failure>; 3] = Default::default();
    {
        let [train, test, validation] = &mut partitions;
        let [train_failure, test_failure, validation_failure] = &mut failures;
        let mut train_sink = |finished| keep(context, finished, train, train_failure);
        let mut test_sink = |finished| keep(context, finished, test, test_failure);
        let mut validation_sink = |finished| keep(context, finished, validation, validation_failure);
        let schema = &manifest.schema;
        let mut rollers = [
            PartitionRoller::new(scratch.path(), "train", schema.clone(), &mut train_sink),
            PartitionRoller::new(scratch.path(), "test", schema.clone(), &mut test_sink),
            PartitionRoller::new(scratch.path(), "validation", schema.clone(), &mut validation_sink),
        ];
        let mut rows = 0;
        for (blob, assigned) in blobs.into_iter().zip(&assignment.partitions) {
            if let Some(end) = if_stopped(context) {
                return Ok(end);
            }
            let _splitting = spans::split_partition().entered();
            let applied = split::apply(blob, assigned, |part, batch| {
                rows += batch.num_rows() as u64;
                rollers[part as usize].write(&batch).map_err(|error| ApplyError::Write(error.into_failure()))
            });
            match applied {
                Ok(()) => context.control.progress(rows, None, "rows"),
                Err(ApplyError::Split(error)) => return Err(error.into_failure()),
                Err(ApplyError::Write(failure)) => return Err(failure),
            }
        }
        for roller in rollers {
            roller.finish().map_err(IntoFailure::into_failure)?;
        }
    }
    if let Some(failure) = failures.into_iter().flatten().next() {
        return Err(failure);
    }
    let mut parts = BTreeMap::new();
    for (part, partitions) in Part::ALL.into_iter().zip(partitions) {
        let wanted = part != Part::Validation || settings.validation > 0.0;
        if wanted {
            let part_manifest = Manifest { schema: manifest.schema.clone(), partitions, profile: None };
            let dataset = store_manifest(context, &part_manifest)?;
            if dataset.rows == 0 {
                let text = format!("`{}` would have no rows", part.as_str());
                return Err(Failure::new(ErrorCode::BadInput, text).with_hint("raise its share, or bring more rows"));
            }
            parts.insert(part.as_str().to_owned(), dataset);
        }
    }
    Ok(TaskEnd::Made(Output::Parts { parts }))
}
