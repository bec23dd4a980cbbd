//! All experiments, in one log: their names are unique and their numbers have no gaps.

use std::collections::BTreeMap;

use gristmill_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::logs::View;

/// What happened to an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExperimentFact {
    Created { number: u64, name: String, location: String, tags: Vec<(String, String)> },
    Renamed { number: u64, name: String },
    Deleted { number: u64 },
    Restored { number: u64 },
    Tagged { number: u64, key: String, value: Option<String> },
}

/// An experiment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Experiment {
    pub id: String,
    pub name: String,
    /// Where its artifacts begin.
    pub location: String,
    pub created: Timestamp,
    pub changed: Timestamp,
    pub deleted: bool,
    pub tags: BTreeMap<String, String>,
}

/// All experiments by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Experiments(pub BTreeMap<u64, Experiment>);

impl Experiments {
    /// The experiment of an id.
    pub fn get(&self, id: &str) -> Option<&Experiment> {
        self.0.get(&id.parse().ok()?)
    }

    /// The experiment of a name, deleted or not.
    pub fn named(&self, name: &str) -> Option<&Experiment> {
        self.0.values().find(|experiment| experiment.name == name)
    }
}

impl View for Experiments {
    type Fact = ExperimentFact;
    const KIND: &'static str = "mlflow-experiments/";

    fn apply(&mut self, at: Timestamp, fact: ExperimentFact) {
        let (ExperimentFact::Created { number, .. }
        | ExperimentFact::Renamed { number, .. }
        | ExperimentFact::Deleted { number }
        | ExperimentFact::Restored { number }
        | ExperimentFact::Tagged { number, .. }) = &fact;
        let number = *number;
        if let ExperimentFact::Created { number, name, location, tags } = fact {
            let (id, tags) = (number.to_string(), tags.into_iter().collect());
            let experiment = Experiment { id, name, location, created: at, changed: at, deleted: false, tags };
            self.0.insert(number, experiment);
            return;
        }
        let Some(experiment) = self.0.get_mut(&number) else { return };
        match fact {
            ExperimentFact::Created { .. } => {}
            ExperimentFact::Renamed { name, .. } => experiment.name = name,
            ExperimentFact::Deleted { .. } => experiment.deleted = true,
            ExperimentFact::Restored { .. } => experiment.deleted = false,
            ExperimentFact::Tagged { key, value, .. } => {
                match value {
                    Some(value) => drop(experiment.tags.insert(key, value)),
                    None => drop(experiment.tags.remove(&key)),
                }
                return;
            }
        }
        experiment.changed = at;
    }

    fn weight(&self) -> usize {
        let pair = |(key, value): (&String, &String)| key.len() + value.len() + 64;
        let one =
            |one: &Experiment| one.name.len() + one.location.len() + 200 + one.tags.iter().map(pair).sum::<usize>();
        self.0.values().map(one).sum()
    }
}
