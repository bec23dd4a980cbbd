//! A real server over a home of its own, and a plain HTTP client.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use gristmill_api::{Api, ApiSettings, Scaled, ServerSettings, Stores, Tokens, router, serve};
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::broker::dead_letters::NoDeadLetters;
use gristmill_backends::state::State;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_pools::policy::Rules;
use gristmill_protocol::api::{NewToken, Role};
use gristmill_registry::Registry;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server, as long as it is held.
pub struct Server {
    pub state: Arc<dyn State>,
    pub address: SocketAddr,
    pub tokens: Tokens,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Option<oneshot::Sender<()>>,
    folder: tempfile::TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The code of the error that it says.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().expect("an error has a code").to_owned()
    }
}

impl Server {
    /// One that listens to this machine alone.
    pub async fn start() -> Server {
        Server::with(true).await
    }

    /// One that asks everybody for a token, as those that listen to others do.
    pub async fn for_others() -> Server {
        Server::with(false).await
    }

    async fn with(is_local: bool) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let home = EmbeddedState::open(folder.path(), Synchronous::Normal).expect("a home");
        let state: Arc<dyn State> = Arc::new(home);
        let artifacts = DirectoryArtifacts::open(&folder.path().join("artifacts")).expect("a store");
        let artifacts = Arc::new(artifacts);
        let registry = Registry::new(state.clone(), artifacts.clone());
        let settings = ApiSettings {
            is_local,
            local_name: "local".to_owned(),
            is_encrypted: false,
            trace_url: Some("https://jaeger/trace/{trace}".to_owned()),
        };
        let dead_letters = Arc::new(NoDeadLetters);
        let stores =
            Stores { state: state.clone(), artifacts, registry, dead_letters, serving: None, scaled: scaled() };
        let api = Arc::new(Api::new(stores, settings));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(&api, None);
        tokio::spawn(async move {
            let until = async {
                stopped.await.ok();
                api.end().await;
            };
            serve(listener, router, ServerSettings::default(), until).await;
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Server { tokens: Tokens::new(state.clone()), state, address, client, stop: Some(stop), folder }
    }

    /// A token with a role, for these namespaces.
    pub async fn token(&self, name: &str, role: Role, namespaces: &[&str]) -> String {
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let new = NewToken { name: name.to_owned(), role, namespaces, expires_days: None };
        self.tokens.create(new, "test").await.expect("a token").token
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, None, &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, None, Some(body), &[]).await
    }

    /// Any request.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).expect("a request");
        let response = self.client.request(request).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        // A stream has no end; that it began is what is asked.
        let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = match is_stream {
            true => Bytes::new(),
            false => response.into_body().collect().await.expect("a body").to_bytes(),
        };
        Answer { status, headers, body }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
    }
}

/// Rules of one pool.
fn scaled() -> Scaled {
    let rules = Rules { min: 0, max: 10, slots: 2, drain_ms: 10_000, start_up_ms: 1_000, idle_ms: 30_000 };
    Scaled::new([("default".to_owned(), rules)].into())
}
