//! Requests as MLflow's server reads them: parameters from the query of a GET, else from a JSON body, checked against a
//! list of fields. Texts of refusals are those that its clients and their users know.

use std::collections::HashMap;

use axum::RequestExt;
use axum::body::to_bytes;
use axum::extract::{Path, Query, Request};
use axum::http::{Method, header};
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Bytes of a JSON body: what MLflow allows a batch to have. Nothing else that clients send is near it.
pub(crate) const JSON_BYTES_MAX: usize = 1_000_000;
/// Characters of a value that a refusal repeats.
const SHOWN_MAX: usize = 200;

/// What MLflow's messages end with.
const SEE: &str = "See the API docs for more information about request parameters.";

/// On whose behalf a request is made. What stands before the router may put one into a request's extensions; without
/// one, facts are in the name of `mlflow`.
#[derive(Clone, Debug)]
pub struct Caller(pub String);

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Int,
    Float,
    Bool,
    Texts,
    /// Objects with these fields.
    Objects(&'static [Field]),
    /// One object with these fields.
    Object(&'static [Field]),
    /// One of some names, or its number.
    Name,
}

/// A parameter of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
    /// Whether a wrong type is refused; what isn't looked at is passed over then.
    checked: bool,
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, required: false, checked: true }
    }
    pub const fn text(name: &'static str) -> Field {
        Field::new(name, Kind::Text)
    }
    pub const fn int(name: &'static str) -> Field {
        Field::new(name, Kind::Int)
    }
    pub const fn texts(name: &'static str) -> Field {
        Field::new(name, Kind::Texts)
    }
    pub const fn required(self) -> Field {
        Field { required: true, ..self }
    }
    pub const fn unchecked(self) -> Field {
        Field { checked: false, ..self }
    }
}

/// `[{"key": …, "value": …}]`.
pub(crate) const KEY_VALUE: &[Field] = &[Field::text("key"), Field::text("value")];

/// A request that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub by: String,
    values: Map<String, Value>,
    pub path: HashMap<String, String>,
}

/// Reads a request.
pub(crate) async fn read(mut request: Request, fields: &[Field]) -> Result<Asked, Refusal> {
    let path = request.extract_parts::<Path<HashMap<String, String>>>().await.map(|Path(path)| path);
    let by = request.extensions().get::<Caller>().map_or_else(|| "mlflow".to_owned(), |caller| caller.0.clone());
    let query = request.extract_parts::<Query<Vec<(String, String)>>>().await;
    let Query(query) = query.map_err(|error| Refusal::invalid(format!("the query can't be read: {error}")))?;
    let mut values = if request.method() == Method::GET && !query.is_empty() {
        from_query(query, fields)?
    } else {
        from_body(request).await?
    };
    // Old clients send `run_uuid` alone.
    if values.get("run_id").is_none_or(Value::is_null)
        && let Some(run) = values.get("run_uuid").cloned()
    {
        values.insert("run_id".to_owned(), run);
    }
    check(&values, fields)?;
    let fits = |field: &&Field| values.get(field.name).is_some_and(|value| !value.is_null() && fits(value, field.kind));
    let known: Vec<&str> = fields.iter().filter(fits).map(|field| field.name).collect();
    values.retain(|name, _| known.contains(&name.as_str()));
    Ok(Asked { by, values, path: path.unwrap_or_default() })
}

fn from_query(query: Vec<(String, String)>, fields: &[Field]) -> Result<Map<String, Value>, Refusal> {
    let mut values = Map::new();
    for (name, value) in query {
        match fields.iter().find(|field| field.name == name).map(|field| field.kind) {
            Some(Kind::Texts | Kind::Objects(_)) => {
                let all = values.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(all) = all {
                    all.push(Value::String(value));
                }
            }
            Some(Kind::Bool) => match value.to_lowercase().as_str() {
                "true" => drop(values.insert(name, Value::Bool(true))),
                "false" => drop(values.insert(name, Value::Bool(false))),
                _ => {
                    let text = format!("Invalid boolean value: {value}, must be 'true' or 'false'.");
                    return Err(Refusal::invalid(text));
                }
            },
            // The first of several counts. `run_uuid` isn't in the lists; it is an old name of `run_id`.
            _ => drop(values.entry(name).or_insert(Value::String(value))),
        }
    }
    Ok(values)
}

async fn from_body(request: Request) -> Result<Map<String, Value>, Refusal> {
    if request.method() == Method::POST || request.method() == Method::PUT {
        let Some(content_type) = request.headers().get(header::CONTENT_TYPE) else {
            return Err(Refusal::invalid("Bad Request. Content-Type header is missing."));
        };
        let content_type = content_type.to_str().unwrap_or_default();
        if content_type.split(';').next().map(str::trim) != Some("application/json") {
            return Err(Refusal::invalid("Bad Request. Content-Type must be one of ['application/json']."));
        }
    }
    let bytes = to_bytes(request.into_body(), JSON_BYTES_MAX).await.map_err(|_| {
        Refusal::invalid(format!("Requests must be at most {JSON_BYTES_MAX} bytes; this one is larger or broke off."))
    })?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let mut value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Refusal::invalid(format!("the body isn't JSON: {error}")))?;
    // Old clients encode twice.
    if let Value::String(text) = &value {
        value = serde_json::from_str(text)
            .map_err(|error| Refusal::invalid(format!("the body is a text that isn't JSON: {error}")))?;
    }
    match value {
        Value::Object(values) => Ok(values),
        Value::Null => Ok(Map::new()),
        _ => Err(Refusal::invalid("the body must be a JSON object")),
    }
}

/// Types are looked at only where one is wrong at all, as MLflow's server does it.
fn check(values: &Map<String, Value>, fields: &[Field]) -> Result<(), Refusal> {
    for field in fields.iter().filter(|field| field.checked) {
        let value = values.get(field.name).filter(|value| !value.is_null());
        if field.required && value.is_none_or(|value| value.as_str() == Some("")) {
            return Err(missing(field.name));
        }
        if let Some(value) = value.filter(|value| !fits(value, field.kind)) {
            return Err(wrong(field.name, value));
        }
    }
    Ok(())
}

/// The refusal of a parameter that has to be there.
pub(crate) fn missing(name: &str) -> Refusal {
    Refusal::invalid(format!("Missing value for required parameter '{name}'. {SEE}"))
}

/// The refusal of a parameter of a wrong type or size.
pub(crate) fn wrong(name: &str, value: &Value) -> Refusal {
    let kind = match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    let shown: String = value.to_string().chars().take(SHOWN_MAX).collect();
    Refusal::invalid(format!(
        "Invalid value {shown} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'. {SEE}"
    ))
}

fn fits(value: &Value, kind: Kind) -> bool {
    let object = |value: &Value, fields: &[Field]| {
        let Value::Object(object) = value else { return false };
        let fine =
            |field: &Field| object.get(field.name).is_none_or(|value| value.is_null() || fits(value, field.kind));
        fields.iter().all(fine)
    };
    match kind {
        Kind::Text => value.is_string(),
        Kind::Int => int_of(value).is_some(),
        Kind::Float => float_of(value).is_some(),
        Kind::Bool => value.is_boolean(),
        Kind::Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        Kind::Objects(fields) => value.as_array().is_some_and(|all| all.iter().all(|one| object(one, fields))),
        Kind::Object(fields) => object(value, fields),
        // An unknown name is passed over: it may be of a later client.
        Kind::Name => value.is_string() || int_of(value).is_some(),
    }
}

/// A whole number: as one, as a number without a fraction, or as a text.
fn int_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
            Some(number as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number: as one, or as a text, which is how JSON says what isn't finite.
fn float_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            text if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

impl Asked {
    /// A text; empty when it isn't there.
    pub fn text(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }

    /// A text, if it is there.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Value::as_str)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.values.get(name).and_then(int_of)
    }

    pub fn float(&self, name: &str) -> Option<f64> {
        self.values.get(name).and_then(float_of)
    }

    pub fn bool(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let all = self.values.get(name).and_then(Value::as_array);
        all.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The objects of a list, each to be asked as a request is.
    pub fn objects(&self, name: &str) -> Vec<Asked> {
        let all = self.values.get(name).and_then(Value::as_array);
        all.into_iter().flatten().filter_map(Asked::of).collect()
    }

    /// The object of a field.
    pub fn object(&self, name: &str) -> Option<Asked> {
        self.values.get(name).and_then(Asked::of)
    }

    /// Whether a field is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// `[{"key": …, "value": …}]`, in order.
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let pair = |one: &Asked| (one.text("key").to_owned(), one.text("value").to_owned());
        self.objects(name).iter().map(pair).collect()
    }

    /// A field that holds a name or its number, as the name.
    pub fn name_of(&self, name: &str, first: i64, names: &[&'static str]) -> Option<&'static str> {
        let value = self.values.get(name)?;
        match value.as_str() {
            Some(text) if int_of(value).is_none() => names.iter().find(|name| **name == text).copied(),
            _ => names.get(usize::try_from(int_of(value)? - first).ok()?).copied(),
        }
    }

    /// A request that says one thing.
    pub fn naming(name: &str, value: &str, by: &str) -> Asked {
        let values = Map::from_iter([(name.to_owned(), Value::from(value))]);
        Asked { by: by.to_owned(), values, ..Asked::default() }
    }

    fn of(value: &Value) -> Option<Asked> {
        let values = value.as_object()?.iter().filter(|(_, value)| !value.is_null());
        let values = values.map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Asked { values, ..Asked::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: &[Field] = &[
        Field::text("name").required(),
        Field::int("size"),
        Field::new("tags", Kind::Objects(KEY_VALUE)),
        Field::text("user").unchecked(),
    ];

    fn checked(value: Value) -> Result<(), String> {
        let Value::Object(values) = value else { panic!("an object") };
        check(&values, FIELDS).map_err(|refusal| refusal.message)
    }

    #[test]
    fn what_is_missing_or_of_a_wrong_type_is_refused() {
        let said = |value| checked(value).expect_err("refused").replace(SEE, "…");
        assert_eq!(said(json!({})), "Missing value for required parameter 'name'. …");
        assert_eq!(said(json!({"name": ""})), "Missing value for required parameter 'name'. …");
        assert_eq!(
            said(json!({"name": 5})),
            "Invalid value 5 for parameter 'name' supplied:  Hint: Value was of type 'int'. …"
        );
        assert!(said(json!({"name": "a", "size": "x"})).contains("'size'"));
        assert!(said(json!({"name": "a", "tags": [{"key": 1}]})).contains("'tags'"));
        assert_eq!(checked(json!({"name": "a", "size": "7", "tags": [{}], "user": 5, "more": []})), Ok(()));
    }

    #[test]
    fn numbers_come_in_several_forms() {
        assert_eq!(
            [json!(3), json!("3"), json!(3.0), json!(3.5), json!(true)].map(|v| int_of(&v)),
            [Some(3), Some(3), Some(3), None, None]
        );
        assert_eq!(float_of(&json!("1e3")), Some(1000.0));
        assert!(float_of(&json!("NaN")).is_some_and(f64::is_nan));
        assert_eq!(float_of(&json!("nancy")), None);
        assert_eq!(float_of(&json!("inf")), None);
    }
}
