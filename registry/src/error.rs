//! Why the registry couldn't do as asked, and what to try.

use gristmill_backends::artifacts::ArtifactError;
use gristmill_backends::state::StateError;
use gristmill_protocol::{Digest, ErrorCode, wire};

use crate::signature::TrustError;

/// Why the registry couldn't do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("there is no registered model `{name}`")]
    NoModel { name: String, known: Vec<String> },
    #[error("model `{name}` has no version {version}; it has {count}")]
    NoVersion { name: String, version: u64, count: usize },
    #[error("version {version} of model `{name}` was deleted")]
    VersionDeleted { name: String, version: u64 },
    #[error("model `{name}` has no alias `{alias}`")]
    NoAlias { name: String, alias: String, known: Vec<String> },
    #[error("alias `{alias}` of model `{name}` has pointed to no other version before")]
    NothingBefore { name: String, alias: String },
    #[error("`{text}` doesn't name a version; write `name@alias` or `name@3`")]
    BadReference { text: String },
    #[error("`{text}` can't be a {what}: {why}")]
    BadName { what: &'static str, text: String, why: String },
    #[error("{what} is too long; the limit is {max}")]
    TooLong { what: &'static str, max: usize },
    #[error("model `{name}` can't be used: its bytes `{digest}` aren't in the artifact store")]
    BytesMissing { name: String, digest: Digest },
    #[error("model `{name}` is written to by too many at once")]
    TooManyRaces { name: String },
    #[error("a model `{name}` is there already")]
    ModelExists { name: String },
    #[error("the name `{name}` is claimed for model `{by}`, whose renaming was broken off")]
    NameClaimed { name: String, by: String },
    #[error("the name `{name}` was a deleted model's, whose artifacts are still kept")]
    NameRetained { name: String },
    #[error("no model here mentions `{digest}`")]
    NotMentioned { digest: Digest },
    #[error("version {version} of model `{name}` is used by {by}")]
    InUse { name: String, version: u64, by: String },
    #[error("the key `{key}` was used for another request to model `{name}`")]
    KeyTaken { name: String, key: String },
    #[error("version {version} of model `{name}` can't be promoted: the gates said no: {reasons}")]
    Rejected { name: String, version: u64, reasons: String },
    #[error("the evidence `{evidence}` is about another model than version {version} of `{name}`")]
    OtherModel { name: String, version: u64, evidence: Digest },
    #[error("the evidence `{evidence}` can't be read")]
    BadEvidence { evidence: Digest, source: serde_json::Error },
    #[error("version {version} of model `{name}` can't take over: {reason}")]
    NotLoadable { name: String, version: u64, reason: String },
    #[error(transparent)]
    Untrusted(#[from] TrustError),
    #[error("the log of model `{name}` can't be read")]
    Damaged { name: String, source: wire::WireError },
    #[error("the log of model `{name}` is damaged at fact {number}: {what}")]
    BrokenChain { name: String, number: u64, what: String },
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
            RegistryError::NameClaimed { name, by } => Some(format!("rename `{by}` to `{name}` again to end it")),
            RegistryError::InUse { .. } => Some("move or remove the alias first".to_owned()),
            RegistryError::KeyTaken { .. } => Some("use a new key for a new request".to_owned()),
            RegistryError::BrokenChain { .. } | RegistryError::Damaged { .. } => {
                Some("`gristmill registry verify` lists all damage".to_owned())
            }
            RegistryError::Untrusted(error) => error.hint(),
            _ => None,
        }
    }

    /// The code that programs go by.
    pub fn code(&self) -> ErrorCode {
        match self {
            RegistryError::NoModel { .. }
            | RegistryError::NoVersion { .. }
            | RegistryError::VersionDeleted { .. }
            | RegistryError::NotMentioned { .. }
            | RegistryError::NoAlias { .. } => ErrorCode::NotFound,
            RegistryError::BadReference { .. } => ErrorCode::BadPipeline,
            RegistryError::BadName { .. } | RegistryError::BadEvidence { .. } => ErrorCode::BadInput,
            RegistryError::TooLong { .. } => ErrorCode::TooLarge,
            RegistryError::BytesMissing { .. } => ErrorCode::ArtifactMissing,
            RegistryError::NothingBefore { .. }
            | RegistryError::TooManyRaces { .. }
            | RegistryError::ModelExists { .. }
            | RegistryError::NameClaimed { .. }
            | RegistryError::NameRetained { .. }
            | RegistryError::InUse { .. }
            | RegistryError::KeyTaken { .. }
            | RegistryError::Rejected { .. }
            | RegistryError::OtherModel { .. }
            | RegistryError::NotLoadable { .. } => ErrorCode::Conflict,
            RegistryError::Untrusted(_) => ErrorCode::Denied,
            RegistryError::Damaged { .. } | RegistryError::BrokenChain { .. } => ErrorCode::ArtifactCorrupt,
            RegistryError::Artifacts(ArtifactError::Missing { .. }) => ErrorCode::ArtifactMissing,
            RegistryError::Artifacts(ArtifactError::Corrupt { .. }) => ErrorCode::ArtifactCorrupt,
            RegistryError::State(_) | RegistryError::Artifacts(_) => ErrorCode::Unavailable,
        }
    }
}
