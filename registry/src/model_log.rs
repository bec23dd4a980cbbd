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

    /// The version to which a rollback of an alias goes: where it was before the last move that stands.
    pub fn before(&self, alias: &str) -> Option<u64> {
        let mut standing: Vec<u64> = Vec::new();
        for moved in self.moves.iter().filter(|moved| moved.alias == alias) {
            if moved.rollback {
                standing.pop();
            } else {
                standing.push(moved.to);
            }
        }
        standing.pop();
        standing.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(to: u64, rollback: bool) -> ModelFact {
        let text = String::new();
        ModelFact::AliasMoved(AliasMove {
            at: Timestamp(1),
            by: text.clone(),
            why: text,
            alias: "champion".to_owned(),
            from: None,
            to,
            rollback,
        })
    }

    fn before(moves: &[(u64, bool)]) -> Option<u64> {
        let mut view = ModelView::new("m");
        moves.iter().for_each(|(to, rollback)| view.apply(moved(*to, *rollback)));
        view.before("champion")
    }

    #[test]
    fn a_rollback_undoes_moves_one_after_the_other() {
        assert_eq!(before(&[]), None);
        assert_eq!(before(&[(1, false)]), None);
        assert_eq!(before(&[(1, false), (2, false), (3, false)]), Some(2));
        assert_eq!(before(&[(1, false), (2, false), (3, false), (2, true)]), Some(1));
        assert_eq!(before(&[(1, false), (2, false), (1, true)]), None);
        assert_eq!(before(&[(1, false), (2, false), (1, false)]), Some(2), "going to an older one is a move as any");
    }
}
