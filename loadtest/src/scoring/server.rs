//! A model of flights' delays, registered by a small pipeline, and the real `gristmill serve` before it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::http::{Connection, Target};
use crate::Place;
use crate::load::Dice;

/// The pipeline and the server's start take seconds; only a fault can reach this.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rows of the table that is made where no data is named.
const ROWS: u64 = 4_000;
/// How often a model is asked for that isn't served yet.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// One row as a client sends it.
pub const BODY: &str =
    r#"{"dataframe_records": [{"carrier": "UA", "hour": 17, "distance": 1400.0, "dep_delay": 12.0}]}"#;

/// Registers a model under the name `late`, by a run in the place's folder.
pub async fn register(place: &Place, data: Option<&Path>) -> anyhow::Result<()> {
    let source = match data {
        Some(data) => data.canonicalize().with_context(|| format!("there is no `{}`", data.display()))?,
        None => {
            let path = place.folder.join("flights.csv");
            std::fs::write(&path, table()).context("failed to write a table")?;
            path
        }
    };
    let source = serde_json::Value::String(source.display().to_string());
    let text = format!(
        "name: late
steps:
  flights: {{ ingest: {{ source: {source} }} }}
  trips:
    transform:
      sql: >
        select carrier, hour, distance, dep_delay, arr_delay > 15 as late
        from flights where arr_delay is not null and dep_delay is not null
  model:
    train:
      input: trips
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier] }}
      algorithm: {{ logistic_regression: {{}} }}
  release: {{ register: {{ model: model, name: late, alias: champion }} }}
"
    );
    std::fs::write(place.folder.join("late.yaml"), text).context("failed to write the pipeline")?;
    let running = command(place).args(["run", "late.yaml"]).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(PATIENCE, running).await.context("the pipeline takes too long")?;
    let output = output.context("failed to start the program")?;
    ensure!(output.status.success(), "the pipeline failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Trips with the columns of the real ones, whose delay at the end follows that at the start.
fn table() -> String {
    let mut dice = Dice::new(7);
    let mut rows = "carrier,hour,distance,dep_delay,arr_delay\n".to_owned();
    for _ in 0..ROWS {
        let carrier = ["UA", "B6", "EV", "DL", "AA"][dice.below(5) as usize];
        let (hour, distance) = (5 + dice.below(18), 100 + dice.below(2_400));
        let delay = dice.below(60) as i64 - 20;
        let arrival = delay + dice.below(40) as i64 - 20;
        rows.push_str(&format!("{carrier},{hour},{distance},{delay},{arrival}\n"));
    }
    rows
}

fn command(place: &Place) -> Command {
    let mut command = Command::new(&place.binary);
    command.current_dir(&place.folder).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    // It is all in the folder, whatever the machine is set up for.
    for name in ["CONFIG", "BROKER", "STATE", "ARTIFACTS", "METRICS", "LISTEN", "GRPC", "CAPTURE"] {
        command.env_remove(format!("GRISTMILL_{name}"));
    }
    command.env("GRISTMILL_HOME", place.folder.join("home"));
    command
}

/// `gristmill serve`, ended when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    /// What it says is read on, so that the pipe doesn't fill.
    _log: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts it and waits until the model answers.
    pub async fn start(place: &Place) -> anyhow::Result<Server> {
        let mut child = command(place)
            .args(["serve", "--listen", "127.0.0.1:0", "--model", "late"])
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start the server")?;
        let stderr = child.stderr.take().context("the server says nothing")?;
        let mut lines = BufReader::new(stderr).lines();
        let address = tokio::time::timeout(PATIENCE, said_address(&mut lines)).await;
        let address = address.context("the server doesn't say where it listens")??;
        let log = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let server = Server { child, url: format!("http://{address}/invocations"), _log: log };
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    async fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        let (target, began) = (Target::new(&self.url, BODY).await?, Instant::now());
        loop {
            let answered = async { Connection::open(&target).await?.ask(&target).await }.await;
            match answered {
                Ok((200, _)) => return Ok(()),
                last if began.elapsed() > PATIENCE => {
                    let (status, body) = last.context("the model isn't served")?;
                    anyhow::bail!("the model isn't served: status {status}, {}", String::from_utf8_lossy(&body));
                }
                _ => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        crate::cluster::memory_of(self.child.id()?, "VmRSS:")
    }
}

async fn said_address(lines: &mut tokio::io::Lines<BufReader<ChildStderr>>) -> anyhow::Result<String> {
    while let Some(line) = lines.next_line().await.context("the server can't be heard")? {
        if let Some((_, rest)) = line.split_once("http://") {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:[]".contains(c))).unwrap_or(rest.len());
            return Ok(rest[..end].to_owned());
        }
    }
    anyhow::bail!("the server ended")
}
