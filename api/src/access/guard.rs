//! Every request passes here before its handler: who asks, from which page, with which right.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::Role;

use super::{Caller, Need, TokenError};
use crate::Api;
use crate::refusal::Refusal;

/// The cookie that a browser which has signed in sends.
pub(crate) const COOKIE: &str = "gristmill_session";

/// Lets a request through to a handler that needs this, and writes down what was changed or denied.
pub(crate) async fn guard(State((api, need)): State<(Arc<Api>, Need)>, mut request: Request, next: Next) -> Response {
    let (what, done) = (route(&request), what(&request));
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD) && need != Need::Role(Role::Viewer);
    let caller = match admit(&api, need, request.headers()).await {
        Ok(caller) => caller,
        Err((name, refusal)) => return denied(&api, &name, &what, refusal).await,
    };
    let name = caller.name.clone();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    let status = response.status();
    if status == StatusCode::FORBIDDEN {
        if let Err(error) = api.audit.denied(&name, &what, status.as_u16()).await {
            return Refusal::from(error).into_response();
        }
    } else if changes && status.is_success() && need != Need::Nothing {
        written(&api, &name, &done, status).await;
    }
    response
}

/// Writes down what was done. It is done; that it can't be written down is said, so that nobody takes the audit for whole.
async fn written(api: &Api, name: &str, what: &str, status: StatusCode) {
    if let Err(error) = api.audit.done(name, what, status.as_u16()).await {
        tracing::error!(error = &error as &dyn std::error::Error, name, what, "the audit can't be written");
    }
}

/// The same for MLflow's API, whose paths tell reading from changing and what is changed.
pub(crate) async fn guard_mlflow(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let need = mlflow_need(request.method(), request.uri().path());
    let (what, done) = (route(&request), what(&request));
    let caller = match admit(&api, need, request.headers()).await {
        Ok(caller) => caller,
        Err((name, refusal)) => return denied(&api, &name, &what, refusal).await,
    };
    if need != Need::Nothing && caller.namespaces.is_some() {
        let text = "MLflow's API shows the runs of all namespaces; it takes a token for all of them";
        return denied(&api, &caller.name, &what, Refusal::new(ErrorCode::Denied, text)).await;
    }
    // Its clients read refusals in MLflow's words.
    let name = caller.name.clone();
    if !caller.is_anonymous {
        request.extensions_mut().insert(MlflowCaller(caller.name));
    }
    let response = next.run(request).await;
    // What runs log while they run isn't an act of somebody's; what happens to models, and what goes away, is.
    let is_act = need == Need::Cluster(Role::Deployer) || done.contains("/delete") || done.contains("/restore");
    if is_act && need != Need::Role(Role::Viewer) && response.status().is_success() {
        written(&api, &name, &done, response.status()).await;
    }
    response
}

/// In whose name MLflow's API does things; the program turns it into that crate's own.
#[derive(Clone, Debug)]
pub struct MlflowCaller(pub String);

/// What a request to MLflow's API needs: reading is a viewer's, runs are a submitter's, models a deployer's.
fn mlflow_need(method: &Method, path: &str) -> Need {
    let last = path.rsplit_once('/').map_or("", |(_, last)| last);
    // Where a path ends in a name that the caller chooses, the method alone tells.
    let is_reading = matches!(*method, Method::GET | Method::HEAD)
        || (*method == Method::POST && matches!(last, "search" | "get-latest-versions"));
    match (path, is_reading) {
        ("/version" | "/health", _) => Need::Nothing,
        (_, true) => Need::Role(Role::Viewer),
        (path, false) if path.contains("/registered-models/") || path.contains("/model-versions/") => {
            Need::Cluster(Role::Deployer)
        }
        (_, false) => Need::Cluster(Role::Submitter),
    }
}

/// Who asks, if it may.
async fn admit(api: &Api, need: Need, headers: &HeaderMap) -> Result<Caller, (String, Refusal)> {
    let nobody = |refusal| ("-".to_owned(), refusal);
    if is_elsewheres(api.settings.is_local, headers) {
        let refusal = Refusal::new(ErrorCode::Denied, "requests of pages of other sites are refused");
        return Err(nobody(refusal));
    }
    let unavailable = |error: TokenError| match error {
        TokenError::State(error) => nobody(Refusal::from(error)),
        error => nobody(Refusal::new(ErrorCode::Internal, error.to_string())),
    };
    let caller = match token_of(headers) {
        Some(token) => match api.tokens.caller(token).await.map_err(unavailable)? {
            Some(caller) => caller,
            None if need == Need::Nothing => Caller::local("-"),
            None => return Err(nobody(Refusal::unknown_caller("the token isn't known, was revoked or has expired"))),
        },
        None if need == Need::Nothing => Caller::local("-"),
        None if api.settings.is_local && !api.tokens.are_needed().await.map_err(unavailable)? => {
            Caller::local(&api.settings.local_name)
        }
        None => return Err(nobody(Refusal::unknown_caller("a token is needed"))),
    };
    match caller.meets(need) {
        Ok(()) => Ok(caller),
        Err(refusal) => Err((caller.name, refusal)),
    }
}

/// Answers a denial once it is written down.
async fn denied(api: &Api, name: &str, what: &str, refusal: Refusal) -> Response {
    let status = refusal.status();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        tracing::info!(name, what, status = status.as_u16(), "denied");
        if let Err(error) = api.audit.denied(name, what, status.as_u16()).await {
            return Refusal::from(error).into_response();
        }
    }
    refusal.into_response()
}

/// Method and route of a request: denials are told by those, of which there are few whatever is asked.
fn route(request: &Request) -> String {
    let route = request.extensions().get::<MatchedPath>().map_or("(no endpoint)", MatchedPath::as_str);
    format!("{} {route}", request.method())
}

/// Method and path of a request: a change is told with what it changed.
fn what(request: &Request) -> String {
    let path = request.uri().path();
    format!("{} {}", request.method(), &path[..path.floor_char_boundary(300)])
}

/// The token that a request carries: of a program in its header, of a browser in its cookie.
pub(crate) fn token_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token)
}

/// Whether a page of another site, or one under a name that was made to point here, makes a browser ask.
fn is_elsewheres(is_local: bool, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (host, origin) = (text(header::HOST), text(header::ORIGIN));
    let is_of_another_site = origin.is_some_and(|origin| origin.split_once("://").map(|(_, place)| place) != host);
    let is_renamed = is_local && host.is_some_and(|host| !is_of_this_machine(host));
    is_of_another_site || is_renamed
}

/// Whether a `Host` is this machine by an address that nobody else can give a name to.
fn is_of_this_machine(host: &str) -> bool {
    let is_loopback =
        |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || is_loopback(name) || is_loopback(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_a_header_or_a_cookie() {
        let headers = |name, value: &'static str| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        assert_eq!(token_of(&headers(header::AUTHORIZATION, "Bearer gmt_a")), Some("gmt_a"));
        assert_eq!(token_of(&headers(header::AUTHORIZATION, "bearer  gmt_a ")), Some("gmt_a"));
        assert_eq!(token_of(&headers(header::AUTHORIZATION, "Basic gmt_a")), None);
        assert_eq!(token_of(&headers(header::COOKIE, "a=b; gristmill_session=gmt_a; c=d")), Some("gmt_a"));
        assert_eq!(token_of(&HeaderMap::new()), None);
    }

    #[test]
    fn only_addresses_of_this_machine_are_this_machine() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.0.0.2", "[::1]", "[::1]:5000"] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:5000", "10.0.0.1:5000", "127.0.0.1.evil.example"] {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }

    #[test]
    fn mlflow_s_paths_tell_what_they_need() {
        let need = |method: Method, path: &str| mlflow_need(&method, path);
        let (post, get) = (Method::POST, Method::GET);
        assert_eq!(need(get.clone(), "/api/2.0/mlflow/registered-models/get"), Need::Role(Role::Viewer));
        assert_eq!(need(post.clone(), "/api/2.0/mlflow/runs/search"), Need::Role(Role::Viewer));
        assert_eq!(
            need(post.clone(), "/api/2.0/mlflow/registered-models/get-latest-versions"),
            Need::Role(Role::Viewer)
        );
        assert_eq!(need(post.clone(), "/api/2.0/mlflow/registered-models/alias"), Need::Cluster(Role::Deployer));
        assert_eq!(need(post.clone(), "/api/2.0/mlflow/model-versions/create"), Need::Cluster(Role::Deployer));
        assert_eq!(need(post, "/api/2.0/mlflow/runs/log-batch"), Need::Cluster(Role::Submitter));
        let put = Method::PUT;
        assert_eq!(need(put, "/api/2.0/mlflow-artifacts/artifacts/1/model/MLmodel"), Need::Cluster(Role::Submitter));
        let tried = [
            "DELETE /api/2.0/mlflow-artifacts/artifacts/1/list.json",
            "PUT /api/2.0/mlflow-artifacts/artifacts/get%2Fx",
        ];
        for (method, path) in tried.map(|tried| tried.split_once(' ').expect("a method")) {
            let method = method.parse().expect("a method");
            assert_eq!(need(method, path), Need::Cluster(Role::Submitter), "{path}");
        }
        assert_eq!(need(get, "/version"), Need::Nothing);
    }
}
