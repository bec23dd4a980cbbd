//! Moves what was written from the log into the database, beside the writer instead of inside its commits.
//!
//! SQLite does this by itself in whichever commit makes the log too long, and that append would wait for the
//! disk for tens of milliseconds. Here a thread does it early. SQLite's own rule stays as the bound for when
//! the thread can't keep up: see [`super::schema`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// Pages of the log after which it is moved: SQLite's own default.
const PAGES: usize = 1_000;
const PAGE_BYTES: usize = 4_096;
/// Pages that a transaction writes whatever it holds: a leaf and what is above it.
const PAGES_AT_LEAST: usize = 2;

/// The thread that moves the log, while this is held.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pages: AtomicUsize,
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(connection: Connection) -> Checkpoints {
        let (due, received) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("gristmill-checkpoint".to_owned())
            .spawn(move || run(&connection, &received))
            // Without the thread, commits do its work.
            .inspect_err(|error| tracing::warn!(%error, "failed to start the thread for checkpoints"))
            .ok();
        Checkpoints { pages: AtomicUsize::new(0), due: Some(due), thread }
    }

    /// Says that a transaction with so many bytes of bodies was committed.
    pub(super) fn written(&self, bytes: usize) {
        let pages = PAGES_AT_LEAST + bytes / PAGE_BYTES;
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages >= PAGES {
            self.pages.store(0, Ordering::Relaxed);
            if let Some(due) = &self.due {
                // When one waits already, that one does for both.
                let _ = due.try_send(());
            }
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and nothing leans on the thread.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, due: &Receiver<()>) {
    while due.recv().is_ok() {
        // `passive` waits for nobody: what is in use stays in the log until the next time.
        if let Err(error) = connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(())) {
            tracing::warn!(%error, "failed to move the log into the database; commits will try");
        }
    }
}
