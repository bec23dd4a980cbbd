//! Private RabbitMQ servers, and processes of this program that can be killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use lapin::{Channel, Connection, ConnectionProperties};
use tempfile::TempDir;

/// How long a signal may take that has to come, on a machine that builds something else as well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A private broker, stopped in the end.
pub struct Broker {
    folder: TempDir,
}

impl Broker {
    pub fn start() -> Broker {
        let broker = Broker { folder: tempfile::tempdir().unwrap() };
        broker.control(&["start-one", "rabbitmq"], &[]);
        broker
    }

    /// The one that tests share: which don't break it.
    pub fn shared() -> Arc<Broker> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Broker::start());
            *shared = Arc::downgrade(&broker);
            broker
        })
    }

    /// What names begin with that nobody else uses.
    pub fn prefix() -> String {
        static LAST: AtomicU64 = AtomicU64::new(0);
        format!("test{}", LAST.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs `deploy/local/servers` for this folder.
    pub fn control(&self, before: &[&str], after: &[&str]) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/servers");
        let mut command = Command::new(program);
        command.args(before).arg(self.folder.path()).args(after).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{before:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn url(&self) -> String {
        let port = std::fs::read_to_string(self.folder.path().join("rabbitmq/port")).unwrap();
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", port.trim())
    }

    /// A connection of the test's own.
    pub async fn channel(&self) -> (Connection, Channel) {
        let connection = Connection::connect(&self.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // At once, as its data goes with the folder; then what a crash leaves behind.
        self.control(&["stop-one", "rabbitmq"], &["--kill"]);
        self.control(&["stop-one", "rabbitmq"], &[]);
    }
}

/// This program once more, running one test that is ignored otherwise; killed when it is dropped.
pub struct Process(Child);

impl Process {
    pub fn start(test: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]).envs(variables.iter().copied());
        Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// As a crash would.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
pub async fn becomes(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "it never holds that {what}");
        // Looks leave the rest of the machine its time.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
