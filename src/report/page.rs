//! The page: what happened, what was made, how, and from what.

use gristmill_protocol::Timestamp;
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::output::Output;
use gristmill_scheduler::history::{History, StepHistory, StepState};

use super::gather::Findings;
use super::{dag, data, learning, state_class, state_icon, timeline};
use crate::show;
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Metrics that stand large at the top.
const TILES_MAX: usize = 4;
/// The metrics that people look at first.
const TILES_FIRST: [&str; 6] = ["roc_auc", "rmse", "accuracy", "r2", "pr_auc", "mae"];

/// The whole page.
pub fn page(history: &History, findings: &Findings, now: Timestamp) -> String {
    let mut m = Markup::default();
    let title = format!("{}: {}", history.plan.pipeline, history.status_name());
    m.el("html", &[attr("lang", "en")], |m| {
        m.el("head", &[], |m| {
            m.void("meta", &[attr("charset", "utf-8")]);
            m.void("meta", &[attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")]);
            m.void("meta", &[attr("name", "color-scheme"), attr("content", "light dark")]);
            m.leaf("title", &[], &title);
            m.style(include_str!("style.css"));
        });
        m.el("body", &[], |m| {
            patterns(m);
            header(m, history, now);
            m.el("main", &[], |m| {
                failures(m, history);
                steps(m, history, now);
                learning::section_of(m, history, findings);
                data::section_of(m, history, findings);
                section(m, "timeline", "Timeline", |m| timeline::draw(m, history, now));
                source(m, history);
                lineage(m, history);
            });
            m.el("footer", &[], |m| m.text("Written by gristmill from the run's journal and artifacts."));
        });
    });
    format!("<!DOCTYPE html>\n{}\n", m.finish())
}

/// A section with its heading.
pub(super) fn section(m: &mut Markup, id: &str, heading: &str, inside: impl FnOnce(&mut Markup)) {
    m.el("section", &[attr("id", id), attr("aria-labelledby", format!("{id}-heading"))], |m| {
        m.leaf("h2", &[attr("id", format!("{id}-heading"))], heading);
        inside(m);
    });
}

/// A table with headings; those that begin with `>` stand over numbers.
pub(super) fn table(m: &mut Markup, caption: &str, headings: &[&str], rows: impl FnOnce(&mut Markup)) {
    let region = [class("scroll"), attr("tabindex", "0"), attr("role", "region"), attr("aria-label", caption)];
    m.el("div", &region, |m| {
        m.el("table", &[], |m| {
            m.leaf("caption", &[], caption);
            m.el("thead", &[], |m| {
                m.el("tr", &[], |m| {
                    for heading in headings {
                        let (name, classes) = match heading.strip_prefix('>') {
                            Some(name) => (name, "number"),
                            None => (*heading, ""),
                        };
                        m.leaf("th", &[attr("scope", "col"), class(classes)], name);
                    }
                });
            });
            m.el("tbody", &[], rows);
        });
    });
}

/// A sentence on what isn't there.
pub(super) fn note(m: &mut Markup, text: &str) {
    m.leaf("p", &[class("note")], text);
}

/// The hatching of bars that didn't succeed.
fn patterns(m: &mut Markup) {
    m.el("svg", &[class("defs"), attr("width", 0), attr("height", 0), attr("aria-hidden", "true")], |m| {
        m.el("defs", &[], |m| {
            let attrs = [
                attr("id", "hatching"),
                attr("width", 6),
                attr("height", 6),
                attr("patternUnits", "userSpaceOnUse"),
                attr("patternTransform", "rotate(45)"),
            ];
            m.el("pattern", &attrs, |m| {
                m.void("rect", &[class("hatch-line"), attr("width", 3), attr("height", 6)]);
            });
        });
    });
}

fn header(m: &mut Markup, history: &History, now: Timestamp) {
    m.el("header", &[], |m| {
        m.leaf("p", &[class("kind")], "pipeline run");
        m.leaf("h1", &[], &history.plan.pipeline);
        let (look, icon) = match history.status {
            Some(RunStatus::Succeeded) => ("is-good", "✓"),
            Some(RunStatus::Failed) => ("is-bad", "✕"),
            Some(RunStatus::Rejected) => ("is-rejected", "!"),
            Some(RunStatus::Cancelled) => ("is-idle", "■"),
            None => ("is-open", "▸"),
        };
        m.el("p", &[class("status")], |m| {
            m.leaf("span", &[class(&format!("badge {look}"))], &format!("{icon} {}", history.status_name()));
            let took = text::seconds(history.seconds(now));
            let verb = if history.status.is_some() { "after" } else { "for" };
            m.text(&format!(" {verb} {took}, {}", text::moment(history.created)));
        });
        tiles(m, history);
        facts(m, history);
    });
}

/// The numbers that people came for: the metrics of the model, rows.
fn tiles(m: &mut Markup, history: &History) {
    let models = history.models();
    let Some(model) = models.iter().find(|model| !model.metrics.is_empty()) else { return };
    let rank = |name: &String| TILES_FIRST.iter().position(|first| first == name).unwrap_or(TILES_FIRST.len());
    let mut metrics: Vec<(&String, &f64)> = model.metrics.iter().collect();
    metrics.sort_by_key(|(name, _)| rank(name));
    m.el("div", &[class("tiles")], |m| {
        let version = match (model.version, &model.alias) {
            (Some(version), Some(alias)) => format!("version {version}, now {alias}"),
            (Some(version), None) => format!("version {version}"),
            (None, _) => "not registered".to_owned(),
        };
        tile(m, &model.name, &version, true);
        for (name, value) in metrics.into_iter().take(TILES_MAX) {
            tile(m, name, &text::number(*value), false);
        }
    });
}

fn tile(m: &mut Markup, name: &str, value: &str, wide: bool) {
    m.el("div", &[class(if wide { "tile wide" } else { "tile" })], |m| {
        m.leaf("span", &[class("tile-name")], name);
        m.leaf("span", &[class("tile-value")], value);
    });
}

fn facts(m: &mut Markup, history: &History) {
    m.el("dl", &[class("facts")], |m| {
        let mut fact = |name: &str, value: &str| {
            m.el("div", &[], |m| {
                m.leaf("dt", &[], name);
                m.leaf("dd", &[], value);
            });
        };
        fact("run", &history.run.to_string());
        if let Some(at) = history.ended() {
            fact("ended", &text::moment(at));
        }
        let done = history.steps.iter().filter(|step| step.state == StepState::Succeeded).count();
        let cached = history.steps.iter().filter(|step| step.is_cached()).count();
        let cached = if cached > 0 { format!(", {cached} cached") } else { String::new() };
        fact("steps", &format!("{done} of {} succeeded{cached}", history.steps.len()));
        fact("tasks", &text::count(history.tasks()));
        let failed: u64 = history.steps.iter().map(|step| step.tally.failed).sum();
        if failed > 0 {
            fact("failed attempts", &text::count(failed));
        }
        fact("workers", &text::count(history.workers.len() as u64));
        let busy: u64 = history.steps.iter().map(|step| step.tally.busy_us).sum();
        fact("work in slots", &text::seconds(busy as f64 / 1e6));
        for life in history.lives.iter().filter_map(|life| life.resumed_by.as_ref().map(|by| (life.from, by))) {
            fact("resumed", &format!("{} by {}", text::moment(life.0), life.1));
        }
        if let Some(by) = &history.cancelled_by {
            fact("cancelled by", by);
        }
    });
}

fn failures(m: &mut Markup, history: &History) {
    let failed: Vec<&StepHistory> = history.steps.iter().filter(|step| step.failure.is_some()).collect();
    if failed.is_empty() {
        return;
    }
    section(m, "failures", "What went wrong", |m| {
        for step in failed {
            let Some(failure) = &step.failure else { continue };
            m.el("div", &[class(&format!("alert {}", state_class(step)))], |m| {
                m.leaf("h3", &[], &format!("{} {} {}", state_icon(step), step.name, step.state.as_str()));
                m.leaf("p", &[], &failure.message);
                if let Some(hint) = &failure.hint {
                    m.leaf("p", &[class("hint")], &format!("hint: {hint}"));
                }
            });
        }
    });
}

fn steps(m: &mut Markup, history: &History, now: Timestamp) {
    section(m, "steps", "Steps", |m| {
        dag::draw(m, history, now);
        let headings = ["step", "kind", "state", ">tasks", ">time", ">rows", "made"];
        table(m, "The steps and what they made", &headings, |m| {
            for step in &history.steps {
                m.el("tr", &[], |m| {
                    m.leaf("th", &[attr("scope", "row")], &step.name);
                    m.leaf("td", &[], &step.kind);
                    let state = if step.is_cached() { "cached" } else { step.state.as_str() };
                    m.el("td", &[], |m| {
                        let look = format!("badge {}", state_class(step));
                        m.leaf("span", &[class(&look)], &format!("{} {state}", state_icon(step)));
                    });
                    m.leaf("td", &[class("number")], &text::count(u64::from(step.tasks)));
                    let worked = step.tally.attempts > 0;
                    let time = if worked { text::seconds(step.seconds_until(now)) } else { String::new() };
                    m.leaf("td", &[class("number")], &time);
                    m.leaf("td", &[class("number")], &step.rows().map(text::count).unwrap_or_default());
                    m.leaf(
                        "td",
                        &[],
                        &step.output.as_ref().and_then(show::made).map(|made| made.1).unwrap_or_default(),
                    );
                });
            }
        });
    });
}

fn source(m: &mut Markup, history: &History) {
    if history.about.source.is_empty() && history.about.params.is_empty() {
        return;
    }
    section(m, "source", "Pipeline", |m| {
        if !history.about.params.is_empty() {
            table(m, "The parameters it ran with", &["parameter", "value"], |m| {
                for (name, value) in &history.about.params {
                    m.el("tr", &[], |m| {
                        m.leaf("th", &[attr("scope", "row")], name);
                        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        m.leaf("td", &[], &value);
                    });
                }
            });
        }
        if !history.about.source.is_empty() {
            m.el("details", &[attr("open", "open")], |m| {
                m.leaf("summary", &[], "The file as it was submitted");
                m.el("pre", &[attr("tabindex", "0")], |m| m.leaf("code", &[], &history.about.source));
            });
        }
    });
}

/// Which bytes everything is made of.
fn lineage(m: &mut Markup, history: &History) {
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for step in &history.steps {
        let mut row = |what: &str, digest: gristmill_protocol::Digest| {
            rows.push((&step.name, what.to_owned(), digest.to_string()));
        };
        match &step.output {
            Some(Output::Dataset { dataset, quarantine }) => {
                row("manifest", dataset.manifest);
                if let Some(lines) = quarantine {
                    row("unreadable lines", lines.table);
                }
            }
            Some(Output::Checked { dataset, report, .. }) => {
                row("manifest", dataset.manifest);
                row("report", *report);
            }
            Some(Output::Parts { parts }) => parts.iter().for_each(|(name, part)| row(name, part.manifest)),
            Some(Output::Model { model, .. }) => row("model", *model),
            Some(Output::Evaluation { evaluation, .. }) => row("evidence", *evaluation),
            Some(Output::Version { name, version, model, .. }) => row(&format!("{name}@{version}"), *model),
            Some(Output::Values { values, .. }) => row("values", *values),
            Some(Output::Scores { .. } | Output::Nothing) | None => {}
        }
    }
    if rows.is_empty() {
        return;
    }
    section(m, "lineage", "Lineage", |m| {
        note(m, "Equal digests are equal bytes. `gristmill artifacts DIGEST` shows what one holds.");
        table(m, "What the steps made, by digest", &["step", "what", "digest"], |m| {
            for (step, what, digest) in rows {
                m.el("tr", &[], |m| {
                    m.leaf("th", &[attr("scope", "row")], step);
                    m.leaf("td", &[], &what);
                    m.el("td", &[], |m| m.leaf("code", &[], &digest));
                });
            }
        });
    });
}
