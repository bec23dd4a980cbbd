//! The verbs that change a model, each one record of its log: it happens wholly or not at all.
//!
//! Each verb reads the log, decides, and appends after what it read; whoever loses a race decides anew. A verb that
//! finds things as they should be changes nothing, but answers only when what it found is copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gristmill_backends::artifacts::ArtifactError;
use gristmill_protocol::{Digest, Timestamp};
use serde::Serialize;

use crate::error::RegistryError;
use crate::evidence::{Evidence, Verdict};
use crate::fact::{AliasMove, Change, External, Lineage, NewVersion, Stage};
use crate::model_log::{Life, ModelView, VersionView};
use crate::names;
use crate::registry::{Act, Folded, Races, Registered, Registry, no_alias, version_of};
use crate::signature::{Signature, Signer, TrustError};

/// The registry in somebody's hands.
pub struct Acting<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) act: Act,
}

/// A version to make.
#[derive(Clone, Debug)]
pub struct Registration {
    pub new: NewVersion,
    pub lineage: Lineage,
    /// What belongs to the version beside the model's bytes.
    pub artifacts: Vec<Digest>,
    /// Where it comes from, when no pipeline made it.
    pub external: Option<External>,
    /// An alias to move to it in the same step.
    pub alias: Option<String>,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// Who signs it in the same step.
    pub signer: Option<Arc<Signer>>,
    /// Whether a version is made even when one with the same bytes and evidence is there.
    pub anew: bool,
}

impl Registration {
    /// A version with nothing said but what makes it.
    pub fn of(new: NewVersion) -> Registration {
        Registration {
            new,
            lineage: Lineage::default(),
            artifacts: Vec::new(),
            external: None,
            alias: None,
            description: String::new(),
            tags: BTreeMap::new(),
            signer: None,
            anew: false,
        }
    }
}

/// What a promotion goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Promotion {
    /// The evidence that the version was registered with; when there is none, whoever promotes answers for it.
    OwnEvidence,
    /// This evidence.
    Evidence(Digest),
}

/// Says whether a version loads, from its bytes; the reason when it doesn't.
pub type Prove<'a> = &'a (dyn Fn(&VersionView, &Bytes) -> Result<(), String> + Sync);

/// A request to register, as its key goes by it.
#[derive(Serialize)]
#[serde(untagged)]
enum Asked<A, B> {
    Before(A),
    Of(A, B),
}

/// What a verb does about what it read.
enum Decision<T> {
    /// All is as it should be.
    Stays(T),
    Changes(Vec<Change>, T),
}

impl Acting<'_> {
    /// Makes a model without a version.
    pub async fn create(
        &self,
        name: &str,
        description: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), RegistryError> {
        check_texts(description, tags)?;
        let asked = ("create", description, tags);
        self.change(name, &asked, |folded, done| {
            if done {
                return Ok(Decision::Stays(()));
            }
            if folded.view.life == Life::Live {
                return Err(RegistryError::ModelExists { name: name.to_owned() });
            }
            let mut changes = vec![Change::ModelCreated];
            changes.extend(labels(None, description, tags));
            Ok(Decision::Changes(changes, ()))
        })
        .await
    }

    /// Makes a version, once all of its artifacts were read and found whole; its number is the next one.
    pub async fn register(&self, name: &str, registration: Registration) -> Result<Registered, RegistryError> {
        let Registration { new, lineage, artifacts, external, alias, description, tags, signer, anew } = &registration;
        names::check_count("the list of artifacts", artifacts.len())?;
        names::check_count("the list of datasets", lineage.datasets.len())?;
        check_texts(description, tags)?;
        external.as_ref().map_or(Ok(()), names::check_external)?;
        alias.as_deref().map_or(Ok(()), names::check_alias)?;
        names::check_model(name)?;
        // A request that says nothing of an outside is what it was before there was one, under its key too.
        let named = ("register", new, lineage, artifacts, alias, description, tags, anew);
        let asked = external.as_ref().map_or(Asked::Before(named), |external| Asked::Of(named, external));
        self.check_whole(name, &registration).await?;
        self.change(name, &asked, |folded, done| {
            let view = &folded.view;
            if done {
                let key = self.act.key.as_ref().and_then(|key| view.keys.get(key));
                let version = key.and_then(|done| done.version.or(done.moved.as_ref().map(|moved| moved.to)));
                return Ok(Decision::Stays(Registered { version: version.unwrap_or(view.numbered()), changed: false }));
            }
            let same = |known: &&VersionView| known.new.model == new.model && known.new.evidence == new.evidence;
            let known = view.versions.iter().find(same).filter(|_| !anew);
            let mut changes = Vec::new();
            let version = match known {
                Some(known) => known.version,
                None => {
                    let version = view.numbered() + 1;
                    let (new, lineage, artifacts) = (new.clone(), lineage.clone(), artifacts.clone());
                    let external = external.clone().map(Box::new);
                    changes.push(Change::VersionRegistered { version, new, lineage, artifacts, external });
                    changes.extend(labels(Some(version), description, tags));
                    if let Some(signer) = signer {
                        let signature = signer.sign(name, version, registration.new.model);
                        changes.push(Change::VersionSigned { version, signature });
                    }
                    version
                }
            };
            if let Some(alias) = alias
                && !is_where_it_belongs(view, alias, version, &self.act.by)
            {
                let signed = changes.iter().filter_map(|change| match change {
                    Change::VersionSigned { signature, .. } => Some(signature.clone()),
                    _ => None,
                });
                let made = VersionView {
                    signatures: signed.collect(),
                    ..VersionView::new(version, self.act.at, &self.act.by, new.clone())
                };
                self.registry.trust.check(name, known.unwrap_or(&made))?;
                let before = view.aliases.get(alias).copied();
                changes.push(Change::AliasSet { alias: alias.clone(), before, after: version });
            }
            if changes.is_empty() {
                return Ok(Decision::Stays(Registered { version, changed: false }));
            }
            Ok(Decision::Changes(changes, Registered { version, changed: true }))
        })
        .await
    }

    /// Moves an alias to a version, whatever the gates say of it. Fine when it is there already.
    pub async fn set_alias(&self, name: &str, alias: &str, version: u64) -> Result<(), RegistryError> {
        names::check_alias(alias)?;
        self.change(name, &("alias", alias, version), |folded, done| {
            let view = there(folded)?;
            if done {
                return Ok(Decision::Stays(()));
            }
            let target = version_of(view, version)?;
            let before = view.aliases.get(alias).copied();
            if before == Some(version) {
                return Ok(Decision::Stays(()));
            }
            self.registry.trust.check(name, target)?;
            let set = Change::AliasSet { alias: alias.to_owned(), before, after: version };
            Ok(Decision::Changes(vec![set], ()))
        })
        .await
    }

    /// Removes an alias; its history stays.
    pub async fn remove_alias(&self, name: &str, alias: &str) -> Result<(), RegistryError> {
        self.change(name, &("unalias", alias), |folded, done| {
            let view = there(folded)?;
            if done {
                return Ok(Decision::Stays(()));
            }
            let before = *view.aliases.get(alias).ok_or_else(|| no_alias(view, alias))?;
            Ok(Decision::Changes(vec![Change::AliasRemoved { alias: alias.to_owned(), before }], ()))
        })
        .await
    }

    /// Moves an alias to a version under the gates' evidence. Fine when it is there already; refused when a gate said
    /// no, when the evidence is about another model, and when the version's bytes aren't there or aren't trusted.
    pub async fn promote(
        &self,
        name: &str,
        version: u64,
        alias: &str,
        promotion: Promotion,
    ) -> Result<(), RegistryError> {
        names::check_alias(alias)?;
        names::check_model(name)?;
        // A version never changes, so what its evidence says is asked once, before the races.
        let folded = self.registry.live(name).await?;
        let target = version_of(&folded.view, version)?.clone();
        let evidence = match promotion {
            Promotion::OwnEvidence => target.new.evidence,
            Promotion::Evidence(evidence) => Some(evidence),
        };
        if folded.view.aliases.get(alias) != Some(&version) {
            self.registry.trust.check(name, &target)?;
            self.registry.check_bytes(name, target.new.model).await?;
            if let Some(evidence) = evidence {
                self.check_evidence(name, &target, evidence).await?;
            }
        }
        self.change(name, &("promote", version, alias, promotion), |folded, done| {
            let view = there(folded)?;
            if done {
                return Ok(Decision::Stays(()));
            }
            let found = version_of(view, version)?;
            if found.new != target.new {
                // The name went to another model in between.
                return Err(RegistryError::NoVersion { name: name.to_owned(), version, count: view.versions.len() });
            }
            let before = view.aliases.get(alias).copied();
            if before == Some(version) {
                return Ok(Decision::Stays(()));
            }
            let promoted = Change::Promoted { alias: alias.to_owned(), before, after: version, evidence };
            Ok(Decision::Changes(vec![promoted], ()))
        })
        .await
    }

    async fn check_evidence(&self, name: &str, target: &VersionView, evidence: Digest) -> Result<(), RegistryError> {
        let bytes = self.registry.logs.artifacts.get(evidence).await?;
        let read = Evidence::read(&bytes).map_err(|source| RegistryError::BadEvidence { evidence, source })?;
        let (name, version) = (name.to_owned(), target.version);
        match read.verdict(target.new.model) {
            Verdict::Passed => Ok(()),
            Verdict::Rejected(reasons) => Err(RegistryError::Rejected { name, version, reasons }),
            Verdict::OtherModel => Err(RegistryError::OtherModel { name, version, evidence }),
        }
    }

    /// Moves an alias back to where it was before, in one step, once `prove` says that the version there loads. Its
    /// bytes were checked against their digest, and its signatures where they are asked for.
    pub async fn rollback(&self, name: &str, alias: &str, prove: Prove<'_>) -> Result<AliasMove, RegistryError> {
        let asked = ("rollback", alias);
        let mut races = Races::new(name)?;
        let _turn = self.registry.turn(name).await;
        let mut proved: Option<Digest> = None;
        loop {
            let folded = self.registry.live(name).await?;
            let view = &folded.view;
            if let Some(done) = self.registry.done(&folded, &self.act, &asked).await? {
                match done.moved {
                    Some(moved) if self.registry.acknowledge(&folded).await? => return Ok(moved),
                    _ => {
                        races.lost(folded.head).await?;
                        continue;
                    }
                }
            }
            let before = *view.aliases.get(alias).ok_or_else(|| no_alias(view, alias))?;
            let nothing = || RegistryError::NothingBefore { name: name.to_owned(), alias: alias.to_owned() };
            let target = version_of(view, view.before(alias).ok_or_else(nothing)?)?;
            if proved != Some(target.new.model) {
                self.registry.trust.check(name, target)?;
                let bytes = self.whole(name, target.new.model).await?;
                let version = target.version;
                prove(target, &bytes).map_err(|reason| RegistryError::NotLoadable {
                    name: name.to_owned(),
                    version,
                    reason,
                })?;
                proved = Some(target.new.model);
            }
            let change = Change::RolledBack { alias: alias.to_owned(), before, after: target.version };
            if let Some(stored) = self.registry.append(&folded, &self.act, &asked, vec![change]).await? {
                return Ok(AliasMove {
                    at: crate::registry::at_of(&stored.entry),
                    by: self.act.by.clone(),
                    why: self.act.why.clone().unwrap_or_default(),
                    alias: alias.to_owned(),
                    from: Some(before),
                    to: target.version,
                    rollback: true,
                });
            }
            races.lost(folded.head).await?;
        }
    }

    /// Sets a tag of the model or of a version, or removes it.
    pub async fn tag(
        &self,
        name: &str,
        version: Option<u64>,
        tag: &str,
        value: Option<&str>,
    ) -> Result<(), RegistryError> {
        names::check_label("tag", tag)?;
        names::check_text("the tag's value", value.unwrap_or_default())?;
        self.change(name, &("tag", version, tag, value), |folded, done| {
            let view = there(folded)?;
            let tags = match version {
                Some(version) => &version_of(view, version)?.tags,
                None => &view.tags,
            };
            let before = tags.get(tag).cloned();
            if done || before.as_deref() == value {
                return Ok(Decision::Stays(()));
            }
            let after = value.map(str::to_owned);
            Ok(Decision::Changes(vec![Change::Tagged { version, tag: tag.to_owned(), before, after }], ()))
        })
        .await
    }

    /// Describes the model or a version.
    pub async fn describe(&self, name: &str, version: Option<u64>, text: &str) -> Result<(), RegistryError> {
        names::check_text("the description", text)?;
        self.change(name, &("describe", version, text), |folded, done| {
            let view = there(folded)?;
            let before = match version {
                Some(version) => &version_of(view, version)?.description,
                None => &view.description,
            };
            if done || before == text {
                return Ok(Decision::Stays(()));
            }
            let (before, after) = (before.clone(), text.to_owned());
            Ok(Decision::Changes(vec![Change::Described { version, before, after }], ()))
        })
        .await
    }

    /// Adds a signature to a version; refuses one that doesn't fit it.
    pub async fn add_signature(&self, name: &str, version: u64, signature: &Signature) -> Result<(), RegistryError> {
        self.change(name, &("sign", version, signature), |folded, done| {
            let view = there(folded)?;
            let found = version_of(view, version)?;
            if signature.name != name || !signature.fits(version, found.new.model) {
                let of = crate::fact::VersionRef { name: name.to_owned(), version };
                return Err(TrustError::Forged { of, key: signature.key }.into());
            }
            if done || found.signatures.contains(signature) {
                return Ok(Decision::Stays(()));
            }
            Ok(Decision::Changes(vec![Change::VersionSigned { version, signature: signature.clone() }], ()))
        })
        .await
    }

    /// Signs a version.
    pub async fn sign(&self, name: &str, version: u64, signer: &Signer) -> Result<Signature, RegistryError> {
        let folded = self.registry.live(name).await?;
        let signature = signer.sign(name, version, version_of(&folded.view, version)?.new.model);
        self.add_signature(name, version, &signature).await?;
        Ok(signature)
    }

    /// Puts a version into a stage; with `archive_others`, the other versions of that stage are archived in the same
    /// step. Fine when all is so already.
    pub async fn set_stage(
        &self,
        name: &str,
        version: u64,
        stage: Stage,
        archive_others: bool,
    ) -> Result<(), RegistryError> {
        self.change(name, &("stage", version, stage, archive_others), |folded, done| {
            let view = there(folded)?;
            if done {
                return Ok(Decision::Stays(()));
            }
            let mut changes = Vec::new();
            let mut stage_of = |version: &VersionView, after: Stage| {
                if version.stage != after {
                    changes.push(Change::Staged { version: version.version, before: version.stage, after });
                }
            };
            stage_of(version_of(view, version)?, stage);
            for other in view.versions.iter().filter(|other| archive_others && other.version != version) {
                if other.stage == stage {
                    stage_of(other, Stage::Archived);
                }
            }
            if changes.is_empty() { Ok(Decision::Stays(())) } else { Ok(Decision::Changes(changes, ())) }
        })
        .await
    }

    /// Deletes a version to which no alias points. Its artifacts stay until `retained_until`, its number for ever.
    pub async fn delete_version(
        &self,
        name: &str,
        version: u64,
        retained_until: Timestamp,
    ) -> Result<(), RegistryError> {
        self.change(name, &("delete", version, retained_until), |folded, done| {
            let view = there(folded)?;
            if done {
                return Ok(Decision::Stays(()));
            }
            version_of(view, version)?;
            if let [alias, ..] = view.aliases_of(version)[..] {
                let by = format!("alias `{alias}`");
                return Err(RegistryError::InUse { name: name.to_owned(), version, by });
            }
            Ok(Decision::Changes(vec![Change::VersionDeleted { version, retained_until }], ()))
        })
        .await
    }

    /// Deletes a version and removes the aliases that point to it, in one step.
    pub async fn delete_version_and_aliases(
        &self,
        name: &str,
        version: u64,
        retained_until: Timestamp,
    ) -> Result<(), RegistryError> {
        self.change(name, &("delete with aliases", version, retained_until), |folded, done| {
            let view = there(folded)?;
            if done {
                return Ok(Decision::Stays(()));
            }
            version_of(view, version)?;
            let removed = |alias: &str| Change::AliasRemoved { alias: alias.to_owned(), before: version };
            let mut changes: Vec<Change> = view.aliases_of(version).into_iter().map(removed).collect();
            changes.push(Change::VersionDeleted { version, retained_until });
            Ok(Decision::Changes(changes, ()))
        })
        .await
    }

    /// Deletes a model with all its versions and aliases. Their artifacts stay until `retained_until`; a model that is
    /// registered under the name later goes on with the next number.
    pub async fn delete_model(&self, name: &str, retained_until: Timestamp) -> Result<(), RegistryError> {
        self.change(name, &("delete", retained_until), |folded, done| {
            if done {
                return Ok(Decision::Stays(()));
            }
            there(folded)?;
            Ok(Decision::Changes(vec![Change::ModelDeleted { retained_until }], ()))
        })
        .await
    }

    /// Gives a model another name. The name is claimed first and the model goes then: broken off in between it is
    /// still where it was, nobody else can take the name, and saying it again ends it.
    pub async fn rename(&self, name: &str, to: &str) -> Result<(), RegistryError> {
        names::check_model(to)?;
        let mut races = Races::new(name)?;
        let asked = ("rename", name, to);
        if name == to {
            return Err(RegistryError::ModelExists { name: to.to_owned() });
        }
        let (first, second) = (name.min(to), name.max(to));
        let _turns = (self.registry.turn(first).await, self.registry.turn(second).await);
        loop {
            let target = self.registry.fold(to).await?;
            let source = self.registry.fold(name).await?;
            let is_done = target.view.life == Life::Live && target.view.formerly.last().is_some_and(|was| was == name);
            if is_done && source.view.life != Life::Live {
                if self.registry.acknowledge(&source).await? && self.registry.acknowledge(&target).await? {
                    return Ok(());
                }
                races.lost(source.head).await?;
                continue;
            }
            let source = self.registry.live(name).await?;
            let claim = match &target.view.life {
                // The claim of an attempt that was broken off may not be copied yet.
                Life::Claimed { by, claim } if by == name => match self.registry.acknowledge(&target).await? {
                    true => *claim,
                    false => continue,
                },
                Life::Claimed { by, .. } => {
                    return Err(RegistryError::NameClaimed { name: to.to_owned(), by: by.clone() });
                }
                Life::Live => return Err(RegistryError::ModelExists { name: to.to_owned() }),
                Life::Deleted if has_retained(&target.view) => {
                    return Err(RegistryError::NameRetained { name: to.to_owned() });
                }
                Life::Absent | Life::Deleted | Life::Renamed => {
                    let claim = Change::ClaimedFor { name: name.to_owned() };
                    let act = Act { key: None, ..self.act.clone() };
                    match self.registry.append(&target, &act, &asked, vec![claim]).await? {
                        Some(stored) => stored.head.number,
                        None => {
                            races.lost(target.head).await?;
                            continue;
                        }
                    }
                }
            };
            let goes = Change::RenamedTo { name: to.to_owned(), claim };
            if self.registry.append(&source, &self.act, &asked, vec![goes]).await?.is_some() {
                return Ok(());
            }
            races.lost(source.head).await?;
        }
    }

    /// Reads a model's log, lets `decide` say what follows, and appends that, until nobody was faster. `decide` learns
    /// whether the same was done under the act's key before.
    async fn change<T, A: Serialize + Sync>(
        &self,
        name: &str,
        asked: &A,
        decide: impl Fn(&Folded, bool) -> Result<Decision<T>, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut races = Races::new(name)?;
        let _turn = self.registry.turn(name).await;
        loop {
            let folded = self.registry.fold(name).await?;
            if let Life::Claimed { by, .. } = &folded.view.life {
                return Err(RegistryError::NameClaimed { name: name.to_owned(), by: by.clone() });
            }
            let done = self.registry.done(&folded, &self.act, asked).await?.is_some();
            match decide(&folded, done) {
                Ok(Decision::Stays(answer)) if self.registry.acknowledge(&folded).await? => return Ok(answer),
                Ok(Decision::Stays(_)) => {}
                Ok(Decision::Changes(changes, answer)) => {
                    if self.registry.append(&folded, &self.act, asked, changes).await?.is_some() {
                        return Ok(answer);
                    }
                }
                // An empty list of names stands for a model that isn't there: the caller is told what there is.
                Err(RegistryError::NoModel { .. }) => {
                    self.registry.live(name).await?;
                }
                Err(error) => return Err(error),
            }
            races.lost(folded.head).await?;
        }
    }

    /// Reads all that a version consists of, and checks it against its digests.
    async fn check_whole(&self, name: &str, registration: &Registration) -> Result<(), RegistryError> {
        let Registration { new, artifacts, .. } = registration;
        for digest in [new.model].into_iter().chain(new.evidence).chain(artifacts.iter().copied()) {
            self.whole(name, digest).await?;
        }
        Ok(())
    }

    async fn whole(&self, name: &str, digest: Digest) -> Result<Bytes, RegistryError> {
        match self.registry.logs.artifacts.get(digest).await {
            Err(ArtifactError::Missing { digest }) => {
                Err(RegistryError::BytesMissing { name: name.to_owned(), digest })
            }
            other => Ok(other?),
        }
    }
}

/// The view of a model that is there.
fn there(folded: &Folded) -> Result<&ModelView, RegistryError> {
    match folded.view.life {
        Life::Live => Ok(&folded.view),
        _ => Err(RegistryError::NoModel { name: folded.view.name.clone(), known: Vec::new() }),
    }
}

fn has_retained(view: &ModelView) -> bool {
    view.deleted.iter().any(|known| known.deletion.as_ref().is_some_and(|deletion| !deletion.purged))
}

fn check_texts(description: &str, tags: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    names::check_text("the description", description)?;
    names::check_count("the list of tags", tags.len())?;
    for (tag, value) in tags {
        names::check_label("tag", tag)?;
        names::check_text("the tag's value", value)?;
    }
    Ok(())
}

/// The changes that give something new its description and its tags.
fn labels(version: Option<u64>, description: &str, tags: &BTreeMap<String, String>) -> Vec<Change> {
    let tagged = |(tag, value): (&String, &String)| Change::Tagged {
        version,
        tag: tag.clone(),
        before: None,
        after: Some(value.clone()),
    };
    let mut changes: Vec<Change> = tags.iter().map(tagged).collect();
    if !description.is_empty() {
        let (before, after) = (String::new(), description.to_owned());
        changes.push(Change::Described { version, before, after });
    }
    changes
}

/// Whether an alias points to the version, or was moved there on behalf of the same registration before.
fn is_where_it_belongs(view: &ModelView, alias: &str, version: u64, by: &str) -> bool {
    let moved = |moved: &AliasMove| moved.alias == alias && moved.to == version && moved.by == by;
    view.aliases.get(alias) == Some(&version) || view.moves.iter().any(moved)
}
