//! A model's log, folded into what it says now.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::{Digest, Timestamp};
use serde::Serialize;

use crate::fact::{AliasMove, Change, External, Key, Lineage, LogEntry, NewVersion, Record, Stage};
use crate::signature::Signature;

/// A registered model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelView {
    pub name: String,
    /// The names that it had before, oldest first.
    pub formerly: Vec<String>,
    /// When it was registered first, and when anything about it changed last.
    pub created: Timestamp,
    pub changed: Timestamp,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// Versions by number, from 1; without those that were deleted.
    pub versions: Vec<VersionView>,
    /// Versions that were deleted, by number.
    pub deleted: Vec<VersionView>,
    /// Where each alias points.
    pub aliases: BTreeMap<String, u64>,
    /// Every move of every alias to a version, oldest first.
    pub moves: Vec<AliasMove>,
    /// By alias, where it pointed from when on, oldest first.
    pub history: BTreeMap<String, Vec<AliasPoint>>,
    /// Artifacts that were erased.
    pub erased: BTreeSet<Digest>,
    /// Facts of its log.
    pub facts: u64,
    #[serde(skip)]
    pub(crate) life: Life,
    #[serde(skip)]
    pub(crate) keys: BTreeMap<String, Done>,
}

/// Whether there is a model of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    #[default]
    Absent,
    Live,
    Deleted,
    /// It goes on under another name.
    Renamed,
    /// The name is claimed for a model whose renaming hasn't ended.
    Claimed {
        by: String,
        claim: u64,
    },
}

/// What was done under a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Done {
    pub asked: Digest,
    /// The version that was made.
    pub version: Option<u64>,
    /// The last alias move.
    pub moved: Option<AliasMove>,
}

/// Where an alias points from some time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AliasPoint {
    pub at: Timestamp,
    /// Nothing when it was removed.
    pub to: Option<u64>,
    pub by: String,
    pub why: Option<String>,
    /// The number of the fact.
    pub fact: u64,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionView {
    pub version: u64,
    pub at: Timestamp,
    pub by: String,
    #[serde(flatten)]
    pub new: NewVersion,
    pub lineage: Lineage,
    /// What belongs to it beside the model's bytes.
    pub artifacts: Vec<Digest>,
    /// Where it comes from, when no pipeline made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    #[serde(skip_serializing_if = "Stage::is_none")]
    pub stage: Stage,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    pub signatures: Vec<Signature>,
    /// When anything about it changed last.
    pub changed: Timestamp,
    pub deletion: Option<Deletion>,
}

/// The end of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deletion {
    pub at: Timestamp,
    pub by: String,
    /// Until when its artifacts stay.
    pub retained_until: Timestamp,
    /// Whether what it alone needed was removed.
    pub purged: bool,
}

impl VersionView {
    /// A version with nothing known but what made it.
    pub fn new(version: u64, at: Timestamp, by: &str, new: NewVersion) -> VersionView {
        VersionView {
            version,
            at,
            by: by.to_owned(),
            new,
            lineage: Lineage::default(),
            artifacts: Vec::new(),
            external: None,
            stage: Stage::None,
            description: String::new(),
            tags: BTreeMap::new(),
            signatures: Vec::new(),
            changed: at,
            deletion: None,
        }
    }

    /// All artifacts without which it isn't whole.
    pub fn needs(&self) -> impl Iterator<Item = Digest> {
        [self.new.model].into_iter().chain(self.new.evidence).chain(self.artifacts.iter().copied())
    }
}

impl ModelView {
    pub(crate) fn new(name: &str) -> ModelView {
        ModelView { name: name.to_owned(), ..ModelView::default() }
    }

    /// Takes the next entry of the log, which is its `number`th. Returns what is wrong with it as the next one: no
    /// writer of ours would have made it.
    pub(crate) fn apply(&mut self, number: u64, entry: LogEntry) -> Vec<String> {
        self.facts += 1;
        let (record, changes) = match entry {
            LogEntry::VersionCreated { at, by, version, new } => {
                let (lineage, artifacts) = (Lineage::default(), Vec::new());
                let change = Change::VersionRegistered { version, new, lineage, artifacts, external: None };
                (bare(number, at, by, None), vec![change])
            }
            LogEntry::AliasMoved(moved) => {
                let AliasMove { at, by, why, alias, from, to, rollback } = moved;
                let change = match (from, rollback) {
                    (Some(before), true) => Change::RolledBack { alias, before, after: to },
                    (before, _) => Change::AliasSet { alias, before, after: to },
                };
                (bare(number, at, by, Some(why)), vec![change])
            }
            LogEntry::Recorded(mut record) => {
                let changes = std::mem::take(&mut record.changes);
                (record, changes)
            }
        };
        let mut done = record.key.clone().map(|Key { text, asked }| (text, Done { asked, version: None, moved: None }));
        let mut complaints = Vec::new();
        for change in changes {
            complaints.extend(self.complaint(&change));
            if let (Some((_, done)), Change::VersionRegistered { version, .. }) = (&mut done, &change) {
                done.version = Some(*version);
            }
            let moves = self.moves.len();
            self.change(&record, change);
            if let (Some((_, done)), Some(moved)) = (&mut done, self.moves.get(moves)) {
                done.moved = Some(moved.clone());
            }
        }
        self.changed = record.at;
        self.keys.extend(done);
        complaints
    }

    fn change(&mut self, record: &Record, change: Change) {
        match change {
            Change::ModelCreated => self.live(record),
            Change::VersionRegistered { version, new, lineage, artifacts, external } => {
                self.live(record);
                let view = VersionView::new(version, record.at, &record.by, new);
                let external = external.map(|external| *external);
                self.versions.push(VersionView { lineage, artifacts, external, ..view });
            }
            Change::Staged { version, after, .. } => {
                if let Some(view) = self.touch(version, record) {
                    view.stage = after;
                }
            }
            Change::VersionSigned { version, signature } => {
                if let Some(view) = self.touch(version, record) {
                    view.signatures.push(signature);
                }
            }
            Change::AliasSet { alias, before, after } | Change::Promoted { alias, before, after, .. } => {
                self.point(record, alias, before, after, false);
            }
            Change::RolledBack { alias, before, after } => self.point(record, alias, Some(before), after, true),
            Change::AliasRemoved { alias, .. } => self.unpoint(record, &alias),
            Change::Tagged { version, tag, after, .. } => {
                let tags = match version {
                    Some(version) => self.touch(version, record).map(|view| &mut view.tags),
                    None => Some(&mut self.tags),
                };
                match (tags, after) {
                    (Some(tags), Some(value)) => drop(tags.insert(tag, value)),
                    (Some(tags), None) => drop(tags.remove(&tag)),
                    (None, _) => {}
                }
            }
            Change::Described { version: None, after, .. } => self.description = after,
            Change::Described { version: Some(version), after, .. } => {
                if let Some(view) = self.touch(version, record) {
                    view.description = after;
                }
            }
            Change::VersionDeleted { version, retained_until } => {
                if let Some(place) = self.versions.iter().position(|view| view.version == version) {
                    let view = self.versions.remove(place);
                    self.bury(record, view, retained_until);
                }
            }
            Change::VersionPurged { version, .. } => {
                let view = self.deleted.iter_mut().find(|view| view.version == version);
                if let Some(deletion) = view.and_then(|view| view.deletion.as_mut()) {
                    deletion.purged = true;
                }
            }
            Change::ModelDeleted { retained_until } => {
                for alias in self.aliases.keys().cloned().collect::<Vec<_>>() {
                    self.unpoint(record, &alias);
                }
                for view in std::mem::take(&mut self.versions) {
                    self.bury(record, view, retained_until);
                }
                self.tags.clear();
                self.description.clear();
                self.life = Life::Deleted;
            }
            Change::RenamedTo { .. } => {
                let facts = self.facts;
                *self = ModelView { life: Life::Renamed, facts, ..ModelView::new(&self.name) };
            }
            Change::ClaimedFor { name } => self.life = Life::Claimed { by: name, claim: record.number },
            Change::Erased { artifacts, .. } => self.erased.extend(artifacts),
            // Those stand in logs of their own.
            Change::Scored { .. } => {}
        }
    }

    fn live(&mut self, record: &Record) {
        if self.life != Life::Live {
            self.life = Life::Live;
            self.created = record.at;
        }
    }

    fn touch(&mut self, version: u64, record: &Record) -> Option<&mut VersionView> {
        let view = self.versions.iter_mut().find(|view| view.version == version)?;
        view.changed = record.at;
        Some(view)
    }

    fn bury(&mut self, record: &Record, mut view: VersionView, retained_until: Timestamp) {
        view.deletion = Some(Deletion { at: record.at, by: record.by.clone(), retained_until, purged: false });
        let place = self.deleted.partition_point(|known| known.version < view.version);
        self.deleted.insert(place, view);
    }

    fn point(&mut self, record: &Record, alias: String, from: Option<u64>, to: u64, rollback: bool) {
        self.aliases.insert(alias.clone(), to);
        self.note(record, &alias, Some(to));
        self.moves.push(AliasMove {
            at: record.at,
            by: record.by.clone(),
            why: record.why.clone().unwrap_or_default(),
            alias,
            from,
            to,
            rollback,
        });
    }

    fn unpoint(&mut self, record: &Record, alias: &str) {
        self.aliases.remove(alias);
        self.note(record, alias, None);
    }

    fn note(&mut self, record: &Record, alias: &str, to: Option<u64>) {
        let (at, fact) = (record.at, record.number);
        let point = AliasPoint { at, to, by: record.by.clone(), why: record.why.clone(), fact };
        self.history.entry(alias.to_owned()).or_default().push(point);
    }

    /// What is wrong with a change as the next, where something is.
    fn complaint(&self, change: &Change) -> Option<String> {
        let next = self.numbered() + 1;
        let at = |alias: &String| self.aliases.get(alias).copied();
        match change {
            Change::VersionRegistered { version, .. } if *version != next => {
                Some(format!("it registers version {version}; the next is {next}"))
            }
            Change::AliasSet { alias, before, after } | Change::Promoted { alias, before, after, .. } => {
                self.wrong_move(alias, *before, *after)
            }
            Change::RolledBack { alias, before, after } => self.wrong_move(alias, Some(*before), *after),
            Change::AliasRemoved { alias, before } if at(alias) != Some(*before) => {
                Some(format!("it removes alias `{alias}` from version {before}, where it isn't"))
            }
            Change::VersionSigned { version, .. }
            | Change::Staged { version, .. }
            | Change::Tagged { version: Some(version), .. }
            | Change::Described { version: Some(version), .. }
            | Change::VersionDeleted { version, .. }
                if self.version(*version).is_none() =>
            {
                Some(format!("it is about version {version}, which isn't there"))
            }
            _ => None,
        }
    }

    fn wrong_move(&self, alias: &str, before: Option<u64>, after: u64) -> Option<String> {
        let found = self.aliases.get(alias).copied();
        if found != before {
            return Some(format!("it moves alias `{alias}` from {before:?}, but it is at {found:?}"));
        }
        if self.version(after).is_none() {
            return Some(format!("it moves alias `{alias}` to version {after}, which isn't there"));
        }
        None
    }

    /// How many versions were ever made: numbers aren't used again.
    pub(crate) fn numbered(&self) -> u64 {
        let last = |views: &[VersionView]| views.last().map_or(0, |view| view.version);
        last(&self.versions).max(last(&self.deleted))
    }

    /// The version with this number.
    pub fn version(&self, version: u64) -> Option<&VersionView> {
        let place = self.versions.binary_search_by_key(&version, |view| view.version).ok()?;
        self.versions.get(place)
    }

    /// The version that an alias points to.
    pub fn aliased(&self, alias: &str) -> Option<&VersionView> {
        self.version(*self.aliases.get(alias)?)
    }

    /// The aliases of a version.
    pub fn aliases_of(&self, version: u64) -> Vec<&str> {
        self.aliases.iter().filter(|(_, to)| **to == version).map(|(alias, _)| alias.as_str()).collect()
    }

    /// The version that an alias pointed to at a time; nothing when it was removed or wasn't there yet. What happened
    /// at that very time counts.
    pub fn alias_at(&self, alias: &str, time: Timestamp) -> Option<u64> {
        let points = self.history.get(alias)?;
        let later = points.partition_point(|point| point.at <= time);
        points[..later].last()?.to
    }

    /// The version to which a rollback of an alias goes: where it was before the last move that stands, if that
    /// version is still there, else the one before that.
    pub fn before(&self, alias: &str) -> Option<u64> {
        let mut standing: Vec<u64> = Vec::new();
        for moved in self.moves.iter().filter(|moved| moved.alias == alias) {
            if moved.rollback {
                // It may have passed over versions that were deleted.
                while standing.last().is_some_and(|last| *last != moved.to) {
                    standing.pop();
                }
                if standing.is_empty() {
                    standing.push(moved.to);
                }
            } else {
                standing.push(moved.to);
            }
        }
        let now = standing.pop()?;
        standing.into_iter().rev().find(|version| *version != now && self.version(*version).is_some())
    }
}

/// A record as it would stand for an entry of the first kinds.
fn bare(number: u64, at: Timestamp, by: String, why: Option<String>) -> Record {
    let previous = Digest::of(b"");
    Record { number, log: String::new(), previous, at, by, why, trace: None, key: None, changes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use gristmill_protocol::RunId;
    use proptest::prelude::*;

    use super::*;

    fn created(version: u64) -> LogEntry {
        let new = NewVersion {
            model: Digest::of(&version.to_be_bytes()),
            run: RunId::from_u128(1),
            step: "release".to_owned(),
            metrics: BTreeMap::new(),
            evidence: None,
            algorithm: "linear".to_owned(),
        };
        LogEntry::VersionCreated { at: Timestamp(1), by: "ann".to_owned(), version, new }
    }

    fn record(number: u64, change: Change) -> LogEntry {
        let record = bare(number, Timestamp(number), "ann".to_owned(), None);
        LogEntry::Recorded(Record { changes: vec![change], ..record })
    }

    fn view(moves: &[(u64, bool)]) -> ModelView {
        let mut view = ModelView::new("m");
        (1..=3).for_each(|version| drop(view.apply(version, created(version))));
        for (place, (to, rollback)) in moves.iter().enumerate() {
            let alias = "champion".to_owned();
            let before = view.aliases.get(&alias).copied();
            let change = match (before, rollback) {
                (Some(before), true) => Change::RolledBack { alias, before, after: *to },
                _ => Change::AliasSet { alias, before, after: *to },
            };
            let complaints = view.apply(10 + place as u64, record(10 + place as u64, change));
            assert!(complaints.is_empty(), "{complaints:?}");
        }
        view
    }

    fn before(moves: &[(u64, bool)]) -> Option<u64> {
        view(moves).before("champion")
    }

    #[test]
    fn a_rollback_undoes_moves_one_after_the_other() {
        assert_eq!(before(&[]), None);
        assert_eq!(before(&[(1, false)]), None);
        assert_eq!(before(&[(1, false), (2, false), (3, false)]), Some(2));
        assert_eq!(before(&[(1, false), (2, false), (3, false), (2, true)]), Some(1));
        assert_eq!(before(&[(1, false), (2, false), (1, true)]), None);
        assert_eq!(before(&[(1, false), (2, false), (1, false)]), Some(2), "going to an older one is a move as any");
        assert_eq!(before(&[(1, false), (2, false), (1, false), (2, true)]), Some(1));
    }

    proptest! {
        #[test]
        fn history_and_rollbacks_agree_with_a_plain_list(moves in prop::collection::vec((1u64..=3, 0u32..4), 0..20)) {
            let mut view = view(&[]);
            let mut list: Vec<(u64, Option<u64>)> = Vec::new();
            for (place, (to, kind)) in moves.into_iter().enumerate() {
                let (at, alias) = (10 + place as u64, "champion".to_owned());
                let before = view.aliases.get(&alias).copied();
                let back = view.before(&alias);
                let change = match (kind, before) {
                    (0, Some(before)) => Change::AliasRemoved { alias, before },
                    (1, Some(before)) if back.is_some() => {
                        Change::RolledBack { alias, before, after: back.expect("it is") }
                    }
                    _ if before == Some(to) => continue,
                    _ => Change::AliasSet { alias, before, after: to },
                };
                let after = match &change {
                    Change::RolledBack { after, .. } | Change::AliasSet { after, .. } => Some(*after),
                    _ => None,
                };
                let complaints = view.apply(at, record(at, change));
                prop_assert!(complaints.is_empty(), "{:?}", complaints);
                list.push((at, after));
                let now = view.aliases.get("champion").copied();
                prop_assert_eq!(now, after);
                if let (Some(now), Some(back)) = (now, view.before("champion")) {
                    prop_assert_ne!(back, now, "a rollback changes something");
                }
            }
            for time in 0..40 {
                let expected = list.iter().rev().find(|(at, _)| *at <= time).and_then(|(_, to)| *to);
                prop_assert_eq!(view.alias_at("champion", Timestamp(time)), expected);
            }
        }
    }

    #[test]
    fn a_rollback_passes_over_what_was_deleted() {
        let mut view = view(&[(1, false), (2, false), (3, false)]);
        let deleted = Change::VersionDeleted { version: 2, retained_until: Timestamp(99) };
        view.apply(20, record(20, deleted));
        assert_eq!(view.before("champion"), Some(1));
        view.apply(21, record(21, Change::RolledBack { alias: "champion".to_owned(), before: 3, after: 1 }));
        assert_eq!(view.before("champion"), None);
    }

    #[test]
    fn an_alias_is_known_at_every_time() {
        let mut view = view(&[(1, false), (3, false)]);
        view.apply(20, record(20, Change::AliasRemoved { alias: "champion".to_owned(), before: 3 }));
        let at = |time| view.alias_at("champion", Timestamp(time));
        assert_eq!([9, 10, 11, 19, 20, 99].map(at), [None, Some(1), Some(3), Some(3), None, None]);
        assert_eq!(view.alias_at("other", Timestamp(50)), None);
    }

    #[test]
    fn numbers_are_not_used_again() {
        let mut view = view(&[]);
        view.apply(20, record(20, Change::VersionDeleted { version: 3, retained_until: Timestamp(99) }));
        assert_eq!((view.versions.len(), view.numbered()), (2, 3));
        view.apply(21, record(21, Change::ModelDeleted { retained_until: Timestamp(99) }));
        assert_eq!((view.versions.len(), view.numbered(), &view.life), (0, 3, &Life::Deleted));
    }
}
