//! Parameters: their values, and how they get into the tree.
//!
//! `${name}` as a whole text takes the parameter's value with its type; inside a longer text it is put in as
//! text; `$${` stands for `${`. Parameters can't use each other, so their order means nothing.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::Value;

use super::complaint::{Complaint, wants_hint};
use super::names::{is_name, suggest};
use super::source::{self, Edit, Kind, Node, Source, Span, Text};
use crate::limits::{PARAMETERS_BYTES_MAX, PIPELINE_BYTES_MAX};

/// Bytes that parameters may add to a file: a long one used on every line must not fill the memory.
const SUBSTITUTED_BYTES_MAX: usize = 4 * PIPELINE_BYTES_MAX;

/// Puts the parameters into the tree and returns their values. What has none becomes unknown.
pub(super) fn apply(
    source: &Source<'_>,
    root: &mut Node,
    overrides: &[(String, String)],
    complaints: &mut Vec<Complaint>,
) -> IndexMap<String, Value> {
    let declared: Vec<(String, Span, Node)> = root
        .get("params")
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .map(|entry| (entry.key.clone(), entry.key_span, entry.value.clone()))
        .collect();
    let mut values: IndexMap<String, Node> = IndexMap::new();
    for (name, span, default) in &declared {
        refuse_parameters_in(source, default, complaints);
        let given = overrides.iter().rev().find(|(key, _)| key == name);
        let value = match given {
            Some((_, text)) => match typed(default, text) {
                Ok(kind) => Node { kind, span: *span },
                Err(expected) => {
                    let message = format!("parameter `{name}` must be {expected}, found `{text}`");
                    let hint = format!("its default is `{}`", default.to_value());
                    complaints.push(Complaint::elsewhere(place(name, text), message).hint(hint));
                    Node { kind: Kind::Unknown, span: *span }
                }
            },
            None if default.kind == Kind::Null => {
                let message = format!("parameter `{name}` has no value");
                let hint = format!("give one with `--set {name}=VALUE`, or a default here");
                complaints.push(source.complain(*span, message).hint(hint));
                Node { kind: Kind::Unknown, span: *span }
            }
            None => default.clone(),
        };
        values.insert(name.clone(), value);
    }
    for (name, text) in overrides.iter().filter(|(name, _)| !values.contains_key(name)) {
        let message = format!("unknown parameter `{name}`");
        let hint = suggest(name, "the pipeline has", values.keys().map(String::as_str));
        let hint = hint.unwrap_or_else(|| "declare it under `params` of the pipeline".to_owned());
        complaints.push(Complaint::elsewhere(place(name, text), message).hint(hint));
    }

    let mut filler = Filler { source, values: &values, used: HashSet::new(), added: 0, complaints };
    if let Kind::Mapping(entries) = &mut root.kind {
        for entry in entries.iter_mut().filter(|entry| entry.key != "params") {
            filler.fill(&mut entry.value);
        }
    }
    let used = filler.used;
    for (name, span, _) in &declared {
        // A wrong name can't be used; that is complained about already.
        if !used.contains(name) && is_name(name) {
            let complaint = source.complain(*span, format!("parameter `{name}` is never used")).warning();
            complaints.push(complaint.hint(format!("use it as `${{{name}}}`, or remove it")));
        }
    }
    let values: IndexMap<String, Value> = values.into_iter().map(|(name, node)| (name, node.to_value())).collect();
    let bytes = serde_json::to_string(&values).map_or(0, |text| text.len());
    if bytes > PARAMETERS_BYTES_MAX {
        let message = format!("the parameters take {bytes} bytes; they may take {PARAMETERS_BYTES_MAX}");
        complaints.push(Complaint::elsewhere(source.file, message).hint("put data into a file and pass its name"));
    }
    values
}

/// What a complaint about the command line calls its place.
fn place(name: &str, text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("--set {name}={shown}")
}

/// The value of a `--set`, read in the light of the default: what is a text stays one, even `2013`.
fn typed(default: &Node, text: &str) -> Result<Kind, &'static str> {
    let kind = match &default.kind {
        Kind::String(_) => return Ok(Kind::text(text.to_owned())),
        Kind::Sequence(_) | Kind::Mapping(_) => {
            let source = Source::new("--set", text);
            source::parse(&source)
                .ok()
                .filter(|tree| tree.complaints.is_empty())
                .map_or(Kind::Null, |tree| tree.root.kind)
        }
        _ => source::plain(text.trim()),
    };
    if let Kind::Float(number) = kind
        && !number.is_finite()
    {
        return Err("a number that can be compared");
    }
    match (&default.kind, &kind) {
        (Kind::Bool(_), Kind::Bool(_))
        | (Kind::Int(_) | Kind::Float(_), Kind::Int(_) | Kind::Float(_))
        | (Kind::Sequence(_), Kind::Sequence(_))
        | (Kind::Mapping(_), Kind::Mapping(_))
        | (Kind::Unknown, _) => Ok(kind),
        // An empty value for a parameter without a default is an empty text, not "no value".
        (Kind::Null, Kind::Null) => Ok(Kind::text(text.to_owned())),
        (Kind::Null, _) => Ok(kind),
        (Kind::Bool(_), _) => Err("`true` or `false`"),
        (Kind::Int(_) | Kind::Float(_), _) => Err("a number"),
        (Kind::Sequence(_), _) => Err("a list such as `[a, b]`"),
        (Kind::Mapping(_), _) => Err("a mapping such as `{a: 1}`"),
        (Kind::String(_), _) => Ok(kind),
    }
}

fn refuse_parameters_in(source: &Source<'_>, node: &Node, complaints: &mut Vec<Complaint>) {
    match &node.kind {
        Kind::String(text) if text.value.contains("${") => {
            complaints
                .push(source.complain(node.span, "a parameter can't use another one").hint("write the value out"));
        }
        Kind::Sequence(items) => items.iter().for_each(|item| refuse_parameters_in(source, item, complaints)),
        Kind::Mapping(entries) => {
            entries.iter().for_each(|entry| refuse_parameters_in(source, &entry.value, complaints));
        }
        _ => {}
    }
}

struct Filler<'f, 'a> {
    source: &'f Source<'a>,
    values: &'f IndexMap<String, Node>,
    used: HashSet<String>,
    added: usize,
    complaints: &'f mut Vec<Complaint>,
}

impl Filler<'_, '_> {
    fn fill(&mut self, node: &mut Node) {
        match &mut node.kind {
            Kind::Sequence(items) => items.iter_mut().for_each(|item| self.fill(item)),
            Kind::Mapping(entries) => entries.iter_mut().for_each(|entry| self.fill(&mut entry.value)),
            Kind::String(text) if text.value.contains("${") => {
                if let Some(kind) = self.filled(node) {
                    node.kind = kind;
                }
            }
            _ => {}
        }
    }

    /// The value of a text that uses parameters.
    fn filled(&mut self, node: &Node) -> Option<Kind> {
        let Kind::String(text) = &node.kind else { return None };
        let written = text.value.clone();
        let whole = written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|name| is_name(name));
        if self.added > SUBSTITUTED_BYTES_MAX {
            return Some(Kind::Unknown);
        }
        if let Some(name) = whole {
            let value = self.value(name, || node.span)?;
            return Some(if self.add(weight(&value), || node.span) {
                moved(value, node.span).kind
            } else {
                Kind::Unknown
            });
        }
        let (mut value, mut edits, mut at) = (String::new(), Vec::new(), 0);
        let mut is_known = true;
        while let Some(found) = written[at..].find("${") {
            let start = at + found;
            value.push_str(&written[at..start]);
            if value.ends_with('$') {
                // `$${`: the first dollar sign goes, the rest stands.
                value.pop();
                let from = value.len();
                value.push_str("${");
                edits.push(Edit { start: from, end: value.len(), written_start: start - 1, written_end: start + 2 });
                at = start + 2;
                continue;
            }
            let end = written[start..].find('}').map(|length| start + length + 1);
            let Some((end, name)) =
                end.map(|end| (end, &written[start + 2..end - 1])).filter(|(_, name)| is_name(name))
            else {
                let span = self.source.span_within(node, start, end.unwrap_or(start + 2));
                let complaint = self.source.complain(span, "expected `${name}` with the name of a parameter");
                self.complaints.push(complaint.hint("write `$${` for the signs themselves"));
                return Some(Kind::Unknown);
            };
            // Finding the place takes time that only a complaint that is shown is worth.
            let (source, is_shown) = (self.source, wants_hint(self.complaints));
            let span = || if is_shown { source.span_within(node, start, end) } else { node.span };
            let from = value.len();
            match self.value(name, span).map(|node| node.kind) {
                Some(Kind::String(text)) => value.push_str(&text.value),
                Some(Kind::Bool(flag)) => value.push_str(&flag.to_string()),
                Some(Kind::Int(number)) => value.push_str(&number.to_string()),
                Some(Kind::Float(number)) => value.push_str(&number.to_string()),
                Some(Kind::Sequence(_) | Kind::Mapping(_)) => {
                    let message = format!("parameter `{name}` is no text and no number, and can't stand inside a text");
                    self.complaints.push(self.source.complain(span(), message));
                    is_known = false;
                }
                Some(Kind::Null | Kind::Unknown) | None => is_known = false,
            }
            is_known &= self.add(value.len() - from, span);
            edits.push(Edit { start: from, end: value.len(), written_start: start, written_end: end });
            at = end;
            if !is_known && self.added > SUBSTITUTED_BYTES_MAX {
                return Some(Kind::Unknown);
            }
        }
        value.push_str(&written[at..]);
        Some(if is_known { Kind::String(Text { value, style: text.style, edits, written }) } else { Kind::Unknown })
    }

    /// The value of a parameter that is used at `span`.
    fn value(&mut self, name: &str, span: impl FnOnce() -> Span) -> Option<Node> {
        self.used.insert(name.to_owned());
        if let Some(node) = self.values.get(name) {
            return Some(node.clone());
        }
        let span = span();
        let hint = wants_hint(self.complaints)
            .then(|| suggest(name, "the pipeline has", self.values.keys().map(String::as_str)))
            .flatten()
            .unwrap_or_else(|| format!("declare it: `params: {{ {name}: ... }}`"));
        self.complaints.push(self.source.complain(span, format!("unknown parameter `{name}`")).hint(hint));
        Some(Node { kind: Kind::Unknown, span })
    }

    /// Counts what was put in; says so once when it is too much.
    fn add(&mut self, bytes: usize, span: impl FnOnce() -> Span) -> bool {
        let before = self.added;
        self.added = before.saturating_add(bytes);
        if self.added <= SUBSTITUTED_BYTES_MAX {
            return true;
        }
        if before <= SUBSTITUTED_BYTES_MAX {
            let message = format!("the parameters up to here add more than {SUBSTITUTED_BYTES_MAX} bytes to the file");
            self.complaints.push(self.source.complain(span(), message));
        }
        false
    }
}

fn weight(node: &Node) -> usize {
    match &node.kind {
        Kind::String(text) => text.value.len(),
        Kind::Sequence(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Kind::Mapping(entries) => 1 + entries.iter().map(|entry| entry.key.len() + weight(&entry.value)).sum::<usize>(),
        _ => 8,
    }
}

/// The same value at another place: complaints about it point where it is used. The texts in it don't stand
/// there as written, so places within them are the whole.
fn moved(node: Node, span: Span) -> Node {
    let kind = match node.kind {
        Kind::String(text) => Kind::text(text.value),
        Kind::Sequence(items) => Kind::Sequence(items.into_iter().map(|item| moved(item, span)).collect()),
        Kind::Mapping(entries) => Kind::Mapping(
            entries
                .into_iter()
                .map(|entry| source::Entry { key: entry.key, key_span: span, value: moved(entry.value, span) })
                .collect(),
        ),
        other => other,
    };
    Node { kind, span }
}
