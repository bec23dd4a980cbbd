//! Renewing leases. Training must not starve it, so real workers run it on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::state::{Renewal, State, WorkerAbout};
use gristmill_protocol::WorkerId;
use gristmill_protocol::limits::{HEARTBEAT_MS, STORE_CALL_MS};
use gristmill_protocol::twins::{Twin, left_out};
use tokio::sync::Notify;
use tracing::warn;

use crate::held::Held;

/// The heartbeat of one worker.
pub struct Heartbeat {
    pub(crate) state: Arc<dyn State>,
    pub(crate) worker: WorkerId,
    pub(crate) pools: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) about: WorkerAbout,
    pub(crate) held: Held,
    /// Woken to beat at once.
    pub(crate) now: Arc<Notify>,
    pub(crate) answered: Option<Answered>,
}

/// Is told of each answer, and must return at once.
pub type Answered = Arc<dyn Fn() + Send + Sync>;

impl Heartbeat {
    /// The same heartbeat over a connection of its own, which other calls can't hold up.
    #[must_use]
    pub fn with_state(self, state: Arc<dyn State>) -> Heartbeat {
        Heartbeat { state, ..self }
    }

    /// The same heartbeat, which tells of each answer of the store.
    #[must_use]
    pub fn telling(self, answered: Answered) -> Heartbeat {
        Heartbeat { answered: Some(answered), ..self }
    }

    /// The state that it beats to.
    pub fn state(&self) -> Arc<dyn State> {
        self.state.clone()
    }

    /// Beats once; true when the store answered.
    pub async fn beat(&self) -> bool {
        let renewal = Renewal {
            worker: self.worker,
            pools: self.pools.clone(),
            slots: self.slots,
            about: self.about.clone(),
            draining: self.held.is_draining(),
            held: self.held.leases(),
        };
        let timeout = Duration::from_millis(STORE_CALL_MS);
        match tokio::time::timeout(timeout, self.state.renew(renewal)).await {
            Ok(Ok(renewed)) => {
                if let Some(answered) = &self.answered {
                    answered();
                }
                self.held.stop(&renewed.stop);
                self.held.saw_store(renewed.clock.store);
                true
            }
            Ok(Err(error)) => {
                warn!(worker = %self.worker, error = &error as &dyn std::error::Error, "a heartbeat failed");
                false
            }
            Err(_) => {
                warn!(worker = %self.worker, "a heartbeat had no answer");
                false
            }
        }
    }

    /// Beats until dropped.
    pub async fn run(self) {
        loop {
            self.beat().await;
            if left_out(Twin::Heartbeat) {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)) => {}
                () = self.now.notified() => {}
            }
        }
    }
}
