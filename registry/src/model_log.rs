//! A model's log, folded into what it says now.

use std::collections::BTreeMap;

use gristmill_protocol::Timestamp;
use serde::Serialize;

use crate::fact::{AliasMove, ModelFact, NewVersion};

/// A registered model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelView {
    pub name: String,
    /// Versions by number, from 1.
    pub versions: Vec<VersionView>,
    /// Where each alias points.
    pub aliases: BTreeMap<String, u64>,
    /// Every move of every alias, oldest first.
    pub moves: Vec<AliasMove>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionView {
    pub version: u64,
    pub at: Timestamp,
    pub by: String,
    #[serde(flatten)]
    pub new: NewVersion,
}

impl ModelView {
    pub(crate) fn new(name: &str) -> ModelView {
        ModelView { name: name.to_owned(), ..ModelView::default() }
    }

    /// Takes the next fact of the log.
    pub(crate) fn apply(&mut self, fact: ModelFact) {
        match fact {
            ModelFact::VersionCreated { at, by, version, new } => {
                self.versions.push(VersionView { version, at, by, new });
            }
            ModelFact::AliasMoved(moved) => {
                self.aliases.insert(moved.alias.clone(), moved.to);
                self.moves.push(moved);
            }
        }
    }

    /// The version with this number.
    pub fn version(&self, version: u64) -> Option<&VersionView> {
        self.versions.iter().find(|known| known.version == version)
    }

    /// The version that an alias points to.
    pub fn aliased(&self, alias: &str) -> Option<&VersionView> {
        self.version(*self.aliases.get(alias)?)
    }

    /// The aliases of a version.
    pub fn aliases_of(&self, version: u64) -> Vec<&str> {
        self.aliases.iter().filter(|(_, to)| **to == version).map(|(alias, _)| alias.as_str()).collect()
    }

    /// The version to which a rollback of an alias goes: the one that it left last and that isn't where it is.
    pub fn before(&self, alias: &str) -> Option<u64> {
        let now = *self.aliases.get(alias)?;
        // A rollback undoes moves one after the other: what was rolled back isn't gone back to.
        let mut stack: Vec<u64> = Vec::new();
        for moved in self.moves.iter().filter(|moved| moved.alias == alias) {
            match stack.iter().rposition(|version| *version == moved.to) {
                Some(at) => stack.truncate(at + 1),
                None => stack.push(moved.to),
            }
        }
        stack.iter().rev().copied().find(|version| *version != now)
    }
}
