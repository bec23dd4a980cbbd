//! Connections: one that all calls share, and some that wait.
//!
//! A connection is believed only after the server said which life it is in, and it is given up after any
//! error; so whatever came over one connection came from one life of the store. Opening one counts against
//! the time of the call that needs it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use gristmill_protocol::limits::STORE_CALL_MS;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::super::{StateError, StoreId};
use super::scripts::Call;
use super::server::Server;

/// How long a call may take, a new connection included.
const CALL: Duration = Duration::from_millis(STORE_CALL_MS);
/// Waiting connections that are kept for the next wait. An owner has one wait at a time.
const IDLE_MAX: usize = 4;

/// Is told of each call of the server, and must return at once. Waits for what is to come aren't calls.
pub trait ObserveCalls: fmt::Debug + Send + Sync {
    /// A call to do `verb` was answered, or failed, after so long; opening a connection counts.
    fn called(&self, verb: &'static str, is_answered: bool, took: Duration);
}

/// One thing to ask of the server.
pub(super) enum Ask {
    Command(Cmd),
    Script(Call),
}

/// A connection to one life of the store.
struct Link {
    connection: MultiplexedConnection,
    store: StoreId,
}

/// Where the server is.
pub(super) struct Address {
    client: Client,
    allow_unsafe: bool,
    observer: Option<Arc<dyn ObserveCalls>>,
}

/// The connections of one [`super::RedisState`].
pub(super) struct Links {
    address: Arc<Address>,
    shared: Mutex<Option<Arc<Link>>>,
    /// Held by whoever opens the shared connection, so that one is opened at a time.
    opening: tokio::sync::Mutex<()>,
    idle: Mutex<Vec<Link>>,
}

/// A server that can't be asked just now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotReady(&'static str);

impl Address {
    pub(super) fn new(
        url: &str,
        allow_unsafe: bool,
        observer: Option<Arc<dyn ObserveCalls>>,
    ) -> Result<Address, StateError> {
        // TLS needs one provider a process; if there is one already, it is as good.
        if url.starts_with("rediss:") {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // Without `nodelay` a small call waits for the acknowledgement of the one before, for up to 40 ms.
        let client = url
            .into_connection_info()
            .and_then(|info| Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true))))
            .map_err(|error| StateError::Unsuitable {
                what: "the address of the Redis server".to_owned(),
                advice: format!("write it as `redis://host:port/` ({error})"),
            })?;
        Ok(Address { client, allow_unsafe, observer })
    }

    async fn open(&self, verb: &'static str) -> Result<Link, StateError> {
        // Every wait for an answer has a limit of its own here.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let failed = |error| unavailable(verb, error);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        let (info, fsync): (Value, Option<Value>) = {
            let (mut one, mut two) = (connection.clone(), connection.clone());
            let (info, mut config) = (redis::cmd("INFO"), redis::cmd("CONFIG"));
            config.arg("GET").arg("appendfsync");
            let (info, config) = tokio::join!(info.query_async(&mut one), config.query_async(&mut two));
            // Servers that others run often keep their settings to themselves.
            (info.map_err(failed)?, config.ok())
        };
        let server = Server::new(&info, fsync);
        if let Some(reason) = server.not_ready() {
            return Err(unavailable(verb, NotReady(reason)));
        }
        server.check(self.allow_unsafe)?;
        let store = server.store().ok_or_else(|| unavailable(verb, NotReady("the server doesn't say its `run_id`")))?;
        Ok(Link { connection, store })
    }

    /// Opens another connection. A server that won't do any more may be put right; until then there is none.
    async fn reopen(&self, verb: &'static str) -> Result<Link, StateError> {
        self.open(verb).await.map_err(|error| match error {
            error @ StateError::Unsuitable { .. } => unavailable(verb, error),
            other => other,
        })
    }
}

impl Links {
    pub(super) fn new(address: Arc<Address>) -> Links {
        Links { address, shared: Mutex::default(), opening: tokio::sync::Mutex::default(), idle: Mutex::default() }
    }

    /// Connections of their own to the same server.
    pub(super) fn another(&self) -> Links {
        Links::new(Arc::clone(&self.address))
    }

    /// Opens the shared connection, to find out whether the server will do.
    pub(super) async fn connect(&self, verb: &'static str) -> Result<(), StateError> {
        let opened = tokio::time::timeout(CALL, self.address.open(verb)).await;
        let link = opened.map_err(|elapsed| unavailable(verb, elapsed))??;
        *lock(&self.shared) = Some(Arc::new(link));
        Ok(())
    }

    /// Asks one thing.
    pub(super) async fn ask(&self, verb: &'static str, ask: Ask) -> Result<Value, StateError> {
        let (mut answers, _) = self.ask_all(verb, vec![ask]).await?;
        answers.pop().ok_or_else(|| StateError::Damaged { verb, detail: "there is no answer".to_owned() })
    }

    /// Asks several things at once over one connection, and says which life of the store answered.
    pub(super) async fn ask_all(
        &self,
        verb: &'static str,
        asks: Vec<Ask>,
    ) -> Result<(Vec<Value>, StoreId), StateError> {
        let began = Instant::now();
        let answers = self.ask_before(began + CALL, verb, &asks).await;
        if let Some(observer) = &self.address.observer {
            observer.called(verb, answers.is_ok(), began.elapsed());
        }
        answers
    }

    async fn ask_before(
        &self,
        end: Instant,
        verb: &'static str,
        asks: &[Ask],
    ) -> Result<(Vec<Value>, StoreId), StateError> {
        let opened = tokio::time::timeout_at(end, self.link(verb)).await;
        let link = opened.map_err(|elapsed| unavailable(verb, elapsed))??;
        let answers = try_join_all(asks.iter().map(|ask| link.ask(verb, ask)));
        let answers = match tokio::time::timeout_at(end, answers).await {
            Ok(answers) => answers,
            Err(elapsed) => Err(unavailable(verb, elapsed)),
        };
        if answers.is_err() {
            self.give_up(&link);
        }
        Ok((answers?, link.store))
    }

    /// Asks something that the server may answer as late as `wait` from now, beside all other calls.
    pub(super) async fn wait(&self, verb: &'static str, command: &Cmd, wait: Duration) -> Result<Value, StateError> {
        let idle = lock(&self.idle).pop();
        let link = match idle {
            Some(link) => link,
            None => {
                let opened = tokio::time::timeout(CALL, self.address.reopen(verb)).await;
                opened.map_err(|elapsed| unavailable(verb, elapsed))??
            }
        };
        // Dropped with the future that waits, or after an error, the connection is closed.
        let mut connection = link.connection.clone();
        let answer = tokio::time::timeout(wait + CALL, command.query_async(&mut connection)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| failed(verb, error)),
            Err(elapsed) => Err(unavailable(verb, elapsed)),
        };
        let mut idle = lock(&self.idle);
        if answer.is_err() {
            // The others are to the same life of the server.
            idle.clear();
        } else if idle.len() < IDLE_MAX {
            idle.push(link);
        }
        answer
    }

    /// The shared connection; opens it where there is none.
    async fn link(&self, verb: &'static str) -> Result<Arc<Link>, StateError> {
        if let Some(link) = self.open_link() {
            return Ok(link);
        }
        let _opening = self.opening.lock().await;
        if let Some(link) = self.open_link() {
            return Ok(link);
        }
        let link = Arc::new(self.address.reopen(verb).await?);
        *lock(&self.shared) = Some(Arc::clone(&link));
        Ok(link)
    }

    fn open_link(&self) -> Option<Arc<Link>> {
        lock(&self.shared).clone()
    }

    /// Lets the next call open a new connection, and those that wait as well: the server may be another one.
    fn give_up(&self, link: &Arc<Link>) {
        let mut shared = lock(&self.shared);
        if shared.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
            *shared = None;
            lock(&self.idle).clear();
        }
    }
}

impl Link {
    async fn ask(&self, verb: &'static str, ask: &Ask) -> Result<Value, StateError> {
        let mut connection = self.connection.clone();
        let answer = match ask {
            Ask::Command(command) => command.query_async(&mut connection).await,
            Ask::Script(call) => match call.by_hash().query_async(&mut connection).await {
                // Nothing was done: a server that was started anew doesn't know the scripts yet.
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    call.by_text().query_async(&mut connection).await
                }
                answer => answer,
            },
        };
        answer.map_err(|error| failed(verb, error))
    }
}

/// No code runs while these locks are held that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(verb: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StateError {
    StateError::Unavailable { verb, source: Box::new(source) }
}

/// A key of another type isn't ours, and asking again doesn't help. All else (no memory, no disk, a script that
/// the server broke off, a failover) may be over the next time.
fn failed(verb: &'static str, error: RedisError) -> StateError {
    if error.to_string().contains("WRONGTYPE") {
        return StateError::Damaged { verb, detail: error.to_string() };
    }
    unavailable(verb, error)
}
