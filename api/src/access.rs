//! Who is asking, and what they may do: deny by default.
//!
//! A token is `gmt_`, its id, `_` and a secret of 256 random bits; what is kept is the secret's SHA-256 (a random secret
//! needs no slow hash). A token has a role and namespaces. While no token was ever made, a server that listens to this
//! machine alone takes everybody for an admin, so that one person on a laptop needs none; any other asks for one always.
//!
//! What is changed and what is denied is written to the audit (`audit.rs`), with the token's name, never the token.

mod audit;
mod guard;
mod tokens;

pub(crate) use audit::Audit;
pub use guard::MlflowCaller;
pub(crate) use guard::{COOKIE, guard, guard_mlflow};
pub use tokens::{TokenError, Tokens};

use gristmill_protocol::api::Role;

use crate::refusal::Refusal;
use gristmill_protocol::ErrorCode;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody may ask.
    Nothing,
    /// This role, in the namespaces that the handler finds in the request.
    Role(Role),
    /// This role, and a token for all namespaces: what is seen or changed belongs to the whole cluster.
    Cluster(Role),
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// In whose name things are done.
    pub name: String,
    pub role: Role,
    /// Nothing means all.
    pub namespaces: Option<Vec<String>>,
    /// Whether no token was asked for.
    pub is_anonymous: bool,
}

impl Caller {
    /// Whoever uses a server that asks nobody.
    pub(crate) fn local(name: &str) -> Caller {
        Caller { name: name.to_owned(), role: Role::Admin, namespaces: None, is_anonymous: true }
    }

    /// Whether it may see what is in a namespace.
    pub fn sees(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|all| all.iter().any(|one| one == namespace))
    }

    /// The namespaces whose things are listed, in order: the one that is asked for, else the caller's, else all at once.
    pub(crate) fn listed(&self, asked: Option<&str>) -> Result<Vec<Option<String>>, Refusal> {
        match (asked, &self.namespaces) {
            (Some(name), _) => {
                self.check(name)?;
                Ok(vec![Some(name.to_owned())])
            }
            (None, None) => Ok(vec![None]),
            (None, Some(own)) => {
                let mut own: Vec<Option<String>> = own.iter().cloned().map(Some).collect();
                // As keys of the store sort: `a-b/x` before `a/x`.
                own.sort_by_key(|name| name.as_ref().map(|name| format!("{name}/")));
                own.dedup();
                Ok(own)
            }
        }
    }

    /// Refuses work in a namespace that isn't the caller's.
    pub fn check(&self, namespace: &str) -> Result<(), Refusal> {
        match self.sees(namespace) {
            true => Ok(()),
            false => {
                Err(Refusal::new(ErrorCode::Denied, format!("`{}` may not work in namespace `{namespace}`", self.name)))
            }
        }
    }

    /// Refuses what the caller may not do.
    fn meets(&self, need: Need) -> Result<(), Refusal> {
        let (role, everywhere) = match need {
            Need::Nothing => return Ok(()),
            Need::Role(role) => (role, false),
            Need::Cluster(role) => (role, true),
        };
        if self.role < role {
            let text = format!("`{}` is a {}; this takes a {}", self.name, self.role.as_str(), role.as_str());
            return Err(Refusal::new(ErrorCode::Denied, text));
        }
        if everywhere && self.namespaces.is_some() {
            let text = format!("`{}` has some namespaces only; this is what all of them share", self.name);
            return Err(Refusal::new(ErrorCode::Denied, text));
        }
        Ok(())
    }
}
