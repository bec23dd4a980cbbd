//! The published document: what the table of endpoints says, in OpenAPI 3.1.

use std::sync::OnceLock;

use axum::Json;
use gristmill_protocol::api::ErrorBody;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::access::Need;
use crate::routes::{Payload, Route, routes};

/// `GET /openapi.json`
pub(crate) async fn published() -> Json<&'static Value> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    Json(DOCUMENT.get_or_init(document))
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorBody>();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let operation = operation(&route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gristmill",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs, pipelines, models and the cluster. Times are milliseconds since the Unix epoch.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }, { "session": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "What went wrong, and what to try.",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::access::COOKIE },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let named = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = named.map(|name| {
        let schema = match name {
            "task" | "version" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let in_query = route.query.iter().map(|(name, meaning)| {
        let schema = match *name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 500 }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "query", "required": false, "description": meaning, "schema": schema })
    });
    let (status, answer) = route.answer;
    let mut success = json!({ "description": "As asked." });
    if let Some(content) = content(answer, generator) {
        success["content"] = content;
    }
    let right = match route.need {
        Need::Nothing => "Anybody may ask.".to_owned(),
        Need::Role(role) => format!("Takes a {}.", role.as_str()),
        Need::Cluster(role) => format!("Takes a {} for all namespaces.", role.as_str()),
    };
    let id = format!("{} {}", route.method.to_lowercase(), route.path);
    let id: String =
        id.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
    let mut responses = Map::new();
    responses.insert(status.to_string(), success.clone());
    // What was there already is answered with 200 where what is new is with 201.
    if status == 201 {
        responses.insert("200".to_owned(), success.clone());
    }
    if route.path.contains("artifacts") {
        responses.insert("206".to_owned(), success);
        responses.insert("416".to_owned(), json!({ "description": "The range is outside of the artifact." }));
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Error" }));
    let mut operation = json!({
        "operationId": id.trim_matches('_'),
        "summary": route.summary,
        "description": right,
        "tags": [tag(route.path)],
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses,
    });
    if let Some(content) = content(route.request, generator) {
        // A file may be empty.
        let is_required = matches!(route.request, Payload::Json(_));
        operation["requestBody"] = json!({ "required": is_required, "content": content });
    }
    if route.need == Need::Nothing {
        operation["security"] = json!([]);
    }
    operation
}

/// What a path is about: its first part after the version.
fn tag(path: &str) -> &str {
    path.trim_start_matches("/v1").split('/').nth(1).unwrap_or_default()
}

fn content(payload: Payload, generator: &mut SchemaGenerator) -> Option<Value> {
    match payload {
        Payload::Nothing => None,
        Payload::Json(shape) => Some(json!({ "application/json": { "schema": shape(generator) } })),
        Payload::Bytes => {
            Some(json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } }))
        }
        Payload::Events(shape) => {
            let data = shape(generator);
            Some(json!({ "text/event-stream": { "schema": { "type": "string" }, "x-event-data": data } }))
        }
    }
}
