//! Private RabbitMQ, Redis and S3 servers, and the program on them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, Said};

/// What is waited for comes within seconds; only a fault can reach this.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Private servers in a folder, stopped when dropped.
pub struct Servers {
    folder: tempfile::TempDir,
    pub environment: Vec<(String, String)>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/servers")
}

impl Servers {
    pub fn start() -> Servers {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new(script()).arg("start").arg(folder.path()).output().expect("the script starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(folder.path().join("env")).expect("what the servers are known by");
        let assignment = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
        };
        Servers { environment: text.lines().filter_map(assignment).collect(), folder }
    }

    /// The program on these servers.
    pub fn command(&self, place: &Place, arguments: &[&str]) -> Command {
        let mut command = place.command(arguments);
        command.envs(self.environment.iter().cloned());
        command
    }

    pub fn gristmill(&self, place: &Place, arguments: &[&str]) -> Said {
        Said::of(self.command(place, arguments).output().expect("the program starts"))
    }

    /// Runs the program, which must succeed; what it printed as JSON.
    pub fn json(&self, place: &Place, arguments: &[&str]) -> Value {
        let said = self.gristmill(place, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
        said.json()
    }

    pub fn spawn(&self, place: &Place, arguments: &[&str]) -> Process {
        let mut command = self.command(place, arguments);
        Process(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the program starts"))
    }

    pub fn rabbitmqctl(&self, arguments: &[&str]) {
        self.script(&[&["rabbitmqctl", self.folder_text()], arguments].concat());
    }

    /// Kills a server and starts it again.
    pub fn restart(&self, name: &str) {
        self.script(&["stop-one", name, self.folder_text(), "--kill"]);
        self.script(&["start-one", name, self.folder_text()]);
    }

    fn script(&self, arguments: &[&str]) {
        let output = Command::new(script()).args(arguments).output().expect("the script starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn folder_text(&self) -> &str {
        self.folder.path().to_str().expect("a path in UTF-8")
    }

    /// Starts a process that says on its standard error when it is ready, and waits until it does.
    pub fn spawn_ready(&self, place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = self.command(place, arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().expect("the program starts"));
        let stderr = process.0.stderr.take().expect("it is piped");
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{line}");
                if line.contains("is ready") {
                    // Said once; whoever waited may have gone.
                    ready.send(()).ok();
                }
            }
        });
        is_ready.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{arguments:?} isn't ready"));
        process
    }

    /// Waits until so many workers are known.
    pub fn wait_for_workers(&self, place: &Place, count: usize) {
        let wanted = format!("{count} worker");
        wait_for("the workers", || {
            let said = self.gristmill(place, &["doctor"]);
            said.stdout.contains(&wanted).then_some(())
        });
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // What it says when it fails is on the screen; the test has ended.
        Command::new(script()).arg("stop").arg(self.folder.path()).stdout(Stdio::null()).status().ok();
    }
}

/// A process that is killed when dropped.
pub struct Process(pub Child);

impl Process {
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.0.id().to_string()).status();
        assert!(status.expect("kill starts").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Looks again and again until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} didn't come within {PATIENCE:?}");
        std::thread::yield_now();
    }
}
