//! One V2 request whose bytes are at hand, whatever way it came.

use std::time::Instant;

use crate::deadline::Deadline;
use crate::faces::v2;
use crate::refusal::Refusal;
use crate::scoring::{Routed, Scoring};
use crate::server::working;

/// A request beside its body.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The name that was asked for.
    pub name: &'a str,
    /// The id that it came with, if its body has none.
    pub id: Option<&'a str>,
    /// Bytes of JSON before the binary tensors, if somebody said so.
    pub json_bytes: Option<usize>,
    pub start: Instant,
    pub deadline: Deadline,
}

/// An answer, and whose it is.
#[derive(Debug)]
pub struct Inferred {
    pub written: v2::InferAnswer,
    pub version: u64,
}

/// Reads a body, scores it and writes the answer.
pub async fn infer(scoring: &Scoring, routed: Routed, asked: Asked<'_>, body: &[u8]) -> Result<Inferred, Refusal> {
    let request = working(body.len(), || match asked.json_bytes {
        Some(0) => v2::parse_raw(body, routed.signature()),
        Some(json) if json > body.len() => {
            let text =
                format!("`Inference-Header-Content-Length` must be a number up to the body's {} bytes", body.len());
            Err(Refusal::BadRequest(text))
        }
        Some(json) => v2::parse(text(&body[..json])?, &body[json..], routed.signature()),
        None => v2::parse(text(body)?, b"", routed.signature()),
    })?;
    let deadline = asked.deadline.shortened(asked.start, request.timeout);
    let id = request.id.as_deref();
    // What may be captured is kept by an id.
    let made_up = (id.is_none() && asked.id.is_none() && scoring.captures()).then(|| uuid::Uuid::now_v7().to_string());
    let known_as = id.or(asked.id).or(made_up.as_deref());
    let answer = scoring.score(routed, request.input, known_as, deadline).await?;
    let version = answer.lane.version();
    let named = v2::Named { model: asked.name, version, id };
    let written = v2::write(named, &answer.predictions, &request.outputs, request.binary_output)?;
    Ok(Inferred { written, version })
}

/// A body as text.
pub fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|error| Refusal::BadRequest(format!("the body is not UTF-8: {error}")))
}
