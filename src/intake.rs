//! Jobs submitted through a queue: read, checked, made into runs, answered.
//!
//! A submission leaves its queue when its run has been safe in the store for five seconds, because a store may
//! go back by two; the same message makes the same run however often it comes. What can't be read is put aside
//! with the reason, and so is a wrong pipeline whose sender wants no answer: nothing is thrown away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::broker::submissions::{Letter, Submission as Received, SubmissionQueue, Submissions};
use gristmill_backends::state::State;
use gristmill_protocol::submission::{SubmissionAnswer, SubmissionMessage};
use gristmill_protocol::{ErrorCode, RunId, Timestamp};
use gristmill_scheduler::message::{Key, MessageError, submit_message};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::submission::wall_clock;

/// Messages that are taken and not yet acknowledged. At five seconds each that is 800 messages a second and process, and
/// 800,000 runs where messages are full lists. Of those whose runs are made the body isn't kept.
const UNSETTLED_MAX: u16 = 4_000;
/// How long a run must have been safe before its submission is acknowledged.
const SAFE_AFTER: Duration = Duration::from_secs(5);
/// The pause after the broker or the store couldn't be reached.
const RETRY: Duration = Duration::from_millis(500);
const ANSWER: &str = "application/json";

/// Submissions of one message whose run is made at a time: enough to hide the store's latency.
const AT_ONCE: usize = 32;

/// A message whose runs are made.
struct Made {
    received: Received,
    runs: Vec<RunId>,
    since: Instant,
    /// Why the message is put aside then, because a part of it was refused and nobody hears of that.
    aside: Option<String>,
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
                    made.extend(settle(queue, stores.state, first).await);
                }
            }
        }
    }
}

/// Acknowledges a message whose runs are still there. One of which the store forgot any is given back, to be made again.
async fn settle(queue: &dyn SubmissionQueue, state: &dyn State, made: Made) -> Option<Made> {
    let looks = stream::iter(made.runs.clone()).map(move |run| state.run(run)).buffer_unordered(AT_ONCE);
    let found: Result<Vec<bool>, _> = looks.map_ok(|record| record.is_some()).try_collect().await;
    match found {
        Ok(found) if found.iter().all(|is_there| *is_there) => {
            match made.aside {
                Some(reason) => put_aside(queue, made.received, &reason).await,
                None => made.received.ack(),
            }
            None
        }
        Ok(_) => {
            made.received.requeue();
            None
        }
        Err(_) => Some(Made { since: Instant::now(), ..made }),
    }
}

async fn handle(queue: &dyn SubmissionQueue, stores: Stores<'_>, mut received: Received) -> Option<Made> {
    let letter = received.letter.clone();
    let content_type = letter.content_type.as_deref().unwrap_or("application/json");
    let messages = match SubmissionMessage::decode_many(content_type, &letter.body) {
        Ok(messages) => messages,
        Err(error) => {
            let reason = with_causes(&error);
            let refusal = refused(ErrorCode::BadInput, reason.clone());
            answer(queue, &letter, refusal.to_json()).await;
            put_aside(queue, received, &reason).await;
            return None;
        }
    };
    let is_list = SubmissionMessage::is_list(content_type);
    let judging = messages.into_iter().enumerate().map(|(place, message)| {
        let id = letter.id.as_ref().map(|id| if is_list { format!("{id}/{place}") } else { id.clone() });
        judge(stores, message, id, letter.timestamp_s)
    });
    let verdicts: Vec<Verdict> = stream::iter(judging).buffered(AT_ONCE).collect().await;
    if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Later)) {
        tokio::time::sleep(RETRY).await;
        received.requeue();
        return None;
    }
    let mut runs = Vec::new();
    let mut refusals = Vec::new();
    let mut answers = Vec::with_capacity(verdicts.len());
    for verdict in verdicts {
        answers.push(match verdict {
            Verdict::Run(run) => {
                info!(%run, "submitted through the queue");
                runs.push(run);
                SubmissionAnswer::Accepted { run }
            }
            Verdict::Refused(refusal) => {
                if let SubmissionAnswer::Refused { error, .. } = &refusal {
                    refusals.push(error.clone());
                }
                refusal
            }
            Verdict::Later => return None,
        });
    }
    let body = match is_list {
        true => serde_json::to_vec(&answers).unwrap_or_default(),
        false => answers.first().map(SubmissionAnswer::to_json).unwrap_or_default(),
    };
    answer(queue, &letter, body).await;
    match refusals.first() {
        // Nobody hears of what is refused, so it is kept; what was made isn't made again when it is sent once more.
        Some(first) if letter.reply_to.is_none() => {
            let reason = match answers.len() {
                1 => first.clone(),
                all => format!("{} of {all} submissions are refused; the first: {first}", refusals.len()),
            };
            if runs.is_empty() {
                put_aside(queue, received, &reason).await;
                return None;
            }
            Some(Made { received, runs, since: Instant::now(), aside: Some(reason) })
        }
        _ if runs.is_empty() => {
            received.ack();
            None
        }
        _ => {
            // The message waits for its acknowledgement; what it said isn't needed for that.
            received.letter.body = Bytes::new();
            Some(Made { received, runs, since: Instant::now(), aside: None })
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

async fn answer(queue: &dyn SubmissionQueue, letter: &Letter, answer: Vec<u8>) {
    if letter.reply_to.is_none() {
        return;
    }
    if let Err(error) = queue.reply(letter, ANSWER, Bytes::from(answer)).await {
        warn!(error = &error as &dyn std::error::Error, "an answer can't be sent");
    }
}

fn refused(code: ErrorCode, error: String) -> SubmissionAnswer {
    SubmissionAnswer::Refused { error, code, complaints: Vec::new() }
}

/// Makes the run of a submission; `id` stands in for a key that it doesn't have.
async fn judge(
    stores: Stores<'_>,
    message: SubmissionMessage,
    id: Option<String>,
    timestamp_s: Option<u64>,
) -> Verdict {
    let Some(key) = message.key.clone().or(id) else {
        let text = "it has no `key` and its message no id: made again it would be a second run".to_owned();
        return Verdict::Refused(refused(ErrorCode::BadInput, text));
    };
    // With its own time the same message makes the same run by itself; else its key is remembered.
    let key = match timestamp_s.is_some() && message.key.is_none() {
        true => Key::Timed(key),
        false => Key::Remembered(key),
    };
    let at = timestamp_s.map_or_else(wall_clock, |seconds| Timestamp(seconds * 1_000));
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
