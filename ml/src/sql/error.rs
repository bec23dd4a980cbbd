//! What can be wrong with a query, in words that a person can act on.

use std::io;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use crate::names;
use crate::partition::PartitionError;
use crate::table::TableError;

/// Why a query can't be planned or run.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("the SQL can't be parsed{at}: {message}")]
    Syntax { message: String, at: Place },
    #[error("only a `select` makes a dataset, and this is {found}")]
    NotASelect { found: String },
    #[error("the SQL names table `{table}`, which there isn't")]
    UnknownTable { table: String, hint: Option<String> },
    #[error("there is no column `{column}`")]
    UnknownColumn { column: String, hint: Option<String> },
    #[error("the SQL can't be planned: {message}")]
    Plan { message: String, hint: Option<String> },
    #[error("`{function}()` gives another result each time it runs")]
    Changing { function: String },
    #[error("the query makes two columns called `{column}`")]
    DuplicateColumn { column: String },
    #[error("the query makes column `{column}` of type {found}, which tables can't hold")]
    OutputType { column: String, found: String },
    #[error("the condition is of type {found}, not true or false")]
    NotACondition { found: String },
    #[error("{what} about each row can't hold {found}")]
    NotAboutRows { what: &'static str, found: &'static str },
    #[error("it looks at no column, so it is the same for all rows")]
    NoColumn,
    #[error("it makes values of type {found}, which are neither numbers, text nor days")]
    NotAValue { found: String },
    #[error("the query needs more memory than its limit: {message}")]
    Memory { message: String },
    #[error("the query failed: {message}")]
    Run { message: String },
    #[error("the query can't read a table")]
    Read(#[source] PartitionError),
    #[error("the query can't spill to disk")]
    Spill(#[source] io::Error),
    #[error("a row that the query made doesn't fit its schema")]
    Output(#[source] TableError),
    #[error("the rows that the query made can't be written")]
    Write(#[source] PartitionError),
    #[error("failed to start a thread for a query")]
    Thread(#[source] io::Error),
}

/// Where in a query, when that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Option<(u64, u64)>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, " at line {line}, column {column}"),
            None => Ok(()),
        }
    }
}

impl SqlError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            SqlError::UnknownTable { hint, .. }
            | SqlError::UnknownColumn { hint, .. }
            | SqlError::Plan { hint, .. } => hint.clone(),
            SqlError::Changing { .. } => Some(
                "results are kept and used again by what they were made from; pass what changes as a parameter \
                 (`'${day}'`)"
                    .to_owned(),
            ),
            SqlError::DuplicateColumn { column } => {
                Some(format!("name one of them otherwise with `as`, or take `{column}` once"))
            }
            SqlError::OutputType { column, .. } => Some(format!("cast `{column}` to text or a number")),
            SqlError::Memory { .. } => {
                Some("give the worker more memory, or take fewer columns into the join or sort".to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn from_datafusion(error: DataFusionError) -> SqlError {
        match error {
            DataFusionError::SQL(error, _) => syntax(*error),
            DataFusionError::SchemaError(error, _) => schema(*error),
            DataFusionError::Plan(message) if message.starts_with("No SQL statements were provided") => {
                SqlError::Plan { message: "it is empty".to_owned(), hint: None }
            }
            DataFusionError::Plan(message) => plan(&message),
            DataFusionError::NotImplemented(message) if message.contains("a single SQL statement") => {
                SqlError::Plan { message: "it is more than one statement".to_owned(), hint: None }
            }
            DataFusionError::NotImplemented(message) => {
                SqlError::Plan { message: format!("not supported: {}", tidy(&message)), hint: None }
            }
            DataFusionError::ResourcesExhausted(message) => SqlError::Memory { message: tidy(&message) },
            DataFusionError::IoError(error) => SqlError::Spill(error),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                SqlError::from_datafusion(*inner)
            }
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => SqlError::from_datafusion(first),
                None => SqlError::Run { message: "no reason given".to_owned() },
            },
            DataFusionError::Shared(error) => SqlError::from_shared(&error),
            DataFusionError::External(error) => match error.downcast::<PartitionError>() {
                Ok(error) => SqlError::Read(*error),
                Err(error) => SqlError::Run { message: tidy(&error.to_string()) },
            },
            DataFusionError::ArrowError(error, _) => match *error {
                arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
                    Ok(inner) => SqlError::from_datafusion(*inner),
                    Err(inner) => SqlError::Run { message: tidy(&inner.to_string()) },
                },
                error => SqlError::Run { message: tidy(&error.to_string()) },
            },
            other => SqlError::Run { message: tidy(&other.strip_backtrace()) },
        }
    }

    /// The same of an error that others hold too; what it wraps can't be taken out.
    fn from_shared(error: &DataFusionError) -> SqlError {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(message) => SqlError::Memory { message: tidy(message) },
            root => SqlError::Run { message: tidy(&root.strip_backtrace()) },
        }
    }
}

fn syntax(error: ParserError) -> SqlError {
    let (ParserError::ParserError(message) | ParserError::TokenizerError(message)) = &error else {
        return SqlError::Syntax { message: "it is nested too deep".to_owned(), at: Place(None) };
    };
    let parts = message.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, (line.parse().ok()?, column.parse().ok()?)))
    });
    match parts {
        Some((message, place)) => SqlError::Syntax { message: tidy(message), at: Place(Some(place)) },
        None => SqlError::Syntax { message: tidy(message), at: Place(None) },
    }
}

fn schema(error: SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            known.dedup();
            SqlError::UnknownColumn { hint: names::hint(&field.name, known), column: field.name.clone() }
        }
        SchemaError::AmbiguousReference { field } => SqlError::Plan {
            message: format!("column `{}` is in more than one of the tables", field.name),
            hint: Some(format!("say which one is meant: `table.{}`", field.name)),
        },
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::DuplicateColumn { column: name }
        }
    }
}

fn plan(message: &str) -> SqlError {
    // Two common slips whose messages speak of the planner's insides.
    let quoted = || message.split('"').nth(1).unwrap_or_default();
    if message.starts_with("Projections require unique expression names") {
        let column = quoted().rsplit('.').next().unwrap_or_default().to_owned();
        return SqlError::DuplicateColumn { column };
    }
    if message.starts_with("Column in SELECT must be in GROUP BY") {
        return SqlError::Plan {
            message: format!("column `{}` is neither in `group by` nor inside an aggregate", quoted()),
            hint: Some("group by it too, or say which of its values is meant: `min(...)`, `max(...)`".to_owned()),
        };
    }
    match message.split_once("\nDid you mean ") {
        Some((message, near)) => {
            let near = near.trim().trim_end_matches('?').trim_matches('\'');
            SqlError::Plan { message: tidy(message), hint: Some(format!("did you mean `{near}`?")) }
        }
        None => SqlError::Plan { message: tidy(message), hint: None },
    }
}

/// A message of DataFusion's in our form: one line, lower case first, no full stop.
fn tidy(message: &str) -> String {
    let mut message = message.trim();
    for prefix in
        ["Error during planning: ", "Execution error: ", "Resources exhausted: ", "Arrow error: ", "External error: "]
    {
        message = message.strip_prefix(prefix).unwrap_or(message);
    }
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    let mut letters = line.chars();
    match letters.next() {
        // A word in capitals is a name.
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => line.to_owned(),
    }
}
