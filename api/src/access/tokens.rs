//! Tokens: documents of the state that hold a hash, a role and namespaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gristmill_backends::state::{State, StateError};
use gristmill_protocol::api::{MadeToken, NewToken, Role, TokenItem};
use gristmill_protocol::pipeline::names;
use gristmill_protocol::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::Caller;

const TOKENS: &str = "token/";
/// The document that says that there was a token.
const MADE: &str = "tokens-made";
const PREFIX: &str = "gmt_";
/// Hexadecimal digits of an id: 64 bits, so that ids don't meet.
const ID_DIGITS: usize = 16;
/// Tokens that there may be: more are a sign of tokens made by a program and never revoked.
const TOKENS_MAX: usize = 10_000;
/// How long what was read of a token holds: a revoked one is refused after this.
const FRESH: Duration = Duration::from_secs(1);
/// Tokens that are remembered.
const REMEMBERED_MAX: usize = 10_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const EXPIRES_DAYS_MAX: u32 = 3_650;

/// Why a token can't be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{0}")]
    Bad(String),
    #[error("there is no token `{0}`")]
    None(String),
    #[error("token `{id}` can't be read")]
    Damaged { id: String, source: serde_json::Error },
    #[error(transparent)]
    State(#[from] StateError),
}

/// A token as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TokenDocument {
    /// Of the secret.
    hash: Digest,
    name: String,
    role: Role,
    namespaces: Vec<String>,
    created: Timestamp,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

/// The tokens in the state.
pub struct Tokens {
    state: Arc<dyn State>,
    /// What was read lately, by id; an absent token too.
    known: Mutex<HashMap<String, (Instant, Option<TokenDocument>)>>,
    /// Whether there were any, and when that was looked at.
    any: Mutex<Option<(Instant, bool)>>,
}

impl Tokens {
    pub fn new(state: Arc<dyn State>) -> Tokens {
        Tokens { state, known: Mutex::default(), any: Mutex::default() }
    }

    /// Makes a token.
    pub async fn create(&self, new: NewToken, by: &str) -> Result<MadeToken, TokenError> {
        check(&new)?;
        if self.state.keys(TOKENS, "", TOKENS_MAX).await?.len() >= TOKENS_MAX {
            return Err(TokenError::Bad(format!("there are {TOKENS_MAX} tokens already; revoke some")));
        }
        let created = self.state.clock().await?.now;
        let (id, secret) = (random_hex(ID_DIGITS / 2), random_hex(32));
        let document = TokenDocument {
            hash: Digest::of(secret.as_bytes()),
            name: new.name,
            role: new.role,
            namespaces: new.namespaces,
            created,
            by: by.to_owned(),
            expires: new.expires_days.map(|days| created.plus_ms(u64::from(days) * DAY_MS)),
        };
        let body = serde_json::to_vec(&document).expect("a token is plain data");
        // Before the token itself: from now on everybody needs one, whatever becomes of this.
        self.note_made().await?;
        self.state.put(&format!("{TOKENS}{id}"), 0, body).await?;
        *self.any.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(MadeToken { token: format!("{PREFIX}{id}_{secret}"), id })
    }

    /// The tokens after `after`, by id.
    pub async fn list(&self, after: &str, limit: usize) -> Result<Vec<TokenItem>, TokenError> {
        let keys = self.state.keys(TOKENS, &format!("{TOKENS}{after}"), limit).await?;
        let mut items = Vec::with_capacity(keys.len());
        for key in keys {
            let id = key.trim_start_matches(TOKENS).to_owned();
            let Some((_, document)) = self.read(&id).await? else { continue };
            let TokenDocument { name, role, namespaces, created, by, expires, .. } = document;
            let (created_ms, expires_ms) = (created.0, expires.map(|at| at.0));
            items.push(TokenItem { id, name, role, namespaces, created_ms, by, expires_ms });
        }
        Ok(items)
    }

    /// Revokes a token: this server refuses it at once, others within a second.
    pub async fn revoke(&self, id: &str) -> Result<(), TokenError> {
        let Some((version, _)) = self.read(id).await? else { return Err(TokenError::None(id.to_owned())) };
        self.state.delete(&format!("{TOKENS}{id}"), version).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    /// Whether a token was ever made: from then on everybody needs one, though it be revoked.
    pub(super) async fn are_needed(&self) -> Result<bool, TokenError> {
        let known = *self.any.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, any)) = known
            && (any || at.elapsed() < FRESH)
        {
            return Ok(any);
        }
        let any = self.state.get(MADE).await?.is_some() || !self.state.keys(TOKENS, "", 1).await?.is_empty();
        *self.any.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), any));
        Ok(any)
    }

    /// Writes down that there was a token.
    async fn note_made(&self) -> Result<(), TokenError> {
        match self.state.put(MADE, 0, b"{}".to_vec()).await {
            Ok(_) | Err(StateError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whose token this is; nobody's if it was never made, was revoked or has expired.
    pub(crate) async fn caller(&self, token: &str) -> Result<Option<Caller>, TokenError> {
        let parts = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((id, secret)) = parts.filter(|(id, _)| is_id(id)) else { return Ok(None) };
        let Some(document) = self.remembered(id).await? else { return Ok(None) };
        // Hashes are compared, so the time that it takes tells nothing of the secret.
        if Digest::of(secret.as_bytes()) != document.hash {
            return Ok(None);
        }
        if let Some(expires) = document.expires
            && self.state.clock().await?.now >= expires
        {
            return Ok(None);
        }
        let everywhere = document.namespaces.iter().any(|namespace| namespace == "*");
        let namespaces = (!everywhere).then_some(document.namespaces);
        Ok(Some(Caller { name: document.name, role: document.role, namespaces, is_anonymous: false }))
    }

    async fn remembered(&self, id: &str) -> Result<Option<TokenDocument>, TokenError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some((at, document)) = known
            && at.elapsed() < FRESH
        {
            return Ok(document);
        }
        let document = self.read(id).await?.map(|(_, document)| document);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(id.to_owned(), (Instant::now(), document.clone()));
        Ok(document)
    }

    async fn read(&self, id: &str) -> Result<Option<(u64, TokenDocument)>, TokenError> {
        if !is_id(id) {
            return Ok(None);
        }
        let Some(found) = self.state.get(&format!("{TOKENS}{id}")).await? else { return Ok(None) };
        let damaged = |source| TokenError::Damaged { id: id.to_owned(), source };
        let document = serde_json::from_slice(&found.body).map_err(damaged)?;
        Ok(Some((found.version, document)))
    }
}

fn check(new: &NewToken) -> Result<(), TokenError> {
    let bad = |text: String| Err(TokenError::Bad(text));
    if !names::is_name(&new.name) {
        return bad(format!("`{}` can't be a token's name: {}", new.name, names::NAME_RULE));
    }
    if new.namespaces.is_empty() {
        return bad("a token needs a namespace; `*` means all".to_owned());
    }
    if let Some(wrong) = new.namespaces.iter().find(|name| *name != "*" && !names::is_name(name)) {
        return bad(format!("`{wrong}` can't be a namespace: {}", names::NAME_RULE));
    }
    match new.expires_days {
        Some(days) if !(1..=EXPIRES_DAYS_MAX).contains(&days) => {
            bad(format!("a token lasts from 1 to {EXPIRES_DAYS_MAX} days, not {days}"))
        }
        _ => Ok(()),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).expect("the system's source of randomness answers");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
