//! Mixed: machine learning from files to scores, on the servers and with real workers: ingest, split, train a logistic
//! regression and a random forest, validate both, score everything.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::Place;
use crate::cluster::{Process, Program};
use crate::live::{Live, Now};
use crate::outcome::{Found, median};

/// No round takes longer on any machine that can be measured on.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// The memory of the workers is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct MixedArgs {
    /// Folder with the flights' files.
    #[arg(long, value_name = "FOLDER", default_value = "examples/flight-delays/data")]
    pub data: PathBuf,
    /// The figures are medians of so many rounds, each without what the ones before have cached.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub rounds: u32,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Tasks that a worker runs at a time.
    #[arg(long, default_value_t = 1)]
    pub slots: usize,
    /// Trees of the forest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub trees: u32,
}

/// Seconds of the whole pipeline, and the most memory that all processes had together.
pub async fn mixed(program: &Program, place: &Place, args: &MixedArgs) -> anyhow::Result<Found> {
    let data = args.data.canonicalize();
    let data = data.with_context(|| format!("there is no `{}`; name the folder with `--data`", args.data.display()))?;
    let live = &place.live;
    let state = program.servers.state().await?;
    let file = place.folder.join("mixed.yaml");
    let scores = place.folder.join("scores.parquet");
    std::fs::write(&file, pipeline(&data, &scores, args.trees)).context("failed to write the pipeline")?;
    live.phase("starting the cluster");
    let mut processes = program.cluster(&state, 1, args.workers, args.slots).await?;
    let (mut found, mut seconds, mut peaks) = (Found::default(), Vec::new(), Vec::new());
    let mut rows = 0;
    for round in 1..=args.rounds {
        live.phase(&format!("round {round} of {}", args.rounds));
        let (took, peak, said) = one_round(program, live, &file, &processes).await?;
        ensure!(said["status"] == "succeeded", "the pipeline ended as {}: {said}", said["status"]);
        if round == 1 {
            told_steps(&mut found, &said);
            rows = said["steps"]["flights"]["rows"].as_u64().unwrap_or(0);
        }
        seconds.push(took);
        peaks.push(peak.1 as f64);
        found.series(&format!("memory of all processes, round {round}"), "bytes", "s", peak.0);
    }
    for process in &mut processes {
        process.end().await?;
    }
    let total = median(&seconds);
    let mut all = Found::default();
    all.lower("mixed_seconds", total, "s").rounds(&seconds);
    all.lower("peak_resident_bytes", median(&peaks), "bytes").rounds(&peaks);
    all.higher("rows_per_second", rows as f64 / total, "1/s");
    all.figures.extend(found.figures);
    all.series = found.series;
    Ok(all)
}

fn pipeline(data: &Path, scores: &Path, trees: u32) -> String {
    // A path in double quotes is YAML as JSON is.
    let quoted = |path: &Path| Value::String(path.display().to_string());
    let (source, output) = (quoted(data), quoted(scores));
    format!(
        "name: mixed
steps:
  flights: {{ ingest: {{ source: {source} }} }}
  trips:
    transform:
      sql: >
        select month, hour, carrier, origin, dest, distance, dep_delay, arr_delay > 15 as late
        from flights where arr_delay is not null
  parts: {{ split: {{ input: trips, test: 0.2, stratify: late, seed: 7 }} }}
  linear:
    train:
      input: parts.train
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier, origin] }}
      algorithm: {{ logistic_regression: {{}} }}
  forest:
    train:
      input: parts.train
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier, origin] }}
      algorithm: {{ random_forest: {{ trees: {trees}, max_depth: 12 }} }}
  linear_quality: {{ validate: {{ model: linear, input: parts.test }} }}
  forest_quality: {{ validate: {{ model: forest, input: parts.test }} }}
  scores: {{ score: {{ model: forest, input: trips, output: {output} }} }}
"
    )
}

/// Runs the pipeline once, as its user does; its seconds, the memory over time and at most, and what the program said.
async fn one_round(
    program: &Program,
    live: &Live,
    file: &Path,
    processes: &[Process],
) -> anyhow::Result<(f64, (Vec<(f64, f64)>, u64), Value)> {
    let began = Instant::now();
    let running = Command::new(&program.binary)
        .args(["run", "--json", "--no-cache"])
        .arg(file)
        .envs(program.servers.environment().iter().cloned())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let running = tokio::time::timeout(PATIENCE, running);
    tokio::pin!(running);
    let (mut memory, mut peak) = (Vec::new(), 0);
    loop {
        tokio::select! {
            ended = &mut running => {
                let output = ended.context("the pipeline takes too long")?.context("failed to start the program")?;
                let said = serde_json::from_slice(&output.stdout);
                let said: Value = said.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
                let seconds = said["seconds"].as_f64().unwrap_or_else(|| began.elapsed().as_secs_f64());
                return Ok((seconds, (memory, peak), said));
            }
            () = tokio::time::sleep(LOOK_EVERY) => {
                let all = processes.iter().filter_map(Process::resident_bytes).sum::<u64>();
                peak = peak.max(all);
                memory.push((began.elapsed().as_secs_f64(), all as f64));
                let more = crate::text::bytes(all as f64);
                live.show(&Now { seconds: None, more, ..Now::default() });
            }
        }
    }
}

fn told_steps(found: &mut Found, said: &Value) {
    for (name, step) in said["steps"].as_object().into_iter().flatten() {
        if let Some(seconds) = step["seconds"].as_f64() {
            found.lower(&format!("step_{name}_seconds"), seconds, "s");
        }
    }
}
