//! One file a task kind, and what tells them apart.

use gristmill_protocol::message::{Expansion, ReturnCause};
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::StepPayload;
use gristmill_protocol::pipeline::Task;
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use crate::context::TaskContext;

pub(crate) mod expect;
mod gates;
pub(crate) mod ingest;
pub(crate) mod noop;
pub(crate) mod register;
pub(crate) mod score;
pub(crate) mod split;
pub(crate) mod train;
pub(crate) mod transform;
pub(crate) mod tune;
pub(crate) mod validate;

/// How a task ends when nothing goes wrong.
pub(crate) enum TaskEnd {
    /// A step has made this.
    Made(Output),
    /// A step would have made this, and it was there.
    Found(Output),
    /// A child has this result.
    Result(Vec<u8>),
    Expanded(Expansion),
    Rejected(String),
    /// Handed back, to be done later.
    Returned(ReturnCause),
    Stopped,
}

/// What a child of an expansion does with its item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Child {
    Ingest(ingest::ReadFile),
    Transform(transform::RunQuery),
    Expect(expect::CheckPartition),
    Train(Box<train::TrainPart>),
    Tune(Box<tune::RunTrial>),
    Score(score::ScoreGroups),
    Noop(noop::Wait),
}

/// What the join of an expansion does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) what: JoinWhat,
    /// Where the result is kept for the next equal step.
    pub(crate) cache_key: Option<Digest>,
}

/// The kinds of joins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum JoinWhat {
    Ingest(ingest::GatherFiles),
    Transform(transform::GatherPartitions),
    Expect(expect::Conclude),
    Train(Box<train::JoinParts>),
    Tune(Box<tune::TrainWinner>),
    Score(score::WriteFile),
    Noop,
}

/// What a step reads of the world beside its inputs, as text; nothing when its result mustn't be reused.
pub(crate) fn world(context: &TaskContext<'_>, payload: &StepPayload) -> Result<Option<String>, Failure> {
    if !payload.cache {
        return Ok(None);
    }
    match &payload.task {
        Task::Ingest(ingest) => ingest::world(context, ingest, payload).map(Some),
        Task::Validate(validate) => validate::world(context, validate, payload).map(Some),
        Task::Score(score) => score::world(context, score, &payload.work_folder).map(Some),
        Task::Transform(_) | Task::Expect(_) | Task::Split(_) | Task::Train(_) | Task::Tune(_) => {
            Ok(Some(String::new()))
        }
        // Registering is an effect outside, and is the same for the same run and step anyway.
        Task::Register(_) | Task::Python(_) | Task::Noop(_) => Ok(None),
    }
}

/// Does a step's own task.
pub(crate) fn step(
    context: &TaskContext<'_>,
    payload: &StepPayload,
    cache_key: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    match &payload.task {
        Task::Ingest(ingest) => ingest::plan(context, ingest, payload, cache_key),
        Task::Transform(transform) => transform::plan(context, transform, payload, cache_key),
        Task::Expect(expect) => expect::plan(context, expect, cache_key),
        Task::Split(split) => split::split(context, split),
        Task::Train(train) => train::plan(context, train, cache_key),
        Task::Tune(tune) => tune::plan(context, tune, cache_key),
        Task::Validate(validate) => validate::validate(context, validate, payload),
        Task::Register(register) => register::register(context, register),
        Task::Score(score) => score::plan(context, score, payload, cache_key),
        Task::Python(python) => {
            let message = format!("the Python task `{}` came to a worker that runs no Python", python.task);
            let hint = "start a Python worker for the step's pool: `gristmill-worker MODULE --pools POOL`";
            Err(Failure::new(ErrorCode::BadPipeline, message).with_hint(hint))
        }
        Task::Noop(noop) => noop::plan(context, noop, cache_key),
    }
}

/// Does one child's work.
pub(crate) fn child(context: &TaskContext<'_>, child: &Child, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    match child {
        Child::Ingest(read) => ingest::read(context, read, item),
        Child::Transform(query) => transform::run(context, query, item),
        Child::Expect(check) => expect::check(context, check, item),
        Child::Train(part) => train::run(context, part, item),
        Child::Tune(trial) => tune::run(context, trial, item),
        Child::Score(groups) => score::run(context, groups, item),
        Child::Noop(wait) => noop::wait(context, wait),
    }
}

/// Joins what children have made.
pub(crate) fn join(
    context: &TaskContext<'_>,
    join: &JoinWhat,
    children: &gristmill_protocol::message::InputValue,
) -> Result<TaskEnd, Failure> {
    match join {
        JoinWhat::Ingest(gather) => ingest::gather(context, gather, children),
        JoinWhat::Transform(gather) => transform::gather(context, gather, children),
        JoinWhat::Expect(conclude) => expect::conclude(context, conclude, children),
        JoinWhat::Train(gather) => train::gather(context, gather, children),
        JoinWhat::Tune(winner) => tune::train_winner(context, winner),
        JoinWhat::Score(write) => score::gather(context, write, children),
        JoinWhat::Noop => Ok(TaskEnd::Made(Output::Nothing)),
    }
}

/// The end of a task that was told to stop, if it was.
pub(crate) fn if_stopped(context: &TaskContext<'_>) -> Option<TaskEnd> {
    context.control.is_stopped().then_some(TaskEnd::Stopped)
}

pub(crate) fn internal(text: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::Internal, text)
}
