//! Rules as written become checks that are ready to run, or complaints.

use gristmill_protocol::pipeline::steps::{Bounds, ColumnType, Rule};
use regex::Regex;
use serde_json::Value;

use super::{CheckKind, Terms};
use crate::dates;
use crate::sql::Condition;
use crate::table::{Column, TableSchema, kind_name};

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {}: {message}", rule + 1)]
pub struct RuleError {
    /// Which rule, from 0.
    pub rule: usize,
    pub message: String,
    pub hint: Option<String>,
}

/// Rules about a table, ready to check it.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) schema: TableSchema,
    pub(super) checks: Vec<Check>,
    /// The columns that checks look at, in the order of the schema.
    pub(super) columns: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Check {
    pub terms: Terms,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Rows(Bounds),
    Nulls { column: String, bounds: Bounds },
    Between { column: String, range: Range, shown: String },
    In { column: String, set: Set, count: usize },
    Matches { column: String, pattern: Regex, shown: String },
    Unique { column: String },
    Sql { text: String, condition: Condition },
}

/// Bounds in the terms of a column's values.
#[derive(Clone, Debug)]
pub(super) enum Range {
    Integer(Option<f64>, Option<f64>),
    Float(Option<f64>, Option<f64>),
    /// Days or microseconds.
    Time(Option<i64>, Option<i64>),
    Text(Option<String>, Option<String>),
}

/// Allowed values in the terms of a column's values, sorted.
#[derive(Clone, Debug)]
pub(super) enum Set {
    Integer(Vec<i64>),
    /// By the order of their bits.
    Float(Vec<u64>),
    Text(Vec<String>),
    Boolean(Vec<bool>),
}

impl Check {
    pub fn kind(&self) -> CheckKind {
        match self.what {
            What::Rows(_) => CheckKind::Rows,
            What::Nulls { .. } => CheckKind::Nulls,
            What::Between { .. } => CheckKind::Between,
            What::In { .. } => CheckKind::In,
            What::Matches { .. } => CheckKind::Matches,
            What::Unique { .. } => CheckKind::Unique,
            What::Sql { .. } => CheckKind::Sql,
        }
    }

    /// The column it is about.
    pub fn column(&self) -> Option<&str> {
        match &self.what {
            What::Nulls { column, .. }
            | What::Between { column, .. }
            | What::In { column, .. }
            | What::Matches { column, .. }
            | What::Unique { column } => Some(column),
            What::Rows(_) | What::Sql { .. } => None,
        }
    }
}

impl Rules {
    /// Makes rules ready for a table of this schema; all complaints at once.
    pub fn compile(schema: &TableSchema, rules: &[Rule]) -> Result<Rules, Vec<RuleError>> {
        let mut checks = Vec::new();
        let mut errors = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let mut compiler = Compiler { schema, rule: index, checks: &mut checks, errors: &mut errors };
            compiler.rule(rule);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let uses = |column: &str| {
            checks.iter().any(|check: &Check| match &check.what {
                // A condition takes its columns from a batch of the whole table.
                What::Sql { .. } => true,
                _ => check.column() == Some(column),
            })
        };
        let columns = schema.names().filter(|name| uses(name)).map(str::to_owned).collect();
        let mut rules = Rules { schema: schema.clone(), checks, columns };
        rules.narrow_conditions();
        Ok(rules)
    }

    /// Compiles conditions again for the columns that are read, so that a rule about two columns doesn't
    /// cost the reading of all.
    fn narrow_conditions(&mut self) {
        let mut used: Vec<&str> = Vec::new();
        for check in &self.checks {
            match &check.what {
                What::Sql { condition, .. } => used.extend(condition.columns().iter().map(String::as_str)),
                _ => used.extend(check.column()),
            }
        }
        let columns: Vec<String> = self.schema.names().filter(|name| used.contains(name)).map(str::to_owned).collect();
        let Ok(read) = self.schema.project(&columns) else { return };
        let narrowed: Option<Vec<Check>> = self
            .checks
            .iter()
            .map(|check| {
                let mut check = check.clone();
                if let What::Sql { text, condition } = &mut check.what {
                    *condition = Condition::compile(text, &read).ok()?;
                }
                Some(check)
            })
            .collect();
        if let Some(checks) = narrowed {
            (self.checks, self.columns) = (checks, columns);
        }
    }
}

struct Compiler<'a> {
    schema: &'a TableSchema,
    rule: usize,
    checks: &'a mut Vec<Check>,
    errors: &'a mut Vec<RuleError>,
}

impl Compiler<'_> {
    fn complain(&mut self, message: String, hint: Option<String>) {
        self.errors.push(RuleError { rule: self.rule, message, hint });
    }

    fn rule(&mut self, rule: &Rule) {
        let terms = Terms { rule: self.rule, severity: rule.severity, tolerate: rule.tolerate };
        if !(0.0..=1.0).contains(&rule.tolerate) {
            self.complain(format!("`tolerate` is a share from 0 to 1, not {}", rule.tolerate), None);
        }
        let about_values = rule.between.is_some()
            || rule.is_in.is_some()
            || rule.matches.is_some()
            || rule.unique.is_some()
            || rule.sql.is_some();
        if rule.tolerate > 0.0 && !about_values {
            let hint = Some("widen its bounds instead".to_owned());
            self.complain("`tolerate` has no meaning for `rows` and `nulls`".to_owned(), hint);
        }
        let before = self.checks.len() + self.errors.len();
        if let Some(bounds) = rule.rows {
            self.bounds("rows", bounds);
            self.add(terms, What::Rows(bounds));
        }
        self.column_checks(rule, terms);
        if let Some(sql) = &rule.sql {
            match Condition::compile(sql, self.schema) {
                Ok(condition) => self.add(terms, What::Sql { text: sql.trim().to_owned(), condition }),
                Err(error) => self.complain(format!("`sql`: {error}"), error.hint()),
            }
        }
        if self.checks.len() + self.errors.len() == before {
            let hint = "give it `rows`, `sql`, or `column` with `nulls`, `between`, `in`, `matches` or `unique: true`";
            self.complain("it checks nothing".to_owned(), Some(hint.to_owned()));
        }
    }

    fn add(&mut self, terms: Terms, what: What) {
        self.checks.push(Check { terms, what });
    }

    fn column_checks(&mut self, rule: &Rule, terms: Terms) {
        let keys = [
            ("nulls", rule.nulls.is_some()),
            ("between", rule.between.is_some()),
            ("in", rule.is_in.is_some()),
            ("matches", rule.matches.is_some()),
            ("unique", rule.unique.is_some()),
        ];
        let Some(name) = &rule.column else {
            for (key, _) in keys.into_iter().filter(|(_, given)| *given) {
                self.complain(format!("`{key}` needs a `column`"), None);
            }
            return;
        };
        let column = match self.schema.column(name) {
            Ok(column) => column.clone(),
            Err(error) => return self.complain(error.to_string(), error.hint()),
        };
        let name = name.clone();
        if let Some(bounds) = rule.nulls {
            self.bounds("nulls", bounds);
            self.add(terms, What::Nulls { column: name.clone(), bounds });
        }
        if let Some(between) = &rule.between {
            match range(&column, between) {
                Ok((range, shown)) => self.add(terms, What::Between { column: name.clone(), range, shown }),
                Err(message) => self.complain(message, None),
            }
        }
        if let Some(values) = &rule.is_in {
            match set(&column, values) {
                Ok(set) => self.add(terms, What::In { column: name.clone(), set, count: values.len() }),
                Err(message) => self.complain(message, None),
            }
        }
        if let Some(pattern) = &rule.matches {
            match matcher(&column, pattern) {
                Ok(regex) => {
                    self.add(terms, What::Matches { column: name.clone(), pattern: regex, shown: pattern.clone() });
                }
                Err(message) => self.complain(message, None),
            }
        }
        match rule.unique {
            Some(true) => self.add(terms, What::Unique { column: name }),
            Some(false) => self.complain("`unique: false` checks nothing".to_owned(), Some("leave it out".to_owned())),
            None => {}
        }
    }

    fn bounds(&mut self, key: &str, bounds: Bounds) {
        match (bounds.min, bounds.max) {
            (None, None) => self.complain(format!("`{key}` has neither `min` nor `max`"), None),
            (Some(min), Some(max)) if min > max => {
                self.complain(format!("`{key}`: `min` {min} is over `max` {max}"), None);
            }
            _ => {}
        }
        if key == "nulls"
            && let Some(share) =
                [bounds.min, bounds.max].into_iter().flatten().find(|share| !(0.0..=1.0).contains(share))
        {
            self.complain(format!("`nulls` is a share from 0 to 1, not {share}"), None);
        }
    }
}

/// Why a value of a rule doesn't go with its column.
fn wrong(key: &str, column: &Column, value: &Value) -> String {
    format!("`{key}`: {value} is not a value of `{}`, which is of type {}", column.name, kind_name(column.kind))
}

fn range(column: &Column, between: &[Option<Value>; 2]) -> Result<(Range, String), String> {
    let [low, high] = between;
    if low.is_none() && high.is_none() {
        return Err("`between` has no bound".to_owned());
    }
    let number = |bound: &Option<Value>| match bound {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong("between", column, value)),
    };
    let time = |bound: &Option<Value>| match bound {
        None => Ok(None),
        Some(value) => time_of(column.kind, value).map(Some).ok_or_else(|| wrong("between", column, value)),
    };
    let text = |bound: &Option<Value>| match bound {
        None => Ok(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong("between", column, value)),
    };
    let range = match column.kind {
        ColumnType::Integer => Range::Integer(number(low)?, number(high)?),
        ColumnType::Float => Range::Float(number(low)?, number(high)?),
        ColumnType::Date | ColumnType::Timestamp => Range::Time(time(low)?, time(high)?),
        ColumnType::String => Range::Text(text(low)?, text(high)?),
        ColumnType::Boolean => return Err(format!("`between`: `{}` is true or false; use `in`", column.name)),
    };
    let crossed = match &range {
        Range::Integer(Some(low), Some(high)) | Range::Float(Some(low), Some(high)) => low > high,
        Range::Time(Some(low), Some(high)) => low > high,
        Range::Text(Some(low), Some(high)) => low > high,
        _ => false,
    };
    let show = |value: &Value| value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`"));
    let shown = match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", show(low), show(high)),
        (Some(low), None) => format!("{} and more", show(low)),
        (None, high) => format!("up to {}", high.as_ref().map(show).unwrap_or_default()),
    };
    if crossed {
        return Err(format!("`between`: {shown} is empty"));
    }
    Ok((range, shown))
}

/// The days or microseconds that a text in a rule stands for.
fn time_of(kind: ColumnType, value: &Value) -> Option<i64> {
    let text = value.as_str()?.as_bytes();
    match kind {
        ColumnType::Date => dates::parse_date(text).map(i64::from),
        _ => dates::parse_timestamp(text),
    }
}

fn set(column: &Column, values: &[Value]) -> Result<Set, String> {
    if values.is_empty() {
        return Err("`in` allows no value at all".to_owned());
    }
    fn all<T: Ord>(column: &Column, values: &[Value], read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
        let mut set = values
            .iter()
            .map(|value| read(value).ok_or_else(|| wrong("in", column, value)))
            .collect::<Result<Vec<T>, String>>()?;
        set.sort();
        Ok(set)
    }
    Ok(match column.kind {
        ColumnType::Integer => Set::Integer(all(column, values, Value::as_i64)?),
        ColumnType::Float => Set::Float(all(column, values, |value| value.as_f64().map(float_bits))?),
        ColumnType::String => Set::Text(all(column, values, |value| value.as_str().map(str::to_owned))?),
        ColumnType::Boolean => Set::Boolean(all(column, values, Value::as_bool)?),
        kind @ (ColumnType::Date | ColumnType::Timestamp) => {
            Set::Integer(all(column, values, |value| time_of(kind, value))?)
        }
    })
}

/// The bits of a number, the same for both zeros.
pub(super) fn float_bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

fn matcher(column: &Column, pattern: &str) -> Result<Regex, String> {
    if column.kind != ColumnType::String {
        return Err(format!("`matches`: `{}` is of type {}, not text", column.name, kind_name(column.kind)));
    }
    // The pattern alone first: an error is then about what was written.
    Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$"))).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        format!("`matches`: `{pattern}` is not a regular expression: {reason}")
    })
}
