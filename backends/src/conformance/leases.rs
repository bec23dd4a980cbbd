//! Attempts: how a lease begins, holds and ends, and what comes late.

use std::sync::Arc;
use std::time::Duration;

use gristmill_protocol::limits::{LEASE_MS, SHARD_LEASE_MS};
use gristmill_protocol::message::{Expired, ExpiryCause, InboxEvent, Outcome, ReturnCause};
use gristmill_protocol::{AttemptRef, WorkerId};

use super::state::{
    Bench, OWNER, SHARD, SHARD_LEASE, W1, W2, attempt, failure, renewal, report, revoked, run_id, success,
};
use super::{StateFixture, cases, race};
use crate::state::model::Ageing;
use crate::state::{
    Backlog, Claim, ClaimAnswer, ClaimItem, Claimed, FinishAnswer, HeldLease, LeaseView, Progress, Renewal,
    SchedulerView, StatusChange, WorkerAbout,
};

type Fixture = Arc<dyn StateFixture>;

cases!(StateFixture:
    an_attempt_is_one_workers,
    racing_claims_have_one_winner,
    answers_come_in_the_order_of_the_attempts,
    a_higher_attempt_displaces_a_lower_one,
    a_settled_task_is_not_claimed,
    a_run_that_is_not_open_grants_nothing,
    a_finish_is_one_event_with_what_was_accepted,
    a_repeated_finish_is_recorded_once,
    a_finished_attempt_is_closed,
    a_report_without_a_claim_is_accepted,
    a_report_on_a_settled_task_says_so,
    a_report_on_an_ended_run_says_so,
    a_late_success_is_accepted_once,
    a_late_success_leaves_the_newer_attempt_alone,
    another_workers_failure_is_stale,
    a_closing_run_lets_held_attempts_go_on,
    an_unclaimed_attempt_can_be_revoked,
    a_held_attempt_can_be_revoked,
    a_stop_is_recorded_once_after_a_revocation,
    a_revocation_ends_a_lower_attempt_too,
    what_has_ended_is_still_reported_as_revoked,
    a_renewal_keeps_what_is_held_and_stops_what_is_not,
    a_renewal_puts_in_again_what_the_store_forgot,
    the_hard_deadline_ends_a_lease_once,
    a_renewal_does_not_pass_the_hard_deadline,
    a_silent_workers_lease_is_lost,
    a_lease_that_was_renewed_is_not_lost,
    a_run_that_ended_has_nothing_to_expire,
    workers_are_listed_with_what_they_do,
    schedulers_hear_of_each_other,
    a_silent_scheduler_is_forgotten,
    a_silent_worker_is_not_listed,
);

async fn an_attempt_is_one_workers(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    assert_eq!(bench.lease(first).await, LeaseView::Unclaimed);
    bench.granted(W1, first).await;
    bench.granted(W1, first).await;
    assert_eq!(bench.claim(W2, first).await, ClaimAnswer::Taken);
    assert_eq!(bench.holder(first).await, Some(W1));
    // The same index under another tag is another task.
    let mut other = first;
    other.task.tag += 1;
    bench.granted(W2, other).await;
}

async fn racing_claims_have_one_winner(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    for index in 0..8 {
        let answers = race(32, |number| {
            let state = Arc::clone(&bench.state);
            let attempts = vec![ClaimItem { attempt: attempt(run, index, 1), timeout_ms: None }];
            async move { state.claim(Claim { shard: SHARD, worker: WorkerId(number), attempts }).await }
        });
        let granted = Claimed::Answers(vec![ClaimAnswer::Granted]);
        let taken = Claimed::Answers(vec![ClaimAnswer::Taken]);
        let answers: Vec<Claimed> = answers.await.into_iter().map(|answer| answer.expect("answered")).collect();
        assert_eq!(answers.iter().filter(|&answer| *answer == granted).count(), 1);
        assert_eq!(answers.iter().filter(|&answer| *answer == taken).count(), 31);
    }
}

async fn answers_come_in_the_order_of_the_attempts(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.granted(W2, attempt(run, 1, 1)).await;
    bench.granted(W2, attempt(run, 2, 2)).await;
    bench.settle(run, &[3]).await;
    let asked =
        [attempt(run, 0, 1), attempt(run, 1, 1), attempt(run, 2, 1), attempt(run, 3, 1), attempt(run_id(9, "x"), 0, 1)];
    let attempts = asked.iter().map(|&attempt| ClaimItem { attempt, timeout_ms: None }).collect();
    let answer = bench.state.claim(Claim { shard: SHARD, worker: W1, attempts }).await.expect("answered");
    use ClaimAnswer::{Granted, Over, Settled, Stale, Taken};
    assert_eq!(answer, Claimed::Answers(vec![Granted, Taken, Stale, Settled, Over]));
}

async fn a_higher_attempt_displaces_a_lower_one(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let (first, second) = (attempt(run, 0, 1), attempt(run, 0, 2));
    bench.granted(W1, first).await;
    bench.granted(W2, second).await;
    assert_eq!(bench.claim(W1, first).await, ClaimAnswer::Stale);
    assert_eq!(bench.renew(W1, &[first]).await, [first]);
    assert_eq!(bench.renew(W2, &[second]).await, []);
    assert!(matches!(bench.lease(first).await, LeaseView::Closed { .. }));
    assert_eq!(bench.finish(W1, first, failure()).await, FinishAnswer::Stale);
    assert_eq!(bench.holder(second).await, Some(W2));
}

async fn a_settled_task_is_not_claimed(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.settle(run, &[0, 63, 64, 4_000]).await;
    for index in [0, 63, 64, 4_000] {
        assert_eq!(bench.claim(W1, attempt(run, index, 3)).await, ClaimAnswer::Settled);
    }
    bench.granted(W1, attempt(run, 65, 1)).await;
}

async fn a_run_that_is_not_open_grants_nothing(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.set_status(run, StatusChange::Closing).await;
    assert_eq!(bench.claim(W1, attempt(run, 0, 1)).await, ClaimAnswer::Over);
    bench.end(run).await;
    assert_eq!(bench.claim(W1, attempt(run, 0, 1)).await, ClaimAnswer::Over);
    assert_eq!(bench.claim(W1, attempt(run_id(9, "unknown"), 0, 1)).await, ClaimAnswer::Over);
}

async fn a_finish_is_one_event_with_what_was_accepted(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.settle(run, &[1]).await;
    bench.granted(W1, attempt(run, 0, 1)).await;
    bench.granted(W2, attempt(run, 2, 2)).await;
    bench.granted(W1, attempt(run, 3, 1)).await;
    let good =
        [report(attempt(run, 0, 1), success()), report(attempt(run, 3, 1), Outcome::Returned(ReturnCause::Draining))];
    let reports = vec![
        good[0].clone(),
        report(attempt(run, 1, 1), success()),
        report(attempt(run, 2, 1), failure()),
        good[1].clone(),
    ];
    let answers = bench.finish_all(W1, reports).await;
    use FinishAnswer::{Recorded, Settled, Stale};
    assert_eq!(answers, [Recorded, Settled, Stale, Recorded]);
    assert_eq!(bench.events().await, [InboxEvent::Finished { worker: W1, reports: good.to_vec() }]);
}

async fn a_repeated_finish_is_recorded_once(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    for (index, outcome) in
        [success(), failure(), Outcome::Rejected { reason: "no".to_owned() }].into_iter().enumerate()
    {
        let held = attempt(run, u32::try_from(index).expect("few"), 1);
        bench.granted(W1, held).await;
        for _ in 0..3 {
            assert_eq!(bench.finish(W1, held, outcome.clone()).await, FinishAnswer::Recorded);
        }
        assert_eq!(bench.events().await.len(), 1);
    }
    // A repeated success after the next attempt has begun changes nothing either.
    bench.granted(W2, attempt(run, 0, 2)).await;
    assert_eq!(bench.finish(W1, attempt(run, 0, 1), success()).await, FinishAnswer::Recorded);
    assert_eq!(bench.events().await, []);
}

async fn a_finished_attempt_is_closed(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.granted(W1, first).await;
    bench.finish(W1, first, failure()).await;
    assert!(matches!(bench.lease(first).await, LeaseView::Closed { .. }));
    assert_eq!(bench.claim(W1, first).await, ClaimAnswer::Stale);
    assert_eq!(bench.claim(W2, first).await, ClaimAnswer::Stale);
    assert_eq!(bench.renew(W1, &[first]).await, [first]);
    bench.granted(W2, attempt(run, 0, 2)).await;
}

async fn a_report_without_a_claim_is_accepted(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    for (index, outcome) in [success(), failure(), Outcome::Stopped].into_iter().enumerate() {
        let unknown = attempt(run, u32::try_from(index).expect("few"), 2);
        assert_eq!(bench.finish(W1, unknown, outcome.clone()).await, FinishAnswer::Recorded);
        assert_eq!(bench.events().await.len(), 1);
        assert_eq!(bench.finish(W1, unknown, outcome).await, FinishAnswer::Recorded);
        assert_eq!(bench.events().await, []);
        assert_eq!(bench.claim(W2, unknown).await, ClaimAnswer::Stale);
    }
    // A lower attempt that the store remembers gives way.
    bench.granted(W2, attempt(run, 7, 1)).await;
    assert_eq!(bench.finish(W1, attempt(run, 7, 2), failure()).await, FinishAnswer::Recorded);
    assert_eq!(bench.renew(W2, &[attempt(run, 7, 1)]).await, [attempt(run, 7, 1)]);
}

async fn a_report_on_a_settled_task_says_so(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let second = attempt(run, 0, 2);
    bench.granted(W2, second).await;
    bench.settle(run, &[0]).await;
    assert_eq!(bench.holder(second).await, Some(W2));
    assert_eq!(bench.finish(W1, attempt(run, 0, 1), success()).await, FinishAnswer::Settled);
    assert_eq!(bench.holder(second).await, Some(W2));
    assert_eq!(bench.finish(W2, second, success()).await, FinishAnswer::Settled);
    assert!(matches!(bench.lease(second).await, LeaseView::Closed { .. }));
    assert_eq!(bench.events().await, []);
}

async fn a_report_on_an_ended_run_says_so(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.granted(W1, attempt(run, 0, 1)).await;
    bench.end(run).await;
    assert_eq!(bench.finish(W1, attempt(run, 0, 1), success()).await, FinishAnswer::Over);
    assert_eq!(bench.renew(W1, &[attempt(run, 0, 1)]).await, [attempt(run, 0, 1)]);
    assert_eq!(bench.events().await, []);
}

async fn a_late_success_is_accepted_once(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.granted(W1, first).await;
    bench.revoke(&[first]).await;
    bench.events().await;
    assert_eq!(bench.finish(W1, first, failure()).await, FinishAnswer::Stale);
    assert_eq!(bench.events().await, []);
    for _ in 0..3 {
        assert_eq!(bench.finish(W1, first, success()).await, FinishAnswer::Recorded);
    }
    assert_eq!(bench.events().await.len(), 1);
}

async fn a_late_success_leaves_the_newer_attempt_alone(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let (first, second) = (attempt(run, 0, 1), attempt(run, 0, 2));
    bench.granted(W1, first).await;
    bench.granted(W2, second).await;
    for _ in 0..3 {
        assert_eq!(bench.finish(W1, first, success()).await, FinishAnswer::Recorded);
    }
    assert_eq!(bench.events().await, [InboxEvent::Finished { worker: W1, reports: vec![report(first, success())] }]);
    assert_eq!(bench.holder(second).await, Some(W2));
    assert_eq!(bench.finish(W2, second, success()).await, FinishAnswer::Recorded);
    assert_eq!(bench.events().await.len(), 1);
}

async fn another_workers_failure_is_stale(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.granted(W1, first).await;
    assert_eq!(bench.finish(W2, first, failure()).await, FinishAnswer::Stale);
    assert_eq!(bench.events().await, []);
    assert_eq!(bench.finish(W2, first, success()).await, FinishAnswer::Recorded);
    assert_eq!(bench.holder(first).await, Some(W1));
}

async fn a_closing_run_lets_held_attempts_go_on(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let held = [attempt(run, 0, 1), attempt(run, 1, 1)];
    bench.granted(W1, held[0]).await;
    bench.granted(W1, held[1]).await;
    bench.set_status(run, StatusChange::Closing).await;
    assert_eq!(bench.renew(W1, &held).await, []);
    bench.revoke(&held[1..]).await;
    assert_eq!(bench.renew(W1, &held).await, held[1..]);
    bench.events().await;
    assert_eq!(bench.finish(W1, held[0], success()).await, FinishAnswer::Recorded);
    assert_eq!(bench.finish(W1, held[1], Outcome::Stopped).await, FinishAnswer::Recorded);
    assert_eq!(bench.events().await.len(), 2);
}

async fn an_unclaimed_attempt_can_be_revoked(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.revoke(&[first]).await;
    let ended = revoked(&bench.events().await);
    assert_eq!((ended[0].attempt, ended[0].holder), (first, None));
    assert_eq!(bench.claim(W1, first).await, ClaimAnswer::Stale);
    bench.granted(W1, attempt(run, 0, 2)).await;
    bench.revoke(&[]).await;
    assert_eq!(bench.events().await, []);
}

async fn a_held_attempt_can_be_revoked(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let held = [attempt(run, 0, 1), attempt(run, 1, 1)];
    let now = bench.state.clock().await.expect("readable").now;
    for held in held {
        bench.granted(W1, held).await;
    }
    bench.revoke(&held).await;
    let ended = revoked(&bench.events().await);
    assert_eq!(ended.iter().map(|revoked| revoked.attempt).collect::<Vec<_>>(), held);
    for revoked in ended {
        let holder = revoked.holder.expect("it was held");
        assert_eq!(holder.worker, W1);
        assert!(holder.until >= now.plus_ms(LEASE_MS));
    }
    assert_eq!(bench.renew(W1, &held).await, held);
    assert_eq!(bench.claim(W1, held[0]).await, ClaimAnswer::Stale);
}

async fn a_stop_is_recorded_once_after_a_revocation(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.granted(W1, first).await;
    bench.revoke(&[first]).await;
    bench.events().await;
    assert_eq!(bench.finish(W2, first, Outcome::Stopped).await, FinishAnswer::Stale);
    for _ in 0..3 {
        assert_eq!(bench.finish(W1, first, Outcome::Stopped).await, FinishAnswer::Recorded);
    }
    assert_eq!(bench.events().await.len(), 1);
    // The next attempt may begin before the stop is said.
    let second = attempt(run, 0, 2);
    bench.granted(W1, second).await;
    bench.revoke(&[second]).await;
    bench.granted(W2, attempt(run, 0, 3)).await;
    bench.events().await;
    for _ in 0..3 {
        assert_eq!(bench.finish(W1, second, Outcome::Stopped).await, FinishAnswer::Recorded);
    }
    assert_eq!(bench.events().await.len(), 1);
}

async fn a_revocation_ends_a_lower_attempt_too(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let (first, second) = (attempt(run, 0, 1), attempt(run, 0, 2));
    bench.granted(W1, first).await;
    bench.revoke(&[second]).await;
    let ended = revoked(&bench.events().await);
    assert_eq!(ended[0].attempt, second);
    assert_eq!(ended[0].holder.map(|holder| holder.worker), Some(W1));
    assert_eq!(bench.renew(W1, &[first]).await, [first]);
    assert_eq!(bench.claim(W2, second).await, ClaimAnswer::Stale);
    assert_eq!(bench.finish(W1, first, Outcome::Stopped).await, FinishAnswer::Recorded);
}

async fn what_has_ended_is_still_reported_as_revoked(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let (finished, displaced) = (attempt(run, 0, 1), attempt(run, 1, 1));
    bench.granted(W1, finished).await;
    bench.finish(W1, finished, success()).await;
    bench.granted(W1, displaced).await;
    bench.granted(W2, attempt(run, 1, 2)).await;
    bench.events().await;
    bench.revoke(&[finished, displaced]).await;
    let ended = revoked(&bench.events().await);
    assert_eq!(ended.iter().map(|revoked| revoked.attempt).collect::<Vec<_>>(), [finished, displaced]);
    assert!(ended.iter().all(|revoked| revoked.holder.is_none()));
    assert_eq!(bench.holder(attempt(run, 1, 2)).await, Some(W2));
}

async fn a_renewal_keeps_what_is_held_and_stops_what_is_not(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let held: Vec<AttemptRef> = (0..4).map(|index| attempt(run, index, 1)).collect();
    bench.granted(W1, held[0]).await;
    bench.granted(W2, held[1]).await;
    bench.granted(W1, held[2]).await;
    bench.settle(run, &[2]).await;
    bench.granted(W1, held[3]).await;
    bench.revoke(&held[3..]).await;
    let unknown = attempt(run_id(9, "unknown"), 0, 1);
    let all = [held[0], held[1], held[2], held[3], unknown];
    assert_eq!(bench.renew(W1, &all).await, all[1..]);
    assert_eq!(bench.holder(held[0]).await, Some(W1));
}

async fn a_renewal_puts_in_again_what_the_store_forgot(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 2);
    assert_eq!(bench.renew(W1, &[first]).await, []);
    assert_eq!(bench.holder(first).await, Some(W1));
    assert_eq!(bench.claim(W2, first).await, ClaimAnswer::Taken);
    // A lower attempt is all the store remembers.
    bench.granted(W2, attempt(run, 1, 1)).await;
    assert_eq!(bench.renew(W1, &[attempt(run, 1, 2)]).await, []);
    assert_eq!(bench.renew(W2, &[attempt(run, 1, 1)]).await, [attempt(run, 1, 1)]);
}

const TIMEOUT: Duration = Duration::from_secs(3);

async fn the_hard_deadline_ends_a_lease_once(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let timeout_ms = u64::try_from(TIMEOUT.as_millis()).ok();
    let held: Vec<AttemptRef> = (0..3).map(|index| attempt(run, index, 1)).collect();
    for &held in &held {
        assert_eq!(bench.claim_for(W1, held, timeout_ms).await, ClaimAnswer::Granted);
    }
    bench.finish(W1, held[2], success()).await;
    bench.events().await;
    assert_eq!(bench.expire().await, 0);
    if !bench.pass(TIMEOUT).await {
        return;
    }
    bench.state.own(SHARD, OWNER, SHARD_LEASE).await.expect("answered");
    assert_eq!(bench.state.expire(SHARD, OWNER, 1).await.expect("the owner may"), 1);
    assert_eq!(bench.expire().await, 1);
    assert_eq!(bench.expire().await, 0);
    let ended: Vec<Expired> = bench
        .events()
        .await
        .into_iter()
        .flat_map(|event| match event {
            InboxEvent::Expired { ended } => ended,
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(ended.iter().map(|ended| ended.attempt).collect::<Vec<_>>(), held[..2]);
    assert!(ended.iter().all(|ended| ended.worker == W1 && ended.cause == ExpiryCause::TimedOut));
    assert_eq!(bench.claim(W2, held[0]).await, ClaimAnswer::Stale);
    assert_eq!(bench.renew(W1, &held[..1]).await, held[..1]);
    assert_eq!(bench.finish(W1, held[0], Outcome::Stopped).await, FinishAnswer::Stale);
    assert_eq!(bench.finish(W1, held[0], success()).await, FinishAnswer::Recorded);
}

async fn a_renewal_does_not_pass_the_hard_deadline(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let (claimed, forgotten) = (attempt(run, 0, 1), attempt(run, 1, 1));
    let timeout_ms = u64::try_from(TIMEOUT.as_millis()).ok();
    let hold = |bench: &Bench| {
        let held = [claimed, forgotten]
            .map(|attempt| HeldLease { attempt, timeout_left_ms: timeout_ms, progress: None })
            .to_vec();
        let state = Arc::clone(&bench.state);
        async move { state.renew(renewal(W1, held)).await.expect("answered").stop }
    };
    bench.claim_for(W1, claimed, timeout_ms).await;
    for _ in 0..2 {
        assert_eq!(hold(&bench).await, []);
        if !bench.pass(TIMEOUT / 2).await {
            return;
        }
    }
    assert_eq!(hold(&bench).await, []);
    assert_eq!(bench.expire().await, 2);
    assert_eq!(hold(&bench).await, [claimed, forgotten]);
}

async fn a_silent_workers_lease_is_lost(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.claim_for(W1, first, Some(10 * LEASE_MS)).await;
    if !bench.pass(Duration::from_millis(LEASE_MS)).await {
        return;
    }
    if bench.fixture.ageing() == Ageing::ByDeadline {
        assert_eq!(bench.expire().await, 0);
        assert_eq!(bench.holder(first).await, Some(W1));
        return;
    }
    assert_eq!(bench.expire().await, 1);
    let lost = Expired { attempt: first, worker: W1, cause: ExpiryCause::Lost };
    assert_eq!(bench.events().await, [InboxEvent::Expired { ended: vec![lost] }]);
    bench.granted(W2, attempt(run, 0, 2)).await;
}

async fn a_lease_that_was_renewed_is_not_lost(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let held = [attempt(run, 0, 1), attempt(run, 1, 1)];
    bench.granted(W1, held[0]).await;
    bench.granted(W1, held[1]).await;
    for _ in 0..3 {
        if !bench.pass(Duration::from_millis(LEASE_MS - 1_000)).await {
            return;
        }
        assert_eq!(bench.renew(W1, &held).await, []);
        assert_eq!(bench.expire().await, 0);
    }
    assert_eq!(bench.holder(held[0]).await, Some(W1));
}

async fn a_run_that_ended_has_nothing_to_expire(fixture: Fixture) {
    let (mut bench, run) = Bench::with_run(fixture).await;
    bench.claim_for(W1, attempt(run, 0, 1), Some(1_000)).await;
    bench.end(run).await;
    if !bench.pass(Duration::from_millis(2 * LEASE_MS)).await {
        return;
    }
    assert_eq!(bench.expire().await, 0);
    bench.set_status(run, StatusChange::Reopened).await;
    assert_eq!(bench.expire().await, 0);
    bench.granted(W2, attempt(run, 0, 2)).await;
}

async fn workers_are_listed_with_what_they_do(fixture: Fixture) {
    let (bench, run) = Bench::with_run(fixture).await;
    let first = attempt(run, 0, 1);
    bench.granted(W1, first).await;
    let progress = Progress { done: 3, total: Some(10), unit: "rows".to_owned() };
    let held = vec![HeldLease { attempt: first, timeout_left_ms: None, progress: Some(progress.clone()) }];
    let labels = [("site".to_owned(), "eu".to_owned())].into();
    let about = WorkerAbout { labels, host: "mill".to_owned(), pid: 7, reads: 2 };
    let renewal = Renewal { about: about.clone(), ..renewal(W1, held) };
    let renewed = bench.state.renew(renewal).await.expect("answered");
    assert_eq!(renewed.clock.store, bench.state.clock().await.expect("readable").store);
    bench.renew(W2, &[]).await;
    let workers = bench.state.workers().await.expect("readable");
    assert_eq!(workers.iter().map(|view| view.worker).collect::<Vec<_>>(), [W1, W2]);
    assert_eq!(workers[0].held, [(first, Some(progress))]);
    assert_eq!((workers[0].slots, workers[0].draining), (2, false));
    assert_eq!(workers[0].about, about);
    bench.state.leave(W1).await.expect("answered");
    bench.state.leave(W1).await.expect("answered");
    let workers = bench.state.workers().await.expect("readable");
    assert_eq!(workers.iter().map(|view| view.worker).collect::<Vec<_>>(), [W2]);
}

async fn a_silent_worker_is_not_listed(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    bench.renew(W1, &[]).await;
    if !bench.pass(Duration::from_millis(LEASE_MS / 2)).await {
        return;
    }
    bench.renew(W2, &[]).await;
    bench.pass(Duration::from_millis(LEASE_MS / 2 + 1_000)).await;
    let workers = bench.state.workers().await.expect("readable");
    assert_eq!(workers.iter().map(|view| view.worker).collect::<Vec<_>>(), [W2]);
}

fn scheduler(instance: u64, shards: u32) -> SchedulerView {
    let backlog = Backlog { ready: 3, out: 1, work_ms: u64::from(shards) * 250, unknown: 2 };
    SchedulerView {
        instance,
        shards,
        demand: [("default".to_owned(), u64::from(shards))].into(),
        backlog: [("default".to_owned(), backlog)].into(),
    }
}

async fn schedulers_hear_of_each_other(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    let (first, second) = (scheduler(u64::MAX, 16), scheduler(2, 0));
    assert_eq!(bench.state.announce(first.clone()).await.expect("answered"), std::slice::from_ref(&first));
    assert_eq!(bench.state.announce(second.clone()).await.expect("answered"), [second.clone(), first]);
    assert_eq!(bench.state.schedulers().await.expect("answered").len(), 2);
    let changed = scheduler(u64::MAX, 8);
    assert_eq!(bench.state.announce(changed.clone()).await.expect("answered"), [second, changed.clone()]);
    bench.state.retire(2).await.expect("answered");
    bench.state.retire(2).await.expect("answered");
    assert_eq!(bench.state.announce(changed.clone()).await.expect("answered"), [changed]);
}

async fn a_silent_scheduler_is_forgotten(fixture: Fixture) {
    let bench = Bench::new(fixture).await;
    bench.state.announce(scheduler(1, 16)).await.expect("answered");
    if !bench.pass(Duration::from_millis(SHARD_LEASE_MS / 2)).await {
        return;
    }
    bench.state.announce(scheduler(2, 0)).await.expect("answered");
    bench.pass(Duration::from_millis(SHARD_LEASE_MS / 2 + 500)).await;
    let heard = bench.state.announce(scheduler(3, 0)).await.expect("answered");
    assert_eq!(heard.iter().map(|view| view.instance).collect::<Vec<_>>(), [2, 3]);
}
