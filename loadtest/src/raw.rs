//! What the servers do at most, measured beside the figures: the broker's round trips and the store's calls.

use std::time::Instant;

use bytes::Bytes;
use gristmill_backends::broker::{Broker, Message};
use gristmill_backends::state::State;

use crate::cluster::Program;
use crate::histogram::Histogram;

/// Messages under way at a time: more make it no faster.
const WINDOW: usize = 256;
/// Messages that go alone, and calls of the store.
const ALONE: usize = 500;

/// The raw limits of the servers.
#[derive(Debug)]
pub struct RawLimits {
    pub round_trips_per_second: f64,
    /// Of one message alone, in microseconds.
    pub round_trip: Histogram,
    /// Of one small call of the store, in microseconds.
    pub store_call: Histogram,
}

/// A message to one queue and its answer over another, as a task queue of one message a task would do it: many under
/// way at a time, and one alone. Then calls of the store.
pub async fn raw_limits(program: &Program, messages: usize) -> anyhow::Result<RawLimits> {
    let (there, back) = (program.servers.broker().await?, program.servers.broker().await?);
    let mut tasks = there.consume("raw-tasks", WINDOW as u16).await?;
    let mut results = back.consume("raw-results", WINDOW as u16).await?;
    let echo = tokio::spawn(async move {
        loop {
            let Ok(delivery) = tasks.next().await else { return };
            if back.publish("raw-results", delivery.message.clone()).await.is_err() {
                return;
            }
            delivery.ack();
        }
    });
    let message = |at: usize| Message {
        content_type: "application/octet-stream".to_owned(),
        id: at.to_string(),
        traceparent: None,
        body: Bytes::from_static(&[0; 64]),
    };
    let began = Instant::now();
    let (mut sent, mut received) = (0, 0);
    while received < messages {
        while sent < messages && sent - received < WINDOW {
            there.publish("raw-tasks", message(sent)).await?;
            sent += 1;
        }
        results.next().await?.ack();
        received += 1;
    }
    let round_trips_per_second = messages as f64 / began.elapsed().as_secs_f64();
    let mut round_trip = Histogram::default();
    for at in 0..ALONE {
        let began = Instant::now();
        there.publish("raw-tasks", message(at)).await?;
        results.next().await?.ack();
        round_trip.record(began.elapsed().as_micros() as u64);
    }
    echo.abort();
    let state = program.servers.state().await?;
    let mut store_call = Histogram::default();
    for _ in 0..ALONE {
        let began = Instant::now();
        state.clock().await?;
        store_call.record(began.elapsed().as_micros() as u64);
    }
    Ok(RawLimits { round_trips_per_second, round_trip, store_call })
}
