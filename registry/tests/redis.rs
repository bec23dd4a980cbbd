//! The registry over Redis: many writers of one model, and a server that forgets everything.
//!
//! Starts a `redis-server` of its own, so it needs that program alone.

#![cfg(feature = "redis")]

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::state::redis::{RedisOptions, RedisState};
use gristmill_protocol::Timestamp;
use gristmill_registry::{Act, Closely, Registration, Registry};
use support::{ann, unstored};
use tempfile::TempDir;

const WRITERS: u64 = 64;
/// A limit that only a bug can reach.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a folder of its own, ended when it is dropped.
struct Server {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    async fn start() -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("can't start `redis-server` ({error}): install the package `redis-server`"));
        let end = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < end, "`redis-server` doesn't take connections on port {port}");
            ticks.tick().await;
        }
        Server { folder, port, child }
    }

    async fn registry(&self, prefix: &str) -> Registry {
        let options = RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::default() };
        let url = format!("redis://127.0.0.1:{}/", self.port);
        let state = RedisState::connect(&url, options).await.expect("the server will do");
        let artifacts = DirectoryArtifacts::open(&self.folder.path().join("artifacts")).expect("it opens");
        Registry::new(Arc::new(state), Arc::new(artifacts))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_get_numbers_without_gaps_and_the_registry_outlives_the_server() {
    use gristmill_backends::artifacts::Artifacts as _;
    let server = Server::start().await;
    let artifacts = DirectoryArtifacts::open(&server.folder.path().join("artifacts")).expect("it opens");
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let bytes = format!("model of writer {writer}");
        artifacts.put(bytes.clone().into()).await.expect("put");
        // A registry and a connection each: nothing but the server keeps them apart.
        let registry = server.registry("one").await;
        tasks.push(tokio::spawn(async move {
            let act = Act { by: format!("writer {writer}"), at: Timestamp(5), ..Act::default() };
            registry.on_behalf(act).register("m", Registration::of(unstored(&bytes))).await.expect("registered").version
        }));
    }
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.expect("it ends"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=WRITERS).collect::<Vec<_>>());

    let registry = server.registry("one").await;
    registry.on_behalf(ann(9)).set_alias("m", "champion", 7).await.expect("set");
    let verified = registry.verify(Closely { read_artifacts: true }).await.expect("verified");
    assert_eq!((verified.damages, verified.facts, verified.uncopied), (vec![], WRITERS + 1, 0));

    // Other keys of the same server are as good as a server that is new.
    let reborn = server.registry("two").await;
    assert_eq!(reborn.rebuild().await.expect("rebuilt").facts, WRITERS + 1);
    assert_eq!(reborn.model("m").await.expect("there"), registry.model("m").await.expect("there"));
}
