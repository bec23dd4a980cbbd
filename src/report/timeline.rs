//! Who worked on what, when: a row for each slot of each worker.
//!
//! Slots aren't recorded; attempts of a worker that overlap are put in rows below each other. Time in which
//! the run had ended isn't drawn.

use std::collections::BTreeMap;

use gristmill_protocol::{Timestamp, WorkerId};
use gristmill_scheduler::history::{AttemptHistory, AttemptOutcome, History};

use super::svg::{Scale, Shape, label, line, px, rect};
use crate::text;
use crate::trace::Axis;
use gristmill_markup::{Markup, attr, class};

const WIDTH: f64 = 980.0;
const LEFT: f64 = 96.0;
const ROW: f64 = 20.0;
const TOP: f64 = 26.0;
/// Rows a worker gets at the most; what doesn't fit shares the last one.
const ROWS_MAX: usize = 32;
/// Workers that are drawn; more don't fit on a page.
const WORKERS_MAX: usize = 40;
/// Colours that steps take in turn.
pub const COLOURS: usize = 6;
/// Pixels that a letter of a bar's label takes.
const LETTER: f64 = 6.2;

/// The timeline as SVG, with a sentence on what isn't in it.
pub fn draw(m: &mut Markup, history: &History, now: Timestamp) {
    if history.attempts.is_empty() {
        m.leaf("p", &[class("note")], "No work was done.");
        return;
    }
    let mut by_worker: BTreeMap<Option<WorkerId>, Vec<&AttemptHistory>> = BTreeMap::new();
    for attempt in &history.attempts {
        by_worker.entry(attempt.worker).or_default().push(attempt);
    }
    let hidden = by_worker.len().saturating_sub(WORKERS_MAX);
    let now_us = now.0.saturating_mul(1_000);
    let lanes: Vec<(String, Vec<Vec<&AttemptHistory>>)> = by_worker
        .into_iter()
        .take(WORKERS_MAX)
        .map(|(worker, attempts)| (worker_name(worker), rows(&attempts, now_us)))
        .collect();
    let rows: usize = lanes.iter().map(|(_, rows)| rows.len()).sum();
    let height = TOP + rows as f64 * ROW + lanes.len() as f64 * 8.0;
    let attempts = text::counted(history.attempts.len() as u64, "attempt");
    let attrs = [
        class("timeline"),
        attr("viewBox", format!("0 0 {WIDTH} {}", px(height))),
        attr("width", WIDTH),
        attr("height", px(height)),
        attr("role", "img"),
        attr("aria-label", format!("timeline of {attempts} by {}", text::counted(lanes.len() as u64, "worker"))),
    ];
    m.el(
        "div",
        &[class("scroll"), attr("tabindex", "0"), attr("role", "region"), attr("aria-label", "timeline")],
        |m| {
            m.el("svg", &attrs, |m| {
                let axis = Axis::new(history, now);
                times(m, &axis, height);
                let mut y = TOP;
                for (worker, rows) in &lanes {
                    label(m, "tick", (0.0, y + 14.0), worker);
                    for row in rows {
                        row.iter().for_each(|attempt| bar(m, &axis, history, attempt, now_us, y));
                        y += ROW;
                    }
                    y += 8.0;
                }
            });
        },
    );
    notes(m, history, hidden);
}

fn notes(m: &mut Markup, history: &History, hidden: usize) {
    let mut notes = Vec::new();
    if history.attempts_left_out > 0 {
        let left_out = text::counted(history.attempts_left_out, "shorter attempt");
        notes.push(format!("{left_out} of parallel tasks are not drawn."));
    }
    if hidden > 0 {
        notes.push(format!("{} more are not drawn.", text::counted(hidden as u64, "worker")));
    }
    if history.lives.len() > 1 {
        notes.push("The time in which the run had ended is left out.".to_owned());
    }
    notes.push("Hatched bars did not succeed; pale ones found an earlier result.".to_owned());
    m.leaf("p", &[class("note")], &notes.join(" "));
}

fn worker_name(worker: Option<WorkerId>) -> String {
    // The last digits tell workers apart as well as all sixteen.
    worker.map_or_else(|| "not yet taken".to_owned(), |worker| format!("w-…{:06x}", worker.0 & 0xff_ffff))
}

/// Attempts in rows in which none overlaps another.
fn rows<'a>(attempts: &[&'a AttemptHistory], now_us: u64) -> Vec<Vec<&'a AttemptHistory>> {
    let mut rows: Vec<Vec<&AttemptHistory>> = Vec::new();
    let mut ends: Vec<u64> = Vec::new();
    for attempt in attempts {
        let end = end_us(attempt, now_us);
        let free = ends.iter().position(|row_end| *row_end <= attempt.started_us);
        let row = match free {
            Some(row) => row,
            None if rows.len() < ROWS_MAX => {
                rows.push(Vec::new());
                ends.push(0);
                rows.len() - 1
            }
            None => ROWS_MAX - 1,
        };
        rows[row].push(attempt);
        ends[row] = ends[row].max(end);
    }
    rows
}

fn end_us(attempt: &AttemptHistory, now_us: u64) -> u64 {
    match attempt.took_us {
        Some(took) => attempt.started_us.saturating_add(took),
        None => now_us.max(attempt.started_us),
    }
}

/// Vertical lines at round times.
fn times(m: &mut Markup, axis: &Axis, height: f64) {
    let seconds = axis.total_seconds();
    let scale = Scale::new(0.0, seconds, LEFT, WIDTH - 8.0);
    for tick in scale.ticks(8) {
        let x = scale.at(tick);
        line(m, "grid", (x, TOP - 8.0), (x, height));
        let shown = if tick == 0.0 { "0".to_owned() } else { text::seconds(tick) };
        label(m, "tick middle", (x, 12.0), &shown);
    }
}

fn bar(m: &mut Markup, axis: &Axis, history: &History, attempt: &AttemptHistory, now_us: u64, y: f64) {
    let place = |us: u64| LEFT + axis.place(us) * (WIDTH - 8.0 - LEFT);
    let (from, to) = (place(attempt.started_us), place(end_us(attempt, now_us)));
    let width = (to - from).max(1.5);
    let step = usize::from(history.groups[attempt.group].view.step);
    let (look, bad) = match &attempt.outcome {
        AttemptOutcome::Succeeded { cached: true } => ("pale", false),
        AttemptOutcome::Succeeded { .. } | AttemptOutcome::Expanded { .. } | AttemptOutcome::Running => ("", false),
        _ => ("", true),
    };
    let seconds = text::seconds(end_us(attempt, now_us).saturating_sub(attempt.started_us) as f64 / 1e6);
    let title = format!("{} attempt {}: {seconds}, {}", attempt.name, attempt.number, attempt.outcome.as_str());
    let shape = Shape { x: from, y: y + 2.0, width, height: ROW - 4.0 };
    rect(m, &format!("work c{} {look}", step % COLOURS), shape, &title);
    if bad {
        rect(m, "hatch", shape, &title);
    }
    let name = &attempt.name;
    if name.chars().count() as f64 * LETTER + 8.0 < width {
        label(m, "bar-label", (from + 5.0, y + 14.0), name);
    }
}
