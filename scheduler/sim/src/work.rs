//! Work that ends as the dice fall: at once or late, well or badly, in children, never, or with its worker.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gristmill_backends::artifacts::Artifacts;
use gristmill_protocol::message::{Expansion, InputValue, Items, OnFailure, Outcome, Template};
use gristmill_protocol::{AttemptRef, Digest, ErrorCode, Failure, wire};
use gristmill_worker_runtime::{Execute, Item, TaskControl, Work};
use serde_bytes::ByteBuf;

use crate::artifacts::SimArtifacts;
use crate::dice::{Dice, mix};
use crate::process::Process;
use crate::store::SimStore;

/// What tells a child from its siblings.
#[derive(Clone, Copy, Debug)]
pub enum ItemId<'a> {
    Inline(&'a [u8]),
    Listed(Digest, u32),
}

/// The output of work: a number that depends on all that was put into it.
pub fn output_of(payload: &[u8], item: Option<ItemId<'_>>, inputs: &[Option<&[u8]>]) -> Vec<u8> {
    let mut sum = 0u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            sum = mix(sum ^ u64::from(*byte)).wrapping_add(1);
        }
        sum = mix(sum ^ (bytes.len() as u64) << 32);
    };
    add(payload);
    match item {
        None => {}
        Some(ItemId::Inline(item)) => add(item),
        Some(ItemId::Listed(list, at)) => {
            add(list.as_bytes());
            add(&at.to_le_bytes());
        }
    }
    for input in inputs {
        match input {
            Some(output) => add(output),
            None => add(b"nothing"),
        }
    }
    sum.to_le_bytes().to_vec()
}

/// How often which end comes, of a thousand; what is left succeeds.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub fails: u64,
    pub fails_for_good: u64,
    pub rejects: u64,
    pub hangs: u64,
    pub kills_worker: u64,
    /// Goes on for a while after it was told to stop.
    pub ignores_stop: u64,
    pub takes_long: u64,
}

/// The work of one worker.
pub struct SimWork {
    store: Arc<SimStore>,
    artifacts: Arc<SimArtifacts>,
    process: Arc<Process>,
    habits: Habits,
    dice: Mutex<Dice>,
    running: Arc<Mutex<Vec<(AttemptRef, bool)>>>,
}

/// Takes an attempt off the list of what runs, also when its worker dies.
struct Runs(Arc<Mutex<Vec<(AttemptRef, bool)>>>, AttemptRef);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(attempt, _)| *attempt != self.1);
    }
}

/// How one attempt will go.
enum Fate {
    End(Outcome),
    Hang,
    KillWorker,
}

impl SimWork {
    pub fn new(
        store: Arc<SimStore>,
        artifacts: Arc<SimArtifacts>,
        process: Arc<Process>,
        habits: Habits,
        dice: Dice,
    ) -> SimWork {
        SimWork { store, artifacts, process, habits, dice: Mutex::new(dice), running: Arc::default() }
    }

    fn begin(&self, attempt: AttemptRef) -> Runs {
        let solo = self.store.work_begins(attempt, &self.process);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if (solo && !running.is_empty()) || running.iter().any(|(_, solo)| *solo) {
            self.store.violation(format!("{attempt} or a neighbour must run alone on {}", self.process.name));
        }
        running.push((attempt, solo));
        drop(running);
        Runs(self.running.clone(), attempt)
    }
}

impl Execute for SimWork {
    fn execute(&self, work: Work, control: TaskControl) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let runs = self.begin(work.attempt);
        let (plan, mut later) = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            let plan = draw(&self.habits, &work, &mut dice);
            (plan, dice.fork())
        };
        let (process, artifacts, habits, store) =
            (self.process.clone(), self.artifacts.clone(), self.habits, self.store.clone());
        Box::pin(async move {
            let Plan { takes, fate, list } = plan;
            if let Some(list) = list
                && artifacts.put(list.into()).await.is_err()
            {
                return Outcome::Failed(Failure::new(ErrorCode::Unavailable, "the artifacts are away"));
            }
            let outcome = tokio::select! {
                biased;
                () = control.stopped() => {
                    if later.chance(habits.ignores_stop) {
                        tokio::time::sleep(Duration::from_millis(later.between(100, 3_000))).await;
                    }
                    Outcome::Stopped
                }
                outcome = live_out(takes, fate, &process) => outcome,
            };
            store.trace.say(|| format!("{} ends {} in {outcome:?}", process.name, runs.1));
            drop(runs);
            outcome
        })
    }
}

async fn live_out(takes: Duration, fate: Fate, process: &Process) -> Outcome {
    tokio::time::sleep(takes).await;
    match fate {
        Fate::End(outcome) => outcome,
        Fate::Hang => std::future::pending().await,
        Fate::KillWorker => {
            process.kill();
            std::future::pending().await
        }
    }
}

struct Plan {
    takes: Duration,
    fate: Fate,
    /// A list of items to put before the task ends.
    list: Option<Vec<u8>>,
}

fn draw(habits: &Habits, work: &Work, dice: &mut Dice) -> Plan {
    let takes = if dice.chance(habits.takes_long) {
        dice.between(1_000, 7_000)
    } else if dice.chance(300) {
        dice.between(20, 600)
    } else {
        dice.between(1, 10)
    };
    let poison = work.payload.get(1) == Some(&1);
    let roll = dice.below(1_000);
    let mut at = 0;
    let mut falls = |of_thousand: u64| {
        at += of_thousand;
        roll < at
    };
    let mut list = None;
    let fate = if poison || falls(habits.kills_worker) {
        Fate::KillWorker
    } else if falls(habits.hangs) && work.timeout_ms.is_some() {
        Fate::Hang
    } else if falls(habits.fails) {
        Fate::End(Outcome::Failed(Failure::new(ErrorCode::Unavailable, "away")))
    } else if falls(habits.fails_for_good) {
        Fate::End(Outcome::Failed(Failure::new(ErrorCode::BadInput, "bad")))
    } else if falls(habits.rejects) {
        Fate::End(Outcome::Rejected { reason: "no".to_owned() })
    } else if work.payload.first().is_some_and(|levels| *levels > 0) {
        let (expansion, items) = expand(work, dice);
        list = items;
        Fate::End(Outcome::Expanded(expansion))
    } else {
        let item = work.item.as_ref().map(|item| match item {
            Item::Inline(bytes) => ItemId::Inline(bytes),
            Item::Listed { list, index } => ItemId::Listed(*list, *index),
        });
        let mut inputs: Vec<Option<&[u8]>> = Vec::new();
        for input in work.inputs.iter() {
            match &input.value {
                InputValue::Output(output) => inputs.push(Some(output)),
                InputValue::Children(outputs) => {
                    inputs.extend(outputs.iter().map(|output| output.as_deref().map(|bytes| &bytes[..])))
                }
                InputValue::ChildrenArtifact(digest) => inputs.push(Some(digest.as_bytes())),
            }
        }
        let output = output_of(&work.payload, item, &inputs);
        Fate::End(Outcome::Succeeded { output: ByteBuf::from(output), cached: dice.chance(50) })
    };
    Plan { takes: Duration::from_millis(takes), fate, list }
}

/// Children that differ from those of any other try, so that a mix-up shows.
fn expand(work: &Work, dice: &mut Dice) -> (Expansion, Option<Vec<u8>>) {
    let levels = work.payload[0];
    let count = dice.between(1, if levels > 1 { 3 } else { 6 });
    let mut nonce = || dice.number().to_le_bytes().to_vec();
    let all: Vec<ByteBuf> = (0..count).map(|_| ByteBuf::from(nonce())).collect();
    let [mut child, mut join] = [vec![levels - 1, 0], vec![0, 0]];
    child.extend(nonce());
    join.extend(nonce());
    let (mut list, mut items) = (None, Items::Inline(all.clone()));
    if dice.chance(200) {
        let bytes = wire::encode(&all);
        items = Items::Artifact { digest: Digest::of(&bytes), count: count as u32 };
        list = Some(bytes);
    }
    if levels == 1 && dice.chance(150) {
        // Another round, once.
        join[0] = 1;
    }
    let expansion = Expansion {
        child: Template { payload: ByteBuf::from(child) },
        items,
        join: Template { payload: ByteBuf::from(join) },
        on_failure: if dice.chance(500) { OnFailure::Fail } else { OnFailure::Tolerate(1) },
    };
    (expansion, list)
}
