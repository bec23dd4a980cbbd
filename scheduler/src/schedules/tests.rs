//! Keepers over a real store whose clock the test moves.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use expect_test::{Expect, expect};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::{InboxEvent, InboxId};
use gristmill_protocol::schedule::{CatchUp, Overlap, Schedule, TickOutcome};
use gristmill_protocol::submission::SubmissionMessage;
use gristmill_protocol::{Shard, Timestamp};

use super::*;
use crate::pipelines;
use crate::world::{START, World, killed_after};

const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;
const SECOND: u64 = 1_000;

impl World {
    fn keeper(&self) -> SchedulesKeeper {
        SchedulesKeeper::new(Arc::clone(&self.state), Arc::clone(&self.artifacts))
    }

    async fn put(&self, name: &str, schedule: Schedule) {
        put(&*self.state, "default", name, schedule, "ann").await.expect("it is right");
    }

    async fn get(&self, name: &str) -> ScheduleDocument {
        get(&*self.state, "default", name).await.expect("it is there")
    }

    /// What became of the ticks of a schedule, in hours since the start.
    async fn check(&self, name: &str, expected: Expect) {
        let document = self.get(name).await;
        let mut told = String::new();
        for record in &document.recent {
            let outcome = match &record.outcome {
                TickOutcome::Fired { run, cancelled } => {
                    assert_eq!(run.submitted_at(), record.tick_ms, "a run is as old as its tick");
                    if cancelled.is_some() { "fired, the one before cancelled".to_owned() } else { "fired".to_owned() }
                }
                TickOutcome::Skipped { reason } => format!("skipped: {}", without_ids(reason)),
                TickOutcome::Missed { since_ms, reason } => format!("missed from {}: {reason}", hour(*since_ms)),
                TickOutcome::Failed { reason } => format!("failed: {reason}"),
            };
            told += &format!("{} {outcome}\n", hour(record.tick_ms));
        }
        expected.assert_eq(&told);
        let fired = document.recent.iter().filter(|record| matches!(record.outcome, TickOutcome::Fired { .. })).count();
        assert_eq!(self.runs().await.len(), fired, "each run is known, and there are no others");
    }
}

fn hour(time: Timestamp) -> String {
    let minutes = (time.0 - START) / MINUTE;
    format!("{}:{:02}", minutes / 60, minutes % 60)
}

fn without_ids(text: &str) -> String {
    text.split('`').enumerate().map(|(at, part)| if at % 2 == 1 { "RUN" } else { part }).collect()
}

fn hourly() -> Schedule {
    Schedule {
        cron: "@hourly".to_owned(),
        timezone: "UTC".to_owned(),
        submit: SubmissionMessage {
            pipeline: Some("name: x\nsteps:\n  a: { noop: {} }\n".to_owned()),
            ..SubmissionMessage::default()
        },
        overlap: Overlap::Allow,
        catch_up: CatchUp::Last,
        paused: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_fires_at_its_ticks_and_follows_changes() {
    let world = World::new();
    world.put("x", hourly()).await;
    let mut keeper = world.keeper();
    for _ in 0..8 {
        world.pass(30 * MINUTE).await;
        keeper.look().await.expect("looked");
        keeper.look().await.expect("looked");
    }
    set_paused(&*world.state, "default", "x", true, "ann").await.expect("paused");
    world.pass(2 * HOUR).await;
    keeper.look().await.expect("looked");
    set_paused(&*world.state, "default", "x", false, "ann").await.expect("goes on");
    world.put("x", Schedule { cron: "30 * * * *".to_owned(), ..hourly() }).await;
    world.pass(40 * MINUTE).await;
    keeper.look().await.expect("looked");
    world
        .check(
            "x",
            expect![[r#"
                1:00 fired
                2:00 fired
                3:00 fired
                4:00 fired
                6:30 fired
            "#]],
        )
        .await;
    delete(&*world.state, "default", "x").await.expect("deleted");
    world.pass(2 * HOUR).await;
    keeper.look().await.expect("looked");
    assert_eq!(world.runs().await.len(), 5);
    assert!(matches!(get(&*world.state, "default", "x").await, Err(ScheduleError::None { .. })));
}

#[tokio::test(start_paused = true)]
async fn ticks_that_nobody_saw_are_made_up_for_as_asked() {
    for (catch_up, expected) in [
        (
            CatchUp::None,
            expect![[r#"
            3:00 missed from 1:00: no scheduler looked at it within 60 s of the tick, and none is made up for
        "#]],
        ),
        (
            CatchUp::Last,
            expect![[r#"
            2:00 missed from 1:00: no scheduler looked at it within 60 s of the tick, and only the last one is made up for
            3:00 fired
        "#]],
        ),
        (
            CatchUp::All,
            expect![[r#"
            1:00 fired
            2:00 fired
            3:00 fired
        "#]],
        ),
    ] {
        let world = World::new();
        world.put("x", Schedule { catch_up, ..hourly() }).await;
        world.pass(3 * HOUR + 2 * MINUTE).await;
        // Another scheduler than the one that was killed.
        world.keeper().look().await.expect("looked");
        world.keeper().look().await.expect("looked");
        world.check("x", expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_run_holds_off_the_next_one_or_is_cancelled() {
    let world = World::new();
    let mut keeper = world.keeper();
    world.put("x", Schedule { overlap: Overlap::Skip, ..hourly() }).await;
    for _ in 0..3 {
        world.pass(HOUR).await;
        keeper.look().await.expect("looked");
    }
    world.end(world.runs().await[0], RunStatus::Succeeded).await;
    world.pass(HOUR).await;
    keeper.look().await.expect("looked");
    world
        .check(
            "x",
            expect![[r#"
                1:00 fired
                2:00 skipped: RUN of an earlier tick was still open
                3:00 skipped: RUN of an earlier tick was still open
                4:00 fired
            "#]],
        )
        .await;

    let world = World::new();
    let mut keeper = world.keeper();
    world.put("x", Schedule { overlap: Overlap::Cancel, ..hourly() }).await;
    for _ in 0..2 {
        world.pass(HOUR).await;
        keeper.look().await.expect("looked");
    }
    let cancelled = world.runs().await[1];
    let after: Vec<(Shard, InboxId)> = Shard::all().map(|shard| (shard, InboxId::default())).collect();
    let inbox = world.state.inbox(&after, Duration::ZERO, 100).await.expect("read");
    let cancels = inbox.into_iter().filter_map(|(shard, entry)| match entry.event {
        InboxEvent::Cancel { run, by } => Some((shard, run, by)),
        _ => None,
    });
    assert_eq!(cancels.collect::<Vec<_>>(), [(cancelled.shard(), cancelled, "schedule x".to_owned())]);
    world
        .check(
            "x",
            expect![[r#"
                1:00 fired
                2:00 fired, the one before cancelled
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_wrong_by_now_is_told_and_the_next_tick_tries_again() {
    let world = World::new();
    let with = "name: nightly\nparams:\n  trees: 3\nsteps:\n  a: { noop: {} }\n";
    let without = "name: nightly\nsteps:\n  a: { noop: {} }\n";
    pipelines::keep(&*world.state, "default", with, "ann").await.expect("kept");
    let mut submit = SubmissionMessage { name: Some("nightly".to_owned()), ..SubmissionMessage::default() };
    submit.params.insert("trees".to_owned(), 5.into());
    world.put("x", Schedule { submit, ..hourly() }).await;
    let mut keeper = world.keeper();
    for text in [with, without, with] {
        pipelines::keep(&*world.state, "default", text, "ann").await.expect("kept");
        world.pass(HOUR).await;
        keeper.look().await.expect("looked");
    }
    let document = world.get("x").await;
    let outcomes: Vec<bool> =
        document.recent.iter().map(|record| matches!(record.outcome, TickOutcome::Fired { .. })).collect();
    assert_eq!(outcomes, [true, false, true]);
    let TickOutcome::Failed { reason } = &document.recent[1].outcome else { panic!("{:?}", document.recent[1]) };
    assert!(reason.contains("trees"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn keepers_that_race_make_one_run_a_tick() {
    let world = World::new();
    for name in 0..10 {
        world.put(&format!("x{name}"), Schedule { catch_up: CatchUp::All, ..hourly() }).await;
    }
    let mut keepers = [world.keeper(), world.keeper(), world.keeper()];
    for _ in 0..5 {
        world.pass(HOUR).await;
        let [a, b, c] = &mut keepers;
        let looked = tokio::join!(a.look(), b.look(), c.look());
        assert!(looked.0.is_ok() && looked.1.is_ok() && looked.2.is_ok());
    }
    // What one of them decided and another waits for is done by now.
    assert_eq!(world.runs().await.len(), 50);
    for name in 0..10 {
        let document = world.get(&format!("x{name}")).await;
        assert_eq!((document.recent.len(), document.firing), (5, None));
        assert!(document.recent.iter().all(|record| matches!(record.outcome, TickOutcome::Fired { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_is_killed_anywhere_leaves_one_run_a_tick() {
    for overlap in [Overlap::Allow, Overlap::Skip, Overlap::Cancel] {
        for polls in 1.. {
            let world = World::new();
            world.put("x", Schedule { overlap, ..hourly() }).await;
            let mut first = world.keeper();
            first.look().await.expect("looked");
            world.pass(HOUR).await;
            let has_ended = killed_after(polls, first.look()).await;
            drop(first);
            let mut second = world.keeper();
            for _ in 0..3 {
                second.look().await.expect("looked");
                world.pass(5 * SECOND).await;
            }
            world.check("x", expect!["1:00 fired\n"]).await;
            let document = world.get("x").await;
            assert_eq!((document.firing, document.last_run), (None, Some(world.runs().await[0])));
            if has_ended {
                assert!(polls > 5, "it was killed at several places");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_wakes_up_after_another_took_over_makes_no_second_run() {
    for polls in 1..40 {
        let world = World::new();
        world.put("x", hourly()).await;
        let (mut paused, mut other) = (world.keeper(), world.keeper());
        paused.look().await.expect("looked");
        world.pass(HOUR).await;
        let mut look = Box::pin(paused.look());
        let mut left = polls;
        let ended = poll_fn(|context| {
            left -= 1;
            match look.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if left == 0 => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        if ended {
            break;
        }
        for _ in 0..3 {
            other.look().await.expect("looked");
            world.pass(5 * SECOND).await;
        }
        // It may find that its calls took too long, but it does nothing twice.
        drop(look.await);
        world.check("x", expect!["1:00 fired\n"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_fires_nothing_twice_and_nothing_at_once() {
    let world = World::new();
    world.put("x", hourly()).await;
    let mut keeper = world.keeper();
    world.pass(HOUR).await;
    keeper.look().await.expect("looked");
    // Forward by mistake, and back again: an embedded store's clock stands still until it has caught up.
    world.clock.fetch_add(24 * HOUR, Ordering::Relaxed);
    keeper.look().await.expect("looked");
    assert_eq!(world.runs().await.len(), 1, "a clock that was set isn't trusted at once");
    world.pass(7 * SECOND).await;
    keeper.look().await.expect("looked");
    world.clock.fetch_sub(24 * HOUR, Ordering::Relaxed);
    for _ in 0..24 {
        world.pass(HOUR).await;
        keeper.look().await.expect("looked");
    }
    world.pass(7 * SECOND).await;
    keeper.look().await.expect("looked");
    world.pass(HOUR).await;
    keeper.look().await.expect("looked");
    world.pass(7 * SECOND).await;
    keeper.look().await.expect("looked");
    world
        .check(
            "x",
            expect![[r#"
                1:00 fired
                24:00 missed from 2:00: no scheduler looked at it within 60 s of the tick, and only the last one is made up for
                25:00 fired
                26:00 fired
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_schedule_is_refused_with_what_to_do() {
    let world = World::new();
    let submit = |submit| Schedule { submit, ..hourly() };
    let keyed = SubmissionMessage { key: Some("k".to_owned()), ..hourly().submit };
    let elsewhere = SubmissionMessage { namespace: Some("other".to_owned()), ..hourly().submit };
    let unknown = SubmissionMessage { name: Some("y".to_owned()), ..SubmissionMessage::default() };
    let wrong = SubmissionMessage { pipeline: Some("name: x".to_owned()), ..SubmissionMessage::default() };
    for (name, schedule, expected) in [
        ("X", hourly(), "can't be a name"),
        ("x", Schedule { cron: "* *".to_owned(), ..hourly() }, "isn't a cron expression"),
        ("x", Schedule { cron: "0 0 31 2 *".to_owned(), ..hourly() }, "never ticks"),
        ("x", Schedule { timezone: "Mars".to_owned(), ..hourly() }, "isn't a time zone"),
        ("x", submit(keyed), "leave it out"),
        ("x", submit(elsewhere), "leave it out"),
        ("x", submit(unknown), "there is no pipeline `y`"),
        ("x", submit(wrong), "has mistakes"),
        ("x", submit(SubmissionMessage::default()), "name either a `pipeline` or the `name`"),
    ] {
        let error = put(&*world.state, "default", name, schedule, "ann").await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(list(&*world.state, None, "", 10).await.expect("read").is_empty());
    for name in ["a", "b", "c"] {
        world.put(name, hourly()).await;
    }
    let names = |found: Vec<ScheduleDocument>| found.into_iter().map(|document| document.name).collect::<String>();
    assert_eq!(names(list(&*world.state, Some("default"), "", 2).await.expect("read")), "ab");
    assert_eq!(names(list(&*world.state, None, "default/b", 2).await.expect("read")), "c");
    assert_eq!(names(list(&*world.state, Some("defaul"), "", 2).await.expect("read")), "");
    let next = next_ticks(&hourly(), Timestamp(START), 2).expect("it ticks");
    assert_eq!(next, [Timestamp(START + HOUR), Timestamp(START + 2 * HOUR)]);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_whose_change_nobody_was_told_of_is_found_within_a_minute() {
    let world = World::new();
    world.put("x", hourly()).await;
    let mut keeper = world.keeper();
    keeper.look().await.expect("looked");
    // Its writer was killed before it said so.
    let document = ScheduleDocument { name: "y".to_owned(), ..world.get("x").await };
    let body = serde_json::to_vec(&document).expect("plain data");
    world.state.put(&key("default", "y"), 0, body).await.expect("written");
    world.pass(61 * SECOND).await;
    keeper.look().await.expect("looked");
    world.pass(HOUR - 61 * SECOND).await;
    keeper.look().await.expect("looked");
    for name in ["x", "y"] {
        assert!(matches!(world.get(name).await.recent[0].outcome, TickOutcome::Fired { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn why_a_schedule_waits_is_told() {
    let world = World::new();
    world.put("x", hourly()).await;
    let now = Timestamp(START);
    let document = world.get("x").await;
    assert_eq!(why_waiting(&document, now), None);
    let ahead = ScheduleDocument { handled_ms: Timestamp(START + 5 * HOUR), ..document.clone() };
    assert!(why_waiting(&ahead, now).expect("it waits").contains("ticks of the next 5 h"));
    let body = serde_json::to_vec(&ahead).expect("plain data");
    let version = read(&*world.state, "default", "x").await.expect("read").expect("it is there").0;
    world.state.put(&key("default", "x"), version, body).await.expect("written");
    world.put("x", hourly()).await;
    assert_eq!(world.get("x").await.handled_ms, now, "to set it again is to begin anew");
    let paused = set_paused(&*world.state, "default", "x", true, "ann").await.expect("paused");
    assert_eq!(why_waiting(&paused, now).as_deref(), Some("it is paused"));
}
