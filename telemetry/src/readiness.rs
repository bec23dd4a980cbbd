//! Whether a process reaches what it can't work without, judged by when that last answered.
//!
//! Nobody is asked for this: a process that works hears from its servers all the time, and one that hears nothing
//! for too long can't work, whatever a question just for show would find.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::serve::Readiness;

/// A server that must have answered lately.
#[derive(Debug)]
pub struct Contact {
    /// Who it is and for what, as in `the state store, asked by the scheduler`.
    name: &'static str,
    limit: Duration,
    last: Mutex<Option<Instant>>,
}

impl Contact {
    /// A server that hasn't answered yet, and counts as away when it doesn't for longer than `limit`.
    pub fn new(name: &'static str, limit: Duration) -> Arc<Contact> {
        Arc::new(Contact { name, limit, last: Mutex::new(None) })
    }

    /// It has answered now.
    pub fn answered(&self) {
        self.answered_at(Instant::now());
    }

    fn answered_at(&self, at: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Why it counts as away, if it does.
    fn check(&self, now: Instant) -> Result<(), String> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last else { return Err(format!("{}: has not answered yet", self.name)) };
        let silent = now.saturating_duration_since(last);
        if silent <= self.limit {
            return Ok(());
        }
        let (silent, limit) = (silent.as_secs_f64(), self.limit.as_secs_f64());
        Err(format!("{}: last answered {silent:.1} s ago; ready means within {limit} s", self.name))
    }
}

/// Ready while all of these answer; else the reasons, a line each.
pub fn all(contacts: Vec<Arc<Contact>>) -> Readiness {
    Arc::new(move || {
        let now = Instant::now();
        let away: Vec<String> = contacts.iter().filter_map(|contact| contact.check(now).err()).collect();
        if away.is_empty() { Ok(()) } else { Err(away.join("\n")) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_counts_until_its_limit_and_again_from_the_next_answer() {
        let contact = Contact::new("the state store", Duration::from_secs(3));
        let at = Instant::now();
        assert_eq!(contact.check(at), Err("the state store: has not answered yet".to_owned()));
        contact.answered_at(at);
        assert_eq!(contact.check(at + Duration::from_secs(3)), Ok(()));
        let away = contact.check(at + Duration::from_millis(3_250));
        assert_eq!(away, Err("the state store: last answered 3.2 s ago; ready means within 3 s".to_owned()));
        contact.answered_at(at + Duration::from_millis(3_250));
        assert_eq!(contact.check(at + Duration::from_secs(6)), Ok(()));
    }

    #[test]
    fn whoever_waits_for_two_is_told_of_both() {
        let contacts = ["the store", "the broker"].map(|name| Contact::new(name, Duration::from_secs(60)));
        let ready = all(contacts.to_vec());
        assert_eq!(ready(), Err("the store: has not answered yet\nthe broker: has not answered yet".to_owned()));
        contacts[0].answered();
        assert_eq!(ready(), Err("the broker: has not answered yet".to_owned()));
        contacts[1].answered();
        assert_eq!(ready(), Ok(()));
    }
}
