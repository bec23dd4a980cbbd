//! Jobs submitted through a queue: read, checked, made into runs, answered.
//!
//! A submission leaves its queue when its run has been safe in the store for five seconds, because a store may
//! go back by two; the same message makes the same run however often it comes. What can't be read is put aside
//! with the reason, and so is a wrong pipeline whose sender wants no answer: nothing is thrown away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::broker::submissions::{Letter, Submission as Received, SubmissionQueue, Submissions};
use gristmill_backends::state::State;
use gristmill_protocol::submission::{SubmissionAnswer, SubmissionMessage};
use gristmill_protocol::{ErrorCode, RunId, Timestamp};
use gristmill_scheduler::message::{Key, MessageError, submit_message};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::submission::wall_clock;

/// Submissions that are taken and not yet acknowledged. At five seconds each that is 200 runs a second.
const UNSETTLED_MAX: u16 = 1_000;
/// How long a run must have been safe before its submission is acknowledged.
const SAFE_AFTER: Duration = Duration::from_secs(5);
/// The pause after the broker or the store couldn't be reached.
const RETRY: Duration = Duration::from_millis(500);
const ANSWER: &str = "application/json";

/// A submission whose run is made.
struct Made {
    received: Received,
    run: RunId,
    since: Instant,
}

/// Where runs are made.
#[derive(Clone, Copy)]
struct Stores<'a> {
    state: &'a dyn State,
    artifacts: &'a dyn Artifacts,
}

/// What comes of a submission.
enum Verdict {
    Run(RunId),
    /// It won't ever be one: the answer, and why it is put aside if nobody wants that.
    Refused(SubmissionAnswer),
    /// It can't even be read.
    Unreadable(SubmissionAnswer, String),
    /// The store is away: the submission stays where it is.
    Later,
}

/// Takes submissions until dropped; those that aren't acknowledged then come again.
pub async fn serve(queue: Arc<dyn SubmissionQueue>, state: Arc<dyn State>, artifacts: Arc<dyn Artifacts>) {
    loop {
        match queue.submissions(UNSETTLED_MAX).await {
            Ok(mut submissions) => {
                take(&*queue, Stores { state: &*state, artifacts: &*artifacts }, &mut *submissions).await
            }
            Err(error) => warn!(error = &error as &dyn std::error::Error, "submissions can't be received"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Takes submissions until receiving fails.
async fn take(queue: &dyn SubmissionQueue, stores: Stores<'_>, submissions: &mut dyn Submissions) {
    let mut made: VecDeque<Made> = VecDeque::new();
    loop {
        let due = made.front().map(|made| made.since + SAFE_AFTER);
        tokio::select! {
            received = submissions.next() => match received {
                Ok(received) => made.extend(handle(queue, stores, received).await),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "submissions can't be received");
                    return;
                }
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some(first) = made.pop_front() {
                    made.extend(settle(stores.state, first).await);
                }
            }
        }
    }
}

/// Acknowledges a submission whose run is still there. One that the store forgot is given back, to be made again.
async fn settle(state: &dyn State, made: Made) -> Option<Made> {
    match state.run(made.run).await {
        Ok(Some(_)) => {
            made.received.ack();
            None
        }
        Ok(None) => {
            made.received.requeue();
            None
        }
        Err(_) => Some(Made { since: Instant::now(), ..made }),
    }
}

async fn handle(queue: &dyn SubmissionQueue, stores: Stores<'_>, received: Received) -> Option<Made> {
    let letter = received.letter.clone();
    match judge(stores, &letter).await {
        Verdict::Run(run) => {
            info!(%run, "submitted through the queue");
            answer(queue, &letter, &SubmissionAnswer::Accepted { run }).await;
            Some(Made { received, run, since: Instant::now() })
        }
        Verdict::Refused(refusal) => {
            answer(queue, &letter, &refusal).await;
            if letter.reply_to.is_some() {
                received.ack();
            } else if let SubmissionAnswer::Refused { error, .. } = refusal {
                put_aside(queue, received, &error).await;
            }
            None
        }
        Verdict::Unreadable(refusal, reason) => {
            answer(queue, &letter, &refusal).await;
            put_aside(queue, received, &reason).await;
            None
        }
        Verdict::Later => {
            tokio::time::sleep(RETRY).await;
            received.requeue();
            None
        }
    }
}

async fn put_aside(queue: &dyn SubmissionQueue, received: Received, reason: &str) {
    warn!(reason, "a submission is put aside");
    if let Err(error) = queue.dead_letter(received, reason).await {
        // It was given back and comes again.
        warn!(error = &error as &dyn std::error::Error, "a submission can't be put aside");
    }
}

async fn answer(queue: &dyn SubmissionQueue, letter: &Letter, answer: &SubmissionAnswer) {
    if letter.reply_to.is_none() {
        return;
    }
    if let Err(error) = queue.reply(letter, ANSWER, Bytes::from(answer.to_json())).await {
        warn!(error = &error as &dyn std::error::Error, "an answer can't be sent");
    }
}

async fn judge(stores: Stores<'_>, letter: &Letter) -> Verdict {
    let refused = |code, error: String| SubmissionAnswer::Refused { error, code, complaints: Vec::new() };
    let content_type = letter.content_type.as_deref().unwrap_or("application/json");
    let message = match SubmissionMessage::decode(content_type, &letter.body) {
        Ok(message) => message,
        Err(error) => {
            let text = with_causes(&error);
            return Verdict::Unreadable(refused(ErrorCode::BadInput, text.clone()), text);
        }
    };
    let Some(key) = message.key.clone().or_else(|| letter.id.clone()) else {
        let text = "it has no `key` and its message no id: made again it would be a second run".to_owned();
        return Verdict::Refused(refused(ErrorCode::BadInput, text));
    };
    // With its own time the same message makes the same run by itself; else its key is remembered.
    let key = match letter.timestamp_s.is_some() && message.key.is_none() {
        true => Key::Timed(key),
        false => Key::Remembered(key),
    };
    let at = letter.timestamp_s.map_or_else(wall_clock, |seconds| Timestamp(seconds * 1_000));
    match submit_message(stores.state, stores.artifacts, message, key, at).await {
        Ok(submitted) => Verdict::Run(submitted.run),
        Err(MessageError::Wrong(complaints)) => Verdict::Refused(SubmissionAnswer::complaints(complaints)),
        Err(error) if error.code() == ErrorCode::Unavailable => {
            warn!(error = &error as &dyn std::error::Error, "a submission has to wait");
            Verdict::Later
        }
        Err(error) => Verdict::Refused(refused(error.code(), with_causes(&error))),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
