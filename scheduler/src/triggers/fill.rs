//! Fills the places in a submission's parameters with what a trigger was fired by.
//!
//! A text that is one place alone becomes the value as it is, with its type; a place within a text becomes text. What is
//! filled in is data: places in it aren't filled again.

use gristmill_protocol::limits::PARAMETERS_BYTES_MAX;
use serde_json::{Map, Value};

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Why a place can't be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    #[error("parameter `{param}`: `{{{{` has no `}}}}` after it")]
    Unclosed { param: String },
    #[error("parameter `{param}`: there is no `{{{{{place}}}}}`; there are {known}")]
    Unknown { param: String, place: String, known: String },
    #[error("parameter `{param}`: `{{{{{place}}}}}` is {what}, which can't stand within a text; let it stand alone")]
    NoText { param: String, place: String, what: &'static str },
    #[error("the parameters have over {PARAMETERS_BYTES_MAX} bytes when they are filled")]
    TooLarge,
}

/// The parameters with all places filled from `facts`, an object.
pub fn fill(params: &Map<String, Value>, facts: &Value) -> Result<Map<String, Value>, FillError> {
    let mut room = PARAMETERS_BYTES_MAX;
    params.iter().map(|(name, value)| Ok((name.clone(), filled(name, value, facts, &mut room)?))).collect()
}

/// The parameters without those that have places, whose values aren't known yet; refuses places that don't begin with
/// one of the names in `known`.
pub fn without_places(params: &Map<String, Value>, known: &[&str]) -> Result<Map<String, Value>, FillError> {
    let mut kept = Map::new();
    for (param, value) in params {
        let mut places = Vec::new();
        places_of(param, value, &mut places)?;
        if let Some(place) = places.iter().find(|place| !known.contains(&place.split('.').next().unwrap_or_default())) {
            let known = listed(known.iter().map(|name| (*name).to_owned()));
            return Err(FillError::Unknown { param: param.clone(), place: place.clone(), known });
        }
        if places.is_empty() {
            kept.insert(param.clone(), value.clone());
        }
    }
    Ok(kept)
}

fn places_of(param: &str, value: &Value, places: &mut Vec<String>) -> Result<(), FillError> {
    match value {
        Value::String(text) => {
            let mut rest = text.as_str();
            while let Some((_, place, after)) = next_place(param, rest)? {
                places.push(place.to_owned());
                rest = after;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| places_of(param, item, places)),
        Value::Object(fields) => fields.values().try_for_each(|field| places_of(param, field, places)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn filled(param: &str, value: &Value, facts: &Value, room: &mut usize) -> Result<Value, FillError> {
    match value {
        Value::String(text) => filled_text(param, text, facts, room),
        Value::Array(items) => items.iter().map(|item| filled(param, item, facts, room)).collect(),
        Value::Object(fields) => {
            let field = |(name, field): (&String, &Value)| Ok((name.clone(), filled(param, field, facts, room)?));
            Ok(Value::Object(fields.iter().map(field).collect::<Result<_, FillError>>()?))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

fn filled_text(param: &str, text: &str, facts: &Value, room: &mut usize) -> Result<Value, FillError> {
    let mut told = String::new();
    let mut rest = text;
    while let Some((before, place, after)) = next_place(param, rest)? {
        let value = found(param, place, facts)?;
        if before.is_empty() && after.is_empty() && told.is_empty() {
            take(room, value.to_string().len())?;
            return Ok(value.clone());
        }
        let no_text = |what| FillError::NoText { param: param.to_owned(), place: place.to_owned(), what };
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null => return Err(no_text("null")),
            Value::Array(_) => return Err(no_text("a list")),
            Value::Object(_) => return Err(no_text("an object")),
        };
        take(room, before.len() + value.len())?;
        told.push_str(before);
        told.push_str(&value);
        rest = after;
    }
    take(room, rest.len())?;
    told.push_str(rest);
    Ok(Value::String(told))
}

/// A text is repeated as often as it is named: what comes out is bounded before it is made.
fn take(room: &mut usize, bytes: usize) -> Result<(), FillError> {
    *room = room.checked_sub(bytes).ok_or(FillError::TooLarge)?;
    Ok(())
}

/// What stands before the next place, the place, and what stands after it.
fn next_place<'a>(param: &str, text: &'a str) -> Result<Option<(&'a str, &'a str, &'a str)>, FillError> {
    let Some((before, rest)) = text.split_once(OPEN) else { return Ok(None) };
    let Some((place, after)) = rest.split_once(CLOSE) else {
        return Err(FillError::Unclosed { param: param.to_owned() });
    };
    Ok(Some((before, place.trim(), after)))
}

/// The value that a place names, step by step.
fn found<'a>(param: &str, place: &str, facts: &'a Value) -> Result<&'a Value, FillError> {
    let mut value = facts;
    for (at, step) in place.split('.').enumerate() {
        let next = match value {
            Value::Object(fields) => fields.get(step),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        value = next.ok_or_else(|| {
            let before: String = place.split('.').take(at).map(|step| format!("{step}.")).collect();
            let known = match value {
                Value::Object(fields) => listed(fields.keys().map(|name| format!("{before}{name}"))),
                Value::Array(items) => format!("{} items, from 0", items.len()),
                _ => "no fields in it".to_owned(),
            };
            FillError::Unknown { param: param.to_owned(), place: place.to_owned(), known }
        })?;
    }
    Ok(value)
}

/// Some names in a sentence.
fn listed(names: impl Iterator<Item = String>) -> String {
    const SHOWN_MAX: usize = 20;
    let mut names: Vec<String> = names.map(|name| format!("`{{{{{name}}}}}`")).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    let more = names.len().saturating_sub(SHOWN_MAX);
    names.truncate(SHOWN_MAX);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled_with(params: Value, facts: Value) -> Result<Value, FillError> {
        fill(params.as_object().expect("an object"), &facts).map(Value::Object)
    }

    #[test]
    fn places_are_filled_with_their_type_or_as_text() {
        let facts = json!({ "path": "/in/a.csv", "body": { "n": 3, "deep": { "list": ["x", { "y": true }] }, "odd": "{{path}}" } });
        let params = json!({
            "source": "{{path}}", "note": "from {{ path }} with {{body.n}}", "n": "{{body.n}}", "all": "{{body.deep}}",
            "nested": [{ "y": "{{body.deep.list.1.y}}" }], "odd": "{{body.odd}}", "plain": 1.5, "brace": "{x}"
        });
        let expected = json!({
            "source": "/in/a.csv", "note": "from /in/a.csv with 3", "n": 3, "all": { "list": ["x", { "y": true }] },
            "nested": [{ "y": true }], "odd": "{{path}}", "plain": 1.5, "brace": "{x}"
        });
        assert_eq!(filled_with(params, facts), Ok(expected));
    }

    #[test]
    fn what_cannot_be_filled_says_why() {
        let facts = json!({ "body": { "n": 3, "list": [1] } });
        for (text, expected) in [
            ("{{path}}", "there is no `{{path}}`; there are `{{body}}`"),
            ("{{body.m}}", "there is no `{{body.m}}`; there are `{{body.n}}`, `{{body.list}}`"),
            ("{{body.n.x}}", "there are no fields in it"),
            ("{{body.list.1}}", "there are 1 items, from 0"),
            ("a {{body.list}}", "is a list, which can't stand within a text"),
            ("{{body", "has no `}}` after it"),
        ] {
            let error = filled_with(json!({ "p": text }), facts.clone()).expect_err(text).to_string();
            assert!(error.starts_with("parameter `p`: ") && error.contains(expected), "{error}");
        }
        let large = json!({ "body": "x".repeat(1_000) });
        assert_eq!(filled_with(json!({ "p": "{{body}}-".repeat(100) }), large), Err(FillError::TooLarge));
    }

    #[test]
    fn what_is_known_before_is_told_from_what_is_not() {
        let params = json!({ "a": 1, "b": "{{path}}", "c": ["{{path}}"] });
        let params = params.as_object().expect("an object");
        let kept = without_places(params, &["path"]).expect("they are known");
        assert_eq!(Value::Object(kept), json!({ "a": 1 }));
        let error = without_places(params, &["run", "status"]).expect_err("unknown").to_string();
        assert!(error.contains("there is no `{{path}}`; there are `{{run}}`, `{{status}}`"), "{error}");
    }
}
