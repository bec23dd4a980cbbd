//! When each schedule is to be looked at, by the store's time.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::Timestamp;

/// Names and times; a name has one time.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(Timestamp, String)>,
    by_name: BTreeMap<String, Timestamp>,
}

impl Agenda {
    /// Sets when a schedule is looked at; never with no time.
    pub(super) fn set(&mut self, name: &str, at: Option<Timestamp>) {
        if let Some((name, before)) = self.by_name.remove_entry(name) {
            self.by_time.remove(&(before, name));
        }
        if let Some(at) = at {
            self.by_name.insert(name.to_owned(), at);
            self.by_time.insert((at, name.to_owned()));
        }
    }

    /// Those whose time has come, the earliest first.
    pub(super) fn due(&self, now: Timestamp) -> Vec<String> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, name)| name.clone()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.by_time.clear();
        self.by_name.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_time() {
        let mut agenda = Agenda::default();
        agenda.set("a", Some(Timestamp(3)));
        agenda.set("b", Some(Timestamp(2)));
        assert_eq!(agenda.due(Timestamp(3)), ["b", "a"]);
        agenda.set("a", Some(Timestamp(5)));
        assert_eq!(agenda.due(Timestamp(4)), ["b"]);
        agenda.set("b", None);
        assert_eq!(agenda.due(Timestamp(9)), ["a"]);
    }
}
