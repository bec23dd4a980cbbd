//! What may be spent.

use std::collections::BTreeMap;

use gristmill_protocol::limits::{BUDGETS_MAX, NAME_CHARS_MAX};
use serde::{Deserialize, Serialize};

use super::{Amount, WrongSetting, amount};

/// The share of a budget at which is warned.
pub const WARN_SHARE: f64 = 0.8;

/// The budgets by name: the table `[budgets]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, BudgetFile>")]
pub struct Budgets(pub BTreeMap<String, Budget>);

/// One budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Budget {
    pub scope: Scope,
    pub period: Period,
    /// What may be spent in a period.
    pub amount: Amount,
    pub at_limit: AtLimit,
}

/// Whose runs count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Everything,
    /// Runs of a namespace.
    Namespace(String),
    /// Runs of a pipeline, in all namespaces.
    Pipeline(String),
}

impl Scope {
    /// Whether a run of this namespace and pipeline counts.
    pub fn covers(&self, namespace: &str, pipeline: &str) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Namespace(name) => name == namespace,
            Scope::Pipeline(name) => name == pipeline,
        }
    }
}

/// The time that a budget is for, in UTC; weeks begin on Mondays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Day,
    Week,
    Month,
    /// Each run for itself.
    Run,
}

impl Period {
    /// The period as it stands in files and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Run => "run",
        }
    }
}

/// What happens when all is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    /// It is said.
    #[default]
    Warn,
    /// Runs that are open are cancelled, and those that come until the period ends.
    Stop,
}

/// As it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetFile {
    namespace: Option<String>,
    pipeline: Option<String>,
    period: Period,
    amount: f64,
    #[serde(default)]
    at_limit: AtLimit,
}

impl TryFrom<BTreeMap<String, BudgetFile>> for Budgets {
    type Error = WrongSetting;

    fn try_from(files: BTreeMap<String, BudgetFile>) -> Result<Budgets, WrongSetting> {
        if files.len() > BUDGETS_MAX {
            let problem = format!("has {} budgets; at most {BUDGETS_MAX} are kept", files.len());
            return Err(WrongSetting::new("budgets", problem));
        }
        let budget = |(name, file): (String, BudgetFile)| Ok((name.clone(), file.read(&name)?));
        Ok(Budgets(files.into_iter().map(budget).collect::<Result<_, _>>()?))
    }
}

impl BudgetFile {
    fn read(self, name: &str) -> Result<Budget, WrongSetting> {
        let key = format!("budgets.{name}");
        let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
            let problem = format!("can't be a name: use at most {NAME_CHARS_MAX} letters, digits, `-` and `_`");
            return Err(WrongSetting::new(key, problem));
        }
        let scope = match (self.namespace, self.pipeline) {
            (None, None) => Scope::Everything,
            (Some(namespace), None) => Scope::Namespace(namespace),
            (None, Some(pipeline)) => Scope::Pipeline(pipeline),
            (Some(_), Some(_)) => {
                return Err(WrongSetting::new(key, "has a `namespace` or a `pipeline`, not both"));
            }
        };
        let key = format!("{key}.amount");
        let amount = amount(&key, self.amount)?;
        if amount == Amount::ZERO {
            return Err(WrongSetting::new(key, "is 0: nothing could run"));
        }
        Ok(Budget { scope, period: self.period, amount, at_limit: self.at_limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_by_name() {
        let text = "[team-a]\nnamespace = \"team-a\"\nperiod = \"month\"\namount = 500\nat_limit = \"stop\"\n\
            [each]\nperiod = \"run\"\namount = 0.5\n";
        let budgets: Budgets = toml::from_str(text).expect("they are right");
        let team = &budgets.0["team-a"];
        assert_eq!((team.period, team.amount, team.at_limit), (Period::Month, Amount(500_000_000_000), AtLimit::Stop));
        assert!(team.scope.covers("team-a", "x") && !team.scope.covers("team-b", "x"));
        assert_eq!((&budgets.0["each"].scope, budgets.0["each"].at_limit), (&Scope::Everything, AtLimit::Warn));
    }

    #[test]
    fn a_wrong_budget_is_told_by_its_key() {
        for (text, expected) in [
            ("[a]\nperiod = \"year\"\namount = 1", "unknown variant `year`"),
            ("[a]\nperiod = \"day\"", "missing field `amount`"),
            ("[a]\nperiod = \"day\"\namount = -1", "`budgets.a.amount` is -1"),
            ("[a]\nperiod = \"day\"\namount = 0", "`budgets.a.amount` is 0"),
            ("[a]\nperiod = \"day\"\namount = 1\nnamespace = \"n\"\npipeline = \"p\"", "`budgets.a` has a `namespace`"),
            ("[\"a b\"]\nperiod = \"day\"\namount = 1", "`budgets.a b` can't be a name"),
            ("[a]\nperiod = \"day\"\namount = 1\nat = \"stop\"", "unknown field `at`"),
            ("[a]\nperiod = \"day\"\namount = 1\nat_limit = \"kill\"", "unknown variant `kill`"),
        ] {
            let error = toml::from_str::<Budgets>(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
