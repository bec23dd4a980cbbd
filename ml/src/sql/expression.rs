//! SQL expressions over the columns of a row, compiled once and evaluated batch by batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast as cast_expr};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;
use gristmill_protocol::pipeline::ColumnType;

use super::condition::refuse_more_than_rows;
use super::{ATTEMPTS, SqlError, changing_function, config, on_own_thread};
use crate::columns::kind_of;
use crate::table::{TableSchema, arrow_type};

/// Expressions such as `dep_delay / nullif(distance, 0)`, each over the columns of one row.
///
/// `/` never drops a remainder here: of two whole numbers it is their ratio, and by zero it gives an infinity,
/// which features take as missing. In a query it would be the whole quotient, and an error.
#[derive(Clone, Debug)]
pub struct RowExpressions {
    compiled: Vec<(Arc<dyn PhysicalExpr>, ColumnType)>,
    schema: TableSchema,
    arrow_schema: SchemaRef,
}

/// What is wrong with one of several expressions.
#[derive(Debug, thiserror::Error)]
#[error("the expression `{name}`")]
pub struct ExpressionError {
    pub name: String,
    #[source]
    pub source: SqlError,
}

impl RowExpressions {
    /// Compiles named expressions about rows of this schema.
    pub fn compile(expressions: &[(String, String)], schema: &TableSchema) -> Result<RowExpressions, ExpressionError> {
        let compiled = on_own_thread(|| {
            let context = SessionContext::new_with_config(config(&ATTEMPTS[0], 0));
            Ok(compile(&context.state(), expressions, schema))
        });
        compiled.unwrap_or_else(|source| {
            let name = expressions.first().map(|(name, _)| name.clone()).unwrap_or_default();
            Err(ExpressionError { name, source })
        })
    }

    /// The columns they look at, in the order of the schema they were compiled for.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// The types of their results.
    pub fn kinds(&self) -> impl Iterator<Item = ColumnType> {
        self.compiled.iter().map(|(_, kind)| *kind)
    }

    /// Their values for each row of a batch of [`RowExpressions::schema`]; an error comes with which of them it is of.
    pub fn evaluate(&self, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, (usize, SqlError)> {
        let batch = RecordBatch::try_new(self.arrow_schema.clone(), columns)
            .map_err(|error| (0, DataFusionError::from(error).into()))?;
        let evaluate = |(expr, kind): &(Arc<dyn PhysicalExpr>, ColumnType)| -> Result<ArrayRef, SqlError> {
            let values = expr.evaluate(&batch)?.into_array(batch.num_rows())?;
            Ok(cast(&values, &arrow_type(*kind)).map_err(DataFusionError::from)?)
        };
        self.compiled.iter().enumerate().map(|(at, one)| evaluate(one).map_err(|error| (at, error))).collect()
    }
}

fn compile(
    state: &SessionState,
    expressions: &[(String, String)],
    schema: &TableSchema,
) -> Result<RowExpressions, ExpressionError> {
    let named = |name: &String, source: SqlError| ExpressionError { name: name.clone(), source };
    let nullable = |mut schema: TableSchema| {
        schema.columns.iter_mut().for_each(|column| column.nullable = true);
        schema
    };
    let schema = nullable(schema.clone());
    let mut used = vec![false; schema.columns.len()];
    for (name, sql) in expressions {
        let found = columns_of(state, sql, &schema).map_err(|error| named(name, error))?;
        if found.is_empty() {
            return Err(named(name, SqlError::NoColumn));
        }
        found.into_iter().for_each(|at| used[at] = true);
    }
    // Once more for these columns alone, so that the batch evaluated holds nothing else.
    let mut used = used.into_iter();
    let mut reduced = schema;
    reduced.columns.retain(|_| used.next().unwrap_or(false));
    let arrow_schema = reduced.to_arrow();
    let mut compiled = Vec::with_capacity(expressions.len());
    for (name, sql) in expressions {
        compiled.push(compile_one(state, sql, &arrow_schema).map_err(|error| named(name, error))?);
    }
    Ok(RowExpressions { compiled, schema: reduced, arrow_schema })
}

/// The expression as written, if it is decided by the columns of one row.
fn read(state: &SessionState, sql: &str, columns: &DFSchema) -> Result<Expr, SqlError> {
    let expr = state.create_logical_expr(sql, columns)?;
    if let Some(function) = changing_function(&expr) {
        return Err(SqlError::Changing { function });
    }
    refuse_more_than_rows("an expression", &expr)?;
    Ok(expr)
}

/// Where the columns stand that an expression looks at.
fn columns_of(state: &SessionState, sql: &str, schema: &TableSchema) -> Result<Vec<usize>, SqlError> {
    let expr = read(state, sql, &DFSchema::try_from(schema.to_arrow())?)?;
    let names: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
    names.iter().map(|name| schema.index_of(name).map_err(SqlError::Output)).collect()
}

fn compile_one(
    state: &SessionState,
    sql: &str,
    schema: &SchemaRef,
) -> Result<(Arc<dyn PhysicalExpr>, ColumnType), SqlError> {
    let columns = DFSchema::try_from(schema.clone())?;
    let expr = read(state, sql, &columns)?.transform_up(|expr| whole_ratio(expr, &columns))?.data;
    // Some functions, `coalesce` among them, are only a name until they are simplified.
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(columns.clone()))
        .with_config_options(state.config_options().clone())
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr, &columns)?)?;
    let found = expr.get_type(&columns)?;
    let Some(kind) = kind_of(&found) else {
        return Err(SqlError::NotAValue { found: found.to_string() });
    };
    Ok((state.create_physical_expr(expr, &columns)?, kind))
}

/// Makes the quotient of two whole numbers their ratio.
fn whole_ratio(expr: Expr, columns: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right })
            if left.get_type(columns)?.is_integer() && right.get_type(columns)?.is_integer() =>
        {
            let ratio = BinaryExpr { left: Box::new(cast_expr(*left, DataType::Float64)), op: Operator::Divide, right };
            Ok(Transformed::yes(Expr::BinaryExpr(ratio)))
        }
        expr => Ok(Transformed::no(expr)),
    }
}
