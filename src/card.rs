//! `model NAME --card`: what a model version is for, what it learned from, how good and how fair it is, and what to
//! watch out for; after "Model Cards for Model Reporting" (Mitchell et al. 2019). It is told from the version, its
//! model and its evidence; what only people know (who may use it, and for what) they add.

use std::fmt::Write;

use anyhow::Context;
use gristmill_backends::artifacts::Artifacts;
use gristmill_ml::estimators::algorithm_name;
use gristmill_ml::metrics::MetricInterval;
use gristmill_ml::model::Model;
use gristmill_ml::target::{Goal, learning_name};
use gristmill_protocol::pipeline::steps::Wrong;
use gristmill_registry::{Registry, VersionView};
use gristmill_worker::documents::Evidence;
use serde_json::{Value, json};

use crate::text;

/// Inputs of a model that are listed; the others are in `--json`.
const INPUTS_SHOWN: usize = 30;
/// Classes that are listed.
const CLASSES_SHOWN: usize = 20;

/// What a card is told from.
pub struct Card {
    name: String,
    version: VersionView,
    aliases: Vec<String>,
    model: Model,
    /// None when the version was registered without.
    evidence: Option<Evidence>,
}

/// Reads the card of `name`, `name@alias` or `name@3`; the latest version where none is named.
pub async fn read(registry: &Registry, artifacts: &dyn Artifacts, reference: &str) -> anyhow::Result<Card> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let view = registry.model(name).await?;
    let version = match reference.contains('@') {
        true => {
            let (_, number, _) = registry.resolve(reference).await?;
            view.version(number)
        }
        false => view.versions.last(),
    };
    let version = version.cloned().with_context(|| format!("model `{name}` has no version"))?;
    let model = Model::from_bytes(&artifacts.get(version.new.model).await?)?;
    let evidence = match version.new.evidence {
        Some(digest) => {
            let bytes = artifacts.get(digest).await?;
            let failed = || format!("failed to understand the evidence `{}`", digest.short());
            Some(serde_json::from_slice(&bytes).with_context(failed)?)
        }
        None => None,
    };
    let aliases = view.aliases_of(version.version).into_iter().map(str::to_owned).collect();
    Ok(Card { name: name.to_owned(), version, aliases, model, evidence })
}

/// A cell of a Markdown table: what would end it is escaped.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

/// Markdown that is put together.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0 += line;
        self.0.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line(&format!("\n## {heading}\n"));
    }

    /// A table; headings that begin with `>` stand over numbers.
    fn table(&mut self, headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let names: Vec<&str> = headings.iter().map(|heading| heading.trim_start_matches('>')).collect();
        let lines: Vec<&str> =
            headings.iter().map(|heading| if heading.starts_with('>') { "---:" } else { "---" }).collect();
        self.line(&format!("| {} |", names.join(" | ")));
        self.line(&format!("|{}|", lines.join("|")));
        for row in rows {
            let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
            self.line(&format!("| {} |", cells.join(" | ")));
        }
    }
}

fn ends(interval: Option<&MetricInterval>) -> String {
    interval.map_or_else(String::new, |ends| format!("{} to {}", text::number(ends.low), text::number(ends.high)))
}

fn wrong_name(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Noise => "noise",
        Wrong::Missing => "missing",
        Wrong::OutOfRange => "out of range",
    }
}

impl Card {
    /// The card as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut page = Page::default();
        page.line(&format!("# {} version {}\n", self.name, self.version.version));
        let facts = self.facts();
        page.table(&["", ""], facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
        self.inputs(&mut page);
        match &self.evidence {
            Some(evidence) => {
                measured(&mut page, evidence);
                warnings(&mut page, evidence);
            }
            None => {
                page.heading("Evidence");
                page.line("None: it was registered without a `validate` step. Nothing is known of how good it is.");
            }
        }
        page.0
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let (model, new) = (&self.model, &self.version.new);
        let training = model.training();
        let aliases = if self.aliases.is_empty() { "none".to_owned() } else { self.aliases.join(", ") };
        let mut facts = vec![
            ("aliases", aliases),
            ("predicts", model.target().text()),
            ("algorithm", algorithm_name(&training.algorithm).to_owned()),
            ("settings", serde_json::to_string(&training.algorithm).unwrap_or_default()),
            ("seed", training.seed.to_string()),
            ("learned from", text::counted(training.rows, "row")),
            ("registered", format!("{} by {}", text::moment(self.version.at), self.version.by)),
            ("digest", new.model.to_string()),
        ];
        match &model.target().goal {
            Goal::Classes { classes, counts } => {
                let rows: u64 = counts.iter().sum();
                let class = |(name, count): (String, &u64)| {
                    format!("{name} ({})", text::percent(*count as f64 / rows.max(1) as f64))
                };
                let names = classes.names().into_iter().zip(counts);
                let mut shown: Vec<String> = names.take(CLASSES_SHOWN).map(class).collect();
                if classes.count() > CLASSES_SHOWN {
                    shown.push(format!("{} more", classes.count() - CLASSES_SHOWN));
                }
                facts.push(("classes in training", shown.join(", ")));
            }
            Goal::Value { mean, std } => {
                facts.push(("target in training", format!("{} ± {}", text::number(*mean), text::number(*std))));
            }
            Goal::Groups => {}
        }
        let decision = model.decision();
        if decision.calibration.is_some() {
            let rows = text::counted(decision.rows, "row");
            facts.push(("probabilities", format!("calibrated on {rows} kept apart")));
        }
        if let Some(threshold) = &decision.threshold {
            let at = text::number(threshold.at);
            facts.push(("decides", format!("positive from a probability of {at} on")));
        }
        if let Some(evidence) = &self.evidence
            && evidence.assessment.model_bytes > 0
        {
            facts.push(("size", text::bytes(evidence.assessment.model_bytes)));
        }
        facts
    }

    fn inputs(&self, page: &mut Page) {
        page.heading("Inputs");
        let importances = self.model.importances();
        let more = importances.len().saturating_sub(INPUTS_SHOWN);
        page.table(
            &["column", ">share in training"],
            importances.into_iter().take(INPUTS_SHOWN).map(|input| vec![input.name, text::percent(input.share)]),
        );
        if more > 0 {
            page.line(&format!("\n{} matter less.", text::counted(more as u64, "more input")));
        }
    }

    /// The card as JSON: the same, with nothing left out.
    pub fn to_json(&self) -> Value {
        let training = self.model.training();
        let inputs: Vec<Value> = self
            .model
            .importances()
            .into_iter()
            .map(|input| json!({ "name": input.name, "share": input.share }))
            .collect();
        json!({
            "name": self.name,
            "version": self.version.version,
            "aliases": self.aliases,
            "registered_ms": self.version.at.0,
            "by": self.version.by,
            "run": self.version.new.run.to_string(),
            "digest": self.version.new.model.to_string(),
            "predicts": self.model.target().column,
            "learning": learning_name(self.model.learning()),
            "classes": self.model.target().classes().map(gristmill_ml::target::Classes::names),
            "algorithm": training.algorithm,
            "seed": training.seed,
            "rows": training.rows,
            "decision": self.model.decision(),
            "inputs": inputs,
            "evidence": self.evidence,
        })
    }
}

/// Metrics, gates, and whatever else was measured.
fn measured(page: &mut Page, evidence: &Evidence) {
    let found = &evidence.assessment;
    page.heading("How good it is");
    let rows = text::counted(evidence.evaluation.rows, "row");
    page.line(&format!("Measured on {rows} that it had not seen (`{}`).\n", evidence.input.manifest.short()));
    let interval = format!(">{}% interval", text::number(100.0 * found.level));
    let line =
        |(name, value): (&String, &f64)| vec![name.clone(), text::number(*value), ends(found.intervals.get(name))];
    page.table(&["metric", ">value", &interval], evidence.evaluation.metrics.iter().map(line));
    if !evidence.gates.is_empty() {
        page.heading("Gates");
        for gate in &evidence.gates {
            page.line(&format!("- {}: {}", if gate.passed { "passed" } else { "NOT MET" }, gate.message));
        }
    }
    if !found.slices.is_empty() {
        page.heading("Slices");
        let names: Vec<&str> = ["roc_auc", "accuracy", "rmse"]
            .into_iter()
            .filter(|name| evidence.evaluation.metrics.contains_key(*name))
            .collect();
        let mut headings = vec!["slice".to_owned(), "where".to_owned(), ">rows".to_owned()];
        headings.extend(names.iter().flat_map(|name| [format!(">{name}"), ">interval".to_owned()]));
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let line = |slice: &gristmill_ml::assess::Slice| {
            let mut cells = vec![slice.name.clone(), slice.condition.clone(), text::count(slice.rows)];
            for name in &names {
                cells.push(slice.metrics.get(*name).map(|value| text::number(*value)).unwrap_or_default());
                cells.push(ends(slice.intervals.get(*name)));
            }
            cells
        };
        page.table(&headings, found.slices.iter().map(line));
    }
    for by in &found.fairness {
        page.heading(&format!("Decisions for `{}` by `{}`", by.positive, by.column));
        let rate = |rate: Option<f64>| rate.map(text::percent).unwrap_or_default();
        page.table(
            &["group", ">rows", ">selected", ">true positive", ">false positive", ">precision", ">ratio"],
            by.found.groups.iter().map(|group| {
                let mut cells = vec![group.name.clone(), text::count(group.counts.rows())];
                cells.extend(
                    [group.selection_rate, group.true_positive_rate, group.false_positive_rate, group.precision]
                        .map(rate),
                );
                cells.push(group.impact_ratio.map_or_else(|| "few rows".to_owned(), text::number));
                cells
            }),
        );
    }
    if !found.robustness.is_empty() {
        page.heading("When inputs are wrong");
        page.table(
            &["inputs", ">amount", ">predictions flipped", ">moved by (standard deviations)"],
            found.robustness.iter().map(|way| {
                let share = way.flips.map(text::percent).unwrap_or_default();
                let moved = way.shift.map(text::number).unwrap_or_default();
                vec![wrong_name(way.wrong).to_owned(), text::number(way.amount), share, moved]
            }),
        );
    }
    if let Some(permutation) = &found.permutation {
        page.heading(&format!("What is lost of `{}` without an input", permutation.metric));
        page.table(
            &["input", ">loss", ">±"],
            permutation
                .inputs
                .iter()
                .take(INPUTS_SHOWN)
                .map(|input| vec![input.name.clone(), text::number(input.mean), text::number(input.deviation)]),
        );
    }
    if let Some(attributions) = &found.attributions {
        page.heading(&format!("What moved {} predictions", text::count(attributions.rows)));
        page.table(
            &["input", ">moves by"],
            attributions
                .inputs
                .iter()
                .take(INPUTS_SHOWN)
                .map(|input| vec![input.name.clone(), text::number(input.mean_size)]),
        );
    }
    if !found.comparisons.is_empty() {
        page.heading("Against others on the same rows");
        page.table(
            &["other", "metric", ">this", ">other", ">p"],
            found.comparisons.iter().map(|against| {
                let numbers = [against.ours, against.theirs, against.p].map(text::number);
                [against.other.clone(), against.metric.clone()].into_iter().chain(numbers).collect()
            }),
        );
    }
}

fn warnings(page: &mut Page, evidence: &Evidence) {
    page.heading("What to watch out for");
    if evidence.assessment.warnings.is_empty() {
        page.line("Nothing was noticed.");
    }
    for warning in &evidence.assessment.warnings {
        page.line(&format!("- {warning}"));
    }
    if let Some(us) = evidence.assessment.row_us {
        let mut line = String::new();
        write!(line, "\nHalf of single rows were scored within {us:.1} µs where it was measured.")
            .expect("writing to memory");
        page.line(&line);
    }
}
