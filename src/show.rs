//! `runs` and `show`: what runs there are, what came of one, what it made and what went wrong.

use std::collections::BTreeMap;
use std::fmt::Write;

use gristmill_backends::state::RunRecord;
use gristmill_protocol::Timestamp;
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::output::Output;
use gristmill_scheduler::history::{History, MadeModel, StepHistory, StepState};
use serde_json::{Map, Value, json};

use crate::text::{self, Table};

/// Characters of a parameter's value that are shown.
const PARAM_CHARS: usize = 60;

/// Last digits of a run's id that commands are given.
const SHORT_DIGITS: usize = 8;

/// The runs, newest first, as a table.
pub fn runs_text(records: &[RunRecord], now: Timestamp) -> String {
    if records.is_empty() {
        return "no runs yet\nhint: start one with `gristmill run PIPELINE`\n".to_owned();
    }
    let mut table = Table::new(&["run", "pipeline", "status", ">time", "created"]);
    for record in records {
        let took = record.ended.unwrap_or(now).since(record.created) as f64 / 1e3;
        table.row([
            record.run.to_string(),
            record.pipeline.clone(),
            record.status.map_or("open", RunStatus::as_str).to_owned(),
            text::seconds(took),
            text::ago(record.created, now),
        ]);
    }
    table.to_string()
}

/// The runs, newest first, as JSON.
pub fn runs_json(records: &[RunRecord]) -> Value {
    let run = |record: &RunRecord| {
        json!({
            "run": record.run.to_string(),
            "pipeline": record.pipeline,
            "status": record.status.map_or("open", RunStatus::as_str),
            "created_ms": record.created.0,
            "ended_ms": record.ended.map(|at| at.0),
        })
    };
    Value::Array(records.iter().map(run).collect())
}

/// A run in one object: what `show --json` prints, and what `run --json` and `resume --json` end with.
pub fn summary_json(history: &History, now: Timestamp) -> Value {
    let mut steps = Map::new();
    for step in &history.steps {
        let mut object = json!({
            "status": step.state.as_str(),
            "cached": step.is_cached(),
            "tasks": step.tasks,
            "seconds": rounded(step.seconds_until(now)),
        });
        if let Some(rows) = step.rows() {
            object["rows"] = rows.into();
        }
        if let Some(failure) = &step.failure {
            object["error"] = json!({ "code": failure.code, "message": failure.message, "hint": failure.hint });
        }
        steps.insert(step.name.clone(), object);
    }
    json!({
        "run": history.run.to_string(),
        "pipeline": history.plan.pipeline,
        "status": history.status_name(),
        "seconds": rounded(history.seconds(now)),
        "steps": steps,
        "models": history.models().iter().map(model_json).collect::<Vec<_>>(),
    })
}

fn model_json(model: &MadeModel) -> Value {
    json!({
        "name": model.name,
        "version": model.version,
        "digest": model.digest.to_string(),
        "metrics": model.metrics,
    })
}

/// Milliseconds are as fine as a step's times are.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

/// A run as text: how it stands, its steps, what it made and what went wrong.
pub fn show_text(history: &History, now: Timestamp) -> String {
    let mut out = heading(history, now);
    out.push('\n');
    out += &steps_table(history, now).to_string();
    let made = made_text(history);
    if !made.is_empty() {
        write!(out, "\nmade\n{made}").expect("writing to memory");
    }
    out += &failures_text(history);
    if let Some(next) = next_command(history) {
        write!(out, "\nnext: `{next}`\n").expect("writing to memory");
    }
    out
}

fn heading(history: &History, now: Timestamp) -> String {
    let mut out = format!("{} {}", history.plan.pipeline, history.run);
    let took = text::seconds(history.seconds(now));
    match history.status {
        Some(status) => writeln!(out, " {} after {took}", status.as_str()),
        None => writeln!(out, " {} for {took}", history.status_name()),
    }
    .expect("writing to memory");
    let mut facts = Table::new(&["", ""]).indented("  ");
    let age = text::ago(history.created, now);
    facts.row(["created".to_owned(), format!("{} ({age})", text::moment(history.created))]);
    for life in &history.lives {
        if let Some(by) = &life.resumed_by {
            facts.row(["resumed".to_owned(), format!("{} by {by}", text::moment(life.from))]);
        }
    }
    if let Some(by) = &history.cancelled_by {
        facts.row(["cancelled".to_owned(), format!("by {by}")]);
    }
    for (name, value) in &history.about.params {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        facts.row(["param".to_owned(), format!("{name} = {}", text::cut(&value, PARAM_CHARS))]);
    }
    out + &facts.to_string()
}

fn steps_table(history: &History, now: Timestamp) -> Table {
    let mut table = Table::new(&["step", "kind", "state", ">tasks", ">time", ">rows", ""]);
    for step in &history.steps {
        table.row([
            step.name.clone(),
            step.kind.clone(),
            step.state.as_str().to_owned(),
            tasks(step),
            match step.tally.attempts == 0 && step.out == 0 {
                true => String::new(),
                false => text::seconds(step.seconds_until(now)),
            },
            step.rows().map(text::count).unwrap_or_default(),
            remark(step),
        ]);
    }
    table
}

/// Tasks of a step: `1`, or `12/96` while some haven't ended.
fn tasks(step: &StepHistory) -> String {
    let (ended, tasks) = (u64::from(step.ended), u64::from(step.tasks));
    match step.state {
        StepState::Succeeded => text::count(tasks),
        StepState::Waiting | StepState::Skipped => String::new(),
        _ => format!("{}/{}", text::count(ended), text::count(tasks)),
    }
}

/// What else there is to say of a step: that it did no work, or that some attempts went wrong.
fn remark(step: &StepHistory) -> String {
    let mut remarks = Vec::new();
    if step.is_cached() {
        remarks.push("cached".to_owned());
    } else if step.tally.cached > 0 {
        remarks.push(format!("{} cached", text::count(step.tally.cached)));
    }
    // The failure that ended the step is told below.
    if step.tally.failed > 0 && step.state != StepState::Failed {
        remarks.push(text::counted(step.tally.failed, "failed attempt"));
    }
    if step.out > 0 {
        remarks.push(format!("{} out", text::count(u64::from(step.out))));
    }
    remarks.join(", ")
}

/// What the steps of a run have made, a line each and metrics under their model; empty when nothing.
pub fn made_text(history: &History) -> String {
    let mut table = Table::new(&["", "", ""]).indented("  ");
    for step in &history.steps {
        let Some((what, details)) = step.output.as_ref().and_then(made) else { continue };
        table.row([step.name.clone(), what.to_owned(), details]);
    }
    table.to_string()
}

/// What an output is, in a word, and what there is to say of it.
pub fn made(output: &Output) -> Option<(&'static str, String)> {
    Some(match output {
        Output::Dataset { dataset, quarantine } => {
            let mut text = format!("{}, {}", text::counted(dataset.rows, "row"), dataset.manifest.short());
            if let Some(lines) = quarantine {
                let lines = text::counted(lines.lines, "line");
                write!(text, "; {lines} couldn't be read").expect("writing to memory");
            }
            ("dataset", text)
        }
        Output::Checked { dataset, report, warnings } => {
            let warnings = match warnings {
                0 => String::new(),
                count => format!(", {}", text::counted(u64::from(*count), "warning")),
            };
            ("checked", format!("{}{warnings}, report {}", text::counted(dataset.rows, "row"), report.short()))
        }
        Output::Parts { parts } => {
            let part = |(name, part): (&String, &gristmill_protocol::output::DatasetRef)| {
                format!("{name} {}", text::counted(part.rows, "row"))
            };
            ("parts", parts.iter().map(part).collect::<Vec<_>>().join(", "))
        }
        Output::Model { model, bytes, rows, algorithm, .. } => {
            let (rows, bytes) = (text::counted(*rows, "row"), text::bytes(*bytes));
            ("model", format!("{algorithm} learned from {rows}, {bytes}, {}", model.short()))
        }
        Output::Evaluation { metrics, warnings, evaluation, .. } => {
            let warnings = match warnings {
                0 => String::new(),
                count => format!("; {}, evidence {}", text::counted(u64::from(*count), "warning"), evaluation.short()),
            };
            ("measured", format!("{}{warnings}", metrics_text(metrics)))
        }
        Output::Version { name, version, alias, .. } => {
            let alias = alias.as_ref().map(|alias| format!(", now `{alias}`")).unwrap_or_default();
            ("version", format!("{name}@{version}{alias}"))
        }
        Output::Scores { path, rows, bytes, quarantine, .. } => {
            let mut text = format!("{path}, {}, {}", text::counted(*rows, "row"), text::bytes(*bytes));
            if let Some(rows) = quarantine {
                write!(text, "; {} couldn't be scored", text::counted(rows.lines, "row")).expect("writing to memory");
            }
            ("file", text)
        }
        Output::Values { values, metrics } if metrics.is_empty() => ("values", values.short()),
        Output::Values { values, metrics } => ("values", format!("{}, {}", metrics_text(metrics), values.short())),
        Output::Nothing => return None,
    })
}

/// Metrics in one line: `accuracy 0.85, roc_auc 0.9114`.
pub fn metrics_text(metrics: &BTreeMap<String, f64>) -> String {
    metrics.iter().map(|(name, value)| format!("{name} {}", text::number(*value))).collect::<Vec<_>>().join(", ")
}

/// Why steps failed or were rejected, each with its hint; empty when none was.
pub fn failures_text(history: &History) -> String {
    let mut out = String::new();
    for step in &history.steps {
        let Some(failure) = &step.failure else { continue };
        let verb = if step.state == StepState::Rejected { "rejected" } else { "failed" };
        writeln!(out, "\nstep `{}` {verb}: {}", step.name, failure.message).expect("writing to memory");
        if let Some(hint) = &failure.hint {
            writeln!(out, "hint: {hint}").expect("writing to memory");
        }
    }
    out
}

/// The command that a person would type next.
pub fn next_command(history: &History) -> Option<String> {
    // The last digits name a run as well as all of them.
    let run = history.run.to_string();
    let run = &run[run.len() - SHORT_DIGITS..];
    match history.status {
        Some(RunStatus::Succeeded) => Some(format!("gristmill report {run} -o report.html")),
        Some(RunStatus::Rejected | RunStatus::Failed) => Some(format!("gristmill explain {run}")),
        Some(RunStatus::Cancelled) => Some(format!("gristmill resume {run}")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use gristmill_protocol::{Digest, ErrorCode};

    use super::*;
    use crate::journal::{Recorder, dataset};

    fn fold(run: &Recorder) -> History {
        History::fold(run.run, &run.facts).expect("the core's journals can be told")
    }

    /// A run that trained, measured and registered.
    fn learned() -> Recorder {
        let model = Digest::of(b"model");
        let metrics = BTreeMap::from([("roc_auc".to_owned(), 0.911_42), ("log_loss".to_owned(), 0.25)]);
        let mut run = Recorder::new(&[
            ("flights", "ingest", &[]),
            ("model", "train", &["flights"]),
            ("quality", "validate", &["model"]),
            ("release", "register", &["quality"]),
        ]);
        run.after(4).cached(0, &dataset(336_776)).after(20).expand(1, 2).after(83_000);
        run.succeed(4, &Output::Nothing).succeed(5, &Output::Nothing).after(900);
        let algorithm = "random_forest".to_owned();
        run.succeed(
            6,
            &Output::Model { model, bytes: 1_300_000, rows: 261_861, algorithm, study: None, learned_from: None },
        );
        run.after(700).succeed(2, &Output::Evaluation { evaluation: Digest::of(b"e"), model, metrics, warnings: 2 });
        let (name, alias) = ("delays".to_owned(), Some("champion".to_owned()));
        run.after(5).succeed(3, &Output::Version { name, version: 3, model, alias });
        run
    }

    #[test]
    fn a_run_shows_its_steps_and_what_it_made() {
        let run = learned();
        expect![[r#"
            flights run-019424f8608871d68f8a99f8a2690153 succeeded after 1 min 25 s
              created  2025-01-02 03:04:05 UTC (3 min ago)

            step     kind      state      tasks        time     rows
            flights  ingest    succeeded      1        4 ms  336,776  cached
            model    train     succeeded      4  1 min 24 s  261,861
            quality  validate  succeeded      1      700 ms
            release  register  succeeded      1        5 ms

            made
              flights  dataset   336,776 rows, 64cae8b3b67c
              model    model     random_forest learned from 261,861 rows, 1.2 MiB, 9372c470eead
              quality  measured  log_loss 0.25, roc_auc 0.9114; 2 warnings, evidence 3f79bb7b435b
              release  version   delays@3, now `champion`

            next: `gristmill report a2690153 -o report.html`
        "#]]
        .assert_eq(&show_text(&fold(&run), run.now.plus_ms(130_000)));
    }

    #[test]
    fn the_summary_names_models_with_their_metrics() {
        let run = learned();
        expect![[r#"
            {
              "run": "run-019424f8608871d68f8a99f8a2690153",
              "pipeline": "flights",
              "status": "succeeded",
              "seconds": 84.629,
              "steps": {
                "flights": {
                  "status": "succeeded",
                  "cached": true,
                  "tasks": 1,
                  "seconds": 0.004,
                  "rows": 336776
                },
                "model": {
                  "status": "succeeded",
                  "cached": false,
                  "tasks": 4,
                  "seconds": 83.92,
                  "rows": 261861
                },
                "quality": {
                  "status": "succeeded",
                  "cached": false,
                  "tasks": 1,
                  "seconds": 0.7
                },
                "release": {
                  "status": "succeeded",
                  "cached": false,
                  "tasks": 1,
                  "seconds": 0.005
                }
              },
              "models": [
                {
                  "name": "delays",
                  "version": 3,
                  "digest": "sha256:9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4",
                  "metrics": {
                    "log_loss": 0.25,
                    "roc_auc": 0.91142
                  }
                }
              ]
            }
        "#]]
        .assert_eq(&format!("{:#}\n", summary_json(&fold(&run), run.now)));
    }

    #[test]
    fn a_failed_run_shows_why_and_what_to_type_next() {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
        run.after(50).fail(0, ErrorCode::BadInput, "there is no file `data/x.csv`");
        expect![[r#"
            flights run-019424f8608871d68f8a99f8a2690153 failed after 50 ms
              created  2025-01-02 03:04:05 UTC (just now)

            step     kind       state    tasks   time  rows
            flights  ingest     failed     1/1  50 ms
            trips    transform  skipped

            step `flights` failed: there is no file `data/x.csv`

            next: `gristmill explain a2690153`
        "#]]
        .assert_eq(&show_text(&fold(&run), run.now));
    }

    #[test]
    fn an_open_run_shows_how_far_it_is() {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
        run.after(1_000).expand(0, 12).after(2_000).succeed(2, &Output::Nothing);
        expect![[r#"
            flights run-019424f8608871d68f8a99f8a2690153 running for 3.5 s
              created  2025-01-02 03:04:05 UTC (just now)

            step     kind       state    tasks   time  rows
            flights  ingest     running   1/14  3.0 s        8 out
            trips    transform  waiting
        "#]]
        .assert_eq(&show_text(&fold(&run), run.now.plus_ms(500)));
    }

    #[test]
    fn no_runs_say_how_to_make_one() {
        expect![[r#"
            no runs yet
            hint: start one with `gristmill run PIPELINE`
        "#]]
        .assert_eq(&runs_text(&[], Timestamp(0)));
    }
}
