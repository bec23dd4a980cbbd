//! What belongs to an experiment: its runs and its logged models, by id, oldest first.

use gristmill_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::logs::View;

/// Something came to an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberFact {
    Run { id: String },
    LoggedModel { id: String },
}

/// Runs and logged models of an experiment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    pub runs: Vec<String>,
    pub logged_models: Vec<String>,
}

impl View for Members {
    type Fact = MemberFact;
    const KIND: &'static str = "mlflow-members/";

    fn apply(&mut self, _: Timestamp, fact: MemberFact) {
        match fact {
            MemberFact::Run { id } => self.runs.push(id),
            MemberFact::LoggedModel { id } => self.logged_models.push(id),
        }
    }

    fn weight(&self) -> usize {
        (self.runs.len() + self.logged_models.len()) * 64
    }
}
