//! Requests by queue: pika as it is, a broker that is killed, a server that is killed.

use std::sync::Arc;

use futures_util::StreamExt;
use gristmill_online::{QueueSettings, Scoring, serve_queue};
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::broker::{Broker, PATIENCE, Process, becomes};
use super::{python, serve_sum};

struct Server {
    scoring: Arc<Scoring>,
    end: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

async fn start(url: &str) -> Server {
    let scoring = serve_sum::scoring().await.unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let (url, its) = (url.to_owned(), Arc::clone(&scoring));
    let serve = async move { serve_queue(&url, its, QueueSettings::default(), async { drop(ended.await) }).await };
    let task = tokio::spawn(async { serve.await.unwrap() });
    Server { scoring, end, task }
}

fn count(scoring: &Scoring, outcome: &str) -> u64 {
    scoring.metrics().queue_requests.with(&["gristmill.score", outcome]).value()
}

/// Publishes a request with a number, and the reply queue's name.
async fn ask(channel: &lapin::Channel, x: u64, replies: &str) {
    let body = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP64","data":[{x}]}},{{"name":"y","shape":[1],"datatype":"FP64","data":[1]}}]}}"#
    );
    let properties = BasicProperties::default()
        .with_reply_to(replies.into())
        .with_correlation_id(x.to_string().into())
        .with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), "gristmill.score".into(), options, body.as_bytes(), properties).await.unwrap();
}

async fn replies(channel: &lapin::Channel, durable: bool) -> lapin::Consumer {
    let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    channel.queue_declare("replies".into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume("replies".into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut lapin::Consumer) -> lapin::message::Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("an answer comes").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pika_gets_its_answers_and_what_nobody_waits_for_is_dropped() {
    let broker = Broker::start();
    let server = start(&broker.url()).await;
    let url = broker.url();
    let script = move || python::run(python::CLIENTS.script("pika_queue.py").arg(url));
    tokio::task::spawn_blocking(script).await.unwrap();
    becomes("late and unanswerable requests are counted", async || {
        count(&server.scoring, "expired") == 2 && count(&server.scoring, "unanswerable") == 2
    })
    .await;
    assert_eq!(count(&server.scoring, "refused"), 6);
    assert!(count(&server.scoring, "answered") >= 505);
    drop(server.end);
    assert_eq!(server.task.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_is_served_again_and_so_are_its_requests() {
    let broker = Arc::new(Broker::start());
    let server = start(&broker.url()).await;
    {
        let (_connection, channel) = broker.channel().await;
        let mut answers = replies(&channel, true).await;
        ask(&channel, 1, "replies").await;
        next(&mut answers).await;
    }
    let restarted = Arc::clone(&broker);
    let restart = move || {
        restarted.control(&["stop-one", "rabbitmq"], &["--kill"]);
        restarted.control(&["start-one", "rabbitmq"], &[]);
    };
    tokio::task::spawn_blocking(restart).await.unwrap();
    let (_connection, channel) = broker.channel().await;
    let mut answers = replies(&channel, true).await;
    for x in 0..50 {
        ask(&channel, x, "replies").await;
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
    let broker = Broker::start();
    let url = broker.url();
    let variables = [("GRISTMILL_TEST_URL", url.as_str())];
    let first = Process::start("queue::process", &variables);
    let (_connection, channel) = broker.channel().await;
    let mut answers = replies(&channel, false).await;
    // The first answers say that the process is at work.
    ask(&channel, 0, "replies").await;
    next(&mut answers).await;
    let mut open: std::collections::BTreeSet<String> = (1..=2_000).map(|x: u64| x.to_string()).collect();
    for x in 1..=2_000 {
        ask(&channel, x, "replies").await;
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

/// Serves until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start"]
async fn process() {
    let url = std::env::var("GRISTMILL_TEST_URL").unwrap();
    let scoring = serve_sum::scoring().await.unwrap();
    serve_queue(&url, scoring, QueueSettings::default(), std::future::pending()).await.unwrap();
}
