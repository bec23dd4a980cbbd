//! Which steps a step mentions: that is all there is to dependencies.
//!
//! Every mention is resolved to a step of the right kind and to one of its outputs. Names that can't be
//! resolved are complained about here, once, and take no part in what follows.

use std::collections::HashMap;

use super::complaint::{Complaint, wants_hint};
use super::names::{in_backticks, is_name, nearest};
use super::schema::KINDS;
use super::source::{Kind, Node, Source, Span};
use super::sql;
use super::task::Need;
use crate::limits::STEPS_MAX;

/// Kinds whose output is one dataset. What a Python step returns is known only when it has run.
const DATASET_KINDS: [&str; 4] = ["ingest", "transform", "expect", "python"];
/// Kinds of steps that make a model.
const MODEL_KINDS: [&str; 2] = ["train", "tune"];

/// Words that a query is often broken by when they are misspelt.
const SQL_KEYWORDS: [&str; 9] = ["select", "from", "where", "group", "order", "having", "join", "limit", "union"];

/// A step, as far as it is known.
pub(super) struct StepInfo<'t> {
    pub name: &'t str,
    pub name_span: Span,
    pub body: &'t Node,
    /// None when it has no kind, or several; nothing is said about what it can't be, then.
    pub kind: Option<&'static str>,
    /// What stands under the kind.
    pub params: Option<&'t Node>,
    pub references: Vec<Reference>,
}

impl StepInfo<'_> {
    /// A parameter of the step's kind.
    pub fn param(&self, key: &str) -> Option<&Node> {
        self.params?.get(key)
    }

    /// The text of a parameter of the step's kind.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.param(key)?.as_str()
    }

    /// The step that a key (`input`, `model`) refers to.
    pub fn target(&self, key: &str) -> Option<&Reference> {
        self.references.iter().find(|reference| reference.key == key)
    }
}

/// A mention that was resolved.
pub(super) struct Reference {
    /// The key that it stands under.
    pub key: &'static str,
    pub need: Need,
    /// The place of the step in the list of all.
    pub target: usize,
    pub span: Span,
}

/// All steps in the order of the file, with what they mention.
pub(super) fn resolve<'t>(source: &Source<'_>, root: &'t Node, complaints: &mut Vec<Complaint>) -> Vec<StepInfo<'t>> {
    let mut steps: Vec<StepInfo<'t>> = Vec::new();
    // That there are more is complained about already.
    for entry in root.get("steps").map(Node::entries).unwrap_or_default().iter().take(STEPS_MAX) {
        let mut kinds = KINDS.into_iter().filter(|kind| entry.value.entry(kind).is_some());
        let kind = match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Some(kind),
            _ => None,
        };
        steps.push(StepInfo {
            name: &entry.key,
            name_span: entry.key_span,
            body: &entry.value,
            kind,
            params: kind.and_then(|kind| entry.value.get(kind)),
            references: Vec::new(),
        });
    }
    let index = steps.iter().enumerate().map(|(index, step)| (step.name, index)).collect();
    let mut resolver = Resolver { source, steps: &steps, index, complaints };
    let references: Vec<Vec<Reference>> = (0..steps.len()).map(|step| resolver.step(step)).collect();
    for (step, references) in steps.iter_mut().zip(references) {
        step.references = references;
    }
    steps
}

struct Resolver<'r, 't, 'a> {
    source: &'r Source<'a>,
    steps: &'r [StepInfo<'t>],
    index: HashMap<&'t str, usize>,
    complaints: &'r mut Vec<Complaint>,
}

impl<'t> Resolver<'_, 't, '_> {
    fn step(&mut self, from: usize) -> Vec<Reference> {
        let steps = self.steps;
        let step = &steps[from];
        let mut found = Vec::new();
        match step.kind {
            Some("transform") => self.tables(from, &mut found),
            Some("expect") => {
                found.extend(self.dataset(from, "input"));
                for rule in step.param("rules").map(Node::items).unwrap_or_default() {
                    if let Some(node) = rule.get("sql").filter(|node| node.as_str().is_some()) {
                        self.condition(node);
                    }
                }
            }
            Some("split" | "train" | "tune") => found.extend(self.dataset(from, "input")),
            Some("validate") => {
                found.extend(self.of_kind(from, "model", &MODEL_KINDS));
                found.extend(self.dataset(from, "input"));
                for entry in step.param("slices").map(Node::entries).unwrap_or_default() {
                    if entry.value.as_str().is_some() {
                        self.condition(&entry.value);
                    }
                }
            }
            Some("register") => {
                found.extend(self.of_kind(from, "model", &MODEL_KINDS));
                found.extend(self.of_kind(from, "evidence", &["validate"]));
            }
            Some("score") => {
                found.extend(self.scoring_model(from));
                found.extend(self.dataset(from, "input"));
            }
            Some("python") => self.arguments(from, &mut found),
            _ => {}
        }
        for node in step.body.get("after").map(Node::items).unwrap_or_default() {
            if let Some(name) = node.as_str() {
                found.extend(self.after(from, name, node.span));
            }
        }
        found
    }

    fn say(&mut self, span: Span, message: String, hint: Option<String>) {
        self.complaints.push(self.source.complain(span, message).maybe_hint(hint));
    }

    /// A reference to a step with one output.
    fn found(&self, key: &'static str, target: usize, span: Span) -> Reference {
        let need = Need { step: self.steps[target].name.to_owned(), output: None, order_only: false };
        Reference { key, need, target, span }
    }

    /// The place of a step that isn't the one that asks.
    fn other(&mut self, from: usize, name: &str, span: Span) -> Option<usize> {
        let target = *self.index.get(name)?;
        if target == from {
            self.say(span, format!("step `{name}` can't wait for itself"), None);
            return None;
        }
        Some(target)
    }

    fn of_kind(&mut self, from: usize, key: &'static str, kinds: &[&'static str]) -> Option<Reference> {
        let node = self.steps[from].param(key)?;
        let name = node.as_str()?.to_owned();
        let is_meant = |step: &&StepInfo<'t>| step.kind.is_some_and(|kind| kinds.contains(&kind));
        let candidates: Vec<&'t str> = self.steps.iter().filter(is_meant).map(|step| step.name).collect();
        let what = format!("the pipeline's {} steps", listed(kinds, "and", |kind| format!("`{kind}`")));
        let Some(&target) = self.index.get(name.as_str()) else {
            let hint = self.hint(&name, &candidates, &what);
            self.say(node.span, format!("`{key}` names the step `{name}`, which doesn't exist"), hint);
            return None;
        };
        match self.steps[target].kind {
            Some(found) if !kinds.contains(&found) => {
                let message = format!(
                    "`{key}` must name {} step, but `{name}` is {} step",
                    listed(kinds, "or", with_article),
                    with_article(found)
                );
                let hint = self.hint(&name, &candidates, &what);
                self.say(node.span, message, hint);
                None
            }
            _ => self.other(from, &name, node.span).map(|target| self.found(key, target, node.span)),
        }
    }

    fn scoring_model(&mut self, from: usize) -> Option<Reference> {
        let node = self.steps[from].param("model")?;
        let name = node.as_str()?;
        let Some((model, version)) = name.split_once('@') else {
            let is_registered =
                self.steps.iter().any(|step| step.kind == Some("register") && step.text("name") == Some(name));
            if is_registered && !self.index.contains_key(name) {
                let message = format!("`model` names the step `{name}`, which doesn't exist");
                let hint = format!("a registered model is named with its alias or version: `{name}@champion`");
                self.say(node.span, message, Some(hint));
                return None;
            }
            return self.of_kind(from, "model", &MODEL_KINDS);
        };
        let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        if !is_name(model) || !(is_name(version) || is_version) {
            let message = format!("`model` must be `name@alias` or `name@3`, found `{name}`");
            self.say(node.span, message, None);
        }
        None
    }

    fn dataset(&mut self, from: usize, key: &'static str) -> Option<Reference> {
        let node = self.steps[from].param(key)?;
        let name = node.as_str()?.to_owned();
        self.dataset_named(from, key, &name, node.span)
    }

    fn dataset_named(&mut self, from: usize, key: &'static str, name: &str, span: Span) -> Option<Reference> {
        let (step, part) = match name.split_once('.') {
            Some((step, part)) => (step, Some(part)),
            None => (name, None),
        };
        let Some(target) = self.index.get(step).copied() else {
            let hint = self.hint_for_dataset(from, name);
            self.say(span, format!("`{key}` names the step `{step}`, which doesn't exist"), hint);
            return None;
        };
        match (self.steps[target].kind, part) {
            (None, _) => {
                let target = self.other(from, step, span)?;
                let mut reference = self.found(key, target, span);
                reference.need.output = part.map(str::to_owned);
                Some(reference)
            }
            (Some("split"), Some(part)) => self.part(from, key, target, part, span),
            (Some("split"), None) => {
                let parts = parts_of(&self.steps[target]);
                let message = format!("`{key}` must name one part of `{step}`, which is a split");
                let names: Vec<String> = parts.iter().map(|part| format!("`{step}.{part}`")).collect();
                self.say(span, message, Some(format!("write {}", names.join(" or "))));
                None
            }
            (Some(kind), Some(_)) if DATASET_KINDS.contains(&kind) => {
                let message = format!("step `{step}` has no parts; only a `split` step has");
                self.say(span, message, Some(format!("write `{step}`")));
                None
            }
            (Some(kind), None) if DATASET_KINDS.contains(&kind) => {
                self.other(from, step, span).map(|target| self.found(key, target, span))
            }
            (Some(kind), _) => {
                let message = format!("`{key}` must name a dataset, but `{step}` is {} step", with_article(kind));
                let hint = self.hint_for_dataset(from, name);
                self.say(span, message, hint);
                None
            }
        }
    }

    fn part(&mut self, from: usize, key: &'static str, target: usize, part: &str, span: Span) -> Option<Reference> {
        let split = &self.steps[target];
        let parts = parts_of(split);
        if !parts.contains(&part) {
            let (message, hint) = if part == "validation" {
                let hint = format!("give `{}` a share: `validation: 0.1`", split.name);
                (format!("the split `{}` has no part `validation`, since its share is zero", split.name), hint)
            } else {
                let hint = match nearest(part, parts.iter().copied()) {
                    Some(near) => format!("did you mean `{}.{near}`?", split.name),
                    None => format!("its parts are {}", in_backticks(parts)),
                };
                (format!("the split `{}` has no part `{part}`", split.name), hint)
            };
            self.say(span, message, Some(hint));
            return None;
        }
        let target = self.other(from, split.name, span)?;
        let mut reference = self.found(key, target, span);
        reference.need.output = Some(part.to_owned());
        Some(reference)
    }

    /// The datasets of a Python step, and whether its arguments can be told apart by their names.
    fn arguments(&mut self, from: usize, found: &mut Vec<Reference>) {
        let steps = self.steps;
        let [inputs, params] =
            ["inputs", "params"].map(|key| steps[from].param(key).map(Node::entries).unwrap_or_default());
        for entry in inputs {
            if let Some(name) = entry.value.as_str() {
                found.extend(self.dataset_named(from, "inputs", name, entry.value.span));
            }
        }
        for entry in inputs.iter().chain(params) {
            if is_name(&entry.key) && entry.key.contains('-') {
                let message = format!("`{}` can't be the name of an argument in Python", entry.key);
                self.say(entry.key_span, message, Some(format!("write `{}`", entry.key.replace('-', "_"))));
            }
        }
        for entry in params.iter().filter(|entry| inputs.iter().any(|input| input.key == entry.key)) {
            let message = format!("the argument `{}` is both an input and a parameter", entry.key);
            self.say(entry.key_span, message, Some("give one of them another name".to_owned()));
        }
    }

    fn tables(&mut self, from: usize, found: &mut Vec<Reference>) {
        let Some(node) = self.steps[from].param("sql") else { return };
        let Some(text) = node.as_str() else { return };
        let tables = match sql::tables(text) {
            Ok(tables) => tables,
            Err(error) => return self.sql_error(node, text, &error),
        };
        for table in tables {
            let span = self.source.span_within(node, table.start, table.end);
            match table.parts.as_slice() {
                [name] => found.extend(self.dataset_named(from, "sql", name, span)),
                parts => {
                    let name = parts.join(".");
                    let hint = match parts {
                        [step, _] if self.index.contains_key(step.as_str()) => {
                            format!("write it in double quotes: `\"{name}\"`")
                        }
                        _ => "the tables are the pipeline's steps".to_owned(),
                    };
                    self.say(span, format!("unknown table `{name}`"), Some(hint));
                }
            }
        }
    }

    fn condition(&mut self, node: &Node) {
        let text = node.as_str().unwrap_or_default();
        if let Err(error) = sql::condition(text) {
            self.sql_error(node, text, &error);
        }
    }

    fn sql_error(&mut self, node: &Node, text: &str, error: &sql::SqlError) {
        let rest = text.get(error.at..).unwrap_or_default();
        let word = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        let span = self.source.span_within(node, error.at, error.at + word.max(1).min(rest.len()));
        let is_keyword = SQL_KEYWORDS.contains(&rest[..word].to_lowercase().as_str());
        let near = nearest(&rest[..word], SQL_KEYWORDS).filter(|_| !is_keyword);
        let hint = near.map(|keyword| format!("did you mean `{keyword}`?"));
        self.say(span, format!("this is no valid SQL: {}", error.message), hint);
    }

    fn after(&mut self, from: usize, name: &str, span: Span) -> Option<Reference> {
        if !self.index.contains_key(name) {
            let steps = self.steps;
            // Whoever writes `parts.train` here means the step.
            let step = name.split_once('.').map(|(step, _)| step).filter(|step| self.index.contains_key(step));
            let hint = match step {
                Some(step) => Some(format!("write `{step}`")),
                None => {
                    let candidates: Vec<&str> =
                        steps.iter().map(|step| step.name).filter(|name| *name != steps[from].name).collect();
                    self.hint(name, &candidates, "the pipeline's steps")
                }
            };
            self.say(span, format!("`after` names the step `{name}`, which doesn't exist"), hint);
            return None;
        }
        let target = self.other(from, name, span)?;
        let need = Need { step: name.to_owned(), output: None, order_only: true };
        Some(Reference { key: "after", need, target, span })
    }

    /// The nearest of those that would do, else the nearest of all steps, else those that would do.
    fn hint(&self, wrong: &str, candidates: &[&str], what: &str) -> Option<String> {
        if !wants_hint(self.complaints) {
            return None;
        }
        if let Some(name) = nearest(wrong, candidates.iter().copied()) {
            return Some(format!("did you mean `{name}`?"));
        }
        match candidates {
            [] => None,
            [only] => Some(format!("did you mean `{only}`?")),
            _ if candidates.len() <= 12 => Some(format!("{what}: {}", in_backticks(candidates.iter().copied()))),
            _ => None,
        }
    }

    fn hint_for_dataset(&self, from: usize, wrong: &str) -> Option<String> {
        if !wants_hint(self.complaints) {
            return None;
        }
        let others = self.steps.iter().enumerate().filter(|(index, _)| *index != from).map(|(_, step)| step);
        let names = others.clone().filter(|step| is_dataset(step)).map(|step| step.name.to_owned());
        let splits = others.filter(|step| step.kind == Some("split"));
        let parts = splits.flat_map(|step| parts_of(step).into_iter().map(|part| format!("{}.{part}", step.name)));
        let candidates: Vec<String> = names.chain(parts).collect();
        let candidates: Vec<&str> = candidates.iter().map(String::as_str).collect();
        self.hint(wrong, &candidates, "the pipeline's datasets")
    }
}

fn is_dataset(step: &StepInfo<'_>) -> bool {
    step.kind.is_some_and(|kind| DATASET_KINDS.contains(&kind))
}

/// The parts that a split makes. An unknown share counts as one.
fn parts_of(split: &StepInfo<'_>) -> Vec<&'static str> {
    let mut parts = vec!["train", "test"];
    let has_validation =
        split.param("validation").is_some_and(|node| node.kind == Kind::Unknown || node.as_f64() != Some(0.0));
    if has_validation {
        parts.push("validation");
    }
    parts
}

/// `a`, `a or b`: each as `written` has it.
fn listed(kinds: &[&str], last: &str, written: impl Fn(&str) -> String) -> String {
    kinds.iter().map(|kind| written(kind)).collect::<Vec<_>>().join(&format!(" {last} "))
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} `{kind}`")
}
