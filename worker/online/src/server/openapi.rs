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

fn paths() -> Value {
    let infer =
        json!({ "post": predicting("Scores rows, in Open Inference Protocol V2.", "InferRequest", "InferResponse") });
    let mut infer_version = infer.clone();
    let (model, version) = (parameter("model"), parameter("version"));
    infer_version["parameters"] = json!([model, version]);
    let mut infer = infer;
    infer["parameters"] = json!([model]);
    let mut invocations = predicting("Scores rows, as MLflow and SageMaker ask.", "Table", "Predictions");
    invocations["requestBody"]["content"]["text/csv"] = json!({ "schema": { "type": "string" } });
    invocations["responses"]["415"] = json!({ "description": "The content type is not known." });
    json!({
        "/v2": get("Who serves.", "Server"),
        "/v2/health/live": get("Whether the server answers.", "Health"),
        "/v2/health/ready": get("Whether it can score; 503 when it can't.", "Health"),
        "/v2/models": get("The names of all models.", "Names"),
        "/v2/models/{model}": of_model("What a model takes and gives.", "Model"),
        "/v2/models/{model}/ready": of_model("Whether a model can score; loads it by need.", "Ready"),
        "/v2/models/{model}/config": of_model("What of Triton's configuration has a meaning here.", "Object"),
        "/v2/models/{model}/stats": of_model("How a model has fared since it was loaded.", "Object"),
        "/v2/models/{model}/infer": infer,
        "/v2/models/{model}/versions/{version}/infer": infer_version,
        "/v2/repository/index": { "post": {
            "summary": "All versions, and whether each is in memory.",
            "requestBody": { "content": { "application/json": { "schema": {
                "type": "object", "properties": { "ready": { "type": "boolean" } },
            } } } },
            "responses": { "200": answer("Index"), "400": refusal() },
        } },
        "/v2/repository/models/{model}/load": { "parameters": [model], "post": empty("Loads a model.") },
        "/v2/repository/models/{model}/unload": {
            "parameters": [model], "post": empty("Takes a model out of memory; the next request loads it again."),
        },
        "/v1/models/{model}:predict": {
            "parameters": [model], "post": predicting("Scores `instances`.", "Table", "Predictions"),
        },
        "/invocations": { "post": invocations },
        "/ping": { "get": empty("Whether the default model is there.") },
        "/metrics": { "get": { "summary": "Prometheus metrics.", "responses": { "200": { "description": "Text." } } } },
    })
}

fn get(summary: &str, schema: &str) -> Value {
    json!({ "get": { "summary": summary, "responses": { "200": answer(schema), "503": refusal() } } })
}

fn of_model(summary: &str, schema: &str) -> Value {
    let responses = json!({ "200": answer(schema), "400": refusal(), "404": refusal(), "503": refusal() });
    json!({ "parameters": [parameter("model")], "get": { "summary": summary, "responses": responses } })
}

fn empty(summary: &str) -> Value {
    let fine = json!({ "description": "It is so." });
    json!({ "summary": summary, "responses": { "200": fine, "400": refusal(), "404": refusal(), "503": refusal() } })
}

fn predicting(summary: &str, request: &str, response: &str) -> Value {
    let mut responses = json!({ "200": answer(response) });
    for status in ["400", "404", "413", "415", "500", "503", "504"] {
        responses[status] = refusal();
    }
    json!({
        "summary": summary,
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{request}") } } },
        },
        "responses": responses,
    })
}

fn answer(schema: &str) -> Value {
    let schema = json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } });
    json!({ "description": "The answer.", "content": { "application/json": schema } })
}

fn refusal() -> Value {
    json!({
        "description": "Why not, in words.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" } } },
    })
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
        "Refusal": { "type": "object", "properties": { "error": text, "error_code": text, "message": text } },
        "Server": { "type": "object", "required": ["name", "version", "extensions"], "properties": {
            "name": text, "version": text, "extensions": texts,
        } },
        "Health": { "type": "object", "properties": { "live": { "type": "boolean" }, "ready": { "type": "boolean" } } },
        "Names": { "type": "object", "required": ["models"], "properties": { "models": texts } },
        "Ready": { "type": "object", "properties": { "name": text, "ready": { "type": "boolean" } } },
        "Model": { "type": "object", "required": ["name", "platform", "inputs", "outputs"], "properties": {
            "name": text, "versions": texts, "platform": text, "inputs": described, "outputs": described,
        } },
        "Index": { "type": "array", "items": { "type": "object", "properties": {
            "name": text, "version": text, "state": { "enum": ["READY", "UNAVAILABLE"] }, "reason": text,
        } } },
        "InferRequest": { "type": "object", "required": ["inputs"], "properties": {
            "id": text,
            "parameters": { "type": "object" },
            "inputs": { "type": "array", "items": tensor },
            "outputs": { "type": "array", "items": { "type": "object", "required": ["name"], "properties": {
                "name": text, "parameters": { "type": "object" },
            } } },
        } },
        "InferResponse": { "type": "object", "required": ["model_name", "outputs"], "properties": {
            "model_name": text, "model_version": text, "id": text, "outputs": { "type": "array", "items": tensor },
        } },
        "Table": { "type": "object", "properties": {
            "dataframe_split": { "type": "object", "required": ["data"], "properties": {
                "columns": texts, "index": rows, "data": { "type": "array", "items": rows },
            } },
            "dataframe_records": { "type": "array", "items": { "type": "object" } },
            "instances": rows,
            "inputs": {},
        } },
        "Predictions": { "type": "object", "required": ["predictions"], "properties": { "predictions": rows } },
    })
}
