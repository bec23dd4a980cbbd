//! A column that grows cell by cell and learns its kind from the first that isn't null.

use crate::rows::{Cell, Column, Kind};

/// The column so far.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// Nulls before the first value.
    nulls: usize,
    column: Option<Column>,
}

impl Cells {
    /// A column that begins with nulls.
    pub fn after_nulls(nulls: usize) -> Cells {
        Cells { nulls, column: None }
    }

    pub fn len(&self) -> usize {
        self.column.as_ref().map_or(self.nulls, Column::len)
    }

    /// Adds a cell. Returns whether it is of the kind of those before it.
    #[must_use]
    pub fn push(&mut self, cell: &Cell<'_>) -> bool {
        if let Some(column) = &mut self.column {
            return column.push(cell);
        }
        let kind = match cell {
            Cell::Null => {
                self.nulls += 1;
                return true;
            }
            Cell::Number(_) => Kind::Number,
            Cell::Integer(_) => Kind::Integer,
            Cell::Bool(_) => Kind::Bool,
            Cell::Text(_) => Kind::Text,
        };
        self.column.insert(Column::all_null(kind, self.nulls)).push(cell)
    }

    /// The column; one of nulls alone counts as numbers, which become any other kind.
    pub fn finish(self) -> Column {
        self.column.unwrap_or_else(|| Column::all_null(Kind::Number, self.nulls))
    }
}
