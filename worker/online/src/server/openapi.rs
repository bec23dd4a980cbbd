//! The paths for programs to read, as OpenAPI 3.1.

use serde_json::{Value, json};

/// The document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Gristmill online scoring", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths(),
        "components": { "schemas": schemas() },
    })
}

/// What is refused anywhere: a body that makes no sense, is too large or compressed in an unknown way; too much to do; no
/// time left. Bodies of requests that need none are read too.
const ANYWHERE: [&str; 5] = ["400", "413", "415", "503", "504"];

fn paths() -> Value {
    let (model, version) = (parameter("model"), parameter("version"));
    let infer = predicting("Scores rows, in Open Inference Protocol V2.", "InferRequest", "InferResponse");
    let mut paths = json!({
        "/v2": get("Who serves.", "Server"),
        "/v2/health/live": get("Whether the server answers.", "Health"),
        "/v2/health/ready": ready(),
        "/v2/models": get("The names of all models.", "Names"),
        "/v2/models/stats": get("How the models in memory have fared since they were loaded.", "Stats"),
        "/v2/models/{model}/infer": { "parameters": [model], "post": infer },
        "/v2/models/{model}/versions/{version}/infer": { "parameters": [model, version], "post": infer },
        "/v2/repository/index": { "post": {
            "summary": "All versions, and whether each is in memory.",
            "requestBody": { "content": { "application/json": { "schema": { "$ref": schema("IndexRequest") } } } },
            "responses": responses(answer("Index"), &[]),
        } },
        "/v2/repository/models/{model}/load": { "parameters": [model], "post": empty("Loads a model.") },
        "/v2/repository/models/{model}/unload": {
            "parameters": [model], "post": empty("Takes a model out of memory; the next request loads it again."),
        },
        "/v1/models": get("The names of all models.", "Names"),
        "/v1/models/{model}": { "parameters": [model], "get": of_model("Whether a model can score.", "Ready") },
        "/v1/models/{model}:predict": {
            "parameters": [model], "post": predicting("Scores `instances`.", "Table", "Predictions"),
        },
        "/invocations": { "post": invocations() },
        "/version": text("The server's version."),
        "/openapi.json": get("This document.", "Object"),
        "/metrics": text("Prometheus metrics."),
    });
    for (end, summary, schema) in [
        ("", "What a model takes and gives.", "Model"),
        ("/ready", "Whether a model can score; loads it by need.", "Ready"),
        ("/config", "What of Triton's configuration has a meaning here.", "Object"),
        ("/stats", "How a model has fared since it was loaded.", "Stats"),
    ] {
        let get = of_model(summary, schema);
        paths[format!("/v2/models/{{model}}{end}")] = json!({ "parameters": [model], "get": get });
        paths[format!("/v2/models/{{model}}/versions/{{version}}{end}")] =
            json!({ "parameters": [model, version], "get": get });
    }
    for path in ["/ping", "/health"] {
        let mut ping = text("Whether the default model is there.");
        ping["get"]["responses"]["404"] = refusal();
        paths[path] = ping;
    }
    paths["/healthz"] = paths["/v2/health/live"].clone();
    paths["/readyz"] = paths["/v2/health/ready"].clone();
    paths
}

fn get(summary: &str, schema: &str) -> Value {
    json!({ "get": { "summary": summary, "responses": responses(answer(schema), &[]) } })
}

fn text(summary: &str) -> Value {
    let fine = json!({ "description": "Text.", "content": { "text/plain": { "schema": { "type": "string" } } } });
    json!({ "get": { "summary": summary, "responses": responses(fine, &[]) } })
}

/// 503 has the same form as 200 when it says that the server isn't ready.
fn ready() -> Value {
    let mut ready = get("Whether it can score; 503 when it can't.", "Health");
    let forms = json!([{ "$ref": schema("Health") }, { "$ref": schema("Refusal") }]);
    ready["get"]["responses"]["503"]["content"]["application/json"]["schema"] = json!({ "anyOf": forms });
    ready
}

fn of_model(summary: &str, schema: &str) -> Value {
    json!({ "summary": summary, "responses": responses(answer(schema), &["404"]) })
}

fn empty(summary: &str) -> Value {
    let fine = json!({ "description": "It is so." });
    json!({ "summary": summary, "responses": responses(fine, &["404"]) })
}

/// JSON in and JSON out, and for Open Inference V2 also JSON with binary tensors after it.
fn predicting(summary: &str, request: &str, response: &str) -> Value {
    let mut request = json!({ "application/json": { "schema": { "$ref": schema(request) } } });
    let mut response = answer(response);
    if response["content"]["application/json"]["schema"]["$ref"] == schema("InferResponse") {
        request["application/octet-stream"] = json!({});
        response["content"]["application/octet-stream"] = json!({});
    }
    json!({
        "summary": summary,
        "requestBody": { "required": true, "content": request },
        "responses": responses(response, &["404", "500"]),
    })
}

fn invocations() -> Value {
    let csv = json!({ "schema": { "type": "string", "minLength": 1 } });
    let mut invocations = predicting("Scores rows, as MLflow and SageMaker ask.", "Table", "Predictions");
    invocations["requestBody"]["content"]["text/csv"] = csv.clone();
    invocations["responses"]["200"]["content"]["text/csv"] = csv;
    // What MLflow's own server answers with, and its clients look for.
    invocations["responses"]["415"]["content"]["text/plain"] = json!({ "schema": { "type": "string" } });
    invocations
}

fn responses(fine: Value, more: &[&str]) -> Value {
    let mut responses = json!({ "200": fine });
    for status in ANYWHERE.iter().chain(more) {
        responses[*status] = refusal();
    }
    responses
}

fn answer(name: &str) -> Value {
    let schema = json!({ "schema": { "$ref": schema(name) } });
    json!({ "description": "The answer.", "content": { "application/json": schema } })
}

fn refusal() -> Value {
    json!({
        "description": "Why not, in words.",
        "content": { "application/json": { "schema": { "$ref": schema("Refusal") } } },
    })
}

fn schema(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

fn parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let shape = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
    let tensor = json!({
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": text,
            "shape": shape,
            "datatype": { "enum": [
                "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES",
            ] },
            "parameters": { "type": "object" },
            "data": { "type": "array" },
        },
    });
    let described = json!({ "type": "array", "items": { "type": "object", "properties": {
        "name": text, "datatype": text, "shape": { "type": "array", "items": { "type": "integer" } },
    } } });
    let rows = json!({ "type": "array" });
    json!({
        "Object": { "type": "object" },
        "Refusal": {
            "type": "object",
            "anyOf": [{ "required": ["error"] }, { "required": ["error_code", "message"] }],
            "properties": { "error": text, "error_code": text, "message": text },
        },
        "Server": { "type": "object", "required": ["name", "version", "extensions"], "properties": {
            "name": text, "version": text, "extensions": texts,
        } },
        "Health": { "type": "object", "required": ["live"], "properties": { "live": { "type": "boolean" }, "ready": { "type": "boolean" } } },
        "Names": { "type": "object", "required": ["models"], "properties": { "models": texts } },
        "Ready": { "type": "object", "required": ["name", "ready"], "properties": { "name": text, "ready": { "type": "boolean" } } },
        "Model": { "type": "object", "required": ["name", "platform", "inputs", "outputs"], "properties": {
            "name": text, "versions": texts, "platform": text, "inputs": described, "outputs": described,
        } },
        "Stats": { "type": "object", "required": ["model_stats"], "properties": {
            "model_stats": { "type": "array", "items": { "type": "object", "required": ["name", "version"] } },
        } },
        "IndexRequest": { "type": "object", "properties": { "ready": { "type": "boolean" } } },
        "Index": { "type": "array", "items": { "type": "object", "properties": {
            "name": text, "version": text, "state": { "enum": ["READY", "UNAVAILABLE"] }, "reason": text,
        } } },
        "InferRequest": { "type": "object", "required": ["inputs"], "properties": {
            "id": text,
            "parameters": { "type": "object" },
            "inputs": { "type": "array", "minItems": 1, "items": tensor },
            "outputs": { "type": "array", "items": { "type": "object", "required": ["name"], "properties": {
                "name": text, "parameters": { "type": "object" },
            } } },
        } },
        "InferResponse": { "type": "object", "required": ["model_name", "outputs"], "properties": {
            "model_name": text, "model_version": text, "id": text, "outputs": { "type": "array", "items": tensor },
        } },
        "Table": {
            "type": "object",
            // Exactly one of them has the rows.
            "oneOf": [
                { "required": ["dataframe_split"] },
                { "required": ["dataframe_records"] },
                { "required": ["instances"] },
                { "required": ["inputs"] },
            ],
            "properties": {
                "dataframe_split": { "type": "object", "required": ["data"], "properties": {
                    "columns": texts, "index": rows, "data": { "type": "array", "items": rows },
                } },
                "dataframe_records": { "type": "array", "items": { "type": "object" } },
                "instances": rows,
                "inputs": { "type": ["object", "array"] },
                "signature_name": false,
            },
        },
        "Predictions": { "type": "object", "required": ["predictions"], "properties": { "predictions": rows } },
    })
}
