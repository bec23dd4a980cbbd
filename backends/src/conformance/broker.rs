//! Queues: order, credit, and that nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use gristmill_protocol::limits::MESSAGE_BYTES_MAX;

use super::{BrokerFixture, GLIMPSE, PATIENCE, cases, race};
use crate::broker::{Broker, BrokerError, Consumer, Delivery, Message};

type Fixture = Arc<dyn BrokerFixture>;

cases!(BrokerFixture:
    messages_arrive_whole_and_in_order,
    queues_are_apart,
    a_publication_wakes_who_waits,
    unsettled_deliveries_are_limited,
    a_consumer_without_credit_gets_nothing,
    a_message_that_is_given_back_comes_first,
    several_that_are_given_back_keep_their_order,
    a_dropped_delivery_comes_again,
    a_dropped_consumer_gives_back_what_it_had,
    a_dropped_wait_loses_nothing,
    consumers_share_a_queue,
    credit_that_comes_back_serves_who_waits,
    a_message_that_is_too_large_is_refused,
    many_consumers_get_each_message_once,
);

const QUEUE: &str = "pool.default";

fn message(text: &str) -> Message {
    Message {
        content_type: "application/vnd.gristmill.assignment+msgpack; v=1".to_owned(),
        id: format!("id-{text}"),
        traceparent: Some(format!("00-{text}")),
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

async fn publish(broker: &dyn Broker, texts: &[&str]) {
    for text in texts {
        broker.publish(QUEUE, message(text)).await.expect("published");
    }
}

async fn consume(broker: &dyn Broker, prefetch: u16) -> Box<dyn Consumer> {
    broker.consume(QUEUE, prefetch).await.expect("consumed")
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("it comes soon").expect("delivered")
}

async fn text(consumer: &mut Box<dyn Consumer>) -> String {
    let delivery = next(consumer).await;
    let text = body(&delivery);
    delivery.ack();
    text
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

async fn nothing(consumer: &mut Box<dyn Consumer>) -> bool {
    tokio::time::timeout(GLIMPSE, consumer.next()).await.is_err()
}

/// Waits until a queue holds so many: a broker elsewhere needs a moment to count.
async fn ready(broker: &dyn Broker, expected: u64) {
    let counted = tokio::time::timeout(PATIENCE, async {
        while broker.ready(QUEUE).await.expect("counted") != expected {
            tokio::task::yield_now().await;
        }
    });
    counted.await.expect("the count is reached");
}

async fn messages_arrive_whole_and_in_order(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b", "c"]).await;
    ready(&*broker, 3).await;
    let mut consumer = consume(&*broker, 10).await;
    for expected in ["a", "b", "c"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message, message(expected));
        assert!(!delivery.redelivered);
        delivery.ack();
    }
    assert!(nothing(&mut consumer).await);
    ready(&*broker, 0).await;
}

async fn queues_are_apart(fixture: Fixture) {
    let broker = fixture.fresh().await;
    broker.publish("pool.other", message("x")).await.expect("published");
    let mut consumer = consume(&*broker, 1).await;
    assert!(nothing(&mut consumer).await);
    let mut other = broker.consume("pool.other", 1).await.expect("consumed");
    assert_eq!(text(&mut other).await, "x");
}

async fn a_publication_wakes_who_waits(fixture: Fixture) {
    let broker = fixture.fresh().await;
    let mut consumer = consume(&*broker, 1).await;
    let waiter = tokio::spawn(async move { text(&mut consumer).await });
    publish(&*broker, &["late"]).await;
    assert_eq!(waiter.await.expect("it ends"), "late");
}

async fn unsettled_deliveries_are_limited(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b", "c", "d"]).await;
    let mut consumer = consume(&*broker, 2).await;
    let first = next(&mut consumer).await;
    let _second = next(&mut consumer).await;
    assert!(nothing(&mut consumer).await);
    first.ack();
    assert_eq!(text(&mut consumer).await, "c");
    assert_eq!(text(&mut consumer).await, "d");
}

async fn a_consumer_without_credit_gets_nothing(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b"]).await;
    let mut consumer = consume(&*broker, 1).await;
    let first = next(&mut consumer).await;
    consumer.set_prefetch(0).await.expect("set");
    first.ack();
    assert!(nothing(&mut consumer).await);
    consumer.set_prefetch(1).await.expect("set");
    assert_eq!(text(&mut consumer).await, "b");
}

async fn a_message_that_is_given_back_comes_first(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b"]).await;
    let mut consumer = consume(&*broker, 1).await;
    next(&mut consumer).await.requeue();
    let again = next(&mut consumer).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("a", true));
    again.ack();
    let second = next(&mut consumer).await;
    assert_eq!((body(&second).as_str(), second.redelivered), ("b", false));
}

async fn several_that_are_given_back_keep_their_order(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b", "c"]).await;
    let mut first = consume(&*broker, 2).await;
    let (a, b) = (next(&mut first).await, next(&mut first).await);
    first.set_prefetch(0).await.expect("set");
    a.requeue();
    b.requeue();
    ready(&*broker, 3).await;
    let mut second = consume(&*broker, 1).await;
    for expected in ["a", "b", "c"] {
        assert_eq!(text(&mut second).await, expected);
    }
}

async fn a_dropped_delivery_comes_again(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a"]).await;
    let mut consumer = consume(&*broker, 1).await;
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("a", true));
}

async fn a_dropped_consumer_gives_back_what_it_had(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b", "c"]).await;
    let mut first = consume(&*broker, 3).await;
    let (a, b) = (next(&mut first).await, next(&mut first).await);
    b.ack();
    drop(first);
    let mut second = consume(&*broker, 1).await;
    assert_eq!(text(&mut second).await, "a");
    assert_eq!(text(&mut second).await, "c");
    // It came again, so what is done to the first delivery has no meaning any more.
    a.requeue();
    assert!(nothing(&mut second).await);
}

async fn a_dropped_wait_loses_nothing(fixture: Fixture) {
    let broker = fixture.fresh().await;
    let mut consumer = consume(&*broker, 1).await;
    for number in 0..20 {
        let expected = number.to_string();
        let publisher = Arc::clone(&broker);
        let published = expected.clone();
        let publication = tokio::spawn(async move { publish(&*publisher, &[&published]).await });
        // Waits that end at the same time as a message comes.
        let mut found = None;
        while found.is_none() {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                delivery = consumer.next() => found = Some(delivery.expect("delivered")),
            }
            if found.is_none()
                && let Ok(delivery) = tokio::time::timeout(GLIMPSE, consumer.next()).await
            {
                found = delivery.ok();
            }
        }
        publication.await.expect("it ends");
        let delivery = found.expect("it came");
        assert_eq!(body(&delivery), expected);
        delivery.ack();
    }
}

async fn consumers_share_a_queue(fixture: Fixture) {
    let broker = fixture.fresh().await;
    let (mut first, mut second) = (consume(&*broker, 1).await, consume(&*broker, 1).await);
    publish(&*broker, &["a", "b"]).await;
    let (one, two) = (next(&mut first).await, next(&mut second).await);
    let seen: BTreeSet<String> = [body(&one), body(&two)].into();
    assert_eq!(seen, ["a".to_owned(), "b".to_owned()].into());
    one.ack();
    two.ack();
}

async fn credit_that_comes_back_serves_who_waits(fixture: Fixture) {
    let broker = fixture.fresh().await;
    publish(&*broker, &["a", "b"]).await;
    let mut consumer = consume(&*broker, 1).await;
    let first = next(&mut consumer).await;
    let waiter = tokio::spawn(async move { text(&mut consumer).await });
    tokio::task::yield_now().await;
    first.ack();
    assert_eq!(tokio::time::timeout(PATIENCE, waiter).await.expect("soon").expect("it ends"), "b");
}

async fn a_message_that_is_too_large_is_refused(fixture: Fixture) {
    let broker = fixture.fresh().await;
    let of = |bytes: usize| Message { body: Bytes::from(vec![0; bytes]), ..message("large") };
    broker.publish(QUEUE, of(MESSAGE_BYTES_MAX)).await.expect("at the limit");
    let answer = broker.publish(QUEUE, of(MESSAGE_BYTES_MAX + 1)).await;
    assert!(matches!(answer, Err(BrokerError::TooLarge { .. })), "{answer:?}");
    ready(&*broker, 1).await;
}

async fn many_consumers_get_each_message_once(fixture: Fixture) {
    const MESSAGES: usize = 1_000;
    let broker = fixture.fresh().await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let mut consumers = tokio::task::JoinSet::new();
    for prefetch in [1, 2, 5, 50] {
        let mut consumer = consume(&*broker, prefetch).await;
        let sender = sender.clone();
        consumers.spawn(async move {
            loop {
                if sender.send(text(&mut consumer).await).is_err() {
                    return;
                }
            }
        });
    }
    race(4, |publisher| {
        let broker = Arc::clone(&broker);
        async move {
            for number in 0..MESSAGES / 4 {
                broker.publish(QUEUE, message(&format!("{publisher}/{number}"))).await.expect("published");
            }
        }
    })
    .await;
    let mut texts = BTreeSet::new();
    for _ in 0..MESSAGES {
        let text = tokio::time::timeout(PATIENCE, seen.recv()).await.expect("it comes soon").expect("open");
        assert!(texts.insert(text), "a message came twice");
    }
    ready(&*broker, 0).await;
}
