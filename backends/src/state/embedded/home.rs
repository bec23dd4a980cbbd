//! A home folder: who may own it, what stands in the way of opening it, and its database's file.
//!
//! One process owns a home at a time. The lock is the operating system's and ends with the process however
//! that ends; the number written in the file is for people only.

use std::error::Error;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Synchronous;
use super::schema;
use crate::state::StateError;

/// Why a home can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("there is no home at `{}`", home.display())]
    NotFound { home: PathBuf },
    #[error("the home `{}` is in use by {}", home.display(), process(*pid))]
    InUse { home: PathBuf, pid: Option<u32> },
    #[error("failed to {verb} `{}`", path.display())]
    Io { verb: &'static str, path: PathBuf, source: std::io::Error },
    #[error("failed to {verb} the database `{}`", path.display())]
    Database { verb: &'static str, path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("the database `{}` is damaged, or no database at all", path.display())]
    Damaged { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("the database `{}` belongs to another program", path.display())]
    Foreign { path: PathBuf },
    #[error("the database `{}` has version {found}; this program reads versions up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
}

impl OpenError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            OpenError::NotFound { .. } => Some("a home is made by the first `gristmill run` in it".to_owned()),
            OpenError::InUse { pid: Some(pid), .. } => {
                Some(format!("wait for process {pid} to end, stop it with `kill {pid}`, or use another home"))
            }
            OpenError::InUse { pid: None, .. } => Some("wait for that process to end, or use another home".to_owned()),
            OpenError::Io { source, .. } => io_hint(source),
            OpenError::Database { .. } => {
                Some("check that the disk isn't full and that the home can be written to".to_owned())
            }
            OpenError::Damaged { path, .. } => Some(format!(
                "move `{}` (and the files beside it with the same start) away to begin anew; artifacts aren't lost with it",
                path.display()
            )),
            OpenError::Foreign { .. } => Some("use another home".to_owned()),
            OpenError::Newer { .. } => Some("update gristmill, or use another home".to_owned()),
        }
    }
}

fn io_hint(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("the home must be a folder that can be written to; use another home".to_owned())
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Some("a part of that path is a file; use another home".to_owned())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room on the disk".to_owned()),
        _ => None,
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
}

/// The lock of a home; given up when it is dropped.
#[derive(Debug)]
pub(super) struct HomeLock(#[expect(dead_code, reason = "the lock holds for as long as the file is open")] File);

impl HomeLock {
    /// Makes the home if need be and takes its lock.
    pub(super) fn take(home: &Path) -> Result<HomeLock, OpenError> {
        let failed = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { verb, path, source }
        };
        fs::create_dir_all(home).map_err(failed("make the folder", home))?;
        let path = home.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever has the lock may not have written its number yet; the name is a courtesy.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { home: home.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        file.set_len(0).map_err(failed("write", &path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write", &path))?;
        Ok(HomeLock(file))
    }
}

/// The database of a home.
pub(super) fn database_path(home: &Path) -> PathBuf {
    home.join("state.db")
}

/// Opens the database, and makes it if `make`.
pub(super) fn connect(path: &Path, synchronous: Synchronous, make: bool) -> Result<Connection, OpenError> {
    // Every connection here is behind a mutex of ours.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if make {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let failed = |verb| move |source| opening_failed(verb, path, source);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed("open"))?;
    schema::prepare(&mut connection, path, synchronous, make)?;
    Ok(connection)
}

pub(super) fn opening_failed(verb: &'static str, path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Damaged { path, source: cause(&source) }
        }
        _ => OpenError::Database { verb, path, source: cause(&source) },
    }
}

/// What SQLite says, once: its error and that error's source say the same in other words. The number tells
/// apart the many kinds of `disk I/O error` (sqlite.org/rescode.html).
fn cause(error: &rusqlite::Error) -> Box<dyn Error + Send + Sync> {
    match error.sqlite_error() {
        Some(code) => format!("{error} (SQLite's code {})", code.extended_code).into(),
        None => error.to_string().into(),
    }
}

/// The state's error for a failed statement.
pub(super) fn failed(verb: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StateError::Damaged { verb, detail: source.to_string() }
        }
        _ => StateError::Unavailable { verb, source: cause(&source) },
    }
}
