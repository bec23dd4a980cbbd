//! Finding runs: each filter is some ranges of one index, in which runs stand by their ids.
//!
//! A run's state has six values, so a filter without one is six ranges, and one index serves with and without it.
//! The indexes aren't part of the database's version: SQLite keeps them whoever writes, and a home that was made without
//! them gets them when it is opened.

use gristmill_protocol::{RunId, Timestamp};
use rusqlite::{Connection, Result, TransactionBehavior, params};

use super::rows;
use crate::state::{RunFilter, RunPage, RunRecord, StatusFilter};

/// In tables without rowids an index ends in the primary key, which is the run.
const INDEXES: [&str; 5] = [
    "create index if not exists runs_by_state on runs (state)",
    "create index if not exists runs_by_namespace on runs (namespace, state)",
    "create index if not exists runs_by_pipeline on runs (pipeline, state)",
    "create index if not exists runs_by_both on runs (namespace, pipeline, state)",
    "create index if not exists runs_by_end on runs (ended) where ended is not null",
];

/// Makes the indexes that aren't there. It takes some seconds for a million runs, once.
pub(super) fn make_indexes(connection: &mut Connection) -> Result<()> {
    let count = "select count(*) from sqlite_schema where type = 'index' and name glob 'runs_by_*'";
    let found: i64 = connection.query_row(count, [], |row| row.get(0))?;
    if usize::try_from(found) == Ok(INDEXES.len()) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for index in INDEXES {
        transaction.execute_batch(index)?;
    }
    transaction.commit()
}

/// A page of the runs that fit, newest first.
pub(super) fn find(
    connection: &Connection,
    filter: &RunFilter,
    before: Option<RunId>,
    limit: usize,
) -> Result<RunPage> {
    // All from one moment: a run that ends in between would be in two ranges or in none.
    let snapshot = connection.unchecked_transaction()?;
    if *filter == RunFilter::default() {
        let mut records = rows::runs(&snapshot, before, limit + 1)?;
        let is_whole = records.len() <= limit;
        records.truncate(limit);
        let next = records.last().filter(|_| !is_whole).map(|last| last.run);
        return Ok(RunPage { records, next });
    }
    let mut keys = keys(&snapshot, filter, before, limit + 1)?;
    let is_whole = keys.len() <= limit;
    keys.truncate(limit);
    let runs = keys.into_iter().map(|key| RunId::from_u128(u128::from_be_bytes(key)));
    let mut records = Vec::new();
    for run in runs {
        records.extend(rows::run(&snapshot, run)?);
    }
    let next = records.last().filter(|_| !is_whole).map(|last| last.run);
    Ok(RunPage { records, next })
}

/// The newest keys in all ranges of a filter.
fn keys(connection: &Connection, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<Vec<[u8; 16]>> {
    let (index, fixed) = match (&filter.namespaces, &filter.pipeline) {
        (Some(_), Some(_)) => ("runs_by_both", "namespace = ?1 and pipeline = ?2 and"),
        (Some(_), None) => ("runs_by_namespace", "namespace = ?1 and"),
        (None, Some(_)) => ("runs_by_pipeline", "pipeline = ?2 and"),
        (None, None) => ("runs_by_state", ""),
    };
    let mut range = connection.prepare_cached(&format!(
        "select run from runs indexed by {index} where {fixed} state = ?3 and run > ?4 and run < ?5
        order by run desc limit ?6"
    ))?;
    let namespaces: Vec<Option<&str>> = match &filter.namespaces {
        Some(namespaces) => namespaces.iter().map(|namespace| Some(namespace.as_str())).collect(),
        None => vec![None],
    };
    let states = match filter.status {
        None => rows::ALL_STATES,
        Some(StatusFilter::Open) => rows::OPEN_STATES,
        Some(StatusFilter::Ended(status)) => {
            let state = rows::ended_number(status);
            state..=state
        }
    };
    let before = rows::before(before);
    let mut found: Vec<[u8; 16]> = Vec::new();
    for namespace in namespaces {
        for state in states.clone() {
            // With enough found, only what is newer than the oldest of it counts.
            let after = found.get(limit - 1).map_or(Vec::new(), |key| key.to_vec());
            let values = params![namespace, filter.pipeline, state, after, before, rows::rows_max(limit)];
            for key in range.query_map(values, |row| row.get(0))? {
                found.push(key?);
            }
            found.sort_unstable_by(|a, b| b.cmp(a));
            found.truncate(limit);
        }
    }
    Ok(found)
}

/// Runs that ended after a place and before a time, in the order of their ends.
pub(super) fn ended(
    connection: &Connection,
    after: (Timestamp, RunId),
    until: Timestamp,
    limit: usize,
) -> Result<Vec<RunRecord>> {
    let sql = format!(
        "{} indexed by runs_by_end where ended >= ?1 and (ended, run) > (?1, ?2) and ended < ?3
        order by ended, run limit ?4",
        rows::RECORD
    );
    let (time, run) = (rows::clamped(after.0.0), rows::key(after.1));
    rows::records(connection, &sql, params![time, run, rows::clamped(until.0), rows::rows_max(limit)])
}
