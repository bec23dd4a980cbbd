//! The methods: what is asked becomes an answer.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::status::status_of;
use super::{Context, convert, messages, status};
use crate::deadline::Deadline;
use crate::faces::v2::{self, Datatype, WantedOutput};
use crate::models::Which;
use crate::refusal::Refusal;
use crate::scoring::Answer;
use crate::server::{ServerSettings, default_model};
use crate::signature::Field;

/// Our name for a deadline in milliseconds, for callers whose library sets none.
const TIMEOUT: &str = "gristmill-timeout-ms";
/// What decides between champion and canary. Without it, the message does.
const KEY: &str = "gristmill-key";
const REQUEST_ID: &str = "x-request-id";
/// Who answered, for whoever looks.
const MODEL_VERSION: &str = "gristmill-model-version";

type Answered<R> = Result<Response<R>, Status>;

/// Until when a call is wanted.
pub fn deadline(settings: &ServerSettings, headers: &HeaderMap, start: Instant) -> Deadline {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = || text(TIMEOUT)?.trim().parse().ok().map(Duration::from_millis);
    let said = text("grpc-timeout").and_then(status::timeout).or_else(own);
    Deadline::after(start, said.unwrap_or(settings.timeout).min(settings.timeout_max))
}

pub async fn server_live(_context: Context, _request: Request<messages::Empty>) -> Answered<messages::Yes> {
    Ok(Response::new(messages::Yes { yes: true }))
}

pub async fn server_ready(context: Context, _request: Request<messages::Empty>) -> Answered<messages::Yes> {
    Ok(Response::new(messages::Yes { yes: is_ready(&context) }))
}

pub async fn server_metadata(
    _context: Context,
    _request: Request<messages::Empty>,
) -> Answered<messages::ServerMetadata> {
    Ok(Response::new(messages::ServerMetadata {
        name: v2::metadata::NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // Of those that HTTP has, what is said in messages.
        extensions: vec!["parameters".to_owned()],
    }))
}

/// Whether a model is in memory, which asking makes true where it can be.
pub async fn model_ready(context: Context, request: Request<messages::ModelName>) -> Answered<messages::Yes> {
    let asked = request.into_inner();
    let routed = context.shared.scoring.route(&asked.name, &which(&asked.version), b"", context.deadline).await;
    match routed {
        Ok(_) => Ok(Response::new(messages::Yes { yes: is_ready(&context) })),
        Err(Refusal::NotFound(_) | Refusal::NotReady(_)) => Ok(Response::new(messages::Yes { yes: false })),
        Err(refusal) => Err(status_of(&refusal)),
    }
}

pub async fn model_metadata(
    context: Context,
    request: Request<messages::ModelName>,
) -> Answered<messages::ModelMetadata> {
    let asked = request.into_inner();
    let scoring = &context.shared.scoring;
    let routed = scoring.route(&asked.name, &which(&asked.version), b"", context.deadline).await;
    let routed = routed.map_err(|refusal| status_of(&refusal))?;
    let known = scoring.models().find(&asked.name);
    let versions = known.map_or_else(|| vec![routed.lane().version()], |known| known.versions);
    let tensors = |fields: &[Field]| {
        let tensor = |field: &Field| messages::TensorMetadata {
            name: field.name.to_string(),
            datatype: Datatype::from(field.kind).to_string(),
            shape: vec![-1],
        };
        fields.iter().map(tensor).collect()
    };
    let signature = routed.signature();
    Ok(Response::new(messages::ModelMetadata {
        name: asked.name,
        versions: versions.iter().map(ToString::to_string).collect(),
        platform: v2::metadata::PLATFORM.to_owned(),
        inputs: tensors(signature.inputs()),
        outputs: tensors(signature.outputs()),
    }))
}

pub async fn model_infer(
    context: Context,
    request: Request<messages::ModelInferRequest>,
) -> Answered<messages::ModelInferResponse> {
    let (metadata, _, asked) = request.into_parts();
    let name = if asked.model_name.is_empty() { default_model(&context.shared) } else { None };
    let name = name.unwrap_or_else(|| asked.model_name.clone());
    let result = infer(&context, &metadata, &name, &asked).await;
    let result = result.map_err(|refusal| refusal.without_schema(context.shared.settings.hide_schema));
    let counted = result.as_ref().map(|_| ());
    context.shared.scoring.count(&name, context.start.elapsed(), counted);
    result.map_err(|refusal| status_of(&refusal))
}

async fn infer(
    context: &Context,
    metadata: &MetadataMap,
    name: &str,
    asked: &messages::ModelInferRequest,
) -> Result<Response<messages::ModelInferResponse>, Refusal> {
    let scoring = &context.shared.scoring;
    let deadline = context.deadline.shortened(context.start, convert::timeout(asked));
    let which = which(&asked.model_version);
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
    let key: Cow<'_, [u8]> = match text(KEY) {
        Some(key) => Cow::Borrowed(key.as_bytes()),
        // Only an endpoint asks for it.
        None if which == Which::Served && scoring.endpoint(name).is_some() => Cow::Owned(asked.encode_to_vec()),
        None => Cow::Borrowed(b""),
    };
    let routed = scoring.route(name, &which, &key, deadline).await?;
    let input = convert::input(asked, routed.signature())?;
    let made_up = || scoring.captures().then(|| Cow::Owned(uuid::Uuid::now_v7().to_string()));
    let outer_id = text(REQUEST_ID).map(Cow::Borrowed);
    let own_id = (!asked.id.is_empty()).then_some(Cow::Borrowed(&*asked.id));
    let id = own_id.or_else(|| outer_id.clone()).or_else(made_up);
    let answer = scoring.score(routed, input, id.as_deref(), deadline).await?;
    let mut response = Response::new(written(asked, name, &answer)?);
    let version = answer.lane.version().to_string();
    for (key, value) in [(MODEL_VERSION, Some(version.as_str())), (REQUEST_ID, outer_id.as_deref().or(id.as_deref()))] {
        // An id that came in a message may have what metadata can't.
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            response.metadata_mut().insert(key, value);
        }
    }
    Ok(response)
}

/// The outputs in the form in which the inputs came.
fn written(
    asked: &messages::ModelInferRequest,
    name: &str,
    answer: &Answer,
) -> Result<messages::ModelInferResponse, Refusal> {
    let wanted = |output: &messages::RequestedOutput| WantedOutput { name: output.name.clone(), binary: None };
    let wanted: Vec<WantedOutput> = asked.outputs.iter().map(wanted).collect();
    let raw = !asked.raw_input_contents.is_empty();
    let mut response = messages::ModelInferResponse {
        model_name: name.to_owned(),
        model_version: answer.lane.version().to_string(),
        id: asked.id.clone(),
        ..messages::ModelInferResponse::default()
    };
    for (name, column, raw) in v2::selected(&answer.predictions, &wanted, raw)? {
        let (tensor, bytes) = convert::output(name, column, raw);
        response.outputs.push(tensor);
        response.raw_output_contents.extend(bytes);
    }
    Ok(response)
}

fn which(version: &str) -> Which {
    if version.is_empty() { Which::Served } else { Which::named(version) }
}

fn is_ready(context: &Context) -> bool {
    !context.shared.draining.load(Ordering::Relaxed)
}
