//! The models that a run has made.

use std::collections::BTreeMap;

use gristmill_protocol::Digest;
use gristmill_protocol::output::Output;

use super::History;

/// A model that a run has made or registered.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeModel {
    /// The registered name; the step's while it isn't registered.
    pub name: String,
    pub version: Option<u64>,
    pub alias: Option<String>,
    pub digest: Digest,
    /// What validate steps of this run measured of it.
    pub metrics: BTreeMap<String, f64>,
}

/// The models that a run has registered, then those that it trained and didn't register.
pub(super) fn models(history: &History) -> Vec<MadeModel> {
    let outputs = || history.steps.iter().filter_map(|step| Some((step, step.output.as_ref()?)));
    let mut metrics: BTreeMap<Digest, BTreeMap<String, f64>> = BTreeMap::new();
    for (_, output) in outputs() {
        if let Output::Evaluation { model, metrics: measured, .. } = output {
            metrics.entry(*model).or_default().extend(measured.clone());
        }
    }
    let made = |name: &str, version, alias, digest| MadeModel {
        name: name.to_owned(),
        version,
        alias,
        digest,
        metrics: metrics.get(&digest).cloned().unwrap_or_default(),
    };
    let registered = outputs().filter_map(|(_, output)| match output {
        Output::Version { name, version, model, alias } => Some(made(name, Some(*version), alias.clone(), *model)),
        _ => None,
    });
    let mut models: Vec<MadeModel> = registered.collect();
    for (step, output) in outputs() {
        if let Output::Model { model, .. } = output
            && !models.iter().any(|known| known.digest == *model)
        {
            models.push(made(&step.name, None, None, *model));
        }
    }
    models
}
