//! A run as it changes: server-sent events, and another connection where one breaks.

use std::time::Duration;

use gristmill_protocol::RunId;
use gristmill_protocol::api::Run;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;

use crate::ClientError;
use crate::transport::{Content, Transport};

/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Silence after which a connection counts as broken: the server says something every 10 s.
const SILENCE: Duration = Duration::from_secs(35);
/// Connections in a row that may break without an event.
const BREAKS_MAX: u32 = 10;
/// The pause before another connection, for each break in a row.
const PAUSE: Duration = Duration::from_millis(200);

/// A run that is watched.
pub struct Watch {
    transport: Transport,
    path: String,
    body: Option<Incoming>,
    /// What was received and isn't a whole event yet.
    buffer: Vec<u8>,
    breaks: u32,
    has_ended: bool,
}

impl Watch {
    pub(crate) fn new(transport: Transport, run: RunId) -> Watch {
        let path = format!("/v1/runs/{run}/events");
        Watch { transport, path, body: None, buffer: Vec::new(), breaks: 0, has_ended: false }
    }

    /// The run when it has changed; first as it stands. Nothing once its end was told.
    pub async fn next(&mut self) -> Result<Option<Run>, ClientError> {
        while !self.has_ended {
            if let Some((name, data)) = self.take_event() {
                self.has_ended = name == "end";
                self.breaks = 0;
                let run = serde_json::from_str(&data)
                    .map_err(|error| ClientError::Answer { url: self.url(), detail: error.to_string() })?;
                return Ok(Some(run));
            }
            match self.receive().await {
                Ok(()) => {}
                Err(error) if error.is_retryable() && self.breaks < BREAKS_MAX => {
                    self.breaks += 1;
                    (self.body, self.buffer) = (None, Vec::new());
                    tokio::time::sleep(PAUSE * self.breaks).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Receives some more, over a new connection if there is none.
    async fn receive(&mut self) -> Result<(), ClientError> {
        let url = self.url();
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let opening = self.transport.open(&Method::GET, &self.path, &Content::Nothing);
                let late = |_| ClientError::TooLate { url: url.clone(), seconds: SILENCE.as_secs() };
                let response = tokio::time::timeout(SILENCE, opening).await.map_err(late)??;
                if !response.status().is_success() {
                    return Err(self.transport.refusal(&self.path, response).await);
                }
                self.body.insert(response.into_body())
            }
        };
        let broke = |source| ClientError::Unreachable { url: url.clone(), source };
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                match self.buffer.len() > EVENT_BYTES_MAX {
                    true => Err(ClientError::TooLarge { url, max: EVENT_BYTES_MAX }),
                    false => Ok(()),
                }
            }
            Ok(Some(Err(error))) => Err(broke(Box::new(error))),
            Ok(None) => Err(broke("the server closed the stream".into())),
            Err(_) => Err(ClientError::TooLate { url, seconds: SILENCE.as_secs() }),
        }
    }

    /// The next whole event of the buffer: its name and data. Comments are passed over.
    fn take_event(&mut self) -> Option<(String, String)> {
        while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let (mut name, mut data) = (String::new(), String::new());
            for line in String::from_utf8_lossy(&event).lines() {
                match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
                    Some(("event", value)) => value.clone_into(&mut name),
                    Some(("data", value)) => data.push_str(value),
                    _ => {}
                }
            }
            if !data.is_empty() {
                return Some((name, data));
            }
        }
        None
    }

    fn url(&self) -> String {
        self.transport.url(&self.path)
    }
}
