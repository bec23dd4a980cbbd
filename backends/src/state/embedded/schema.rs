//! The tables of the database, its version and the settings of a connection.
//!
//! A run's head isn't stored: it is the last row of its journal, so that the two can't differ and an append
//! writes one page. Tables without rowids keep a run's entries side by side. The indexes by which runs are listed are in
//! [`super::listing`].

use std::path::Path;
use std::time::Duration;

use gristmill_protocol::limits::STORE_CALL_MS;
use rusqlite::{Connection, TransactionBehavior};

use super::Synchronous;
use super::home::{OpenError, opening_failed};
use super::listing;

/// The version that this program writes, and the highest it reads.
const VERSION: i64 = 1;

/// Pages of the log (64 MiB) at which commits move it themselves, when [`super::checkpoint`] can't keep up.
const LOG_PAGES_MAX: i64 = 16_384;

/// Marks the file as ours: `GMst`.
const APPLICATION: i64 = 0x474d_7374;

const TABLES: &str = "
    create table meta (
        name text primary key,
        value integer not null
    ) without rowid;
    create table runs (
        run blob primary key,
        shard integer not null,
        pipeline text not null,
        namespace text not null,
        state integer not null,
        created integer not null,
        ended integer
    ) without rowid;
    create index runs_active on runs (shard) where state < 2;
    create table journal (
        run blob not null,
        position integer not null,
        append integer not null,
        at integer not null,
        body blob not null,
        primary key (run, position)
    ) without rowid;
    create table idempotency (
        namespace text not null,
        key text not null,
        run blob not null,
        submission blob not null,
        at integer not null,
        primary key (namespace, key)
    ) without rowid;
    create index idempotency_at on idempotency (at);
    create table commands (
        id integer primary key autoincrement,
        shard integer not null,
        event blob not null
    );
    create table documents (
        key text primary key,
        version integer not null,
        body blob not null
    ) without rowid;
    create table logs (
        log text not null,
        position integer not null,
        append integer not null,
        at integer not null,
        body blob not null,
        primary key (log, position)
    ) without rowid;
    insert into meta (name, value) values ('owner', 0), ('document', 0);
";

/// Makes a connection ready: its settings, and the tables if the file is new and `make`.
pub(super) fn prepare(
    connection: &mut Connection,
    path: &Path,
    synchronous: Synchronous,
    make: bool,
) -> Result<(), OpenError> {
    let failed = |verb| move |source| opening_failed(verb, path, source);
    connection.busy_timeout(Duration::from_millis(STORE_CALL_MS)).map_err(failed("open"))?;
    connection.set_prepared_statement_cache_capacity(64);
    // The version comes first: a file of a newer program or of another one isn't touched.
    let version = version(connection, path)?;
    if version > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: VERSION });
    }
    if version == 0 && !make {
        return Err(OpenError::NotFound { home: path.parent().unwrap_or(path).to_owned() });
    }
    connection.pragma_update(None, "journal_mode", "wal").map_err(failed("prepare"))?;
    connection.pragma_update(None, "synchronous", synchronous.pragma()).map_err(failed("prepare"))?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX).map_err(failed("prepare"))?;
    if version == 0 {
        create(connection).map_err(failed("make the tables of"))?;
    }
    listing::make_indexes(connection).map_err(failed("make the indexes of"))
}

/// The version of the tables: 0 when the file is empty.
fn version(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let tables = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
        Ok((pragma("application_id")?, pragma("user_version")?, tables))
    };
    let (application, version, tables) = read().map_err(|source| opening_failed("read", path, source))?;
    if tables > 0 && application != APPLICATION {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    Ok(if tables == 0 { 0 } else { version })
}

/// All tables and the version appear in one step: a crash in between leaves an empty file.
fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
