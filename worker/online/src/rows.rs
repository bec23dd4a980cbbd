//! Rows as columns by name: what faces parse requests into, and what models take and give.
//!
//! A column is one vector of one kind, with a mask where it has nulls; a cell has no allocation of its own.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Integer,
    Bool,
    Text,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Number => "number",
            Kind::Integer => "integer",
            Kind::Bool => "bool",
            Kind::Text => "text",
        })
    }
}

/// Texts one after the other in one string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    all: String,
    /// Where each ends, in bytes.
    ends: Vec<usize>,
}

impl Texts {
    pub fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.ends.push(self.all.len());
    }

    pub fn get(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.all[start..self.ends[at]]
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at))
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Texts {
        let mut texts = Texts::default();
        all.into_iter().for_each(|text| texts.push(text.as_ref()));
        texts
    }
}

/// The values of a column, nulls included: a null number is NaN, any other null is the kind's zero.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Number(Vec<f64>),
    Integer(Vec<i64>),
    Bool(Vec<bool>),
    Text(Texts),
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    values: Values,
    /// Which values are null; empty when none is.
    nulls: Vec<bool>,
}

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    Number(f64),
    Integer(i64),
    Bool(bool),
    Text(Cow<'a, str>),
}

impl From<Values> for Column {
    fn from(values: Values) -> Column {
        Column { values, nulls: Vec::new() }
    }
}

impl From<Vec<f64>> for Column {
    fn from(values: Vec<f64>) -> Column {
        Values::Number(values).into()
    }
}

impl From<Vec<i64>> for Column {
    fn from(values: Vec<i64>) -> Column {
        Values::Integer(values).into()
    }
}

impl From<Vec<bool>> for Column {
    fn from(values: Vec<bool>) -> Column {
        Values::Bool(values).into()
    }
}

impl From<Texts> for Column {
    fn from(values: Texts) -> Column {
        Values::Text(values).into()
    }
}

impl Column {
    /// A column with nothing in it.
    pub fn empty(kind: Kind) -> Column {
        Column::from(match kind {
            Kind::Number => Values::Number(Vec::new()),
            Kind::Integer => Values::Integer(Vec::new()),
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Text => Values::Text(Texts::default()),
        })
    }

    /// A column that is null throughout.
    pub fn all_null(kind: Kind, len: usize) -> Column {
        let mut column = Column::empty(kind);
        (0..len).for_each(|_| column.push_null());
        column
    }

    /// The column with nulls where the mask says so; the mask is as long as the column.
    pub fn with_nulls(mut self, nulls: Vec<bool>) -> Column {
        debug_assert_eq!(nulls.len(), self.len(), "a mask has one entry a value");
        self.nulls = if nulls.contains(&true) { nulls } else { Vec::new() };
        self
    }

    pub fn kind(&self) -> Kind {
        match &self.values {
            Values::Number(_) => Kind::Number,
            Values::Integer(_) => Kind::Integer,
            Values::Bool(_) => Kind::Bool,
            Values::Text(_) => Kind::Text,
        }
    }

    pub fn len(&self) -> usize {
        match &self.values {
            Values::Number(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn values(&self) -> &Values {
        &self.values
    }

    pub fn has_nulls(&self) -> bool {
        !self.nulls.is_empty()
    }

    pub fn is_null(&self, at: usize) -> bool {
        self.nulls.get(at).copied().unwrap_or(false)
    }

    /// The value in row `at`, which must be there.
    pub fn cell(&self, at: usize) -> Cell<'_> {
        if self.is_null(at) {
            return Cell::Null;
        }
        match &self.values {
            Values::Number(values) => Cell::Number(values[at]),
            Values::Integer(values) => Cell::Integer(values[at]),
            Values::Bool(values) => Cell::Bool(values[at]),
            Values::Text(values) => Cell::Text(Cow::Borrowed(values.get(at))),
        }
    }

    pub fn push_null(&mut self) {
        self.nulls.resize(self.len(), false);
        self.nulls.push(true);
        match &mut self.values {
            Values::Number(values) => values.push(f64::NAN),
            Values::Integer(values) => values.push(0),
            Values::Bool(values) => values.push(false),
            Values::Text(values) => values.push(""),
        }
    }

    /// Adds a cell, if it is null or of the column's kind; a column of integers becomes one of numbers with its
    /// first number. Returns whether it could.
    #[must_use]
    pub fn push(&mut self, cell: &Cell<'_>) -> bool {
        match (&mut self.values, cell) {
            (_, Cell::Null) => {
                self.push_null();
                return true;
            }
            (Values::Number(values), Cell::Number(value)) => values.push(*value),
            (Values::Number(values), Cell::Integer(value)) => values.push(*value as f64),
            (Values::Integer(values), Cell::Integer(value)) => values.push(*value),
            (Values::Bool(values), Cell::Bool(value)) => values.push(*value),
            (Values::Text(values), Cell::Text(value)) => values.push(value),
            (Values::Integer(values), Cell::Number(value)) => {
                let mut numbers: Vec<f64> = values.iter().map(|value| *value as f64).collect();
                mark_nulls(&mut numbers, &self.nulls);
                numbers.push(*value);
                self.values = Values::Number(numbers);
            }
            _ => return false,
        }
        if !self.nulls.is_empty() {
            self.nulls.push(false);
        }
        true
    }

    /// Adds the rows of another column of the same kind. Returns whether it was of the same kind.
    #[must_use]
    pub fn append(&mut self, other: &Column) -> bool {
        if self.kind() != other.kind() {
            return false;
        }
        if self.has_nulls() || other.has_nulls() {
            self.nulls.resize(self.len(), false);
            self.nulls.extend((0..other.len()).map(|at| other.is_null(at)));
        }
        match (&mut self.values, &other.values) {
            (Values::Number(to), Values::Number(from)) => to.extend_from_slice(from),
            (Values::Integer(to), Values::Integer(from)) => to.extend_from_slice(from),
            (Values::Bool(to), Values::Bool(from)) => to.extend_from_slice(from),
            (Values::Text(to), Values::Text(from)) => from.iter().for_each(|text| to.push(text)),
            _ => return false,
        }
        true
    }

    /// Some of its rows, which must be there.
    pub fn slice(&self, rows: Range<usize>) -> Column {
        self.strided(rows.start, 1, rows.len())
    }

    /// `len` rows from `start`, every `step`th: a column of a matrix whose rows stand one after the other.
    pub fn strided(&self, start: usize, step: usize, len: usize) -> Column {
        let picks = || (0..len).map(|at| start + at * step);
        let values = match &self.values {
            Values::Number(values) => Values::Number(picks().map(|at| values[at]).collect()),
            Values::Integer(values) => Values::Integer(picks().map(|at| values[at]).collect()),
            Values::Bool(values) => Values::Bool(picks().map(|at| values[at]).collect()),
            Values::Text(values) => Values::Text(picks().map(|at| values.get(at)).collect()),
        };
        let column = Column::from(values);
        if self.has_nulls() { column.with_nulls(picks().map(|at| self.is_null(at)).collect()) } else { column }
    }

    /// The same values as another kind, where that loses nothing: integers and bools as numbers, numbers without a
    /// fraction as integers, 0 and 1 as bools, integers and bools as text. The error is the first row that has none.
    pub fn cast(self, kind: Kind) -> Result<Column, usize> {
        if self.kind() == kind {
            return Ok(self);
        }
        let Column { values, nulls } = self;
        let null = |at: usize| nulls.get(at).copied().unwrap_or(false);
        let values = match (values, kind) {
            (Values::Integer(values), Kind::Number) => {
                let mut numbers: Vec<f64> = values.iter().map(|value| *value as f64).collect();
                mark_nulls(&mut numbers, &nulls);
                Values::Number(numbers)
            }
            (Values::Bool(values), Kind::Number) => {
                let mut numbers: Vec<f64> = values.iter().map(|value| f64::from(u8::from(*value))).collect();
                mark_nulls(&mut numbers, &nulls);
                Values::Number(numbers)
            }
            (Values::Bool(values), Kind::Integer) => {
                Values::Integer(values.iter().map(|value| i64::from(*value)).collect())
            }
            (Values::Number(values), Kind::Integer) => {
                let cast = |(at, value): (usize, &f64)| if null(at) { Ok(0) } else { whole(*value).ok_or(at) };
                Values::Integer(values.iter().enumerate().map(cast).collect::<Result<_, _>>()?)
            }
            (Values::Integer(values), Kind::Bool) => {
                let cast = |(at, value): (usize, &i64)| match value {
                    0 => Ok(false),
                    1 => Ok(true),
                    _ => Err(at),
                };
                Values::Bool(values.iter().enumerate().map(cast).collect::<Result<_, _>>()?)
            }
            (Values::Integer(values), Kind::Text) => Values::Text(values.iter().map(ToString::to_string).collect()),
            (Values::Bool(values), Kind::Text) => Values::Text(values.iter().map(ToString::to_string).collect()),
            // A column of nulls has no kind of its own.
            (values, kind) => {
                let column = Column { values, nulls };
                let first = (0..column.len()).find(|at| !column.is_null(*at));
                return first.map_or_else(|| Ok(Column::all_null(kind, column.len())), Err);
            }
        };
        Ok(Column { values, nulls })
    }

    /// Bytes that its values take.
    pub fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Number(values) => values.len() * 8,
            Values::Integer(values) => values.len() * 8,
            Values::Bool(values) => values.len(),
            Values::Text(values) => values.all.len() + values.ends.len() * 8,
        };
        values + self.nulls.len()
    }
}

/// The integer that a number is, if it is one.
fn whole(value: f64) -> Option<i64> {
    // Up to 2^63, which is the first that doesn't fit.
    let fits = value.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    fits.then_some(value as i64)
}

fn mark_nulls(numbers: &mut [f64], nulls: &[bool]) {
    for (number, null) in numbers.iter_mut().zip(nulls) {
        if *null {
            *number = f64::NAN;
        }
    }
}

/// The rows of a request or a batch: the columns of a signature, in its order and of its kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    names: Arc<[Arc<str>]>,
    columns: Vec<Column>,
    len: usize,
}

impl Rows {
    /// `columns` has one for each name, all of `len` rows.
    pub fn new(names: Arc<[Arc<str>]>, columns: Vec<Column>, len: usize) -> Rows {
        debug_assert_eq!(names.len(), columns.len(), "one column a name");
        debug_assert!(columns.iter().all(|column| column.len() == len), "columns of {len} rows");
        Rows { names, columns, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.names.iter().position(|known| &**known == name).map(|at| &self.columns[at])
    }

    /// Adds rows of the same signature. Returns whether they were.
    #[must_use]
    pub fn append(&mut self, other: &Rows) -> bool {
        if self.columns.len() != other.columns.len() {
            return false;
        }
        let kinds = self.columns.iter().zip(&other.columns);
        if kinds.into_iter().any(|(to, from)| to.kind() != from.kind()) {
            return false;
        }
        self.len += other.len;
        self.columns.iter_mut().zip(&other.columns).all(|(to, from)| to.append(from))
    }

    pub fn slice(&self, rows: Range<usize>) -> Rows {
        let columns = self.columns.iter().map(|column| column.slice(rows.clone())).collect();
        Rows { names: Arc::clone(&self.names), columns, len: rows.len() }
    }

    /// Bytes that its values take.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }
}

/// What a model says of rows: named columns, one value a row. `prediction` comes first; a classifier adds
/// `probability` or one `probability_<class>` a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    columns: Vec<(Arc<str>, Column)>,
    len: usize,
}

impl Predictions {
    /// All columns are of `len` rows.
    pub fn new(columns: Vec<(Arc<str>, Column)>, len: usize) -> Predictions {
        Predictions { columns, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn columns(&self) -> &[(Arc<str>, Column)] {
        &self.columns
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(known, _)| &**known == name).map(|(_, column)| column)
    }

    /// Whether every column has as many values as there were rows; a model that says otherwise is wrong.
    pub fn is_of(&self, rows: usize) -> bool {
        self.len == rows && self.columns.iter().all(|(_, column)| column.len() == rows)
    }

    pub fn slice(&self, rows: Range<usize>) -> Predictions {
        let slice = |(name, column): &(Arc<str>, Column)| (Arc::clone(name), column.slice(rows.clone()));
        Predictions { columns: self.columns.iter().map(slice).collect(), len: rows.len() }
    }

    /// Adds what the same model said of further rows. Returns whether the columns were the same.
    #[must_use]
    pub fn append(&mut self, other: &Predictions) -> bool {
        let same = self.columns.len() == other.columns.len();
        let names = self.columns.iter().zip(&other.columns).all(|((a, _), (b, _))| a == b);
        self.len += other.len;
        same && names && self.columns.iter_mut().zip(&other.columns).all(|((_, to), (_, from))| to.append(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_become_numbers_with_the_first_number_and_keep_their_nulls() {
        let mut column = Column::empty(Kind::Integer);
        for cell in [Cell::Integer(1), Cell::Null, Cell::Number(0.5)] {
            assert!(column.push(&cell));
        }
        assert_eq!(column.cell(0), Cell::Number(1.0));
        assert_eq!(column.cell(1), Cell::Null);
        assert_eq!(column.cell(2), Cell::Number(0.5));
        assert!(!column.push(&Cell::Text("x".into())));
    }

    #[test]
    fn a_cast_that_would_lose_something_names_the_row() {
        let column = Column::from(vec![1.0, 2.5]);
        assert_eq!(column.cast(Kind::Integer), Err(1));
        assert_eq!(Column::from(vec![1.0, -2.0]).cast(Kind::Integer), Ok(Column::from(vec![1, -2])));
        assert_eq!(Column::from(vec![0, 2]).cast(Kind::Bool), Err(1));
        assert_eq!(Column::from(vec![9e18, 1e19]).cast(Kind::Integer), Err(1));
        assert_eq!(Column::all_null(Kind::Number, 2).cast(Kind::Text), Ok(Column::all_null(Kind::Text, 2)));
    }

    #[test]
    fn appending_and_slicing_keep_nulls_where_they_were() {
        let mut column = Column::from(["a", "bc"].into_iter().collect::<Texts>());
        let mut other = Column::empty(Kind::Text);
        assert!(other.push(&Cell::Null));
        assert!(other.push(&Cell::Text("d".into())));
        assert!(column.append(&other));
        let middle = column.slice(1..4);
        assert_eq!(
            (0..3).map(|at| middle.cell(at)).collect::<Vec<_>>(),
            [Cell::Text("bc".into()), Cell::Null, Cell::Text("d".into())]
        );
    }
}
