//! `registry lineage`: from data to versions to predictions, and back.

use std::collections::BTreeSet;

use anyhow::Context;
use gristmill_protocol::{Digest, RunId};
use gristmill_registry::{Origin, Prediction, VersionRef, VersionView};
use gristmill_scheduler::history::{History, StepHistory};
use serde_json::{Value, json};

use super::{print_json, reference_json};
use crate::artifacts;
use crate::home::Home;
use crate::problem::Exit;
use crate::settings::Settings;
use crate::text::{self, Table};

/// Predictions and versions that are listed; `--json` has the same ones, and says whether there are more.
const LISTED: usize = 100;

/// `gristmill registry lineage`.
pub async fn lineage(settings: &Settings, of: &str, json: bool) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    if of.contains('@') {
        let told = of_version(&home, of).await?;
        if json {
            print_json(&told.to_json());
        } else {
            print!("{}", told.to_text());
        }
        return Ok(Exit::Success);
    }
    let origins = match of.parse::<RunId>() {
        Ok(run) => vec![Origin::Run(run)],
        Err(_) => {
            let digest = artifacts::find(&*home.artifacts, of).await?;
            vec![Origin::Dataset(digest), Origin::Model(digest), Origin::Study(digest)]
        }
    };
    let mut versions = BTreeSet::new();
    let mut after = Vec::new();
    for origin in &origins {
        let mut from = String::new();
        loop {
            let page = home.registry.versions_from(origin, &from, LISTED).await?;
            versions.extend(page.items);
            match page.next {
                Some(next) if versions.len() < LISTED => from = next,
                next => break after.extend(next),
            }
        }
    }
    if json {
        let list: Vec<Value> = versions.iter().map(reference_json).collect();
        print_json(&json!({ "of": of, "versions": list, "more": !after.is_empty() }));
        return Ok(Exit::Success);
    }
    if versions.is_empty() {
        println!("no version comes from {of}");
    }
    versions.iter().for_each(|of| println!("{}@{}", of.name, of.version));
    if !after.is_empty() {
        println!("and more");
    }
    Ok(Exit::Success)
}

/// A version between what it comes from and what it has scored.
struct VersionLineage {
    of: VersionRef,
    version: VersionView,
    /// The steps of its run that led to it, in the order of the pipeline; none when the run isn't known any more.
    steps: Vec<Made>,
    children: Vec<VersionRef>,
    predictions: Vec<Prediction>,
    more: bool,
}

/// What a step made on the way to a version.
struct Made {
    step: String,
    kind: String,
    artifacts: Vec<Digest>,
    rows: Option<u64>,
}

async fn of_version(home: &Home, reference: &str) -> anyhow::Result<VersionLineage> {
    let (of, version) = home.registry.version(reference).await?;
    let steps = match home.state.run(version.new.run).await? {
        Some(_) => {
            let history = History::read(&*home.state, version.new.run).await;
            upstream(&history.with_context(|| format!("failed to read {}", version.new.run))?, &version.new.step)
        }
        None => Vec::new(),
    };
    let children = home.registry.versions_from(&Origin::Parent(of.clone()), "", LISTED).await?.items;
    let predictions = home.registry.predictions(&of, 0, LISTED).await?;
    let more = predictions.next.is_some();
    Ok(VersionLineage { of, version, steps, children, predictions: predictions.items, more })
}

/// The steps that a step needed, and those that they needed.
fn upstream(history: &History, step: &str) -> Vec<Made> {
    let mut wanted = BTreeSet::from([step]);
    // Steps stand after those that they need, or are found in another round.
    loop {
        let before = wanted.len();
        for step in history.steps.iter().rev() {
            if wanted.contains(step.name.as_str()) {
                wanted.extend(
                    step.needs.iter().filter_map(|need| Some(history.steps.get(need.step as usize)?.name.as_str())),
                );
            }
        }
        if wanted.len() == before {
            break;
        }
    }
    let found = history.steps.iter().filter(|known| known.name != step && wanted.contains(known.name.as_str()));
    let made = |step: &StepHistory| Made {
        step: step.name.clone(),
        kind: step.kind.clone(),
        artifacts: step.output.as_ref().map(gristmill_protocol::output::Output::artifacts).unwrap_or_default(),
        rows: step.rows(),
    };
    found.map(made).collect()
}

impl VersionLineage {
    fn to_json(&self) -> Value {
        let VersionView { new, lineage, .. } = &self.version;
        let digests = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect::<Vec<_>>();
        json!({
            "name": self.of.name,
            "version": self.of.version,
            "model": new.model.to_string(),
            "run": new.run.to_string(),
            "step": new.step,
            "datasets": digests(&lineage.datasets),
            "study": lineage.study.map(|digest| digest.to_string()),
            "evidence": new.evidence.map(|digest| digest.to_string()),
            "parent": lineage.parent.as_ref().map(reference_json),
            "steps": self.steps.iter().map(|made| json!({
                "step": made.step, "kind": made.kind, "artifacts": digests(&made.artifacts), "rows": made.rows,
            })).collect::<Vec<_>>(),
            "children": self.children.iter().map(reference_json).collect::<Vec<_>>(),
            "predictions": self.predictions.iter().map(|prediction| json!({
                "at_ms": prediction.at.0,
                "by": prediction.by,
                "run": prediction.run.map(|run| run.to_string()),
                "output": prediction.output.to_string(),
                "rows": prediction.rows,
                "input": prediction.input.map(|digest| digest.to_string()),
            })).collect::<Vec<_>>(),
            "more_predictions": self.more,
        })
    }

    fn to_text(&self) -> String {
        let VersionView { new, lineage, .. } = &self.version;
        let mut out = format!(
            "{}@{}: model {} of step {} in {}\n\n",
            self.of.name,
            self.of.version,
            new.model.short(),
            new.step,
            new.run
        );
        let mut from = Table::new(&["comes from", "", ">rows", "artifacts"]);
        for made in &self.steps {
            let digests: Vec<String> = made.artifacts.iter().map(Digest::short).collect();
            let rows = made.rows.map(text::count).unwrap_or_default();
            from.row([made.step.clone(), made.kind.clone(), rows, digests.join(" ")]);
        }
        if self.steps.is_empty() {
            for dataset in &lineage.datasets {
                from.row(["dataset".to_owned(), String::new(), String::new(), dataset.short()]);
            }
        }
        if let Some(parent) = &lineage.parent {
            from.row([
                format!("{}@{}", parent.name, parent.version),
                "version".to_owned(),
                String::new(),
                String::new(),
            ]);
        }
        out += &from.to_string();
        for child in &self.children {
            out += &format!("{}@{} was made from it\n", child.name, child.version);
        }
        if self.predictions.is_empty() {
            out += "\nit has scored nothing in a batch yet\n";
            return out;
        }
        let mut scored = Table::new(&["scored", ">rows", "input", "output", "by"]);
        for prediction in &self.predictions {
            scored.row([
                text::moment(prediction.at),
                text::count(prediction.rows),
                prediction.input.map(|digest| digest.short()).unwrap_or_default(),
                prediction.output.short(),
                prediction.by.clone(),
            ]);
        }
        out += &format!("\n{scored}");
        if self.more {
            out += "and more\n";
        }
        out
    }
}
