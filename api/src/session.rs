//! Who am I; signing in with a browser; tokens and the audit.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::{Extension, Json};
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::{AuditItem, MadeToken, NewToken, Page, Role, SignIn, TokenItem, WhoAmI};

use crate::access::COOKIE;
use crate::request::{Asked, Body, Named, Nothing, Paged, cursor, limit};
use crate::{Api, Caller, Refusal, TokenError};

/// Seconds after which a browser has to sign in again: a working day.
const SESSION_SECONDS: u32 = 12 * 60 * 60;

/// `GET /v1/whoami`
pub(crate) async fn whoami(Extension(caller): Extension<Caller>, Asked(Nothing {}): Asked<Nothing>) -> Json<WhoAmI> {
    Json(WhoAmI {
        name: caller.name,
        role: caller.role,
        namespaces: caller.namespaces.unwrap_or_else(|| vec!["*".to_owned()]),
        anonymous: caller.is_anonymous,
    })
}

/// `POST /v1/session`
pub(crate) async fn sign_in(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(sign_in): Body<SignIn>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), Refusal> {
    let caller = api.tokens.caller(&sign_in.token).await?;
    if caller.is_none() {
        api.audit.denied("-", "POST /v1/session", 401).await?;
        return Err(Refusal::unknown_caller("the token isn't known, was revoked or has expired"));
    }
    Ok((StatusCode::NO_CONTENT, [cookie(&api, &sign_in.token, SESSION_SECONDS)?]))
}

/// `DELETE /v1/session`
pub(crate) async fn sign_out(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), Refusal> {
    Ok((StatusCode::NO_CONTENT, [cookie(&api, "", 0)?]))
}

fn cookie(api: &Api, token: &str, seconds: u32) -> Result<(HeaderName, HeaderValue), Refusal> {
    let secure = if api.settings.is_encrypted { "; Secure" } else { "" };
    let text = format!("{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut value =
        HeaderValue::try_from(text).map_err(|_| Refusal::bad_input("a token is plain text without spaces"))?;
    value.set_sensitive(true);
    Ok((header::SET_COOKIE, value))
}

/// `GET /v1/tokens`
pub(crate) async fn tokens(
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<TokenItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let items = api.tokens.list(asked.cursor.as_deref().unwrap_or(""), limit).await?;
    let next = (items.len() == limit).then(|| items.last().map(|token| token.id.clone())).flatten();
    Ok(Json(Page { items, next }))
}

/// `POST /v1/tokens`
pub(crate) async fn create_token(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Refusal> {
    // From the first token on everybody needs one: the first has to be able to make others.
    if caller.is_anonymous && (new.role != Role::Admin || !new.namespaces.iter().any(|namespace| namespace == "*")) {
        return Err(Refusal::new(ErrorCode::Conflict, "the first token must be an admin's, for all namespaces")
            .hint("from the first token on everybody needs one; make yours first"));
    }
    Ok((StatusCode::CREATED, Json(api.tokens.create(new, &caller.name).await?)))
}

/// `DELETE /v1/tokens/{id}`
pub(crate) async fn revoke_token(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<StatusCode, Refusal> {
    api.tokens.revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/audit`: the latest first.
pub(crate) async fn audit(
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<AuditItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let (items, next) = api.audit.read(cursor(asked.cursor.as_deref())?, limit).await?;
    Ok(Json(Page { items, next: next.map(|place| place.to_string()) }))
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Refusal {
        match error {
            TokenError::Bad(text) => Refusal::bad_input(text),
            TokenError::None(id) => Refusal::not_found(format!("token `{id}`")),
            TokenError::State(error) => error.into(),
            error @ TokenError::Damaged { .. } => Refusal::new(ErrorCode::Internal, error.to_string()),
        }
    }
}
