//! The registry's verbs over the state's logs.

use std::sync::Arc;

use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::state::{State, StateError};
use gristmill_protocol::{Digest, Timestamp, wire};

use crate::fact::{AliasMove, ModelFact, NewVersion};
use crate::model_log::{ModelView, VersionView};

/// Entries of a log read at a time.
const READ_MAX: usize = 256;
/// How often a writer that lost a race decides anew: more writers than that at once are a fault of theirs.
const RACES_MAX: usize = 64;
/// What the logs of models are called before the model's name.
const PREFIX: &str = "model/";

/// Why the registry couldn't do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("there is no registered model `{name}`")]
    NoModel { name: String, known: Vec<String> },
    #[error("model `{name}` has no version {version}; it has {count}")]
    NoVersion { name: String, version: u64, count: usize },
    #[error("model `{name}` has no alias `{alias}`")]
    NoAlias { name: String, alias: String, known: Vec<String> },
    #[error("alias `{alias}` of model `{name}` has pointed to no other version before")]
    NothingBefore { name: String, alias: String },
    #[error("`{text}` doesn't name a version; write `name@alias` or `name@3`")]
    BadReference { text: String },
    #[error("model `{name}` can't be used: its bytes `{digest}` aren't in the artifact store")]
    BytesMissing { name: String, digest: Digest },
    #[error("model `{name}` is written to by too many at once")]
    TooManyRaces { name: String },
    #[error("the log of model `{name}` can't be read")]
    Damaged { name: String, source: wire::WireError },
    #[error("failed to reach the registry's log")]
    State(#[from] StateError),
    #[error("failed to reach the registry's artifacts")]
    Artifacts(#[from] ArtifactError),
}

impl RegistryError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            RegistryError::NoModel { known, .. } if known.is_empty() => {
                Some("register one with a `register` step".to_owned())
            }
            RegistryError::NoModel { known, .. } => Some(format!("registered are: {}", known.join(", "))),
            RegistryError::NoAlias { known, .. } if !known.is_empty() => {
                Some(format!("its aliases are: {}", known.join(", ")))
            }
            _ => None,
        }
    }
}

/// What came of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    pub version: u64,
    /// Whether a version was made or an alias moved.
    pub changed: bool,
}

/// The registered models.
#[derive(Clone)]
pub struct Registry {
    state: Arc<dyn State>,
    artifacts: Arc<dyn Artifacts>,
}

impl Registry {
    /// The registry in these stores.
    pub fn new(state: Arc<dyn State>, artifacts: Arc<dyn Artifacts>) -> Registry {
        Registry { state, artifacts }
    }

    /// The names of all registered models, in order.
    pub async fn names(&self) -> Result<Vec<String>, RegistryError> {
        let logs = self.state.logs(PREFIX).await?;
        Ok(logs.into_iter().filter_map(|log| log.strip_prefix(PREFIX).map(str::to_owned)).collect())
    }

    /// A model as its log says it is now.
    pub async fn model(&self, name: &str) -> Result<ModelView, RegistryError> {
        let (view, position) = self.read(name).await?;
        if position == 0 {
            return Err(RegistryError::NoModel { name: name.to_owned(), known: self.names().await? });
        }
        Ok(view)
    }

    /// The version that `name@alias` or `name@3` means.
    pub async fn resolve(&self, text: &str) -> Result<(String, u64, NewVersion), RegistryError> {
        let bad = || RegistryError::BadReference { text: text.to_owned() };
        let (name, which) = text.split_once('@').ok_or_else(bad)?;
        let view = self.model(name).await?;
        let found = match which.parse::<u64>() {
            Ok(version) => view.version(version).ok_or_else(|| RegistryError::NoVersion {
                name: name.to_owned(),
                version,
                count: view.versions.len(),
            })?,
            Err(_) => view.aliased(which).ok_or_else(|| no_alias(&view, which))?,
        };
        Ok((name.to_owned(), found.version, found.new.clone()))
    }

    /// Makes a version, and moves an alias to it; says whether anything was new.
    ///
    /// A version is its bytes and its evidence: registering the same ones again finds the version that there
    /// is. Saying it again for the same run and step changes nothing, even if the alias has moved on since.
    pub async fn register(
        &self,
        name: &str,
        new: NewVersion,
        alias: Option<&str>,
        by: &str,
        at: Timestamp,
    ) -> Result<Registered, RegistryError> {
        self.check_bytes(name, new.model).await?;
        let mut changed = false;
        for _ in 0..RACES_MAX {
            let (view, position) = self.read(name).await?;
            let same = |known: &&VersionView| known.new.model == new.model && known.new.evidence == new.evidence;
            let fact = match (view.versions.iter().find(same), alias) {
                (None, _) => {
                    let version = view.versions.len() as u64 + 1;
                    ModelFact::VersionCreated { at, by: by.to_owned(), version, new: new.clone() }
                }
                (Some(made), Some(alias)) if !is_where_it_belongs(&view, alias, made.version, by) => {
                    alias_move(&view, alias, made.version, by, "registered", at)
                }
                (Some(made), _) => return Ok(Registered { version: made.version, changed }),
            };
            changed |= self.try_append(name, position, &fact).await?;
        }
        Err(RegistryError::TooManyRaces { name: name.to_owned() })
    }

    /// Moves an alias to a version. Fine when it is there already.
    pub async fn promote(
        &self,
        name: &str,
        version: u64,
        alias: &str,
        by: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<ModelView, RegistryError> {
        for _ in 0..RACES_MAX {
            let view = self.model(name).await?;
            let target = view.version(version).ok_or_else(|| RegistryError::NoVersion {
                name: name.to_owned(),
                version,
                count: view.versions.len(),
            })?;
            if view.aliases.get(alias) == Some(&version) {
                return Ok(view);
            }
            self.check_bytes(name, target.new.model).await?;
            let (_, position) = self.read(name).await?;
            self.try_append(name, position, &alias_move(&view, alias, version, by, why, at)).await?;
        }
        Err(RegistryError::TooManyRaces { name: name.to_owned() })
    }

    /// Moves an alias back to the version where it was before, once that is known to be usable.
    pub async fn rollback(
        &self,
        name: &str,
        alias: &str,
        by: &str,
        why: &str,
        at: Timestamp,
    ) -> Result<AliasMove, RegistryError> {
        for _ in 0..RACES_MAX {
            let (view, position) = self.read(name).await?;
            if position == 0 {
                return Err(RegistryError::NoModel { name: name.to_owned(), known: self.names().await? });
            }
            let from = *view.aliases.get(alias).ok_or_else(|| no_alias(&view, alias))?;
            let to = view
                .before(alias)
                .ok_or_else(|| RegistryError::NothingBefore { name: name.to_owned(), alias: alias.to_owned() })?;
            let target = view.version(to).expect("an alias has only pointed to versions");
            self.check_bytes(name, target.new.model).await?;
            let moved = AliasMove {
                at,
                by: by.to_owned(),
                why: why.to_owned(),
                alias: alias.to_owned(),
                from: Some(from),
                to,
                rollback: true,
            };
            if self.try_append(name, position, &ModelFact::AliasMoved(moved.clone())).await? {
                return Ok(moved);
            }
        }
        Err(RegistryError::TooManyRaces { name: name.to_owned() })
    }

    async fn check_bytes(&self, name: &str, digest: Digest) -> Result<(), RegistryError> {
        match self.artifacts.size(digest).await? {
            Some(_) => Ok(()),
            None => Err(RegistryError::BytesMissing { name: name.to_owned(), digest }),
        }
    }

    async fn read(&self, name: &str) -> Result<(ModelView, u64), RegistryError> {
        let log = format!("{PREFIX}{name}");
        let mut view = ModelView::new(name);
        let mut position = 0;
        loop {
            let entries = self.state.log_read(&log, position, READ_MAX).await?;
            for entry in &entries {
                let fact = wire::decode("a registry fact", &entry.body)
                    .map_err(|source| RegistryError::Damaged { name: name.to_owned(), source })?;
                view.apply(fact);
                position = entry.position;
            }
            if entries.len() < READ_MAX {
                return Ok((view, position));
            }
        }
    }

    /// Appends after `position`; false when another was faster.
    async fn try_append(&self, name: &str, position: u64, fact: &ModelFact) -> Result<bool, RegistryError> {
        let body = wire::encode(fact);
        let digest = Digest::of(&body);
        let bytes = digest.as_bytes();
        let token = u64::from_be_bytes(bytes[..8].try_into().expect("a digest has 32 bytes"));
        // The fact is in the artifact store before it is in the log, so a log can be made from artifacts.
        self.artifacts.put(body.clone().into()).await?;
        match self.state.log_append(&format!("{PREFIX}{name}"), position + 1, token, body).await {
            Ok(()) => Ok(true),
            Err(StateError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn no_alias(view: &ModelView, alias: &str) -> RegistryError {
    let known = view.aliases.keys().cloned().collect();
    RegistryError::NoAlias { name: view.name.clone(), alias: alias.to_owned(), known }
}

/// Whether an alias points to the version, or was moved there on behalf of the same registration before.
fn is_where_it_belongs(view: &ModelView, alias: &str, version: u64, by: &str) -> bool {
    let moved = |moved: &AliasMove| moved.alias == alias && moved.to == version && moved.by == by;
    view.aliases.get(alias) == Some(&version) || view.moves.iter().any(moved)
}

fn alias_move(view: &ModelView, alias: &str, to: u64, by: &str, why: &str, at: Timestamp) -> ModelFact {
    ModelFact::AliasMoved(AliasMove {
        at,
        by: by.to_owned(),
        why: why.to_owned(),
        alias: alias.to_owned(),
        from: view.aliases.get(alias).copied(),
        to,
        rollback: false,
    })
}
