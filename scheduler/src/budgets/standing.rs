//! How a budget stands, and what follows. No IO.

use gristmill_pools::costs::{Amount, AtLimit, Budget, WARN_SHARE};
use gristmill_protocol::{RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// A budget as it stands: what `budget/NAME` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetDocument {
    pub name: String,
    pub budget: Budget,
    /// How the currency is written.
    pub currency: String,
    /// The period, its end excluded; nothing where each run has its own.
    pub period: Option<(Timestamp, Timestamp)>,
    /// What was spent in it: by runs that ended in it, and by open ones so far. Where each run has its own, what the
    /// most expensive open one has cost.
    pub spent: Amount,
    /// The part of it that is of open runs.
    pub open: Amount,
    /// The run that is told, where each has its own.
    pub run: Option<RunId>,
    /// When it was first seen in this period that four fifths were spent, and that all was.
    pub warned: Option<Timestamp>,
    pub reached: Option<Timestamp>,
    /// When it was looked at.
    pub looked: Timestamp,
}

/// What was spent of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub now: Timestamp,
    pub period: Option<(Timestamp, Timestamp)>,
    /// In runs that ended, and in those that are open.
    pub ended: Amount,
    pub open: Amount,
    pub run: Option<RunId>,
}

/// What is to be said of a budget now, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Four fifths are spent.
    Warned,
    /// All is spent.
    Reached,
}

impl BudgetDocument {
    /// The share that is spent.
    pub fn ratio(&self) -> f64 {
        self.spent.share_of(self.budget.amount)
    }

    /// Whether its period isn't over: one that is since the last look stops nothing any more.
    pub(super) fn holds_at(&self, now: Timestamp) -> bool {
        self.period.is_none_or(|(from, until)| from <= now && now < until)
    }

    /// Whether its runs are to be cancelled.
    pub fn stops(&self) -> bool {
        self.budget.at_limit == AtLimit::Stop && self.spent >= self.budget.amount
    }

    /// The budget as it stands now, after how it stood before, and what is to be said.
    pub(super) fn next(
        name: &str,
        budget: &Budget,
        currency: &str,
        before: Option<&BudgetDocument>,
        seen: Seen,
    ) -> (BudgetDocument, Vec<Word>) {
        // What was said in another period, or of another amount, is said anew.
        let told = before.filter(|before| before.period == seen.period && before.budget == *budget);
        // Where each run has its own, what is said of one isn't said again for the same.
        let told = told.filter(|before| seen.period.is_some() || before.run == seen.run);
        let mut next = BudgetDocument {
            name: name.to_owned(),
            budget: budget.clone(),
            currency: currency.to_owned(),
            period: seen.period,
            spent: seen.ended + seen.open,
            open: seen.open,
            run: seen.run,
            warned: told.and_then(|before| before.warned),
            reached: told.and_then(|before| before.reached),
            looked: seen.now,
        };
        let mut words = Vec::new();
        if next.ratio() >= WARN_SHARE && next.warned.is_none() {
            next.warned = Some(seen.now);
            words.push(Word::Warned);
        }
        if next.spent >= budget.amount && next.reached.is_none() {
            next.reached = Some(seen.now);
            words.push(Word::Reached);
        }
        (next, words)
    }
}

#[cfg(test)]
mod tests {
    use gristmill_pools::costs::{Period, Scope};

    use super::*;

    #[test]
    fn a_budget_warns_once_a_period_and_says_once_that_it_is_spent() {
        let budget =
            Budget { scope: Scope::Everything, period: Period::Day, amount: Amount(100), at_limit: AtLimit::Stop };
        let mut before = None;
        let mut look = |now: u64, ended: u64, open: u64| {
            let period = Some((Timestamp(now / 1_000 * 1_000), Timestamp(now / 1_000 * 1_000 + 1_000)));
            let seen = Seen { now: Timestamp(now), period, ended: Amount(ended), open: Amount(open), run: None };
            let (next, words) = BudgetDocument::next("a", &budget, "EUR", before.as_ref(), seen);
            let stops = next.stops();
            before = Some(next);
            (words, stops)
        };
        assert_eq!(look(10, 50, 29), (vec![], false));
        assert_eq!(look(20, 50, 30), (vec![Word::Warned], false));
        assert_eq!(look(30, 80, 0), (vec![], false));
        assert_eq!(look(40, 99, 1), (vec![Word::Reached], true));
        assert_eq!(look(50, 120, 0), (vec![], true));
        assert_eq!(look(1_000, 0, 0), (vec![], false), "another period");
        assert_eq!(look(1_010, 0, 500), (vec![Word::Warned, Word::Reached], true));
    }
}
