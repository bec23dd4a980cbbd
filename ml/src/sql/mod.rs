//! Transforms: one SQL query over tables, on DataFusion, in bounded memory.
//!
//! [`plan`] checks a query and says what it makes and whether it works row by row; [`execute`] runs it. A query
//! that is row by row may run over each partition alone, in parallel tasks; any other runs whole and spills
//! to disk. Both run DataFusion on a thread of their own: it recurses deeply, and its futures must not block the
//! caller's runtime.
//!
//! Names are matched as they are written, without folding to lower case: columns of data files are as often
//! `PassengerId` as `passenger_id`. Statements other than a `select` are refused, and so are functions
//! whose result changes from call to call, since results are kept by what they were made from.
//!
//! **Invariant:** the same query over the same partitions under the same memory limit gives the same rows in the
//! same order. One thread works on a query for that; parallel work comes from tasks.

mod condition;
mod error;
mod expression;
mod provider;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement;
use futures_util::StreamExt;

use crate::blob::SharedBlob;
use crate::names;
use crate::table::{self, Column, TableError, TableSchema};
pub use condition::Condition;
pub use error::SqlError;
pub use expression::{ExpressionError, RowExpressions};
use provider::Partitions;

/// Rows of a batch inside a query: DataFusion's own choice, which its operators are tuned for.
const QUERY_BATCH_ROWS: usize = 8_192;

/// Bytes of stack of the thread that plans and runs a query: an expression of some thousand terms recurses
/// as deep in the planner.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Batches that may wait between the query and whoever takes its rows.
const BATCHES_WAITING: usize = 2;

/// What a query makes, and how it may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The columns it makes.
    pub output: TableSchema,
    /// The tables it reads, in the order in which they were offered.
    pub tables: Vec<String>,
    /// Whether each row made depends on one row of one table: the query may then run over each partition
    /// alone, and the results in the order of the partitions are the result of the whole.
    pub row_by_row: bool,
}

/// A table that a query can read.
#[derive(Clone, Debug)]
pub struct QueryTable {
    pub name: String,
    pub schema: TableSchema,
    pub partitions: Vec<SharedBlob>,
}

/// What a query may use.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits<'a> {
    /// Bytes of memory for sorting, grouping and joining. What is read and handed on comes on top, some MiB.
    pub memory_bytes: usize,
    /// Where it spills what doesn't fit.
    pub spill_folder: &'a Path,
}

/// Checks a query over tables of these schemas.
pub fn plan(sql: &str, tables: &[(String, TableSchema)]) -> Result<Planned, SqlError> {
    let tables: Vec<QueryTable> = tables
        .iter()
        .map(|(name, schema)| QueryTable { name: name.clone(), schema: schema.clone(), partitions: Vec::new() })
        .collect();
    on_own_thread(|| {
        let context = SessionContext::new_with_config(config(&ATTEMPTS[0], 0));
        let (plan, used) = block_on(logical_plan(&context, sql, &tables))?;
        let output = output_schema(&plan)?;
        let optimized = context.state().optimize(&plan).map_err(SqlError::from_datafusion)?;
        let mut scans = 0;
        let row_by_row = is_row_by_row(&optimized, &mut scans)? && scans == 1;
        Ok(Planned { output, tables: used, row_by_row })
    })
}

/// Runs a query and gives the rows it makes to `sink`, in their order, as batches of [`Planned::output`].
pub fn execute(
    sql: &str,
    tables: &[QueryTable],
    limits: QueryLimits,
    sink: &mut dyn FnMut(RecordBatch) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let mut attempts = ATTEMPTS.iter();
    loop {
        let attempt = attempts.next().expect("the last attempt returns");
        match execute_once(sql, tables, limits, attempt, sink) {
            Err((SqlError::Memory { .. }, false)) if attempts.len() > 0 => {}
            result => return result.map_err(|(error, _)| error),
        }
    }
}

/// A way to run a query.
struct Attempt {
    /// Whether joins hash one side. A hash join can't spill; a merge join can, but is slower.
    hash_joins: bool,
    /// Share of the memory that each sort keeps back for merging: its copies of the sorted columns take a multiple of
    /// the columns themselves, the more the shorter their texts are.
    merge_share: f64,
}

/// The ways in which a query is run, each when the one before it ran out of memory before it made a row.
const ATTEMPTS: [Attempt; 3] = [
    Attempt { hash_joins: true, merge_share: 0.25 },
    Attempt { hash_joins: false, merge_share: 0.25 },
    Attempt { hash_joins: false, merge_share: 0.875 },
];

/// Runs a query; an error comes with whether rows were handed on before it.
fn execute_once(
    sql: &str,
    tables: &[QueryTable],
    limits: QueryLimits,
    attempt: &Attempt,
    sink: &mut dyn FnMut(RecordBatch) -> Result<(), SqlError>,
) -> Result<(), (SqlError, bool)> {
    let mut handed_on = false;
    let (sender, receiver) = sync_channel(BATCHES_WAITING);
    let result = std::thread::scope(|scope| {
        let query = std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || run(sql, tables, limits, attempt, sender))
            .map_err(SqlError::Thread)?;
        let mut taken = Ok(());
        // Leaving the loop drops the receiver, which ends the query.
        for batch in receiver {
            handed_on = true;
            taken = sink(batch);
            if taken.is_err() {
                break;
            }
        }
        let ran = query.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(ran)
    });
    result.map_err(|error| (error, handed_on))
}

fn run(
    sql: &str,
    tables: &[QueryTable],
    limits: QueryLimits,
    attempt: &Attempt,
    sender: SyncSender<RecordBatch>,
) -> Result<(), SqlError> {
    let spill =
        DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![limits.spill_folder.to_owned()]));
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(spill)
        .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
        .build_arc()
        .map_err(SqlError::from_datafusion)?;
    let context = SessionContext::new_with_config_rt(config(attempt, limits.memory_bytes), runtime);
    block_on(async {
        let (plan, _) = logical_plan(&context, sql, tables).await?;
        let output = output_schema(&plan)?.to_arrow();
        let physical = context.state().create_physical_plan(&plan).await.map_err(SqlError::from_datafusion)?;
        let mut stream = execute_stream(physical, context.task_ctx()).map_err(SqlError::from_datafusion)?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(SqlError::from_datafusion)?;
            if batch.num_rows() == 0 {
                continue;
            }
            let batch = table::coerce(&batch, &output).map_err(SqlError::Output)?;
            if sender.send(batch).is_err() {
                // Nobody takes the rows any more; whoever took them knows why.
                break;
            }
        }
        Ok(())
    })
}

fn config(attempt: &Attempt, memory_bytes: usize) -> SessionConfig {
    SessionConfig::new()
        .with_sort_spill_reservation_bytes((memory_bytes as f64 * attempt.merge_share) as usize)
        .with_target_partitions(1)
        .with_batch_size(QUERY_BATCH_ROWS)
        .with_information_schema(false)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.optimizer.prefer_hash_join", attempt.hash_joins)
}

/// The plan of a query as written, and the tables it reads.
async fn logical_plan(
    context: &SessionContext,
    sql: &str,
    tables: &[QueryTable],
) -> Result<(LogicalPlan, Vec<String>), SqlError> {
    for table in tables {
        let provider = Partitions::new(&table.schema, table.partitions.clone());
        context
            .register_table(TableReference::bare(table.name.as_str()), Arc::new(provider))
            .map_err(SqlError::from_datafusion)?;
    }
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).map_err(SqlError::from_datafusion)?;
    match &statement {
        DfStatement::Statement(inner) if matches!(**inner, Statement::Query(_)) => {}
        other => {
            let first = other.to_string().split_whitespace().next().unwrap_or_default().to_uppercase();
            return Err(SqlError::NotASelect { found: first });
        }
    }
    let references = state.resolve_table_references(&statement).map_err(SqlError::from_datafusion)?;
    let mut used = Vec::new();
    for reference in &references {
        let name = reference.to_string().replace('"', "");
        let known = tables.iter().any(|table| table.name == name);
        match reference {
            TableReference::Bare { table } if tables.iter().any(|known| known.name == **table) => {
                used.push(table.to_string());
            }
            _ if known => {
                let hint = Some(format!("write it in double quotes: `\"{name}\"`"));
                return Err(SqlError::UnknownTable { table: name, hint });
            }
            _ => {
                let hint = names::hint(&name, tables.iter().map(|table| table.name.as_str()));
                return Err(SqlError::UnknownTable { table: name, hint });
            }
        }
    }
    let plan = state.statement_to_plan(statement).await.map_err(SqlError::from_datafusion)?;
    if !matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_)) {
        refuse_changing(&plan)?;
    }
    let order = tables.iter().filter(|table| used.contains(&table.name)).map(|table| table.name.clone()).collect();
    Ok((plan, order))
}

/// Refuses functions whose result isn't decided by their arguments.
fn refuse_changing(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut found = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found = found.take().or_else(|| changing_function(expr));
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    visited.map_err(SqlError::from_datafusion)?;
    match found {
        Some(function) => Err(SqlError::Changing { function }),
        None => Ok(()),
    }
}

/// The first function in an expression whose result isn't decided by its arguments.
fn changing_function(expr: &Expr) -> Option<String> {
    let mut found = None;
    let visited = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && call.func.signature().volatility != Volatility::Immutable
        {
            found = Some(call.func.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.ok().and(found)
}

/// The columns that a plan makes, of our six kinds.
fn output_schema(plan: &LogicalPlan) -> Result<TableSchema, SqlError> {
    let mut columns: Vec<Column> = Vec::new();
    for field in plan.schema().fields() {
        if columns.iter().any(|column| column.name == *field.name()) {
            return Err(SqlError::DuplicateColumn { column: field.name().clone() });
        }
        // The planner's promises about nulls are left out: a table of the same query may then be read by one
        // whose rows lack values.
        let field = Field::new(field.name(), field.data_type().clone(), true);
        let one = TableSchema::from_arrow(&Schema::new(vec![field])).map_err(|error| match error {
            TableError::UnsupportedType { column, found } => SqlError::OutputType { column, found },
            error => SqlError::Output(error),
        })?;
        columns.extend(one.columns);
    }
    Ok(TableSchema { columns })
}

/// Whether an optimized plan makes each row from one row; counts the tables it reads.
fn is_row_by_row(plan: &LogicalPlan, scans: &mut usize) -> Result<bool, SqlError> {
    let simple = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => true,
        LogicalPlan::TableScan(scan) => {
            *scans += 1;
            scan.fetch.is_none()
        }
        _ => false,
    };
    if !simple {
        return Ok(false);
    }
    let mut has_query = false;
    plan.apply_expressions(|expr| {
        has_query |= expr.exists(|expr| Ok(is_subquery(expr)))?;
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(SqlError::from_datafusion)?;
    if has_query {
        return Ok(false);
    }
    for input in plan.inputs() {
        if !is_row_by_row(input, scans)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
}

/// Runs `work` on a thread with a stack that deep expressions need.
fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T, SqlError> + Send) -> Result<T, SqlError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(SqlError::Thread)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn block_on<T>(future: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SqlError::Thread)?;
    runtime.block_on(future)
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> SqlError {
        SqlError::from_datafusion(error)
    }
}

#[cfg(test)]
mod tests;
