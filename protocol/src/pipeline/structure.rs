//! Whether the tree has the shape that the types ask for.
//!
//! This walks the tree beside the JSON Schema that is generated from the types, so a new field needs no
//! line here. It knows the part of JSON Schema that the generator writes, and two things of our own: that
//! a choice between words and one-key mappings is one choice, and where a misplaced key belongs. What names
//! mean is not its concern.

use serde_json::{Map, Value};

use super::complaint::{Complaint, wants_hint};
use super::duration;
use super::names::{NAME_RULE, as_name, in_backticks, is_name, nearest, suggest};
use super::schema::{KINDS, strict};
use super::source::{Entry, Kind, Node, Source, Span};

/// Characters of a value that a message repeats.
const FOUND_CHARS_MAX: usize = 40;
/// Keys of a mapping among which a misspelt one is looked for.
const MISSPELT_MAX: usize = 100;

/// Complains about everything in the tree that doesn't have the shape of a pipeline.
pub(super) fn walk(source: &Source<'_>, root: &Node, complaints: &mut Vec<Complaint>) {
    let schema = strict();
    let mut walker = Walker { source, schema, complaints };
    // Complaints about the file as a whole point at its first character rather than at everything.
    let here = source.span(root.span.start, root.span.start);
    walker.value(schema, root, &Place::Root, here);
}

/// Where a value stands: a list from the value up to the root.
enum Place<'p> {
    Root,
    Key(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>),
}

impl<'p> Place<'p> {
    fn keys(&self) -> Vec<&'p str> {
        match self {
            Place::Root => Vec::new(),
            Place::Item(parent) => parent.keys(),
            Place::Key(parent, key) => {
                let mut keys = parent.keys();
                keys.push(key);
                keys
            }
        }
    }

    /// The value as the subject of a sentence.
    fn label(&self) -> String {
        let keys = self.keys();
        let item = if matches!(self, Place::Item(_)) { "an item of " } else { "" };
        match keys.as_slice() {
            [] => "the pipeline".to_owned(),
            ["steps", step] => format!("step `{step}`"),
            ["steps", step, .., last] => format!("{item}`{last}` in step `{step}`"),
            [.., last] => format!("{item}`{last}`"),
        }
    }

    /// The mapping as a place where keys are.
    fn inside(&self) -> String {
        match self.keys().as_slice() {
            [] => "the pipeline".to_owned(),
            ["steps", step] | ["steps", step, _] => format!("step `{step}`"),
            ["steps", step, .., last] => format!("`{last}` of step `{step}`"),
            [.., last] => format!("`{last}`"),
        }
    }
}

struct Walker<'w, 'a> {
    source: &'w Source<'a>,
    schema: &'static Value,
    complaints: &'w mut Vec<Complaint>,
}

impl Walker<'_, '_> {
    /// Checks one value. `here` is where complaints about the value as a whole point: its key, if it has one.
    fn value(&mut self, schema: &'static Value, node: &Node, place: &Place<'_>, here: Span) {
        if node.kind == Kind::Unknown {
            return;
        }
        // `true` takes anything.
        if let Some(rules) = self.resolved(schema).as_object() {
            self.rules(rules, node, place, here);
        }
    }

    fn rules(&mut self, rules: &'static Map<String, Value>, node: &Node, place: &Place<'_>, here: Span) {
        if let Some(alternatives) = alternatives(rules) {
            return self.choice(alternatives, node, place, here);
        }
        let types = types(rules);
        if !types.is_empty() && !types.iter().any(|name| is_type(node, name)) {
            return self.mismatch(rules, &expected(&types), node, place, here);
        }
        match &node.kind {
            Kind::Mapping(entries) => self.mapping(rules, entries, node, place, here),
            Kind::Sequence(items) => self.sequence(rules, items, node, place, here),
            Kind::String(_) => self.text(rules, node, place),
            Kind::Int(_) | Kind::Float(_) => self.number(rules, node, place),
            Kind::Null | Kind::Bool(_) | Kind::Unknown => {}
        }
    }

    fn resolved(&self, schema: &'static Value) -> &'static Value {
        match schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => self.schema.pointer(pointer).expect("the generator defines what it refers to"),
            None => schema,
        }
    }

    fn say(&mut self, span: Span, message: String, hint: Option<String>) {
        self.complaints.push(self.source.complain(span, message).maybe_hint(hint));
    }

    fn mismatch(&mut self, rules: &Map<String, Value>, expected: &str, node: &Node, place: &Place<'_>, here: Span) {
        let types = types(rules);
        let hint = match &node.kind {
            Kind::Null if types.contains(&"object") && rules.contains_key("oneOf") => {
                Some(format!("give it one of {}", in_backticks(KINDS)))
            }
            Kind::Null if types.contains(&"object") && !rules.contains_key("required") => {
                Some("write `{}` to take the defaults".to_owned())
            }
            Kind::Int(number) if is_duration(rules) => Some(format!("write it with its unit: `{number}s`")),
            Kind::String(text) if types.contains(&"boolean") => match text.value.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some("write `true`".to_owned()),
                "no" | "off" | "false" => Some("write `false`".to_owned()),
                _ => None,
            },
            Kind::String(text) if types.iter().any(|name| ["integer", "number"].contains(name)) => {
                matches!(super::source::plain(text.value.trim()), Kind::Int(_) | Kind::Float(_))
                    .then(|| "remove the quotes".to_owned())
            }
            Kind::Int(_) | Kind::Float(_) | Kind::Bool(_) if types.contains(&"string") => {
                Some(format!("put it in quotes: `\"{}\"`", self.written(node)))
            }
            Kind::Null | Kind::Mapping(_) | Kind::Sequence(_) | Kind::Unknown => None,
            _ if types.contains(&"array") => Some(format!("write it as a list: `[{}]`", self.written(node))),
            _ => None,
        };
        let span =
            if matches!(node.kind, Kind::Null | Kind::Mapping(_) | Kind::Sequence(_)) { here } else { node.span };
        let found = self.found(node);
        self.say(span, format!("{} must be {expected}, found {found}", place.label()), hint);
    }

    /// The value as it stands in the file, short.
    fn written(&self, node: &Node) -> String {
        match &node.kind {
            Kind::String(text) => shorten(&text.value),
            // What a parameter gave doesn't stand in the file.
            Kind::Int(value) => value.to_string(),
            Kind::Float(value) => value.to_string(),
            _ => shorten(&self.source.text[node.span.start..node.span.end]),
        }
    }

    /// The value for a sentence: "text `ten`", "nothing", "a list".
    fn found(&self, node: &Node) -> String {
        match &node.kind {
            Kind::Null | Kind::Unknown => "nothing".to_owned(),
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Int(value) => format!("the number `{value}`"),
            Kind::Float(value) => format!("the number `{value}`"),
            Kind::String(text) if text.value.trim().is_empty() => "an empty text".to_owned(),
            Kind::String(text) => format!("the text `{}`", shorten(&text.value)),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
        }
    }

    fn mapping(
        &mut self,
        rules: &'static Map<String, Value>,
        entries: &[Entry],
        node: &Node,
        place: &Place<'_>,
        here: Span,
    ) {
        let properties = rules.get("properties").and_then(Value::as_object);
        let others = rules.get("additionalProperties");
        for entry in entries {
            let inner = Place::Key(place, &entry.key);
            if let Some(schema) = properties.and_then(|properties| properties.get(&entry.key)) {
                self.value(schema, &entry.value, &inner, entry.key_span);
                continue;
            }
            match others {
                Some(Value::Bool(false)) => {
                    let hint = self.hint_for_key(rules, entry, place);
                    let message = format!("unknown key `{}` in {}", shorten(&entry.key), place.inside());
                    self.say(entry.key_span, message, hint);
                }
                Some(schema) => {
                    if let Some(rules) = rules.get("propertyNames").and_then(Value::as_object) {
                        self.key(rules, entry, place);
                    }
                    self.value(schema, &entry.value, &inner, entry.key_span);
                }
                None => {}
            }
        }
        for required in rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            // A misspelt key is complained about already; its twin isn't missing.
            let is_misspelt = entries.iter().take(MISSPELT_MAX).any(|entry| {
                !properties.is_some_and(|known| known.contains_key(&entry.key))
                    && nearest(&entry.key, property_names(rules)) == Some(required)
            });
            if node.get(required).is_none() && !is_misspelt {
                let hint = property_description(rules, required).map(|text| format!("`{required}`: {text}"));
                self.say(here, format!("missing key `{required}` in {}", place.inside()), hint);
            }
        }
        self.exactly_one(rules, entries, place, here);
        let count = entries.len() as u64;
        if rules.get("minProperties").and_then(Value::as_u64).is_some_and(|least| count < least) {
            self.say(here, format!("{} is empty", place.label()), None);
        }
        if let Some(most) = rules.get("maxProperties").and_then(Value::as_u64).filter(|most| count > *most) {
            self.say(here, format!("{} has {count} entries; it may have {most}", place.label()), None);
        }
    }

    /// The rule "one of these keys": a step has one kind.
    fn exactly_one(&mut self, rules: &Map<String, Value>, entries: &[Entry], place: &Place<'_>, here: Span) {
        let Some(one_of) = rules.get("oneOf").and_then(Value::as_array) else { return };
        let keys: Vec<&str> = one_of.iter().filter_map(|rule| rule.pointer("/required/0")?.as_str()).collect();
        let given: Vec<&Entry> = entries.iter().filter(|entry| keys.contains(&entry.key.as_str())).collect();
        match given.as_slice() {
            [_] => {}
            [] => {
                // A misspelt or misplaced key is complained about already, and its hint says what to do.
                let is_explained = entries.iter().any(|entry| !property_names(rules).any(|name| name == entry.key));
                if !is_explained {
                    let hint = format!("give it one of {}", in_backticks(keys));
                    self.say(here, format!("{} has no kind", place.label()), Some(hint));
                }
            }
            [_, second, ..] => {
                let names = in_backticks(given.iter().map(|entry| entry.key.as_str()));
                let message = format!("{} has {} kinds: {names}", place.label(), given.len());
                self.say(second.key_span, message, Some("write one step for each".to_owned()));
            }
        }
    }

    /// Where an unknown key belongs, or what it was meant to be.
    fn hint_for_key(&self, rules: &Map<String, Value>, entry: &Entry, place: &Place<'_>) -> Option<String> {
        if !wants_hint(self.complaints) {
            return None;
        }
        let keys = place.keys();
        let step = self.resolved(self.schema.pointer("/properties/steps/additionalProperties")?);
        let is_common = |key: &str| {
            !KINDS.contains(&key) && step.pointer(&format!("/properties/{key}")).is_some() && !key.contains('/')
        };
        if let ["steps", _, kind, ..] = keys.as_slice()
            && is_common(&entry.key)
        {
            return Some(format!("`{}` belongs beside `{kind}`, not inside it", entry.key));
        }
        if let Some(name) = nearest(&entry.key, property_names(rules)) {
            return Some(format!("did you mean `{name}`?"));
        }
        if entry.key == "<<" {
            return Some("merge keys are no part of YAML 1.2; write the keys out".to_owned());
        }
        if let ["steps", _] = keys.as_slice() {
            let holders: Vec<&str> = KINDS
                .into_iter()
                .filter(|kind| {
                    step.pointer(&format!("/properties/{kind}"))
                        .map(|reference| self.resolved(reference))
                        .and_then(|schema| schema.get("properties")?.as_object())
                        .is_some_and(|properties| properties.contains_key(&entry.key))
                })
                .collect();
            return match holders.as_slice() {
                [] => Some(format!("a step has one of {}", in_backticks(KINDS))),
                _ => Some(format!("`{}` belongs inside of {}", entry.key, in_backticks(holders))),
            };
        }
        suggest(&entry.key, "known keys", property_names(rules))
    }

    fn key(&mut self, rules: &Map<String, Value>, entry: &Entry, place: &Place<'_>) {
        if rules.get("format").and_then(Value::as_str) == Some("name") && !is_name(&entry.key) {
            let what = match place.keys().as_slice() {
                ["steps"] => "a step",
                ["params"] => "a parameter",
                ["steps", .., "expressions"] => "an expression",
                ["steps", _, "python", ..] => "an argument",
                _ => "a limit",
            };
            let message = format!("`{}` can't be the name of {what}", shorten(&entry.key));
            self.say(entry.key_span, message, Some(hint_for_name(&entry.key)));
        }
    }

    fn sequence(
        &mut self,
        rules: &'static Map<String, Value>,
        items: &[Node],
        node: &Node,
        place: &Place<'_>,
        here: Span,
    ) {
        let count = items.len() as u64;
        let least = rules.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = rules.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if count < least || count > most {
            let expected = match (least, most) {
                (least, most) if least == most => format!("{least} items"),
                (1, u64::MAX) => "at least one item".to_owned(),
                (least, u64::MAX) => format!("at least {least} items"),
                (least, most) => format!("{least} to {most} items"),
            };
            let span = if items.is_empty() { here } else { node.span };
            self.say(span, format!("{} must have {expected}, found {count}", place.label()), None);
        }
        let Some(schema) = rules.get("items") else { return };
        for item in items {
            // A mapping in a list has no key; its first line stands for it.
            self.value(schema, item, &Place::Item(place), item.span);
        }
    }

    fn text(&mut self, rules: &Map<String, Value>, node: &Node, place: &Place<'_>) {
        let text = node.as_str().unwrap_or_default();
        if let Some(words) = words(rules) {
            if !words.contains(&text) {
                let hint = suggest(text, "choose one of", words);
                self.say(node.span, format!("{} can't be `{}`", place.label(), shorten(text)), hint);
            }
            return;
        }
        match rules.get("format").and_then(Value::as_str) {
            Some("name") if !is_name(text) => {
                let message = format!("{} can't be `{}`", place.label(), shorten(text));
                self.say(node.span, message, Some(hint_for_name(text)));
            }
            Some("span") => {
                if let Err(error) = duration::parse(text) {
                    self.say(node.span, format!("{}: {error}", place.label()), None);
                }
            }
            _ => {}
        }
        let length = text.chars().count() as u64;
        let least = rules.get("minLength").and_then(Value::as_u64).unwrap_or(0);
        let most = rules.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if length < least || length > most {
            let expected = match (least, most) {
                (1, 1) => "one character".to_owned(),
                (1, _) => "a text that isn't empty".to_owned(),
                (least, most) => format!("a text of {least} to {most} characters"),
            };
            let message = format!("{} must be {expected}, found {}", place.label(), self.found(node));
            self.say(node.span, message, None);
        }
    }

    fn number(&mut self, rules: &Map<String, Value>, node: &Node, place: &Place<'_>) {
        let Some(value) = node.as_f64() else { return };
        let bound = |key: &str| rules.get(key).and_then(Value::as_f64);
        let (format_least, format_most) = format_range(rules.get("format").and_then(Value::as_str));
        // The range of the type only matters where it is what was broken.
        let least = bound("minimum").or(format_least.filter(|least| value < *least));
        let most = bound("maximum").or(format_most.filter(|most| value > *most));
        let (over, under) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
        let is_inside = least.is_none_or(|least| value >= least)
            && most.is_none_or(|most| value <= most)
            && over.is_none_or(|over| value > over)
            && under.is_none_or(|under| value < under);
        if is_inside {
            return;
        }
        let range = [
            (over, "over"),
            (least.filter(|_| over.is_none()), "at least"),
            (under, "under"),
            (most.filter(|_| under.is_none()), "at most"),
        ];
        let range: Vec<String> =
            range.into_iter().filter_map(|(bound, word)| bound.map(|bound| format!("{word} {bound}"))).collect();
        let message = format!("{} must be {}, found {}", place.label(), range.join(" and "), self.written(node));
        self.say(node.span, message, None);
    }

    /// One of several shapes.
    fn choice(&mut self, alternatives: &'static [Value], node: &Node, place: &Place<'_>, here: Span) {
        let alternatives: Vec<&'static Map<String, Value>> =
            alternatives.iter().filter_map(|schema| self.resolved(schema).as_object()).collect();
        let is_null = |rules: &Map<String, Value>| types(rules) == ["null"];
        if node.kind == Kind::Null && alternatives.iter().any(|rules| is_null(rules)) {
            return;
        }
        let alternatives: Vec<&'static Map<String, Value>> =
            alternatives.into_iter().filter(|rules| !is_null(rules)).collect();
        // What is only optional is no choice.
        if let [rules] = alternatives.as_slice() {
            return self.rules(rules, node, place, here);
        }
        if alternatives.iter().all(|rules| words(rules).is_some() || keyed(rules).is_some()) {
            return self.word_or_key(&alternatives, node, place, here);
        }
        // A list of words says of each that it is a text, and not of all.
        let types = |rules: &Map<String, Value>| -> Vec<String> {
            let of_words = words(rules).map(|_| "string");
            types(rules).into_iter().chain(of_words).map(str::to_owned).collect()
        };
        match alternatives.iter().find(|rules| types(rules).iter().any(|name| is_type(node, name))) {
            Some(rules) => self.rules(rules, node, place, here),
            None => {
                let types: Vec<String> = alternatives.iter().flat_map(|rules| types(rules)).collect();
                let types: Vec<&str> = types.iter().map(String::as_str).collect();
                let rules = alternatives.first().expect("a choice has alternatives");
                self.mismatch(rules, &expected(&types), node, place, here);
            }
        }
    }

    /// A choice between words (`mean`) and mappings of one key (`constant: 0`).
    fn word_or_key(
        &mut self,
        alternatives: &[&'static Map<String, Value>],
        node: &Node,
        place: &Place<'_>,
        here: Span,
    ) {
        let known_words: Vec<&str> = alternatives.iter().filter_map(|rules| words(rules)).flatten().collect();
        let known_keys: Vec<(&'static str, &'static Value)> =
            alternatives.iter().filter_map(|rules| keyed(rules)).collect();
        let all = || known_words.iter().copied().chain(known_keys.iter().map(|(key, _)| *key));
        match &node.kind {
            Kind::String(text) if known_words.contains(&text.value.as_str()) => {}
            Kind::String(text) => {
                let hint = match known_keys.iter().find(|(key, _)| *key == text.value) {
                    Some((key, _)) => Some(format!("write it with its settings: `{{ {key}: {{}} }}`")),
                    None => suggest(&text.value, "choose one of", all()),
                };
                self.say(node.span, format!("{} can't be `{}`", place.label(), shorten(&text.value)), hint);
            }
            Kind::Mapping(entries) => {
                if entries.len() != 1 {
                    let message = format!("{} must have one key, found {}", place.label(), entries.len());
                    self.say(here, message, Some(format!("choose one of {}", in_backticks(all()))));
                }
                for entry in entries {
                    match known_keys.iter().find(|(key, _)| *key == entry.key) {
                        Some((key, schema)) => {
                            self.value(schema, &entry.value, &Place::Key(place, key), entry.key_span);
                        }
                        None => {
                            let message = format!("{} can't be `{}`", place.label(), shorten(&entry.key));
                            self.say(entry.key_span, message, suggest(&entry.key, "choose one of", all()));
                        }
                    }
                }
            }
            _ => {
                let span = if matches!(node.kind, Kind::Null | Kind::Sequence(_)) { here } else { node.span };
                let found = self.found(node);
                let message = format!("{} must be one of {}, found {found}", place.label(), in_backticks(all()));
                self.say(span, message, None);
            }
        }
    }
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    let mut line: String = text.chars().take_while(|character| *character != '\n').take(FOUND_CHARS_MAX).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

fn hint_for_name(text: &str) -> String {
    match as_name(text) {
        // What is left of a text that is mostly something else is no name to propose.
        Some(name) if name.len() > 2 => format!("did you mean `{name}`? A name has {NAME_RULE}"),
        _ => format!("a name has {NAME_RULE}"),
    }
}

/// The alternatives of a choice. A list of required keys is no choice of shapes.
fn alternatives(rules: &Map<String, Value>) -> Option<&[Value]> {
    let list = rules.get("anyOf").or_else(|| rules.get("oneOf"))?.as_array()?;
    let is_choice = list.iter().any(|schema| schema.get("type").is_some() || schema.get("$ref").is_some());
    is_choice.then_some(list.as_slice())
}

fn types(rules: &Map<String, Value>) -> Vec<&str> {
    match rules.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type(node: &Node, name: &str) -> bool {
    match &node.kind {
        Kind::Null => name == "null",
        Kind::Bool(_) => name == "boolean",
        Kind::Int(_) => name == "integer" || name == "number",
        Kind::Float(_) => name == "number",
        Kind::String(_) => name == "string",
        Kind::Sequence(_) => name == "array",
        Kind::Mapping(_) => name == "object",
        Kind::Unknown => true,
    }
}

/// The types for a sentence.
fn expected(types: &[&str]) -> String {
    let words: Vec<&str> = types
        .iter()
        .filter_map(|name| match *name {
            "boolean" => Some("`true` or `false`"),
            "integer" => Some("a whole number"),
            "number" => Some("a number"),
            "string" => Some("a text"),
            "array" => Some("a list"),
            "object" => Some("a mapping"),
            _ => None,
        })
        .collect();
    words.join(" or ")
}

/// The words a text may be, when it may only be one of them.
fn words(rules: &Map<String, Value>) -> Option<Vec<&str>> {
    if let Some(word) = rules.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    // Words that are each described are a choice of constants.
    if let Some(list) = rules.get("oneOf").and_then(Value::as_array) {
        return list.iter().map(|rules| rules.get("const")?.as_str()).collect();
    }
    Some(rules.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect())
}

/// The key and the schema of a mapping that has exactly one key.
fn keyed(rules: &'static Map<String, Value>) -> Option<(&'static str, &'static Value)> {
    let required = rules.get("required")?.as_array()?;
    let properties = rules.get("properties")?.as_object()?;
    match (required.as_slice(), properties.iter().next()) {
        ([Value::String(key)], Some((property, schema))) if properties.len() == 1 && key == property => {
            Some((key, schema))
        }
        _ => None,
    }
}

fn is_duration(rules: &Map<String, Value>) -> bool {
    rules.get("format").and_then(Value::as_str) == Some("span")
}

fn property_names(rules: &Map<String, Value>) -> impl Iterator<Item = &str> {
    rules.get("properties").and_then(Value::as_object).into_iter().flat_map(|known| known.keys().map(String::as_str))
}

/// The first sentence of a property's description.
fn property_description(rules: &Map<String, Value>, name: &str) -> Option<String> {
    let description = rules.get("properties")?.get(name)?.get("description")?.as_str()?;
    let sentence = description.split(". ").next().unwrap_or(description).trim_end_matches('.');
    let mut characters = sentence.chars();
    let first = characters.next()?.to_ascii_lowercase();
    Some(std::iter::once(first).chain(characters).collect::<String>().replace('\n', " "))
}

/// The range of a whole number by the type that holds it.
fn format_range(format: Option<&str>) -> (Option<f64>, Option<f64>) {
    match format {
        Some("int8") => (Some(f64::from(i8::MIN)), Some(f64::from(i8::MAX))),
        Some("int16") => (Some(f64::from(i16::MIN)), Some(f64::from(i16::MAX))),
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        Some("int64") => (Some(i64::MIN as f64), Some(i64::MAX as f64)),
        Some("uint8") => (Some(0.0), Some(f64::from(u8::MAX))),
        Some("uint16") => (Some(0.0), Some(f64::from(u16::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        Some("uint64") => (Some(0.0), Some(u64::MAX as f64)),
        _ => (None, None),
    }
}
