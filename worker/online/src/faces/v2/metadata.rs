//! What the protocol's other requests are answered with: who serves, what a model takes, how it has fared.

use serde_json::{Value, json};

use super::datatype::Datatype;
use crate::rows::Kind;
use crate::signature::{Field, Signature};

/// Extensions of the protocol that are spoken here.
pub const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_repository", "statistics", "parameters"];
/// What the server calls itself.
pub const NAME: &str = "gristmill";
/// What the models are, for clients that show it.
pub const PLATFORM: &str = "gristmill";

/// Counts of a model version since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelCounts {
    pub rows: u64,
    pub batches: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Nanoseconds of the successful requests, all together; likewise below.
    pub request_ns: u64,
    pub queue_ns: u64,
    pub predict_ns: u64,
    /// Milliseconds since 1970; 0 before the first.
    pub last_ms: u64,
}

/// `GET /v2`.
pub fn server() -> Value {
    json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS })
}

/// `GET /v2/models/{m}`.
pub fn model(name: &str, versions: &[u64], signature: &Signature) -> Value {
    let tensors = |fields: &[Field]| -> Vec<Value> { fields.iter().map(tensor).collect() };
    json!({
        "name": name,
        "versions": versions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "platform": PLATFORM,
        "inputs": tensors(signature.inputs()),
        "outputs": tensors(signature.outputs()),
    })
}

/// `GET /v2/models/{m}/config`: what of Triton's `ModelConfig` has a meaning here.
pub fn config(name: &str, version: u64, signature: &Signature, batch_rows_max: usize) -> Value {
    let fields = |fields: &[Field]| -> Vec<Value> {
        let one = |field: &Field| {
            let data_type = match field.kind {
                Kind::Number => "TYPE_FP64",
                Kind::Integer => "TYPE_INT64",
                Kind::Bool => "TYPE_BOOL",
                Kind::Text => "TYPE_STRING",
            };
            json!({ "name": &*field.name, "data_type": data_type, "dims": [1], "optional": field.nullable })
        };
        fields.iter().map(one).collect()
    };
    json!({
        "name": name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": { "specific": { "versions": [version] } },
        "max_batch_size": batch_rows_max,
        "input": fields(signature.inputs()),
        "output": fields(signature.outputs()),
    })
}

/// `GET …/stats`.
pub fn stats(models: &[(String, u64, ModelCounts)]) -> Value {
    let one = |(name, version, counts): &(String, u64, ModelCounts)| {
        let sum = |count: u64, ns: u64| json!({ "count": count, "ns": ns });
        json!({
            "name": name,
            "version": version.to_string(),
            "last_inference": counts.last_ms,
            "inference_count": counts.rows,
            "execution_count": counts.batches,
            "inference_stats": {
                "success": sum(counts.succeeded, counts.request_ns),
                "fail": sum(counts.failed, 0),
                "queue": sum(counts.succeeded, counts.queue_ns),
                "compute_input": sum(0, 0),
                "compute_infer": sum(counts.batches, counts.predict_ns),
                "compute_output": sum(0, 0),
                "cache_hit": sum(0, 0),
                "cache_miss": sum(0, 0),
            },
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [],
        })
    };
    json!({ "model_stats": models.iter().map(one).collect::<Vec<_>>() })
}

fn tensor(field: &Field) -> Value {
    json!({ "name": &*field.name, "datatype": Datatype::from(field.kind).to_string(), "shape": [-1] })
}
