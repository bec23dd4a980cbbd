//! `gristmill pool` on private servers: workers come and go with the work, and nothing is killed or repeated by that.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::support::servers::{PATIENCE, Process, Servers, wait_for};
use crate::support::{Place, Said};

/// A pool that runs, and what it says.
struct Pool {
    process: Process,
    lines: Receiver<Value>,
}

impl Pool {
    fn start(servers: &Servers, place: &Place, arguments: &[&str]) -> Pool {
        let mut command = servers.command(place, &[&["pool", "default", "--json"], arguments].concat());
        let mut process =
            Process(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the program starts"));
        let stdout = process.0.stdout.take().expect("it is piped");
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                // Whoever listened may have gone.
                said.send(line).ok();
            }
        });
        Pool { process, lines }
    }

    /// The next line of which this is true.
    fn until(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} isn't said"));
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Waits until no worker is left.
    fn empty(&self) -> Value {
        let none = |line: &Value| line["live"] == 0 && line["starting"] == 0 && line["draining"] == 0;
        self.until("an empty pool", |line| matches!(line["event"].as_str(), Some("ended" | "lost")) && none(line))
    }
}

/// How many attempts each outcome has, of the tasks of a run.
fn outcomes(servers: &Servers, place: &Place, run: &str) -> BTreeMap<String, usize> {
    let spans = servers.json(place, &["trace", run, "--json"]);
    let mut outcomes = BTreeMap::new();
    for span in spans.as_array().expect("a list") {
        if let Some(outcome) = span["attributes"]["outcome"].as_str() {
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
    }
    outcomes
}

/// A port that nobody listens at just now.
fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
    probe.local_addr().expect("an address").port()
}

/// What a process tells Prometheus.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn is_alive(pid: &Value) -> bool {
    let looked = Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status();
    looked.expect("`kill` starts").success()
}

fn is_deserted(servers: &Servers, place: &Place) -> bool {
    let said = servers.gristmill(place, &["doctor"]);
    format!("{}{}", said.stdout, said.stderr).contains("no worker is alive")
}

fn pipeline(place: &Place, name: &str, tasks: u32, ms: u32) {
    let text = format!("name: {name}\nsteps:\n  wait: {{ noop: {{ tasks: {tasks}, ms: {ms} }} }}\n");
    place.write(&format!("{name}.yaml"), text);
}

#[test]
fn a_pool_comes_from_nothing_and_goes_back_to_it_without_a_task_being_killed_or_repeated() {
    let servers = Servers::start();
    let place = Place::new();
    let port = free_port();
    let _scheduler = servers.spawn_ready(&place, &["scheduler", "--metrics", &format!("127.0.0.1:{port}")], &[]);
    let pool = Pool::start(&servers, &place, &["--max", "3", "--drain-time", "1", "--idle", "1"]);
    pipeline(&place, "burst", 60, 100);
    for _ in 0..2 {
        let burst = servers.json(&place, &["run", "burst.yaml", "--no-cache", "--json"]);
        assert_eq!(burst["status"], "succeeded");
        let run = burst["run"].as_str().expect("a run");
        let expected = BTreeMap::from([("expanded".to_owned(), 1), ("succeeded".to_owned(), 61)]);
        assert_eq!(outcomes(&servers, &place, run), expected);
        let empty = pool.empty();
        assert_eq!(empty["lost"], 0);
        assert!(empty["paid_ms"].as_u64() > Some(0));
    }
    wait_for("the end of the workers", || is_deserted(&servers, &place).then_some(()));
    let metrics = metrics(port);
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse::<f64>().expect("a number")
    };
    assert!(value("gristmill_task_wait_seconds_count{pool=\"default\"}") >= 120.0);
    assert_eq!(value("gristmill_queue_ready{pool=\"default\"}"), 0.0);
    assert_eq!(value("gristmill_leases_held"), 0.0);
    assert!(value("gristmill_store_call_duration_seconds_count{verb=\"append\",result=\"ok\"}") > 0.0);

    // A worker that is killed is counted apart, and another takes its place.
    pipeline(&place, "long", 4, 3_000);
    let mut submit = servers.command(&place, &["run", "long.yaml", "--json"]);
    let running = submit.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
    // Those that were said to be ready before have gone.
    let ready = pool.until("a worker", |line| line["event"] == "ready" && is_alive(&line["pid"]));
    let pid = ready["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("`kill` starts").success());
    let lost = pool.until("the loss", |line| line["event"] == "lost");
    assert_eq!((&lost["lost"], &lost["pid"]), (&Value::from(1), &ready["pid"]));
    assert_eq!(Said::of(running.wait_with_output().expect("it ends")).json()["status"], "succeeded");
}

#[test]
fn workers_outlive_a_pool_that_is_killed_and_the_next_one_takes_them_over() {
    let servers = Servers::start();
    let place = Place::new();
    let _scheduler = servers.spawn_ready(&place, &["scheduler"], &[]);
    let arguments = ["--min", "2", "--max", "2"];
    let first = Pool::start(&servers, &place, &arguments);
    let pids: Vec<Value> =
        (0..2).map(|_| first.until("a worker", |line| line["event"] == "ready")["pid"].clone()).collect();
    drop(first);

    let second = Pool::start(&servers, &place, &arguments);
    for _ in 0..2 {
        let adopted =
            second.until("a worker of before", |line| line["event"] == "adopted" || line["event"] == "started");
        assert_eq!(adopted["event"], "adopted");
        assert!(pids.contains(&adopted["pid"]), "{adopted}");
    }
    second.process.signal("TERM");
    second.empty();
    wait_for("the end of the workers", || is_deserted(&servers, &place).then_some(()));
}

#[test]
fn a_pool_takes_workers_with_its_labels_alone() {
    let servers = Servers::start();
    let place = Place::new();
    place.write("gristmill.toml", "[pools.gpu]\nmax = 2\nrequires = { accelerator = \"a100\" }\n");
    for arguments in [&["worker", "--pools", "gpu"][..], &["pool", "gpu", "--label", "accelerator=h100"]] {
        let refused = servers.gristmill(&place, arguments);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("pool `gpu` takes workers labelled accelerator=a100"), "{}", refused.stderr);
    }
    let worker = ["worker", "--pools", "gpu", "--label", "accelerator=a100", "--spot-notice", "notice"];
    let mut worker = servers.spawn_ready(&place, &worker, &[]);
    place.write("notice", "");
    wait_for("the end of the worker", || worker.0.try_wait().expect("it is ours"));
}

/// Old and new programs side by side, each replaced by the other under load: messages are written as all read them.
#[test]
fn schedulers_and_workers_are_replaced_one_by_one_by_those_of_another_message_version() {
    let servers = Servers::start();
    let place = Place::new();
    let start = |kind: &str, version: &str| {
        let arguments = if kind == "worker" { vec![kind, "--slots", "2"] } else { vec![kind] };
        servers.spawn_ready(&place, &arguments, &[("GRISTMILL_MESSAGE_VERSION", version)])
    };
    let mut processes: Vec<Process> =
        ["scheduler", "scheduler", "worker", "worker"].map(|kind| start(kind, "1")).into();
    pipeline(&place, "load", 400, 25);
    let submit = |key: &str| {
        let said = servers.gristmill(&place, &["submit", "load.yaml", "--no-cache", "--key", key]);
        said.stdout.trim().to_owned()
    };
    let mut runs = vec![submit("first")];
    for version in ["2", "1"] {
        for (place_of, kind) in ["worker", "scheduler", "worker", "scheduler"].into_iter().enumerate() {
            let replacement = start(kind, version);
            let old = if kind == "worker" { 2 + place_of / 2 } else { place_of / 2 };
            let mut old = std::mem::replace(&mut processes[old], replacement);
            runs.push(submit(&format!("{version}-{place_of}")));
            old.signal("TERM");
            wait_for("the end of a replaced process", || old.0.try_wait().expect("it is ours"));
        }
    }
    for run in &runs {
        assert_eq!(servers.json(&place, &["wait", run, "--json"])["status"], "succeeded");
        let outcomes = outcomes(&servers, &place, run);
        assert_eq!(outcomes["succeeded"], 401, "{outcomes:?}");
        let others =
            outcomes.keys().filter(|outcome| !["succeeded", "expanded", "handed back"].contains(&outcome.as_str()));
        assert_eq!(others.count(), 0, "{outcomes:?}");
    }
}
