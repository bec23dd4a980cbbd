//! What goes for good: artifacts of deleted versions whose time is over, and what a person asked to be forgotten.
//!
//! The fact is written first and the bytes go then, so a chain never lacks the reason for a hole. Facts are never
//! changed: an erasure names the artifacts that are gone and the request, and nothing about the person.

use std::collections::BTreeSet;

use gristmill_protocol::{Digest, Timestamp};

use crate::acting::Acting;
use crate::error::RegistryError;
use crate::fact::{Change, VersionRef};
use crate::lineage::{predictions_in, scores_of};
use crate::model_log::{ModelView, VersionView};
use crate::names;
use crate::registry::Registry;

/// Facts of a log of predictions that are read at a time.
const READ_MAX: usize = 1_000;

/// What an erasure came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The models whose logs say so.
    pub models: Vec<String>,
    /// Versions that can't be loaded any more, since their own bytes were among what was erased.
    pub unusable: Vec<VersionRef>,
    /// Of those, the ones to which aliases point.
    pub aliased: Vec<(VersionRef, String)>,
}

impl Acting<'_> {
    /// Removes the artifacts of deleted versions whose time is over by the act's time, where no other version needs
    /// them. Returns the versions. A version that is registered with the same bytes at the same moment may lose them,
    /// so this belongs where nothing registers what was just deleted.
    pub async fn purge(&self) -> Result<Vec<VersionRef>, RegistryError> {
        let names = self.registry.log_names().await?;
        let mut purged = Vec::new();
        for name in &names {
            let view = self.registry.fold(name).await?.view;
            for version in view.deleted.iter().filter(|version| is_due(version, self.act.at)) {
                let of = VersionRef { name: name.clone(), version: version.version };
                let mut unneeded: BTreeSet<Digest> = version.needs().collect();
                for other in &names {
                    let other = self.registry.fold(other).await?.view;
                    for needed in needed_without(&other, &of) {
                        unneeded.remove(&needed);
                    }
                }
                let artifacts: Vec<Digest> = unneeded.into_iter().collect();
                let change = Change::VersionPurged { version: of.version, artifacts: artifacts.clone() };
                self.note(name, &("purge", of.version), change, |view| {
                    let still = |known: &&VersionView| known.version == of.version && is_due(known, self.act.at);
                    view.deleted.iter().any(|known| still(&known))
                })
                .await?;
                for artifact in artifacts {
                    self.registry.logs.artifacts.delete(artifact).await?;
                }
                purged.push(of);
            }
        }
        Ok(purged)
    }

    /// Erases artifacts for a subject: every model whose versions, lineage or predictions mention one notes which are
    /// gone, then the bytes go. `subject` says which request it is (a case number), never who asked. Saying it again
    /// ends what was broken off.
    pub async fn erase(&self, subject: &str, artifacts: &[Digest]) -> Result<Erasure, RegistryError> {
        names::check_label("subject", subject)?;
        names::check_count("the list of artifacts", artifacts.len())?;
        let mut erasure = Erasure { models: Vec::new(), unusable: Vec::new(), aliased: Vec::new() };
        let mut unmentioned: BTreeSet<Digest> = artifacts.iter().copied().collect();
        let mut notes: Vec<(String, Vec<Digest>)> = Vec::new();
        for name in self.registry.log_names().await? {
            let view = self.registry.fold(&name).await?.view;
            let mentioned = self.registry.mentions(&view).await?;
            let here: Vec<Digest> = artifacts.iter().copied().filter(|artifact| mentioned.contains(artifact)).collect();
            for artifact in &here {
                unmentioned.remove(artifact);
            }
            for version in view.versions.iter().filter(|version| here.contains(&version.new.model)) {
                let of = VersionRef { name: name.clone(), version: version.version };
                let aliases = view.aliases_of(version.version).into_iter();
                erasure.aliased.extend(aliases.map(|alias| (of.clone(), alias.to_owned())));
                erasure.unusable.push(of);
            }
            if !here.is_empty() {
                erasure.models.push(name.clone());
                notes.push((name, here));
            }
        }
        if let Some(digest) = unmentioned.pop_first() {
            return Err(RegistryError::NotMentioned { digest });
        }
        for (name, here) in notes {
            let change = Change::Erased { subject: subject.to_owned(), artifacts: here.clone() };
            self.note(&name, &("erase", subject, &here), change, |view| {
                here.iter().any(|artifact| !view.erased.contains(artifact))
            })
            .await?;
        }
        for artifact in artifacts {
            self.registry.logs.artifacts.delete(*artifact).await?;
        }
        Ok(erasure)
    }

    /// Appends a change to a model's log, whether or not the model is there any more, where it is still needed.
    async fn note<A: serde::Serialize + Sync>(
        &self,
        name: &str,
        asked: &A,
        change: Change,
        is_needed: impl Fn(&ModelView) -> bool,
    ) -> Result<(), RegistryError> {
        let mut races = crate::registry::Races::new(name)?;
        let _turn = self.registry.turn(name).await;
        loop {
            let folded = self.registry.fold(name).await?;
            if !is_needed(&folded.view) {
                if self.registry.acknowledge(&folded).await? {
                    return Ok(());
                }
            } else if self.registry.append(&folded, &self.act, asked, vec![change.clone()]).await?.is_some() {
                return Ok(());
            }
            races.lost(folded.head).await?;
        }
    }
}

impl Registry {
    /// All artifacts that a model's log speaks of.
    async fn mentions(&self, view: &ModelView) -> Result<BTreeSet<Digest>, RegistryError> {
        let mut mentioned = BTreeSet::new();
        let mut models = BTreeSet::new();
        for version in view.versions.iter().chain(&view.deleted) {
            mentioned.extend(version.needs());
            mentioned.extend(version.lineage.datasets.iter().chain(&version.lineage.study));
            models.insert(version.new.model);
        }
        for model in models {
            let log = scores_of(model);
            let mut after = 0;
            loop {
                let entries = self.logs.state.log_read(&log, after, READ_MAX).await?;
                for entry in &entries {
                    let damaged = |source| RegistryError::Damaged { name: view.name.clone(), source };
                    let decoded = crate::chain::decode(&entry.body).map_err(damaged)?;
                    for prediction in predictions_in(entry.position, &decoded) {
                        mentioned.insert(prediction.output);
                        mentioned.extend(prediction.input);
                    }
                    after = entry.position;
                }
                if entries.len() < READ_MAX {
                    break;
                }
            }
        }
        Ok(mentioned)
    }
}

fn is_due(version: &VersionView, now: Timestamp) -> bool {
    version.deletion.as_ref().is_some_and(|deletion| !deletion.purged && deletion.retained_until <= now)
}

/// What the versions of a model need, those whose artifacts are still kept included, but for one version.
fn needed_without(view: &ModelView, but: &VersionRef) -> Vec<Digest> {
    let is_kept = |version: &VersionView| version.deletion.as_ref().is_none_or(|deletion| !deletion.purged);
    let is_other = |version: &VersionView| view.name != but.name || version.version != but.version;
    let versions = view.versions.iter().chain(&view.deleted);
    versions.filter(|version| is_kept(version) && is_other(version)).flat_map(VersionView::needs).collect()
}
