//! What a model takes and gives, and how columns that came with a request become its rows.

use std::borrow::Cow;
use std::sync::Arc;

use crate::rows::{Column, Kind, Rows};

/// Names listed in a message; more explain nothing.
const NAMES_SHOWN_MAX: usize = 12;

/// One column of a signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: Arc<str>,
    pub kind: Kind,
    /// Whether it may be null, or left out.
    pub nullable: bool,
    /// What people say of it, as in `pii`; capture drops or hashes columns by these.
    pub tags: Vec<String>,
}

impl Field {
    /// A field without nulls and tags.
    pub fn new(name: &str, kind: Kind) -> Field {
        Field { name: name.into(), kind, nullable: false, tags: Vec::new() }
    }

    /// The field, which may also be null.
    pub fn nullable(mut self) -> Field {
        self.nullable = true;
        self
    }

    pub fn tagged(mut self, tag: &str) -> Field {
        self.tags.push(tag.to_owned());
        self
    }
}

/// What a model takes, in order, and what it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    inputs: Vec<Field>,
    outputs: Vec<Field>,
    names: Arc<[Arc<str>]>,
}

/// Columns as a request has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    /// Columns by name, in any order; what the model doesn't know is left out.
    Named(Vec<(Cow<'a, str>, Column)>),
    /// Columns in the signature's order.
    Positional(Vec<Column>),
}

impl Input<'_> {
    /// The same columns, free of the request's bytes.
    pub fn into_owned(self) -> Input<'static> {
        match self {
            Input::Positional(columns) => Input::Positional(columns),
            Input::Named(columns) => {
                let own = |(name, column): (Cow<'_, str>, Column)| (Cow::Owned(name.into_owned()), column);
                Input::Named(columns.into_iter().map(own).collect())
            }
        }
    }
}

/// Why columns aren't rows of a signature. The text is for whoever wrote the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    #[error("the request has no column `{name}`; the model takes {expected}")]
    Missing { name: String, expected: String },
    #[error("the request has {found} columns, and the model takes {expected}")]
    Count { found: usize, expected: String },
    #[error("column `{name}` is {found} in row {row}, and the model takes {expected}")]
    Kind { name: String, row: usize, found: Kind, expected: Kind },
    #[error("column `{name}` is null in row {row}, and the model takes no nulls there")]
    Null { name: String, row: usize },
    #[error("column `{name}` has {found} rows and others have {expected}")]
    Length { name: String, found: usize, expected: usize },
    #[error("column `{name}` comes twice")]
    Twice { name: String },
}

impl Signature {
    pub fn new(inputs: Vec<Field>, outputs: Vec<Field>) -> Signature {
        let names = inputs.iter().map(|field| Arc::clone(&field.name)).collect();
        Signature { inputs, outputs, names }
    }

    pub fn inputs(&self) -> &[Field] {
        &self.inputs
    }

    /// Whether rows for another signature fit this one too, by name and by place.
    pub fn takes_what_is_for(&self, other: &Signature) -> bool {
        let fits = |(ours, theirs): (&Field, &Field)| {
            ours.name == theirs.name && ours.kind == theirs.kind && (ours.nullable || !theirs.nullable)
        };
        self.inputs.len() == other.inputs.len() && self.inputs.iter().zip(&other.inputs).all(fits)
    }

    pub fn outputs(&self) -> &[Field] {
        &self.outputs
    }

    /// Whether it takes a column of this name.
    pub fn takes(&self, name: &str) -> bool {
        self.names.iter().any(|known| &**known == name)
    }

    /// The rows that these columns are for this model.
    pub fn bind(&self, input: Input<'_>) -> Result<Rows, BindError> {
        let columns = match input {
            Input::Positional(columns) if columns.len() == self.inputs.len() => columns,
            Input::Positional(columns) => {
                return Err(BindError::Count { found: columns.len(), expected: self.expected() });
            }
            Input::Named(columns) => self.in_order(columns)?,
        };
        let len = columns.first().map_or(0, Column::len);
        let bound = self.inputs.iter().zip(columns).map(|(field, column)| bind_column(field, column, len));
        Ok(Rows::new(Arc::clone(&self.names), bound.collect::<Result<_, _>>()?, len))
    }

    fn in_order(&self, columns: Vec<(Cow<'_, str>, Column)>) -> Result<Vec<Column>, BindError> {
        let same_order = columns.len() == self.names.len()
            && columns.iter().zip(&*self.names).all(|((name, _), known)| **name == **known);
        if same_order {
            return Ok(columns.into_iter().map(|(_, column)| column).collect());
        }
        let len = columns.first().map_or(0, |(_, column)| column.len());
        let mut slots: Vec<Option<Column>> = vec![None; self.inputs.len()];
        for (name, column) in columns {
            let Some(at) = self.names.iter().position(|known| **known == *name) else { continue };
            if slots[at].replace(column).is_some() {
                return Err(BindError::Twice { name: name.into_owned() });
            }
        }
        let fill = |(field, column): (&Field, Option<Column>)| match column {
            Some(column) => Ok(column),
            None if field.nullable => Ok(Column::all_null(field.kind, len)),
            None => Err(BindError::Missing { name: field.name.to_string(), expected: self.expected() }),
        };
        self.inputs.iter().zip(slots).map(fill).collect()
    }

    /// The names it takes, as people read them.
    fn expected(&self) -> String {
        let names: Vec<String> =
            self.inputs.iter().take(NAMES_SHOWN_MAX).map(|field| format!("`{}`", field.name)).collect();
        let more = self.inputs.len().saturating_sub(NAMES_SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    }
}

fn bind_column(field: &Field, column: Column, len: usize) -> Result<Column, BindError> {
    let name = || field.name.to_string();
    if column.len() != len {
        return Err(BindError::Length { name: name(), found: column.len(), expected: len });
    }
    let found = column.kind();
    let wrong = |row| BindError::Kind { name: name(), row, found, expected: field.kind };
    let column = column.cast(field.kind).map_err(wrong)?;
    let null = if field.nullable { None } else { (0..len).find(|row| column.is_null(*row)) };
    null.map_or(Ok(column), |row| Err(BindError::Null { name: name(), row }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let inputs = vec![Field::new("a", Kind::Number), Field::new("b", Kind::Text).nullable()];
        Signature::new(inputs, vec![Field::new("prediction", Kind::Number)])
    }

    #[test]
    fn columns_come_in_any_order_and_with_others() {
        let named = vec![
            ("id".into(), Column::from(vec![7])),
            ("b".into(), Column::from(vec![12])),
            ("a".into(), Column::from(vec![3])),
        ];
        let rows = signature().bind(Input::Named(named)).unwrap();
        assert_eq!(rows.column("a"), Some(&Column::from(vec![3.0])));
        assert_eq!(rows.column("b").map(|column| column.cell(0)), Some(crate::rows::Cell::Text("12".into())));
    }

    #[test]
    fn a_canary_takes_what_its_champion_takes() {
        let with = |fields: Vec<Field>| Signature::new(fields, Vec::new());
        let (a, b) = (Field::new("a", Kind::Number), Field::new("b", Kind::Text));
        let champion = with(vec![a.clone(), b.clone()]);
        assert!(with(vec![a.clone().nullable(), b.clone()]).takes_what_is_for(&champion));
        assert!(!champion.takes_what_is_for(&with(vec![a.clone().nullable(), b.clone()])));
        assert!(!with(vec![b.clone(), a.clone()]).takes_what_is_for(&champion));
        assert!(!with(vec![a.clone()]).takes_what_is_for(&champion));
        assert!(!with(vec![a, Field::new("b", Kind::Number)]).takes_what_is_for(&champion));
    }

    #[test]
    fn what_is_missing_is_null_where_that_is_allowed() {
        let rows = signature().bind(Input::Named(vec![("a".into(), Column::from(vec![3.0]))])).unwrap();
        assert!(rows.column("b").unwrap().is_null(0));
        let error = signature().bind(Input::Named(vec![])).unwrap_err();
        assert_eq!(error.to_string(), "the request has no column `a`; the model takes `a`, `b`");
    }

    #[test]
    fn a_wrong_kind_names_column_and_row() {
        let text: crate::rows::Texts = ["x"].into_iter().collect();
        let error = signature().bind(Input::Named(vec![("a".into(), text.into())])).unwrap_err();
        assert_eq!(error.to_string(), "column `a` is text in row 0, and the model takes number");
    }
}
