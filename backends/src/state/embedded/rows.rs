//! Statements on the tables: each function is one read or one write inside the caller's transaction.

use std::ops::RangeInclusive;

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::{Digest, RunId, Shard, Timestamp};
use rusqlite::{Connection, OptionalExtension, Result, Row, ToSql, params};

use crate::state::model::{KeyUse, RunHead, RunState};
use crate::state::{AppendEntry, Document, JournalEntry, NewRun, RunRecord};

/// A run id as it sorts: its bytes, most significant first.
pub(super) fn key(run: RunId) -> [u8; 16] {
    run.as_u128().to_be_bytes()
}

fn run_id(row: &Row<'_>, column: usize) -> Result<RunId> {
    Ok(RunId::from_u128(u128::from_be_bytes(row.get(column)?)))
}

/// Any 64 bits, in SQLite's signed integers.
fn bits(value: u64) -> i64 {
    value as i64
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(|value| value as u64)
}

pub(super) fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The numbers of all states.
pub(super) const ALL_STATES: RangeInclusive<i64> = 0..=5;
/// Those of runs that haven't ended.
pub(super) const OPEN_STATES: RangeInclusive<i64> = 0..=1;

fn state_number(state: RunState) -> i64 {
    match state {
        RunState::Open => 0,
        RunState::Closing => 1,
        RunState::Ended(status) => ended_number(status),
    }
}

pub(super) fn ended_number(status: RunStatus) -> i64 {
    match status {
        RunStatus::Succeeded => 2,
        RunStatus::Rejected => 3,
        RunStatus::Failed => 4,
        RunStatus::Cancelled => 5,
    }
}

fn run_state(row: &Row<'_>, column: usize) -> Result<RunState> {
    let number = row.get::<_, i64>(column)?;
    match number {
        0 => Ok(RunState::Open),
        1 => Ok(RunState::Closing),
        2 => Ok(RunState::Ended(RunStatus::Succeeded)),
        3 => Ok(RunState::Ended(RunStatus::Rejected)),
        4 => Ok(RunState::Ended(RunStatus::Failed)),
        5 => Ok(RunState::Ended(RunStatus::Cancelled)),
        _ => Err(rusqlite::Error::IntegralValueOutOfRange(column, number)),
    }
}

// What there is one of.

/// A number of the table `meta`.
pub(super) fn meta(connection: &Connection, name: &str) -> Result<u64> {
    connection.prepare_cached("select value from meta where name = ?1")?.query_row([name], |row| unsigned(row, 0))
}

pub(super) fn set_meta(connection: &Connection, name: &str, value: u64) -> Result<()> {
    connection.prepare_cached("update meta set value = ?2 where name = ?1")?.execute(params![name, bits(value)])?;
    Ok(())
}

// Runs.

pub(super) const RECORD: &str = "select run, pipeline, namespace, state, created, ended,
    (select max(position) from journal where journal.run = runs.run) from runs";

fn record(row: &Row<'_>) -> Result<RunRecord> {
    Ok(RunRecord {
        run: run_id(row, 0)?,
        pipeline: row.get(1)?,
        namespace: row.get(2)?,
        status: run_state(row, 3)?.ended(),
        created: Timestamp(unsigned(row, 4)?),
        ended: row.get::<_, Option<i64>>(5)?.map(|at| Timestamp(at as u64)),
        head: row.get::<_, Option<i64>>(6)?.unwrap_or(0) as u64,
    })
}

pub(super) fn records(connection: &Connection, sql: &str, params: &[&dyn ToSql]) -> Result<Vec<RunRecord>> {
    connection.prepare_cached(sql)?.query_map(params, record)?.collect()
}

pub(super) fn run(connection: &Connection, run: RunId) -> Result<Option<RunRecord>> {
    records(connection, &format!("{RECORD} where run = ?1"), &[&key(run)]).map(|found| found.into_iter().next())
}

/// Newest first; without a `before`, from the newest.
pub(super) fn runs(connection: &Connection, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>> {
    let sql = format!("{RECORD} where run < ?1 order by run desc limit ?2");
    records(connection, &sql, &[&self::before(before), &rows_max(limit)])
}

/// What the keys that are wanted are less than: all are less than the longer one.
pub(super) fn before(before: Option<RunId>) -> Vec<u8> {
    before.map_or([0xff; 17].to_vec(), |run| key(run).to_vec())
}

/// Smallest journal first.
pub(super) fn open_runs(connection: &Connection, shard: Shard) -> Result<Vec<RunRecord>> {
    records(connection, &format!("{RECORD} where shard = ?1 and state < 2 order by 7, run"), &[&shard.0])
}

/// The runs that haven't ended, of all shards.
pub(super) fn active_heads(connection: &Connection) -> Result<Vec<(RunId, RunHead)>> {
    let active: Vec<(RunId, RunState)> = connection
        .prepare("select run, state from runs where state < 2 order by run")?
        .query_map([], |row| Ok((run_id(row, 0)?, run_state(row, 1)?)))?
        .collect::<Result<_>>()?;
    active.into_iter().map(|(run, state)| Ok((run, last_of(connection, run, state)?))).collect()
}

/// Where a run's journal ends, whether or not the run has.
pub(super) fn head(connection: &Connection, run: RunId) -> Result<Option<RunHead>> {
    let state = connection
        .prepare_cached("select state from runs where run = ?1")?
        .query_row([key(run)], |row| run_state(row, 0))
        .optional()?;
    state.map(|state| last_of(connection, run, state)).transpose()
}

fn last_of(connection: &Connection, run: RunId, state: RunState) -> Result<RunHead> {
    connection
        .prepare_cached("select position, append from journal where run = ?1 order by position desc limit 1")?
        .query_row([key(run)], |row| Ok(RunHead { position: unsigned(row, 0)?, append: unsigned(row, 1)?, state }))
}

pub(super) fn insert_run(connection: &Connection, new: &NewRun, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "insert into runs (run, shard, pipeline, namespace, state, created) values (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            key(new.run),
            new.run.shard().0,
            new.pipeline,
            new.namespace,
            state_number(RunState::Open),
            bits(now.0)
        ])?;
    insert_entry(connection, new.run, 1, 0, now, &new.entry)
}

pub(super) fn set_state(connection: &Connection, run: RunId, state: RunState, now: Timestamp) -> Result<()> {
    let ended = state.ended().map(|_| bits(now.0));
    connection.prepare_cached("update runs set state = ?2, ended = ?3 where run = ?1")?.execute(params![
        key(run),
        state_number(state),
        ended
    ])?;
    Ok(())
}

/// A use of an idempotency key, however old.
pub(super) fn key_use(connection: &Connection, namespace: &str, name: &str) -> Result<Option<KeyUse>> {
    connection
        .prepare_cached("select run, submission, at from idempotency where namespace = ?1 and key = ?2")?
        .query_row([namespace, name], |row| {
            Ok(KeyUse {
                run: run_id(row, 0)?,
                submission: Digest::from_bytes(row.get(1)?),
                at: Timestamp(unsigned(row, 2)?),
            })
        })
        .optional()
}

/// Remembers a key, and forgets those used before `oldest`.
pub(super) fn remember_key(
    connection: &Connection,
    namespace: &str,
    name: &str,
    used: KeyUse,
    oldest: Timestamp,
) -> Result<()> {
    connection.prepare_cached("delete from idempotency where at < ?1")?.execute([bits(oldest.0)])?;
    connection
        .prepare_cached("insert into idempotency (namespace, key, run, submission, at) values (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![namespace, name, key(used.run), used.submission.as_bytes(), bits(used.at.0)])?;
    Ok(())
}

// Journals.

pub(super) fn append_entry(connection: &Connection, append: u64, entry: &AppendEntry, now: Timestamp) -> Result<()> {
    insert_entry(connection, entry.run, entry.position, append, now, &entry.body)
}

fn insert_entry(
    connection: &Connection,
    run: RunId,
    position: u64,
    append: u64,
    now: Timestamp,
    body: &[u8],
) -> Result<()> {
    connection
        .prepare_cached("insert into journal (run, position, append, at, body) values (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![key(run), bits(position), bits(append), bits(now.0), body])?;
    Ok(())
}

fn entry(row: &Row<'_>) -> Result<JournalEntry> {
    Ok(JournalEntry {
        position: unsigned(row, 0)?,
        append: unsigned(row, 1)?,
        at: Timestamp(unsigned(row, 2)?),
        body: row.get(3)?,
    })
}

pub(super) fn journal(connection: &Connection, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
    let sql =
        "select position, append, at, body from journal where run = ?1 and position > ?2 order by position limit ?3";
    let params = params![key(run), clamped(after), rows_max(limit)];
    connection.prepare_cached(sql)?.query_map(params, entry)?.collect()
}

/// A position to compare with; stored ones never come near the bound.
pub(super) fn clamped(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

// Commands.

pub(super) fn commands_waiting(connection: &Connection) -> Result<usize> {
    let count: i64 = connection.prepare_cached("select count(*) from commands")?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

pub(super) fn insert_command(connection: &Connection, shard: Shard, event: &[u8]) -> Result<()> {
    connection
        .prepare_cached("insert into commands (shard, event) values (?1, ?2)")?
        .execute(params![shard.0, event])?;
    Ok(())
}

/// A posted event that waits to be taken in.
pub(super) struct Command {
    pub(super) id: i64,
    pub(super) shard: Shard,
    pub(super) event: Vec<u8>,
}

pub(super) fn commands_after(connection: &Connection, after: i64, limit: usize) -> Result<Vec<Command>> {
    connection
        .prepare_cached("select id, shard, event from commands where id > ?1 order by id limit ?2")?
        .query_map(params![after, rows_max(limit)], |row| {
            Ok(Command { id: row.get(0)?, shard: Shard(row.get(1)?), event: row.get(2)? })
        })?
        .collect()
}

pub(super) fn delete_command(connection: &Connection, id: i64) -> Result<()> {
    connection.prepare_cached("delete from commands where id = ?1")?.execute([id])?;
    Ok(())
}

// Documents.

pub(super) fn document(connection: &Connection, name: &str) -> Result<Option<Document>> {
    connection
        .prepare_cached("select version, body from documents where key = ?1")?
        .query_row([name], |row| Ok(Document { version: unsigned(row, 0)?, body: row.get(1)? }))
        .optional()
}

/// The document's version; 0 when it doesn't exist.
pub(super) fn document_version(connection: &Connection, name: &str) -> Result<u64> {
    let version = connection
        .prepare_cached("select version from documents where key = ?1")?
        .query_row([name], |row| unsigned(row, 0))
        .optional()?;
    Ok(version.unwrap_or(0))
}

pub(super) fn put_document(connection: &Connection, name: &str, version: u64, body: &[u8]) -> Result<()> {
    connection
        .prepare_cached("insert or replace into documents (key, version, body) values (?1, ?2, ?3)")?
        .execute(params![name, bits(version), body])?;
    Ok(())
}

pub(super) fn delete_document(connection: &Connection, name: &str) -> Result<()> {
    connection.prepare_cached("delete from documents where key = ?1")?.execute([name])?;
    Ok(())
}

pub(super) fn keys(connection: &Connection, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>> {
    let mut statement =
        connection.prepare_cached("select key from documents where key >= ?1 and key > ?2 order by key limit ?3")?;
    let found: Result<Vec<String>> =
        statement.query_map(params![prefix, after, rows_max(limit)], |row| row.get(0))?.collect();
    Ok(found?.into_iter().take_while(|name| name.starts_with(prefix)).collect())
}

// Logs.

/// The position of a log's last entry; 0 when it has none.
pub(super) fn log_head(connection: &Connection, log: &str) -> Result<u64> {
    let head: Option<i64> = connection
        .prepare_cached("select max(position) from logs where log = ?1")?
        .query_row([log], |row| row.get(0))?;
    Ok(head.map_or(0, |head| head as u64))
}

/// Who wrote the entry of a log at a position.
pub(super) fn log_token(connection: &Connection, log: &str, position: u64) -> Result<Option<u64>> {
    connection
        .prepare_cached("select append from logs where log = ?1 and position = ?2")?
        .query_row(params![log, clamped(position)], |row| unsigned(row, 0))
        .optional()
}

pub(super) fn insert_log(
    connection: &Connection,
    log: &str,
    position: u64,
    token: u64,
    body: &[u8],
    now: Timestamp,
) -> Result<()> {
    connection
        .prepare_cached("insert into logs (log, position, append, at, body) values (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![log, bits(position), bits(token), bits(now.0), body])?;
    Ok(())
}

pub(super) fn log(connection: &Connection, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
    let sql = "select position, append, at, body from logs where log = ?1 and position > ?2 order by position limit ?3";
    connection.prepare_cached(sql)?.query_map(params![log, clamped(after), rows_max(limit)], entry)?.collect()
}

/// Names of logs, found by leaping from one name to the next and not by reading all entries.
pub(super) fn logs(connection: &Connection, prefix: &str) -> Result<Vec<String>> {
    let mut first = connection.prepare_cached("select log from logs where log >= ?1 order by log limit 1")?;
    let mut next = connection.prepare_cached("select log from logs where log > ?1 order by log limit 1")?;
    let mut found: Vec<String> = Vec::new();
    let mut name: Option<String> = first.query_row([prefix], |row| row.get(0)).optional()?;
    while let Some(log) = name.filter(|log| log.starts_with(prefix)) {
        name = next.query_row([&log], |row| row.get(0)).optional()?;
        found.push(log);
    }
    Ok(found)
}
