//! One attempt: decode what is to be done, look into the cache, do it, say how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use gristmill_protocol::limits::OUTPUT_BYTES_MAX;
use gristmill_protocol::message::{InputValue, Outcome};
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::{Payload, StepPayload};
use gristmill_protocol::{ErrorCode, Failure, wire};
use gristmill_worker_runtime::{Execute, TaskControl, Work};
use serde_bytes::ByteBuf;
use tokio::runtime::Handle;
use tracing::warn;

use crate::cache;
use crate::context::{Resources, TaskContext};
use crate::failure::IntoFailure;
use crate::spans;
use crate::tasks::{self, Child, Join, TaskEnd};

/// Does the work of all task kinds.
pub struct Executor {
    resources: Resources,
}

impl Executor {
    /// An executor with these resources.
    pub fn new(resources: Resources) -> Executor {
        Executor { resources }
    }
}

impl Execute for Executor {
    fn execute(&self, work: Work, control: TaskControl) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let payload = match wire::decode::<Payload>("a task", &work.payload) {
            Ok(payload) => payload,
            Err(error) => return Box::pin(std::future::ready(Outcome::Failed(error.into_failure()))),
        };
        if let Payload::Child(child) = &payload
            && is_nothing(child)
        {
            // What does nothing needs no thread: the cost of one would be all that is measured.
            let outcome = Outcome::Succeeded { output: ByteBuf::new(), cached: false };
            return Box::pin(std::future::ready(outcome));
        }
        let resources = self.resources.clone();
        let handle = Handle::current();
        let task = move || {
            let _attempt = spans::attempt(&work).entered();
            catch_unwind(AssertUnwindSafe(|| run(&resources, handle, &work, &control, payload)))
                .unwrap_or_else(|panic| Outcome::Failed(panicked(&*panic)))
        };
        Box::pin(async move {
            match tokio::task::spawn_blocking(task).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Failed(Failure::new(ErrorCode::Internal, error.to_string())),
            }
        })
    }
}

/// Whether a child is one that does nothing and doesn't wait.
fn is_nothing(child: &[u8]) -> bool {
    matches!(wire::decode("a parallel task", child), Ok(Child::Noop(wait)) if wait.is_nothing())
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    Failure::new(ErrorCode::Internal, format!("the task panicked: {text}")).with_hint("this is a fault of gristmill")
}

fn run(resources: &Resources, handle: Handle, work: &Work, control: &TaskControl, payload: Payload) -> Outcome {
    let end = decode_inputs(work).and_then(|inputs| {
        let context = TaskContext { resources, handle, control, run: work.attempt.run, step: &work.step, inputs };
        perform(&context, work, payload)
    });
    match end {
        Ok(TaskEnd::Made(output)) => succeeded(wire::encode(&output), false),
        Ok(TaskEnd::Found(output)) => succeeded(wire::encode(&output), true),
        Ok(TaskEnd::Result(result)) => succeeded(result, false),
        Ok(TaskEnd::Expanded(expansion)) => Outcome::Expanded(expansion),
        Ok(TaskEnd::Rejected(reason)) => {
            Outcome::Rejected { reason: Failure::new(ErrorCode::BadInput, reason).message }
        }
        Ok(TaskEnd::Returned(cause)) => Outcome::Returned(cause),
        Ok(TaskEnd::Stopped) => Outcome::Stopped,
        Err(failure) => {
            warn!(task = work.name, code = %failure.code, message = failure.message, "a task failed");
            Outcome::Failed(failure)
        }
    }
}

fn succeeded(output: Vec<u8>, cached: bool) -> Outcome {
    if output.len() > OUTPUT_BYTES_MAX {
        let text = format!("its output has {} bytes; the limit is {OUTPUT_BYTES_MAX}", output.len());
        return Outcome::Failed(Failure::new(ErrorCode::TooLarge, text));
    }
    Outcome::Succeeded { output: ByteBuf::from(output), cached }
}

/// What the steps before have made; a join's children are decoded by the join.
fn decode_inputs(work: &Work) -> Result<Vec<(String, Output)>, Failure> {
    let outputs = work.inputs.iter().filter_map(|input| match &input.value {
        InputValue::Output(output) => Some((input.step.clone(), output)),
        InputValue::Children(_) | InputValue::ChildrenArtifact(_) => None,
    });
    outputs
        .map(|(step, output)| {
            let output = wire::decode("an output", output).map_err(IntoFailure::into_failure)?;
            Ok((step, output))
        })
        .collect()
}

/// Does the task.
fn perform(context: &TaskContext<'_>, work: &Work, payload: Payload) -> Result<TaskEnd, Failure> {
    match payload {
        Payload::Step(step) => perform_step(context, &step),
        Payload::Child(child) => {
            let child: Child = wire::decode("a parallel task", &child).map_err(IntoFailure::into_failure)?;
            tasks::child(context, &child, work.item.as_ref())
        }
        Payload::Join(join) => {
            let join: Join = wire::decode("a join", &join).map_err(IntoFailure::into_failure)?;
            let children = work.inputs.first().map(|input| &input.value);
            let children = children.ok_or_else(|| tasks::internal("a join came without its children"))?;
            let end = tasks::join(context, &join.what, children)?;
            if let (TaskEnd::Made(output), Some(key)) = (&end, join.cache_key) {
                cache::keep(context, key, output);
            }
            Ok(end)
        }
    }
}

fn perform_step(context: &TaskContext<'_>, step: &StepPayload) -> Result<TaskEnd, Failure> {
    let world = tasks::world(context, step)?;
    let key = world.map(|world| cache::key(step, &context.inputs, &world));
    if let Some(output) = key.and_then(|key| spans::look_into_cache().in_scope(|| cache::look_up(context, key))) {
        return Ok(TaskEnd::Found(output));
    }
    let end = tasks::step(context, step, key)?;
    if let (TaskEnd::Made(output), Some(key)) = (&end, key) {
        cache::keep(context, key, output);
    }
    Ok(end)
}
