//! RabbitMQ keeps what the broker seam promises, also while it dies, loses queues and runs out of memory.
//!
//! Each test starts a broker of its own with `deploy/local/servers`, or shares one that nobody breaks.
#![cfg(feature = "rabbitmq")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_backends::broker::dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
use gristmill_backends::broker::rabbitmq::{QueueType, RabbitBroker, RabbitDeadLetters, RabbitOptions};
use gristmill_backends::broker::submissions::{Letter, SubmissionQueue, Submissions};
use gristmill_backends::broker::{Broker, BrokerError, Consumer, Delivery, Message};
use gristmill_backends::conformance::{self, BrokerFixture};
use tempfile::TempDir;

/// How long a signal may take that has to come, on a machine that builds something else as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private broker, stopped in the end.
struct Server {
    folder: TempDir,
}

impl Server {
    fn start() -> Arc<Server> {
        let server = Server { folder: tempfile::tempdir().expect("a folder") };
        server.control(&["start-one", "rabbitmq"], &[]);
        Arc::new(server)
    }

    /// The one that tests share: which don't break it.
    fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Server::start();
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Runs `deploy/local/servers` for this folder.
    fn control(&self, before: &[&str], after: &[&str]) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/servers");
        let output = Command::new(program)
            .args(before)
            .arg(self.folder.path())
            .args(after)
            .stdin(Stdio::null())
            .output()
            .expect("deploy/local/servers runs");
        assert!(output.status.success(), "{before:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn controlled(self: &Arc<Server>, before: &'static [&'static str], after: &'static [&'static str]) {
        let server = Arc::clone(self);
        tokio::task::spawn_blocking(move || server.control(before, after)).await.expect("it ends");
    }

    fn port(&self) -> u16 {
        let port = std::fs::read_to_string(self.folder.path().join("rabbitmq/port")).expect("it has a port");
        port.trim().parse().expect("a number")
    }

    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port())
    }

    /// A connection with queues that nobody else uses.
    async fn broker(&self, queue_type: QueueType) -> Arc<RabbitBroker> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("test{}", LAST.fetch_add(1, Ordering::Relaxed));
        let options = RabbitOptions { queue_type, prefix, ..RabbitOptions::default() };
        Arc::new(RabbitBroker::connect(&self.url(), options).await.expect("it is reached"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, as its data goes with the folder; then what a crash leaves behind.
        self.control(&["stop-one", "rabbitmq"], &["--kill"]);
        self.control(&["stop-one", "rabbitmq"], &[]);
    }
}

struct Fixture {
    server: Arc<Server>,
    queue_type: QueueType,
}

#[async_trait]
impl BrokerFixture for Fixture {
    async fn fresh(&self) -> Arc<dyn Broker> {
        self.server.broker(self.queue_type).await
    }
}

fn message(text: &str) -> Message {
    Message {
        content_type: "text/plain".to_owned(),
        id: text.to_owned(),
        traceparent: None,
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Waits until it gets through.
async fn publish(broker: &RabbitBroker, text: &str) {
    let published = tokio::time::timeout(PATIENCE, async {
        while broker.publish("p", message(text)).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    published.await.expect("it is published in the end");
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("it comes soon").expect("delivered")
}

/// Takes deliveries until one with this text comes; others are repetitions.
async fn until(consumer: &mut Box<dyn Consumer>, text: &str) {
    loop {
        let delivery = next(consumer).await;
        let found = delivery.message.id == text;
        delivery.ack();
        if found {
            return;
        }
    }
}

/// Waits until something is so.
async fn becomes(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it never holds that {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn classic_queues_keep_the_promises_of_a_broker() {
    let fixture = Fixture { server: Server::shared(), queue_type: QueueType::Classic };
    conformance::broker(Arc::new(fixture)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quorum_queues_keep_the_promises_of_a_broker() {
    let fixture = Fixture { server: Server::shared(), queue_type: QueueType::Quorum };
    conformance::broker(Arc::new(fixture)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_started_again_is_used_again() {
    let server = Server::start();
    let broker = server.broker(QueueType::Classic).await;
    let mut consumer = broker.consume("p", 2).await.expect("consumed");
    publish(&broker, "before").await;
    let held = next(&mut consumer).await;
    assert_eq!(broker.generation(), 0);

    server.controlled(&["stop-one", "rabbitmq"], &["--kill"]).await;
    becomes("nothing can be published", async || broker.publish("p", message("lost")).await.is_err()).await;
    assert!(broker.ready("p").await.is_err());
    // It was delivered by a broker that is no more: settling it means nothing and harms nothing.
    held.ack();

    let starting = Arc::clone(&server);
    let start = tokio::task::spawn_blocking(move || starting.control(&["start-one", "rabbitmq"], &[]));
    let address = ("127.0.0.1", server.port());
    becomes("it accepts connections", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
    let accepting = Instant::now();
    publish(&broker, "after").await;
    let took = accepting.elapsed();
    assert!(took < Duration::from_secs(3), "it took {took:?} to publish again");
    assert!(broker.generation() > 0);
    until(&mut consumer, "after").await;
    start.await.expect("it starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_comes_back() {
    let server = Server::shared();
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        let broker = server.broker(queue_type).await;
        let mut consumer = broker.consume("p", 2).await.expect("consumed");
        publish(&broker, "before").await;
        until(&mut consumer, "before").await;
        delete_queue(&server, &broker).await;
        publish(&broker, "after").await;
        until(&mut consumer, "after").await;

        // Also when nobody consumes it: the broker returns the message, and it is published again.
        drop(consumer);
        delete_queue(&server, &broker).await;
        becomes("the queue is gone", async || broker.ready("p").await.expect("counted") == 0).await;
        publish(&broker, "returned").await;
        becomes("it is in the queue", async || broker.ready("p").await.expect("counted") == 1).await;
        assert_eq!(broker.generation(), 0, "no connection was lost");
    }
}

async fn delete_queue(server: &Server, broker: &RabbitBroker) {
    let properties = lapin::ConnectionProperties::default();
    let connection = lapin::Connection::connect(&server.url(), properties).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let options = lapin::options::QueueDeleteOptions::default();
    channel.queue_delete(broker.queue_of("p").into(), options).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_type_is_refused_with_advice() {
    let server = Server::shared();
    let classic = server.broker(QueueType::Classic).await;
    publish(&classic, "a").await;
    let prefix = classic.queue_of("").trim_end_matches(".pool.").to_owned();
    let options = RabbitOptions { queue_type: QueueType::Quorum, prefix, ..RabbitOptions::default() };
    let quorum = RabbitBroker::connect(&server.url(), options).await.expect("connected");
    let published = quorum.publish("p", message("b")).await.expect_err("it is refused");
    assert!(matches!(published, BrokerError::Mismatch { .. }), "{published:?}");
    assert!(published.to_string().contains("rabbitmqctl delete_queue"), "{published}");
    let consumed = quorum.consume("p", 1).await.err().expect("it is refused");
    assert!(matches!(consumed, BrokerError::Mismatch { .. }), "{consumed:?}");
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let options = RabbitOptions { connect_within: Duration::from_millis(500), ..RabbitOptions::default() };
    let url = format!("amqp://guest:secret@127.0.0.1:{port}/%2f");
    // At first it accepts connections and says nothing; then nobody listens.
    for listener in [Some(listener), None] {
        let error = RabbitBroker::connect(&url, options.clone()).await.err().expect("it isn't reached");
        assert!(matches!(error, BrokerError::Unreachable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&port.to_string()) && !text.contains("secret"), "{text}");
        drop(listener);
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_at_once() {
    let server = Server::shared();
    let url = server.url().replace("guest:guest", "guest:wrong");
    let began = Instant::now();
    let error = RabbitBroker::connect(&url, RabbitOptions::default()).await.err().expect("it is refused");
    assert!(matches!(error, BrokerError::Unreachable { .. }), "{error:?}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    assert!(began.elapsed() < RabbitOptions::default().connect_within, "it was tried again");
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_refused() {
    let error = RabbitBroker::connect("rabbit", RabbitOptions::default()).await.err().expect("it is refused");
    assert!(matches!(error, BrokerError::Address { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_memory_is_said_to_be_unavailable_until_it_recovers() {
    let server = Server::start();
    let broker = server.broker(QueueType::Classic).await;
    for text in ["a", "b"] {
        publish(&broker, text).await;
    }
    becomes("both are there", async || broker.ready("p").await.expect("counted") == 2).await;

    server.controlled(&["rabbitmqctl"], &["set_vm_memory_high_watermark", "0"]).await;
    becomes("publishing is refused in time", async || {
        let began = Instant::now();
        let refused = match broker.publish("p", message("blocked")).await {
            Ok(()) => false,
            Err(error) => {
                assert!(matches!(error, BrokerError::Unavailable { .. }), "{error:?}");
                true
            }
        };
        assert!(began.elapsed() < Duration::from_secs(5), "a publication took {:?}", began.elapsed());
        refused
    })
    .await;
    // What is there already is consumed, acknowledged and counted meanwhile.
    let mut consumer = broker.consume("p", 1).await.expect("consumed");
    until(&mut consumer, "a").await;
    until(&mut consumer, "b").await;
    broker.ready("p").await.expect("counted");

    server.controlled(&["rabbitmqctl"], &["set_vm_memory_high_watermark", "0.4"]).await;
    publish(&broker, "after").await;
    until(&mut consumer, "after").await;
    assert_eq!(broker.generation(), 0, "no connection was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_follows_what_is_settled_after_a_change() {
    let server = Server::shared();
    let broker = server.broker(QueueType::Classic).await;
    let mut consumer = broker.consume("p", 4).await.expect("consumed");
    for number in 0..40 {
        publish(&broker, &number.to_string()).await;
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut consumer).await);
    }
    consumer.set_prefetch(3).await.expect("set");
    // Four are out, so one more than may be: only the second to be settled makes room.
    held.remove(0).ack();
    let nothing = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(nothing.is_err(), "more were delivered than may be unsettled");
    let mut seen = 4;
    while seen < 40 {
        held.remove(0).ack();
        held.push(next(&mut consumer).await);
        seen += 1;
    }
    assert_eq!(held.len(), 3, "as many are out as may be");
}

fn letter(id: &str) -> Letter {
    Letter {
        content_type: Some("application/yaml".to_owned()),
        id: Some(id.to_owned()),
        timestamp_s: Some(1_700_000_000),
        headers: [("traceparent".to_owned(), "00-a-b-01".to_owned())].into(),
        reply_to: None,
        correlation_id: None,
        body: Bytes::from_static(b"steps: []"),
    }
}

async fn receive(submissions: &mut Box<dyn Submissions>) -> gristmill_backends::broker::submissions::Submission {
    tokio::time::timeout(PATIENCE, submissions.next()).await.expect("it comes soon").expect("received")
}

/// What is in a queue, by any client's means.
async fn get(server: &Server, queue: &str) -> lapin::message::BasicGetMessage {
    let connection = lapin::Connection::connect(&server.url(), Default::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let options = lapin::options::BasicGetOptions { no_ack: true };
            if let Some(found) = channel.basic_get(queue.into(), options).await.expect("asked") {
                return found;
            }
        }
    });
    waited.await.expect("it comes soon")
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_stay_until_they_are_acknowledged() {
    let server = Server::shared();
    let broker = server.broker(QueueType::Classic).await;
    broker.submit(letter("one")).await.expect("submitted");
    let mut submissions = broker.submissions(10).await.expect("received");
    let first = receive(&mut submissions).await;
    assert_eq!((&first.letter, first.redelivered), (&letter("one"), false));
    assert_eq!(first.letter.traceparent(), Some("00-a-b-01"));
    drop(first);
    let again = receive(&mut submissions).await;
    assert_eq!((&again.letter, again.redelivered), (&letter("one"), true));
    again.ack();
    drop(submissions);
    broker.submit(letter("two")).await.expect("submitted");
    let mut submissions = broker.submissions(10).await.expect("received");
    assert_eq!(receive(&mut submissions).await.letter, letter("two"), "the first is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_nobody_understands_is_kept_with_the_reason() {
    let server = Server::shared();
    let broker = server.broker(QueueType::Quorum).await;
    let mut submissions = broker.submissions(1).await.expect("received");
    broker.submit(letter("odd")).await.expect("submitted");
    let odd = receive(&mut submissions).await;
    broker.dead_letter(odd, "line 1: there are no steps").await.expect("put aside");
    broker.submit(letter("next")).await.expect("submitted");
    assert_eq!(receive(&mut submissions).await.letter, letter("next"));

    let kept = get(&server, &broker.dead_letter_queue()).await.delivery;
    assert_eq!(kept.data, letter("odd").body);
    let headers = kept.properties.headers().clone().expect("it has headers");
    let reason = headers.inner().get("gristmill-reason").and_then(|reason| reason.as_long_string());
    assert_eq!(reason.map(|reason| reason.as_bytes()), Some("line 1: there are no steps".as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_submits_is_answered_if_they_can_be() {
    let server = Server::shared();
    let broker = server.broker(QueueType::Classic).await;
    let connection = lapin::Connection::connect(&server.url(), Default::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let options = lapin::options::QueueDeclareOptions { exclusive: false, ..Default::default() };
    let answers = format!("{}.answers", broker.submission_queue());
    channel.queue_declare(answers.as_str().into(), options, Default::default()).await.expect("declared");

    let asked = Letter { reply_to: Some(answers.clone()), correlation_id: Some("c-1".to_owned()), ..letter("asked") };
    let gone = Letter { reply_to: Some("nobody-is-here".to_owned()), ..asked.clone() };
    for to in [&gone, &letter("silent"), &asked] {
        broker.reply(to, "text/plain", Bytes::from_static(b"run-1")).await.expect("answered, or nobody is there");
    }
    let answer = get(&server, &answers).await.delivery;
    assert_eq!(answer.data, b"run-1");
    assert_eq!(answer.properties.correlation_id().as_ref().map(|id| id.as_str()), Some("c-1"));
}

/// Letters that were put aside, by a broker with queues of its own.
async fn put_aside(server: &Server, queue_type: QueueType, ids: &[&str]) -> (Arc<RabbitBroker>, RabbitDeadLetters) {
    let broker = server.broker(queue_type).await;
    let mut submissions = broker.submissions(10).await.expect("received");
    for id in ids {
        broker.submit(letter(id)).await.expect("submitted");
        let received = receive(&mut submissions).await;
        broker.dead_letter(received, &format!("`{id}` can't be understood")).await.expect("put aside");
    }
    let prefix = broker.submission_queue().trim_end_matches(".submissions").to_owned();
    let options = RabbitOptions { queue_type, prefix, ..RabbitOptions::default() };
    let sources = ["events".to_owned(), "events".to_owned()];
    let dead = RabbitDeadLetters::new(&server.url(), &options, &sources).expect("an address");
    assert_eq!(dead.queues(), [broker.dead_letter_queue(), "events.dead".to_owned()]);
    (broker, dead)
}

/// The ids that senders gave to the letters of a queue.
fn names(letters: &[DeadLetter]) -> Vec<&str> {
    letters.iter().filter_map(|letter| letter.letter.id.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_stay_in_place_when_they_are_looked_at() {
    let server = Server::shared();
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        let (broker, dead) = put_aside(&server, queue_type, &["a", "b", "c"]).await;
        let queue = broker.dead_letter_queue();
        let first = dead.look(&queue, 10).await.expect("looked");
        assert_eq!(names(&first), ["a", "b", "c"]);
        assert_eq!(first[1].reason.as_deref(), Some("`b` can't be understood"));
        assert_eq!((&first[1].source, &first[1].letter.body), (&broker.submission_queue(), &letter("b").body));
        for _ in 0..3 {
            assert_eq!(names(&dead.look(&queue, 2).await.expect("looked")), ["a", "b"], "{queue_type:?}");
        }
        let again = dead.look(&queue, 10).await.expect("looked");
        let ids = |letters: &[DeadLetter]| letters.iter().map(|letter| letter.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&again), ids(&first), "ids are the same at each look");
        assert_eq!(dead.look("no.such.queue.dead", 10).await.expect("looked"), []);
        assert!(matches!(dead.look(&broker.submission_queue(), 10).await, Err(DeadLetterError::Queue(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_sent_again_as_it_came_or_thrown_away() {
    let server = Server::shared();
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        let (broker, dead) = put_aside(&server, queue_type, &["a", "b", "c"]).await;
        let queue = broker.dead_letter_queue();
        let letters = dead.look(&queue, 10).await.expect("looked");
        dead.requeue(&letters[1].id).await.expect("sent again");
        let mut submissions = broker.submissions(10).await.expect("received");
        let received = receive(&mut submissions).await;
        assert_eq!(received.letter, letter("b"));
        received.ack();
        assert_eq!(names(&dead.look(&queue, 10).await.expect("looked")), ["a", "c"]);
        dead.discard(&letters[0].id).await.expect("thrown away");
        assert_eq!(names(&dead.look(&queue, 10).await.expect("looked")), ["c"]);
        for gone in [&letters[0].id, &letters[1].id, &"0".repeat(40)] {
            assert!(matches!(dead.requeue(gone).await, Err(DeadLetterError::None(_))));
            assert!(matches!(dead.discard(gone).await, Err(DeadLetterError::None(_))));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_whose_source_is_gone_stays() {
    let server = Server::shared();
    let connection = lapin::Connection::connect(&server.url(), Default::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let (source, queue) = ("gone", "gone.dead");
    let declare = lapin::options::QueueDeclareOptions::durable();
    channel.queue_declare(queue.into(), declare, QueueType::Classic.arguments()).await.expect("declared");
    let properties = lapin::BasicProperties::default().with_message_id("a".into());
    let options = lapin::options::BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, b"x", properties).await.expect("published");
    let dead = RabbitDeadLetters::new(&server.url(), &RabbitOptions::default(), &[]).expect("an address");
    let mut letters = Vec::new();
    becomes("it arrives", async || {
        letters = dead.look(queue, 10).await.expect("looked");
        !letters.is_empty()
    })
    .await;
    let refused = dead.requeue(&letters[0].id).await;
    assert!(matches!(&refused, Err(DeadLetterError::Gone(gone)) if gone == source), "{refused:?}");
    assert_eq!(dead.look(queue, 10).await.expect("looked"), letters);
    // A queue that isn't one of ours, with arguments that we know nothing of.
    let mut arguments = QueueType::Classic.arguments();
    arguments.insert("x-single-active-consumer".into(), lapin::types::AMQPValue::Boolean(true));
    channel.queue_declare(source.into(), declare, arguments).await.expect("declared");
    dead.requeue(&letters[0].id).await.expect("sent again");
    assert_eq!(get(&server, source).await.delivery.data, b"x");
    assert_eq!(dead.look(queue, 10).await.expect("looked"), []);
}
