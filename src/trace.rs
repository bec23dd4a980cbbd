//! `trace`: a run as a waterfall from its journal, and as the spans of its trace.
//!
//! The run's id is the trace's id and an attempt's span is the one that workers use, so what is printed
//! here and what a collector shows are the same tree. Time in which the run had ended isn't drawn.

use gristmill_protocol::{Digest, RunId, Timestamp};
use gristmill_scheduler::history::{AttemptHistory, AttemptOutcome, GroupHistory, History};
use gristmill_scheduler_core::GroupKind;
use serde_json::{Map, Value, json};

use crate::text;

/// Children of one expansion that get a line each; more are told together.
const CHILDREN_SHOWN: usize = 20;
/// Of more children than that, those that took longest still get a line.
const LONGEST_SHOWN: usize = 4;
/// Lines of one step: beyond it, deeper expansions are told together.
const STEP_LINES_MAX: usize = 200;
/// Columns of names and of bars at the least.
const NAME_WIDTH_MAX: usize = 40;
const BAR_WIDTH_MIN: usize = 10;

/// The run's active time as a line from 0 to 1.
pub struct Axis {
    /// From and to in microseconds, one after the other.
    stretches: Vec<(u64, u64)>,
    total_us: u64,
}

impl Axis {
    /// The time in which the run was open, until `now` if it still is.
    pub fn new(history: &History, now: Timestamp) -> Axis {
        let stretch = |life: &gristmill_scheduler::history::Life| {
            let to = life.ended.map_or(now, |(at, _)| at);
            (life.from.0.saturating_mul(1_000), to.0.saturating_mul(1_000).saturating_add(1_000))
        };
        let stretches: Vec<(u64, u64)> = history.lives.iter().map(stretch).collect();
        let total_us = stretches.iter().map(|(from, to)| to.saturating_sub(*from)).sum::<u64>().max(1);
        Axis { stretches, total_us }
    }

    /// Where a point in time lies; what lies outside is drawn at the nearest end.
    pub fn place(&self, at_us: u64) -> f64 {
        let before = |(from, to): &(u64, u64)| at_us.clamp(*from, (*to).max(*from)) - from;
        self.stretches.iter().map(before).sum::<u64>() as f64 / self.total_us as f64
    }

    /// How long the line is.
    pub fn total_seconds(&self) -> f64 {
        self.total_us as f64 / 1e6
    }
}

/// One line of the waterfall.
struct Line {
    name: String,
    span: Option<(u64, u64)>,
    /// Whether the bar stands for several attempts, with gaps between them.
    many: bool,
    note: String,
}

/// The waterfall in a terminal of `width` columns. Bars of open attempts end `now`.
pub fn trace_text(history: &History, now: Timestamp, width: usize) -> String {
    let now_us = now.0.saturating_mul(1_000);
    let lines = lines(history, now, now_us);
    let name_width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0).min(NAME_WIDTH_MAX);
    let note_width = lines.iter().map(|line| line.note.chars().count()).max().unwrap_or(0);
    let bar_width = width.saturating_sub(name_width + note_width + 4).max(BAR_WIDTH_MIN);
    let axis = Axis::new(history, now);
    let mut out = String::new();
    for line in &lines {
        let bar = match line.span {
            Some((from, to)) => bar(axis.place(from), axis.place(to), bar_width, line.many),
            None => " ".repeat(bar_width),
        };
        let name = text::cut(&line.name, name_width);
        let text = format!("{name:<name_width$}  {bar}  {}", line.note);
        out += text.trim_end();
        out.push('\n');
    }
    if history.attempts_left_out > 0 {
        let left_out = text::counted(history.attempts_left_out, "more attempt");
        out += &format!("{left_out} are only counted above: the longest are kept\n");
    }
    out
}

fn lines(history: &History, now: Timestamp, now_us: u64) -> Vec<Line> {
    let from = history.created.0.saturating_mul(1_000);
    let to = history.ended().map_or(now_us, |at| at.0.saturating_mul(1_000));
    let note = format!("{} {}", text::seconds(history.seconds(now)), history.status_name());
    let root = history.plan.pipeline.clone();
    let mut lines = vec![Line { name: root, span: Some((from, to)), many: false, note }];
    let by_group = attempts_by_group(history);
    for (at, step) in history.steps.iter().enumerate() {
        let running_since = step.out_since.map(|since| since.0.saturating_mul(1_000));
        let span = match (step.tally.span_us, running_since) {
            (Some((from, _)), Some(_)) => Some((from, now_us)),
            (Some(span), None) => Some(span),
            (None, Some(since)) => Some((since, now_us)),
            (None, None) => None,
        };
        let mut note = Vec::new();
        if span.is_some() {
            note.push(text::seconds(step.seconds_until(now)));
        }
        match (step.state, step.is_cached()) {
            (_, true) => note.push("cached".to_owned()),
            (gristmill_scheduler::history::StepState::Succeeded, false) => {}
            (state, false) => note.push(state.as_str().to_owned()),
        }
        let many = history.lives.len() > 1 && step.tally.attempts > 1;
        lines.push(Line { name: format!("├ {}", step.name), span, many, note: note.join(" ") });
        let groups = history.groups.iter().enumerate().filter(|(_, group)| usize::from(group.view.step) == at);
        let groups: Vec<(usize, &GroupHistory)> = groups.collect();
        // A step whose one attempt succeeded has been told by its own line.
        if groups.len() == 1 && step.tally.attempts + u64::from(step.out) <= 1 {
            continue;
        }
        let before = lines.len();
        for (position, (group_at, group)) in groups.iter().enumerate() {
            if lines.len() - before >= STEP_LINES_MAX {
                lines.push(rest_of_groups(&groups[position..]));
                break;
            }
            group_lines(group, by_group.get(*group_at).map_or(&[], Vec::as_slice), now_us, &mut lines);
        }
    }
    lines
}

fn attempts_by_group(history: &History) -> Vec<Vec<&AttemptHistory>> {
    let mut by_group = vec![Vec::new(); history.groups.len()];
    for attempt in &history.attempts {
        by_group[attempt.group].push(attempt);
    }
    by_group
}

/// The lines of one group: an attempt each, or those that tell most and the others together.
fn group_lines(group: &GroupHistory, attempts: &[&AttemptHistory], now_us: u64, lines: &mut Vec<Line>) {
    let all = group.tally.attempts + attempts.iter().filter(|attempt| attempt.took_us.is_none()).count() as u64;
    if group.view.kind != GroupKind::Children || all <= CHILDREN_SHOWN as u64 {
        lines.extend(attempts.iter().map(|attempt| attempt_line(attempt, now_us)));
        return;
    }
    let plain = |attempt: &AttemptHistory| matches!(attempt.outcome, AttemptOutcome::Succeeded { .. });
    let mut shown: Vec<&AttemptHistory> =
        attempts.iter().copied().filter(|attempt| !plain(attempt)).take(CHILDREN_SHOWN).collect();
    let mut longest: Vec<&AttemptHistory> = attempts.iter().copied().filter(|attempt| plain(attempt)).collect();
    longest.sort_by_key(|attempt| (std::cmp::Reverse(attempt.took_us), attempt.task));
    shown.extend(longest.into_iter().take(LONGEST_SHOWN));
    shown.sort_by_key(|attempt| (attempt.started_us, attempt.task, attempt.number));
    lines.extend(shown.iter().map(|attempt| attempt_line(attempt, now_us)));
    let more = all - shown.len() as u64;
    let told: u64 = shown.iter().filter_map(|attempt| attempt.took_us).sum();
    let each = group.tally.busy_us.saturating_sub(told) as f64 / 1e6 / more.max(1) as f64;
    let cached = match group.tally.cached {
        0 => String::new(),
        count => format!(", {} cached", text::count(count)),
    };
    let note = format!("{} each{cached}", text::seconds(each));
    lines.push(Line {
        name: format!("│   … {} more", text::count(more)), span: group.tally.span_us, many: true, note
    });
}

fn attempt_line(attempt: &AttemptHistory, now_us: u64) -> Line {
    let number = if attempt.number > 1 { format!(" (attempt {})", attempt.number) } else { String::new() };
    let took_us = attempt.took_us.unwrap_or(now_us.saturating_sub(attempt.started_us));
    let outcome = match &attempt.outcome {
        AttemptOutcome::Succeeded { cached: false } => String::new(),
        AttemptOutcome::Expanded { children } => {
            format!(" → {}", text::counted(u64::from(*children), "task"))
        }
        outcome => format!(" {}", outcome.as_str()),
    };
    Line {
        name: format!("│ ├ {}{number}", attempt.name),
        span: Some((attempt.started_us, attempt.started_us.saturating_add(took_us))),
        many: false,
        note: format!("{}{outcome}", text::seconds(took_us as f64 / 1e6)),
    }
}

/// Expansions within expansions past the limit of lines, together.
fn rest_of_groups(groups: &[(usize, &GroupHistory)]) -> Line {
    let mut tally = gristmill_scheduler::history::Tally::default();
    groups.iter().for_each(|(_, group)| tally.add(&group.tally));
    let each = text::seconds(tally.mean_seconds().unwrap_or(0.0));
    Line {
        name: format!("│   … {} more", text::count(tally.attempts)),
        span: tally.span_us,
        many: true,
        note: format!("{each} each"),
    }
}

/// A bar between two places of 0 to 1, to an eighth of a column at its end; never empty.
fn bar(from: f64, to: f64, width: usize, many: bool) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let clamp = |place: f64| (place.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let (from, to) = (clamp(from), clamp(to));
    let first = (from / 8).min(width - 1);
    let end = to.max(first * 8 + 1);
    let (full, rest) = (if many { '▒' } else { '█' }, end % 8);
    let mut bar = " ".repeat(first);
    bar.extend(std::iter::repeat_n(full, end / 8 - first));
    if rest > 0 && bar.chars().count() < width {
        bar.push(if many { '▒' } else { EIGHTHS[rest] });
    }
    let drawn = bar.chars().count();
    bar + &" ".repeat(width.saturating_sub(drawn))
}

/// The spans of the run's trace: the run, its steps and the attempts that were kept.
pub fn trace_json(history: &History, now: Timestamp) -> Value {
    let run = history.run;
    let now_us = now.0.saturating_mul(1_000);
    let root = span_of(run, "");
    let ended = history.ended().map_or(now_us, |at| at.0.saturating_mul(1_000));
    let mut attributes = Map::new();
    attributes.insert("status".to_owned(), history.status_name().into());
    if history.attempts_left_out > 0 {
        attributes.insert("attempts_left_out".to_owned(), history.attempts_left_out.into());
    }
    let started = history.created.0.saturating_mul(1_000);
    let mut spans = vec![span(run, &root, None, &history.plan.pipeline, (started, ended), attributes)];
    for step in &history.steps {
        let Some((from, to)) = step.tally.span_us.or(step.out_since.map(|at| (at.0 * 1_000, now_us))) else {
            continue;
        };
        let to = if step.out > 0 { now_us } else { to };
        let mut attributes = Map::new();
        attributes.insert("kind".to_owned(), step.kind.clone().into());
        attributes.insert("status".to_owned(), step.state.as_str().into());
        attributes.insert("tasks".to_owned(), step.tasks.into());
        attributes.insert("cached".to_owned(), step.is_cached().into());
        if let Some(rows) = step.rows() {
            attributes.insert("rows".to_owned(), rows.into());
        }
        if let Some(failure) = &step.failure {
            attributes.insert("error".to_owned(), failure.message.clone().into());
        }
        spans.push(span(run, &span_of(run, &step.name), Some(&root), &step.name, (from, to), attributes));
    }
    for attempt in &history.attempts {
        let step = &history.steps[usize::from(history.groups[attempt.group].view.step)];
        let id = format!("{:016x}", history.attempt_ref(attempt).span_id());
        let took = attempt.took_us.unwrap_or(now_us.saturating_sub(attempt.started_us));
        let mut attributes = Map::new();
        attributes.insert("attempt".to_owned(), attempt.number.into());
        attributes.insert("outcome".to_owned(), attempt.outcome.as_str().into());
        if let Some(worker) = attempt.worker {
            attributes.insert("worker".to_owned(), worker.to_string().into());
        }
        match &attempt.outcome {
            AttemptOutcome::Failed(failure) => {
                attributes.insert("code".to_owned(), failure.code.as_str().into());
                attributes.insert("error".to_owned(), failure.message.clone().into());
            }
            AttemptOutcome::Rejected { reason } => {
                attributes.insert("reason".to_owned(), reason.clone().into());
            }
            AttemptOutcome::Expanded { children } => {
                attributes.insert("children".to_owned(), (*children).into());
            }
            _ => {}
        }
        let times = (attempt.started_us, attempt.started_us.saturating_add(took));
        spans.push(span(run, &id, Some(&span_of(run, &step.name)), &attempt.name, times, attributes));
    }
    Value::Array(spans)
}

/// The span of the run itself (no name) or of one of its steps.
fn span_of(run: RunId, step: &str) -> String {
    let digest = Digest::of(format!("{run}/{step}").as_bytes());
    digest.hex()[..16].to_owned()
}

fn span(
    run: RunId,
    id: &str,
    parent: Option<&str>,
    name: &str,
    times: (u64, u64),
    attributes: Map<String, Value>,
) -> Value {
    json!({
        "trace_id": format!("{:032x}", run.as_u128()),
        "span_id": id,
        "parent": parent,
        "name": name,
        "start_us": times.0,
        "end_us": times.1,
        "attributes": attributes,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use gristmill_protocol::ErrorCode;
    use gristmill_protocol::output::Output;

    use super::*;
    use crate::journal::{Recorder, dataset};

    fn fold(run: &Recorder) -> History {
        History::fold(run.run, &run.facts).expect("the core's journals can be told")
    }

    fn fan_out() -> Recorder {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("scores", "score", &["flights"])]);
        run.after(10).cached(0, &dataset(100)).after(50).expand(1, 30);
        while run.tasks_out() != [32] {
            run.after(100);
            for task in run.tasks_out().into_iter().filter(|task| *task != 32) {
                if task == 9 {
                    run.after(700);
                }
                run.succeed(task, &Output::Nothing);
            }
        }
        run.after(20).succeed(32, &Output::Nothing);
        run
    }

    #[test]
    fn many_children_share_a_line() {
        let run = fan_out();
        expect![[r#"
            flights            █████████████████████████████████████████████████████  1.4 s succeeded
            ├ flights          ▍                                                      10 ms cached
            ├ scores           █████████████████████████████████████████████████████  1.4 s
            │ ├ scores         ██▎                                                    50 ms → 30 tasks
            │ ├ scores/1/7       ███████████████████████████████                      800 ms
            │ ├ scores/1/8           ██████████████████████████████▉                  800 ms
            │ ├ scores/1/9           ██████████████████████████████▉                  800 ms
            │ ├ scores/1/10          ██████████████████████████████▉                  800 ms
            │   … 26 more        ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  208 ms each
            │ ├ scores/1/join                                                      █  20 ms
        "#]]
        .assert_eq(&trace_text(&fold(&run), run.now, 90));
    }

    #[test]
    fn retries_and_resumes_stand_below_each_other_without_the_gap() {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
        run.after(400).fail(0, ErrorCode::Unavailable, "away").after(1_000).after(500).succeed(0, &dataset(3));
        run.after(300).cancel("ann").after(3_600_000).resume("ann").after(600).succeed(1, &dataset(3));
        expect![[r#"
            flights                  ███████████████████████████████████████████████  2.8 s succeeded
            ├ flights                ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒                 1.9 s
            │ ├ flights              ██████▊                                          400 ms failed
            │ ├ flights (attempt 2)                         ████████▉                 500 ms
            ├ trips                                                 ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  900 ms
            │ ├ trips                                               █████▉            300 ms cancelled
            │ ├ trips (attempt 2)                                        ███████████  600 ms
        "#]]
        .assert_eq(&trace_text(&fold(&run), run.now, 90));
    }

    #[test]
    fn an_open_attempt_is_drawn_up_to_now() {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
        run.after(1_000).succeed(0, &dataset(3)).after(500);
        expect![[r#"
            flights    █████████████████████████████████  1.5 s running
            ├ flights  ██████████████████████             1.0 s
            ├ trips                          ███████████  500 ms running
        "#]]
        .assert_eq(&trace_text(&fold(&run), run.now, 60));
    }

    #[test]
    fn spans_form_one_tree_under_the_run() {
        let run = fan_out();
        let spans = trace_json(&fold(&run), run.now);
        let spans = spans.as_array().expect("spans");
        let ids: std::collections::BTreeSet<&str> = spans.iter().filter_map(|span| span["span_id"].as_str()).collect();
        assert_eq!(ids.len(), spans.len(), "ids are unique");
        let roots = spans.iter().filter(|span| span["parent"].is_null()).count();
        let orphans = spans.iter().filter_map(|span| span["parent"].as_str()).filter(|id| !ids.contains(id)).count();
        assert_eq!((roots, orphans), (1, 0));
        expect![[r#"
            {
              "trace_id": "019424f8608871d68f8a99f8a2690153",
              "span_id": "0f8eb068566a6802",
              "parent": "25633737f16e2682",
              "name": "flights",
              "start_us": 1735787045000000,
              "end_us": 1735787045010000,
              "attributes": {
                "attempt": 1,
                "outcome": "cached",
                "worker": "w-00000000000000a1"
              }
            }
        "#]]
        .assert_eq(&format!("{:#}\n", spans[3]));
    }
}
