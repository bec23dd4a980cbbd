//! SQL conditions about single rows, compiled once and evaluated batch by batch.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;

use super::{ATTEMPTS, SqlError, changing_function, config, is_subquery, on_own_thread};
use crate::table::TableSchema;

/// A condition such as `arr_delay > 15 and origin = 'JFK'`.
#[derive(Clone, Debug)]
pub struct Condition {
    expr: Arc<dyn PhysicalExpr>,
    columns: Vec<String>,
}

impl Condition {
    /// Compiles a condition about rows of this schema.
    pub fn compile(sql: &str, schema: &TableSchema) -> Result<Condition, SqlError> {
        let arrow_schema = schema.to_arrow();
        on_own_thread(|| {
            let context = SessionContext::new_with_config(config(&ATTEMPTS[0], 0));
            let state = context.state();
            let columns = DFSchema::try_from(arrow_schema)?;
            let expr = state.create_logical_expr(sql, &columns)?;
            if let Some(function) = changing_function(&expr) {
                return Err(SqlError::Changing { function });
            }
            refuse_more_than_rows("a condition", &expr)?;
            let found = expr.get_type(&columns)?;
            if found != DataType::Boolean {
                return Err(SqlError::NotACondition { found: found.to_string() });
            }
            let mut used: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
            used.sort_by_key(|name| schema.index_of(name).unwrap_or(usize::MAX));
            Ok(Condition { expr: state.create_physical_expr(expr, &columns)?, columns: used })
        })
    }

    /// The columns it looks at, in the order of the schema.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether it holds, for each row of a batch of the schema it was compiled for; null where that is unknown.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, SqlError> {
        let value = self.expr.evaluate(batch)?.into_array(batch.num_rows())?;
        match value.as_boolean_opt() {
            Some(value) => Ok(value.clone()),
            None => Err(SqlError::NotACondition { found: value.data_type().to_string() }),
        }
    }
}

pub(super) fn refuse_more_than_rows(what: &'static str, expr: &Expr) -> Result<(), SqlError> {
    for (found, is) in [
        ("a query", is_subquery as fn(&Expr) -> bool),
        ("an aggregate", |expr| matches!(expr, Expr::AggregateFunction(_))),
        ("a window", |expr| matches!(expr, Expr::WindowFunction(_))),
    ] {
        use datafusion::common::tree_node::TreeNode;
        if expr.exists(|expr| Ok(is(expr)))? {
            return Err(SqlError::NotAboutRows { what, found });
        }
    }
    Ok(())
}
