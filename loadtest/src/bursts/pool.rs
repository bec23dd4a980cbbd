//! A real `gristmill pool`, followed by what it says.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::BurstsArgs;
use crate::cluster::{Process, Program};

/// How often is looked for what it says.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A line that the pool says.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    pub at_ms: u64,
    pub event: String,
    #[serde(default)]
    pub pid: Option<u32>,
    #[serde(default)]
    pub wanted: Option<u32>,
    #[serde(default)]
    pub live: Option<u32>,
    #[serde(default)]
    pub starting: Option<u32>,
    #[serde(default)]
    pub draining: Option<u32>,
    #[serde(default)]
    pub paid_ms: Option<u64>,
    #[serde(default)]
    pub lost: Option<u64>,
}

/// The pool's process and what it has said so far.
pub struct Pool {
    process: Process,
    log: PathBuf,
    read: u64,
    pub said: Vec<Said>,
}

impl Pool {
    pub fn start(program: &Program, args: &BurstsArgs, name: &str) -> anyhow::Result<Pool> {
        let numbers = [args.max, args.slots].map(|number| number.to_string());
        let drain_time = args.drain_time.to_string();
        let arguments = ["pool", "default", "--min", "0", "--max", &numbers[0], "--slots", &numbers[1]];
        let idle = args.idle.map(|idle| idle.to_string());
        let mut arguments = [&arguments[..], &["--drain-time", &drain_time, "--json"]].concat();
        arguments.extend(idle.iter().flat_map(|idle| ["--idle", idle]));
        let process = program.start(name, &arguments)?;
        Ok(Pool { process, log: program.logs.join(format!("{name}.log")), read: 0, said: Vec::new() })
    }

    /// Reads what it has said since.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let text = std::fs::read(&self.log).with_context(|| format!("failed to read `{}`", self.log.display()))?;
        let new = &text[(self.read as usize).min(text.len())..];
        // The last line may be in the making.
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in String::from_utf8_lossy(&new[..whole]).lines().filter(|line| line.starts_with('{')) {
            let said = serde_json::from_str(line).with_context(|| format!("the pool says `{line}`"))?;
            self.said.push(said);
        }
        self.read += whole as u64;
        Ok(())
    }

    /// The last that it said of a number.
    pub fn last<T>(&self, of: impl Fn(&Said) -> Option<T>) -> Option<T> {
        self.said.iter().rev().find_map(of)
    }

    /// Workers that it has let go so far.
    pub fn scale_downs(&self) -> u64 {
        self.said.iter().filter(|said| said.event == "draining").count() as u64
    }

    /// Worker-seconds paid so far.
    pub fn paid_seconds(&self) -> f64 {
        self.last(|said| said.paid_ms).unwrap_or(0) as f64 / 1e3
    }

    /// Waits until no worker is left.
    pub async fn wait_for_zero(&mut self, limit: Duration) -> anyhow::Result<f64> {
        let began = Instant::now();
        loop {
            self.look()?;
            let left = self.last(|said| Some(said.live? + said.starting? + said.draining?));
            if left == Some(0) {
                return Ok(began.elapsed().as_secs_f64());
            }
            ensure!(began.elapsed() < limit, "the pool doesn't scale to zero within {limit:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends it and its workers in order, and reads its last words.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        self.process.end().await?;
        self.look()
    }
}
