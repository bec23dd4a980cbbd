//! From what clients send to a run: checked, planned, submitted. Submissions over the queue and over HTTP, schedules and
//! triggers all come through here.

use std::collections::BTreeMap;

use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::state::State;
use gristmill_protocol::error::ErrorCode;
use gristmill_protocol::fact::{About, Origin};
use gristmill_protocol::limits::{PARAMETERS_BYTES_MAX, PIPELINE_BYTES_MAX, SOURCE_FILES_MAX};
use gristmill_protocol::payload::{Files, plan_with};
use gristmill_protocol::pipeline::{self, Complaints, Pipeline, Task};
use gristmill_protocol::submission::{Outputs, SubmissionMessage};
use gristmill_protocol::{Digest, Timestamp, wire};

use crate::pipelines::{self, PipelineError};
use crate::submit::{Submission, SubmitError, Submitted, submit};

/// The namespace of runs that don't name one.
pub const NAMESPACE: &str = "default";
/// A priority is a whole number from minus this to this.
const PRIORITY_MAX: i8 = 100;

/// What makes a submission the same one when it is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The caller's, which is remembered for days.
    Remembered(String),
    /// One that comes with its own time: key and time make the same run by themselves.
    Timed(String),
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("name either a `pipeline` or the `name` of one that is kept")]
    Which,
    #[error(
        "the pipeline has {pipeline} bytes and the parameters {params}; the limits are {PIPELINE_BYTES_MAX} and {PARAMETERS_BYTES_MAX}"
    )]
    TooLarge { pipeline: usize, params: usize },
    #[error("`{0}` can't be a namespace: use lower-case letters, digits, `-` and `_`, a letter first")]
    Namespace(String),
    #[error("there is no pipeline `{name}`{} in namespace `{namespace}`", version.map(|version| format!(" with version {version}")).unwrap_or_default())]
    NoPipeline { namespace: String, name: String, version: Option<u64> },
    #[error("`files` names `{0}`, which is no ingest step of the pipeline")]
    NoIngest(String),
    #[error("`files` has {0} files; at most {SOURCE_FILES_MAX} can be named")]
    TooManyFiles(usize),
    #[error("the pipeline has mistakes")]
    Wrong(#[source] Complaints),
    #[error(transparent)]
    Pipeline(PipelineError),
    #[error("failed to put the list of files among the artifacts")]
    Artifacts(#[from] ArtifactError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl MessageError {
    /// Its code in the table of errors.
    pub fn code(&self) -> ErrorCode {
        match self {
            MessageError::Which | MessageError::Namespace(_) | MessageError::NoIngest(_) => ErrorCode::BadInput,
            MessageError::TooLarge { .. }
            | MessageError::TooManyFiles(_)
            | MessageError::Pipeline(PipelineError::TooLarge { .. }) => ErrorCode::TooLarge,
            MessageError::NoPipeline { .. } => ErrorCode::NotFound,
            MessageError::Wrong(_)
            | MessageError::Pipeline(PipelineError::Wrong(_))
            | MessageError::Submit(SubmitError::Plan(_)) => ErrorCode::BadPipeline,
            MessageError::Pipeline(PipelineError::Contended { .. }) => ErrorCode::Unavailable,
            MessageError::Pipeline(PipelineError::Damaged { .. }) => ErrorCode::Internal,
            MessageError::Submit(SubmitError::KeyTaken { .. }) => ErrorCode::Conflict,
            MessageError::Pipeline(PipelineError::State(_))
            | MessageError::Artifacts(_)
            | MessageError::Submit(SubmitError::State(_)) => ErrorCode::Unavailable,
        }
    }
}

/// Makes the run that a message asks for, or finds the one that it made before.
pub async fn submit_message(
    state: &dyn State,
    artifacts: &dyn Artifacts,
    message: SubmissionMessage,
    key: Key,
    at: Timestamp,
) -> Result<Submitted, MessageError> {
    submit_from(state, artifacts, message, key, at, None).await
}

/// The same, for what submits by itself.
pub async fn submit_from(
    state: &dyn State,
    artifacts: &dyn Artifacts,
    message: SubmissionMessage,
    key: Key,
    at: Timestamp,
    origin: Option<Origin>,
) -> Result<Submitted, MessageError> {
    let (source, mut checked) = check_message(state, &message).await?;
    let namespace = message.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    apply(&mut checked, message.no_cache, message.priority);
    let lists = lists_of(artifacts, &checked, &message).await?;
    let plan = plan_with(&checked, "", "", |step| match (lists.get(&step.name), message.outputs) {
        (Some(list), _) => Files::Uploaded { sources: Some(*list) },
        (None, Outputs::Artifacts) if !matches!(step.task, Task::Ingest(_)) => Files::Uploaded { sources: None },
        (None, _) => Files::Here,
    });
    let (key, is_callers_key) = match key {
        Key::Remembered(key) => (key, true),
        Key::Timed(key) => (key, false),
    };
    let about = About { source, params: checked.params.into_iter().collect(), folder: String::new(), origin };
    Ok(submit(state, Submission { plan, about, namespace, key, is_callers_key, at }).await?)
}

/// The text of the pipeline that a message means, and what it says, checked with the message's parameters.
pub async fn check_message(state: &dyn State, message: &SubmissionMessage) -> Result<(String, Pipeline), MessageError> {
    let params = serde_json::to_vec(&message.params).map_or(usize::MAX, |bytes| bytes.len());
    let bytes = message.pipeline.as_ref().map_or(0, String::len);
    if bytes > PIPELINE_BYTES_MAX || params > PARAMETERS_BYTES_MAX {
        return Err(MessageError::TooLarge { pipeline: bytes, params });
    }
    let namespace = message.namespace.as_deref().unwrap_or(NAMESPACE);
    if !pipeline::names::is_name(namespace) {
        return Err(MessageError::Namespace(namespace.to_owned()));
    }
    let source = source_of(state, message, namespace).await?;
    let checked = pipeline::check("submission", &source, &message.parameters()).map_err(MessageError::Wrong)?;
    Ok((source, checked))
}

/// Puts in what is asked of all steps at once.
pub fn apply(pipeline: &mut Pipeline, no_cache: bool, priority: Option<i8>) {
    for step in &mut pipeline.steps {
        step.cache &= !no_cache;
        let raised = step.priority.saturating_add(priority.unwrap_or(0));
        step.priority = raised.clamp(-PRIORITY_MAX, PRIORITY_MAX);
    }
}

/// The text of the pipeline that a message means.
async fn source_of(state: &dyn State, message: &SubmissionMessage, namespace: &str) -> Result<String, MessageError> {
    match (&message.pipeline, &message.name) {
        (Some(text), None) if message.version.is_none() => Ok(text.clone()),
        (None, Some(name)) => {
            let found =
                pipelines::find(state, namespace, name, message.version).await.map_err(MessageError::Pipeline)?;
            let (namespace, version) = (namespace.to_owned(), message.version);
            let missing = || MessageError::NoPipeline { namespace, name: name.clone(), version };
            Ok(found.ok_or_else(missing)?.text)
        }
        _ => Err(MessageError::Which),
    }
}

/// By ingest step, the list of its uploaded files, as an artifact.
async fn lists_of(
    artifacts: &dyn Artifacts,
    pipeline: &Pipeline,
    message: &SubmissionMessage,
) -> Result<BTreeMap<String, Digest>, MessageError> {
    let count = message.files.values().map(Vec::len).sum();
    if count > SOURCE_FILES_MAX {
        return Err(MessageError::TooManyFiles(count));
    }
    let mut lists = BTreeMap::new();
    for (name, files) in &message.files {
        let is_ingest = pipeline.steps.iter().any(|step| step.name == *name && matches!(step.task, Task::Ingest(_)));
        if !is_ingest {
            return Err(MessageError::NoIngest(name.clone()));
        }
        lists.insert(name.clone(), artifacts.put(wire::encode(files).into()).await?);
    }
    Ok(lists)
}
