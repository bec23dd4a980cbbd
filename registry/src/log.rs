//! Logs with many writers and no owner, each entry copied to the artifacts before it is acknowledged.
//!
//! An append is four steps: put the entry's bytes, append them to the state's log at exactly the next number, set
//! their mark, answer. The second step decides which of several writers wins; the third is what a rebuild goes by.
//! Whoever builds on an entry first sees to it that the entry is marked, so only the newest one can lack its mark,
//! and only while nobody was told that it is there.
//!
//! The state may go back by some seconds. Before the first append of a life of the store, marks and log are
//! compared: facts that the log has lost are written to it again, so no number is used twice. A life that begins
//! while an append is on its way is noticed after it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{State, StateError, StoreId};
use gristmill_protocol::limits::JOURNAL_ENTRY_BYTES_MAX;
use gristmill_protocol::{Digest, wire};

use crate::chain::{self, Head};
use crate::error::RegistryError;
use crate::fact::{LogEntry, Record};

/// Entries of a log read at a time.
const READ_MAX: usize = 256;
/// Marks read at a time: what a bucket lists in one answer.
const MARKS_MAX: usize = 1_000;

/// An entry as it is read: the end of the log with it, its bytes and what they say.
pub(crate) struct Stored {
    pub head: Head,
    pub bytes: Vec<u8>,
    pub entry: LogEntry,
}

/// The logs of a registry, and their copies.
#[derive(Clone)]
pub(crate) struct Logs {
    pub state: Arc<dyn State>,
    pub artifacts: Arc<dyn Artifacts>,
    /// Up to which number a log is known to be copied, in which life of the store.
    copied: Arc<Mutex<HashMap<String, (StoreId, u64)>>>,
}

/// What came of seeing to the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All is copied up to the head, and nothing is beyond it.
    Whole,
    /// The log had lost entries, which it has again.
    Restored,
}

impl Logs {
    pub fn new(state: Arc<dyn State>, artifacts: Arc<dyn Artifacts>) -> Logs {
        Logs { state, artifacts, copied: Arc::default() }
    }

    /// The entries after `from`, at most `limit`, each checked to follow the one before.
    pub async fn read(&self, log: &str, from: Head, limit: usize) -> Result<Vec<Stored>, RegistryError> {
        let mut head = from;
        let mut found = Vec::new();
        while found.len() < limit {
            let page = READ_MAX.min(limit - found.len());
            let entries = self.state.log_read(log, head.number, page).await?;
            let read = entries.len();
            for entry in entries {
                let stored = follow(log, head, entry.body)?;
                head = stored.head;
                found.push(stored);
            }
            if read < page {
                break;
            }
        }
        Ok(found)
    }

    /// The entries after `head`; nothing when the log doesn't have the entry that `head` ends with any more.
    pub async fn news(&self, log: &str, head: Head) -> Result<Option<Vec<Stored>>, RegistryError> {
        let Some(before) = head.number.checked_sub(1) else {
            return Ok(Some(self.read(log, head, usize::MAX).await?));
        };
        let entries = self.state.log_read(log, before, READ_MAX).await?;
        let full = entries.len() == READ_MAX;
        let mut entries = entries.into_iter();
        if entries.next().is_none_or(|last| Digest::of(&last.body) != head.entry) {
            return Ok(None);
        }
        let mut head = head;
        let mut found = Vec::new();
        for entry in entries {
            let stored = follow(log, head, entry.body)?;
            head = stored.head;
            found.push(stored);
        }
        if full {
            found.extend(self.read(log, head, usize::MAX).await?);
        }
        Ok(Some(found))
    }

    /// Appends a record after `head`, copied; nothing when another was faster, and then the log has to be read anew.
    pub async fn append(&self, log: &str, head: Head, record: Record) -> Result<Option<Stored>, RegistryError> {
        let store = self.state.clock().await?.store;
        if self.settle_in(store, log, head).await? == Settled::Restored {
            return Ok(None);
        }
        let entry = LogEntry::Recorded(record);
        let bytes = wire::encode(&entry);
        if bytes.len() > JOURNAL_ENTRY_BYTES_MAX {
            return Err(RegistryError::TooLong { what: "the change", max: JOURNAL_ENTRY_BYTES_MAX });
        }
        let digest = self.artifacts.put(bytes.clone().into()).await?;
        let number = head.number + 1;
        match self.state.log_append(log, number, chain::token(&bytes), bytes.clone()).await {
            Ok(()) => {}
            Err(StateError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        self.artifacts.mark(&chain::mark(log, number, digest)).await?;
        if self.state.clock().await?.store == store {
            self.lock().insert(log.to_owned(), (store, number));
        } else {
            // The store may have gone back after the head was read: another's fact may have stood at this number.
            let at = self.artifacts.marks(&chain::marks_at(log, number), "", 2).await?;
            if at.len() > 1 {
                let name = name_of(log);
                let what = "the store went back while it was written; two facts have this number".to_owned();
                return Err(RegistryError::BrokenChain { name, number, what });
            }
        }
        let head = head.after(&entry, &bytes);
        Ok(Some(Stored { head, bytes, entry }))
    }

    /// Sees to it that all entries up to `head`, which is the log's end, are copied, and that the log has all that
    /// was copied. Before an answer leans on an entry that another wrote.
    pub async fn settle(&self, log: &str, head: Head) -> Result<Settled, RegistryError> {
        let store = self.state.clock().await?.store;
        self.settle_in(store, log, head).await
    }

    async fn settle_in(&self, store: StoreId, log: &str, head: Head) -> Result<Settled, RegistryError> {
        let known = self.lock().get(log).copied();
        if known == Some((store, head.number)) {
            return Ok(Settled::Whole);
        }
        // In this life of the store all is copied up to a number. In another one, or when the log was longer before, a
        // copied head means that all before it is, and what is copied beyond it was lost.
        let since = known.filter(|(life, number)| *life == store && *number < head.number).map(|(_, number)| number);
        let first = since.map_or(head.number, |number| number + 1);
        let marked = self.marks_from(log, first).await?;
        if marked.iter().any(|(number, _)| *number > head.number) {
            self.restore(log, head, &marked).await?;
            return Ok(Settled::Restored);
        }
        let is_copied = |number: u64| marked.iter().any(|(at, _)| *at == number);
        let all_copied = (first..head.number).all(is_copied) && marked.contains(&(head.number, head.entry));
        if head.number > 0 && !all_copied {
            self.copy(log, since.unwrap_or(0), head).await?;
        }
        self.lock().insert(log.to_owned(), (store, head.number));
        Ok(Settled::Whole)
    }

    /// Numbers and digests of marked entries from `number` on.
    pub async fn marks_from(&self, log: &str, number: u64) -> Result<Vec<(u64, Digest)>, RegistryError> {
        let prefix = chain::marks_of(log);
        let mut after = chain::marks_at(log, number);
        let mut found = Vec::new();
        loop {
            let page = self.artifacts.marks(&prefix, &after, MARKS_MAX).await?;
            let parsed = page.iter().filter_map(|mark| chain::parse_mark(mark));
            found.extend(parsed.map(|(_, number, digest)| (number, digest)));
            match page.last() {
                Some(last) if page.len() == MARKS_MAX => after.clone_from(last),
                _ => return Ok(found),
            }
        }
    }

    /// Copies the entries after `after` that aren't copied: the newest one, and those that were written before there
    /// were marks.
    async fn copy(&self, log: &str, after: u64, head: Head) -> Result<(), RegistryError> {
        let marked: HashSet<(u64, Digest)> = self.marks_from(log, after + 1).await?.into_iter().collect();
        let mut after = after;
        while after < head.number {
            let entries = self.state.log_read(log, after, READ_MAX).await?;
            // The log went back in between, which the next look at the store's life shows.
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.position;
            for entry in entries {
                let digest = Digest::of(&entry.body);
                if !marked.contains(&(entry.position, digest)) {
                    self.artifacts.put(entry.body.into()).await?;
                    self.artifacts.mark(&chain::mark(log, entry.position, digest)).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes marked entries after `head` to the log again. Returns its end then.
    pub async fn restore(&self, log: &str, head: Head, marked: &[(u64, Digest)]) -> Result<Head, RegistryError> {
        let mut head = head;
        loop {
            let number = head.number + 1;
            let candidates: Vec<Digest> =
                marked.iter().filter(|(at, _)| *at == number).map(|(_, digest)| *digest).collect();
            if candidates.is_empty() {
                let Some(later) = marked.iter().map(|(at, _)| *at).find(|at| *at > number) else { return Ok(head) };
                let what = format!("neither the log nor the artifacts have it, but fact {later} is there");
                return Err(RegistryError::BrokenChain { name: name_of(log), number, what });
            }
            head = self.restore_one(log, head, &candidates).await?;
        }
    }

    /// Writes the one of some entries that follows `head`.
    async fn restore_one(&self, log: &str, head: Head, candidates: &[Digest]) -> Result<Head, RegistryError> {
        let [digest] = candidates else {
            let what = "several facts with this number were copied".to_owned();
            return Err(RegistryError::BrokenChain { name: name_of(log), number: head.number + 1, what });
        };
        let bytes = self.artifacts.get(*digest).await?.to_vec();
        let stored = follow(log, head, bytes)?;
        let token = chain::token(&stored.bytes);
        self.state.log_append(log, stored.head.number, token, stored.bytes).await?;
        Ok(stored.head)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (StoreId, u64)>> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes as the entry after `head`.
fn follow(log: &str, head: Head, bytes: Vec<u8>) -> Result<Stored, RegistryError> {
    let name = || name_of(log);
    let entry = chain::decode(&bytes).map_err(|source| RegistryError::Damaged { name: name(), source })?;
    if let Some(what) = head.mismatch(log, &entry) {
        return Err(RegistryError::BrokenChain { name: name(), number: head.number + 1, what });
    }
    Ok(Stored { head: head.after(&entry, &bytes), bytes, entry })
}

/// The model that a log is about.
pub(crate) fn name_of(log: &str) -> String {
    log.split_once('/').map_or(log, |(_, name)| name).to_owned()
}
