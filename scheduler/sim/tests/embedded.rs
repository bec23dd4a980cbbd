//! The driver and a worker on the embedded backends, in real time: a fan-out and its join run to the end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::broker::embedded::EmbeddedBroker;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_backends::state::{State, WorkerAbout};
use gristmill_protocol::fact::{About, RunStatus};
use gristmill_protocol::limits::DRAIN_MS;
use gristmill_protocol::message::{Expansion, Items, OnFailure, Outcome, Template};
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{Plan, PlanNeed, PlanStep};
use gristmill_protocol::{Timestamp, WorkerId, wire};
use gristmill_scheduler::submit::{Submission, submit};
use gristmill_scheduler::{Driver, DriverConfig};
use gristmill_worker_runtime::{Drain, Execute, TaskControl, Work, Worker, WorkerConfig};
use serde_bytes::ByteBuf;
use tokio::sync::watch;

/// Expands a step whose payload is a number into that many children; all else succeeds at once.
struct Noop;

impl Execute for Noop {
    fn execute(&self, work: Work, _control: TaskControl) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let outcome = match <[u8; 4]>::try_from(&*work.payload) {
            Ok(count) => Outcome::Expanded(Expansion {
                child: Template { payload: ByteBuf::new() },
                items: Items::Inline(vec![ByteBuf::new(); u32::from_le_bytes(count) as usize]),
                join: Template { payload: ByteBuf::new() },
                on_failure: OnFailure::Fail,
            }),
            Err(_) => Outcome::Succeeded { output: ByteBuf::from(vec![1]), cached: false },
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn step(name: &str, payload: Vec<u8>, needs: &[u16]) -> PlanStep {
    PlanStep {
        name: name.to_owned(),
        kind: "noop".to_owned(),
        payload: ByteBuf::from(payload),
        needs: needs.iter().map(|step| PlanNeed { step: *step, output: true }).collect(),
        when: When::Success,
        retries: 2,
        timeout_ms: None,
        pool: "default".to_owned(),
        priority: 0,
        limits: Vec::new(),
    }
}

#[tokio::test]
async fn a_fan_out_and_its_join_run_to_the_end() {
    if std::env::var("RUST_LOG").is_ok() {
        tracing_subscriber::fmt::init();
    }
    let home = tempfile::tempdir().expect("a folder");
    let state: Arc<dyn State> = Arc::new(EmbeddedState::open(home.path(), Synchronous::Normal).expect("a new home"));
    let broker = Arc::new(EmbeddedBroker::new());
    let artifacts = Arc::new(DirectoryArtifacts::open(&home.path().join("artifacts")).expect("a new store"));
    let (_drain, drained) = watch::channel(Drain::No);
    let config = WorkerConfig {
        worker: WorkerId(1),
        pools: vec!["default".to_owned()],
        slots: 2,
        about: WorkerAbout { reads: wire::VERSION, ..WorkerAbout::default() },
        grace: Duration::from_millis(DRAIN_MS),
    };
    let (worker, heartbeat) = Worker::new(config, state.clone(), broker.clone(), Arc::new(Noop), drained, || 0);
    heartbeat.beat().await;
    let driver = Driver::new(state.clone(), broker, artifacts, DriverConfig::all_shards(7)).await.expect("a driver");
    tokio::spawn(heartbeat.run());
    tokio::spawn(worker.run());
    tokio::spawn(driver.run());

    let plan = Plan {
        pipeline: "fan-out".to_owned(),
        weight: 1,
        limits: Vec::new(),
        steps: vec![step("wide", 5_000u32.to_le_bytes().to_vec(), &[]), step("after", Vec::new(), &[0])],
    };
    let submission = Submission {
        plan,
        about: About::default(),
        namespace: "default".to_owned(),
        key: "one".to_owned(),
        is_callers_key: false,
        at: Timestamp(1_700_000_000_000),
    };
    let started = std::time::Instant::now();
    let run = submit(&*state, submission).await.expect("a run").run;
    let status = loop {
        let record = state.run(run).await.expect("the store answers").expect("the run exists");
        match record.status {
            Some(status) => break status,
            None => tokio::task::yield_now().await,
        }
    };
    println!("{:?}", started.elapsed());
    assert_eq!(status, RunStatus::Succeeded);
}
