//! Rules over a dataset: one child a partition; the join concludes, and accepts or rejects.

use gristmill_ml::expect::{ExpectReport, PartialReport, RuleError, Rules, failing_rows, failing_schema};
use gristmill_ml::partition;
use gristmill_ml::table::TableSchema;
use gristmill_protocol::message::InputValue;
use gristmill_protocol::output::{DatasetRef, Output};
use gristmill_protocol::pipeline::steps::{Expect, Rule, Severity};
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd};
use crate::context::TaskContext;
use crate::datasets::{blobs, load_manifest};
use crate::documents::PartitionRef;
use crate::failure::IntoFailure;
use crate::{fanout, spans};

/// Checks one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckPartition {
    schema: TableSchema,
    rules: Vec<Rule>,
}

/// Concludes from all partitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Conclude {
    rules: Vec<Rule>,
    dataset: DatasetRef,
}

/// What the step keeps for people: what each rule says, and the rows that fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    #[serde(flatten)]
    report: ExpectReport,
    /// A Parquet file with the first failing rows of each rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_rows: Option<Digest>,
}

/// Checks that the rules fit the dataset.
pub(crate) fn plan(context: &TaskContext<'_>, expect: &Expect, cache_key: Option<Digest>) -> Result<TaskEnd, Failure> {
    let dataset = context.dataset(&expect.input)?;
    let manifest = load_manifest(context, dataset.manifest)?;
    compile(&manifest.schema, &expect.rules)?;
    let child = Child::Expect(CheckPartition { schema: manifest.schema, rules: expect.rules.clone() });
    let conclude = Conclude { rules: expect.rules.clone(), dataset };
    if manifest.partitions.is_empty() {
        return finish(context, &conclude, &[]);
    }
    let join = Join { what: JoinWhat::Expect(conclude), cache_key };
    fanout::expand(context, &manifest.partitions, &child, &join).map(TaskEnd::Expanded)
}

/// Checks one partition.
pub(crate) fn check(
    context: &TaskContext<'_>,
    check: &CheckPartition,
    item: Option<&Item>,
) -> Result<TaskEnd, Failure> {
    let partition: PartitionRef = fanout::item(context, item)?;
    let rules = compile(&check.schema, &check.rules)?;
    let blob = context.blob(partition.digest)?;
    let report = spans::check_partition(partition.rows).in_scope(|| rules.check(blob));
    let report = report.map_err(IntoFailure::into_failure)?;
    context.control.progress(partition.rows, None, "rows");
    context.put_result(&report).map(TaskEnd::Result)
}

/// Accepts or rejects.
pub(crate) fn conclude(
    context: &TaskContext<'_>,
    conclude: &Conclude,
    children: &InputValue,
) -> Result<TaskEnd, Failure> {
    finish(context, conclude, &fanout::children::<PartialReport>(context, children)?)
}

fn finish(context: &TaskContext<'_>, conclude: &Conclude, partials: &[PartialReport]) -> Result<TaskEnd, Failure> {
    let manifest = load_manifest(context, conclude.dataset.manifest)?;
    let rules = compile(&manifest.schema, &conclude.rules)?;
    let report = rules.conclude(partials).map_err(IntoFailure::into_failure)?;
    let rows =
        failing_rows(&report, &manifest.schema, &blobs(context, &manifest)?).map_err(IntoFailure::into_failure)?;
    let failing = match rows.is_empty() {
        true => None,
        false => {
            let schema = failing_schema(&manifest.schema);
            let bytes = partition::to_bytes(&schema, &rows).map_err(IntoFailure::into_failure)?;
            Some(context.put(bytes)?)
        }
    };
    let broken: Vec<(Severity, String)> = report
        .outcomes
        .iter()
        .filter(|outcome| !outcome.passed)
        .map(|outcome| (outcome.severity, outcome.message.clone()))
        .collect();
    let accepted = report.accepted;
    let report = context.put_json(&Checked { report, failing_rows: failing })?;
    if accepted {
        let warnings = broken.len() as u32;
        return Ok(TaskEnd::Made(Output::Checked { dataset: conclude.dataset.clone(), report, warnings }));
    }
    let errors: Vec<String> =
        broken.into_iter().filter(|(severity, _)| *severity == Severity::Error).map(|(_, message)| message).collect();
    let rows = failing.map(|digest| format!("; the failing rows are artifact {digest}")).unwrap_or_default();
    Ok(TaskEnd::Rejected(format!("{}{rows}", errors.join("; "))))
}

fn compile(schema: &TableSchema, rules: &[Rule]) -> Result<Rules, Failure> {
    Rules::compile(schema, rules).map_err(|errors: Vec<RuleError>| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(ErrorCode::BadPipeline, texts.join("; "))
    })
}
