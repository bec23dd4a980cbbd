//! What a column is good for, by what is known of its values: for the first pipeline of a table, and for features that
//! a pipeline leaves to be found.
//!
//! It prefers to leave a column out and say so over guessing: a column that tells rows apart, and one that has a
//! single value, teach a model nothing.

use super::steps::ColumnType;

/// Levels up to which a text is taken as a category: the default of `levels_max`.
const LEVELS_MAX: u64 = 256;
/// Share of rows with a value of their own from which a text or a whole number is taken as an identifier.
const IDENTIFIER_SHARE: f64 = 0.95;
/// Rows under which a table is too small to tell an identifier from a quantity.
const IDENTIFIER_ROWS_MIN: u64 = 20;

/// What becomes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Numeric,
    Categorical,
    Dates,
    /// Left out, and why.
    Left(&'static str),
}

/// The role of a column of a table of so many rows. `distinct` counts its different values (an estimate will do),
/// `nulls` the rows without one.
pub fn role(kind: ColumnType, rows: u64, nulls: u64, distinct: u64) -> Role {
    let filled = rows.saturating_sub(nulls) as f64;
    let is_identifier = rows >= IDENTIFIER_ROWS_MIN && distinct as f64 >= IDENTIFIER_SHARE * filled && distinct > 2;
    match kind {
        _ if distinct <= 1 => Role::Left("it has one value"),
        ColumnType::String if is_identifier => Role::Left("nearly every row has its own value"),
        ColumnType::Integer if is_identifier => Role::Left("nearly every row has its own value, like an identifier"),
        ColumnType::String if distinct > LEVELS_MAX => Role::Left("it has too many different texts"),
        ColumnType::String | ColumnType::Boolean => Role::Categorical,
        ColumnType::Integer | ColumnType::Float => Role::Numeric,
        ColumnType::Date | ColumnType::Timestamp => Role::Dates,
    }
}
