//! What the scheduler is given: steps with dependencies and opaque payloads, nothing about learning.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::limits;
use crate::pipeline::steps::When;

/// A checked pipeline in the scheduler's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's share of a pool beside other runs of the same priority.
    pub weight: u16,
    /// The named limits that steps refer to by position.
    pub limits: Vec<NamedLimit>,
    /// The steps; each one's `needs` point to others by position.
    pub steps: Vec<PlanStep>,
}

/// At most `max` tasks that name the limit run at a time, over all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLimit {
    pub name: String,
    pub max: u32,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    pub name: String,
    /// What kind of work it is, for people.
    pub kind: String,
    /// What the worker is to do; the scheduler never looks inside.
    pub payload: ByteBuf,
    /// The steps before it.
    pub needs: Vec<PlanNeed>,
    pub when: When,
    /// Tries after a failure that may pass.
    pub retries: u16,
    /// Milliseconds that one attempt may take from its claim.
    pub timeout_ms: Option<u64>,
    pub pool: String,
    pub priority: i8,
    /// Positions in [`Plan::limits`].
    pub limits: Vec<u16>,
}

/// A step that comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNeed {
    /// Position in [`Plan::steps`].
    pub step: u16,
    /// Whether its output is passed on, or only its end awaited.
    pub output: bool,
}

/// A plan that no pipeline file could have given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("a plan has between 1 and {max} steps, not {found}", max = limits::STEPS_MAX)]
    Steps { found: usize },
    #[error("step `{step}` needs step number {need}, which isn't there")]
    NoSuchNeed { step: String, need: u16 },
    #[error("step `{step}` names limit number {limit}, which isn't there")]
    NoSuchLimit { step: String, limit: u16 },
    #[error("step `{0}` waits for itself")]
    Cycle(String),
    #[error("a plan's limit and weight are at least 1; `{0}` isn't")]
    Zero(String),
}

impl Plan {
    /// Checks what the scheduler relies on. Messages come from anywhere; files were checked before.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.steps.is_empty() || self.steps.len() > limits::STEPS_MAX {
            return Err(PlanError::Steps { found: self.steps.len() });
        }
        if self.weight == 0 {
            return Err(PlanError::Zero("weight".to_owned()));
        }
        if let Some(limit) = self.limits.iter().find(|limit| limit.max == 0) {
            return Err(PlanError::Zero(limit.name.clone()));
        }
        for step in &self.steps {
            if let Some(need) = step.needs.iter().find(|need| usize::from(need.step) >= self.steps.len()) {
                return Err(PlanError::NoSuchNeed { step: step.name.clone(), need: need.step });
            }
            if let Some(limit) = step.limits.iter().find(|limit| usize::from(**limit) >= self.limits.len()) {
                return Err(PlanError::NoSuchLimit { step: step.name.clone(), limit: *limit });
            }
        }
        self.check_cycles()
    }

    /// Takes away steps whose needs are all gone until none is left; what can't be taken waits for itself.
    fn check_cycles(&self) -> Result<(), PlanError> {
        let mut missing: Vec<usize> = self.steps.iter().map(|step| step.needs.len()).collect();
        let mut free: Vec<usize> = (0..self.steps.len()).filter(|&at| missing[at] == 0).collect();
        let mut taken = 0;
        while let Some(at) = free.pop() {
            taken += 1;
            for (other, step) in self.steps.iter().enumerate() {
                let edges = step.needs.iter().filter(|need| usize::from(need.step) == at).count();
                if edges > 0 {
                    missing[other] -= edges;
                    if missing[other] == 0 {
                        free.push(other);
                    }
                }
            }
        }
        match missing.iter().position(|&count| count > 0) {
            Some(at) if taken < self.steps.len() => Err(PlanError::Cycle(self.steps[at].name.clone())),
            _ => Ok(()),
        }
    }
}
