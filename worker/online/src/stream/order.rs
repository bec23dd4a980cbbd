//! Which message may go out: those of one key one after the other, and those of different keys at the same time.
//!
//! It decides and does nothing. Messages are numbered as they arrive; a number that is done lets the next one of its
//! key go, and all numbers before the smallest that isn't done are what a stream has reached.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// A message's key; messages without one have no order among each other.
pub type Key = Option<Box<[u8]>>;

/// What has arrived and isn't done.
#[derive(Debug, Default)]
pub struct Order {
    next: u64,
    /// Keys of the numbers that aren't done.
    open: BTreeMap<u64, Key>,
    /// Numbers that aren't done, by key; the first may go.
    lines: HashMap<Box<[u8]>, VecDeque<u64>>,
}

impl Order {
    /// A message arrives. Returns its number, and whether it may go at once.
    pub fn arrive(&mut self, key: Key) -> (u64, bool) {
        let number = self.next;
        self.next += 1;
        let first = match &key {
            None => true,
            Some(key) => {
                let line = self.lines.entry(key.clone()).or_default();
                line.push_back(number);
                line.len() == 1
            }
        };
        self.open.insert(number, key);
        (number, first)
    }

    /// A message is out. Returns the number that may go after it. One that isn't open changes nothing.
    pub fn done(&mut self, number: u64) -> Option<u64> {
        let key = self.open.remove(&number)??;
        let line = self.lines.get_mut(&key)?;
        line.retain(|other| *other != number);
        let next = line.front().copied();
        if next.is_none() {
            self.lines.remove(&key);
        }
        next
    }

    /// All numbers below this one are done.
    pub fn reached(&self) -> u64 {
        self.open.first_key_value().map_or(self.next, |(number, _)| *number)
    }

    /// Messages that aren't done.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> Key {
        // Some have none.
        (name > 0).then(|| vec![name].into())
    }

    proptest! {
        #[test]
        fn each_key_goes_in_order_and_nobody_waits_for_another_key(
            arrivals in proptest::collection::vec((0u8..5, any::<u8>()), 1..50),
        ) {
            let mut order = Order::default();
            let mut keys = Vec::new();
            let mut may_go = BTreeSet::new();
            let mut gone: Vec<u64> = Vec::new();
            let finish = |order: &mut Order, may_go: &mut BTreeSet<u64>, gone: &mut Vec<u64>, pick: usize| {
                let number = *may_go.iter().nth(pick % may_go.len()).unwrap();
                may_go.remove(&number);
                gone.push(number);
                may_go.extend(order.done(number));
            };
            for (name, pick) in arrivals {
                let (number, first) = order.arrive(key(name));
                prop_assert_eq!(number, keys.len() as u64);
                keys.push(name);
                if first {
                    may_go.insert(number);
                }
                // The simplest description of who may go: of each key the smallest that isn't gone.
                let open = |number: &u64| !gone.contains(number);
                let expected: BTreeSet<u64> = (0..keys.len() as u64).filter(open).filter(|number| {
                    let name = keys[*number as usize];
                    name == 0 || !(0..*number).filter(open).any(|other| keys[other as usize] == name)
                }).collect();
                prop_assert_eq!(&may_go, &expected);
                let reached = (0..keys.len() as u64).find(open).unwrap_or(keys.len() as u64);
                prop_assert_eq!(order.reached(), reached);
                if pick % 3 > 0 && !may_go.is_empty() {
                    finish(&mut order, &mut may_go, &mut gone, pick.into());
                }
            }
            while !may_go.is_empty() {
                finish(&mut order, &mut may_go, &mut gone, 0);
            }
            prop_assert_eq!(order.open(), 0);
            prop_assert_eq!(order.reached(), keys.len() as u64);
            prop_assert!(order.lines.is_empty());
            for name in 1..5 {
                let line: Vec<u64> = gone.iter().copied().filter(|number| keys[*number as usize] == name).collect();
                prop_assert!(line.is_sorted());
            }
        }
    }
}
