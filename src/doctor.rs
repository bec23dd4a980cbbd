//! `gristmill doctor`: are the servers there, do they keep what they are told, and how far away are they?

use std::time::Instant;

use bytes::Bytes;
use gristmill_backends::broker::Message;
use serde_json::json;

use crate::cli::JsonArgs;
use crate::cluster::{open_broker_within, random_bits};
use crate::home::{Home, connect_state, open_artifacts};
use crate::problem::Exit;
use crate::settings::{ArtifactStore, Settings};

/// How often each small call is made to tell its time.
const ROUNDS: usize = 20;
/// The queue through which a message is sent and taken back.
const QUEUE: &str = "doctor";

/// What was found out about one part.
struct Finding {
    part: &'static str,
    at: String,
    result: Result<String, String>,
}

/// `gristmill doctor`.
pub async fn doctor(settings: &Settings, args: JsonArgs) -> anyhow::Result<Exit> {
    let findings = [state(settings).await, broker(settings).await, artifacts(settings).await, cluster(settings).await];
    let healthy = findings.iter().all(|finding| finding.result.is_ok());
    if args.json {
        let parts = findings.iter().map(|finding| {
            let (ok, text) = match &finding.result {
                Ok(text) => (true, text),
                Err(text) => (false, text),
            };
            json!({ "part": finding.part, "at": finding.at, "ok": ok, "found": text })
        });
        println!("{}", json!({ "ok": healthy, "parts": parts.collect::<Vec<_>>() }));
    } else {
        for finding in &findings {
            match &finding.result {
                Ok(text) => println!("✓ {:9} {}: {text}", finding.part, finding.at),
                Err(text) => println!("✗ {:9} {}: {text}", finding.part, finding.at),
            }
        }
    }
    Ok(if healthy { Exit::Success } else { Exit::Failed })
}

/// A URL without what is secret in it.
fn public(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

async fn state(settings: &Settings) -> Finding {
    let at = settings.state.as_deref().map_or_else(|| settings.home.display().to_string(), public);
    let result = async {
        if settings.state.is_none() {
            return Ok(match Home::read(settings).await {
                Ok(_) => "embedded".to_owned(),
                Err(_) => "embedded; nothing was run here yet".to_owned(),
            });
        }
        let state = connect_state(settings).await?;
        state.clock().await?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            state.clock().await?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(format!("answers in {:.2} ms, keeps what it is told", median(times)))
    };
    Finding { part: "state", at, result: told(result.await) }
}

async fn broker(settings: &Settings) -> Finding {
    let Some(url) = &settings.broker else {
        return Finding { part: "broker", at: "this process".to_owned(), result: Ok("embedded".to_owned()) };
    };
    let result = async {
        let broker = open_broker_within(settings, PATIENCE).await?.broker;
        let mut consumer = broker.consume(QUEUE, 1).await?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let id = format!("{:032x}", random_bits());
            let body = Bytes::from(id.clone());
            let message = Message { content_type: "text/plain".to_owned(), id: id.clone(), traceparent: None, body };
            let began = Instant::now();
            broker.publish(QUEUE, message).await?;
            // Messages of a doctor that was cut off may still be there.
            while {
                let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await??;
                let other = delivery.message.id != id;
                delivery.ack();
                other
            } {}
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(format!("takes a message and gives it back in {:.2} ms", median(times)))
    };
    Finding { part: "broker", at: public(url), result: told(result.await) }
}

/// How long the broker may take to be reached, and a message to be on its way: whoever asks a doctor is waiting.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

async fn artifacts(settings: &Settings) -> Finding {
    let at = match &settings.artifacts {
        None => settings.home.join("artifacts").display().to_string(),
        Some(ArtifactStore::Folder(folder)) => folder.display().to_string(),
        Some(ArtifactStore::S3(url)) => url.clone(),
    };
    let result = async {
        let store = open_artifacts(settings).await?;
        let bytes = Bytes::from(random_bits().to_be_bytes().to_vec());
        let began = Instant::now();
        let digest = store.put(bytes.clone()).await?;
        let read = store.get(digest).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        store.delete(digest).await?;
        anyhow::ensure!(read == bytes, "what comes back isn't what was put");
        Ok(format!("keeps an artifact and gives it back in {took:.1} ms"))
    };
    Finding { part: "artifacts", at, result: told(result.await) }
}

/// Who is there to do the work.
async fn cluster(settings: &Settings) -> Finding {
    let result = async {
        if !settings.is_distributed() {
            return Ok("`gristmill run` does the work itself".to_owned());
        }
        let state = connect_state(settings).await?;
        let workers = state.workers().await?;
        if workers.is_empty() {
            anyhow::bail!("no worker is alive; start one with `gristmill worker`");
        }
        let slots: u32 = workers.iter().map(|worker| worker.slots).sum();
        Ok(format!("{} workers with {slots} slots", workers.len()))
    };
    Finding { part: "workers", at: "cluster".to_owned(), result: told(result.await) }
}

fn told(result: anyhow::Result<String>) -> Result<String, String> {
    result.map_err(|error| format!("{error:#}"))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
