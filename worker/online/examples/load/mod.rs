//! A load at a constant rate, and the server's process that it is for.
//!
//! Times count from when a request was due, so that a server which is slow doesn't slow its own measurement. A request
//! takes a connection that is free or opens one more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gristmill_online::{Scoring, ServerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Connections of the closed loop that finds the capacity.
const CLOSED_CONNECTIONS: usize = 64;
/// Connections at a time. A listener holds 1,024 that weren't accepted yet; the system turns further ones away, and TCP
/// tries again a second later, which no server can help.
const CONNECTIONS_MAX: usize = 1_000;
/// Nobody waits longer for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
pub type Failure = Box<dyn std::error::Error>;

/// What one load saw; times in microseconds.
#[derive(Default)]
pub struct Seen {
    pub accepted: Vec<u32>,
    pub shed: Vec<u32>,
    /// Requests with another answer, or none.
    pub other: u64,
    /// How late requests were sent: what the load itself couldn't keep up with.
    pub late: Vec<u32>,
}

/// The server's process; it ends with its standard input.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts this program again with these arguments; pinned, on core 0.
    pub fn start(arguments: &[&str], is_pinned: bool) -> Result<Server, Failure> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(if is_pinned { "taskset".as_ref() } else { program.as_os_str() });
        if is_pinned {
            command.args(["-c", "0"]).arg(&program);
        }
        let mut child =
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Server { child, address: line.trim().parse()? })
    }

    pub fn end(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// Serves at a free port, which it prints, until standard input ends.
pub async fn serve_until_told(scoring: Arc<Scoring>) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    io::stdout().flush()?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    gristmill_online::serve(listener, scoring, ServerSettings::default(), async { drop(ended.await) }).await;
    Ok(())
}

/// Leaves core 0 to the server.
pub fn take_core_1() -> Result<(), Failure> {
    let own = std::process::id().to_string();
    let status = Command::new("taskset").args(["-cp", "1", &own]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err("failed to take core 1 with `taskset`".into()) }
}

/// Answers a second with all connections busy.
pub async fn capacity(address: SocketAddr, request: &Arc<[u8]>, time: Duration) -> Result<f64, Failure> {
    let end = Instant::now() + time;
    let tasks = (0..CLOSED_CONNECTIONS).map(|_| {
        let request = Arc::clone(request);
        tokio::spawn(async move {
            let mut stream = connect(address).await?;
            let (mut answered, mut buffer) = (0, vec![0; 4 * 1024]);
            while Instant::now() < end {
                answered += u64::from(ask(&mut stream, &request, &mut buffer).await? == 200);
            }
            Ok::<u64, io::Error>(answered)
        })
    });
    let mut answered = 0;
    for task in tasks.collect::<Vec<_>>() {
        answered += task.await??;
    }
    Ok(answered as f64 / time.as_secs_f64())
}

/// Sends so many requests a second, and waits for the last answer.
pub async fn open_loop(address: SocketAddr, request: &Arc<[u8]>, rate: f64, time: Duration) -> Result<Seen, Failure> {
    let all = (rate * time.as_secs_f64()) as u32;
    let (seen, idle) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(Vec::new())));
    let open = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let start = Instant::now();
    for at in 0..all {
        let due = start + Duration::from_secs_f64(f64::from(at) / rate);
        if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
        }
        locked(&seen).late.push(micros(due));
        // Where all connections are taken, the load waits; the times that are measured still count from `due`.
        let slot = Arc::clone(&open).acquire_owned().await?;
        let (request, seen, idle) = (Arc::clone(request), Arc::clone(&seen), Arc::clone(&idle));
        tokio::spawn(async move {
            let answer = tokio::time::timeout(ANSWER_MAX, one(address, &request, &idle)).await;
            let mut seen = locked(&seen);
            match answer {
                Ok(Ok(200)) => seen.accepted.push(micros(due)),
                Ok(Ok(503)) => seen.shed.push(micros(due)),
                Ok(_) | Err(_) => seen.other += 1,
            }
            drop(slot);
        });
    }
    drop(open.acquire_many(CONNECTIONS_MAX as u32).await?);
    Ok(std::mem::take(&mut *locked(&seen)))
}

/// One request on a connection of its own for that time; the status.
async fn one(address: SocketAddr, request: &[u8], idle: &Mutex<Vec<TcpStream>>) -> io::Result<u16> {
    let free = locked(idle).pop();
    let mut stream = match free {
        Some(stream) => stream,
        None => connect(address).await?,
    };
    let status = ask(&mut stream, request, &mut [0; 2 * 1024]).await?;
    locked(idle).push(stream);
    Ok(status)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and reads its answer, which fits into the buffer; the status.
pub async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> io::Result<u16> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
        let Some(head) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]);
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if filled == head + 4 + length.unwrap_or(0) {
            return text.get(9..12).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData.into());
        }
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A percentile, in milliseconds as text.
pub fn at(times: &mut [u32], part: f64) -> String {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let found = times.get((last as f64 * part) as usize);
    found.map_or("–".to_owned(), |micros| format!("{:.1}", f64::from(*micros) / 1_000.0))
}
