//! One request, its answer, and another try where that helps.

use std::time::Duration;

use bytes::Bytes;
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::{ErrorBody, ErrorInfo};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ClientError;

/// How long a call may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of a call that may be repeated; with the pauses between them some three seconds.
const TRIES: u32 = 5;
/// The first pause; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of an answer in JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Connections kept open for the next call.
const IDLE_MAX: usize = 64;

/// Connections to one server.
#[derive(Clone)]
pub(crate) struct Transport {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    token: Option<HeaderValue>,
    timeout: Duration,
}

/// What is sent along.
pub(crate) enum Content {
    Nothing,
    Json(Bytes),
    Bytes(Bytes),
}

impl Content {
    pub(crate) fn json(body: &impl Serialize) -> Result<Content, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Unsendable(error.to_string()))?;
        Ok(Content::Json(body.into()))
    }
}

impl Transport {
    pub(crate) fn new(url: &str) -> Result<Transport, ClientError> {
        let base = url.trim_end_matches('/').to_owned();
        let address = || ClientError::Address { url: url.to_owned() };
        let uri: Uri = base.parse().map_err(|_| address())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(address());
        }
        let tls = trusting(uri.scheme_str() == Some("https")).map_err(ClientError::Certificates)?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let pool =
            Pool::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector.wrap_connector(http));
        Ok(Transport { pool, base, token: None, timeout: TIMEOUT })
    }

    pub(crate) fn set_token(&mut self, token: &str) -> Result<(), ClientError> {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| ClientError::Unsendable("the token".to_owned()))?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(())
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// A call that is answered in JSON, tried again where that can't do anything twice.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<T, ClientError> {
        let body = self.bytes(method, path, content, ANSWER_BYTES_MAX).await?;
        self.read(path, &body)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, ClientError> {
        let body: &[u8] = if body.is_empty() { b"null" } else { body };
        serde_json::from_slice(body)
            .map_err(|error| ClientError::Answer { url: self.url(path), detail: error.to_string() })
    }

    /// A call that is answered in JSON and isn't repeated.
    pub(crate) async fn call_once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<T, ClientError> {
        let body = self.once(&method, path, &content, ANSWER_BYTES_MAX).await?;
        self.read(path, &body)
    }

    /// A call that is answered in bytes.
    pub(crate) async fn bytes(
        &self,
        method: Method,
        path: &str,
        content: Content,
        max: usize,
    ) -> Result<Bytes, ClientError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.once(&method, path, &content, max).await {
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answered => return answered,
            }
        }
        self.once(&method, path, &content, max).await
    }

    async fn once(&self, method: &Method, path: &str, content: &Content, max: usize) -> Result<Bytes, ClientError> {
        let asking = async {
            let response = self.open(method, path, content).await?;
            let status = response.status();
            let body = self.collect(path, response, max).await?;
            if status.is_success() { Ok(body) } else { Err(refused(status.as_u16(), &body)) }
        };
        let late = || ClientError::TooLate { url: self.url(path), seconds: self.timeout.as_secs() };
        tokio::time::timeout(self.timeout, asking).await.unwrap_or_else(|_| Err(late()))
    }

    /// Sends a request; the answer's body is yet to come.
    pub(crate) async fn open(
        &self,
        method: &Method,
        path: &str,
        content: &Content,
    ) -> Result<Response<Incoming>, ClientError> {
        let url = self.url(path);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let body = match content {
            Content::Nothing => Bytes::new(),
            Content::Json(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                body.clone()
            }
            Content::Bytes(body) => {
                request = request.header(CONTENT_TYPE, "application/octet-stream");
                body.clone()
            }
        };
        let request = request.body(Full::new(body)).map_err(|_| ClientError::Unsendable(url.clone()))?;
        self.pool.request(request).await.map_err(|error| ClientError::Unreachable { url, source: Box::new(error) })
    }

    async fn collect(&self, path: &str, response: Response<Incoming>, max: usize) -> Result<Bytes, ClientError> {
        match Limited::new(response.into_body(), max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(ClientError::TooLarge { url: self.url(path), max })
            }
            Err(source) => Err(ClientError::Unreachable { url: self.url(path), source }),
        }
    }

    /// What a refusal whose body is yet to come says.
    pub(crate) async fn refusal(&self, path: &str, response: Response<Incoming>) -> ClientError {
        let status = response.status().as_u16();
        match self.collect(path, response, ANSWER_BYTES_MAX).await {
            Ok(body) => refused(status, &body),
            Err(error) => error,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// TLS that trusts whom the machine trusts. It is asked for at need alone: a small container may trust nobody.
fn trusting(is_needed: bool) -> std::io::Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    let trusted = match is_needed {
        true => builder.with_native_roots()?,
        false => builder.with_root_certificates(rustls::RootCertStore::empty()),
    };
    Ok(trusted.with_no_client_auth())
}

fn refused(status: u16, body: &[u8]) -> ClientError {
    let info = serde_json::from_slice::<ErrorBody>(body).map(|body| body.error).unwrap_or_else(|_| {
        // Something between here and the server has answered in its own words.
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        ErrorInfo::new(ErrorCode::Unavailable, format!("status {status}: {text}"))
    });
    ClientError::Refused { status, info }
}

/// A part of a path, escaped.
pub(crate) fn part(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// What stands after `?`: the pairs that have a value.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if let Some(value) = value {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(&part(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_escaped() {
        assert_eq!(part("a b/ü"), "a%20b%2F%C3%BC");
        let pairs = [("status", Some("running".to_owned())), ("cursor", None), ("search", Some("a&b".to_owned()))];
        assert_eq!(query(&pairs), "?status=running&search=a%26b");
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn an_address_is_checked_before_anything_is_sent() {
        for wrong in ["", "localhost:5000", "ftp://localhost", "http://"] {
            assert!(matches!(Transport::new(wrong), Err(ClientError::Address { .. })), "{wrong}");
        }
    }
}
