//! Numbers, times and tables as people read them, without colour and in any width of terminal.

use std::fmt;

use gristmill_protocol::Timestamp;
pub use gristmill_scheduler::text::{count, counted, seconds};

/// A size: `812 B`, `1.2 KiB`, `64.0 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_023.95 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A number with the digits that matter: `0.9114`, `12.35`, `1,234.5`, `3.2e-7`; a dash for none.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.2e}");
    }
    if value.fract() == 0.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(size as u64));
    }
    let digits = if size < 10.0 {
        4
    } else if size < 1_000.0 {
        2
    } else {
        1
    };
    let text = format!("{size:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let whole = whole.parse::<u64>().map_or_else(|_| whole.to_owned(), count);
    let sign = if value < 0.0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// A share as a percentage: `0.3%`, `12%`; small ones keep a digit that isn't zero.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if !percent.is_finite() => "–".to_owned(),
        0.0 => "0%".to_owned(),
        _ if percent.abs() < 0.01 => "<0.01%".to_owned(),
        _ if percent.abs() < 1.0 => format!("{percent:.2}%"),
        // All but all, or all but none, isn't all or none.
        _ if percent > 99.9 && percent < 100.0 => ">99.9%".to_owned(),
        _ => format!("{percent:.1}%"),
    }
}

/// A point in time to the second, in UTC so that it reads the same everywhere.
pub fn moment(at: Timestamp) -> String {
    let stamp = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match stamp {
        Some(stamp) => stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{} ms", at.0),
    }
}

/// How long ago something was: `just now`, `3 min ago`, `2 h ago`, `5 d ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.since(then) / 1_000 {
        0..5 => "just now".to_owned(),
        s @ 5..60 => format!("{s} s ago"),
        s @ 60..3_600 => format!("{} min ago", s / 60),
        s @ 3_600..86_400 => format!("{} h ago", s / 3_600),
        s => format!("{} d ago", s / 86_400),
    }
}

/// A text cut to so many characters, with `…` where something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{head}…")
}

/// Columns that are aligned and two spaces apart.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    indent: &'static str,
}

#[derive(Clone, Debug)]
struct Column {
    title: String,
    right: bool,
}

impl Table {
    /// A table without rows. A title that starts with `>` stands over a column aligned to the right.
    pub fn new(titles: &[&str]) -> Table {
        let column =
            |title: &&str| Column { title: title.trim_start_matches('>').to_owned(), right: title.starts_with('>') };
        Table { columns: titles.iter().map(column).collect(), rows: Vec::new(), indent: "" }
    }

    /// The same table, further to the right.
    pub fn indented(mut self, indent: &'static str) -> Table {
        self.indent = indent;
        self
    }

    /// Adds a row: a cell a column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.columns[at].title.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.clone()).collect();
        // A table whose columns have no titles is a list.
        let titled = titles.iter().any(|title| !title.is_empty());
        for row in titled.then_some(&titles).into_iter().chain(&self.rows) {
            let mut line = self.indent.to_owned();
            for (at, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
                let fill = " ".repeat(widths[at] - cell.chars().count());
                let gap = if at == 0 { "" } else { "  " };
                line += &if column.right { format!("{gap}{fill}{cell}") } else { format!("{gap}{cell}{fill}") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        assert_eq!([0, 12, 1_000, 336_776, 1_234_567].map(count), ["0", "12", "1,000", "336,776", "1,234,567"]);
        let values = [0.911_42, 12.345, 1_234.56, -1_234.0, 0.5, 1e-7, f64::NAN, f64::INFINITY, -0.0];
        let read: Vec<String> = values.into_iter().map(number).collect();
        assert_eq!(read, ["0.9114", "12.35", "1,234.6", "-1,234", "0.5", "1.00e-7", "–", "–", "0"]);
        assert_eq!(
            [0.0, 0.000_01, 0.003, 0.123, 0.9999, 1.0].map(percent),
            ["0%", "<0.01%", "0.30%", "12.3%", ">99.9%", "100.0%"]
        );
        assert_eq!([5, 2_048, 64 << 20].map(bytes), ["5 B", "2.0 KiB", "64.0 MiB"]);
        assert_eq!((counted(1, "row"), counted(2, "entry")), ("1 row".to_owned(), "2 entries".to_owned()));
    }

    #[test]
    fn columns_stand_under_their_titles_whatever_the_alphabet() {
        let mut table = Table::new(&["step", ">rows"]);
        table.row(["flights".to_owned(), "12".to_owned()]);
        table.row(["größe".to_owned(), "336,776".to_owned()]);
        assert_eq!(table.to_string(), "step        rows\nflights       12\ngröße    336,776\n");
    }

    #[test]
    fn moments_are_told_in_utc_and_as_ages() {
        let at = Timestamp(1_735_787_045_000);
        assert_eq!(moment(at), "2025-01-02 03:04:05 UTC");
        assert_eq!(
            [1_000, 30_000, 200_000, 7_300_000, 400_000_000].map(|ms| ago(at, at.plus_ms(ms))),
            ["just now", "30 s ago", "3 min ago", "2 h ago", "4 d ago"]
        );
    }
}
