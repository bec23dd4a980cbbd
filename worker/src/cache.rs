//! Equal work is done once.
//!
//! A step's key is the digest of its kind, its parameters, the digests of its inputs, what it reads of the
//! world (names, sizes and times of source files; a champion's digest), and the version of the code that does
//! it. A hit counts only when all that it names still exists.

use gristmill_backends::state::StateError;
use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::Task;
use gristmill_protocol::pipeline::steps::Train;
use gristmill_protocol::{Digest, Failure, wire};
use tracing::debug;

use crate::context::{TaskContext, input_digests};
use crate::datasets::load_manifest;

/// Raised whenever steps of a kind come to make something else of the same inputs.
fn code_version(task: &Task) -> u32 {
    match task {
        Task::Train(_) | Task::Tune(_) | Task::Register(_) | Task::Python(_) | Task::Noop(_) => 1,
        Task::Ingest(_)
        | Task::Transform(_)
        | Task::Expect(_)
        | Task::Split(_)
        | Task::Validate(_)
        | Task::Score(_) => 2,
    }
}

/// The key of a step's result; `world` is what the step reads beside its inputs.
pub(crate) fn key(
    payload: &gristmill_protocol::payload::StepPayload,
    inputs: &[(String, Output)],
    world: &str,
) -> Digest {
    let task = match &payload.task {
        // How many tasks train it changes nothing of a model.
        Task::Train(train) => &Task::Train(Train { parts: None, ..train.clone() }),
        task => task,
    };
    let inputs = input_digests(payload, inputs);
    Digest::of(&wire::encode(&(task.kind(), code_version(task), task, inputs, world)))
}

/// The earlier result under a key, if all that it names still exists.
pub(crate) fn look_up(context: &TaskContext<'_>, key: Digest) -> Option<Output> {
    let document = context.wait(context.resources.state.get(&document_key(key))).ok()??;
    let output: Output = wire::decode("a cached result", &document.body).ok()?;
    exists(context, &output).then_some(output)
}

/// Keeps a result. Losing it would only cost work, so a failure is no failure of the step.
pub(crate) fn keep(context: &TaskContext<'_>, key: Digest, output: &Output) {
    let state = &context.resources.state;
    let (key, body) = (document_key(key), wire::encode(output));
    let kept: Result<(), StateError> = context.wait(async {
        let expected = state.get(&key).await?.map_or(0, |document| document.version);
        state.put(&key, expected, body).await?;
        Ok(())
    });
    if let Err(error) = kept {
        debug!(%key, error = &error as &dyn std::error::Error, "a result isn't cached");
    }
}

fn document_key(key: Digest) -> String {
    format!("cache/{}", key.hex())
}

fn exists(context: &TaskContext<'_>, output: &Output) -> bool {
    let has = |digest: Digest| matches!(context.wait(context.resources.artifacts.size(digest)), Ok(Some(_)));
    if let Output::Scores { path, bytes, modified_ms, artifact: None, .. } = output {
        return crate::tasks::score::file_facts(std::path::Path::new(path)) == Some((*bytes, *modified_ms));
    }
    let manifests = match output {
        Output::Dataset { dataset, .. } | Output::Checked { dataset, .. } => vec![dataset.manifest],
        Output::Parts { parts } => parts.values().map(|dataset| dataset.manifest).collect(),
        _ => Vec::new(),
    };
    let whole = |manifest: Digest| -> Result<bool, Failure> {
        let manifest = load_manifest(context, manifest)?;
        Ok(manifest.profile.is_none_or(has) && manifest.partitions.iter().all(|partition| has(partition.digest)))
    };
    output.artifacts().into_iter().all(has) && manifests.into_iter().all(|manifest| whole(manifest).unwrap_or(false))
}
