//! Looks at everything: the chain of every log, its copies, the artifacts of every version, and all signatures.
//!
//! It reads past what other verbs stop at, so that one damage doesn't hide the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gristmill_backends::artifacts::ArtifactError;
use gristmill_protocol::Digest;

use crate::chain::{self, Head};
use crate::error::RegistryError;
use crate::fact::{LogEntry, VersionRef};
use crate::lineage::SCORES;
use crate::log::name_of;
use crate::model_log::{Life, ModelView, VersionView};
use crate::registry::{MODELS, Registry, changes_of, claimed_for};

/// Entries read at a time.
const READ_MAX: usize = 256;

/// Something that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The log: `model/` and a name, or `scores/` and the digits of a model's digest.
    pub log: String,
    /// The fact by its number; nothing when it is about the log as a whole.
    pub fact: Option<u64>,
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fact {
            Some(fact) => write!(f, "`{}`, fact {fact}: {}", self.log, self.what),
            None => write!(f, "`{}`: {}", self.log, self.what),
        }
    }
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    pub logs: u64,
    pub facts: u64,
    /// Versions that are there.
    pub versions: u64,
    /// Artifacts that were looked for.
    pub artifacts: u64,
    pub signatures: u64,
    /// Facts without a copy that isn't owed yet: what a crash left before anybody was told of it, and logs from before
    /// there were copies. The next change of the model copies them, [`Registry::reconcile`] does so at once.
    pub uncopied: u64,
    pub damages: Vec<Damage>,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closely {
    /// Whether every artifact is read and its digest computed anew, not only looked for.
    pub read_artifacts: bool,
}

/// What a look at versions goes by, and what it has seen.
struct Look {
    closely: Closely,
    erased: BTreeSet<Digest>,
    /// What is wrong with the artifacts that were looked for.
    seen: BTreeMap<Digest, Option<String>>,
}

impl Registry {
    /// Looks at everything and says what is damaged. Changes nothing. Fails only when a store can't be reached.
    pub async fn verify(&self, closely: Closely) -> Result<Verification, RegistryError> {
        let mut found = Verification::default();
        let marked = self.all_marks().await?;
        let mut logs: BTreeSet<String> = marked.keys().cloned().collect();
        for kind in [MODELS, SCORES] {
            logs.extend(self.logs.state.logs(kind).await?);
        }
        let mut views = Vec::new();
        for log in logs {
            let none = BTreeMap::new();
            let view = self.verify_log(&log, marked.get(&log).unwrap_or(&none), &mut found).await?;
            found.logs += 1;
            views.extend(view.map(|view| (log, view)));
        }
        let erased: BTreeSet<Digest> = views.iter().flat_map(|(_, (view, _))| view.erased.iter().copied()).collect();
        let mut look = Look { closely, erased, seen: BTreeMap::new() };
        for (log, (view, born)) in &views {
            for version in view.versions.iter().chain(&view.deleted) {
                let fact = born.get(&version.version).copied();
                self.verify_version(log, fact, version, &mut look, &mut found).await?;
                found.versions += u64::from(version.deletion.is_none());
            }
        }
        for digest in look.erased {
            if self.logs.artifacts.size(digest).await?.is_some() {
                let log = views.iter().find(|(_, (view, _))| view.erased.contains(&digest));
                let log = log.map(|(log, _)| log.clone()).unwrap_or_default();
                found.damages.push(Damage { log, fact: None, what: format!("the erased artifact {digest} is there") });
            }
        }
        found.damages.sort();
        Ok(found)
    }

    /// Copies what a crash left uncopied, and writes to the log what the state lost, in every log of the registry.
    /// Worth doing when a service starts. Returns how many facts the state had lost.
    pub async fn reconcile(&self) -> Result<u64, RegistryError> {
        let restored = self.rebuild().await?;
        for name in self.log_names().await? {
            let folded = self.fold(&name).await?;
            self.acknowledge(&folded).await?;
        }
        match restored.damages.into_iter().next() {
            Some(Damage { log, fact, what }) => {
                Err(RegistryError::BrokenChain { name: name_of(&log), number: fact.unwrap_or_default(), what })
            }
            None => Ok(restored.facts),
        }
    }

    /// Looks at one log. Returns what a model's log says, and with which facts its versions began.
    async fn verify_log(
        &self,
        log: &str,
        marked: &BTreeMap<u64, BTreeSet<Digest>>,
        found: &mut Verification,
    ) -> Result<Option<(ModelView, BTreeMap<u64, u64>)>, RegistryError> {
        let name = name_of(log);
        let mut view = ModelView::new(&name);
        let mut born = BTreeMap::new();
        let mut head = Head::empty();
        let mut damage = |fact, what| found.damages.push(Damage { log: log.to_owned(), fact, what });
        let mut uncopied = Vec::new();
        loop {
            let entries = self.logs.state.log_read(log, head.number, READ_MAX).await?;
            for entry in &entries {
                let number = head.number + 1;
                let digest = Digest::of(&entry.body);
                if entry.position != number {
                    damage(Some(number), format!("it is missing; the next that is there is {}", entry.position));
                }
                let decoded = match chain::decode(&entry.body) {
                    Ok(decoded) => decoded,
                    Err(error) => {
                        damage(Some(entry.position), error.to_string());
                        head = Head { number: entry.position, link: digest, entry: digest };
                        continue;
                    }
                };
                if let Some(what) = head.mismatch(log, &decoded) {
                    damage(Some(entry.position), what);
                }
                let here = marked.get(&entry.position);
                if !here.is_some_and(|here| here.contains(&digest)) {
                    uncopied.push((entry.position, digest, matches!(decoded, LogEntry::Recorded(_))));
                }
                for other in here.into_iter().flatten().filter(|other| **other != digest) {
                    damage(Some(entry.position), format!("the artifacts have another fact {other} with this number"));
                }
                for change in changes_of(&decoded) {
                    if let crate::fact::Change::VersionRegistered { version, .. } = change {
                        born.insert(*version, entry.position);
                    }
                }
                if let LogEntry::VersionCreated { version, .. } = &decoded {
                    born.insert(*version, entry.position);
                }
                head = Head { number: entry.position, ..head.after(&decoded, &entry.body) };
                let from = claimed_for(&decoded);
                for what in view.apply(entry.position, decoded) {
                    damage(Some(entry.position), what);
                }
                if let Some(from) = from {
                    // Damage in the other log is told there.
                    view = self.moved_from(view.clone(), &from, entry.position).await.unwrap_or(view);
                }
                found.facts += 1;
            }
            if entries.len() < READ_MAX {
                break;
            }
        }
        for (number, digests) in marked.range(head.number + 1..) {
            let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
            damage(Some(*number), format!("the state has lost it; its copy is {}", digests.join(" or ")));
        }
        for (number, digest, is_owed) in uncopied {
            // It may have come and been copied since the marks were read.
            if !self.logs.artifacts.marks(&chain::mark(log, number, digest), "", 1).await?.is_empty() {
                continue;
            }
            if is_owed && number < head.number {
                damage(Some(number), "it isn't copied to the artifacts".to_owned());
            } else {
                found.uncopied += 1;
            }
        }
        for (number, digests) in marked {
            for digest in digests {
                match self.logs.artifacts.get(*digest).await {
                    Ok(_) => {}
                    Err(error @ (ArtifactError::Missing { .. } | ArtifactError::Corrupt { .. })) => {
                        found.damages.push(Damage {
                            log: log.to_owned(),
                            fact: Some(*number),
                            what: format!("its copy: {error}"),
                        });
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let is_model = log.starts_with(MODELS) && !matches!(view.life, Life::Claimed { .. });
        Ok(is_model.then_some((view, born)))
    }

    /// Looks at one version: its signatures and what it needs. `fact` is the one that made it.
    async fn verify_version(
        &self,
        log: &str,
        fact: Option<u64>,
        version: &VersionView,
        look: &mut Look,
        found: &mut Verification,
    ) -> Result<(), RegistryError> {
        let of = VersionRef { name: name_of(log), version: version.version };
        let mut damage = |what: String| {
            let what = format!("version {}: {what}", of.version);
            found.damages.push(Damage { log: log.to_owned(), fact, what });
        };
        for signature in &version.signatures {
            found.signatures += 1;
            if !signature.fits(version.version, version.new.model) {
                damage(format!("the signature of {} doesn't fit", signature.key));
            }
        }
        if version.deletion.as_ref().is_some_and(|deletion| deletion.purged) {
            return Ok(());
        }
        for digest in version.needs() {
            if look.erased.contains(&digest) {
                continue;
            }
            let problem = match look.seen.get(&digest) {
                Some(known) => known.clone(),
                None => {
                    found.artifacts += 1;
                    let problem = self.problem(digest, look.closely).await?;
                    look.seen.insert(digest, problem.clone());
                    problem
                }
            };
            if let Some(problem) = problem {
                damage(problem);
            }
        }
        Ok(())
    }

    /// What is wrong with an artifact, where something is.
    async fn problem(&self, digest: Digest, closely: Closely) -> Result<Option<String>, RegistryError> {
        let artifacts = &self.logs.artifacts;
        if !closely.read_artifacts {
            let missing = artifacts.size(digest).await?.is_none();
            return Ok(missing.then(|| ArtifactError::Missing { digest }.to_string()));
        }
        match artifacts.get(digest).await {
            Ok(_) => Ok(None),
            Err(error @ (ArtifactError::Missing { .. } | ArtifactError::Corrupt { .. })) => Ok(Some(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}
