//! Keepers over a real store and real files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_protocol::fact::{Fact, JournalBody, RunStatus};
use gristmill_protocol::submission::SubmissionMessage;
use gristmill_protocol::{RunId, wire};
use serde_json::Map;

use super::*;
use crate::world::{World, killed_after};

/// How long a signal may take that has to come, on a machine that builds something else as well.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    fn triggers(&self) -> TriggersKeeper {
        TriggersKeeper::new(Arc::clone(&self.state), Arc::clone(&self.artifacts))
    }

    async fn put_trigger(&self, name: &str, trigger: Trigger) {
        put(&*self.state, "default", name, trigger, "ann").await.expect("it is right");
    }

    async fn trigger(&self, name: &str) -> TriggerDocument {
        get(&*self.state, "default", name).await.expect("it is there")
    }

    /// The parameters that a run was submitted with, and by whom.
    async fn about(&self, run: RunId) -> (Value, Option<Origin>) {
        let entries = self.state.journal(run, 0, 1).await.expect("read");
        let body: JournalBody = wire::decode("an entry", &entries[0].body).expect("valid");
        let Fact::Created { about, .. } = &body.facts[0] else { panic!("{body:?}") };
        (Value::Object(about.params.clone()), about.origin.clone())
    }

    async fn submit(&self, namespace: &str, pipeline: &str) -> RunId {
        let message = SubmissionMessage { namespace: Some(namespace.to_owned()), ..submission(pipeline, json!({})) };
        let at = self.state.clock().await.expect("asked").now;
        let key = Key::Timed("somebody".to_owned());
        let submitted = crate::message::submit_message(&*self.state, &*self.artifacts, message, key, at).await;
        submitted.expect("submitted").run
    }
}

fn submission(name: &str, params: Value) -> SubmissionMessage {
    let Value::Object(params) = params else { panic!("{params}") };
    let declared: String = params.keys().map(|name| format!("  {name}: none\n")).collect();
    let declared = if params.is_empty() { String::new() } else { format!("params:\n{declared}") };
    let pipeline = format!("name: {name}\n{declared}steps:\n  a: {{ noop: {{}} }}\n");
    SubmissionMessage { pipeline: Some(pipeline), params, ..SubmissionMessage::default() }
}

fn trigger(on: On, params: Value) -> Trigger {
    Trigger { on, submit: submission("made", params), paused: false }
}

/// Looks until something holds.
async fn looks_until(world: &World, keepers: &mut [TriggersKeeper], mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "it doesn't come");
        for keeper in &mut *keepers {
            keeper.look().await.expect("looked");
        }
        world.pass(1_000).await;
    }
}

/// Looks until folders have been looked at some times more.
async fn some_looks(world: &World, keepers: &mut [TriggersKeeper]) {
    // A file that comes last shows that all that came before was seen.
    let folder = world.folder.path().join("marks");
    std::fs::create_dir_all(&folder).expect("a folder");
    let count = std::fs::read_dir(&folder).expect("read").count();
    let glob = format!("{}/*", folder.display());
    if count == 0 {
        world.put_trigger("marks", trigger(On::File { glob }, json!({}))).await;
    }
    std::fs::write(folder.join(count.to_string()), "x").expect("written");
    looks_until(world, keepers, async || world.trigger("marks").await.recent.len() > count).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_fires_once_when_it_has_arrived_and_again_when_it_changes() {
    let world = World::new();
    let folder = world.folder.path().join("in");
    std::fs::create_dir(&folder).expect("a folder");
    let glob = format!("{}/*.csv", folder.display());
    world.put_trigger("load", trigger(On::File { glob }, json!({ "source": "{{path}}" }))).await;
    let mut keepers = [world.triggers(), world.triggers()];
    let path = folder.join("a.csv");
    std::fs::write(&path, "x\n1\n").expect("written");
    std::fs::write(folder.join("b.txt"), "x\n1\n").expect("written");
    looks_until(&world, &mut keepers, async || world.trigger("load").await.recent.len() == 1).await;
    some_looks(&world, &mut keepers).await;
    let FiringOutcome::Fired { run } = world.trigger("load").await.recent[0].outcome else { panic!("it failed") };
    let origin = Some(Origin { by: "trigger load".to_owned(), depth: 0 });
    assert_eq!(world.about(run).await, (json!({ "source": path.display().to_string() }), origin));

    // Other keepers know what was fired.
    let mut keepers = [world.triggers()];
    some_looks(&world, &mut keepers).await;
    assert_eq!(world.trigger("load").await.recent.len(), 1);
    std::fs::write(&path, "x\n1\n2\n").expect("written");
    looks_until(&world, &mut keepers, async || world.trigger("load").await.recent.len() == 2).await;
    some_looks(&world, &mut keepers).await;
    assert_eq!(world.trigger("load").await.recent.len(), 2);
    // Two of the files and three marks.
    assert_eq!(world.runs().await.len(), 5);
    delete(&*world.state, "default", "load").await.expect("deleted");
    assert!(world.state.keys("trigger-file/default/load/", "", 10).await.expect("read").is_empty());
}

#[tokio::test(start_paused = true)]
async fn files_that_are_gone_are_forgotten_after_a_day() {
    let world = World::new();
    let path = world.folder.path().join("a.csv");
    std::fs::write(&path, "x\n1\n").expect("written");
    let glob = path.display().to_string();
    world.put_trigger("load", trigger(On::File { glob }, json!({}))).await;
    let mut keepers = [world.triggers()];
    looks_until(&world, &mut keepers, async || world.trigger("load").await.recent.len() == 1).await;
    let remembered = async || world.state.keys("trigger-file/default/load/", "", 10).await.expect("read").len();
    world.pass(30 * 3_600_000).await;
    some_looks(&world, &mut keepers).await;
    assert_eq!(remembered().await, 1, "it is there");
    std::fs::remove_file(&path).expect("removed");
    world.pass(2 * 3_600_000).await;
    looks_until(&world, &mut keepers, async || remembered().await == 0).await;
    assert_eq!(world.trigger("load").await.recent.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_is_killed_anywhere_fires_a_file_once() {
    for polls in 1..30 {
        let world = World::new();
        let path = world.folder.path().join("a.csv");
        std::fs::write(&path, "x\n1\n").expect("written");
        let glob = path.display().to_string();
        world.put_trigger("load", trigger(On::File { glob }, json!({}))).await;
        let mut first = world.triggers();
        for _ in 0..6 {
            killed_after(polls, first.look()).await;
            world.pass(1_000).await;
        }
        drop(first);
        let mut second = [world.triggers()];
        looks_until(&world, &mut second, async || world.trigger("load").await.recent.len() == 1).await;
        some_looks(&world, &mut second).await;
        assert_eq!(world.trigger("load").await.recent.len(), 1, "after {polls} polls");
        assert_eq!(world.runs().await.len(), 2, "the file and the mark");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_fires_once_what_waits_for_it() {
    let world = World::new();
    let before = world.submit("default", "first").await;
    world.end(before, RunStatus::Succeeded).await;
    world.pass(1_000).await;
    let on = |status| On::RunEnded { pipeline: "first".to_owned(), status };
    let params = json!({ "text": "{{pipeline}} {{run}} {{status}}" });
    world.put_trigger("good", trigger(on(vec![RunStatus::Succeeded]), params.clone())).await;
    world.put_trigger("bad", trigger(on(vec![RunStatus::Failed, RunStatus::Rejected]), params)).await;
    let mut keepers = [world.triggers(), world.triggers()];
    for (namespace, pipeline, status) in [
        ("default", "first", RunStatus::Succeeded),
        ("default", "second", RunStatus::Succeeded),
        ("other", "first", RunStatus::Succeeded),
        ("default", "first", RunStatus::Cancelled),
        ("default", "first", RunStatus::Failed),
    ] {
        world.pass(1_000).await;
        let run = world.submit(namespace, pipeline).await;
        world.end(run, status).await;
        for keeper in &mut keepers {
            world.pass(1_000).await;
            keeper.look().await.expect("looked");
        }
    }
    let mut fresh = world.triggers();
    world.pass(1_000).await;
    fresh.look().await.expect("looked");
    for (name, status) in [("good", "succeeded"), ("bad", "failed")] {
        let document = world.trigger(name).await;
        let [FiringRecord { cause, outcome: FiringOutcome::Fired { run }, .. }] = &document.recent[..] else {
            panic!("{:?}", document.recent)
        };
        let (params, origin) = world.about(*run).await;
        assert_eq!(params["text"], format!("first {cause} {status}"));
        assert_eq!(origin, Some(Origin { by: format!("trigger {name}"), depth: 1 }));
    }
    assert_eq!(world.runs().await.len(), 6 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_triggers_ends_and_says_so() {
    let world = World::new();
    let on = |pipeline: &str| On::RunEnded { pipeline: pipeline.to_owned(), status: vec![RunStatus::Succeeded] };
    world.put_trigger("there", Trigger { submit: submission("b", json!({})), ..trigger(on("a"), json!({})) }).await;
    world.put_trigger("back", Trigger { submit: submission("a", json!({})), ..trigger(on("b"), json!({})) }).await;
    let mut keeper = world.triggers();
    world.pass(1_000).await;
    world.submit("default", "a").await;
    for _ in 0..30 {
        for record in world.state.runs(None, 1_000).await.expect("read") {
            if record.status.is_none() {
                world.end(record.run, RunStatus::Succeeded).await;
            }
        }
        world.pass(1_000).await;
        keeper.look().await.expect("looked");
    }
    let runs = 1 + usize::try_from(TRIGGER_DEPTH_MAX).expect("small");
    assert_eq!(world.runs().await.len(), runs);
    let last = world.trigger("there").await.recent.pop().expect("there are records");
    let FiringOutcome::Failed { reason } = last.outcome else { panic!("{last:?}") };
    assert!(reason.contains("in a circle"), "{reason}");
}

#[tokio::test]
async fn a_webhook_fires_once_a_key_with_its_body() {
    let world = World::new();
    world.put_trigger("hook", trigger(On::Webhook {}, json!({ "n": "{{body.deep.n}}" }))).await;
    let fire = async |name: &str, body: Value, key: &str| {
        super::fire(&*world.state, &*world.artifacts, "default", name, &body, key).await
    };
    let first = fire("hook", json!({ "deep": { "n": 3 } }), "k").await.expect("fired");
    let again = fire("hook", json!({ "deep": { "n": 3 } }), "k").await.expect("fired");
    assert_eq!((first.created, again.created, again.run), (true, false, first.run));
    // The pipeline takes it as it takes all parameters: by the type of its default.
    assert_eq!(world.about(first.run).await.0, json!({ "n": "3" }));
    let other = fire("hook", json!({ "deep": { "n": 4 } }), "k").await.expect_err("another body");
    assert_eq!(other.code(), ErrorCode::Conflict);
    let empty = fire("hook", json!({}), "l").await.expect_err("it can't be filled");
    assert!(empty.to_string().contains("there is no `{{body.deep.n}}`"), "{empty}");
    assert!(matches!(fire("hook", json!([1]), "m").await, Err(TriggerError::Body)));
    assert!(matches!(fire("nothing", json!({}), "m").await, Err(TriggerError::None { .. })));
    let records = world.trigger("hook").await.recent;
    assert_eq!(records.len(), 3, "{records:?}");
    set_paused(&*world.state, "default", "hook", true, "ann").await.expect("paused");
    assert!(matches!(fire("hook", json!({}), "m").await, Err(TriggerError::Paused(_))));
    world.put_trigger("hook", trigger(On::File { glob: "/in/*".to_owned() }, json!({}))).await;
    assert!(matches!(fire("hook", json!({}), "m").await, Err(TriggerError::NoWebhook(_))));
}

#[tokio::test]
async fn a_wrong_trigger_is_refused_with_what_to_do() {
    let world = World::new();
    let webhook = |params| trigger(On::Webhook {}, params);
    let ended = |pipeline: &str, status| On::RunEnded { pipeline: pipeline.to_owned(), status };
    let keyed = SubmissionMessage { key: Some("k".to_owned()), ..submission("x", json!({})) };
    let undeclared =
        SubmissionMessage { params: Map::from_iter([("n".to_owned(), json!(1))]), ..submission("x", json!({})) };
    for (name, trigger, expected) in [
        ("A", webhook(json!({})), "can't be a name"),
        ("a", trigger(On::File { glob: "in/*".to_owned() }, json!({})), "isn't an absolute path"),
        ("a", trigger(ended("A", vec![RunStatus::Failed]), json!({})), "can't be the name of a pipeline"),
        ("a", trigger(ended("x", vec![]), json!({})), "leave it out for `succeeded`"),
        ("a", webhook(json!({ "n": "{{path}}" })), "there is no `{{path}}`; there are `{{body}}`"),
        ("a", Trigger { submit: keyed, ..webhook(json!({})) }, "leave it out"),
        ("a", Trigger { submit: undeclared, ..webhook(json!({})) }, "has mistakes"),
    ] {
        let error = put(&*world.state, "default", name, trigger, "ann").await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
    world.put_trigger("a", webhook(json!({}))).await;
    let names: Vec<String> = list(&*world.state, Some("default"), "", 10)
        .await
        .expect("read")
        .into_iter()
        .map(|document| document.name)
        .collect();
    assert_eq!(names, ["a"]);
}
