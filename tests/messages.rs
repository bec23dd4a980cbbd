//! Scoring by messages, end to end on private servers: requests of a queue are answered, and a stream is scored.

mod support;

use std::collections::BTreeSet;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Value, json};
use support::Place;
use support::server::{Server, scored, write_pipeline};
use support::servers::{PATIENCE, Servers};

async fn consumer(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.expect("a consumer")
}

/// Waits until a server has declared its queue.
async fn until_declared(connection: &Connection, queue: &str) {
    let declared = async {
        loop {
            // A channel ends with the first answer that there is no such queue.
            let channel = connection.create_channel().await.expect("a channel");
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            if channel.queue_declare(queue.into(), options, FieldTable::default()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, declared).await.expect("the server declares its queue");
}

async fn next(consumer: &mut Consumer) -> (BasicProperties, Value) {
    let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a message in time");
    let delivery = delivery.expect("the consumer lives").expect("a delivery");
    let body = serde_json::from_slice(&delivery.data).expect("JSON");
    (delivery.properties, body)
}

/// A row as Open Inference has it.
fn request(record: &Value) -> Value {
    let input = |(name, value): (&String, &Value)| {
        let datatype = if value.is_string() { "BYTES" } else { "FP64" };
        json!({ "name": name, "shape": [1], "datatype": datatype, "data": [value] })
    };
    json!({ "inputs": record.as_object().expect("a record").iter().map(input).collect::<Vec<_>>() })
}

/// The probability that an answer has.
fn probability(answer: &Value) -> f64 {
    let outputs = answer["outputs"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    let output = outputs.clone().find(|output| output["name"] == "probability").unwrap_or_else(|| panic!("{answer}"));
    output["data"][0].as_f64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_scores_requests_of_a_queue_and_what_a_stream_brings() {
    let servers = Servers::start();
    let place = Place::new();
    let processes = [servers.spawn(&place, &["scheduler"]), servers.spawn(&place, &["worker"])];
    servers.wait_for_workers(&place, 1);
    write_pipeline(&place, 6);
    servers.json(&place, &["run", "flights.yaml", "--json"]);
    let rows = scored(&place);

    let url = servers.environment.iter().find(|(name, _)| name == "GRISTMILL_BROKER").expect("a broker").1.clone();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    for queue in ["answers", "late-or-not"] {
        let declared = channel.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default());
        declared.await.expect("a queue");
    }
    place.write(
        "arrivals.toml",
        "name = \"arrivals\"\nqueue = \"arrivals\"\nrouting_key = \"late-or-not\"\nmodel = \"late@champion\"\n\
         key = \"column:carrier\"\n",
    );
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--queue", "--stream", "arrivals.toml", "--grpc", "127.0.0.1:0"];
    let server = Server::of(servers.command(&place, &arguments));

    // What is sent before its queue is declared goes nowhere.
    until_declared(&connection, "gristmill.score").await;
    until_declared(&connection, "arrivals").await;

    // Requests with a place for the answer.
    let mut answers = consumer(&channel, "answers").await;
    let publish = async |queue: &str, id: String, body: &Value| {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(id.clone().into())
            .with_correlation_id(id.into())
            .with_reply_to("answers".into());
        let options = BasicPublishOptions::default();
        let body = body.to_string();
        let sent = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
        sent.await.expect("the broker lives").await.expect("the broker lives");
    };
    for (at, (record, _)) in rows.iter().take(20).enumerate() {
        publish("gristmill.score", at.to_string(), &request(record)).await;
    }
    for _ in 0..20 {
        let (properties, answer) = next(&mut answers).await;
        let at: usize = properties
            .correlation_id()
            .as_ref()
            .map(ShortString::as_str)
            .and_then(|id| id.parse().ok())
            .expect("an id");
        assert!((probability(&answer) - rows[at].1).abs() < 1e-12, "{answer}");
    }
    publish("gristmill.score", "bad".to_owned(), &json!({ "inputs": [] })).await;
    let (_, refusal) = next(&mut answers).await;
    assert!(refusal["error"].is_string(), "{refusal}");

    // What arrives is scored and passed on: everything once, in order for each carrier.
    let mut passed_on = consumer(&channel, "late-or-not").await;
    for (at, (record, _)) in rows.iter().take(200).enumerate() {
        publish("arrivals", format!("arrival-{at}"), &request(record)).await;
    }
    let mut seen = BTreeSet::new();
    let mut last = std::collections::BTreeMap::new();
    for _ in 0..200 {
        let (properties, answer) = next(&mut passed_on).await;
        let id = properties.message_id().as_ref().expect("an id").to_string();
        let at: usize = id.rsplit_once('-').and_then(|(_, at)| at.parse().ok()).unwrap_or_else(|| panic!("{id}"));
        assert!((probability(&answer) - rows[at].1).abs() < 1e-12, "{answer}");
        assert!(seen.insert(at), "{id} came twice");
        let before = last.insert(rows[at].0["carrier"].to_string(), at);
        assert!(before < Some(at), "{before:?} after {at}");
    }
    let (_, metrics) = server.ask("GET", "/metrics", &Value::Null);
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("gristmill_stream_lag_messages{stream=\"arrivals\"}"), "{metrics}");
    server.end();
    place.write("wrong.toml", "name = \"a\"\nqueue = \"a\"\nstream = \"b\"\nrouting_key = \"x\"\n");
    let said = servers.gristmill(&place, &["serve", "--stream", "wrong.toml"]);
    assert!(said.code == Some(2) && said.stderr.contains("either `queue` or `stream`"), "{}", said.stderr);
    drop(processes);
}

#[test]
fn what_needs_a_broker_says_so_before_anything_is_served() {
    let place = Place::new();
    for arguments in [["serve", "--queue", "requests"], ["serve", "--stream", "arrivals.toml"]] {
        let said = place.gristmill(&arguments);
        assert!(said.code == Some(2) && said.stderr.contains("GRISTMILL_BROKER"), "{}", said.stderr);
    }
}
