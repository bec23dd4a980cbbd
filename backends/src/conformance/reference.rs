//! The same verbs, at random, against the store and against the model: both must say the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::{InboxEvent, InboxId, Outcome, Revoked};
use gristmill_protocol::{AttemptRef, RunId, TaskKey, Timestamp, WorkerId};

use super::state::{OWNER, SHARD, SHARD_LEASE, entry, failure, new_run, renewal, report, run_id, success};
use super::{StateFixture, cases};
use crate::state::memory::MemoryStore;
use crate::state::{
    Append, AppendEntry, Claim, ClaimItem, Claimed, Finish, FinishAnswer, HeldLease, LeaseView, NewRun, RunFilter,
    RunRecord, State, StatusChange, StatusFilter, StoreId,
};

cases!(StateFixture: verbs_answer_as_the_model_does);

const SEEDS: u64 = 8;
const STEPS: usize = 400;

async fn verbs_answer_as_the_model_does(fixture: Arc<dyn StateFixture>) {
    for seed in 1..=SEEDS {
        let state = fixture.fresh().await;
        let model = MemoryStore::new(StoreId(1), fixture.ageing());
        let mut pair = Pair { state, model, heads: BTreeMap::new(), seen: Default::default() };
        pair.state.own(SHARD, OWNER, SHARD_LEASE).await.expect("the shard is free");
        pair.model.own(SHARD, OWNER, SHARD_LEASE, NOW);
        let mut dice = Dice(seed);
        for step in 0..STEPS {
            let context = format!("seed {seed}, step {step}");
            let what = pair.step(&mut dice, &context).await;
            pair.compare_inboxes(&format!("{context}: {what}")).await;
        }
    }
}

/// The model's time stands still: nothing here depends on it.
const NOW: Timestamp = Timestamp(1_000);

/// A small generator of repeatable numbers: xorshift by Marsaglia, "Xorshift RNGs", 2003, section 3.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Few runs, tasks and attempts, so that they meet often.
    fn attempt(&mut self) -> AttemptRef {
        let task = TaskKey { index: self.below(4) as u32, tag: self.below(2) as u32 };
        AttemptRef { run: self.run(), task, attempt: 1 + self.below(3) as u16 }
    }

    fn attempts(&mut self) -> Vec<AttemptRef> {
        (0..1 + self.below(3)).map(|_| self.attempt()).collect()
    }

    fn run(&mut self) -> RunId {
        run_id(self.below(3), "random")
    }

    fn name(&mut self) -> String {
        format!("name-{}", self.below(2))
    }

    fn filter(&mut self) -> RunFilter {
        let namespaces = (self.below(2) == 0).then(|| (0..self.below(3)).map(|_| self.name()).collect());
        let pipeline = (self.below(2) == 0).then(|| self.name());
        let status = match self.below(4) {
            0 => Some(StatusFilter::Open),
            1 => Some(StatusFilter::Ended(RunStatus::Failed)),
            _ => None,
        };
        RunFilter { namespaces, pipeline, status }
    }

    fn worker(&mut self) -> WorkerId {
        WorkerId(1 + self.below(3))
    }

    fn outcome(&mut self) -> Outcome {
        match self.below(3) {
            0 => success(),
            1 => failure(),
            _ => Outcome::Stopped,
        }
    }
}

struct Pair {
    state: Arc<dyn State>,
    model: MemoryStore,
    heads: BTreeMap<RunId, u64>,
    /// What was last read of each inbox: the store's and the model's.
    seen: (InboxId, InboxId),
}

impl Pair {
    async fn step(&mut self, dice: &mut Dice, context: &str) -> String {
        match dice.below(13) {
            0 => {
                let run = dice.run();
                let new = NewRun { namespace: dice.name(), pipeline: dice.name(), ..new_run(run) };
                let what = format!("create {}", new.run);
                let (theirs, ours) =
                    (self.state.create_run(new.clone()).await, self.model.create_run(new.clone(), NOW));
                assert_eq!(theirs.ok(), ours.ok(), "{context}: {what}");
                self.heads.entry(new.run).or_insert(1);
                what
            }
            1 | 2 => self.append(dice, context).await,
            3..6 => {
                let items =
                    dice.attempts().into_iter().map(|attempt| ClaimItem { attempt, timeout_ms: None }).collect();
                let claim = Claim { shard: SHARD, worker: dice.worker(), attempts: items };
                let theirs: Claimed = self.state.claim(claim.clone()).await.expect("answered");
                assert_eq!(theirs, self.model.claim(&claim, NOW), "{context}: {claim:?}");
                format!("{claim:?}")
            }
            6..9 => {
                let reports = dice.attempts().into_iter().map(|attempt| report(attempt, dice.outcome())).collect();
                let finish = Finish { shard: SHARD, worker: dice.worker(), reports };
                let theirs: Vec<FinishAnswer> = self.state.finish(finish.clone()).await.expect("answered");
                assert_eq!(theirs, self.model.finish(finish.clone(), NOW), "{context}: {finish:?}");
                format!("{finish:?}")
            }
            9 => {
                let hold = |attempt| HeldLease { attempt, timeout_left_ms: None, progress: None };
                let held = dice.attempts().into_iter().map(hold).collect();
                let renewal = renewal(dice.worker(), held);
                let theirs = self.state.renew(renewal.clone()).await.expect("answered").stop;
                assert_eq!(theirs, self.model.renew(renewal.clone(), NOW).stop, "{context}: {renewal:?}");
                format!("{renewal:?}")
            }
            10 => {
                let attempts = dice.attempts();
                self.state.revoke(SHARD, OWNER, &attempts).await.expect("the owner may");
                self.model.revoke(SHARD, OWNER, &attempts, NOW).expect("the owner may");
                format!("revoke {attempts:?}")
            }
            11 => {
                let filter = dice.filter();
                let seen = |records: Vec<RunRecord>| -> Vec<(RunId, Option<RunStatus>, u64)> {
                    records.into_iter().map(|record| (record.run, record.status, record.head)).collect()
                };
                let theirs = self.state.find_runs(&filter, None, 10).await.expect("answered");
                let ours = self.model.find_runs(&filter, None, 10).expect("answered");
                assert_eq!(seen(theirs.records), seen(ours.records), "{context}: {filter:?}");
                format!("{filter:?}")
            }
            _ => {
                let attempts = dice.attempts();
                let theirs = self.state.leases(SHARD, &attempts).await.expect("answered");
                let ours = self.model.leases(SHARD, &attempts);
                let timeless = |views: Vec<LeaseView>| views.into_iter().map(without_time).collect::<Vec<_>>();
                assert_eq!(timeless(theirs), timeless(ours), "{context}: leases of {attempts:?}");
                format!("leases {attempts:?}")
            }
        }
    }

    /// Appends at the right position, or now and then at a wrong one.
    async fn append(&mut self, dice: &mut Dice, context: &str) -> String {
        let run = dice.run();
        let head = self.heads.get(&run).copied().unwrap_or(0);
        let status = match dice.below(10) {
            0 => StatusChange::Closing,
            1 => StatusChange::Ended(RunStatus::Failed),
            2 | 3 => StatusChange::Reopened,
            _ => StatusChange::None,
        };
        let settled = if dice.below(4) == 0 { vec![dice.below(4) as u32] } else { Vec::new() };
        let position = if dice.below(8) == 0 { dice.below(4) } else { head + 1 };
        let entry = AppendEntry { settled, status, ..entry(run, position) };
        let id = dice.below(1_000_000);
        let append = Append { shard: SHARD, token: OWNER, id, entries: vec![entry], consumed: vec![] };
        let theirs = self.state.append(append.clone()).await.map_err(|error| error.to_string());
        let ours = self.model.append(&append, NOW).map_err(|error| error.to_string());
        assert_eq!(theirs, ours, "{context}: {append:?}");
        if ours.is_ok() {
            self.heads.insert(run, position);
        }
        let theirs = self.state.run(run).await.expect("readable").map(|record| (record.head, record.status));
        let ours = self.model.run(run).map(|record| (record.head, record.status));
        assert_eq!(theirs, ours, "{context}: {append:?}");
        format!("{append:?}")
    }

    async fn compare_inboxes(&mut self, context: &str) {
        let theirs = self.state.inbox(&[(SHARD, self.seen.0)], Duration::ZERO, 100).await.expect("readable");
        let ours = self.model.inbox(&[(SHARD, self.seen.1)], 100);
        self.seen.0 = theirs.last().map_or(self.seen.0, |(_, entry)| entry.id);
        self.seen.1 = ours.last().map_or(self.seen.1, |(_, entry)| entry.id);
        let events =
            |entries: Vec<(_, _)>| entries.into_iter().map(|(_, entry)| timeless_event(entry)).collect::<Vec<_>>();
        assert_eq!(events(theirs), events(ours), "{context}");
    }
}

fn timeless_event(entry: gristmill_protocol::message::InboxEntry) -> InboxEvent {
    match entry.event {
        InboxEvent::Revoked { ended } => InboxEvent::Revoked {
            ended: ended
                .into_iter()
                .map(|revoked| {
                    let holder = revoked.holder.map(|mut holder| {
                        holder.until = Timestamp(0);
                        holder
                    });
                    Revoked { holder, ..revoked }
                })
                .collect(),
        },
        other => other,
    }
}

fn without_time(view: LeaseView) -> LeaseView {
    match view {
        LeaseView::Unclaimed => LeaseView::Unclaimed,
        LeaseView::Held(mut holder) => {
            holder.until = Timestamp(0);
            LeaseView::Held(holder)
        }
        LeaseView::Closed { .. } => LeaseView::Closed { since: Timestamp(0) },
    }
}
