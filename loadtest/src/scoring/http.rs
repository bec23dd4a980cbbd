//! HTTP/1.1 as a load test needs it: one prepared request over connections that stay, and answers with a length.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use super::pacer::{Schedule, pace};
use crate::histogram::Histogram;

/// An answer that takes longer counts as an error.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer's head.
const HEAD_MAX: usize = 16 * 1024;
/// Bytes of an answer's body.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// A server and what it is asked.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    request: Arc<[u8]>,
}

impl Target {
    /// A POST of JSON to an `http://` URL.
    pub async fn new(url: &str, body: &str) -> anyhow::Result<Target> {
        let rest = url.strip_prefix("http://").with_context(|| format!("`{url}` doesn't begin with `http://`"))?;
        let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, path.to_owned()));
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let found = tokio::net::lookup_host(&with_port).await.with_context(|| format!("there is no `{host}`"))?;
        let address = found.into_iter().next().with_context(|| format!("`{host}` has no address"))?;
        let request = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Target { address, request: request.into_bytes().into() })
    }
}

/// A connection that stays open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(target: &Target) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(target.address).await.context("failed to connect")?;
        // A request is one write; nothing is won by waiting for more.
        stream.set_nodelay(true).context("failed to set up a connection")?;
        Ok(Connection { stream, buffer: Vec::with_capacity(4_096) })
    }

    /// Sends the request; the answer's status and body.
    pub async fn ask(&mut self, target: &Target) -> anyhow::Result<(u16, Vec<u8>)> {
        let asking = async {
            self.stream.write_all(&target.request).await.context("failed to send")?;
            self.answer().await
        };
        tokio::time::timeout(ANSWER_PATIENCE, asking).await.context("no answer in time")?
    }

    async fn answer(&mut self) -> anyhow::Result<(u16, Vec<u8>)> {
        self.buffer.clear();
        loop {
            ensure!(self.buffer.len() <= HEAD_MAX + BODY_MAX, "the answer is too long");
            let read = self.stream.read_buf(&mut self.buffer).await.context("failed to receive")?;
            ensure!(read > 0, "the server closed the connection");
            if let Some((status, body, length)) = head(&self.buffer)?
                && self.buffer.len() >= body + length
            {
                return Ok((status, self.buffer[body..body + length].to_vec()));
            }
        }
    }
}

/// Status, where the body begins and how long it is, once the head is whole.
fn head(buffer: &[u8]) -> anyhow::Result<Option<(u16, usize, usize)>> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(buffer.len() <= HEAD_MAX, "the answer's head is too long");
        return Ok(None);
    };
    let text = std::str::from_utf8(&buffer[..end]).context("the answer's head isn't text")?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("`{text}` is no answer"))?;
    let lengths = text.lines().filter_map(|line| line.split_once(':'));
    let length = lengths.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some((_, length)) = length else { bail!("the answer doesn't say how long it is") };
    let length: usize = length.trim().parse().context("the answer's length is no number")?;
    ensure!(length <= BODY_MAX, "the answer is too long");
    Ok(Some((status, end + 4, length)))
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From when requests were due to the end of their answers, in microseconds; those with errors as well.
    pub latency: Histogram,
    pub errors: u64,
    /// What the first error was.
    pub first_error: Option<String>,
    /// From when requests were due until they were sent, in microseconds.
    pub lateness: Histogram,
    pub seconds: f64,
}

/// Requests when they are due, over so many connections.
pub async fn open_loop(target: &Target, schedule: Schedule, connections: usize) -> anyhow::Result<Measured> {
    let (sender, due) = mpsc::unbounded_channel();
    let due = Arc::new(Mutex::new(due));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(target).await?);
    }
    let began = Instant::now();
    let pacer = pace(schedule, sender);
    let mut asking = tokio::task::JoinSet::new();
    for connection in open {
        asking.spawn(one_connection(target.clone(), connection, Arc::clone(&due)));
    }
    let mut all = Measured::default();
    while let Some(measured) = asking.join_next().await {
        let measured = measured.context("a connection's task failed")?;
        all.latency.add(&measured.latency);
        all.lateness.add(&measured.lateness);
        all.errors += measured.errors;
        all.first_error = all.first_error.or(measured.first_error);
    }
    all.seconds = began.elapsed().as_secs_f64();
    pacer.join().map_err(|_| anyhow::anyhow!("the thread that paces failed"))?;
    Ok(all)
}

async fn one_connection(
    target: Target,
    connection: Connection,
    due: Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>,
) -> Measured {
    let (mut measured, mut connection) = (Measured::default(), Some(connection));
    loop {
        // One connection after the other waits for the next request, as users would take a free one of a pool.
        let Some(at) = due.lock().await.recv().await else { return measured };
        measured.lateness.record(at.elapsed().as_micros() as u64);
        let answered = match connection.take() {
            Some(open) => ask(open, &target).await,
            None => match Connection::open(&target).await {
                Ok(open) => ask(open, &target).await,
                Err(error) => Err(error),
            },
        };
        measured.latency.record(at.elapsed().as_micros() as u64);
        match answered {
            Ok((open, 200)) => connection = Some(open),
            Ok((open, status)) => {
                connection = Some(open);
                measured.errors += 1;
                measured.first_error.get_or_insert_with(|| format!("status {status}"));
            }
            Err(error) => {
                measured.errors += 1;
                measured.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

async fn ask(mut connection: Connection, target: &Target) -> anyhow::Result<(Connection, u16)> {
    let (status, _) = connection.ask(target).await?;
    Ok((connection, status))
}

/// A server that answers every request with the same few bytes: what HTTP alone takes on this machine.
pub struct Constant {
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Constant {
    pub async fn start() -> anyhow::Result<Constant> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(constant(stream));
            }
        });
        Ok(Constant { address, task })
    }
}

impl Drop for Constant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers as long as requests come. An answer is due when a request's body has come as far as it said.
async fn constant(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n{\"predictions\":[0]}";
    let mut buffer = Vec::new();
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while matches!(stream.read_buf(&mut buffer).await, Ok(read) if read > 0) && buffer.len() <= HEAD_MAX + BODY_MAX {
        while let Some(end) = request_end(&buffer) {
            buffer.drain(..end);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

fn request_end(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let length = pairs.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).map_or("0", |(_, length)| length);
    let end = head + 4 + length.trim().parse::<usize>().ok()?;
    (buffer.len() >= end).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_request_that_is_due_is_asked_and_counted() {
        let constant = Constant::start().await.expect("a server");
        let target = Target::new(&format!("http://{}/", constant.address), "{\"a\": 1}").await.expect("a target");
        let schedule = Schedule::new(500.0, 0.5, 2);
        let due = schedule.clone().count() as u64;
        let measured = open_loop(&target, schedule, 4).await.expect("a measure");
        assert_eq!((measured.latency.count(), measured.errors, measured.first_error), (due, 0, None));
        assert!(measured.latency.percentile(0.0) > 0);
    }

    #[test]
    fn an_answer_is_read_by_its_length() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(head(answer).expect("a head"), Some((404, answer.len() - 2, 2)));
        assert_eq!(head(&answer[..20]).expect("half a head"), None);
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
