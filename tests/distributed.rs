//! The same program as many processes, over real RabbitMQ, Redis and S3.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Place, Said, small_flights};

/// What is waited for comes within seconds; only a fault can reach this.
const PATIENCE: Duration = Duration::from_secs(90);

/// Private servers in a folder, stopped when dropped.
struct Servers {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/servers")
}

impl Servers {
    fn start() -> Servers {
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

    fn get(&self, name: &str) -> &str {
        let found = self.environment.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("the servers don't say {name}")).1
    }

    /// The program on these servers.
    fn command(&self, place: &Place, arguments: &[&str]) -> Command {
        let mut command = place.command(arguments);
        command.envs(self.environment.iter().cloned());
        command
    }

    fn gristmill(&self, place: &Place, arguments: &[&str]) -> Said {
        Said::of(self.command(place, arguments).output().expect("the program starts"))
    }

    fn json(&self, place: &Place, arguments: &[&str]) -> Value {
        let said = self.gristmill(place, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
        said.json()
    }

    fn spawn(&self, place: &Place, arguments: &[&str]) -> Process {
        let mut command = self.command(place, arguments);
        Process(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the program starts"))
    }

    /// Waits until so many workers are known.
    fn wait_for_workers(&self, place: &Place, count: usize) {
        let wanted = format!("{count} workers");
        wait_for("the workers", || {
            let said = self.gristmill(place, &["doctor"]);
            said.stdout.contains(&wanted).then_some(())
        });
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // What it says when it fails is on the screen; the test has ended.
        Command::new(script()).arg("stop").arg(self.folder.path()).status().ok();
    }
}

/// A process that is killed when dropped.
struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
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

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} didn't come within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

fn digest(summary: &Value) -> String {
    summary["models"][0]["digest"].as_str().unwrap_or_else(|| panic!("a model in {summary}")).to_owned()
}

/// One scheduler and two workers, then two and four, make the same model as one process with no server; a
/// caller's files go up and come down; every command works as it does without servers.
#[test]
fn flights_on_servers_give_the_model_that_one_process_gives() {
    let servers = Servers::start();
    let alone = Place::new();
    small_flights(&alone, &[1, 2], 10);
    let expected = alone.json(&["run", "flights.yaml", "--json"]);

    let place = Place::new();
    small_flights(&place, &[1, 2], 10);
    let elsewhere = Place::new();
    let mut processes = vec![
        servers.spawn(&elsewhere, &["scheduler"]),
        servers.spawn(&elsewhere, &["worker", "--slots", "1"]),
        servers.spawn(&elsewhere, &["worker", "--slots", "1"]),
    ];
    servers.wait_for_workers(&place, 2);
    let first = servers.json(&place, &["run", "flights.yaml", "--json"]);
    assert_eq!(first["status"], "succeeded");
    assert_eq!(digest(&first), digest(&expected));
    let scores = |place: &Place| std::fs::read_to_string(place.path().join("out/scores.csv")).expect("scores");
    assert!(scores(&place) == scores(&alone), "the scores are those of one process");
    assert!(!elsewhere.path().join("out").exists(), "workers write nothing to their own disks");

    for _ in 0..1 {
        processes.push(servers.spawn(&elsewhere, &["scheduler"]));
    }
    for _ in 0..2 {
        processes.push(servers.spawn(&elsewhere, &["worker", "--slots", "1"]));
    }
    servers.wait_for_workers(&place, 4);
    // A worker is killed in the middle; nobody notices.
    let submitted = servers.json(&place, &["submit", "flights.yaml", "--no-cache", "--json"]);
    let run = submitted["run"].as_str().expect("a run").to_owned();
    wait_for("the first task", || {
        let shown = servers.json(&place, &["show", &run, "--json"]);
        (shown["steps"]["flights"]["status"] != "waiting").then_some(())
    });
    processes[1].signal("KILL");
    let second = servers.json(&place, &["wait", &run, "--json"]);
    assert_eq!(second["status"], "succeeded");
    assert_eq!(digest(&second), digest(&expected));

    let again = servers.json(&place, &["run", "flights.yaml", "--json"]);
    assert!(again["steps"].as_object().expect("steps").values().all(|step| step["cached"] == true), "{again}");
    assert!(servers.gristmill(&place, &["trace", &run]).stdout.contains("model"));
    assert_eq!(servers.gristmill(&place, &["report", &run]).code, Some(0));
    let models = servers.json(&place, &["models", "--json"]);
    assert_eq!(models[0]["name"], "small-flights", "{models}");
    assert_eq!(servers.gristmill(&place, &["doctor"]).code, Some(0));
}

/// A submission under a key makes one run however often it is made; a cancel reaches what runs and what waits.
#[test]
fn submissions_are_idempotent_and_cancels_reach_running_work() {
    let servers = Servers::start();
    let place = Place::new();
    place.write("long.yaml", "name: long\nsteps:\n  a: { noop: { tasks: 50, ms: 60000 } }\n");
    let scheduler = servers.spawn(&place, &["scheduler"]);
    let worker = servers.spawn(&place, &["worker", "--slots", "2"]);
    servers.wait_for_workers(&place, 1);
    let run_of = |said: &Value| said["run"].as_str().expect("a run").to_owned();
    let run = run_of(&servers.json(&place, &["submit", "long.yaml", "--key", "nightly", "--json"]));
    assert_eq!(run_of(&servers.json(&place, &["submit", "long.yaml", "--key", "nightly", "--json"])), run);
    place.write("other.yaml", "name: other\nsteps:\n  a: { noop: {} }\n");
    let other = servers.gristmill(&place, &["submit", "other.yaml", "--key", "nightly"]);
    assert!(other.code != Some(0) && other.stderr.contains("used for another submission"), "{}", other.stderr);

    wait_for("running work", || {
        servers.gristmill(&place, &["explain", &run]).stdout.contains("is at work on").then_some(())
    });
    assert_eq!(servers.gristmill(&place, &["cancel", &run]).code, Some(0));
    let ended = servers.gristmill(&place, &["wait", &run, "--json"]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    drop((scheduler, worker));
}

/// SIGTERM: a worker takes nothing more, finishes what runs and ends; a scheduler gives its shards up.
#[test]
fn processes_that_are_asked_to_end_leave_nothing_undone() {
    let servers = Servers::start();
    let place = Place::new();
    place.write("work.yaml", "name: work\nsteps:\n  a: { noop: { tasks: 40, ms: 200 } }\n");
    let mut first = [servers.spawn(&place, &["scheduler"]), servers.spawn(&place, &["worker", "--slots", "2"])];
    servers.wait_for_workers(&place, 1);
    let submitted = servers.json(&place, &["submit", "work.yaml", "--json"]);
    let run = submitted["run"].as_str().expect("a run").to_owned();
    wait_for("running work", || {
        servers.gristmill(&place, &["explain", &run]).stdout.contains("is at work on").then_some(())
    });
    let second = [servers.spawn(&place, &["scheduler"]), servers.spawn(&place, &["worker", "--slots", "2"])];
    for process in &mut first {
        process.signal("TERM");
        let status = process.0.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
    let ended = servers.json(&place, &["wait", &run, "--json"]);
    assert_eq!(ended["status"], "succeeded");
    drop(second);
}

/// Half a configuration is refused before anything is touched, and a server that is away is named.
#[test]
fn what_is_missing_is_said() {
    let place = Place::new();
    place.write("work.yaml", "name: work\nsteps:\n  a: { noop: {} }\n");
    let worker = place.gristmill(&["worker"]);
    assert_eq!(worker.code, Some(2));
    assert!(worker.stderr.contains("gristmill up"), "{}", worker.stderr);
    let submit = place.gristmill(&["submit", "work.yaml"]);
    assert!(submit.stderr.contains("gristmill run"), "{}", submit.stderr);
    let mut away = place.command(&["doctor"]);
    away.env("GRISTMILL_STATE", "redis://127.0.0.1:1").env("GRISTMILL_BROKER", "amqp://127.0.0.1:1");
    away.env("GRISTMILL_ARTIFACTS", "artifacts");
    let said = Said::of(away.output().expect("the program starts"));
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("✗ state") && said.stdout.contains("✗ broker"), "{}", said.stdout);
    assert!(said.stdout.contains("✓ artifacts"), "{}", said.stdout);
    // A URL's password is nobody's business.
    let mut secret = place.command(&["doctor"]);
    secret.env("GRISTMILL_STATE", "redis://:hunter2@127.0.0.1:1").env("GRISTMILL_BROKER", "amqp://u:hunter2@127.0.0.1:1");
    secret.env("GRISTMILL_ARTIFACTS", "artifacts");
    let said = Said::of(secret.output().expect("the program starts"));
    assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{}{}", said.stdout, said.stderr);
}
