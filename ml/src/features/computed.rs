//! Features computed from other columns of the same row by SQL expressions.
//!
//! A model keeps the texts and the columns that they look at with their types; they are compiled once when
//! the features are fitted and once when the model is read. Whether one row comes or a partition, the same
//! compiled expressions are evaluated on columns of the same types.

use arrow::array::{ArrayRef, RecordBatch};
use gristmill_protocol::limits::{EXPRESSION_CHARS_MAX, EXPRESSIONS_MAX};
use gristmill_protocol::pipeline::ColumnType;
use serde::{Deserialize, Serialize};

use super::signature::coerce;
use super::{FeatureError, Input};
use crate::columns;
use crate::sql::RowExpressions;
use crate::table::{Column, TableSchema};

/// An expression, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredExpression {
    pub name: String,
    pub sql: String,
    /// The type of its result.
    pub kind: ColumnType,
}

/// The part of [`Expressions`] that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredExpressions {
    /// The columns that they look at.
    pub inputs: Vec<Input>,
    pub list: Vec<StoredExpression>,
}

impl StoredExpressions {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Expressions, ready to be evaluated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expressions {
    pub stored: StoredExpressions,
    /// None when there are no expressions.
    compiled: Option<RowExpressions>,
}

impl Expressions {
    /// Compiles named texts about rows of this schema.
    pub fn compile(expressions: &[(String, String)], schema: &TableSchema) -> Result<Expressions, FeatureError> {
        if expressions.is_empty() {
            return Ok(Expressions::default());
        }
        if let Some((name, _)) = expressions.iter().find(|(name, _)| schema.names().any(|column| column == name)) {
            return Err(FeatureError::Taken { name: name.clone() });
        }
        let compiled = RowExpressions::compile(expressions, schema).map_err(Box::new)?;
        let input = |column: &Column| Input { name: column.name.clone(), kind: column.kind, nullable: false };
        let inputs = compiled.schema().columns.iter().map(input).collect();
        let stored = |((name, sql), kind): (&(String, String), ColumnType)| StoredExpression {
            name: name.clone(),
            sql: sql.clone(),
            kind,
        };
        let list = expressions.iter().zip(compiled.kinds()).map(stored).collect();
        Ok(Expressions { stored: StoredExpressions { inputs, list }, compiled: Some(compiled) })
    }

    /// Compiles what was stored, and refuses what doesn't compile to what it was.
    pub fn from_stored(stored: StoredExpressions) -> Result<Expressions, String> {
        let too_long = |stored: &StoredExpression| stored.sql.chars().count() > EXPRESSION_CHARS_MAX;
        if stored.list.len() > EXPRESSIONS_MAX || stored.list.iter().any(too_long) {
            return Err("it has more or longer expressions than there may be".to_owned());
        }
        let texts: Vec<(String, String)> =
            stored.list.iter().map(|stored| (stored.name.clone(), stored.sql.clone())).collect();
        let column = |input: &Input| Column { name: input.name.clone(), kind: input.kind, nullable: true };
        let schema = TableSchema { columns: stored.inputs.iter().map(column).collect() };
        let compiled = Expressions::compile(&texts, &schema).map_err(|error| error.to_string())?;
        let same_inputs =
            compiled.stored.inputs.iter().map(|input| &input.name).eq(stored.inputs.iter().map(|input| &input.name));
        if !same_inputs || compiled.stored.list != stored.list {
            return Err("its expressions don't look at the columns that it names for them".to_owned());
        }
        Ok(Expressions { stored, compiled: compiled.compiled })
    }

    /// Where the expression of this name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.stored.list.iter().position(|stored| stored.name == name)
    }

    /// The columns they look at, as they were in training.
    pub fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, FeatureError> {
        let column = |input: &Input| {
            let column = columns::column(batch, &input.name)
                .map_err(|nearest| FeatureError::Missing { column: input.name.clone(), nearest })?;
            coerce(input, column)
        };
        self.stored.inputs.iter().map(column).collect()
    }

    /// Their values for the rows of a batch.
    pub fn evaluate(&self, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, FeatureError> {
        let Some(compiled) = &self.compiled else { return Ok(Vec::new()) };
        compiled.evaluate(columns).map_err(|(at, source)| FeatureError::Compute {
            name: self.stored.list[at].name.clone(),
            source: Box::new(source),
        })
    }
}
