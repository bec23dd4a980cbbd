//! Messages that nobody could make anything of: looked at, sent again, thrown away.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gristmill_backends::broker::dead_letters::{DeadLetter, DeadLetterError};
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::{DeadLetterItem, Page};
use serde::Deserialize;

use crate::request::{Asked, Named, Nothing, limit};
use crate::{Api, Refusal};

/// Bytes of a body that are shown.
const BODY_SHOWN: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    queue: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/dead-letters`: the oldest of each queue first. A queue shows its head alone, so there is no cursor.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<Filter>,
) -> Result<Json<Page<DeadLetterItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let queues = match asked.queue {
        Some(queue) => vec![queue],
        None => api.dead_letters.queues(),
    };
    let mut items = Vec::new();
    for queue in queues {
        let letters = api.dead_letters.look(&queue, limit - items.len()).await?;
        items.extend(letters.into_iter().map(told));
        if items.len() >= limit {
            break;
        }
    }
    Ok(Json(Page { items, next: None }))
}

/// `POST /v1/dead-letters/{id}/requeue`
pub(crate) async fn requeue(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<StatusCode, Refusal> {
    api.dead_letters.requeue(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/dead-letters/{id}`
pub(crate) async fn drop_letter(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<StatusCode, Refusal> {
    api.dead_letters.discard(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn told(dead: DeadLetter) -> DeadLetterItem {
    let body = &dead.letter.body;
    let shown = std::str::from_utf8(&body[..body.len().min(BODY_SHOWN)]);
    let text = match shown {
        Ok(text) => text,
        // A character that is cut at the end is no reason to show nothing.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "",
    };
    DeadLetterItem {
        id: dead.id,
        queue: dead.queue,
        source: dead.source,
        reason: dead.reason,
        sent_ms: dead.letter.timestamp_s.map(|seconds| seconds * 1_000),
        content_type: dead.letter.content_type.clone(),
        bytes: body.len() as u64,
        body: text.to_owned(),
    }
}

impl From<DeadLetterError> for Refusal {
    fn from(error: DeadLetterError) -> Refusal {
        let code = match &error {
            DeadLetterError::Queue(_) => ErrorCode::BadInput,
            DeadLetterError::None(_) => ErrorCode::NotFound,
            DeadLetterError::Gone(_) => ErrorCode::Conflict,
            DeadLetterError::Broker(_) => ErrorCode::Unavailable,
        };
        Refusal::of(code, &error)
    }
}
