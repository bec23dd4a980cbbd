//! What people are told of a run, from journals that the real core wrote.

#[path = "support/journal.rs"]
mod journal;

use std::fmt::Write;
use std::time::Instant;

use expect_test::{Expect, expect};
use gristmill_protocol::message::OnFailure;
use gristmill_protocol::output::Output;
use gristmill_protocol::{ErrorCode, RunId, Timestamp};
use gristmill_scheduler::history::{ATTEMPTS_KEPT, History, HistoryError, StepState};
use journal::{Recorder, START_MS, dataset};

/// Folds what was recorded and compares its outline.
fn check(recorder: &Recorder, expected: Expect) -> History {
    let history = History::fold(recorder.run, &recorder.facts).expect("the core's journals can be told");
    expected.assert_eq(&outline(&history));
    history
}

fn outline(history: &History) -> String {
    let mut text = format!("{:?}", history.status);
    for life in &history.lives {
        let ended = life.ended.map(|(at, status)| format!("{} at {}", status.as_str(), at.0 - START_MS));
        write!(text, " | from {} by {:?} {ended:?}", life.from.0 - START_MS, life.resumed_by).expect("text");
    }
    text.push('\n');
    for step in &history.steps {
        let tally = &step.tally;
        write!(text, "{} {}: {} tasks {}/{}", step.kind, step.name, step.state.as_str(), step.ended, step.tasks)
            .expect("text");
        write!(text, " attempts {} ok {} failed {}", tally.attempts, tally.succeeded, tally.failed).expect("text");
        write!(text, "{} {} s", if step.is_cached() { " cached" } else { "" }, step.seconds).expect("text");
        if let Some(rows) = step.rows() {
            write!(text, " {rows} rows").expect("text");
        }
        if let Some(failure) = &step.failure {
            write!(text, " because {failure}").expect("text");
        }
        text.push('\n');
    }
    for attempt in &history.attempts {
        let start = attempt.started_us / 1_000 - START_MS;
        let took = attempt.took_us.map(|us| us / 1_000);
        let outcome = attempt.outcome.as_str();
        writeln!(text, "  {}#{} +{start} {took:?} {outcome}", attempt.name, attempt.number).expect("text");
    }
    text
}

#[test]
fn a_chain_tells_rows_times_and_what_was_there_already() {
    let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
    run.after(2).cached(0, &dataset(336_776)).after(1_500).succeed(1, &dataset(327_346));
    check(
        &run,
        expect![[r#"
        Some(Succeeded) | from 0 by None Some("succeeded at 1502")
        ingest flights: succeeded tasks 1/1 attempts 1 ok 1 failed 0 cached 0.002 s 336776 rows
        transform trips: succeeded tasks 1/1 attempts 1 ok 1 failed 0 1.5 s 327346 rows
          flights#1 +0 Some(2) cached
          trips#1 +2 Some(1500) succeeded
    "#]],
    );
}

#[test]
fn a_fan_out_counts_its_children_and_names_their_rounds() {
    let mut run = Recorder::new(&[("model", "train", &[])]);
    run.after(10).expand(0, 3);
    run.after(100).succeed(1, &Output::Nothing).succeed(2, &Output::Nothing);
    run.after(50).succeed(3, &Output::Nothing);
    run.after(5).expand(4, 2);
    run.after(30).succeed(5, &Output::Nothing).expand(6, 1);
    run.after(30).succeed(8, &Output::Nothing).after(1).succeed(9, &Output::Nothing);
    run.after(7).succeed(7, &Output::Nothing);
    let history = check(
        &run,
        expect![[r#"
        Some(Succeeded) | from 0 by None Some("succeeded at 233")
        train model: succeeded tasks 10/10 attempts 10 ok 7 failed 0 0.233 s
          model#1 +0 Some(10) expanded
          model/1/0#1 +10 Some(100) succeeded
          model/1/1#1 +10 Some(100) succeeded
          model/1/2#1 +10 Some(150) succeeded
          model/1/join#1 +160 Some(5) expanded
          model/2/0#1 +165 Some(30) succeeded
          model/2/1#1 +165 Some(30) expanded
          model/2/1/1/0#1 +195 Some(30) succeeded
          model/2/1/1/join#1 +225 Some(1) succeeded
          model/2/join#1 +226 Some(7) succeeded
    "#]],
    );
    let paths: Vec<&str> = history.groups.iter().map(|group| group.view.path.as_str()).collect();
    assert_eq!(paths, ["", "1", "1/join", "2", "2/join", "2/1/1", "2/1/1/join"]);
}

#[test]
fn a_failure_that_passes_and_a_lost_worker_show_as_attempts() {
    let mut run = Recorder::new(&[("flights", "ingest", &[])]);
    run.after(20).fail(0, ErrorCode::Unavailable, "the disk is away");
    run.after(1_000).after(300).lose(0).after(40).succeed(0, &dataset(5));
    check(
        &run,
        expect![[r#"
        Some(Succeeded) | from 0 by None Some("succeeded at 1360")
        ingest flights: succeeded tasks 1/1 attempts 3 ok 1 failed 2 1.36 s 5 rows
          flights#1 +0 Some(20) failed
          flights#2 +1020 Some(300) lost
          flights#3 +1320 Some(40) succeeded
    "#]],
    );
}

#[test]
fn a_failed_step_says_why_and_what_needs_it_is_skipped() {
    let mut run =
        Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"]), ("other", "ingest", &[])]);
    run.after(10).fail(0, ErrorCode::BadInput, "there is no file `data`").after(5).succeed(2, &dataset(1));
    check(
        &run,
        expect![[r#"
        Some(Failed) | from 0 by None Some("failed at 15")
        ingest flights: failed tasks 1/1 attempts 1 ok 0 failed 1 0.01 s because there is no file `data`
        transform trips: skipped tasks 1/1 attempts 0 ok 0 failed 0 0 s
        ingest other: succeeded tasks 1/1 attempts 1 ok 1 failed 0 0.015 s 1 rows
          flights#1 +0 Some(10) failed
          other#1 +0 Some(15) succeeded
    "#]],
    );
}

#[test]
fn a_gate_that_says_no_rejects() {
    let mut run = Recorder::new(&[("quality", "validate", &[]), ("release", "register", &["quality"])]);
    run.after(10).reject(0, "roc_auc is 0.71; at least 0.85 is required");
    check(
        &run,
        expect![[r#"
        Some(Rejected) | from 0 by None Some("rejected at 10")
        validate quality: rejected tasks 1/1 attempts 1 ok 0 failed 0 0.01 s because roc_auc is 0.71; at least 0.85 is required
        register release: skipped tasks 1/1 attempts 0 ok 0 failed 0 0 s
          quality#1 +0 Some(10) rejected
    "#]],
    );
}

#[test]
fn the_first_failed_child_ends_its_siblings() {
    let mut run = Recorder::new(&[("scores", "score", &[])]);
    run.after(10).expand(0, 30).after(10).fail(2, ErrorCode::BadInput, "column `x` is missing");
    let history = History::fold(run.run, &run.facts).expect("the core's journals can be told");
    // What is out is being taken back; what hadn't started is skipped.
    assert_eq!(history.steps[0].state, StepState::Running);
    let states = &history.groups[1].states;
    assert_eq!(states[&StepState::Failed], 1);
    assert!(states[&StepState::Skipped] > 0, "{states:?}");
}

#[test]
fn tolerated_failures_dont_fail_the_step() {
    let mut run = Recorder::new(&[("tune", "noop", &[])]);
    run.after(10).expand_tolerating(0, 2, OnFailure::Tolerate(1));
    run.after(10).fail(1, ErrorCode::BadInput, "diverged").succeed(2, &Output::Nothing);
    run.after(10).succeed(3, &Output::Nothing);
    check(
        &run,
        expect![[r#"
        Some(Succeeded) | from 0 by None Some("succeeded at 30")
        noop tune: succeeded tasks 4/4 attempts 4 ok 2 failed 1 0.03 s
          tune#1 +0 Some(10) expanded
          tune/1/0#1 +10 Some(10) failed
          tune/1/1#1 +10 Some(10) succeeded
          tune/1/join#1 +20 Some(10) succeeded
    "#]],
    );
}

#[test]
fn a_cancelled_run_that_is_resumed_tells_both_of_its_lives() {
    let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
    run.after(1_000).succeed(0, &dataset(7)).after(500).cancel("ann");
    let cut = History::fold(run.run, &run.facts).expect("the core's journals can be told");
    assert_eq!((cut.steps[1].state, cut.cancelled_by.as_deref()), (StepState::Cancelled, Some("ann")));
    run.after(3_600_000).resume("bob").after(250).succeed(1, &dataset(6));
    let history = check(
        &run,
        expect![[r#"
        Some(Succeeded) | from 0 by None Some("cancelled at 1500") | from 3601500 by Some("bob") Some("succeeded at 3601750")
        ingest flights: succeeded tasks 1/1 attempts 1 ok 1 failed 0 1 s 7 rows
        transform trips: succeeded tasks 1/1 attempts 2 ok 1 failed 0 0.75 s 6 rows
          flights#1 +0 Some(1000) succeeded
          trips#1 +1000 Some(500) cancelled
          trips#2 +3601500 Some(250) succeeded
    "#]],
    );
    // The hour between its lives isn't work.
    assert_eq!(history.seconds(run.now), 1.75);
    assert_eq!(history.steps[1].seconds, 0.75);
}

#[test]
fn an_open_run_tells_what_is_out() {
    let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
    run.after(1_000);
    let history = check(
        &run,
        expect![[r#"
        None | from 0 by None None
        ingest flights: running tasks 0/1 attempts 0 ok 0 failed 0 0 s
        transform trips: waiting tasks 0/1 attempts 0 ok 0 failed 0 0 s
          flights#1 +0 None running
    "#]],
    );
    assert_eq!(history.steps[0].out_since, Some(Timestamp(START_MS)));
}

#[test]
fn an_empty_journal_is_an_error_that_names_the_run() {
    let error = History::fold(RunId::from_u128(7), []).expect_err("there is nothing to tell");
    assert!(matches!(error, HistoryError::Empty { .. }));
    expect!["the journal of `run-00000000000000000000000000000007` is empty"].assert_eq(&error.to_string());
}

#[test]
fn a_hundred_thousand_tasks_keep_the_attempts_that_tell_most() {
    let mut run = Recorder::new(&[("scores", "score", &[])]);
    run.after(10).expand(0, 100_000);
    // The children and their join.
    let mut left = 100_001;
    while left > 0 {
        run.after(1);
        for task in run.tasks_out() {
            run.succeed(task, &Output::Nothing);
            left -= 1;
        }
    }
    let began = Instant::now();
    let history = History::fold(run.run, &run.facts).expect("the core's journals can be told");
    // Some 50 ms in a release build; the bound only catches work that grows with the square.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    assert_eq!(history.attempts.len(), ATTEMPTS_KEPT);
    assert_eq!(history.attempts_left_out + ATTEMPTS_KEPT as u64, history.steps[0].tally.attempts);
    let names: Vec<&str> = history.attempts.iter().map(|attempt| attempt.name.as_str()).collect();
    assert!(names.contains(&"scores"), "the step's own task is among them");
}
