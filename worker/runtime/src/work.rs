//! One attempt at hand, and how it is told to stop.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gristmill_backends::broker::Message;
use gristmill_backends::state::Progress;
use gristmill_protocol::AttemptRef;
use gristmill_protocol::message::{Input, Items, Outcome};
use serde_bytes::ByteBuf;
use tokio::sync::Notify;

/// One attempt to work on.
#[derive(Clone, Debug)]
pub struct Work {
    pub attempt: AttemptRef,
    /// The task's name, for people.
    pub name: String,
    pub step: String,
    /// What is to be done.
    pub payload: Arc<[u8]>,
    /// Outputs of the steps before, or of a join's children.
    pub inputs: Arc<[Input]>,
    /// What tells this child from its siblings; nothing when the task is no child.
    pub item: Option<Item>,
    /// Milliseconds that the attempt may take.
    pub timeout_ms: Option<u64>,
}

/// A child's item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Inline(ByteBuf),
    /// The item at this place of the list in the artifact.
    Listed {
        list: gristmill_protocol::Digest,
        index: u32,
    },
}

impl Item {
    /// The item of the task at `place` among the tasks of its message and with `index` among all children.
    pub(crate) fn of(items: &Items, place: usize, index: u32) -> Option<Item> {
        match items {
            Items::None => None,
            Items::Inline(items) => items.get(place).cloned().map(Item::Inline),
            Items::Artifact { digest, .. } => Some(Item::Listed { list: *digest, index }),
        }
    }
}

/// How a running task is told to stop, and tells how far it is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TaskControl {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    stopped: Notify,
    progress: Mutex<Option<Progress>>,
}

impl TaskControl {
    /// Whether the task is to stop. Loops look at least every 100 ms.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// The flag itself, for code that takes one.
    pub fn flag(&self) -> &AtomicBool {
        &self.shared.stop
    }

    /// Waits until the task is to stop.
    pub async fn stopped(&self) {
        let notified = self.shared.stopped.notified();
        if !self.is_stopped() {
            notified.await;
        }
    }

    /// Says how far the task is.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        let mut progress = self.shared.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *progress = Some(Progress { done, total, unit: unit.to_owned() });
    }

    pub(crate) fn last_progress(&self) -> Option<Progress> {
        self.shared.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.stopped.notify_waiters();
    }
}

/// Does the work. One call an attempt; what takes long runs elsewhere than in the returned future.
pub trait Execute: Send + Sync {
    /// Works on an attempt and says how it ended. A task that was told to stop ends with [`Outcome::Stopped`],
    /// or with its result when it was done anyway.
    fn execute(&self, work: Work, control: TaskControl) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

    /// A message came of which these attempts are this worker's to do now: for traces. Returns at once.
    fn received(&self, _message: &Message, _attempts: &[AttemptRef]) {}
}
