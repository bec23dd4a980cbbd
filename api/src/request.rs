//! What comes with a request, read strictly: an unknown field or parameter is an error, not ignored.

use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::{PAGE_DEFAULT, PAGE_MAX};
use gristmill_protocol::pipeline::names;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Refusal> {
        let body = Bytes::from_request(request, state).await.map_err(unreadable)?;
        let json = axum::Json::<T>::from_bytes(&body);
        json.map(|axum::Json(body)| Body(body)).map_err(|rejection| match rejection {
            JsonRejection::JsonDataError(error) => Refusal::bad_input(error.body_text()),
            rejection => Refusal::bad_input(format!("the body isn't valid JSON: {}", rejection.body_text())),
        })
    }
}

/// A JSON object that may be left out.
pub struct AnyBody(pub serde_json::Value);

impl<S: Send + Sync> FromRequest<S> for AnyBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<AnyBody, Refusal> {
        let body = Bytes::from_request(request, state).await.map_err(unreadable)?;
        if body.is_empty() {
            return Ok(AnyBody(serde_json::Value::Object(serde_json::Map::new())));
        }
        let value = serde_json::from_slice(&body)
            .map_err(|error| Refusal::bad_input(format!("the body isn't valid JSON: {error}")))?;
        Ok(AnyBody(value))
    }
}

fn unreadable(rejection: BytesRejection) -> Refusal {
    match rejection.status().as_u16() {
        413 => Refusal::new(ErrorCode::TooLarge, "the body is larger than this request may be"),
        _ => Refusal::bad_input(rejection.body_text()),
    }
}

/// The parameters after `?`.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Asked(asked)).map_err(|rejection| Refusal::bad_input(rejection.body_text()))
    }
}

/// A part of the path.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named<T>, Refusal> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(named)| Named(named))
            .map_err(|rejection| Refusal::bad_input(rejection.body_text()))
    }
}

/// No parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Where in a list, and how much of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paged {
    pub limit: Option<usize>,
    pub cursor: Option<String>,
}

/// Where in a list of namespaces, and how much of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub namespace: Option<String>,
    pub limit: Option<usize>,
    pub cursor: Option<String>,
}

/// In which namespace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InNamespace {
    pub namespace: Option<String>,
}

/// How many items a page is to have.
pub fn limit(asked: Option<usize>) -> Result<usize, Refusal> {
    match asked {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(Refusal::bad_input(format!("`limit` is {limit}; it is from 1 to {PAGE_MAX}"))),
    }
}

/// A cursor that this program made; anything else is refused.
pub fn cursor<T: std::str::FromStr>(asked: Option<&str>) -> Result<Option<T>, Refusal> {
    asked
        .map(|text| {
            let bad = || Refusal::bad_input("`cursor` isn't one that this list gave");
            text.parse().map_err(|_| bad().hint("leave it out to begin at the start"))
        })
        .transpose()
}

/// A namespace as somebody wrote it.
pub fn namespace(asked: Option<&str>) -> Result<String, Refusal> {
    match asked {
        None => Ok(gristmill_scheduler::message::NAMESPACE.to_owned()),
        Some(name) if names::is_name(name) => Ok(name.to_owned()),
        Some(name) => Err(Refusal::bad_input(format!("`{name}` can't be a namespace"))
            .hint("use lower-case letters, digits, `-` and `_`, a letter first")),
    }
}
