//! Keepers over a real store, with journals as the real core writes them.

use std::sync::Arc;

use gristmill_backends::state::{Append, AppendEntry, NewRun, StatusChange};
use gristmill_pools::costs::{Amount, Budgets, Prices};
use gristmill_protocol::fact::{Fact, JournalBody};
use gristmill_protocol::message::InboxEvent;
use gristmill_protocol::output::Output;
use gristmill_protocol::{ErrorCode, OwnerToken, RunId, Timestamp, wire};
use serde_json::json;

use super::*;
use crate::journal::Recorder;
use crate::world::{START, World, killed_after};

/// A euro a slot-second.
fn prices() -> Prices {
    serde_json::from_value(json!({ "currency": "EUR", "pools": { "default": { "slot_hour": 3_600.0 } } }))
        .expect("right")
}

fn limits(value: serde_json::Value) -> Budgets {
    serde_json::from_value(value).expect("right")
}

impl World {
    fn costs(&self, budgets: serde_json::Value) -> CostsKeeper {
        CostsKeeper::new(Arc::clone(&self.state), prices(), limits(budgets))
    }

    /// Makes a run whose journal says this; it ends if the journal says so.
    async fn play(&self, namespace: &str, pipeline: &str, number: u128, facts: &[Fact]) -> RunId {
        // Among the times of the store, so that it isn't too old to be remembered.
        let run = RunId::derive(Timestamp(START), namespace, &format!("{pipeline}{number}"), None);
        let entry = wire::encode(&JournalBody { facts: facts[..1].to_vec() });
        let (pipeline, namespace) = (pipeline.to_owned(), namespace.to_owned());
        let new = NewRun { run, pipeline, namespace, entry, idempotency: None };
        self.state.create_run(new).await.expect("made");
        self.go_on(run, &facts[1..]).await;
        run
    }

    /// Writes what happens next to a run.
    async fn go_on(&self, run: RunId, facts: &[Fact]) {
        let (shard, token) = (run.shard(), OwnerToken { epoch: 1, instance: 1 });
        self.state.own(shard, token, std::time::Duration::from_secs(10)).await.expect("owned");
        let mut head = self.state.run(run).await.expect("read").expect("it is there").head;
        for fact in facts {
            head += 1;
            let status = match fact {
                Fact::RunEnded { status, .. } => StatusChange::Ended(*status),
                Fact::Resumed { .. } => StatusChange::Reopened,
                _ => StatusChange::None,
            };
            let body = wire::encode(&JournalBody { facts: vec![fact.clone()] });
            let entry = AppendEntry { run, position: head, body, settled: Vec::new(), status };
            let append = Append { shard, token, id: head, entries: vec![entry], consumed: Vec::new() };
            self.state.append(append).await.expect("written");
        }
    }

    async fn cancels(&self, run: RunId) -> Vec<String> {
        let after = [(run.shard(), Default::default())];
        let inbox = self.state.inbox(&after, std::time::Duration::ZERO, 1_000).await.expect("read");
        let by = inbox.into_iter().filter_map(|(_, entry)| match entry.event {
            InboxEvent::Cancel { run: cancelled, by } if cancelled == run => Some(by),
            _ => None,
        });
        by.collect()
    }

    async fn spent(&self) -> Amount {
        let sums = sums(&*self.state, 0, START / DAY_MS + 30).await.expect("read");
        sums.spent(|_| true).amount
    }
}

/// A run of one step that takes so many seconds and ends.
fn seconds(count: u64) -> Recorder {
    let mut run = Recorder::new(&[("a", "noop", &[])]);
    run.after(count * 1_000).succeed(0, &Output::Nothing);
    run
}

#[test]
fn a_run_costs_what_all_its_attempts_used_and_waste_is_told_apart() {
    let mut run = Recorder::new(&[("a", "noop", &[]), ("b", "noop", &["a"])]);
    run.after(2_000).fail(0, ErrorCode::Unavailable, "gone");
    run.after(60_000);
    run.after(3_000).succeed(0, &Output::Nothing);
    let facts = run.facts.clone();
    let history = crate::history::History::fold(run.run, &facts).expect("it can be told");
    let used = history.uses.of_lives(|_| true)[&0];
    assert_eq!((used.attempts, used.wasted_us), (2, 2_000_000));
    let cost = RunCost::of(&history, &[(1, 500_000)].into(), &prices(), |_| true);
    assert_eq!(cost.steps[1].amount, Some(Amount(500_000_000)), "what is out costs too");
    assert_eq!(cost.wasted, Amount(2_000_000_000));
    assert_eq!(cost.amount.0, (used.slot_us + 500_000) * 1_000);
    assert_eq!((cost.slot_us(), cost.wasted_us(), cost.unpriced_us()), (used.slot_us + 500_000, 2_000_000, 0));
    let free = RunCost::of(&history, &Default::default(), &Prices::default(), |_| true);
    assert_eq!((free.amount, free.unpriced_us()), (Amount::ZERO, used.slot_us));
    assert_eq!(free.pools()["default"], (used.slot_us, None, None));
}

#[tokio::test(start_paused = true)]
async fn ended_runs_are_counted_once_by_several_keepers_over_days() {
    let world = World::new();
    let mut keepers = [world.costs(json!({})), world.costs(json!({}))];
    for day in 0..3u64 {
        for number in 0..5 {
            world.play("default", "nightly", u128::from(day * 10 + number), &seconds(2).facts).await;
        }
        for _ in 0..4 {
            world.pass(1_000).await;
            for keeper in &mut keepers {
                keeper.look().await.expect("looked");
            }
        }
        assert_eq!(world.spent().await, Amount((day + 1) * 10_000_000_000));
        world.pass(DAY_MS).await;
    }
    let sums = sums(&*world.state, START / DAY_MS, START / DAY_MS + 1).await.expect("read");
    assert_eq!(sums.days.iter().map(|day| day.runs).collect::<Vec<_>>(), [5, 5]);
    let row = &sums.days[0].rows()[0];
    assert_eq!((row.pipeline.as_str(), row.step.as_str(), row.spent.attempts), ("nightly", "a", 5));
    assert_eq!(super::prices(&*world.state).await.expect("read"), prices());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_is_killed_anywhere_counts_each_run_once() {
    for polls in 1..25 {
        let world = World::new();
        world.play("default", "a", 1, &seconds(3).facts).await;
        world.pass(DAY_MS).await;
        world.play("default", "a", 2, &seconds(4).facts).await;
        for _ in 0..4 {
            world.pass(20_000).await;
            killed_after(polls, world.costs(json!({})).look()).await;
        }
        let mut last = world.costs(json!({}));
        for _ in 0..5 {
            world.pass(20_000).await;
            last.look().await.expect("looked");
        }
        assert_eq!(world.spent().await, Amount(7_000_000_000), "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_pays_for_each_of_its_lives_once() {
    let world = World::new();
    let mut keeper = world.costs(json!({}));
    let mut run = Recorder::new(&[("a", "noop", &[])]);
    run.after(2_000).fail(0, ErrorCode::BadInput, "no");
    let first = run.facts.len();
    let id = world.play("default", "a", 1, &run.facts).await;
    assert!(world.state.run(id).await.expect("read").expect("there").ended.is_some(), "{:?}", run.facts);
    for _ in 0..3 {
        world.pass(1_000).await;
        keeper.look().await.expect("looked");
    }
    assert_eq!(world.spent().await, Amount(2_000_000_000));
    run.resume("ann").after(5_000).fail(0, ErrorCode::BadInput, "no");
    let second = run.facts.len();
    world.go_on(id, &run.facts[first..second]).await;
    // And again before anybody looks.
    world.pass(10).await;
    run.resume("ann").after(7_000).succeed(0, &Output::Nothing);
    world.go_on(id, &run.facts[second..]).await;
    for _ in 0..3 {
        world.pass(1_000).await;
        keeper.look().await.expect("looked");
    }
    assert_eq!(world.spent().await, Amount(14_000_000_000));
}

#[tokio::test(start_paused = true)]
async fn a_budget_warns_and_then_stops_the_runs_of_its_scope_until_its_period_ends() {
    let world = World::new();
    let team = json!({ "team": { "namespace": "team-a", "period": "day", "amount": 10, "at_limit": "stop" } });
    let mut keepers = [world.costs(team.clone()), world.costs(team)];
    let mut look = async |world: &World| {
        for _ in 0..11 {
            world.pass(1_000).await;
            for keeper in &mut keepers {
                keeper.look().await.expect("looked");
            }
        }
        budgets(&*world.state).await.expect("read").pop().expect("there is one")
    };
    let open = &Recorder::new(&[("a", "noop", &[])]).facts[..1].to_vec();
    let ours = world.play("team-a", "a", 1, open).await;
    let theirs = world.play("team-b", "a", 1, open).await;
    world.play("team-a", "a", 2, &seconds(7).facts).await;
    world.play("team-b", "a", 2, &seconds(100).facts).await;
    let document = look(&world).await;
    assert_eq!((document.spent, document.warned, document.reached), (Amount(7_000_000_000), None, None));
    world.play("team-a", "a", 3, &seconds(1).facts).await;
    let document = look(&world).await;
    assert!(document.warned.is_some() && document.reached.is_none(), "{document:?}");
    assert!(world.cancels(ours).await.is_empty());
    world.play("team-a", "a", 4, &seconds(2).facts).await;
    let document = look(&world).await;
    assert!(document.reached.is_some() && document.ratio() >= 1.0, "{document:?}");
    assert_eq!(world.cancels(ours).await, ["budget team"], "once, though two keepers looked");
    assert!(world.cancels(theirs).await.is_empty());
    let late = world.play("team-a", "a", 5, open).await;
    look(&world).await;
    assert_eq!(world.cancels(late).await, ["budget team"], "it came later");
    world.pass(DAY_MS).await;
    let document = look(&world).await;
    assert_eq!((document.warned, document.reached, document.spent), (None, None, Amount::ZERO));
    let tomorrow = world.play("team-a", "a", 6, open).await;
    look(&world).await;
    assert!(world.cancels(tomorrow).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_open_runs_use_counts_while_they_run() {
    let world = World::new();
    let each = json!({ "each": { "period": "run", "amount": 60, "at_limit": "stop" }, "all": { "period": "month", "amount": 1000 } });
    let mut keeper = world.costs(each);
    let mut long = Recorder::new(&[("a", "noop", &[])]);
    // As if it had begun with the world.
    let shift = |fact: &Fact| match fact.clone() {
        Fact::Assigned { solo, ranges, .. } => Fact::Assigned { at: Timestamp(START), solo, ranges },
        fact => fact,
    };
    long.after(10);
    let facts: Vec<Fact> = long.facts.iter().map(shift).collect();
    assert!(facts.iter().any(|fact| matches!(fact, Fact::Assigned { .. })), "{facts:?}");
    let long = world.play("default", "long", 1, &facts).await;
    world.pass(30_000).await;
    keeper.look().await.expect("looked");
    let found = budgets(&*world.state).await.expect("read");
    let spent: Vec<(&str, Amount)> = found.iter().map(|found| (found.name.as_str(), found.open)).collect();
    assert_eq!(spent, [("all", Amount(30_000_000_000)), ("each", Amount(30_000_000_000))]);
    assert_eq!(found[1].run, Some(long));
    assert!(world.cancels(long).await.is_empty());
    world.pass(31_000).await;
    keeper.look().await.expect("looked");
    assert_eq!(world.cancels(long).await, ["budget each"]);
    assert_eq!(keeper.ratios().borrow()["all"], 0.061);
}
