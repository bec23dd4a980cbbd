//! The JSON Schema of the pipeline file, generated from its types.
//!
//! There are two forms of it. The strict one describes what the types take and is what the checker walks,
//! after parameters went in. The published one is for editors, which see `${name}` as it is written: it also
//! takes such a text wherever a number, a flag, a list or one of a few words is expected.

use std::sync::OnceLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::steps::PipelineFile;

/// The kinds of steps, in the order in which a pipeline usually has them.
pub const KINDS: [&str; 11] =
    ["ingest", "transform", "expect", "split", "train", "tune", "validate", "register", "score", "python", "noop"];

/// Says in the schema of a step that it has exactly one kind, and that a kind isn't null.
pub(super) fn exactly_one_kind(schema: &mut Schema) {
    for kind in KINDS {
        let property = schema.pointer_mut(&format!("/properties/{kind}")).expect("every kind is a key of a step");
        if let Some(reference) = property.pointer("/anyOf/0/$ref").cloned() {
            *property = json!({ "$ref": reference });
        }
    }
    let one_of: Vec<Value> = KINDS.iter().map(|kind| json!({ "required": [kind] })).collect();
    schema.insert("oneOf".to_owned(), Value::Array(one_of));
}

/// The schema that the checker walks.
pub(super) fn strict() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<PipelineFile>().to_value()
    })
}

/// The schema for editors (draft 2020-12).
pub fn json_schema() -> Value {
    let mut schema = strict().clone();
    for definition in
        schema.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flat_map(|map| map.values_mut())
    {
        allow_parameters_within(definition);
    }
    for name in ["priority", "weight", "name", "limits"] {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{name}")) {
            allow_parameter(property);
        }
    }
    schema["title"] = json!("Gristmill pipeline");
    schema["$defs"]["parameter"] = json!({
        "type": "string",
        "pattern": "\\$\\{[a-z][a-z0-9_-]{0,62}\\}",
        "description": "A text with a parameter: `${name}`.",
    });
    schema
}

/// Lets parameters stand for the values of a mapping, and for the items of lists in it.
fn allow_parameters_within(schema: &mut Value) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(allow_parameter);
    }
    for list in ["anyOf", "oneOf"] {
        if let Some(alternatives) = schema.get_mut(list).and_then(Value::as_array_mut) {
            alternatives.iter_mut().for_each(allow_parameters_within);
        }
    }
}

/// Lets a parameter stand for a value, unless it may be any text already or is a mapping of a step's own.
fn allow_parameter(schema: &mut Value) {
    let is_free_text = schema.get("type").is_some_and(has_string)
        && ["pattern", "enum", "const", "maxLength"].iter().all(|key| schema.get(key).is_none());
    let Some(map) = schema.as_object_mut().filter(|map| !is_free_text && !map.is_empty()) else { return };
    if let Some(others) = map.get_mut("additionalProperties").filter(|others| others.is_object()) {
        allow_parameter(others);
    }
    if let Some(items) = map.get_mut("items") {
        allow_parameter(items);
    }
    // What editors show stays outside of the choice.
    let mut outer = serde_json::Map::new();
    for key in ["description", "default"] {
        if let Some(value) = map.shift_remove(key) {
            outer.insert(key.to_owned(), value);
        }
    }
    let inner = std::mem::take(map);
    outer.insert("anyOf".to_owned(), json!([inner, { "$ref": "#/$defs/parameter" }]));
    *map = outer;
}

fn has_string(types: &Value) -> bool {
    match types {
        Value::String(name) => name == "string",
        Value::Array(names) => names.iter().any(|name| name == "string"),
        _ => false,
    }
}
