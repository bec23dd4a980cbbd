//! Expectations: rules about a table, checked partition by partition.
//!
//! [`Rules::compile`] complains about all rules at once before anything is read. [`Rules::check`] looks at one
//! partition and yields a small mergeable result; [`Rules::conclude`] puts the results of all partitions
//! together, in their order, and says in plain sentences what held. [`failing_rows`] then fetches the first rows
//! that failed, so that partial results carry row numbers and no rows.
//!
//! A rule may hold several checks (`nulls` and `between`, say); each has its own outcome. Rows without a
//! value are the business of `nulls` alone, except that an `sql` condition that is unknown for a row doesn't hold.

mod compile;
mod conclude;
mod evaluate;
mod rows;

use gristmill_protocol::pipeline::steps::Severity;
use serde::{Deserialize, Serialize};

use crate::partition::PartitionError;
use crate::sql::SqlError;
pub use compile::{RuleError, Rules};
pub use conclude::{ExpectReport, Outcome, RowAt};
pub use evaluate::PartialReport;
pub use rows::{FAILING_ROWS_MAX, failing_rows, failing_schema};

/// Why a table can't be checked.
#[derive(Debug, thiserror::Error)]
pub enum ExpectError {
    #[error("failed to read rows to check")]
    Read(#[from] PartitionError),
    #[error("failed to evaluate a condition")]
    Condition(#[from] SqlError),
    #[error("`unique` holds for tables of up to {max} rows, and this has more")]
    TooManyKeys { max: usize },
    #[error("the results of a partition are of other rules")]
    OtherRules,
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    Rows,
    Nulls,
    Between,
    In,
    Matches,
    Unique,
    Sql,
}

impl CheckKind {
    /// The key of a rule that asks for it.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckKind::Rows => "rows",
            CheckKind::Nulls => "nulls",
            CheckKind::Between => "between",
            CheckKind::In => "in",
            CheckKind::Matches => "matches",
            CheckKind::Unique => "unique",
            CheckKind::Sql => "sql",
        }
    }
}

/// What all checks of a rule share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Terms {
    /// Which rule it is, from 0.
    rule: usize,
    severity: Severity,
    tolerate: f64,
}

#[cfg(test)]
mod tests;
