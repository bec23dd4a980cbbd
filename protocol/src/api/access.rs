//! Who may do what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may do; each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Submits, cancels and resumes runs; keeps pipelines; sets schedules and triggers.
    Submitter,
    /// Moves aliases, sets endpoints, requeues dead letters.
    Deployer,
    /// Makes tokens, drops dead letters, reads the audit.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Submitter, Role::Deployer, Role::Admin];

    /// The role as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Submitter => "submitter",
            Role::Deployer => "deployer",
            Role::Admin => "admin",
        }
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    pub name: String,
    pub role: Role,
    /// `*` for all.
    pub namespaces: Vec<String>,
    /// Whether there was no token, and none is needed.
    pub anonymous: bool,
}

/// A token that a browser signs in with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    pub token: String,
}

/// A token to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// In whose name things are done with it.
    pub name: String,
    pub role: Role,
    /// Namespaces that it may see and work in; `*` for all.
    pub namespaces: Vec<String>,
    /// Days until it ends by itself, 1 to 3,650. Default: it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u32>,
}

/// A token that was made. It is shown this once and kept nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeToken {
    pub id: String,
    pub token: String,
}

/// A token in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenItem {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub namespaces: Vec<String>,
    pub created_ms: u64,
    pub by: String,
    pub expires_ms: Option<u64>,
}

/// Something that was done or denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditItem {
    pub at_ms: u64,
    pub by: String,
    /// The request's method and path.
    pub what: String,
    /// The status that was answered.
    pub status: u16,
    /// How many alike there were; denials of one minute are counted together.
    pub count: u64,
}
