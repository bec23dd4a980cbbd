//! Streams: pika on both ends, processes that are killed, order and repeats, lag, and where a stream goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use gristmill_backends::broker::rabbitmq::QueueType;
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::stream::address::KeyOf;
use gristmill_online::stream::progress::{Progress, ProgressError};
use gristmill_online::stream::{Poison, Source, StreamSettings, run_stream};
use gristmill_online::{
    Column, Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, Rows, Scoring, Signature,
    SourceError, Texts,
};
use gristmill_telemetry::metrics::Metrics;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::broker::{Broker, PATIENCE, Process, becomes};
use super::{python, serve_sum};

/// Documents in a folder that processes share; a lock that the system takes back when its holder is killed.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u64)> {
        let bytes = std::fs::read(self.0.join(key.replace('/', "_"))).ok()?;
        let (version, body) = bytes.split_first_chunk::<8>()?;
        Some((body.to_vec(), u64::from_le_bytes(*version)))
    }

    fn locked<T>(&self, work: impl FnOnce() -> T) -> T {
        let lock = File::create(self.0.join("lock")).unwrap();
        lock.lock().unwrap();
        work()
    }
}

#[async_trait]
impl Progress for Folder {
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u64)>, ProgressError> {
        Ok(self.locked(|| self.read(key)))
    }

    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, ProgressError> {
        self.locked(|| {
            if self.read(key).map_or(0, |(_, version)| version) != expected {
                return Err(ProgressError::Conflict);
            }
            let bytes = [&(expected + 1).to_le_bytes(), &*body].concat();
            let whole = self.0.join("new");
            std::fs::write(&whole, bytes).unwrap();
            std::fs::rename(whole, self.0.join(key.replace('/', "_"))).unwrap();
            Ok(expected + 1)
        })
    }
}

fn source(kind: &str, prefix: &str, folder: &Path) -> Source {
    let queue = format!("{prefix}.events");
    match kind {
        "queue" => Source::Queue { queue, queue_type: QueueType::Classic },
        "quorum" => Source::Queue { queue, queue_type: QueueType::Quorum },
        _ => Source::Stream { queue, progress: Arc::new(Folder(folder.to_owned())) },
    }
}

fn settings(kind: &str, prefix: &str, folder: &Path) -> StreamSettings {
    let routing_key = "scores.{key}".parse().unwrap();
    StreamSettings::new("orders", source(kind, prefix, folder), &format!("{prefix}.scores"), routing_key)
}

struct Running {
    scoring: Arc<Scoring>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(url: &str, settings: StreamSettings) -> Running {
    start_with(url, settings, serve_sum::scoring().await.unwrap())
}

fn start_with(url: &str, settings: StreamSettings, scoring: Arc<Scoring>) -> Running {
    let (end, ended) = oneshot::channel::<()>();
    let (url, its) = (url.to_owned(), Arc::clone(&scoring));
    let run = async move { run_stream(&url, its, settings, async { drop(ended.await) }).await.unwrap() };
    Running { scoring, end, task: tokio::spawn(run) }
}

/// The exchange, and a queue that gets all of it.
async fn outputs(channel: &Channel, prefix: &str) -> lapin::Consumer {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    let name = |part: &str| -> ShortString { format!("{prefix}.{part}").into() };
    channel.exchange_declare(name("scores"), ExchangeKind::Topic, durable, none()).await.unwrap();
    channel.queue_declare(name("out"), QueueDeclareOptions::durable(), none()).await.unwrap();
    let bind = QueueBindOptions::default();
    channel.queue_bind(name("out"), name("scores"), "scores.#".into(), bind, none()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(name("out"), "".into(), options, none()).await.unwrap()
}

async fn next(consumer: &mut lapin::Consumer) -> lapin::message::Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("an effect comes").unwrap().unwrap()
}

/// Sends a request whose key is in its column `kind`, and whose sum is its number.
async fn send(channel: &Channel, prefix: &str, number: u64, id: bool, sent_s: u64) {
    let body = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP64","data":[{number}]}},{{"name":"y","shape":[1],"datatype":"FP64","data":[0]}},{{"name":"kind","shape":[1],"datatype":"BYTES","data":["k{}"]}}]}}"#,
        number % 7
    );
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_timestamp(sent_s);
    if id {
        properties = properties.with_message_id(number.to_string().into());
    }
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), format!("{prefix}.events").into(), options, body.as_bytes(), properties)
        .await
        .unwrap();
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Waits for the queue of dead letters, which is made when the source is there.
async fn declared(connection: &lapin::Connection, prefix: &str) {
    becomes("the queues are declared", async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let probe = connection.create_channel().await.unwrap();
        probe.queue_declare(format!("{prefix}.events.dead").into(), passive, FieldTable::default()).await.is_ok()
    })
    .await;
}

async fn declare_stream(channel: &Channel, prefix: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    channel.queue_declare(format!("{prefix}.events").into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

async fn pika(kind: &'static str) {
    let (broker, prefix, folder) = (Broker::shared(), Broker::prefix(), tempfile::tempdir().unwrap());
    let mut settings = settings(kind, &prefix, folder.path());
    settings.key = KeyOf::Header("customer".to_owned());
    let running = start(&broker.url(), settings).await;
    let (connection, channel) = broker.channel().await;
    drop(channel);
    declared(&connection, &prefix).await;
    let url = broker.url();
    let script = move || {
        python::run(python::CLIENTS.script("pika_stream.py").arg(url).arg(prefix).arg(kind));
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    let count = |outcome| running.scoring.metrics().stream_messages.with(&["orders", outcome]).value();
    becomes("all are counted", async || count("published") == 400 && count("dead_lettered") == 1).await;
    drop(running.end);
    running.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pika_sees_a_queue_scored_in_order_and_poison_put_aside() {
    pika("queue").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pika_sees_a_stream_scored_in_order_and_poison_put_aside() {
    pika("stream").await;
}

/// Two processes, of which the one at work is killed in the middle.
async fn kill(kind: &str) {
    const HALF: u64 = 700;
    let (broker, prefix, folder) = (Broker::shared(), Broker::prefix(), tempfile::tempdir().unwrap());
    let (url, path) = (broker.url(), folder.path().to_str().unwrap().to_owned());
    let (connection, channel) = broker.channel().await;
    let mut effects = outputs(&channel, &prefix).await;
    if kind == "stream" {
        declare_stream(&channel, &prefix).await;
    }
    let variables = [
        ("GRISTMILL_TEST_URL", url.as_str()),
        ("GRISTMILL_TEST_PREFIX", &prefix),
        ("GRISTMILL_TEST_KIND", kind),
        ("GRISTMILL_TEST_FOLDER", &path),
    ];
    let first = Process::start("stream::process", &variables);
    if kind != "stream" {
        // What is published without confirmation to a quorum queue in the making is lost.
        declared(&connection, &prefix).await;
    }
    let with_id = kind != "stream";
    for number in 0..HALF {
        send(&channel, &prefix, number, with_id, now_s()).await;
    }
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut repeats = 0;
    let mut see = |effect: lapin::message::Delivery| {
        let id = effect.properties.message_id().clone().unwrap().to_string();
        let answer: serde_json::Value = serde_json::from_slice(&effect.data).unwrap();
        let number = answer["outputs"][0]["data"][0].as_f64().unwrap() as u64;
        if let Some(before) = seen.insert(id, number) {
            assert_eq!(before, number, "one id is one effect");
            repeats += 1;
            return seen.len() as u64;
        }
        let key = number % 7;
        if let Some(before) = last.insert(key, number) {
            assert_eq!(number, before + 7, "a key's messages changed places, or one is missing");
        } else {
            assert_eq!(number, key, "a key's first message is missing");
        }
        seen.len() as u64
    };
    while see(next(&mut effects).await) < 100 {}
    let second = Process::start("stream::process", &variables);
    while see(next(&mut effects).await) < 200 {}
    first.kill();
    let killed = Instant::now();
    for number in HALF..2 * HALF {
        send(&channel, &prefix, number, with_id, now_s()).await;
    }
    while see(next(&mut effects).await) < 2 * HALF {}
    drop(second);
    assert_eq!(seen.values().copied().collect::<BTreeSet<u64>>(), (0..2 * HALF).collect());
    println!("{kind}: {repeats} repeats were dropped; done {:?} after the kill", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_of_a_stream_happens_once_and_in_order_when_a_process_is_killed() {
    kill("stream").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_of_a_queue_happens_once_and_in_order_when_a_process_is_killed() {
    kill("queue").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_of_a_quorum_queue_happens_once_and_in_order_when_a_process_is_killed() {
    kill("quorum").await;
}

/// Scores until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start"]
async fn process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let folder = PathBuf::from(variable("GRISTMILL_TEST_FOLDER"));
    let mut settings = settings(&variable("GRISTMILL_TEST_KIND"), &variable("GRISTMILL_TEST_PREFIX"), &folder);
    settings.key = KeyOf::Column("kind".to_owned());
    let scoring = serve_sum::scoring().await.unwrap();
    run_stream(&variable("GRISTMILL_TEST_URL"), scoring, settings, std::future::pending()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_its_lag_and_goes_on_where_it_was() {
    let (broker, prefix, folder) = (Broker::shared(), Broker::prefix(), tempfile::tempdir().unwrap());
    let (_connection, channel) = broker.channel().await;
    let mut effects = outputs(&channel, &prefix).await;
    declare_stream(&channel, &prefix).await;
    for number in 0..300 {
        send(&channel, &prefix, number, false, now_s() - 100).await;
    }
    let mut waiting = settings("stream", &prefix, folder.path());
    waiting.model = Some("nothing".to_owned());
    waiting.drain_max = Duration::ZERO;
    waiting.at_once_max = 10;
    let running = start(&broker.url(), waiting.clone()).await;
    let lag = |running: &Running| {
        let metrics = running.scoring.metrics();
        (metrics.stream_lag_messages.with(&["orders"]).value(), metrics.stream_lag_seconds.with(&["orders"]).value())
    };
    becomes("what waits for a model is behind", async || lag(&running).0 == 300.0 && lag(&running).1 >= 100.0).await;
    drop(running.end);
    running.task.await.unwrap();

    // The next begins at once, with what the first took and didn't do.
    let mut working = settings("stream", &prefix, folder.path());
    working.at_once_max = 10;
    let running = start(&broker.url(), working.clone()).await;
    let mut ids = BTreeSet::new();
    for _ in 0..300 {
        ids.insert(next(&mut effects).await.properties.message_id().clone().unwrap().to_string());
    }
    becomes("nothing is behind", async || lag(&running) == (0.0, 0.0)).await;
    drop(running.end);
    running.task.await.unwrap();

    // What is done isn't done again.
    let running = start(&broker.url(), working).await;
    for number in 300..350 {
        send(&channel, &prefix, number, false, now_s()).await;
    }
    for _ in 0..50 {
        ids.insert(next(&mut effects).await.properties.message_id().clone().unwrap().to_string());
    }
    assert_eq!(ids.len(), 350);
    drop(running.end);
    running.task.await.unwrap();

    // A stream that was made anew begins with its first message, and its effects are new.
    let events: ShortString = format!("{prefix}.events").into();
    channel.queue_delete(events, QueueDeleteOptions::default()).await.unwrap();
    declare_stream(&channel, &prefix).await;
    for number in 0..20 {
        send(&channel, &prefix, number, false, now_s()).await;
    }
    for more in [20, 21] {
        let running = start(&broker.url(), settings("stream", &prefix, folder.path())).await;
        let first = if more == 20 { 0 } else { more - 1 };
        let mut ids = BTreeSet::new();
        for _ in first..more {
            ids.insert(next(&mut effects).await.properties.message_id().clone().unwrap().to_string());
        }
        assert_eq!(ids, (first..more).map(|number| format!("orders/{prefix}.events/1:{number}")).collect());
        drop(running.end);
        running.task.await.unwrap();
        send(&channel, &prefix, more, false, now_s()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_another_takes_while_it_drains_ends() {
    let (broker, prefix, folder) = (Broker::shared(), Broker::prefix(), tempfile::tempdir().unwrap());
    let (_connection, channel) = broker.channel().await;
    declare_stream(&channel, &prefix).await;
    send(&channel, &prefix, 1, false, now_s()).await;
    let mut waiting = settings("stream", &prefix, folder.path());
    waiting.model = Some("nothing".to_owned());
    waiting.drain_max = PATIENCE;
    let running = start(&broker.url(), waiting).await;
    let lag = running.scoring.metrics().stream_lag_seconds.with(&["orders"]);
    becomes("a message is at hand", async || lag.value() > 0.0).await;
    drop(running.end);
    let documents = Folder(folder.path().to_owned());
    let key = format!("streams/orders/{prefix}.events");
    // It writes the same document.
    becomes("another has it", async || {
        let (_, version) = documents.get(&key).await.unwrap().unwrap();
        documents.put(&key, version, br#"{"holder":"another","next":null}"#.to_vec()).await.is_ok()
    })
    .await;
    tokio::time::timeout(PATIENCE / 2, running.task).await.expect("it ends before its time to drain").unwrap();
}

/// Says more than it is asked.
struct Wordy(Signature);

impl Predictor for Wordy {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let words: Texts = (0..rows.len()).map(|_| "considerable").collect();
        Ok(Predictions::new(vec![("word".into(), Column::from(words))], rows.len()))
    }
}

impl gristmill_online::Source for Wordy {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        Ok(vec![Known { name: "wordy".to_owned(), versions: vec![1], aliases: [].into(), stamps: [].into() }])
    }

    fn load(&self, _name: &str, _version: u64) -> Result<Loaded, SourceError> {
        Ok(Loaded { predictor: Arc::new(Wordy(self.0.clone())), bytes: 1 })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_done_holds_nothing_up() {
    let (broker, prefix, folder) = (Broker::start(), Broker::prefix(), tempfile::tempdir().unwrap());
    broker.control(&["rabbitmqctl"], &["eval", "application:set_env(rabbit, max_message_size, 300000)."]);
    let (connection, channel) = broker.channel().await;
    let mut effects = outputs(&channel, &prefix).await;
    let mut settings = settings("queue", &prefix, folder.path());
    settings.key = KeyOf::Column("kind".to_owned());
    settings.routing_key = "scores".parse().unwrap();
    let inputs = vec![Field::new("x", Kind::Number), Field::new("kind", Kind::Text).nullable()];
    let source = Wordy(Signature::new(inputs, vec![Field::new("word", Kind::Text)]));
    let models = Models::new(Arc::new(source), 1_000_000);
    models.refresh().await.unwrap();
    // All rows wait for their turn.
    let engine = EngineSettings { waiting_rows_max: 40_000, inline_max: Duration::ZERO, ..EngineSettings::default() };
    let engine = Engine::start(engine).unwrap();
    let scoring = Arc::new(Scoring::new(models, engine, Arc::new(Metrics::new(None)), None));
    let running = start_with(&broker.url(), settings, scoring);
    declared(&connection, &prefix).await;
    let ask = async |id: &str, rows: usize, key: &str| {
        let (ones, kinds) = (vec!["1"; rows].join(","), vec![format!("{key:?}"); rows].join(","));
        let body = format!(
            r#"{{"inputs":[{{"name":"x","shape":[{rows}],"datatype":"FP64","data":[{ones}]}},{{"name":"kind","shape":[{rows}],"datatype":"BYTES","data":[{kinds}]}}]}}"#
        );
        let properties = BasicProperties::default().with_message_id(id.into());
        let options = BasicPublishOptions::default();
        let queue = format!("{prefix}.events").into();
        channel.basic_publish("".into(), queue, options, body.as_bytes(), properties).await.unwrap();
    };
    // A key that fits no frame, answers that are too large for the broker, and rows that the engine has no room for.
    let key = "k".repeat(40_000);
    ask("key", 1, &key).await;
    ask("large", 30_000, "").await;
    ask("rows", 45_000, "").await;
    ask("last", 1, "").await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let dead = format!("{prefix}.events.dead");
    let mut dead = channel.basic_consume(dead.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let mut reasons = BTreeMap::new();
    for _ in 0..2 {
        let letter = next(&mut dead).await;
        let headers = letter.properties.headers().clone().unwrap();
        let reason = headers.inner().get("gristmill-reason").and_then(AMQPValue::as_long_string).unwrap().to_string();
        reasons.insert(letter.properties.message_id().as_ref().unwrap().to_string(), reason);
    }
    assert!(reasons["large"].starts_with("the broker doesn't take its predictions"), "{reasons:?}");
    assert_eq!(reasons["rows"], "it has 45000 rows, and the limit of the engine is 40000");
    let mut keys = BTreeMap::new();
    for _ in 0..2 {
        let effect = next(&mut effects).await;
        let headers = effect.properties.headers().clone().unwrap();
        let key = headers.inner().get("gristmill-key").and_then(AMQPValue::as_long_string).unwrap().to_string();
        keys.insert(effect.properties.message_id().as_ref().unwrap().to_string(), key);
    }
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.values().any(|key| key.len() == 71 && key.starts_with("sha256:")), "{keys:?}");
    drop(running.end);
    running.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_is_put_aside_and_errors_can_be_published() {
    let (broker, prefix, folder) = (Broker::shared(), Broker::prefix(), tempfile::tempdir().unwrap());
    let (connection, channel) = broker.channel().await;
    let mut effects = outputs(&channel, &prefix).await;
    let mut first = settings("quorum", &prefix, folder.path());
    // Nothing is bound to it.
    first.routing_key = "nowhere.{key}".parse().unwrap();
    first.attempts_max = 2;
    let running = start(&broker.url(), first).await;
    declared(&connection, &prefix).await;
    let probe = connection.create_channel().await.unwrap();
    let same = QueueType::Quorum.arguments();
    let dead = format!("{prefix}.events.dead");
    probe.queue_declare(dead.into(), QueueDeclareOptions::durable(), same).await.expect("it is as its source");
    send(&channel, &prefix, 1, true, now_s()).await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming =
        channel.basic_consume(format!("{prefix}.events.dead").into(), "".into(), options, FieldTable::default());
    let mut dead = consuming.await.unwrap();
    let letter = next(&mut dead).await;
    let headers = letter.properties.headers().clone().unwrap();
    let reason = headers.inner().get("gristmill-reason").and_then(AMQPValue::as_long_string).unwrap().to_string();
    assert_eq!(reason, format!("no queue takes `nowhere.` of exchange `{prefix}.scores`"));
    assert_eq!(letter.properties.message_id().as_ref().unwrap().as_str(), "1");
    drop(running.end);
    running.task.await.unwrap();

    let mut second = settings("quorum", &prefix, folder.path());
    second.poison = Poison::Publish;
    let running = start(&broker.url(), second).await;
    let properties = BasicProperties::default().with_message_id("2".into());
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), format!("{prefix}.events").into(), options, b"{", properties).await.unwrap();
    let effect = next(&mut effects).await;
    let headers = effect.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("gristmill-status"), Some(&AMQPValue::LongInt(400)));
    let id = format!("orders/{prefix}.events/id:2");
    assert_eq!(effect.properties.message_id().as_ref().unwrap().as_str(), id);
    assert!(String::from_utf8_lossy(&effect.data).contains("failed to read the body"), "{effect:?}");
    drop(running.end);
    running.task.await.unwrap();
}
