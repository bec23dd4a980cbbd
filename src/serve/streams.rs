//! Streams to score, as files say it: one stream a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use gristmill_backends::state::State;
use gristmill_online::Which;
use gristmill_online::stream::address::{KeyOf, RoutingKey};
use gristmill_online::stream::progress::StateProgress;
use gristmill_online::stream::{Poison, Source, StreamSettings};
use serde::Deserialize;

use crate::cluster::queue_type;
use crate::problem::Problem;
use crate::settings::Settings;

/// What a file may hold. Unknown keys are errors, because people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What metrics call it; part of the ids of what is published.
    name: String,
    /// Where messages come from: a queue …
    queue: Option<String>,
    /// … or a RabbitMQ stream.
    stream: Option<String>,
    /// Where predictions go; the default one delivers to the queue that the routing key names.
    #[serde(default)]
    exchange: String,
    /// The routing key of predictions; `{key}` in it stands for the message's key, `{routing_key}` for its own, `{model}` for the model.
    routing_key: String,
    /// `name`, `name@alias` or `name@3`. Default: the only model.
    model: Option<String>,
    /// What keeps its order: `header:NAME`, `column:NAME` or `routing_key`. Default: nothing.
    key: Option<String>,
    /// What becomes of what can't be scored: `dead_letter` (default) or `publish`.
    poison: Option<PoisonFile>,
    /// Messages at hand at a time.
    at_once: Option<u16>,
    /// Attempts of a model before a message is put aside.
    attempts: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PoisonFile {
    DeadLetter,
    Publish,
}

/// The stream that a file describes.
pub fn read(path: &Path, settings: &Settings, state: &Arc<dyn State>) -> anyhow::Result<StreamSettings> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let wrong = |text: String| Problem::usage(format!("`{}` can't be understood: {text}", path.display()));
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let source = match (file.queue, file.stream) {
        (Some(queue), None) => Source::Queue { queue, queue_type: queue_type(settings) },
        (None, Some(queue)) => Source::Stream { queue, progress: Arc::new(StateProgress(state.clone())) },
        _ => return Err(wrong("give either `queue` or `stream`".to_owned()).into()),
    };
    let key = match file.key.as_deref().map(|key| key.split_once(':').unwrap_or((key, ""))) {
        None => KeyOf::Nothing,
        Some(("header", name)) if !name.is_empty() => KeyOf::Header(name.to_owned()),
        Some(("column", name)) if !name.is_empty() => KeyOf::Column(name.to_owned()),
        Some(("routing_key", "")) => KeyOf::RoutingKey,
        Some(_) => return Err(wrong("`key` is `header:NAME`, `column:NAME` or `routing_key`".to_owned()).into()),
    };
    let routing_key = file.routing_key.parse::<RoutingKey>().map_err(|error| wrong(error.to_string()))?;
    let usual = StreamSettings::new(&file.name, source, &file.exchange, routing_key);
    let (model, which) = match file.model.as_deref() {
        None => (None, Which::Served),
        Some(text) => match text.split_once('@') {
            Some((name, which)) => (Some(name.to_owned()), Which::named(which)),
            None => (Some(text.to_owned()), Which::Served),
        },
    };
    Ok(StreamSettings {
        model,
        which,
        key,
        poison: match file.poison {
            Some(PoisonFile::Publish) => Poison::Publish,
            Some(PoisonFile::DeadLetter) | None => usual.poison.clone(),
        },
        at_once_max: file.at_once.unwrap_or(usual.at_once_max).max(1),
        attempts_max: file.attempts.unwrap_or(usual.attempts_max).max(1),
        ..usual
    })
}
