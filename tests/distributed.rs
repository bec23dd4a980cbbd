//! The same program as many processes, over real RabbitMQ, Redis and S3.

mod support;

use serde_json::Value;
use support::servers::{Process, Servers, wait_for};
use support::{Place, Said, in_parts, small_flights};

fn digest(summary: &Value) -> String {
    summary["models"][0]["digest"].as_str().unwrap_or_else(|| panic!("a model in {summary}")).to_owned()
}

/// One scheduler and two workers, then two and four, make the same model as one process with no server; a
/// caller's files go up and come down; every command works as it does without servers.
#[test]
fn flights_on_servers_give_the_model_that_one_process_gives() {
    let servers = Servers::start();
    let alone = Place::new();
    small_flights(&alone, &[1, 2], 40);
    let expected = alone.json(&["run", "flights.yaml", "--json"]);

    let place = Place::new();
    small_flights(&place, &[1, 2], 40);
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
    // The trees are grown by all of them, and a worker is killed in the middle; nobody notices.
    in_parts(&place, 4);
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
    // `register` looks each time: another version may have been registered since.
    let mut data_steps = again["steps"].as_object().expect("steps").iter().filter(|(name, _)| *name != "release");
    assert!(data_steps.all(|(_, step)| step["cached"] == true), "{again}");
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

/// A task that outlasts the broker's patience with consumers, its connections and its process runs once.
#[test]
fn a_long_task_outlasts_the_broker() {
    let servers = Servers::start();
    let place = Place::new();
    place.write("long.yaml", "name: long\nsteps:\n  a: { noop: { tasks: 1, ms: 12000 } }\n");
    // Instead of half an hour, and looked at every second instead of every minute.
    servers.rabbitmqctl(&["eval", "application:set_env(rabbit, consumer_timeout, 3000)."]);
    servers.rabbitmqctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 1000)."]);
    let processes = [servers.spawn(&place, &["scheduler"]), servers.spawn(&place, &["worker", "--slots", "1"])];
    servers.wait_for_workers(&place, 1);
    let run = servers.json(&place, &["submit", "long.yaml", "--json"])["run"].as_str().expect("a run").to_owned();
    let trace = |run: &str| servers.json(&place, &["trace", run, "--json"]);
    wait_for("running work", || {
        servers.gristmill(&place, &["explain", &run]).stdout.contains("is at work on").then_some(())
    });
    servers.rabbitmqctl(&["close_all_connections", "test"]);
    servers.restart("rabbitmq");
    assert_eq!(servers.json(&place, &["wait", &run, "--json"])["status"], "succeeded");
    let spans = trace(&run);
    let attempts: Vec<&Value> = spans
        .as_array()
        .expect("spans")
        .iter()
        .map(|span| &span["attributes"]["attempt"])
        .filter(|attempt| attempt.is_number())
        .collect();
    assert!(attempts.iter().all(|attempt| **attempt == 1), "nothing was tried twice: {spans}");
    drop(processes);
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
    assert!(submit.stderr.contains("there is no home"), "{}", submit.stderr);
    let mut away = place.command(&["doctor"]);
    away.env("GRISTMILL_STATE", "redis://127.0.0.1:1").env("GRISTMILL_BROKER", "amqp://127.0.0.1:1");
    away.env("GRISTMILL_ARTIFACTS", "artifacts");
    let said = Said::of(away.output().expect("the program starts"));
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("✗ state") && said.stdout.contains("✗ broker"), "{}", said.stdout);
    assert!(said.stdout.contains("✓ artifacts"), "{}", said.stdout);
    // A URL's password is nobody's business.
    let mut secret = place.command(&["doctor"]);
    secret
        .env("GRISTMILL_STATE", "redis://:hunter2@127.0.0.1:1")
        .env("GRISTMILL_BROKER", "amqp://u:hunter2@127.0.0.1:1");
    secret.env("GRISTMILL_ARTIFACTS", "artifacts");
    let said = Said::of(secret.output().expect("the program starts"));
    assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{}{}", said.stdout, said.stderr);
}

/// `up` needs no server: other processes submit, watch and cancel beside it.
#[test]
fn up_without_servers_takes_submissions_of_other_processes() {
    let place = Place::new();
    place.write("work.yaml", "name: work\nsteps:\n  a: { noop: { tasks: 20 } }\n  b: { noop: {}, after: [a] }\n");
    place.write("long.yaml", "name: long\nsteps:\n  a: { noop: { tasks: 4, ms: 60000 } }\n");
    let up = Process(place.command(&["up", "--slots", "2"]).spawn().expect("the program starts"));
    let run = wait_for("the home", || {
        let said = place.gristmill(&["submit", "work.yaml", "--json"]);
        (said.code == Some(0)).then(|| said.json()["run"].as_str().expect("a run").to_owned())
    });
    assert_eq!(place.json(&["wait", &run, "--json"])["status"], "succeeded");
    let long = place.json(&["submit", "long.yaml", "--key", "k", "--json"])["run"].as_str().expect("a run").to_owned();
    assert_eq!(place.json(&["submit", "long.yaml", "--key", "k", "--json"])["run"], long.as_str());
    assert_eq!(place.gristmill(&["cancel", &long]).code, Some(0));
    assert_eq!(place.gristmill(&["wait", &long, "--json"]).code, Some(4));
    up.signal("TERM");
    drop(up);
}
