//! Datasets column by column, the rules they were held to, and how they were split.

use gristmill_ml::expect::Outcome;
use gristmill_ml::profile::{ColumnProfile, Scalar, TableProfile};
use gristmill_ml::table::kind_name;
use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::{ColumnType, Severity};
use gristmill_scheduler::history::History;

use super::charts;
use super::gather::{Check, Dataset, Findings};
use super::page::{note, section, table};
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Columns of a profile that are shown.
const COLUMNS_SHOWN: usize = 200;
/// Frequent values of a column that are shown.
const VALUES_SHOWN: usize = 5;
/// Characters of a value that are shown.
const VALUE_CHARS: usize = 28;

/// The section on data, if the run made any.
pub fn section_of(m: &mut Markup, history: &History, findings: &Findings) {
    if findings.datasets.is_empty() && findings.checks.is_empty() {
        return;
    }
    section(m, "data", "Data", |m| {
        for check in &findings.checks {
            rules(m, check);
        }
        splits(m, history);
        // The parts of a split look like what was split; their sizes say what matters.
        let mut open = true;
        for dataset in findings.datasets.iter().filter(|dataset| dataset.part.is_none()) {
            show(m, dataset, open);
            open = false;
        }
    });
}

fn rules(m: &mut Markup, check: &Check) {
    m.leaf("h3", &[], &format!("Expectations of {}", check.step));
    let report = match &check.report {
        Ok(report) => report,
        Err(why) => return note(m, &format!("They can't be shown: {why}.")),
    };
    let broken = report.outcomes.iter().filter(|outcome| !outcome.passed).count();
    let verdict = match (report.accepted, broken) {
        (true, 0) => "all of them hold".to_owned(),
        (true, broken) => format!("accepted, with {}", text::counted(broken as u64, "warning")),
        (false, broken) => format!("rejected: {broken} of {} don't hold", report.outcomes.len()),
    };
    note(m, &format!("{}: {verdict}.", text::counted(report.rows, "row")));
    let headings = ["outcome", "check", "column", "what was found", ">failing", "severity"];
    table(m, &format!("Expectations of {}", check.step), &headings, |m| {
        report.outcomes.iter().for_each(|outcome| rule(m, outcome));
    });
}

fn rule(m: &mut Markup, outcome: &Outcome) {
    m.el("tr", &[], |m| {
        let (look, sign) = match (outcome.passed, outcome.severity) {
            (true, _) => ("badge is-good", "✓ holds"),
            (false, Severity::Error) => ("badge is-bad", "✕ broken"),
            (false, _) => ("badge is-rejected", "! warning"),
        };
        m.el("td", &[], |m| m.leaf("span", &[class(look)], sign));
        m.leaf("td", &[], outcome.check.as_str());
        m.leaf("th", &[attr("scope", "row")], outcome.column.as_deref().unwrap_or("–"));
        m.leaf("td", &[], &outcome.message);
        let failing = match outcome.failing {
            0 => "0".to_owned(),
            failing => format!("{} ({})", text::count(failing), text::percent(outcome.share)),
        };
        m.leaf("td", &[class("number")], &failing);
        let severity = if outcome.severity == Severity::Error { "error" } else { "warning" };
        m.leaf("td", &[], severity);
    });
}

/// Each split as one bar, cut where the parts are.
fn splits(m: &mut Markup, history: &History) {
    for step in &history.steps {
        let Some(Output::Parts { parts }) = &step.output else { continue };
        m.leaf("h3", &[], &format!("Split {}", step.name));
        let rows: u64 = parts.values().map(|part| part.rows).sum();
        let share = |part: u64| part as f64 / rows.max(1) as f64;
        m.el("div", &[class("stack"), attr("aria-hidden", "true")], |m| {
            for (at, part) in parts.values().enumerate() {
                let width = attr("style", format!("width:{:.2}%", share(part.rows) * 100.0));
                m.leaf("span", &[class(&format!("c{at}")), width], "");
            }
        });
        table(m, &format!("Parts of {}", step.name), &["", "part", ">rows", ">share"], |m| {
            for (at, (name, part)) in parts.iter().enumerate() {
                m.el("tr", &[], |m| {
                    m.el("td", &[class("key")], |m| m.leaf("span", &[class(&format!("swatch c{at}"))], ""));
                    m.leaf("th", &[attr("scope", "row")], name);
                    m.leaf("td", &[class("number")], &text::count(part.rows));
                    m.leaf("td", &[class("number")], &text::percent(share(part.rows)));
                });
            }
        });
    }
}

fn show(m: &mut Markup, dataset: &Dataset, open: bool) {
    let columns = match &dataset.manifest {
        Ok(manifest) => {
            let bytes: u64 = manifest.partitions.iter().map(|partition| partition.bytes).sum();
            format!(
                ", {}, {} of {}",
                text::counted(manifest.schema.columns.len() as u64, "column"),
                text::counted(manifest.partitions.len() as u64, "partition"),
                text::bytes(bytes)
            )
        }
        Err(_) => String::new(),
    };
    let mut attrs = Vec::new();
    if open {
        attrs.push(attr("open", "open"));
    }
    m.el("details", &attrs, |m| {
        m.el("summary", &[], |m| {
            m.leaf("strong", &[], &dataset.step);
            m.text(&format!(" {}{columns}", text::counted(dataset.rows, "row")));
        });
        if let Some((lines, digest)) = dataset.quarantined {
            let lines = text::counted(lines, "line");
            note(m, &format!("{lines} couldn't be read; the first of them are in artifact {}.", digest.short()));
        }
        match (&dataset.manifest, &dataset.profile) {
            (Err(why), _) => note(m, &format!("Its columns can't be shown: {why}.")),
            (Ok(_), Some(Ok(profile))) => columns_table(m, &dataset.step, profile),
            (Ok(_), Some(Err(why))) => note(m, &format!("Its columns can't be told in numbers: {why}.")),
            (Ok(manifest), None) => {
                let column =
                    |column: &gristmill_ml::table::Column| format!("{} ({})", column.name, kind_name(column.kind));
                let columns: Vec<String> = manifest.schema.columns.iter().map(column).collect();
                note(m, &format!("No profile was made. Its columns: {}.", columns.join(", ")));
            }
        }
    });
}

fn columns_table(m: &mut Markup, step: &str, profile: &TableProfile) {
    let headings = [
        "column",
        "distribution",
        ">missing",
        ">distinct",
        ">min",
        ">25%",
        ">median",
        ">75%",
        ">max",
        ">mean",
        "most frequent",
    ];
    table(m, &format!("Columns of {step}"), &headings, |m| {
        profile.columns.iter().take(COLUMNS_SHOWN).for_each(|column| column_row(m, column, profile.rows));
    });
    if profile.columns.len() > COLUMNS_SHOWN {
        let more = text::counted((profile.columns.len() - COLUMNS_SHOWN) as u64, "more column");
        note(m, &format!("{more} are left out."));
    }
    if profile.columns.iter().any(|column| column.approximate) {
        note(m, "≈ marks estimates: there were too many different values to count them all.");
    }
}

fn column_row(m: &mut Markup, column: &ColumnProfile, rows: u64) {
    let show = |value: f64| value_text(column.kind, value);
    let about = if column.approximate { "≈ " } else { "" };
    m.el("tr", &[], |m| {
        m.el("th", &[attr("scope", "row"), class("column")], |m| {
            m.text(&column.name);
            m.leaf("small", &[], kind_name(column.kind));
        });
        m.el("td", &[], |m| match &column.histogram {
            Some(histogram) => charts::small_histogram(m, histogram, show),
            None => frequencies(m, column, rows),
        });
        let share = column.nulls as f64 / rows.max(1) as f64;
        let missing = if column.nulls == 0 { "0".to_owned() } else { text::percent(share) };
        m.leaf("td", &[class("number"), attr("title", text::counted(column.nulls, "row"))], &missing);
        m.leaf("td", &[class("number")], &format!("{about}{}", text::count(column.distinct)));
        m.leaf("td", &[class("number")], &column.min.as_ref().map(scalar).unwrap_or_default());
        for wanted in [0.25, 0.5, 0.75] {
            let quantile = column.quantiles.iter().find(|quantile| (quantile.share - wanted).abs() < 1e-9);
            m.leaf("td", &[class("number")], &quantile.map(|quantile| show(quantile.value)).unwrap_or_default());
        }
        m.leaf("td", &[class("number")], &column.max.as_ref().map(scalar).unwrap_or_default());
        let mean = match (column.mean, column.std) {
            (Some(mean), Some(std)) => format!("{} ± {}", text::number(mean), text::number(std)),
            (Some(mean), None) if column.kind == ColumnType::Boolean => format!("{} true", text::percent(mean)),
            (Some(mean), None) => text::number(mean),
            (None, _) => String::new(),
        };
        m.leaf("td", &[class("number")], &mean);
        m.leaf("td", &[class("values")], &frequent(column, rows));
    });
}

/// The most frequent values as bars in the space of a cell, for columns that have no histogram.
fn frequencies(m: &mut Markup, column: &ColumnProfile, rows: u64) {
    const WIDTH: f64 = 132.0;
    const HEIGHT: f64 = 34.0;
    if column.top.is_empty() {
        return;
    }
    let shown = column.top.len().min(12);
    let most = column.top.iter().map(|top| top.count).max().unwrap_or(1).max(1) as f64;
    let attrs = [
        class("small"),
        attr("viewBox", format!("0 0 {WIDTH} {HEIGHT}")),
        attr("role", "img"),
        attr("aria-label", format!("the {shown} most frequent values")),
    ];
    m.el("svg", &attrs, |m| {
        let width = (WIDTH / shown as f64).min(28.0);
        for (at, top) in column.top.iter().take(shown).enumerate() {
            let height = (top.count as f64 / most * (HEIGHT - 2.0)).max(1.0);
            let shape =
                super::svg::Shape { x: at as f64 * width, y: HEIGHT - height, width: (width - 2.0).max(1.0), height };
            let share = text::percent(top.count as f64 / rows.max(1) as f64);
            let title = format!("{}: {}, {share}", scalar(&top.value), text::counted(top.count, "row"));
            super::svg::rect(m, "fill other", shape, &title);
        }
        super::svg::line(m, "axis", (0.0, HEIGHT), (WIDTH, HEIGHT));
    });
}

fn frequent(column: &ColumnProfile, rows: u64) -> String {
    let value = |top: &gristmill_ml::profile::TopValue| {
        let share = text::percent(top.count as f64 / rows.max(1) as f64);
        format!("{} {share}", text::cut(&scalar(&top.value), VALUE_CHARS))
    };
    column.top.iter().take(VALUES_SHOWN).map(value).collect::<Vec<_>>().join(" · ")
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Boolean(value) => value.to_string(),
        Scalar::Integer(value) => {
            let sign = if *value < 0 { "-" } else { "" };
            format!("{sign}{}", text::count(value.unsigned_abs()))
        }
        Scalar::Float(value) => text::number(*value),
        Scalar::Text(text) => text::cut(text, VALUE_CHARS),
    }
}

/// A value of a column that is kept as a number: days since 1970 are days, microseconds are instants.
fn value_text(kind: ColumnType, value: f64) -> String {
    const DAY_MS: f64 = 86_400_000.0;
    let instant = |ms: f64| jiff::Timestamp::from_millisecond(ms.round() as i64).ok();
    let shown = match kind {
        ColumnType::Date => instant(value * DAY_MS).map(|at| at.strftime("%Y-%m-%d").to_string()),
        ColumnType::Timestamp => instant(value / 1e3).map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()),
        _ => None,
    };
    shown.unwrap_or_else(|| text::number(value))
}
