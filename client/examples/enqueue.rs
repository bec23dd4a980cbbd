//! How fast runs are enqueued: `cargo run --release -p gristmill-client --example enqueue -- RUNS
//! http://127.0.0.1:5000 [amqp://…]`. Over HTTP one by one (64 at a time) and in batches of 1,000; over RabbitMQ one by
//! one (256 at a time, each confirmed) and in lists.

use std::time::Instant;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use gristmill_client::{Client, QueueClient, SubmissionMessage, Submit};

const PIPELINE: &str = "name: enqueued\nsteps:\n  a: { noop: {} }\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().ok_or("say how many runs")?.parse()?;
    let api = Client::new(&arguments.next().ok_or("name the API")?)?;
    let submit = || Submit { pipeline: Some(PIPELINE.to_owned()), ..Submit::default() };
    let message = || SubmissionMessage { pipeline: Some(PIPELINE.to_owned()), ..SubmissionMessage::default() };
    let since = Instant::now();
    let one_by_one = stream::iter(0..runs).map(|_| async { api.submit(&submit()).await });
    one_by_one.buffer_unordered(64).try_for_each(|_| async { Ok(()) }).await?;
    told("HTTP, one by one", runs, since);
    let since = Instant::now();
    let results = api.submit_many((0..runs).map(|_| submit())).await?;
    told("HTTP, batches of 1,000", results.len(), since);
    let Some(url) = arguments.next() else { return Ok(()) };
    let queue = QueueClient::connect(&url).await?;
    let since = Instant::now();
    let one_by_one = stream::iter(0..runs).map(|_| async { queue.submit(&message()).await });
    one_by_one.buffer_unordered(256).try_for_each(|()| async { Ok(()) }).await?;
    told("RabbitMQ, one by one, confirmed", runs, since);
    let since = Instant::now();
    queue.submit_many((0..runs).map(|_| message())).await?;
    told("RabbitMQ, lists of 200, confirmed", runs, since);
    Ok(())
}

fn told(how: &str, runs: usize, since: Instant) {
    println!("{how}: {:.0} runs/s", runs as f64 / since.elapsed().as_secs_f64());
}
