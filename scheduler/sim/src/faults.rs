//! What goes wrong in an execution, drawn before it begins: some kinds of trouble, each at some times.
//!
//! Each execution draws the kinds it has, so that some are all about one kind and every pair meets in many.

use std::sync::Arc;
use std::time::Duration;

use gristmill_worker_runtime::Drain;
use tokio::time::Instant;

use crate::broker::Manners;
use crate::dice::Dice;
use crate::plan::POOLS;
use crate::process::{Blow, Fuse, Moment, Part, Process};
use crate::store::Weather;
use crate::work::Habits;
use crate::world::World;

/// The trouble of an execution.
#[derive(Clone, Debug)]
pub struct Faults {
    pub weather: Weather,
    pub manners: Manners,
    pub habits: Habits,
    /// What happens when, in milliseconds after the beginning.
    timed: Vec<(u64, Fault)>,
    /// Milliseconds until all is quiet.
    lasts_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillScheduler,
    StopScheduler { ms: u64 },
    FuseScheduler(Fuse),
    CutScheduler { ms: u64 },
    KillWorker,
    StopWorker { ms: u64 },
    StopWorkersLoop { ms: u64 },
    FuseWorker(Fuse),
    CutWorker { ms: u64 },
    DrainWorker { now: bool },
    RestartBroker { down_ms: u64, forgets: bool },
    DeleteQueue,
    CutFromBroker,
    RestartStore { down_ms: u64, back_ms: u64, step_ms: i64 },
    SlowStore { ms: u64 },
    StepClock { ms: i64 },
}

impl Faults {
    /// Draws what will go wrong.
    pub fn draw(dice: &mut Dice) -> Faults {
        let mut sometimes = |most: u64| if dice.chance(500) { dice.between(1, most) } else { 0 };
        let weather = Weather { fails: sometimes(30), hangs: sometimes(5), slow: sometimes(50) };
        let manners =
            Manners { loses: sometimes(60), doubles: sometimes(200), swaps: sometimes(500), delays: sometimes(100) };
        let habits = Habits {
            fails: sometimes(150),
            fails_for_good: sometimes(40),
            rejects: sometimes(20),
            hangs: sometimes(60),
            kills_worker: sometimes(20),
            ignores_stop: sometimes(500),
            takes_long: sometimes(150),
        };
        let lasts_ms = dice.between(6_000, 25_000);
        let kinds: Vec<u64> = (0..16).filter(|_| dice.chance(300)).collect();
        let mut timed = Vec::new();
        for _ in 0..dice.below(10) {
            let Some(kind) = dice.pick(&kinds).copied() else { break };
            let at = dice.between(200, lasts_ms - 500);
            timed.push((at, Fault::draw(kind, dice)));
        }
        timed.sort_by_key(|(at, _)| *at);
        Faults { weather, manners, habits, timed, lasts_ms }
    }
}

impl Fault {
    fn draw(kind: u64, dice: &mut Dice) -> Fault {
        let fuse = |dice: &mut Dice, verbs: &[&'static str]| {
            // What a process does most often is to look; its few changes are what others depend on.
            let verb = if dice.chance(500) { dice.pick(verbs).copied() } else { None };
            let calls = if verb.is_some() { dice.between(1, 2) } else { dice.between(1, 40) };
            let moment = if dice.chance(500) { Moment::Before } else { Moment::After };
            let blow = if dice.chance(500) { Blow::Kill } else { Blow::Stop(dice.between(100, 8_000)) };
            Fuse { calls, verb, moment, blow }
        };
        match kind {
            0 => Fault::KillScheduler,
            1 => Fault::StopScheduler { ms: dice.between(300, 9_000) },
            2 => Fault::FuseScheduler(fuse(dice, &["append", "revoke", "revoke", "expire", "publish"])),
            3 => Fault::CutScheduler { ms: dice.between(300, 9_000) },
            4 => Fault::KillWorker,
            5 => Fault::StopWorker { ms: dice.between(300, 14_000) },
            6 => Fault::StopWorkersLoop { ms: dice.between(300, 9_000) },
            7 => Fault::FuseWorker(fuse(dice, &["claim", "finish", "renew"])),
            8 => Fault::CutWorker { ms: dice.between(300, 14_000) },
            9 => Fault::DrainWorker { now: dice.chance(500) },
            10 => Fault::RestartBroker { down_ms: dice.below(3_000), forgets: dice.chance(500) },
            11 => Fault::DeleteQueue,
            12 => Fault::CutFromBroker,
            13 => {
                let step_ms = if dice.chance(150) { dice.between(0, 6_000) as i64 - 3_000 } else { 0 };
                let down_ms = if dice.chance(300) { dice.between(1_000, 8_000) } else { dice.below(1_000) };
                Fault::RestartStore { down_ms, back_ms: dice.below(2_001), step_ms }
            }
            14 => Fault::SlowStore { ms: dice.between(500, 5_000) },
            _ => {
                let ms = dice.between(100, 15_000) as i64;
                Fault::StepClock { ms: if dice.chance(500) { ms } else { -ms } }
            }
        }
    }
}

/// Lets everything go wrong at its time, until all is quiet.
pub(crate) async fn wreak(world: &Arc<World>, faults: &Faults, mut dice: Dice) {
    let begin = Instant::now();
    let at = move |ms: u64| begin + Duration::from_millis(ms);
    // The store is restarted by a task of its own, one time after the other, so that everything else can go on
    // going wrong in the meantime and the store never goes back by more than is meant.
    let (restarts, others): (Vec<_>, Vec<_>) =
        faults.timed.iter().copied().partition(|(_, fault)| matches!(fault, Fault::RestartStore { .. }));
    let store = world.store.clone();
    let restarting = tokio::spawn(async move {
        for (when, fault) in restarts {
            let Fault::RestartStore { down_ms, back_ms, step_ms } = fault else { continue };
            tokio::time::sleep_until(at(when.saturating_sub(back_ms))).await;
            let snapshot = (back_ms > 0).then(|| store.snapshot());
            tokio::time::sleep(Duration::from_millis(back_ms)).await;
            if step_ms != 0 {
                store.step_clock(step_ms);
            }
            store.restart(down_ms, snapshot).await;
        }
    });
    for (when, fault) in others {
        tokio::time::sleep_until(at(when)).await;
        happen(world, fault, &mut dice);
    }
    tokio::time::sleep_until(at(faults.lasts_ms)).await;
    // Whatever is under way comes to its end.
    drop(restarting.await);
}

fn happen(world: &Arc<World>, fault: Fault, dice: &mut Dice) {
    let scheduler = |dice: &mut Dice| dice.pick(&world.roster().schedulers).cloned();
    let worker = |dice: &mut Dice| dice.pick(&world.roster().workers).map(|(process, _)| process.clone());
    let both = [Part::Loop, Part::Beat];
    let on = |process: Option<Arc<Process>>, act: &dyn Fn(&Arc<Process>)| {
        if let Some(process) = process {
            act(&process);
        }
    };
    match fault {
        Fault::KillScheduler => on(scheduler(dice), &|process| process.kill()),
        Fault::StopScheduler { ms } => on(scheduler(dice), &|process| process.stop(ms, &both)),
        Fault::FuseScheduler(fuse) => on(scheduler(dice), &|process| process.set_fuse(fuse)),
        Fault::CutScheduler { ms } => on(scheduler(dice), &|process| process.cut(ms)),
        Fault::KillWorker => on(worker(dice), &|process| process.kill()),
        Fault::StopWorker { ms } => on(worker(dice), &|process| process.stop(ms, &both)),
        Fault::StopWorkersLoop { ms } => on(worker(dice), &|process| process.stop(ms, &both[..1])),
        Fault::FuseWorker(fuse) => on(worker(dice), &|process| process.set_fuse(fuse)),
        Fault::CutWorker { ms } => on(worker(dice), &|process| {
            process.cut(ms);
            world.broker.cut(process);
        }),
        Fault::DrainWorker { now } => {
            if let Some((process, drain)) = dice.pick(&world.roster().workers) {
                world.trace.say(|| format!("{} is to drain; at once: {now}", process.name));
                drain.send_replace(if now { Drain::Now } else { Drain::Finish });
            }
        }
        Fault::RestartBroker { down_ms, forgets } => {
            let world = world.clone();
            tokio::spawn(async move {
                world.broker.restart(down_ms, forgets).await;
                if forgets {
                    world.store.look_after_publishing(None);
                }
            });
        }
        Fault::DeleteQueue => {
            if let Some(queue) = dice.pick(&POOLS) {
                world.broker.delete_queue(queue);
            }
        }
        Fault::CutFromBroker => on(worker(dice), &|process| world.broker.cut(process)),
        Fault::RestartStore { .. } => {}
        Fault::SlowStore { ms } => world.store.be_slow(ms),
        Fault::StepClock { ms } => world.store.step_clock(ms),
    }
}
