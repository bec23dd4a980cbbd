//! The schema of a table: named columns of six kinds, and the way from any Arrow type to them.
//!
//! Six kinds are what the learning side, the profile and the rules need to know; everything that comes in
//! (32-bit integers, decimals, dictionaries, other time units) is brought to them once, at the door. Nested
//! types are left out: an error names the column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use gristmill_protocol::pipeline::steps::ColumnType;
use serde::{Deserialize, Serialize};

use crate::names;

/// What a table's columns are called and hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableSchema {
    pub columns: Vec<Column>,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub kind: ColumnType,
    /// Whether rows may lack a value.
    pub nullable: bool,
}

/// Why a table can't be described or brought to its schema.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("column `{column}` is of type {found}, which tables can't hold")]
    UnsupportedType { column: String, found: String },
    #[error("there is no column `{column}`")]
    UnknownColumn { column: String, hint: Option<String> },
    #[error("column `{column}` can't be read as {kind}")]
    Convert {
        column: String,
        kind: &'static str,
        #[source]
        source: ArrowError,
    },
    #[error("the table has {found} columns where {expected} are expected")]
    ColumnCount { expected: usize, found: usize },
    #[error("column {index} is called `{found}` where `{expected}` is expected")]
    ColumnName { index: usize, expected: String, found: String },
    #[error("failed to assemble a table")]
    Assemble(#[source] ArrowError),
}

impl TableError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            TableError::UnsupportedType { column, .. } => {
                Some(format!("leave `{column}` out with `columns:`, or turn it into numbers or text before"))
            }
            TableError::UnknownColumn { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}

impl TableSchema {
    /// The schema in Arrow's terms.
    pub fn to_arrow(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| Field::new(&column.name, arrow_type(column.kind), column.nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// The schema that a table of this Arrow schema has once it went through [`coerce`].
    pub fn from_arrow(schema: &Schema) -> Result<TableSchema, TableError> {
        let columns = schema.fields().iter().map(|field| {
            let kind = kind_of(field.data_type()).ok_or_else(|| TableError::UnsupportedType {
                column: field.name().clone(),
                found: field.data_type().to_string(),
            })?;
            // Arrow's columns of nothing but nulls don't say that they may hold nulls.
            let nullable = field.is_nullable() || field.data_type() == &DataType::Null;
            Ok(Column { name: field.name().clone(), kind, nullable })
        });
        Ok(TableSchema { columns: columns.collect::<Result<_, _>>()? })
    }

    /// Where the column stands.
    pub fn index_of(&self, name: &str) -> Result<usize, TableError> {
        self.columns
            .iter()
            .position(|column| column.name == name)
            .ok_or_else(|| TableError::UnknownColumn { column: name.to_owned(), hint: names::hint(name, self.names()) })
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Result<&Column, TableError> {
        Ok(&self.columns[self.index_of(name)?])
    }

    /// The names of the columns, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// These columns only, in the order asked for.
    pub fn project<S: AsRef<str>>(&self, names: &[S]) -> Result<TableSchema, TableError> {
        let columns = names.iter().map(|name| self.column(name.as_ref()).cloned());
        Ok(TableSchema { columns: columns.collect::<Result<_, _>>()? })
    }
}

/// The name of a kind, as the pipeline file spells it.
pub fn kind_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Boolean => "boolean",
        ColumnType::Integer => "integer",
        ColumnType::Float => "float",
        ColumnType::String => "string",
        ColumnType::Date => "date",
        ColumnType::Timestamp => "timestamp",
    }
}

/// The Arrow type that a kind is kept in.
pub fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::String => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The kind that holds values of an Arrow type; `None` when none does (nested types, bytes, durations).
pub fn kind_of(data_type: &DataType) -> Option<ColumnType> {
    use DataType::*;
    Some(match data_type {
        Boolean => ColumnType::Boolean,
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => ColumnType::Integer,
        Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
            ColumnType::Float
        }
        Utf8 | LargeUtf8 | Utf8View | Null => ColumnType::String,
        Date32 | Date64 => ColumnType::Date,
        Timestamp(..) => ColumnType::Timestamp,
        Dictionary(_, value) => kind_of(value)?,
        RunEndEncoded(_, values) => kind_of(values.data_type())?,
        _ => return None,
    })
}

/// Brings a batch to `schema`: the same columns in the same order, each cast to its kind.
///
/// A value that the kind can't hold (an unsigned integer over 2^63, say) is an error that names the column;
/// no value silently becomes null.
pub fn coerce(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, TableError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    if batch.num_columns() != schema.fields().len() {
        return Err(TableError::ColumnCount { expected: schema.fields().len(), found: batch.num_columns() });
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (index, (field, column)) in schema.fields().iter().zip(batch.columns()).enumerate() {
        let found = batch.schema_ref().field(index).name();
        if found != field.name() {
            let (expected, found) = (field.name().clone(), found.clone());
            return Err(TableError::ColumnName { index, expected, found });
        }
        columns.push(coerce_column(column, field)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(TableError::Assemble)
}

fn coerce_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef, TableError> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &options).map_err(|source| TableError::Convert {
        column: field.name().clone(),
        kind: kind_of(field.data_type()).map_or("its type", kind_name),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::Int32Type;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn every_flat_type_comes_to_one_of_the_six_kinds() {
        let dictionary: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let incoming = batch(vec![
            ("small", Arc::new(Int32Array::from(vec![1, 2, 3]))),
            ("unsigned", Arc::new(UInt64Array::from(vec![1, 2, 3]))),
            ("real", Arc::new(Float32Array::from(vec![1.5, 2.5, 3.5]))),
            ("money", Arc::new(Decimal128Array::from(vec![150, 250, 350]).with_precision_and_scale(10, 2).unwrap())),
            ("level", Arc::new(dictionary)),
            ("view", Arc::new(StringViewArray::from(vec!["x", "y", "z"]))),
            ("day", Arc::new(Date64Array::from(vec![0, 86_400_000, 0]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_000, 3_999]))),
            ("there", Arc::new(TimestampSecondArray::from(vec![1, 2, 3]).with_timezone("+02:00"))),
            ("nothing", Arc::new(NullArray::new(3))),
        ]);
        let schema = TableSchema::from_arrow(incoming.schema_ref()).unwrap();
        let kinds: Vec<&str> = schema.columns.iter().map(|column| kind_name(column.kind)).collect();
        assert_eq!(
            kinds,
            ["integer", "integer", "float", "float", "string", "string", "date", "timestamp", "timestamp", "string"]
        );
        let table = coerce(&incoming, &schema.to_arrow()).unwrap();
        assert_eq!(table.schema(), schema.to_arrow());
        assert_eq!(table.column(3).as_primitive::<arrow::datatypes::Float64Type>().values(), &[1.5, 2.5, 3.5]);
        assert_eq!(table.column(4).as_string::<i32>().value(2), "a");
        let there = table.column(8).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!(there.values(), &[1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(TableSchema::from_arrow(&schema.to_arrow()).unwrap(), schema);
    }

    #[test]
    fn nested_columns_and_values_that_do_not_fit_are_named() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
        let nested = batch(vec![("tags", Arc::new(list))]);
        let error = TableSchema::from_arrow(nested.schema_ref()).unwrap_err();
        assert_eq!(error.to_string(), "column `tags` is of type List(Int32), which tables can't hold");

        let large = batch(vec![("id", Arc::new(UInt64Array::from(vec![u64::MAX])))]);
        let schema = TableSchema::from_arrow(large.schema_ref()).unwrap().to_arrow();
        let error = coerce(&large, &schema).unwrap_err();
        assert_eq!(error.to_string(), "column `id` can't be read as integer");
    }

    #[test]
    fn an_unknown_column_gets_the_nearest_name() {
        let schema = TableSchema {
            columns: vec![Column { name: "dep_delay".into(), kind: ColumnType::Integer, nullable: true }],
        };
        let error = schema.column("dep_dely").unwrap_err();
        assert_eq!(error.to_string(), "there is no column `dep_dely`");
        assert_eq!(error.hint().as_deref(), Some("did you mean `dep_delay`?"));
    }
}
