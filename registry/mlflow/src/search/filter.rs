//! MLflow's filters: comparisons joined by `AND`, checked against what can be searched for, and matched.

use std::borrow::Cow;

use super::like::{ilike, like};
use super::token::{Part, Token, invalid, tokens};
use crate::refusal::Refusal;

/// Clauses of one filter. People write a handful; each is looked at for every row.
const CLAUSES_MAX: usize = 100;

/// What may be searched for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub text_attributes: &'static [&'static str],
    pub number_attributes: &'static [&'static str],
    /// Attributes that take `IN (…)`.
    pub lists: &'static [&'static str],
    /// Whether there are metrics, parameters and datasets.
    pub runs: bool,
    pub nulls: bool,
    /// Whether a number may stand in quotes.
    pub quoted_numbers: bool,
}

/// What a clause is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Attribute(String),
    Metric(String),
    Param(String),
    Tag(String),
    Dataset(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    ILike,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nothing,
    Number(f64),
    Text(String),
    Texts(Vec<String>),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clause {
    pub subject: Subject,
    pub comparator: Comparator,
    pub value: Value,
}

/// What something that is searched has under a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found<'a> {
    Nothing,
    Number(f64),
    Text(Cow<'a, str>),
    /// Several: one that fits is enough.
    Any(Vec<&'a str>),
}

impl<'a> From<&'a str> for Found<'a> {
    fn from(text: &'a str) -> Found<'a> {
        Found::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<Option<&'a String>> for Found<'a> {
    fn from(text: Option<&'a String>) -> Found<'a> {
        text.map_or(Found::Nothing, |text| text.as_str().into())
    }
}

/// Something that can be searched.
pub(crate) trait Searched {
    fn found(&self, subject: &Subject) -> Found<'_>;
}

/// The clauses of a filter; none of an empty one.
pub(crate) fn parse(text: &str, dialect: &Dialect) -> Result<Vec<Clause>, Refusal> {
    let tokens = tokens(text)?;
    let mut rest = tokens.as_slice();
    let mut clauses = Vec::new();
    while !rest.is_empty() {
        if !clauses.is_empty() {
            rest = after_word(rest, "AND").ok_or_else(|| invalid(text))?;
        }
        clauses.push(clause(&mut rest, text, dialect)?);
        if clauses.len() > CLAUSES_MAX {
            return Err(Refusal::invalid(format!("a filter may have up to {CLAUSES_MAX} clauses")));
        }
    }
    Ok(clauses)
}

/// What follows a word, where it stands there.
fn after_word<'a>(tokens: &'a [Token], word: &str) -> Option<&'a [Token]> {
    match tokens {
        [Token::Name(parts), rest @ ..] => match &parts[..] {
            [Part { text, quote: None }] if text.eq_ignore_ascii_case(word) => Some(rest),
            _ => None,
        },
        _ => None,
    }
}

fn clause(rest: &mut &[Token], text: &str, dialect: &Dialect) -> Result<Clause, Refusal> {
    let [Token::Name(parts), after @ ..] = *rest else { return Err(invalid(text)) };
    let words = |words: &[&str]| words.iter().try_fold(after, |rest, word| after_word(rest, word));
    let (comparator, mut after) = match after {
        [Token::Operator(operator), after @ ..] => (operator_of(operator), after),
        _ => [
            (Comparator::IsNotNull, &["IS", "NOT", "NULL"][..]),
            (Comparator::IsNull, &["IS", "NULL"]),
            (Comparator::NotIn, &["NOT", "IN"]),
            (Comparator::In, &["IN"]),
            (Comparator::ILike, &["ILIKE"]),
            (Comparator::Like, &["LIKE"]),
        ]
        .into_iter()
        .find_map(|(comparator, names)| Some((comparator, words(names)?)))
        .ok_or_else(|| invalid(text))?,
    };
    let subject = subject(parts, dialect, false)?;
    let value = value(&mut after, &subject, comparator, text, dialect)?;
    check_comparator(&subject, comparator, dialect)?;
    *rest = after;
    Ok(Clause { subject, comparator, value })
}

fn operator_of(text: &str) -> Comparator {
    match text {
        "=" => Comparator::Equal,
        "<" => Comparator::Less,
        "<=" => Comparator::LessOrEqual,
        ">" => Comparator::Greater,
        ">=" => Comparator::GreaterOrEqual,
        _ => Comparator::NotEqual,
    }
}

/// What a name means: `key` alone is an attribute, `tags.key` a tag.
pub(super) fn subject(parts: &[Part], dialect: &Dialect, in_order: bool) -> Result<Subject, Refusal> {
    let joined = |parts: &[Part]| parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(".");
    let (kind, key) = match parts {
        [key] => ("attribute".to_owned(), key.text.clone()),
        [kind, keys @ ..] => (kind.text.clone(), joined(keys)),
        [] => return Err(Refusal::invalid("Invalid comparison clause")),
    };
    let runs = dialect.runs;
    let subject = match kind.as_str() {
        "attribute" => Subject::Attribute(key),
        "attributes" | "attr" | "run" if runs => Subject::Attribute(key),
        "tag" | "tags" => Subject::Tag(key),
        "metric" | "metrics" if runs => Subject::Metric(key),
        "parameter" | "parameters" | "param" | "params" if runs => Subject::Param(key),
        "dataset" | "datasets" if runs && !in_order => Subject::Dataset(key),
        _ => return Err(Refusal::invalid(format!("Invalid entity type '{kind}'"))),
    };
    match subject {
        Subject::Attribute(key) => {
            let key = match key.as_str() {
                "created" | "Created" if runs => "start_time",
                "run name" | "Run name" | "Run Name" if runs => "run_name",
                key => key,
            };
            let known = || dialect.text_attributes.iter().chain(dialect.number_attributes);
            if known().any(|known| *known == key) {
                return Ok(Subject::Attribute(key.to_owned()));
            }
            let known: Vec<&str> = known().copied().collect();
            Err(Refusal::invalid(format!("Invalid attribute key '{key}' specified. Valid keys are {known:?}")))
        }
        Subject::Dataset(key) if !["name", "digest", "context"].contains(&key.as_str()) => {
            Err(Refusal::invalid(format!("Invalid dataset key '{key}' specified")))
        }
        subject => Ok(subject),
    }
}

fn value(
    rest: &mut &[Token],
    subject: &Subject,
    comparator: Comparator,
    text: &str,
    dialect: &Dialect,
) -> Result<Value, Refusal> {
    if matches!(comparator, Comparator::IsNull | Comparator::IsNotNull) {
        return Ok(Value::Nothing);
    }
    let is_number = match subject {
        Subject::Metric(_) => true,
        Subject::Attribute(key) => dialect.number_attributes.contains(&key.as_str()),
        _ => false,
    };
    let (value, after) = match *rest {
        // Where numbers may stand in quotes, they are whole ones.
        [Token::Number(_, false), ..] if dialect.quoted_numbers => {
            return Err(Refusal::invalid(format!("Invalid value for a numeric attribute in: {text}")));
        }
        [Token::Number(number, _), after @ ..] => (Value::Number(*number), after),
        [Token::Text(text), after @ ..] => (Value::Text(text.clone()), after),
        [Token::Name(parts), after @ ..] => match &parts[..] {
            [Part { text, quote: Some('"') }] => (Value::Text(text.clone()), after),
            _ => return Err(Refusal::invalid(format!("Expected a quoted string value or a number in: {text}"))),
        },
        [Token::Open, after @ ..] => texts(after, text)?,
        _ => return Err(invalid(text)),
    };
    *rest = after;
    let is_list = matches!(value, Value::Texts(_));
    if is_list != matches!(comparator, Comparator::In | Comparator::NotIn) {
        return Err(Refusal::invalid(format!(
            "IN takes a list of quoted string values, and nothing else does: {text}"
        )));
    }
    match (value, is_number) {
        (Value::Number(number), true) => Ok(Value::Number(number)),
        (Value::Text(number), true) if dialect.quoted_numbers => {
            let number: i64 = number
                .parse()
                .map_err(|_| Refusal::invalid(format!("Invalid value for a numeric attribute: '{number}'")))?;
            Ok(Value::Number(number as f64))
        }
        (value @ (Value::Text(_) | Value::Texts(_)), false) => Ok(value),
        (_, true) => Err(Refusal::invalid(format!("Expected numeric value type in: {text}"))),
        (_, false) => Err(Refusal::invalid(format!("Expected a quoted string value in: {text}"))),
    }
}

/// The texts of a list whose `(` was read.
fn texts<'a>(mut rest: &'a [Token], text: &str) -> Result<(Value, &'a [Token]), Refusal> {
    let ill = || Refusal::invalid(format!("expected a non-empty list of quoted string values in: {text}"));
    let mut texts = Vec::new();
    loop {
        match rest {
            [Token::Text(one), after @ ..] => {
                texts.push(one.clone());
                rest = after;
            }
            [Token::Name(parts), after @ ..] => match &parts[..] {
                [Part { text, quote: Some('"') }] => {
                    texts.push(text.clone());
                    rest = after;
                }
                _ => return Err(ill()),
            },
            _ => return Err(ill()),
        }
        match rest {
            [Token::Comma, Token::Close, after @ ..] | [Token::Close, after @ ..] => {
                return Ok((Value::Texts(texts), after));
            }
            [Token::Comma, after @ ..] => rest = after,
            _ => return Err(ill()),
        }
    }
}

fn check_comparator(subject: &Subject, comparator: Comparator, dialect: &Dialect) -> Result<(), Refusal> {
    use Comparator::{Equal, ILike, In, IsNotNull, IsNull, Like, NotEqual, NotIn};
    let is_number = match subject {
        Subject::Metric(_) => true,
        Subject::Attribute(key) => dialect.number_attributes.contains(&key.as_str()),
        _ => false,
    };
    let fits = match (subject, comparator) {
        (_, IsNull | IsNotNull) => dialect.nulls && matches!(subject, Subject::Tag(_) | Subject::Param(_)),
        (_, Like | ILike | In | NotIn) if is_number => false,
        _ if is_number => true,
        (_, Equal | NotEqual) => true,
        // An experiment's id is a text that only looks like a number.
        (Subject::Attribute(key), Like | ILike) => key != "experiment_id",
        (_, Like | ILike) => true,
        (Subject::Attribute(key), In | NotIn) => dialect.lists.contains(&key.as_str()),
        (Subject::Dataset(_), In | NotIn) => true,
        _ => false,
    };
    if fits { Ok(()) } else { Err(Refusal::invalid(format!("Invalid comparator {comparator:?} for {subject:?}"))) }
}

impl Clause {
    /// Whether something fits. What isn't there fits nothing but `IS NULL`.
    pub fn fits(&self, searched: &impl Searched) -> bool {
        let found = searched.found(&self.subject);
        match (&found, self.comparator) {
            (Found::Nothing, comparator) => comparator == Comparator::IsNull,
            (_, Comparator::IsNull) => false,
            (_, Comparator::IsNotNull) => true,
            (Found::Number(number), _) => match self.value {
                Value::Number(value) => self.compares_number(*number, value),
                _ => false,
            },
            (Found::Text(text), _) => self.compares_text(text),
            (Found::Any(texts), _) => texts.iter().any(|text| self.compares_text(text)),
        }
    }

    #[expect(clippy::float_cmp, reason = "equality is what was asked for")]
    fn compares_number(&self, number: f64, value: f64) -> bool {
        match self.comparator {
            Comparator::Equal => number == value,
            Comparator::NotEqual => number != value,
            Comparator::Less => number < value,
            Comparator::LessOrEqual => number <= value,
            Comparator::Greater => number > value,
            Comparator::GreaterOrEqual => number >= value,
            _ => false,
        }
    }

    fn compares_text(&self, text: &str) -> bool {
        match (self.comparator, &self.value) {
            (Comparator::Equal, Value::Text(value)) => text == value,
            (Comparator::NotEqual, Value::Text(value)) => text != value,
            (Comparator::Like, Value::Text(value)) => like(text, value),
            (Comparator::ILike, Value::Text(value)) => ilike(text, value),
            (Comparator::In, Value::Texts(values)) => values.iter().any(|value| value == text),
            (Comparator::NotIn, Value::Texts(values)) => !values.iter().any(|value| value == text),
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
