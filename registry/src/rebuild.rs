//! The registry from its copies: what the state has lost, in part or whole, is written to it again.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_backends::artifacts::ArtifactError;
use gristmill_backends::state::StateError;
use gristmill_protocol::Digest;

use crate::chain::{self, Head, MARKS};
use crate::error::RegistryError;
use crate::registry::Registry;
use crate::verify::Damage;

/// Marks read at a time: what a bucket lists in one answer.
const MARKS_MAX: usize = 1_000;
/// Entries read at a time.
const READ_MAX: usize = 256;

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Logs that have copies.
    pub logs: u64,
    /// Facts that the state had lost, and has again.
    pub facts: u64,
    /// Logs that end before their copies do, and why.
    pub damages: Vec<Damage>,
}

/// Entries by log and number. More than one at a number means that the store went back while it was written.
pub(crate) type Marks = BTreeMap<String, BTreeMap<u64, BTreeSet<Digest>>>;

impl Registry {
    /// Writes to the state every fact that the artifacts have and the state hasn't. What the state has stays; each log
    /// is restored up to its first damage. Fails only when a store can't be reached.
    pub async fn rebuild(&self) -> Result<Rebuilt, RegistryError> {
        let mut rebuilt = Rebuilt::default();
        for (log, marked) in self.all_marks().await? {
            rebuilt.logs += 1;
            let mut fact = 0;
            match self.rebuild_log(&log, &marked, &mut rebuilt.facts, &mut fact).await {
                Ok(()) => {}
                Err(error) if is_outage(&error) => return Err(error),
                Err(error) => {
                    let what = match error {
                        RegistryError::BrokenChain { what, .. } => what,
                        error => error.to_string(),
                    };
                    rebuilt.damages.push(Damage { log, fact: Some(fact), what });
                }
            }
        }
        Ok(rebuilt)
    }

    /// Restores one log. `fact` is the number of the one that is looked at.
    async fn rebuild_log(
        &self,
        log: &str,
        marked: &BTreeMap<u64, BTreeSet<Digest>>,
        restored: &mut u64,
        fact: &mut u64,
    ) -> Result<(), RegistryError> {
        let mut head = Head::empty();
        *fact = 1;
        loop {
            let entries = self.logs.read(log, head, READ_MAX).await?;
            head = entries.last().map_or(head, |last| last.head);
            *fact = head.number + 1;
            if entries.len() < READ_MAX {
                break;
            }
        }
        for (number, digests) in marked.range(*fact..) {
            if *number != *fact {
                let name = crate::log::name_of(log);
                let what = format!("it has no copy, but fact {number} has one");
                return Err(RegistryError::BrokenChain { name, number: *fact, what });
            }
            let next = marked.get(&(number + 1));
            let chosen = match digests.len() {
                1 => digests.first().copied(),
                // Whatever the next fact was built on is the one that the log went on with.
                _ => self.followed_by(digests, next).await?,
            };
            let candidates: Vec<(u64, Digest)> = match chosen {
                Some(digest) => vec![(*number, digest)],
                None => digests.iter().map(|digest| (*number, *digest)).collect(),
            };
            head = self.logs.restore(log, head, &candidates).await?;
            *restored += 1;
            *fact += 1;
        }
        Ok(())
    }

    /// The one of some entries that one of the next ones names as the one before.
    async fn followed_by(
        &self,
        digests: &BTreeSet<Digest>,
        next: Option<&BTreeSet<Digest>>,
    ) -> Result<Option<Digest>, RegistryError> {
        for next in next.into_iter().flatten() {
            let bytes = self.logs.artifacts.get(*next).await?;
            if let Ok(crate::fact::LogEntry::Recorded(record)) = chain::decode(&bytes)
                && digests.contains(&record.previous)
            {
                return Ok(Some(record.previous));
            }
        }
        Ok(None)
    }

    /// Every copied entry of the registry.
    pub(crate) async fn all_marks(&self) -> Result<Marks, RegistryError> {
        let mut all = Marks::new();
        let mut after = String::new();
        loop {
            let page = self.logs.artifacts.marks(MARKS, &after, MARKS_MAX).await?;
            for (log, number, digest) in page.iter().filter_map(|mark| chain::parse_mark(mark)) {
                all.entry(log).or_default().entry(number).or_default().insert(digest);
            }
            match page.last() {
                Some(last) if page.len() == MARKS_MAX => after.clone_from(last),
                _ => return Ok(all),
            }
        }
    }
}

/// Whether trying again may help.
fn is_outage(error: &RegistryError) -> bool {
    match error {
        RegistryError::State(error) => !matches!(error, StateError::Conflict { .. }),
        RegistryError::Artifacts(error) => {
            !matches!(error, ArtifactError::Missing { .. } | ArtifactError::Corrupt { .. })
        }
        _ => false,
    }
}
