//! One execution: processes, what is submitted, what goes wrong, and the quiet in which all must end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gristmill_backends::state::{State, WorkerAbout};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::DRAIN_MS;
use gristmill_protocol::message::InboxEvent;
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{RunId, WorkerId, wire};
use gristmill_scheduler::observe::Unobserved;
use gristmill_scheduler::submit::submit;
use gristmill_scheduler::{Driver, DriverConfig};
use gristmill_worker_runtime::{Drain, Worker, WorkerConfig};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::artifacts::SimArtifacts;
use crate::broker::{BrokerHandle, SimBroker};
use crate::checker;
use crate::dice::Dice;
use crate::faults::{self, Faults};
use crate::plan::{self, POOLS, Shape};
use crate::process::{Part, Process, Running};
use crate::state::SimState;
use crate::store::SimStore;
use crate::trace::{Telling, Trace};
use crate::work::{Habits, SimWork};

/// Virtual time after the faults within which every run must have ended.
const QUIET_MAX: Duration = Duration::from_secs(900);
/// Virtual time between two looks at whether all has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What came of an execution.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong, in the order in which it was found; nothing when all rules held.
    pub violations: Vec<String>,
    /// What happened, line by line; empty unless they are kept.
    pub trace: String,
    pub runs: usize,
    pub tasks: u64,
    pub virtual_time: Duration,
}

/// All that the tasks of an execution share.
pub(crate) struct World {
    pub(crate) store: Arc<SimStore>,
    pub(crate) broker: Arc<SimBroker>,
    pub(crate) artifacts: Arc<SimArtifacts>,
    pub(crate) trace: Trace,
    habits: Habits,
    pub(crate) roster: Mutex<Roster>,
}

/// Who is there now.
pub(crate) struct Roster {
    pub(crate) schedulers: Vec<Arc<Process>>,
    pub(crate) workers: Vec<(Arc<Process>, watch::Sender<Drain>)>,
    pub(crate) dice: Dice,
    instances: u64,
    /// Nothing goes wrong any more.
    pub(crate) quiet: bool,
    /// Runs whose submission was acknowledged.
    acknowledged: Vec<RunId>,
    submitting: usize,
}

impl World {
    pub(crate) fn roster(&self) -> std::sync::MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that has nothing to do waits.
    fn check_waits(&self, process: &Process) {
        if process.spins() {
            self.store.violation(format!("{} spins: it doesn't wait for anything", process.name));
        }
    }

    fn new_process(&self, kind: &str) -> Arc<Process> {
        let mut roster = self.roster();
        roster.instances += 1;
        let instance = roster.instances;
        Process::new(format!("{kind}-{instance}"), instance, self.trace.clone())
    }
}

/// Runs the execution of a seed in a runtime of its own.
pub fn execute(seed: u64, telling: Telling) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing from the system");
    runtime.block_on(live(seed, telling))
}

async fn live(seed: u64, telling: Telling) -> Outcome {
    let mut dice = Dice::new(seed);
    let trace = Trace::new(telling);
    let faults = Faults::draw(&mut dice);
    trace.say(|| format!("seed {seed}: {faults:?}"));
    let limit = dice.between(1, 2) as usize;
    let store_dice = dice.fork();
    let broker = SimBroker::new(dice.fork(), faults.manners, trace.clone());
    let world = Arc::new(World {
        store: SimStore::new(store_dice, faults.weather, limit, broker.published.clone(), trace.clone()),
        broker,
        artifacts: SimArtifacts::new(dice.fork(), faults.weather.fails),
        trace: trace.clone(),
        habits: faults.habits,
        roster: Mutex::new(Roster {
            schedulers: Vec::new(),
            workers: Vec::new(),
            dice: dice.fork(),
            instances: 0,
            quiet: false,
            acknowledged: Vec::new(),
            submitting: 0,
        }),
    });
    for _ in 0..dice.between(1, 3) {
        tokio::spawn(keep_scheduler(world.clone()));
    }
    let workers = dice.between(1, 4);
    for at in 0..workers {
        // The first serves all pools, so that none is without a worker for ever.
        let pools = if at == 0 || dice.chance(500) { &POOLS[..] } else { &POOLS[..1] };
        tokio::spawn(keep_worker(world.clone(), pools, dice.between(1, 4) as u32));
    }
    let shape = Shape {
        limit,
        limited: dice.pick(&[0, 400, 900]).copied().unwrap_or_default(),
        expands: dice.between(100, 500),
        poison: faults.habits.kills_worker > 0 && dice.chance(200),
    };
    let runs = dice.between(1, 4);
    world.roster().submitting = runs as usize;
    for number in 0..runs {
        tokio::spawn(client(world.clone(), number, shape, dice.fork()));
    }
    faults::wreak(&world, &faults, dice.fork()).await;
    quieten(&world);
    let missing = wait_for_ends(&world).await;
    let acknowledged = world.roster().acknowledged.clone();
    let mut violations = checker::check(&world.store, &acknowledged);
    violations.extend(missing);
    let inner = world.store.lock();
    Outcome {
        violations,
        trace: trace.text(),
        runs: inner.store.runs(None, usize::MAX).len(),
        tasks: inner.ledger.works_begun,
        virtual_time: trace.elapsed(),
    }
}

/// Takes everything out of everybody's way.
fn quieten(world: &World) {
    world.trace.say(|| "all is quiet from now on".to_owned());
    let mut roster = world.roster();
    roster.quiet = true;
    roster.schedulers.iter().for_each(|process| process.heal());
    roster.workers.iter().for_each(|(process, _)| process.heal());
    world.store.heal();
    world.broker.heal();
    world.artifacts.heal();
}

/// Waits until every run has ended and every event was taken; says what hasn't in time.
async fn wait_for_ends(world: &World) -> Vec<String> {
    let end = Instant::now() + QUIET_MAX;
    loop {
        let submitting = world.roster().submitting > 0;
        let stuck: Vec<String> = checker::unfinished(&world.store);
        if !submitting && stuck.is_empty() {
            return Vec::new();
        }
        if Instant::now() >= end || !world.store.lock().ledger.violations.is_empty() {
            // What was wrong before says more than what it led to.
            return if world.store.lock().ledger.violations.is_empty() { stuck } else { Vec::new() };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A scheduler that is started again when it dies.
async fn keep_scheduler(world: Arc<World>) {
    loop {
        let process = world.new_process("scheduler");
        world.store.add_scheduler(process.clone());
        world.roster().schedulers.push(process.clone());
        let (inner, this) = (world.clone(), process.clone());
        let life = async move {
            let state: Arc<dyn State> = Arc::new(SimState::new(inner.store.clone(), this.clone()));
            let broker = Arc::new(BrokerHandle::new(inner.broker.clone(), this.clone()));
            let config = DriverConfig {
                instance: this.instance,
                shards: plan::shards().to_vec(),
                inbox_wait_ms: 1_000,
                writes: wire::VERSION,
                observer: Arc::new(Unobserved),
            };
            loop {
                let driver = Driver::new(state.clone(), broker.clone(), inner.artifacts.clone(), config.clone());
                match tokio::time::timeout(Duration::from_secs(2), driver).await {
                    Ok(Ok(driver)) => driver.run().await,
                    Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        Running::new(process.clone(), Part::Loop, life).await;
        world.check_waits(&process);
        let pause = {
            let mut roster = world.roster();
            roster.schedulers.retain(|other| !Arc::ptr_eq(other, &process));
            roster.dice.between(50, 4_000)
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// A worker that is started again, under another id, when it dies or has drained.
async fn keep_worker(world: Arc<World>, pools: &'static [&'static str], slots: u32) {
    loop {
        let process = world.new_process("worker");
        let worker = WorkerId(process.instance);
        world.store.add_worker(worker, process.clone());
        let (drain, drained) = watch::channel(Drain::No);
        let dice = {
            let mut roster = world.roster();
            roster.workers.push((process.clone(), drain));
            roster.dice.fork()
        };
        let mut habits = world.habits;
        if world.roster().quiet {
            // In the quiet only what is poison kills; otherwise the last worker might never stay alive.
            habits.kills_worker = 0;
        }
        let work = SimWork::new(world.store.clone(), world.artifacts.clone(), process.clone(), habits, dice);
        let state: Arc<dyn State> = Arc::new(SimState::new(world.store.clone(), process.clone()));
        let broker = Arc::new(BrokerHandle::new(world.broker.clone(), process.clone()));
        let pools = pools.iter().map(|pool| (*pool).to_owned()).collect();
        let config = WorkerConfig {
            worker,
            pools,
            slots,
            about: WorkerAbout { reads: wire::VERSION, ..WorkerAbout::default() },
            grace: Duration::from_millis(DRAIN_MS),
        };
        let (worker, heartbeat) = Worker::new(config, state, broker, Arc::new(work), drained, || 0);
        let beat = tokio::spawn(Running::new(process.clone(), Part::Beat, heartbeat.run()));
        Running::new(process.clone(), Part::Loop, worker.run()).await;
        process.kill();
        // Its heartbeat ends with it.
        drop(beat.await);
        world.check_waits(&process);
        let pause = {
            let mut roster = world.roster();
            roster.workers.retain(|(other, _)| !Arc::ptr_eq(other, &process));
            roster.dice.between(50, 4_000)
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Submits a run, again and again until it is safe; may cancel and resume it.
async fn client(world: Arc<World>, number: u64, shape: Shape, mut dice: Dice) {
    let process = world.new_process("client");
    let state = SimState::new(world.store.clone(), process);
    let submission = plan::submission(number, shape, &mut dice);
    pause(dice.below(4_000)).await;
    let gives_up = dice.chance(100);
    let run = loop {
        let made = tokio::time::timeout(Duration::from_secs(2), submit(&state, submission.clone())).await;
        let Ok(Ok(made)) = made else {
            pause(200).await;
            continue;
        };
        let run = made.run;
        if gives_up || left_out(Twin::SubmissionIsRepeated) {
            break run;
        }
        // A store may forget what is younger than two seconds.
        pause(5_000).await;
        match tokio::time::timeout(Duration::from_secs(2), state.run(run)).await {
            Ok(Ok(Some(_))) => break run,
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => pause(200).await,
        }
    };
    {
        let mut roster = world.roster();
        roster.submitting -= 1;
        if !gives_up || left_out(Twin::SubmissionIsRepeated) {
            roster.acknowledged.push(run);
        }
    }
    // Some look again and again and change their minds, so that much is taken back.
    let (looks, pause_ms_max, cancels) = if dice.chance(300) { (10, 1_500, 700) } else { (dice.below(4), 8_000, 300) };
    for _ in 0..looks {
        pause(dice.between(300, pause_ms_max)).await;
        if world.roster().quiet {
            return;
        }
        let Ok(Ok(Some(record))) = tokio::time::timeout(Duration::from_secs(2), state.run(run)).await else { continue };
        let event = match record.status {
            None if dice.chance(cancels) => InboxEvent::Cancel { run, by: "client".to_owned() },
            Some(RunStatus::Failed | RunStatus::Rejected | RunStatus::Cancelled) if dice.chance(700) => {
                InboxEvent::Resume { run, by: "client".to_owned() }
            }
            _ => continue,
        };
        // Whoever cancels or resumes sees for himself whether it came through.
        drop(tokio::time::timeout(Duration::from_secs(2), state.post(run.shard(), event)).await);
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
