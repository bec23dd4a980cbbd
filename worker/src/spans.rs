//! The spans inside an attempt: all that a trace shows of the work itself.
//!
//! They are of level info, and this module is what a process that exports spans knows them by: a span that is made
//! elsewhere isn't exported. The attempt's own span is written by whoever runs the worker; [`attempt`] only says
//! which one it is, so that these become its children and log lines carry its ids.
//!
//! Where no spans are exported each of them costs the look at a flag. Counts are signed, because OpenTelemetry has no
//! other numbers.

use gristmill_protocol::Digest;
use gristmill_worker_runtime::Work;
use tracing::{Span, error_span, info_span};

/// How many rows something had, as far as that shows only at its end.
pub(crate) const ROWS: &str = "gristmill.rows";
/// How many bytes.
pub(crate) const BYTES: &str = "gristmill.bytes";

/// The scope of an attempt. Of the highest level, because a scope that the log's filter removes gives no ids to the
/// lines that it keeps.
pub(crate) fn attempt(work: &Work) -> Span {
    let (run, id) = (work.attempt.run, work.attempt.span_id());
    let (trace_id, span_id) = (format_args!("{:032x}", run.as_u128()), format_args!("{id:016x}"));
    error_span!("task", name = work.name, %run, %trace_id, %span_id)
}

/// Is equal work done already?
pub(crate) fn look_into_cache() -> Span {
    info_span!("look into cache")
}

/// An artifact comes from the store as a whole. Partitions are read piece by piece by whoever works on them.
pub(crate) fn read_artifact(digest: Digest) -> Span {
    info_span!("read artifact", gristmill.artifact = %digest)
}

/// An artifact goes to the store.
pub(crate) fn write_artifact() -> Span {
    info_span!("write artifact", gristmill.bytes = tracing::field::Empty)
}

/// An uploaded source file comes to this disk.
pub(crate) fn fetch_source() -> Span {
    info_span!("fetch source")
}

/// The columns of source files are found out.
pub(crate) fn infer_schema(files: usize) -> Span {
    info_span!("infer schema", gristmill.files = files as i64)
}

/// A source file is read into partitions.
pub(crate) fn read_file() -> Span {
    info_span!("read file", gristmill.rows = tracing::field::Empty)
}

/// A query runs over some partitions.
pub(crate) fn run_query() -> Span {
    info_span!("run query", gristmill.rows = tracing::field::Empty)
}

/// A partition is checked against rules.
pub(crate) fn check_partition(rows: u64) -> Span {
    info_span!("check partition", gristmill.rows = rows as i64)
}

/// Each row gets its part.
pub(crate) fn assign_parts() -> Span {
    info_span!("assign parts")
}

/// The rows of one partition go to their parts.
pub(crate) fn split_partition() -> Span {
    info_span!("split partition")
}

/// The classes or the range of a target are found out.
pub(crate) fn fit_target() -> Span {
    info_span!("fit target")
}

/// What features need to know of all rows is found out.
pub(crate) fn fit_features() -> Span {
    info_span!("fit features")
}

/// Rows become what the algorithm learns from.
pub(crate) fn fill_training_set() -> Span {
    info_span!("fill training set", gristmill.rows = tracing::field::Empty)
}

/// The algorithm learns: trees of a forest, classes of a regression.
pub(crate) fn train_units(units: u32, threads: usize) -> Span {
    info_span!("train units", gristmill.units = i64::from(units), gristmill.threads = threads as i64)
}

/// A model measures the rows of one partition.
pub(crate) fn measure_partition() -> Span {
    info_span!("measure partition")
}

/// A model scores the rows of one partition.
pub(crate) fn score_partition() -> Span {
    info_span!("score partition")
}

/// A model becomes a version in the registry.
pub(crate) fn register_version() -> Span {
    info_span!("register version")
}
