//! How the seam's values stand in arguments, keys and answers. See `protocol/scripts/README.md`.

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::{Expired, ExpiryCause, Holder, InboxEntry, InboxEvent, InboxId, Outcome, Revoked};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, TaskKey, Timestamp, WorkerId, wire};
use redis::Value;
use serde::{Deserialize, Serialize};

use super::super::{
    JournalEntry, LeaseView, Progress, RunRecord, SchedulerView, StateError, StatusChange, WorkerAbout,
};

/// Reads the answers to one verb; whatever isn't as expected is damage.
#[derive(Clone, Copy)]
pub(super) struct Read(pub(super) &'static str);

/// What a worker says of itself, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Presence {
    pub(super) pools: Vec<String>,
    pub(super) slots: u32,
    pub(super) draining: bool,
    #[serde(default)]
    pub(super) about: WorkerAbout,
    pub(super) held: Vec<(AttemptRef, Option<Progress>)>,
}

/// A stream's entry: its id, and its fields in order.
type StreamEntry = (InboxId, Vec<(Vec<u8>, Vec<u8>)>);

pub(super) fn attempt_text(attempt: AttemptRef) -> String {
    let AttemptRef { run, task: TaskKey { index, tag }, attempt } = attempt;
    format!("{run}:{index:08x}:{tag:08x}:{attempt:04x}")
}

pub(super) fn token_text(token: OwnerToken) -> String {
    format!("{}-{}", token.epoch, token.instance)
}

pub(super) fn inbox_id_text(id: InboxId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

pub(super) fn status_text(status: StatusChange) -> &'static str {
    match status {
        StatusChange::None => "",
        StatusChange::Closing => "closing",
        StatusChange::Reopened => "reopened",
        StatusChange::Ended(status) => status.as_str(),
    }
}

/// What the rules of a report go by.
pub(super) fn outcome_text(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } | Outcome::Expanded(_) => "success",
        Outcome::Stopped => "stopped",
        Outcome::Rejected { .. } | Outcome::Failed(_) | Outcome::Returned(_) => "other",
    }
}

fn parse_attempt(text: &str) -> Option<AttemptRef> {
    let mut parts = text.split(':');
    let run = parts.next()?.parse().ok()?;
    let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
    let (index, tag, attempt) = (hex()?, hex()?, hex()?);
    Some(AttemptRef { run, task: TaskKey { index, tag }, attempt: u16::try_from(attempt).ok()? })
}

fn parse_token(text: &str) -> Option<OwnerToken> {
    let (epoch, instance) = text.split_once('-')?;
    Some(OwnerToken { epoch: epoch.parse().ok()?, instance: instance.parse().ok()? })
}

fn parse_inbox_id(text: &str) -> Option<InboxId> {
    let (ms, seq) = text.split_once('-')?;
    Some(InboxId { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
}

fn parse_holder(text: &str) -> Option<Holder> {
    let (worker, until) = text.split_once(' ')?;
    Some(Holder { worker: worker.parse().ok()?, until: Timestamp(until.parse().ok()?) })
}

fn parse_view(text: &str) -> Option<LeaseView> {
    match text.split_once(' ') {
        None => (text == "unclaimed").then_some(LeaseView::Unclaimed),
        Some(("held", holder)) => parse_holder(holder).map(LeaseView::Held),
        Some(("closed", since)) => Some(LeaseView::Closed { since: Timestamp(since.parse().ok()?) }),
        Some(_) => None,
    }
}

impl Read {
    pub(super) fn damaged(self, detail: impl ToString) -> StateError {
        StateError::Damaged { verb: self.0, detail: detail.to_string() }
    }

    fn unexpected(self, found: &impl std::fmt::Debug) -> StateError {
        let text: String = format!("{found:?}").chars().take(200).collect();
        self.damaged(format!("unexpected {text}"))
    }

    /// A list; nothing is an empty one.
    pub(super) fn list(self, value: Value) -> Result<Vec<Value>, StateError> {
        match value {
            Value::Array(values) | Value::Set(values) => Ok(values),
            Value::Map(pairs) => Ok(pairs.into_iter().map(|(key, value)| Value::Array(vec![key, value])).collect()),
            Value::Nil => Ok(Vec::new()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// A list with exactly so many places.
    pub(super) fn tuple<const N: usize>(self, value: Value) -> Result<[Value; N], StateError> {
        self.list(value)?.try_into().map_err(|found| self.unexpected(&found))
    }

    pub(super) fn bytes(self, value: Value) -> Result<Vec<u8>, StateError> {
        match value {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            Value::Int(number) => Ok(number.to_string().into_bytes()),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn text(self, value: Value) -> Result<String, StateError> {
        String::from_utf8(self.bytes(value)?).map_err(|error| self.damaged(error))
    }

    pub(super) fn texts(self, value: Value) -> Result<Vec<String>, StateError> {
        self.list(value)?.into_iter().map(|value| self.text(value)).collect()
    }

    pub(super) fn number(self, value: Value) -> Result<u64, StateError> {
        let text = self.text(value)?;
        text.parse().map_err(|_| self.unexpected(&text))
    }

    pub(super) fn run(self, value: Value) -> Result<RunId, StateError> {
        let text = self.text(value)?;
        text.parse().map_err(|error| self.damaged(error))
    }

    /// The word that an answer begins with, and the rest.
    pub(super) fn answer(self, value: Value) -> Result<(String, std::vec::IntoIter<Value>), StateError> {
        let mut values = self.list(value)?.into_iter();
        let word = self.text(values.next().unwrap_or_default())?;
        Ok((word, values))
    }

    /// One known word for each of so many places.
    pub(super) fn words<T>(
        self,
        value: Value,
        count: usize,
        known: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, StateError> {
        let words = self.texts(value)?;
        if words.len() != count {
            return Err(self.unexpected(&words));
        }
        words.iter().map(|word| known(word).ok_or_else(|| self.unexpected(word))).collect()
    }

    /// `[seconds, microseconds]`, as `TIME` answers.
    pub(super) fn time(self, value: Value) -> Result<Timestamp, StateError> {
        let [seconds, micros] = self.tuple(value)?;
        Ok(Timestamp(self.number(seconds)? * 1_000 + self.number(micros)? / 1_000))
    }

    pub(super) fn token(self, value: Value) -> Result<OwnerToken, StateError> {
        let text = self.text(value)?;
        parse_token(&text).ok_or_else(|| self.unexpected(&text))
    }

    pub(super) fn views(self, value: Value, count: usize) -> Result<Vec<LeaseView>, StateError> {
        self.words(value, count, parse_view)
    }

    /// Schedulers as they said of themselves, by instance.
    pub(super) fn schedulers(self, value: Value) -> Result<Vec<SchedulerView>, StateError> {
        let mut views: Vec<SchedulerView> = Vec::new();
        for found in self.list(value)? {
            let [_, _, body] = self.tuple(found)?;
            let body = self.bytes(body)?;
            views.push(wire::decode("a scheduler's presence", &body).map_err(|error| self.damaged(error))?);
        }
        views.sort_by_key(|view| view.instance);
        Ok(views)
    }

    /// The record of a run from the fields of [`RECORD_FIELDS`]; nothing where there is none.
    pub(super) fn record(self, run: RunId, value: Value) -> Result<Option<RunRecord>, StateError> {
        let [pipeline, namespace, status, created, ended, head] = self.tuple(value)?;
        if matches!(head, Value::Nil) {
            return Ok(None);
        }
        let status = match self.text(status)?.as_str() {
            "open" | "closing" => None,
            "succeeded" => Some(RunStatus::Succeeded),
            "rejected" => Some(RunStatus::Rejected),
            "failed" => Some(RunStatus::Failed),
            "cancelled" => Some(RunStatus::Cancelled),
            other => return Err(self.unexpected(&other)),
        };
        Ok(Some(RunRecord {
            run,
            pipeline: self.text(pipeline)?,
            namespace: self.text(namespace)?,
            status,
            created: Timestamp(self.number(created)?),
            ended: match ended {
                Value::Nil => None,
                ended => Some(Timestamp(self.number(ended)?)),
            },
            head: self.number(head)?,
        }))
    }

    fn stream_entry(self, value: Value) -> Result<StreamEntry, StateError> {
        let [id, fields] = self.tuple(value)?;
        let text = self.text(id)?;
        let id = parse_inbox_id(&text).ok_or_else(|| self.unexpected(&text))?;
        let mut fields = self.list(fields)?.into_iter();
        let mut pairs = Vec::with_capacity(fields.len() / 2);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            pairs.push((self.bytes(name)?, self.bytes(value)?));
        }
        Ok((id, pairs))
    }

    /// Entries of a journal or log.
    pub(super) fn journal(self, value: Value) -> Result<Vec<JournalEntry>, StateError> {
        self.list(value)?.into_iter().map(|entry| self.journal_entry(entry)).collect()
    }

    fn journal_entry(self, value: Value) -> Result<JournalEntry, StateError> {
        let (id, fields) = self.stream_entry(value)?;
        let mut entry = JournalEntry { position: id.ms, append: 0, at: Timestamp(0), body: Vec::new() };
        for (name, value) in fields {
            match name.as_slice() {
                b"a" => entry.append = self.number(Value::BulkString(value))?,
                b"t" => entry.at = Timestamp(self.number(Value::BulkString(value))?),
                b"b" => entry.body = value,
                // A later version may add fields.
                _ => {}
            }
        }
        Ok(entry)
    }

    /// What `XREAD` answers: keys of streams with their entries.
    pub(super) fn streams(self, value: Value) -> Result<Vec<(String, Vec<InboxEntry>)>, StateError> {
        self.list(value)?
            .into_iter()
            .map(|stream| {
                let [key, entries] = self.tuple(stream)?;
                let entries = self.list(entries)?.into_iter().map(|entry| self.inbox_entry(entry));
                Ok((self.text(key)?, entries.collect::<Result<_, _>>()?))
            })
            .collect()
    }

    fn inbox_entry(self, value: Value) -> Result<InboxEntry, StateError> {
        let (id, fields) = self.stream_entry(value)?;
        let mut fields = fields.into_iter();
        let mut expect = |name: &str| match fields.next() {
            Some((found, value)) if found == name.as_bytes() => self.text(Value::BulkString(value)),
            other => Err(self.unexpected(&other)),
        };
        let at = expect("at")?;
        let at = Timestamp(at.parse().map_err(|_| self.unexpected(&at))?);
        let kind = expect("kind")?;
        let event = match kind.as_str() {
            "event" => match fields.next() {
                Some((_, body)) => wire::decode("an event", &body).map_err(|error| self.damaged(error))?,
                None => return Err(self.damaged("an event without its body")),
            },
            "finished" => {
                let worker = match fields.next() {
                    Some((_, worker)) => self.text(Value::BulkString(worker))?,
                    None => return Err(self.damaged("reports without their worker")),
                };
                let worker = worker.parse().map_err(|error| self.damaged(error))?;
                let reports = fields.map(|(_, body)| wire::decode("a report", &body));
                let reports = reports.collect::<Result<_, _>>().map_err(|error| self.damaged(error))?;
                InboxEvent::Finished { worker, reports }
            }
            "expired" => InboxEvent::Expired { ended: self.each(fields, expired)? },
            "revoked" => InboxEvent::Revoked { ended: self.each(fields, revoked)? },
            other => return Err(self.unexpected(&other)),
        };
        Ok(InboxEntry { id, at, event })
    }

    fn each<T>(
        self,
        fields: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
        parse: impl Fn(&str, &str) -> Option<T>,
    ) -> Result<Vec<T>, StateError> {
        fields
            .map(|(attempt, value)| {
                let (attempt, value) = (String::from_utf8_lossy(&attempt), String::from_utf8_lossy(&value));
                parse(&attempt, &value).ok_or_else(|| self.unexpected(&(attempt, value)))
            })
            .collect()
    }
}

/// The fields of a run's hash that make its record.
pub(super) const RECORD_FIELDS: [&str; 6] = ["pipeline", "namespace", "status", "created", "ended", "head"];

fn expired(attempt: &str, how: &str) -> Option<Expired> {
    let (worker, cause) = how.split_once(' ')?;
    let cause = match cause {
        "lost" => ExpiryCause::Lost,
        "timed_out" => ExpiryCause::TimedOut,
        _ => return None,
    };
    Some(Expired { attempt: parse_attempt(attempt)?, worker: worker.parse::<WorkerId>().ok()?, cause })
}

fn revoked(attempt: &str, holder: &str) -> Option<Revoked> {
    let holder = if holder.is_empty() { None } else { Some(parse_holder(holder)?) };
    Some(Revoked { attempt: parse_attempt(attempt)?, holder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_sort_as_their_texts_do() {
        let run = RunId::derive(Timestamp(1), "ns", "k", None);
        let attempt = |index, tag, attempt| AttemptRef { run, task: TaskKey { index, tag }, attempt };
        let mut all = [attempt(10, 0, 1), attempt(9, u32::MAX, 1), attempt(9, 2, 300), attempt(9, 2, 4)];
        all.sort_unstable();
        let texts: Vec<String> = all.iter().map(|&attempt| attempt_text(attempt)).collect();
        assert!(texts.is_sorted());
        assert_eq!(texts.iter().filter_map(|text| parse_attempt(text)).collect::<Vec<_>>(), all);
        assert_eq!(texts[0].len(), 59);
    }
}
