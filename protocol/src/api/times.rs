//! Schedules and triggers as they stand. What people set is [`Schedule`](crate::schedule::Schedule) and
//! [`Trigger`](crate::trigger::Trigger).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schedule::{CatchUp, Overlap, TickRecord};
use crate::submission::SubmissionMessage;
use crate::trigger::{FiringRecord, On};

/// A schedule, and what became of its last ticks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleInfo {
    pub namespace: String,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub submit: SubmissionMessage,
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    pub paused: bool,
    /// Who set it.
    pub by: String,
    pub updated_ms: u64,
    /// The next five ticks, whether or not it is paused.
    pub next_ms: Vec<u64>,
    /// The last of the recent ones.
    pub last: Option<TickRecord>,
    /// Oldest first.
    pub recent: Vec<TickRecord>,
}

/// A trigger, and what became of its last firings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerInfo {
    pub namespace: String,
    pub name: String,
    pub on: On,
    pub submit: SubmissionMessage,
    pub paused: bool,
    /// Who set it.
    pub by: String,
    pub updated_ms: u64,
    /// The last of the recent ones.
    pub last: Option<FiringRecord>,
    /// Oldest first.
    pub recent: Vec<FiringRecord>,
}
