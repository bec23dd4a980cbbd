//! Making a run: a plan and where it came from become a run's first journal entry.

use gristmill_backends::state::{Created, NewRun, State, StateError};
use gristmill_protocol::fact::{About, Fact, JournalBody};
use gristmill_protocol::plan::{Plan, PlanError};
use gristmill_protocol::{Digest, RunId, Shard, Timestamp, wire};

/// What is submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    pub plan: Plan,
    pub about: About,
    pub namespace: String,
    /// What makes the submission the same one when it is made again: a caller's idempotency key, else the message id.
    pub key: String,
    /// Whether the key is the caller's, and so remembered for days.
    pub is_callers_key: bool,
    /// When it was submitted, by the submitter's clock.
    pub at: Timestamp,
}

/// Why a submission was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the pipeline can't be run")]
    Plan(#[from] PlanError),
    #[error("the idempotency key `{key}` was used for another submission, which made `{run}`")]
    KeyTaken { key: String, run: RunId },
    #[error("failed to submit the run")]
    State(#[from] StateError),
}

/// A run that a submission stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub run: RunId,
    /// Whether it was made now; the same submission had made it before, else.
    pub created: bool,
}

/// Makes the run, or finds the one that the same submission has made. Saying it again is harmless.
pub async fn submit(state: &dyn State, submission: Submission) -> Result<Submitted, SubmitError> {
    submission.plan.check()?;
    // A limit is counted in one place: runs that name one meet on the shard of their namespace.
    let pinned = (!submission.plan.limits.is_empty()).then(|| Shard::of_namespace(&submission.namespace));
    let run = RunId::derive(submission.at, &submission.namespace, &submission.key, pinned);
    let content = Digest::of(&wire::encode(&(&submission.plan, &submission.about)));
    let pipeline = submission.plan.pipeline.clone();
    let fact = Fact::Created { at: submission.at, plan: submission.plan, about: submission.about };
    let new = NewRun {
        run,
        pipeline,
        namespace: submission.namespace,
        entry: wire::encode(&JournalBody { facts: vec![fact] }),
        idempotency: submission.is_callers_key.then(|| (submission.key.clone(), content)),
    };
    match state.create_run(new).await? {
        Created::New => Ok(Submitted { run, created: true }),
        Created::Existing(run) => Ok(Submitted { run, created: false }),
        Created::KeyTaken(run) => Err(SubmitError::KeyTaken { key: submission.key, run }),
    }
}
