//! Requests by queue: pika as it is, a broker that is killed, a server that is killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{
    Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, QueueSettings, Rows, Scoring, Signature,
    Source, SourceError, serve_queue,
};
use gristmill_telemetry::metrics::Metrics;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::broker::{Broker, PATIENCE, Process, becomes};
use super::{python, serve_sum};

struct Server {
    scoring: Arc<Scoring>,
    queue: String,
    end: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

fn settings(queue: &str) -> QueueSettings {
    QueueSettings { queue: queue.to_owned(), ..QueueSettings::default() }
}

async fn start(url: &str, queue: &str) -> Server {
    start_with(url, queue, serve_sum::scoring().await.unwrap())
}

fn start_with(url: &str, queue: &str, scoring: Arc<Scoring>) -> Server {
    let (end, ended) = oneshot::channel::<()>();
    let (url, its, settings) = (url.to_owned(), Arc::clone(&scoring), settings(queue));
    let serve = async move { serve_queue(&url, its, settings, async { drop(ended.await) }).await };
    let task = tokio::spawn(async { serve.await.unwrap() });
    Server { scoring, queue: queue.to_owned(), end, task }
}

impl Server {
    fn count(&self, outcome: &str) -> u64 {
        self.scoring.metrics().queue_requests.with(&[&self.queue, outcome]).value()
    }
}

/// Publishes a request with a number.
async fn ask(channel: &lapin::Channel, queue: &str, x: u64) {
    ask_for(channel, queue, queue, x).await;
}

/// Publishes a request whose answer goes to the replies of another queue.
async fn ask_for(channel: &lapin::Channel, queue: &str, client: &str, x: u64) {
    let body = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP64","data":[{x}]}},{{"name":"y","shape":[1],"datatype":"FP64","data":[1]}}]}}"#
    );
    let properties = BasicProperties::default()
        .with_reply_to(format!("{client}.replies").into())
        .with_correlation_id(x.to_string().into())
        .with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await.unwrap();
}

async fn replies(channel: &lapin::Channel, queue: &str, durable: bool) -> lapin::Consumer {
    let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    let replies = format!("{queue}.replies");
    channel.queue_declare(replies.as_str().into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(replies.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut lapin::Consumer) -> lapin::message::Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("an answer comes").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pika_gets_its_answers_and_what_nobody_waits_for_is_dropped() {
    let (broker, queue) = (Broker::shared(), Broker::prefix());
    let server = start(&broker.url(), &queue).await;
    let url = broker.url();
    let script = move || {
        python::run(python::CLIENTS.script("pika_queue.py").arg(url).arg(queue));
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    becomes("late and unanswerable requests are counted", async || {
        server.count("expired") == 2 && server.count("unanswerable") == 2
    })
    .await;
    assert_eq!(server.count("refused"), 6);
    assert!(server.count("answered") >= 305);
    drop(server.end);
    assert_eq!(server.task.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_is_served_again_and_so_are_its_requests() {
    let (broker, queue) = (Arc::new(Broker::start()), Broker::prefix());
    let server = start(&broker.url(), &queue).await;
    {
        let (_connection, channel) = broker.channel().await;
        let mut answers = replies(&channel, &queue, true).await;
        ask(&channel, &queue, 1).await;
        next(&mut answers).await;
    }
    let restarted = Arc::clone(&broker);
    let restart = move || {
        restarted.control(&["stop-one", "rabbitmq"], &["--kill"]);
        restarted.control(&["start-one", "rabbitmq"], &[]);
    };
    tokio::task::spawn_blocking(restart).await.unwrap();
    let (_connection, channel) = broker.channel().await;
    let mut answers = replies(&channel, &queue, true).await;
    for x in 0..50 {
        ask(&channel, &queue, x).await;
    }
    let mut open: std::collections::BTreeSet<String> = (0..50).map(|x: u64| x.to_string()).collect();
    while !open.is_empty() {
        let answer = next(&mut answers).await;
        open.remove(answer.properties.correlation_id().as_ref().unwrap().as_str());
    }
    drop(server.end);
    assert_eq!(server.task.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_server_that_is_killed_are_answered_by_another() {
    let (broker, queue) = (Broker::shared(), Broker::prefix());
    let url = broker.url();
    let variables = [("GRISTMILL_TEST_URL", url.as_str()), ("GRISTMILL_TEST_QUEUE", &queue)];
    let first = Process::start("queue::process", &variables);
    let (_connection, channel) = broker.channel().await;
    let mut answers = replies(&channel, &queue, false).await;
    // An answer says that the process is at work. What was sent before it declared its queue went nowhere.
    loop {
        ask(&channel, &queue, 0).await;
        if tokio::time::timeout(Duration::from_secs(1), next(&mut answers)).await.is_ok() {
            break;
        }
    }
    let mut open: std::collections::BTreeSet<String> = (1..=1_000).map(|x: u64| x.to_string()).collect();
    for x in 1..=1_000 {
        ask(&channel, &queue, x).await;
    }
    for _ in 0..100 {
        let answer = next(&mut answers).await;
        open.remove(answer.properties.correlation_id().as_ref().unwrap().as_str());
    }
    first.kill();
    let _second = Process::start("queue::process", &variables);
    while !open.is_empty() {
        let answer = next(&mut answers).await;
        open.remove(answer.properties.correlation_id().as_ref().unwrap().as_str());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_no_answers_stands_in_nobodys_way() {
    let (broker, queue) = (Broker::shared(), Broker::prefix());
    let server = start(&broker.url(), &queue).await;
    let (_connection, channel) = broker.channel().await;
    let full = format!("{queue}.full");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    channel.queue_declare(format!("{full}.replies").into(), QueueDeclareOptions::default(), arguments).await.unwrap();
    let mut answers = replies(&channel, &queue, false).await;
    // More than are at hand at a time, and what is served by the same queue after them.
    for x in 0..80 {
        ask_for(&channel, &queue, &full, x).await;
    }
    ask(&channel, &queue, 1).await;
    next(&mut answers).await;
    becomes("all but those that had room are given up", async || {
        server.count("answered") + server.count("unanswerable") == 81
    })
    .await;
    assert!(server.count("unanswerable") >= 70);
    assert_eq!(server.count("returned"), 0);
    drop(server.end);
    assert_eq!(server.task.await.unwrap(), 0);
}

/// Takes 2 ms for each row, and gives nothing.
struct Slow(Signature);

impl Predictor for Slow {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        Ok(Predictions::new(Vec::new(), rows.len()))
    }
}

impl Source for Slow {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        Ok(vec![Known { name: "slow".to_owned(), versions: vec![1], aliases: [].into(), stamps: [].into() }])
    }

    fn load(&self, _name: &str, _version: u64) -> Result<Loaded, SourceError> {
        Ok(Loaded { predictor: Arc::new(Slow(self.0.clone())), bytes: 1 })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http_would_shed_waits_in_the_queue() {
    let (broker, queue) = (Broker::shared(), Broker::prefix());
    let signature = Signature::new(vec![Field::new("x", Kind::Number)], Vec::new());
    let models = Models::new(Arc::new(Slow(signature)), 1_000);
    models.refresh().await.unwrap();
    // A tenth of what is at hand at a time is more than it takes to wait.
    let settings = EngineSettings {
        threads: 1,
        batch_rows_max: 1,
        wait_max: Duration::from_millis(4),
        ..EngineSettings::default()
    };
    let metrics = Arc::new(Metrics::new(None));
    let scoring = Arc::new(Scoring::new(models, Engine::start(settings).unwrap(), metrics, None));
    let server = start_with(&broker.url(), &queue, Arc::clone(&scoring));
    let (_connection, channel) = broker.channel().await;
    let mut answers = replies(&channel, &queue, false).await;
    becomes("it serves", async || {
        ask(&channel, &queue, 0).await;
        tokio::time::timeout(Duration::from_secs(1), answers.next()).await.is_ok()
    })
    .await;
    for x in 1..=300 {
        ask(&channel, &queue, x).await;
    }
    let mut open: std::collections::BTreeSet<String> = (1..=300).map(|x: u64| x.to_string()).collect();
    while !open.is_empty() {
        let answer = next(&mut answers).await;
        assert!(!String::from_utf8_lossy(&answer.data).contains("error"), "{answer:?}");
        open.remove(answer.properties.correlation_id().as_ref().unwrap().as_str());
    }
    assert_eq!(server.count("refused"), 0);
    let refused = scoring.models().lanes()[0].counts().failed;
    assert!(refused > 0, "the engine had room for all at once, so nothing was shown");
    drop(server.end);
    assert_eq!(server.task.await.unwrap(), 0);
}

/// Serves until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start"]
async fn process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (url, settings) = (variable("GRISTMILL_TEST_URL"), settings(&variable("GRISTMILL_TEST_QUEUE")));
    let scoring = serve_sum::scoring().await.unwrap();
    serve_queue(&url, scoring, settings, std::future::pending()).await.unwrap();
}
