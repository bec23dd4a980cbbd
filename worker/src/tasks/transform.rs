//! One SQL query over datasets: by partition where each row stands for itself, else as a whole.

use gristmill_ml::sql::{self, QueryLimits, QueryTable, SqlError};
use gristmill_ml::table::TableSchema;
use gristmill_protocol::message::InputValue;
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::StepPayload;
use gristmill_protocol::pipeline::steps::Transform;
use gristmill_protocol::{Digest, Failure};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd, if_stopped};
use crate::context::TaskContext;
use crate::datasets::{blobs, load_manifest, store_manifest, write_partitions};
use crate::documents::{Manifest, PartitionRef};
use crate::failure::IntoFailure;
use crate::{fanout, spans};

/// Runs the query over one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunQuery {
    sql: String,
    table: String,
    input: TableSchema,
    output: TableSchema,
}

/// Gathers what the queries have made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GatherPartitions {
    output: TableSchema,
}

/// Plans the query; runs it at once when it can't run by partition.
pub(crate) fn plan(
    context: &TaskContext<'_>,
    transform: &Transform,
    payload: &StepPayload,
    cache_key: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let mut tables = Vec::new();
    for need in &payload.needs {
        let name = match &need.output {
            Some(part) => format!("{}.{part}", need.step),
            None => need.step.clone(),
        };
        let manifest = load_manifest(context, context.dataset(&name)?.manifest)?;
        tables.push((name, manifest));
    }
    let schemas: Vec<(String, TableSchema)> =
        tables.iter().map(|(name, manifest)| (name.clone(), manifest.schema.clone())).collect();
    let planned = sql::plan(&transform.sql, &schemas).map_err(IntoFailure::into_failure)?;
    match tables.as_slice() {
        [(table, manifest)] if planned.row_by_row && manifest.partitions.len() > 1 => {
            let child = Child::Transform(RunQuery {
                sql: transform.sql.clone(),
                table: table.clone(),
                input: manifest.schema.clone(),
                output: planned.output.clone(),
            });
            let what = JoinWhat::Transform(GatherPartitions { output: planned.output });
            fanout::expand(context, &manifest.partitions, &child, &Join { what, cache_key }).map(TaskEnd::Expanded)
        }
        _ => {
            let mut query_tables = Vec::new();
            for (name, manifest) in &tables {
                let partitions = blobs(context, manifest)?;
                query_tables.push(QueryTable { name: name.clone(), schema: manifest.schema.clone(), partitions });
            }
            let partitions = match execute(context, &transform.sql, &query_tables, &planned.output)? {
                Some(partitions) => partitions,
                None => return Ok(TaskEnd::Stopped),
            };
            made(context, planned.output, partitions)
        }
    }
}

/// Runs the query over one partition.
pub(crate) fn run(context: &TaskContext<'_>, query: &RunQuery, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    let partition: PartitionRef = fanout::item(context, item)?;
    let table = QueryTable {
        name: query.table.clone(),
        schema: query.input.clone(),
        partitions: vec![context.blob(partition.digest)?],
    };
    match execute(context, &query.sql, &[table], &query.output)? {
        Some(partitions) => context.put_result(&partitions).map(TaskEnd::Result),
        None => Ok(TaskEnd::Stopped),
    }
}

/// Puts the results of all partitions together in their order.
pub(crate) fn gather(
    context: &TaskContext<'_>,
    gather: &GatherPartitions,
    children: &InputValue,
) -> Result<TaskEnd, Failure> {
    let partitions = fanout::children::<Vec<PartitionRef>>(context, children)?.into_iter().flatten().collect();
    made(context, gather.output.clone(), partitions)
}

fn made(context: &TaskContext<'_>, schema: TableSchema, partitions: Vec<PartitionRef>) -> Result<TaskEnd, Failure> {
    let dataset = store_manifest(context, &Manifest { schema, partitions, profile: None })?;
    Ok(TaskEnd::Made(Output::Dataset { dataset, quarantine: None }))
}

/// The partitions that a query makes; nothing when the task was told to stop.
fn execute(
    context: &TaskContext<'_>,
    sql: &str,
    tables: &[QueryTable],
    output: &TableSchema,
) -> Result<Option<Vec<PartitionRef>>, Failure> {
    let scratch = context.scratch()?;
    let memory_bytes = usize::try_from(context.resources.memory_bytes).unwrap_or(usize::MAX);
    let limits = QueryLimits { memory_bytes, spill_folder: scratch.path() };
    let mut rows = 0;
    let running = spans::run_query().entered();
    let partitions = write_partitions(context, scratch.path(), "query", output, |roller| {
        let result = sql::execute(sql, tables, limits, &mut |batch| {
            rows += batch.num_rows() as u64;
            context.control.progress(rows, None, "rows");
            if context.control.is_stopped() {
                return Err(SqlError::Run { message: "stopped".to_owned() });
            }
            roller.write(&batch).map_err(SqlError::Write)
        });
        match result {
            Err(_) if context.control.is_stopped() => Ok(()),
            result => result.map_err(IntoFailure::into_failure),
        }
    })?;
    running.record(spans::ROWS, rows as i64);
    Ok(if_stopped(context).is_none().then_some(partitions))
}
