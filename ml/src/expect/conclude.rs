//! Puts the results of all partitions together, and says in plain sentences what held.

use std::collections::HashSet;

use gristmill_protocol::pipeline::steps::{Bounds, Severity};
use serde::{Deserialize, Serialize};

use super::compile::{Check, Rules, What};
use super::evaluate::{PartialCheck, PartialReport};
use super::{CheckKind, ExpectError, FAILING_ROWS_MAX};
use crate::hash::StableState;

/// Rows whose values `unique` compares at the most: a set of so many keys takes some 4 GiB.
pub const UNIQUE_ROWS_MAX: usize = 100_000_000;

/// What the rules say of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectReport {
    pub rows: u64,
    /// Whether no check of severity `error` is broken.
    pub accepted: bool,
    pub outcomes: Vec<Outcome>,
}

/// What one check says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which rule it belongs to, from 0.
    pub rule: usize,
    pub check: CheckKind,
    pub column: Option<String>,
    pub severity: Severity,
    /// Rows it looked at: those with a value, for checks of values.
    pub checked: u64,
    pub failing: u64,
    /// Failing rows by rows looked at.
    pub share: f64,
    pub passed: bool,
    /// What was found and what was expected, in a sentence.
    pub message: String,
    /// The first failing rows, in their order; none when the check passed without failing rows.
    pub rows: Vec<RowAt>,
}

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowAt {
    /// Which partition, from 0.
    pub partition: u32,
    /// Which row of it, from 0.
    pub row: u64,
}

impl Rules {
    /// Concludes from the results of all partitions, given in the order of the partitions.
    pub fn conclude(&self, partials: &[PartialReport]) -> Result<ExpectReport, ExpectError> {
        if partials.iter().any(|partial| partial.checks.len() != self.checks.len()) {
            return Err(ExpectError::OtherRules);
        }
        let rows = partials.iter().map(|partial| partial.rows).sum();
        let mut outcomes = Vec::with_capacity(self.checks.len());
        for (index, check) in self.checks.iter().enumerate() {
            let parts: Vec<&PartialCheck> = partials.iter().map(|partial| &partial.checks[index]).collect();
            outcomes.push(outcome(check, rows, &parts)?);
        }
        let accepted = outcomes.iter().all(|outcome| outcome.passed || outcome.severity != Severity::Error);
        Ok(ExpectReport { rows, accepted, outcomes })
    }
}

fn outcome(check: &Check, rows: u64, parts: &[&PartialCheck]) -> Result<Outcome, ExpectError> {
    let checked: u64 = parts.iter().map(|part| part.checked).sum();
    let (mut failing, failing_rows) = match check.what {
        What::Unique { .. } => repeated(parts)?,
        _ => {
            let at = |(partition, part): (usize, &&PartialCheck)| {
                let partition = partition as u32;
                part.rows.iter().map(move |row| RowAt { partition, row: *row }).collect::<Vec<_>>()
            };
            let rows = parts.iter().enumerate().flat_map(at).take(FAILING_ROWS_MAX).collect();
            (parts.iter().map(|part| part.failing).sum(), rows)
        }
    };
    let mut share = if checked == 0 { 0.0 } else { failing as f64 / checked as f64 };
    let passed = match &check.what {
        What::Rows(bounds) => inside(*bounds, rows as f64),
        What::Nulls { bounds, .. } => inside(*bounds, share),
        _ => failing as f64 <= check.terms.tolerate * checked as f64,
    };
    let message = message(check, rows, checked, failing, share, parts);
    if let What::Rows(_) = check.what {
        (failing, share) = (0, 0.0);
    }
    // Rows without a value within the bounds aren't failing rows.
    let kept = if passed && matches!(check.what, What::Nulls { .. }) { Vec::new() } else { failing_rows };
    Ok(Outcome {
        rule: check.terms.rule,
        check: check.kind(),
        column: check.column().map(str::to_owned),
        severity: check.terms.severity,
        checked,
        failing,
        share,
        passed,
        message,
        rows: kept,
    })
}

/// Rows whose value came in an earlier row.
fn repeated(parts: &[&PartialCheck]) -> Result<(u64, Vec<RowAt>), ExpectError> {
    let count: usize = parts.iter().map(|part| part.keys.len()).sum();
    if count > UNIQUE_ROWS_MAX {
        return Err(ExpectError::TooManyKeys { max: UNIQUE_ROWS_MAX });
    }
    let mut seen = HashSet::with_capacity_and_hasher(count, StableState);
    let (mut failing, mut rows) = (0, Vec::new());
    for (partition, part) in parts.iter().enumerate() {
        for (key, row) in &part.keys {
            if !seen.insert(*key) {
                failing += 1;
                if rows.len() < FAILING_ROWS_MAX {
                    rows.push(RowAt { partition: partition as u32, row: *row });
                }
            }
        }
    }
    Ok((failing, rows))
}

fn inside(bounds: Bounds, value: f64) -> bool {
    bounds.min.is_none_or(|min| value >= min) && bounds.max.is_none_or(|max| value <= max)
}

fn message(check: &Check, rows: u64, checked: u64, failing: u64, share: f64, parts: &[&PartialCheck]) -> String {
    let counted = format!("{} of {} rows ({})", grouped(failing), grouped(checked), percent(share));
    let tolerated = format!("{} tolerated", percent(check.terms.tolerate));
    let values = |what: &str, column: &str| {
        let mut examples: Vec<&str> = Vec::new();
        for example in parts.iter().flat_map(|part| &part.examples) {
            if examples.len() < 3 && !examples.contains(&example.as_str()) {
                examples.push(example);
            }
        }
        let found = match examples.len() {
            0 => String::new(),
            _ => {
                format!(" (such as {})", examples.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", "))
            }
        };
        format!("`{column}`: {counted} {what}{found}; {tolerated}")
    };
    match &check.what {
        What::Rows(bounds) => {
            let number = |number: f64| grouped(number as u64);
            format!("{} rows; {} expected", grouped(rows), expected(*bounds, number))
        }
        What::Nulls { column, bounds } => {
            format!("`{column}`: {counted} without a value; {} expected", expected(*bounds, percent))
        }
        What::Between { column, shown, .. } => values(&format!("outside {shown}"), column),
        What::In { column, count, .. } => {
            let allowed = if *count == 1 { "the one value".to_owned() } else { format!("the {count} values") };
            values(&format!("not among {allowed} allowed"), column)
        }
        What::Matches { column, shown, .. } => values(&format!("not matching `{shown}`"), column),
        What::Unique { column } => format!("`{column}`: {counted} repeat the value of an earlier row; {tolerated}"),
        What::Sql { text, .. } => format!("`{text}` doesn't hold for {counted}; {tolerated}"),
    }
}

fn expected(bounds: Bounds, show: impl Fn(f64) -> String) -> String {
    match (bounds.min, bounds.max) {
        (Some(min), Some(max)) => format!("{} to {}", show(min), show(max)),
        (Some(min), None) => format!("at least {}", show(min)),
        (None, Some(max)) => format!("at most {}", show(max)),
        (None, None) => "anything".to_owned(),
    }
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent, to two digits after the point, or to the first digit that isn't zero.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent > 0.0 && percent < 0.01 { (-percent.log10()).ceil().min(12.0) as usize } else { 2 };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}
