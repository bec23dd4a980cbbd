//! The text of a pipeline file as a tree in which every node knows its place.
//!
//! Scalars follow the core schema of YAML 1.2, so `no` is a text and `9E` is one too; JSON is YAML. What a
//! pipeline has no use for is refused rather than guessed: several documents, foreign tags, keys that are
//! no scalars, `.nan` and `.inf`. Aliases are followed within a bound on what they expand to. The tree knows
//! nothing of pipelines.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::Value;

use super::complaint::{Complaint, Complaints, Excerpt, Level};
use crate::limits::{PIPELINE_BYTES_MAX, PIPELINE_DEPTH_MAX};

/// What aliases may expand to, in nodes and bytes of text: a file made of nothing but aliases must not
/// cost more than a few files of the largest size.
const EXPANDED_MAX: usize = 4 * PIPELINE_BYTES_MAX;

/// A place in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub span: Span,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    /// Within the range of `i64` or `u64`.
    Int(i128),
    /// Finite.
    Float(f64),
    String(Text),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// A value that can't be known because of an earlier complaint; nothing more is said about it.
    Unknown,
}

/// A text, and what it was before parameters went in.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    pub value: String,
    pub style: Style,
    /// Where parameters were put into the text; empty when it stands as written.
    pub edits: Vec<Edit>,
    /// The text before the edits; empty when there were none.
    pub written: String,
}

/// One parameter put into a text: bytes of the result, and the byte of the written text they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    pub start: usize,
    pub end: usize,
    pub written_start: usize,
    pub written_end: usize,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// A block after `|` or `>`.
    Block,
}

/// A key of a mapping and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// The value under `key`, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The key and the value of `key`, when this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(&text.value),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self.kind {
            Kind::Int(value) => Some(value as f64),
            Kind::Float(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it or something in it can't be known.
    pub fn has_unknown(&self) -> bool {
        match &self.kind {
            Kind::Unknown => true,
            Kind::Sequence(items) => items.iter().any(Node::has_unknown),
            Kind::Mapping(entries) => entries.iter().any(|entry| entry.value.has_unknown()),
            _ => false,
        }
    }

    /// The value without its place; what is unknown becomes null.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null | Kind::Unknown => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => match i64::try_from(*value) {
                Ok(value) => Value::from(value),
                Err(_) => u64::try_from(*value).map_or(Value::Null, Value::from),
            },
            Kind::Float(value) => Value::from(*value),
            Kind::String(text) => Value::String(text.value.clone()),
            Kind::Sequence(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Kind::Mapping(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value())).collect())
            }
        }
    }
}

impl Kind {
    /// A text that isn't in the file as it stands.
    pub fn text(value: String) -> Kind {
        Kind::String(Text { value, style: Style::Plain, edits: Vec::new(), written: String::new() })
    }
}

/// A text with its name, for complaints about its places.
#[derive(Debug)]
pub struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
    line_starts: Vec<usize>,
    /// Bytes at which characters start; empty when each is one byte.
    characters: Vec<usize>,
}

/// The text of a file's bytes; a complaint with its place when they are not UTF-8.
pub fn text_of<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Complaints> {
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("the bytes before the error are UTF-8");
        let line_start = valid.rfind('\n').map_or(0, |newline| newline + 1);
        let line_bytes = bytes[line_start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let found = bytes[error.valid_up_to()];
        let column = small(valid[line_start..].chars().count() + 1);
        Complaint {
            line: small(valid.matches('\n').count() + 1),
            column,
            excerpt: Some(Excerpt::new(String::from_utf8_lossy(line_bytes).trim_end(), valid.len() - line_start)),
            ..Complaint::elsewhere(file, format!("expected text in UTF-8, found the byte 0x{found:02x}"))
        }
        .hint("save the file as UTF-8")
        .into()
    })
}

impl<'a> Source<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Source<'a> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut line_starts = vec![0];
        line_starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1));
        let characters = match text.is_ascii() {
            true => Vec::new(),
            false => text.char_indices().map(|(byte, _)| byte).collect(),
        };
        Source { file, text, line_starts, characters }
    }

    /// The span of these bytes.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let start = self.text.floor_char_boundary(start.min(self.text.len()));
        let end = self.text.ceil_char_boundary(end.clamp(start, self.text.len()));
        let index = self.line_starts.partition_point(|line_start| *line_start <= start) - 1;
        let column = self.character(start) - self.character(self.line_starts[index]) + 1;
        Span { line: small(index + 1), column: small(column), start, end }
    }

    /// The number of the character that starts at a byte.
    fn character(&self, byte: usize) -> usize {
        if self.characters.is_empty() { byte } else { self.characters.partition_point(|start| *start < byte) }
    }

    /// The byte at which a character starts, by its number.
    fn byte(&self, character: usize) -> usize {
        if self.characters.is_empty() {
            character
        } else {
            self.characters.get(character).copied().unwrap_or(self.text.len())
        }
    }

    /// The line of that number, from 1.
    fn line(&self, line: u32) -> &'a str {
        let start = self.line_starts[line as usize - 1];
        let rest = &self.text[start..];
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }

    /// An error about a place.
    pub fn complain(&self, span: Span, message: impl Into<String>) -> Complaint {
        let excerpt = self.line(span.line);
        // What goes on over several lines is marked to the end of its first.
        let meant = self.text[span.start..span.end].split('\n').next().unwrap_or_default().trim_end();
        Complaint {
            severity: Level::Error,
            file: self.file.to_owned(),
            line: span.line,
            column: span.column,
            length: small(meant.chars().count().max(1)),
            message: message.into(),
            hint: None,
            excerpt: Some(Excerpt::new(excerpt.trim_end(), span.start - self.line_starts[span.line as usize - 1])),
        }
    }

    /// The place of a part of a string's value, as well as it can be told: where parameters went in it is
    /// the parameter, and where escapes stand in the way it is the whole string.
    pub fn span_within(&self, node: &Node, start: usize, end: usize) -> Span {
        let Kind::String(text) = &node.kind else { return node.span };
        let (written, start, end) = if text.edits.is_empty() {
            (&text.value, start, end)
        } else {
            (&text.written, before_edits(&text.edits, start), before_edits(&text.edits, end))
        };
        let slice = &self.text[node.span.start..node.span.end];
        match align(written, slice, text.style, start, end) {
            Some((start, end)) => self.span(node.span.start + start, node.span.start + end),
            None => node.span,
        }
    }
}

/// The byte of the written text that a byte of the edited one stands for.
fn before_edits(edits: &[Edit], offset: usize) -> usize {
    let mut written = offset;
    for edit in edits {
        if offset >= edit.end {
            written = edit.written_end + (offset - edit.end);
        } else if offset >= edit.start {
            return edit.written_start;
        }
    }
    written
}

/// Finds the bytes `start..end` of a scalar's value in the text it was written as.
///
/// Both are read side by side. White space is skipped on both sides, since folding and indentation change
/// nothing else; what then differs is an escape, and there the search gives up.
fn align(value: &str, written: &str, style: Style, start: usize, end: usize) -> Option<(usize, usize)> {
    let mut at = match style {
        Style::Plain => 0,
        Style::SingleQuoted | Style::DoubleQuoted => 1,
        // The header line of a block holds indicators and perhaps a comment.
        Style::Block if written.starts_with(['|', '>']) => written.find('\n')? + 1,
        Style::Block => 0,
    };
    let mut found_start = None;
    for (offset, character) in value.char_indices() {
        if character.is_whitespace() {
            continue;
        }
        at += written.get(at..)?.find(|other: char| !other.is_whitespace())?;
        if !written[at..].starts_with(character) {
            return None;
        }
        if offset >= start && found_start.is_none() {
            found_start = Some(at);
        }
        if offset >= end {
            return found_start.map(|from| (from, at.max(from)));
        }
        at += character.len_utf8();
        if style == Style::SingleQuoted && character == '\'' {
            at += 1;
        }
    }
    // A place past the last character, such as an unexpected end, is just behind it.
    Some((found_start.unwrap_or(at), at))
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A tree, and what was wrong on the way to it without keeping it from being built.
#[derive(Debug)]
pub struct Tree {
    pub root: Node,
    pub complaints: Vec<Complaint>,
}

/// Reads the text into a tree. A text that is no YAML gives one complaint: what follows the first error
/// can't be told.
pub fn parse(source: &Source<'_>) -> Result<Tree, Complaint> {
    if source.text.len() > PIPELINE_BYTES_MAX {
        let message = format!("the file has {} bytes; a pipeline may have {PIPELINE_BYTES_MAX}", source.text.len());
        return Err(Complaint::elsewhere(source.file, message));
    }
    // The scanner takes a zero byte for the end of the text, which would hide what follows it.
    if let Some(zero) = source.text.find('\0') {
        return Err(source.complain(source.span(zero, zero + 1), "expected text, found a zero byte"));
    }
    Builder::new(source).build()
}

/// A container that isn't closed yet.
struct Open {
    start: usize,
    anchor: usize,
    /// Depth of the deepest node in it, and what it weighs with all in it.
    height: usize,
    weight: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    /// The key waits for its value; `None` stands for one that was refused.
    Mapping(Vec<Entry>, Option<Option<(String, Span)>>),
}

/// A finished node, with what counts against the bounds.
#[derive(Clone)]
struct Measured {
    node: Node,
    height: usize,
    weight: usize,
}

struct Builder<'s, 'a> {
    source: &'s Source<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, Measured>,
    expanded: usize,
    root: Option<Node>,
    complaints: Vec<Complaint>,
}

impl<'s, 'a> Builder<'s, 'a> {
    fn new(source: &'s Source<'a>) -> Builder<'s, 'a> {
        Builder { source, open: Vec::new(), anchors: HashMap::new(), expanded: 0, root: None, complaints: Vec::new() }
    }

    fn build(mut self) -> Result<Tree, Complaint> {
        let source = self.source;
        let mut documents = 0;
        for event in Parser::new_from_str(source.text) {
            let (event, span) = event.map_err(|error| self.broken(error.info(), error.marker().index()))?;
            let (start, end) = (source.byte(span.start.index()), source.byte(span.end.index()));
            let span = source.span(start, end);
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(source
                            .complain(span, "expected one document, found a second")
                            .hint("write one pipeline in a file"));
                    }
                }
                Event::Alias(anchor) => {
                    let measured = self.expand(anchor, span)?;
                    self.place(measured, span)?;
                }
                Event::Scalar(value, style, anchor, tag) => {
                    let node = self.scalar(&value, style, tag.as_deref(), span);
                    let measured = Measured { node, height: 1, weight: 1 + value.len() };
                    self.finish(measured, anchor, span)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(start, anchor, Content::Sequence(Vec::new()), tag.as_deref(), span)?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.open(start, anchor, Content::Mapping(Vec::new(), None), tag.as_deref(), span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(open) = self.open.pop() else { continue };
                    let node = Node {
                        kind: match open.content {
                            Content::Sequence(items) => Kind::Sequence(items),
                            Content::Mapping(entries, _) => Kind::Mapping(self.without_duplicates(entries)),
                        },
                        span: source.span(open.start, end),
                    };
                    let measured = Measured { node, height: open.height + 1, weight: open.weight + 1 };
                    self.finish(measured, open.anchor, span)?;
                }
            }
        }
        match self.root {
            Some(root) => Ok(Tree { root, complaints: self.complaints }),
            None => Err(Complaint::elsewhere(source.file, "expected a pipeline, found an empty file")
                .hint("start with `name:` and `steps:`, or let `gristmill init` write one")),
        }
    }

    /// The one complaint about a text that is no YAML.
    fn broken(&self, info: &str, index: usize) -> Complaint {
        let start = self.source.byte(index);
        let span = self.source.span(start, start + 1);
        let line = self.source.line(span.line);
        let indent: &str = &line[..line.len() - line.trim_start().len()];
        let complaint = self.source.complain(span, format!("this is no valid YAML: {info}"));
        if indent.contains('\t') {
            complaint.hint("indent with spaces; YAML doesn't take tabs")
        } else if line.contains("${") {
            complaint.hint("put quotes around texts with a parameter: `\"${name}\"`")
        } else if info.contains("mapping values are not allowed") {
            complaint.hint("put quotes around texts that hold `: `, and check the indentation")
        } else if line.trim_start().starts_with(['@', '`', '%', '&', '*']) || line.contains(": *") {
            complaint.hint("put quotes around texts that start with a sign")
        } else {
            complaint
        }
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        let text = || Kind::String(Text { value: value.to_owned(), style, edits: Vec::new(), written: String::new() });
        let kind = match tag {
            None if style == Style::Plain => plain(value),
            None => text(),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => text(),
            Some(tag) if tag.is_yaml_core_schema() && ["null", "bool", "int", "float"].contains(&&*tag.suffix) => {
                plain(value)
            }
            Some(tag) => {
                self.refuse_tag(tag, span);
                Kind::Unknown
            }
        };
        if let Kind::Float(number) = kind
            && !number.is_finite()
        {
            let message = format!("expected a number that can be compared, found `{}`", value.trim());
            self.complaints.push(self.source.complain(span, message));
            return Node { kind: Kind::Unknown, span };
        }
        Node { kind, span }
    }

    fn refuse_tag(&mut self, tag: &Tag, span: Span) {
        let message = format!("expected a plain value, found one with the tag `{}{}`", tag.handle, tag.suffix);
        self.complaints.push(self.source.complain(span, message).hint("remove the tag"));
    }

    fn open(
        &mut self,
        start: usize,
        anchor: usize,
        content: Content,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Complaint> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && ["seq", "map"].contains(&&*tag.suffix))
        {
            self.refuse_tag(tag, span);
        }
        if self.open.len() >= PIPELINE_DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        self.open.push(Open { start, anchor, height: 0, weight: 0, content });
        Ok(())
    }

    fn too_deep(&self, span: Span) -> Complaint {
        self.source.complain(span, format!("nested more than {PIPELINE_DEPTH_MAX} deep"))
    }

    /// What an alias stands for, within the bound.
    fn expand(&mut self, anchor: usize, span: Span) -> Result<Measured, Complaint> {
        let Some(measured) = self.anchors.get(&anchor) else {
            return Err(self.source.complain(span, "this alias stands inside of what it names"));
        };
        self.expanded += measured.weight;
        if self.expanded > EXPANDED_MAX {
            let message = format!("the aliases up to here expand to more than {EXPANDED_MAX} bytes");
            return Err(self.source.complain(span, message));
        }
        Ok(measured.clone())
    }

    /// Notes the anchor of a finished node and puts it in its place.
    fn finish(&mut self, measured: Measured, anchor: usize, span: Span) -> Result<(), Complaint> {
        if anchor > 0 {
            self.anchors.insert(anchor, measured.clone());
        }
        self.place(measured, span)
    }

    fn place(&mut self, measured: Measured, span: Span) -> Result<(), Complaint> {
        if self.open.len() + measured.height > PIPELINE_DEPTH_MAX + 1 {
            return Err(self.too_deep(span));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(measured.node);
            return Ok(());
        };
        open.height = open.height.max(measured.height);
        open.weight += measured.weight;
        match &mut open.content {
            Content::Sequence(items) => items.push(measured.node),
            Content::Mapping(entries, key) => match key.take() {
                Some(Some((name, key_span))) => entries.push(Entry { key: name, key_span, value: measured.node }),
                Some(None) => {}
                None => {
                    let name = match &measured.node.kind {
                        Kind::String(text) => Some(text.value.clone()),
                        Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {
                            // Columns may be called `2013` or `true`; the key is the text as written.
                            Some(self.source.text[measured.node.span.start..measured.node.span.end].trim().to_owned())
                        }
                        _ => None,
                    };
                    if name.is_none() {
                        let complaint = self.source.complain(measured.node.span, "expected a name as the key");
                        self.complaints.push(complaint);
                    }
                    *key = Some(name.map(|name| (name, measured.node.span)));
                }
            },
        }
        Ok(())
    }

    /// The first of each key; the others are complained about.
    fn without_duplicates(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut first_lines: HashMap<&str, u32> = HashMap::new();
        let mut known = Vec::with_capacity(entries.len());
        for entry in &entries {
            match first_lines.get(entry.key.as_str()) {
                Some(first) => {
                    let complaint = self.source.complain(entry.key_span, format!("key `{}` is given twice", entry.key));
                    self.complaints.push(complaint.hint(format!("it stands in line {first} already")));
                }
                None => {
                    first_lines.insert(&entry.key, entry.key_span.line);
                }
            }
            known.push(first_lines.len());
        }
        if first_lines.len() == entries.len() {
            return entries;
        }
        // An entry was the first of its key when the count of keys grew with it.
        let mut counts = known.into_iter();
        let mut before = 0;
        let mut entries = entries;
        entries.retain(|_| {
            let count = counts.next().unwrap_or(before);
            std::mem::replace(&mut before, count) < count
        });
        entries
    }
}

/// The value of a plain scalar by the core schema of YAML 1.2.
pub fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Kind::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        _ => {}
    }
    number(text).unwrap_or_else(|| Kind::text(text.to_owned()))
}

fn number(text: &str) -> Option<Kind> {
    let integer = |digits: &str, radix: u32| match i128::from_str_radix(digits, radix) {
        Ok(value) if value >= i128::from(i64::MIN) && value <= i128::from(u64::MAX) => Some(Kind::Int(value)),
        Ok(value) => Some(Kind::Float(value as f64)),
        Err(_) => None,
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)).then(|| integer(digits, 8)).flatten();
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| integer(digits, 16)).flatten();
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return integer(text, 10).or_else(|| text.parse().ok().map(Kind::Float));
    }
    // Rust also reads `inf`, `nan` and `infinity`; these are texts in YAML. So is `.`.
    let is_float = unsigned.bytes().any(|byte| byte.is_ascii_digit())
        && unsigned.starts_with(|first: char| first == '.' || first.is_ascii_digit())
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    is_float.then(|| text.parse().ok().map(Kind::Float)).flatten()
}
