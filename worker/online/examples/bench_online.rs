//! Measures the server next to an axum handler that parses the same JSON and answers a constant, in one process with
//! the load generator: what the model and our own handling add to a server.
//!
//! `bench_online [SECONDS]`: both sides in turns at 1, 8 and 64 connections, so many seconds each. What happens beyond
//! capacity is measured by `overload`.

#[path = "constant.rs"]
#[expect(dead_code, reason = "its `main` is for servers of its own")]
mod constant;
mod forest;
#[expect(dead_code, reason = "loads at a constant rate are for the other measurements")]
mod load;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_online::engine::EngineSettings;
use gristmill_online::{ServerSettings, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// Turns of each side at each number of connections.
const SLICES: u32 = 20;

/// What one run saw; times of the answers with 200, in microseconds.
#[derive(Default)]
struct Run {
    seconds: f64,
    times: Vec<u32>,
    shed: u64,
    other: u64,
}

impl Run {
    fn add(&mut self, run: Run) {
        self.seconds += run.seconds;
        self.times.extend(run.times);
        self.shed += run.shed;
        self.other += run.other;
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    fn line(&mut self) -> String {
        self.times.sort_unstable();
        let at = |part: f64| {
            let last = self.times.len().saturating_sub(1);
            self.times.get((last as f64 * part) as usize).map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
        };
        let rate = self.rate();
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        format!(
            "{rate:>9.0}/s  p50 {p50:>7.3} ms  p99 {p99:>7.3} ms  p99.9 {p999:>7.3} ms  shed {}  other {}",
            self.shed, self.other
        )
    }
}

/// Each connection sends its next request when it has the answer.
async fn closed_loop(address: SocketAddr, request: Arc<[u8]>, connections: usize, time: Duration) -> Run {
    let connected = Arc::new(Barrier::new(connections + 1));
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (request, connected) = (Arc::clone(&request), Arc::clone(&connected));
        tasks.push(tokio::spawn(async move {
            let stream = TcpStream::connect(address).await;
            connected.wait().await;
            match stream {
                Ok(stream) => one_connection(stream, &request, time).await,
                Err(_) => Run::default(),
            }
        }));
    }
    connected.wait().await;
    let start = Instant::now();
    let mut whole = Run::default();
    for task in tasks {
        let run = task.await.unwrap_or_default();
        whole.add(run);
    }
    whole.seconds = start.elapsed().as_secs_f64();
    whole
}

async fn one_connection(mut stream: TcpStream, request: &[u8], time: Duration) -> Run {
    let _ = stream.set_nodelay(true);
    let start = Instant::now();
    let mut run = Run::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let sent = Instant::now();
        if sent >= start + time {
            return run;
        }
        match load::ask(&mut stream, request, &mut buffer).await {
            Ok(200) => run.times.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Ok(503) => run.shed += 1,
            Ok(_) => run.other += 1,
            Err(_) => {
                run.other += 1;
                return run;
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(3.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let mut out = io::stdout();

    let raw = TcpListener::bind("127.0.0.1:0").await?;
    let raw_address = raw.local_addr()?;
    tokio::spawn(async move { axum::serve(raw, constant::app()).await });

    let ours = TcpListener::bind("127.0.0.1:0").await?;
    let ours_address = ours.local_addr()?;
    let scoring = forest::scoring(EngineSettings::default()).await?;
    let settings = ServerSettings { connections_max: 20_000, ..ServerSettings::default() };
    tokio::spawn(serve(ours, scoring, settings, std::future::pending()));

    let forest = forest::request("forest");
    for address in [raw_address, ours_address] {
        closed_loop(address, Arc::clone(&forest), 8, Duration::from_millis(300)).await;
    }
    for connections in [1, 8, 64] {
        // In short turns: what else the machine does then falls on both sides.
        let (mut raw, mut ours, mut parts) = (Run::default(), Run::default(), Vec::new());
        for _ in 0..SLICES {
            let a = closed_loop(raw_address, Arc::clone(&forest), connections, time / SLICES).await;
            let b = closed_loop(ours_address, Arc::clone(&forest), connections, time / SLICES).await;
            parts.push(b.rate() / a.rate());
            raw.add(a);
            ours.add(b);
        }
        parts.sort_unstable_by(f64::total_cmp);
        let (median, low, high) = (parts[parts.len() / 2], parts[0], parts[parts.len() - 1]);
        writeln!(out, "{connections:>2} connections  constant {}", raw.line())?;
        writeln!(out, "                ours     {}", ours.line())?;
        writeln!(out, "                ours / constant: median {median:.2} of {SLICES} turns, {low:.2} to {high:.2}")?;
    }
    Ok(())
}
