//! Measures the server next to an axum handler that parses the same JSON and answers a constant, in one process with
//! the load generator.
//!
//! `bench_online [SECONDS]`: both sides in turns at 1, 8 and 64 connections, so many seconds each; then beyond capacity.

use std::hint::black_box;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::routing::post;
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{
    Column, Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, Rows, Scoring, ServerSettings,
    Signature, Source, SourceError, Values, serve,
};
use gristmill_telemetry::metrics::Metrics;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

const COLUMNS: usize = 8;
const TREES: usize = 100;
const DEPTH: usize = 10;
/// Turns of each side at each number of connections.
const SLICES: u32 = 20;

/// A forest of full trees in flat arrays, filled by a fixed sequence: the work of a real one, without learning it.
struct Forest {
    signature: Signature,
    splits: Vec<(u8, f64)>,
    leaves: Vec<f64>,
    /// Each call walks this often, for models that take longer.
    times: usize,
}

impl Forest {
    fn new(times: usize) -> Forest {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        let splits = (0..TREES << DEPTH).map(|_| ((next() * COLUMNS as f64) as u8, next())).collect();
        let leaves = (0..TREES << DEPTH).map(|_| next()).collect();
        let inputs = (0..COLUMNS).map(|at| Field::new(&format!("x{at}"), Kind::Number)).collect();
        let outputs = vec![Field::new("prediction", Kind::Integer), Field::new("probability", Kind::Number)];
        Forest { signature: Signature::new(inputs, outputs), splits, leaves, times }
    }

    fn score(&self, row: &[f64; COLUMNS]) -> f64 {
        let mut sum = 0.0;
        for tree in 0..TREES {
            let (splits, leaves) = (&self.splits[tree << DEPTH..], &self.leaves[tree << DEPTH..]);
            let mut node = 1;
            for _ in 0..DEPTH {
                let (column, at) = splits[node - 1];
                node = 2 * node + usize::from(row[usize::from(column)] > at);
            }
            sum += leaves[node - (1 << DEPTH)];
        }
        sum / TREES as f64
    }
}

impl Predictor for Forest {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let columns: Vec<&[f64]> = rows
            .columns()
            .iter()
            .map(|column| match column.values() {
                Values::Number(values) => values.as_slice(),
                _ => &[],
            })
            .collect();
        let mut scores = vec![0.0; rows.len()];
        for _ in 0..self.times {
            for (at, score) in scores.iter_mut().enumerate() {
                *score = self.score(&std::array::from_fn(|column| columns[column][at]));
            }
            black_box(&scores);
        }
        let labels: Vec<i64> = scores.iter().map(|score| i64::from(*score > 0.5)).collect();
        let columns = vec![("prediction".into(), labels.into()), ("probability".into(), Column::from(scores))];
        Ok(Predictions::new(columns, rows.len()))
    }
}

struct Shelf;

impl Source for Shelf {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        let known = |name: &str| Known { name: name.to_owned(), versions: vec![1], aliases: [].into() };
        Ok(vec![known("forest"), known("slow")])
    }

    fn load(&self, name: &str, _version: u64) -> Result<Loaded, SourceError> {
        let forest = Forest::new(if name == "slow" { 50 } else { 1 });
        let bytes = (forest.splits.len() + forest.leaves.len()) * 16;
        Ok(Loaded { predictor: Arc::new(forest), bytes })
    }
}

/// The request as serde reads it, for the handler that answers a constant.
#[derive(Deserialize)]
struct Infer {
    inputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    data: Vec<f64>,
}

const CONSTANT: &str = r#"{"model_name":"forest","model_version":"1","outputs":[{"name":"prediction","shape":[1],"datatype":"INT64","data":[1]},{"name":"probability","shape":[1],"datatype":"FP64","data":[0.5123456789]}]}"#;

async fn constant(Json(request): Json<Infer>) -> ([(&'static str, &'static str); 1], &'static str) {
    let cells: usize = request.inputs.iter().map(|tensor| tensor.data.len() + tensor.shape.len()).sum();
    let texts: usize = request.inputs.iter().map(|tensor| tensor.name.len() + tensor.datatype.len()).sum();
    black_box(cells + texts);
    ([("content-type", "application/json")], CONSTANT)
}

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

/// Each connection sends its next request when it has the answer, or at its next turn when `every` says so.
async fn load(
    address: SocketAddr,
    request: Arc<[u8]>,
    connections: usize,
    time: Duration,
    every: Option<Duration>,
) -> Run {
    let connected = Arc::new(Barrier::new(connections + 1));
    let mut tasks = Vec::new();
    for at in 0..connections {
        let (request, connected) = (Arc::clone(&request), Arc::clone(&connected));
        let turns = every.map(|every| (every, every.mul_f64(at as f64 / connections as f64)));
        tasks.push(tokio::spawn(async move {
            let stream = TcpStream::connect(address).await;
            connected.wait().await;
            match stream {
                Ok(stream) => one_connection(stream, &request, time, turns).await,
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

/// `turns` says how far apart requests are, and when the first is due.
async fn one_connection(
    mut stream: TcpStream,
    request: &[u8],
    time: Duration,
    turns: Option<(Duration, Duration)>,
) -> Run {
    let _ = stream.set_nodelay(true);
    let start = Instant::now();
    let mut run = Run::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut due = turns.map(|(_, first)| start + first);
    loop {
        if let Some(due) = due {
            tokio::time::sleep_until(due.into()).await;
        }
        let now = Instant::now();
        if now >= start + time {
            return run;
        }
        // Late requests count from when they were due: a slow server doesn't slow its own measurement.
        let sent = due.unwrap_or(now);
        match ask(&mut stream, request, &mut buffer).await {
            Some(200) => run.times.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Some(503) => run.shed += 1,
            Some(_) => run.other += 1,
            None => {
                run.other += 1;
                return run;
            }
        }
        due = due.zip(turns).map(|(due, (every, _))| due + every);
    }
}

/// Sends a request and reads its answer; the status.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> Option<u16> {
    stream.write_all(request).await.ok()?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).ok()?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        })?;
        while filled < head + 4 + length {
            filled += stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        }
        return buffer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    }
}

fn request(path: &str) -> Arc<[u8]> {
    let tensors: Vec<String> = (0..COLUMNS)
        .map(|at| format!(r#"{{"name":"x{at}","shape":[1],"datatype":"FP64","data":[0.{at}34567]}}"#))
        .collect();
    let body = format!(r#"{{"inputs":[{}]}}"#, tensors.join(","));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes().into()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(3.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let mut out = io::stdout();

    let raw = TcpListener::bind("127.0.0.1:0").await?;
    let raw_address = raw.local_addr()?;
    let app = Router::new().route("/v2/models/forest/infer", post(constant));
    tokio::spawn(async move { axum::serve(raw, app).await });

    let ours = TcpListener::bind("127.0.0.1:0").await?;
    let ours_address = ours.local_addr()?;
    let models = Models::new(Arc::new(Shelf), 1 << 30);
    models.refresh().await?;
    let engine = Engine::start(EngineSettings::default())?;
    let scoring = Arc::new(Scoring::new(models, engine, Arc::new(Metrics::new(None)), None));
    let settings = ServerSettings { connections_max: 20_000, ..ServerSettings::default() };
    tokio::spawn(serve(ours, scoring, settings, std::future::pending()));

    let forest = request("/v2/models/forest/infer");
    for address in [raw_address, ours_address] {
        load(address, Arc::clone(&forest), 8, Duration::from_millis(300), None).await;
    }
    for connections in [1, 8, 64] {
        // In short turns: what else the machine does then falls on both sides.
        let (mut raw, mut ours, mut parts) = (Run::default(), Run::default(), Vec::new());
        for _ in 0..SLICES {
            let a = load(raw_address, Arc::clone(&forest), connections, time / SLICES, None).await;
            let b = load(ours_address, Arc::clone(&forest), connections, time / SLICES, None).await;
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

    // A model of which each call takes about half a millisecond: with all connections waiting, and at twice what it can.
    let slow = request("/v2/models/slow/infer");
    let mut closed = load(ours_address, Arc::clone(&slow), 64, time, None).await;
    let capacity = closed.rate();
    writeln!(out, "slow model, 64 connections        {}", closed.line())?;
    for times in [0.5, 1.0, 2.0, 4.0] {
        let every = Duration::from_secs_f64(512.0 / (capacity * times));
        let mut open = load(ours_address, Arc::clone(&slow), 512, time, Some(every)).await;
        writeln!(out, "slow model, open loop at {times:.1} × it  {}", open.line())?;
    }
    Ok(())
}
