//! Jobs that come as messages, from a client that knows nothing of us but the queue's name.

mod support;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Value, json};
use support::Place;
use support::servers::{PATIENCE, Servers};

const QUEUE: &str = "gm.submissions";
const ANSWERS: &str = "answers-of-the-test";

struct Client {
    channel: Channel,
    answers: Consumer,
    sent: u32,
}

impl Client {
    async fn connect(url: &str) -> Client {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let name = ShortString::from(ANSWERS);
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.clone(), options, FieldTable::default()).await.expect("a queue");
        let consume = channel.basic_consume(name, "".into(), BasicConsumeOptions::default(), FieldTable::default());
        Client { answers: consume.await.expect("a consumer"), channel, sent: 0 }
    }

    /// Sends a message and waits for its answer.
    async fn ask(&mut self, content_type: &str, body: &[u8]) -> Value {
        self.sent += 1;
        let id = format!("message-{}", self.sent);
        let properties = BasicProperties::default()
            .with_content_type(content_type.into())
            .with_message_id(id.clone().into())
            .with_correlation_id(id.clone().into())
            .with_reply_to(ANSWERS.into());
        self.send(properties, body).await;
        let delivery = tokio::time::timeout(PATIENCE, self.answers.next()).await.expect("an answer in time");
        let delivery = delivery.expect("the consumer lives").expect("a delivery");
        delivery.ack(BasicAckOptions::default()).await.expect("the broker lives");
        assert_eq!(delivery.properties.correlation_id().as_ref().map(ShortString::as_str), Some(id.as_str()));
        serde_json::from_slice(&delivery.data).expect("JSON")
    }

    async fn send(&self, properties: BasicProperties, body: &[u8]) {
        let sent =
            self.channel.basic_publish("".into(), QUEUE.into(), BasicPublishOptions::default(), body, properties);
        sent.await.expect("the broker lives").await.expect("the broker lives");
    }

    /// How many messages a queue holds.
    async fn waiting(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        queue.expect("the queue is there").message_count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_client_submits_jobs_and_is_answered() {
    let servers = Servers::start();
    let place = Place::new();
    let processes = [servers.spawn(&place, &["scheduler"]), servers.spawn(&place, &["worker"])];
    servers.wait_for_workers(&place, 1);
    let url = servers.environment.iter().find(|(name, _)| name == "GRISTMILL_BROKER").expect("a broker").1.clone();
    let mut client = Client::connect(&url).await;

    // JSON and MessagePack, with parameters; the same key is the same run.
    let pipeline = "name: job\nparams: { tasks: 3 }\nsteps:\n  a: { noop: { tasks: \"${tasks}\" } }\n";
    let job = json!({ "pipeline": pipeline, "params": { "tasks": 5 }, "key": "nightly", "priority": 3 });
    let answer = client.ask("application/json", job.to_string().as_bytes()).await;
    let run = answer["run"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(client.ask("application/json", job.to_string().as_bytes()).await["run"], run.as_str());
    let ended = servers.json(&place, &["wait", &run, "--json"]);
    assert_eq!((ended["status"].as_str(), ended["steps"]["a"]["tasks"].as_u64()), (Some("succeeded"), Some(7)));
    let packed = rmp_serde::to_vec_named(&json!({ "pipeline": pipeline })).expect("plain data");
    let answer = client.ask("application/vnd.gristmill.submission+msgpack; v=1", &packed).await;
    let other = answer["run"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_ne!(other, run);
    assert_eq!(servers.json(&place, &["wait", &other, "--json"])["status"], "succeeded");

    // The same key for something else is a conflict.
    let taken = json!({ "pipeline": "name: other\nsteps:\n  a: { noop: {} }\n", "key": "nightly" });
    assert_eq!(client.ask("application/json", taken.to_string().as_bytes()).await["code"], "conflict");

    // A wrong pipeline is answered with all that is wrong.
    let wrong = json!({ "pipeline": "name: x\nsteps:\n  a: { nop: {} }\n  b: { split: {} }\n" });
    let answer = client.ask("application/json", wrong.to_string().as_bytes()).await;
    assert!(answer["complaints"].as_array().is_some_and(|complaints| complaints.len() >= 2), "{answer}");

    // What can't be read is kept, with the reason.
    let answer = client.ask("application/json", b"{").await;
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("isn't valid JSON")), "{answer}");
    client.send(BasicProperties::default().with_content_type("text/plain".into()), b"hello").await;
    let kept = tokio::time::timeout(PATIENCE, async {
        while client.waiting("gm.submissions.dead").await < 2 {
            tokio::task::yield_now().await;
        }
    });
    kept.await.expect("both are put aside");
    drop(processes);
}
