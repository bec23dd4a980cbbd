//! Does nothing, in as many tasks as asked for.

use std::time::Duration;

use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::Noop;
use gristmill_protocol::{Digest, ErrorCode, Failure};
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd};
use crate::context::TaskContext;
use crate::fanout;

/// Waits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Wait {
    ms: u64,
    fail: Option<ErrorCode>,
}

impl Wait {
    /// Whether there is nothing to wait for.
    pub(crate) fn is_nothing(&self) -> bool {
        self.ms == 0 && self.fail.is_none()
    }
}

/// Waits itself, or grows children that do.
pub(crate) fn plan(context: &TaskContext<'_>, noop: &Noop, cache_key: Option<Digest>) -> Result<TaskEnd, Failure> {
    let wait_ = Wait { ms: noop.ms, fail: noop.fail };
    match noop.tasks {
        None => match wait(context, &wait_)? {
            TaskEnd::Result(_) => Ok(TaskEnd::Made(Output::Nothing)),
            end => Ok(end),
        },
        Some(tasks) => {
            let items = vec![(); tasks as usize];
            let join = Join { what: JoinWhat::Noop, cache_key };
            fanout::expand(context, &items, &Child::Noop(wait_), &join).map(TaskEnd::Expanded)
        }
    }
}

/// Waits, or until told to stop.
pub(crate) fn wait(context: &TaskContext<'_>, wait: &Wait) -> Result<TaskEnd, Failure> {
    if let Some(code) = wait.fail {
        return Err(Failure::new(code, "it was told to fail"));
    }
    if wait.ms == 0 {
        return Ok(TaskEnd::Result(Vec::new()));
    }
    let waited = context.wait(async {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait.ms)) => true,
            () = context.control.stopped() => false,
        }
    });
    Ok(if waited { TaskEnd::Result(Vec::new()) } else { TaskEnd::Stopped })
}
