//! Shards, runs, journals and inboxes.

use std::sync::Arc;
use std::time::Duration;

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::RUN_RECORD_DAYS;
use gristmill_protocol::message::{InboxEvent, InboxId};
use gristmill_protocol::{Digest, OwnerToken, RunId, Shard};

use super::state::{Bench, OTHER, OWNER, SHARD, SHARD_LEASE, W1, attempt, entry, new_run, run_id, soon, success};
use super::{PATIENCE, StateFixture, cases, race};
use crate::state::{Append, AppendEntry, Created, NewRun, Ownership, StateError, StatusChange};

type Fixture = Arc<dyn StateFixture>;

cases!(StateFixture:
    a_shard_has_one_owner,
    racing_owners_get_one_shard_once,
    an_owner_that_is_silent_is_replaced,
    a_deposed_owner_can_write_nothing,
    the_clock_does_not_go_back,
    a_run_is_made_with_its_first_entry_and_an_event,
    the_same_run_is_made_once,
    an_idempotency_key_answers_its_run,
    an_idempotency_key_is_forgotten_after_its_days,
    entries_follow_each_other_without_a_gap,
    a_repeated_append_is_done_once,
    an_append_is_whole_or_not_at_all,
    an_append_takes_several_entries_of_a_run,
    an_append_to_an_unknown_run_is_refused,
    racing_appends_have_one_winner,
    a_journal_is_read_in_parts,
    what_an_append_consumed_is_gone,
    an_inbox_keeps_its_order_and_its_limit,
    inboxes_of_shards_are_apart,
    an_event_wakes_who_waits,
    a_report_wakes_who_waits,
    an_empty_inbox_answers_when_the_wait_is_over,
    a_run_ends_and_opens_again,
    runs_are_listed_newest_first,
    open_runs_are_listed_smallest_first,
);

async fn a_shard_has_one_owner(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    let own = |token| bench.state.own(SHARD, token, SHARD_LEASE);
    assert_eq!(own(OWNER).await.expect("answered"), Ownership::Owned { new: false });
    assert_eq!(own(OTHER).await.expect("answered"), Ownership::HeldBy(OWNER));
    bench.state.disown(SHARD, OTHER).await.expect("answered");
    assert_eq!(own(OTHER).await.expect("answered"), Ownership::HeldBy(OWNER));
    bench.state.disown(SHARD, OWNER).await.expect("answered");
    assert_eq!(own(OTHER).await.expect("answered"), Ownership::Owned { new: true });
}

async fn racing_owners_get_one_shard_once(fixture: Fixture) {
    let state = fixture.fresh().await;
    let answers = race(32, |number| {
        let state = Arc::clone(&state);
        async move { state.own(SHARD, OwnerToken { epoch: 1, instance: number }, SHARD_LEASE).await }
    });
    let answers: Vec<Ownership> = answers.await.into_iter().map(|answer| answer.expect("answered")).collect();
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ownership::Owned { .. })).count(), 1);
}

async fn an_owner_that_is_silent_is_replaced(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    if !bench.pass(SHARD_LEASE + Duration::from_secs(1)).await {
        return;
    }
    let taken = bench.state.own(SHARD, OTHER, SHARD_LEASE).await.expect("answered");
    assert_eq!(taken, Ownership::Owned { new: true });
    assert_eq!(bench.state.own(SHARD, OWNER, SHARD_LEASE).await.expect("answered"), Ownership::HeldBy(OTHER));
}

async fn a_deposed_owner_can_write_nothing(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let held = attempt(run, 0, 1);
    bench.granted(W1, held).await;
    bench.state.disown(SHARD, OWNER).await.expect("answered");
    bench.state.own(SHARD, OTHER, SHARD_LEASE).await.expect("answered");
    let append = bench.append(vec![bench.next(run)], vec![]);
    assert_deposed(bench.state.append(append).await);
    assert_deposed(bench.state.expire(SHARD, OWNER, 10).await.map(|_| ()));
    assert_deposed(bench.state.revoke(SHARD, OWNER, &[held]).await);
    assert_eq!(bench.events().await, []);
    assert_eq!(bench.holder(held).await, Some(W1));
    assert_eq!(bench.state.journal(run, 0, 10).await.expect("readable").len(), 1);
}

fn assert_deposed(answer: Result<(), StateError>) {
    assert!(matches!(answer, Err(StateError::Deposed { shard: SHARD })), "{answer:?}");
}

async fn the_clock_does_not_go_back(fixture: Fixture) {
    let state = fixture.fresh().await;
    let mut last = state.clock().await.expect("readable");
    for _ in 0..100 {
        let clock = state.clock().await.expect("readable");
        assert_eq!(clock.store, last.store);
        assert!(clock.now >= last.now);
        last = clock;
    }
}

async fn a_run_is_made_with_its_first_entry_and_an_event(fixture: Fixture) {
    let mut bench = Bench::new(fixture).await;
    let run = bench.create("one").await;
    assert_eq!(bench.events().await, [InboxEvent::Created { run }]);
    let record = bench.state.run(run).await.expect("readable").expect("it is there");
    assert_eq!((record.pipeline.as_str(), record.namespace.as_str()), ("flights", "default"));
    assert_eq!((record.head, record.status, record.ended), (1, None, None));
    let journal = bench.state.journal(run, 0, 10).await.expect("readable");
    assert_eq!(journal.len(), 1);
    assert_eq!((journal[0].position, journal[0].body.as_slice()), (1, &b"created"[..]));
    assert_eq!(bench.state.run(run_id(9, "another")).await.expect("readable"), None);
}

async fn the_same_run_is_made_once(fixture: Fixture) {
    let state = fixture.fresh().await;
    let run = run_id(1, "same");
    let answers = race(8, |_| {
        let state = Arc::clone(&state);
        async move { state.create_run(new_run(run)).await }
    });
    let answers: Vec<Created> = answers.await.into_iter().map(|answer| answer.expect("answered")).collect();
    assert_eq!(answers.iter().filter(|&&answer| answer == Created::New).count(), 1);
    assert_eq!(answers.iter().filter(|&&answer| answer == Created::Existing(run)).count(), 7);
    let entries = state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 100).await.expect("readable");
    assert_eq!(entries.len(), 1);
    assert_eq!(state.journal(run, 0, 10).await.expect("readable").len(), 1);
}

fn keyed(number: u64, namespace: &str, submission: &[u8]) -> NewRun {
    NewRun {
        namespace: namespace.to_owned(),
        idempotency: Some(("nightly".to_owned(), Digest::of(submission))),
        ..new_run(run_id(number, namespace))
    }
}

async fn an_idempotency_key_answers_its_run(fixture: Fixture) {
    let state = fixture.fresh().await;
    let create = |new: NewRun| async { state.create_run(new).await.expect("answered") };
    let first = keyed(1, "a", b"one");
    assert_eq!(create(first.clone()).await, Created::New);
    assert_eq!(create(keyed(2, "a", b"one")).await, Created::Existing(first.run));
    assert_eq!(create(keyed(3, "a", b"two")).await, Created::KeyTaken(first.run));
    assert_eq!(create(keyed(4, "b", b"two")).await, Created::New);
    assert_eq!(state.run(keyed(2, "a", b"one").run).await.expect("readable"), None);
}

async fn an_idempotency_key_is_forgotten_after_its_days(fixture: Fixture) {
    let state = fixture.fresh().await;
    let day = Duration::from_secs(24 * 60 * 60);
    let days = u32::try_from(RUN_RECORD_DAYS).expect("a few days");
    let first = keyed(1, "a", b"one");
    assert_eq!(state.create_run(first.clone()).await.expect("answered"), Created::New);
    if !fixture.pass(day * (days - 1)).await {
        return;
    }
    let again = state.create_run(keyed(2, "a", b"one")).await.expect("answered");
    assert_eq!(again, Created::Existing(first.run));
    fixture.pass(day * 2).await;
    assert_eq!(state.create_run(keyed(3, "a", b"two")).await.expect("answered"), Created::New);
    let again = state.create_run(keyed(4, "a", b"two")).await.expect("answered");
    assert_eq!(again, Created::Existing(keyed(3, "a", b"two").run));
}

fn assert_moved(answer: Result<(), StateError>, run: RunId, expected: u64, found: u64) {
    match answer {
        Err(StateError::Moved { run: of, expected: e, found: f }) => assert_eq!((of, e, f), (run, expected, found)),
        other => panic!("expected `Moved`, found {other:?}"),
    }
}

async fn entries_follow_each_other_without_a_gap(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.commit(bench.append(vec![bench.next(run)], vec![])).await.expect("2 follows 1");
    let append = |position| bench.state.append(bench.append(vec![entry(run, position)], vec![]));
    assert_moved(append(4).await, run, 3, 2);
    assert_moved(append(2).await, run, 1, 2);
    assert_moved(append(1).await, run, 0, 2);
    assert_moved(append(0).await, run, 0, 2);
    assert_moved(append(u64::MAX).await, run, u64::MAX - 1, 2);
    append(3).await.expect("3 follows 2");
    let positions: Vec<u64> =
        bench.state.journal(run, 0, 10).await.expect("readable").iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [1, 2, 3]);
}

async fn a_repeated_append_is_done_once(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.state.post(SHARD, InboxEvent::Cancel { run, by: "a".to_owned() }).await.expect("posted");
    let consumed = bench.entries().await.iter().map(|entry| entry.id).collect();
    let end = AppendEntry { status: StatusChange::Ended(RunStatus::Failed), ..entry(run, 3) };
    let append = bench.append(vec![bench.next(run), end], consumed);
    for _ in 0..3 {
        bench.state.append(append.clone()).await.expect("the same append is fine");
    }
    assert_eq!(bench.state.journal(run, 0, 10).await.expect("readable").len(), 3);
    let other = Append { id: append.id + 1, ..append };
    assert_moved(bench.state.append(other).await, run, 1, 3);
}

async fn an_append_is_whole_or_not_at_all(fixture: Fixture) {
    let (mut bench, first) = Bench::with_run(fixture).await;
    let second = bench.create("second").await;
    let consumed: Vec<InboxId> = bench.entries().await.iter().map(|entry| entry.id).collect();
    let good = AppendEntry { settled: vec![5], status: StatusChange::Closing, ..bench.next(first) };
    let append = bench.append(vec![good, entry(second, 9)], consumed.clone());
    assert_moved(bench.state.append(append).await, second, 8, 1);
    assert_eq!(bench.state.journal(first, 0, 10).await.expect("readable").len(), 1);
    bench.granted(W1, attempt(first, 5, 1)).await;
    let left = bench.state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 10).await.expect("readable");
    assert!(consumed.iter().all(|id| left.iter().any(|(_, entry)| entry.id == *id)));
}

async fn an_append_takes_several_entries_of_a_run(fixture: Fixture) {
    let (mut bench, first) = Bench::with_run(fixture).await;
    let second = bench.create("second").await;
    let entries = vec![entry(first, 2), entry(second, 2), entry(first, 3), entry(first, 4)];
    bench.commit(bench.append(entries, vec![])).await.expect("they follow each other");
    assert_eq!(bench.state.run(first).await.expect("readable").expect("there").head, 4);
    let gap = bench.append(vec![entry(first, 5), entry(first, 7)], vec![]);
    assert_moved(bench.state.append(gap).await, first, 6, 5);
    assert_eq!(bench.state.run(first).await.expect("readable").expect("there").head, 4);
}

async fn an_append_to_an_unknown_run_is_refused(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    for position in [1, 2] {
        let append = bench.append(vec![entry(run_id(5, "nobody's"), position)], vec![]);
        let answer = bench.state.append(append).await;
        assert!(matches!(answer, Err(StateError::NotFound { .. })), "{answer:?}");
    }
}

async fn racing_appends_have_one_winner(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    for position in 2..6 {
        let answers = race(16, |number| {
            let state = Arc::clone(&bench.state);
            let id = 1_000 * position + number;
            let entries = vec![AppendEntry { body: id.to_be_bytes().to_vec(), ..entry(run, position) }];
            async move { (id, state.append(Append { shard: SHARD, token: OWNER, id, entries, consumed: vec![] }).await) }
        });
        let answers = answers.await;
        let winners: Vec<u64> = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(id, _)| *id).collect();
        assert_eq!(winners.len(), 1);
        let journal = bench.state.journal(run, position - 1, 10).await.expect("readable");
        assert_eq!(journal.len(), 1);
        assert_eq!((journal[0].append, journal[0].body.as_slice()), (winners[0], &winners[0].to_be_bytes()[..]));
    }
}

async fn a_journal_is_read_in_parts(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let entries = (2..=25).map(|position| entry(run, position)).collect();
    bench.commit(bench.append(entries, vec![])).await.expect("they follow each other");
    let mut read = Vec::new();
    loop {
        let after = read.last().copied().unwrap_or(0);
        let part = bench.state.journal(run, after, 10).await.expect("readable");
        if part.is_empty() {
            break;
        }
        assert!(part.len() <= 10);
        read.extend(part.iter().map(|entry| entry.position));
    }
    assert_eq!(read, (1..=25).collect::<Vec<u64>>());
    assert!(bench.state.journal(run_id(7, "none"), 0, 10).await.expect("readable").is_empty());
}

async fn what_an_append_consumed_is_gone(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.granted(W1, attempt(run, 0, 1)).await;
    bench.finish(W1, attempt(run, 0, 1), success()).await;
    bench.state.post(SHARD, InboxEvent::Resume { run, by: "b".to_owned() }).await.expect("posted");
    let mut consumed: Vec<InboxId> = bench.entries().await.iter().map(|entry| entry.id).collect();
    assert_eq!(consumed.len(), 2);
    consumed.push(InboxId { ms: 1, seq: 1 });
    bench.commit(bench.append(vec![bench.next(run)], consumed.clone())).await.expect("it fits");
    let left = bench.state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 100).await.expect("readable");
    assert!(left.iter().all(|(_, entry)| !consumed.contains(&entry.id)));
    // Nothing but consuming is an append, too.
    let rest = left.iter().map(|(_, entry)| entry.id).collect();
    bench.commit(bench.append(vec![], rest)).await.expect("it fits");
    assert!(bench.state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 100).await.expect("readable").is_empty());
}

async fn an_inbox_keeps_its_order_and_its_limit(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    for number in 0..20 {
        let event = InboxEvent::Cancel { run, by: number.to_string() };
        bench.state.post(SHARD, event).await.expect("posted");
    }
    let mut seen = bench.entries().await;
    assert!(seen.is_sorted_by(|a, b| a.id < b.id));
    let who: Vec<String> = seen
        .drain(..)
        .map(|entry| match entry.event {
            InboxEvent::Cancel { by, .. } => by,
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(who, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    let part = bench.state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 7).await.expect("readable");
    assert_eq!(part.len(), 7);
}

async fn inboxes_of_shards_are_apart(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    let (one, two) = (Shard(1), Shard(2));
    let event = |by: &str| InboxEvent::Cancel { run: run_id(0, "any"), by: by.to_owned() };
    bench.state.post(one, event("one")).await.expect("posted");
    bench.state.post(two, event("two")).await.expect("posted");
    let start = InboxId::default();
    let only = bench.state.inbox(&[(one, start)], Duration::ZERO, 10).await.expect("readable");
    assert_eq!(
        only.iter().map(|(shard, entry)| (*shard, entry.event.clone())).collect::<Vec<_>>(),
        [(one, event("one"))]
    );
    let both = bench.state.inbox(&[(two, start), (one, start)], Duration::ZERO, 10).await.expect("readable");
    assert_eq!(both.len(), 2);
    let past = bench.state.inbox(&[(one, only[0].1.id)], Duration::ZERO, 10).await.expect("readable");
    assert!(past.is_empty());
}

async fn an_event_wakes_who_waits(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let after = bench.state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 10).await.expect("readable");
    let seen = after.last().map_or(InboxId::default(), |(_, entry)| entry.id);
    let state = Arc::clone(&bench.state);
    let waiter = tokio::spawn(async move { state.inbox(&[(SHARD, seen)], 2 * PATIENCE, 10).await });
    bench.state.post(SHARD, InboxEvent::Cancel { run, by: "me".to_owned() }).await.expect("posted");
    let found = soon(waiter).await.expect("it ends").expect("readable");
    assert_eq!(found.len(), 1);
}

async fn a_report_wakes_who_waits(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let after = bench.state.inbox(&[(SHARD, InboxId::default())], Duration::ZERO, 10).await.expect("readable");
    let seen = after.last().map_or(InboxId::default(), |(_, entry)| entry.id);
    bench.granted(W1, attempt(run, 0, 1)).await;
    let state = Arc::clone(&bench.state);
    let waiter = tokio::spawn(async move { state.inbox(&[(SHARD, seen)], 2 * PATIENCE, 10).await });
    bench.finish(W1, attempt(run, 0, 1), success()).await;
    assert_eq!(soon(waiter).await.expect("it ends").expect("readable").len(), 1);
}

async fn an_empty_inbox_answers_when_the_wait_is_over(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    let found = soon(bench.state.inbox(&[(SHARD, InboxId::default())], Duration::from_millis(150), 10)).await;
    assert!(found.expect("readable").is_empty());
}

async fn a_run_ends_and_opens_again(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let open = |bench: &Bench| {
        let state = Arc::clone(&bench.state);
        async move { state.open_runs(SHARD).await.expect("readable").len() }
    };
    bench.set_status(run, StatusChange::Closing).await;
    assert_eq!(open(&bench).await, 1);
    bench.set_status(run, StatusChange::Ended(RunStatus::Cancelled)).await;
    let record = bench.state.run(run).await.expect("readable").expect("there");
    assert_eq!(record.status, Some(RunStatus::Cancelled));
    assert!(record.ended.is_some());
    assert_eq!(open(&bench).await, 0);
    bench.set_status(run, StatusChange::Reopened).await;
    let record = bench.state.run(run).await.expect("readable").expect("there");
    assert_eq!((record.status, record.ended, record.head), (None, None, 4));
    assert_eq!(open(&bench).await, 1);
    bench.granted(W1, attempt(run, 0, 1)).await;
}

async fn runs_are_listed_newest_first(fixture: Fixture) {
    let mut bench = Bench::new(fixture).await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(bench.create(&number.to_string()).await);
    }
    made.reverse();
    let mut listed = Vec::new();
    loop {
        let part = bench.state.runs(listed.last().copied(), 3).await.expect("readable");
        if part.is_empty() {
            break;
        }
        listed.extend(part.iter().map(|record| record.run));
    }
    assert_eq!(listed, made);
}

async fn open_runs_are_listed_smallest_first(fixture: Fixture) {
    let mut bench = Bench::new(fixture).await;
    let (large, small, over) = (bench.create("large").await, bench.create("small").await, bench.create("over").await);
    bench.commit(bench.append((2..9).map(|position| entry(large, position)).collect(), vec![])).await.expect("it fits");
    bench.end(over).await;
    let elsewhere = RunId::from_u128(small.as_u128() ^ 1);
    bench.state.create_run(new_run(elsewhere)).await.expect("answered");
    let open: Vec<(RunId, u64)> =
        bench.state.open_runs(SHARD).await.expect("readable").iter().map(|record| (record.run, record.head)).collect();
    assert_eq!(open, [(small, 1), (large, 8)]);
}
