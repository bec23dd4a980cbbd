//! The published JSON Schema takes what the checker takes, and refuses what an editor should mark.
//!
//! A validator from outside would change the features of libraries that DataFusion is built on, and have it
//! built twice; the few keywords that our schema uses are evaluated here instead. A keyword that isn't known
//! fails the test.

use gristmill_protocol::pipeline::duration::DURATION_PATTERN;
use gristmill_protocol::pipeline::json_schema;
use gristmill_protocol::pipeline::names::{NAME_PATTERN, is_name};
use gristmill_protocol::pipeline::source::{Source, parse};
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../examples/flight-delays/pipeline.yaml");

fn value_of(yaml: &str) -> Value {
    parse(&Source::new("test.yaml", yaml)).expect("the file is YAML").root.to_value()
}

fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let Value::Object(rules) = schema else { return schema == &json!(true) };
    rules.iter().all(|(keyword, rule)| {
        let number = |rule: &Value| rule.as_f64().expect("a bound is a number");
        let count = rule.as_u64().unwrap_or(0);
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" | "propertyNames" => true,
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#')).expect("references are local");
                is_valid(root, root.pointer(pointer).expect("references lead somewhere"), value)
            }
            "type" => match rule {
                Value::Array(names) => names.iter().any(|name| is_type(value, name)),
                name => is_type(value, name),
            },
            "properties" => rule
                .as_object()
                .expect("properties are a mapping")
                .iter()
                .all(|(key, schema)| value.get(key).is_none_or(|value| is_valid(root, schema, value))),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let known = rules.get("properties");
                let others = object.iter().filter(|(key, _)| known.is_none_or(|known| known.get(key).is_none()));
                others.into_iter().all(|(_, value)| is_valid(root, rule, value))
            }),
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().expect("a list").iter().all(|key| object.contains_key(key.as_str().expect("a name")))
            }),
            "minProperties" => value.as_object().is_none_or(|object| object.len() as u64 >= count),
            "maxProperties" => value.as_object().is_none_or(|object| object.len() as u64 <= count),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(root, rule, item))),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= count),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= count),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= count),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= count),
            "minimum" => value.as_f64().is_none_or(|value| value >= number(rule)),
            "maximum" => value.as_f64().is_none_or(|value| value <= number(rule)),
            "exclusiveMinimum" => value.as_f64().is_none_or(|value| value > number(rule)),
            "exclusiveMaximum" => value.as_f64().is_none_or(|value| value < number(rule)),
            "enum" => rule.as_array().expect("a list").contains(value),
            "const" => rule == value,
            "pattern" => value.as_str().is_none_or(|text| matches_pattern(rule.as_str().expect("a text"), text)),
            "anyOf" => rule.as_array().expect("a list").iter().any(|schema| is_valid(root, schema, value)),
            "oneOf" => {
                rule.as_array().expect("a list").iter().filter(|schema| is_valid(root, schema, value)).count() == 1
            }
            other => panic!("the schema uses `{other}`, which this test doesn't know"),
        }
    })
}

fn is_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("a type is a name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("`{other}` is no type"),
    }
}

/// The three patterns of our schema.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern {
        NAME_PATTERN => is_name(text),
        DURATION_PATTERN => {
            let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
            unit.len() < text.len() && ["ms", "s", "m", "h", "d"].contains(&unit)
        }
        r"\$\{[a-z][a-z0-9_-]{0,62}\}" => text
            .match_indices("${")
            .any(|(start, _)| text[start + 2..].split_once('}').is_some_and(|(name, _)| is_name(name))),
        other => panic!("the schema uses the pattern `{other}`, which this test doesn't know"),
    }
}

fn accepts(value: &Value) -> bool {
    let schema = json_schema();
    is_valid(&schema, &schema, value)
}

#[test]
fn the_example_is_valid() {
    assert!(accepts(&value_of(EXAMPLE)));
}

#[test]
fn the_schema_says_what_it_is() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Gristmill pipeline");
    let trees = schema.pointer("/$defs/RandomForest/properties/trees").expect("forests have trees");
    assert_eq!(trees["description"], "Number of trees. Default 100.");
    assert_eq!(trees["default"], 100);
}

#[test]
fn parameters_may_stand_for_anything_but_mappings() {
    let with_parameters = EXAMPLE
        .replace("test: 0.2", "test: \"${share}\"")
        .replace("trees: 100", "trees: \"${trees}\"")
        .replace("numeric: [dep_delay, distance, hour]", "numeric: \"${columns}\"")
        .replace("seed: 7", "seed: \"${seed}\"")
        .replace("alias: champion", "alias: \"${alias}\"")
        .replace("metric: roc_auc", "metric: \"${metric}\"");
    assert!(accepts(&value_of(&with_parameters)));
    assert!(!accepts(&value_of(&EXAMPLE.replace("trees: 100", "trees: \"many\""))));
}

#[test]
fn what_an_editor_should_mark_is_refused() {
    let wrong = [
        ("name: flight-delays\n", ""),
        ("name: flight-delays\n", "name: Flight Delays\n"),
        ("steps:", "stages:"),
        ("ingest:", "ingset:"),
        ("ingest: {", "noop: {}, ingest: {"),
        ("{ ingest: { source: \"${source}\" } }", "{}"),
        ("{ ingest: { source: \"${source}\" } }", "{ noop: null }"),
        ("test: 0.2", "test: 1"),
        ("test: 0.2", "test: a fifth"),
        ("seed: 7", "seed: -7"),
        ("trees: 100", "trees: 0"),
        ("trees: 100", "tress: 100"),
        ("random_forest", "random_florist"),
        ("metric: roc_auc", "metric: auc"),
        ("between: [-120, 2000]", "between: [1, 2, 3]"),
        ("numeric: [dep_delay, distance, hour]", "numeric: [1]"),
        ("alias: champion }", "alias: champion }, when: sometimes"),
        ("alias: champion }", "alias: champion }, timeout: 5 minutes"),
        ("alias: champion }", "alias: champion }, priority: 101"),
        ("alias: champion }", "alias: champion }, cache: 1"),
    ];
    for (good, bad) in wrong {
        let file = EXAMPLE.replacen(good, bad, 1);
        assert_ne!(file, EXAMPLE, "{good}");
        assert!(!accepts(&value_of(&file)), "accepted `{bad}` for `{good}`");
    }
}
