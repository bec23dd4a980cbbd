//! Lines that couldn't be read: kept apart, counted, and compared with what is tolerated.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use gristmill_protocol::pipeline::steps::{BadLines, ColumnType};
use serde::{Deserialize, Serialize};

use crate::table::{Column, TableError, TableSchema};

/// Bad lines that are kept; the rest is only counted. Ten thousand show any pattern there is.
pub const KEPT_MAX: usize = 10_000;

/// Bytes kept of a bad line.
pub const RAW_BYTES_MAX: usize = 1_024;

/// A line that couldn't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    pub file: String,
    /// The number of the line (of a record over several lines, of its first), from 1.
    pub line: u64,
    pub reason: String,
    /// The line as it stands in the file, up to [`RAW_BYTES_MAX`]; what isn't UTF-8 shows as �.
    pub raw: String,
}

/// The lines that couldn't be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The first of them, in order.
    pub lines: Vec<BadLine>,
    /// How many there were.
    pub total: u64,
    /// Files that broke off, with the line and the reason: nobody knows how much was lost.
    pub cut_short: Vec<BadLine>,
}

impl Quarantine {
    /// Sets a line apart.
    pub fn add(&mut self, file: &Path, line: u64, reason: String, raw: &[u8]) {
        self.total += 1;
        if self.lines.len() < KEPT_MAX {
            let raw = String::from_utf8_lossy(&raw[..raw.len().min(RAW_BYTES_MAX)]).into_owned();
            self.lines.push(BadLine { file: file.display().to_string(), line, reason, raw });
        }
    }

    pub(super) fn cut_short(&mut self, file: &Path, line: u64, reason: &str) {
        let file = file.display().to_string();
        self.cut_short.push(BadLine { file, line, reason: reason.to_owned(), raw: String::new() });
    }

    /// Counts lines on from those before a part of a file.
    pub fn shift(&mut self, lines_before: u64) {
        self.lines.iter_mut().chain(&mut self.cut_short).for_each(|line| line.line += lines_before);
    }

    /// Adds what another unit set apart.
    pub fn merge(&mut self, other: Quarantine) {
        self.total += other.total;
        let room = KEPT_MAX - self.lines.len().min(KEPT_MAX);
        self.lines.extend(other.lines.into_iter().take(room));
        self.cut_short.extend(other.cut_short);
    }

    /// What is over the limits, as a message and a hint; `None` when all is tolerated. `rows` were read, and of what
    /// was set apart it is said that so many `lines can't be read`.
    ///
    /// A file that breaks off is never tolerated, unless everything is (`max_share: 1`): one bad line may
    /// stand for millions that are missing.
    pub fn over(&self, limits: &BadLines, rows: u64, what: &str) -> Option<(String, Option<String>)> {
        if let Some(cut) = self.cut_short.first()
            && limits.max_share < 1.0
        {
            let message = format!("`{}` breaks off at line {} ({})", cut.file, cut.line, cut.reason);
            return Some((
                message,
                Some("fetch the file again, or take what there is with `bad_lines: { max_share: 1 }`".to_owned()),
            ));
        }
        let lines = self.total + rows;
        let share = if lines == 0 { 0.0 } else { self.total as f64 / lines as f64 };
        let over_share = share > limits.max_share;
        if !over_share && limits.max.is_none_or(|max| self.total <= max) {
            return None;
        }
        let tolerated = match limits.max {
            Some(max) if !over_share => format!("{max} are tolerated"),
            _ => format!("{} % is tolerated", limits.max_share * 100.0),
        };
        let first = self.lines.first().map_or(String::new(), |line| {
            format!("; the first is line {} of `{}`: {}", line.line, line.file, line.reason)
        });
        let message = format!("{} of {lines} {what} ({:.2} %), {tolerated}{first}", self.total, share * 100.0);
        let hint = self
            .lines
            .iter()
            .any(|line| line.reason.contains("is not of type"))
            .then(|| "say what the column holds with `types:` (`string` takes anything)".to_owned());
        Some((message, hint))
    }

    /// What the table of bad lines looks like.
    pub fn schema() -> TableSchema {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, nullable: false };
        TableSchema {
            columns: vec![
                column("file", ColumnType::String),
                column("line", ColumnType::Integer),
                column("reason", ColumnType::String),
                column("raw", ColumnType::String),
            ],
        }
    }

    /// The kept lines as a table.
    pub fn to_batch(&self) -> Result<RecordBatch, TableError> {
        let texts = |text: fn(&BadLine) -> &str| -> ArrayRef {
            Arc::new(self.lines.iter().map(|line| Some(text(line))).collect::<StringArray>())
        };
        let numbers: Int64Array = self.lines.iter().map(|line| Some(line.line as i64)).collect();
        let columns = vec![
            texts(|line| &line.file),
            Arc::new(numbers) as ArrayRef,
            texts(|line| &line.reason),
            texts(|line| &line.raw),
        ];
        RecordBatch::try_new(Quarantine::schema().to_arrow(), columns).map_err(TableError::Assemble)
    }
}
