//! The commands and their options.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gristmill_loadtest::LoadtestArgs;
use gristmill_protocol::limits::{DRAIN_MS, LABEL_BYTES_MAX};

use crate::costs::{CostArgs, CostsArgs, ListArgs, SizingArgs};
use crate::settings::SettingArgs;

mod registry;
mod serving;

pub use registry::{AliasCommand, ModelArgs, PromoteArgs, RegistryArgs, RegistryCommand, RollbackArgs};
pub use serving::{
    ApiArgs, ApiOptions, CaptureArgs, EndpointArgs, EndpointCommand, EndpointSetArgs, ServeArgs, TokenArgs,
    TokenCommand,
};

/// Machine-learning pipelines as durable, distributed work.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten, next_help_heading = "Where the parts live")]
    pub settings: SettingArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  gristmill init data/flights.csv --target late   write a first pipeline for a table
  gristmill run pipeline.yaml                     run it
  gristmill report -o report.html                 look at the last run
  gristmill promote delays 3 champion             make version 3 the champion";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a pipeline that learns to predict a column of a table.
    #[command(
        after_help = "Examples:\n  gristmill init flights.csv --target late\n  gristmill init 'data/*.parquet' --target price -o price.yaml"
    )]
    Init(InitArgs),
    /// Check a pipeline file as a whole.
    #[command(
        after_help = "Examples:\n  gristmill check pipeline.yaml\n  gristmill check pipeline.yaml --set source=other.csv --json"
    )]
    Check(CheckArgs),
    /// Run a pipeline to its end: in this process, or on the servers that are set.
    #[command(
        after_help = "Examples:\n  gristmill run pipeline.yaml\n  gristmill run pipeline.yaml --set trees=200 --no-cache\n  gristmill run pipeline.yaml --json | jq .models"
    )]
    Run(RunArgs),
    /// Go on with a run that failed, was rejected, cancelled or cut off; what succeeded isn't done again.
    #[command(after_help = "Examples:\n  gristmill resume\n  gristmill resume run-0192f0c1a2b37000a1b2c3d4e5f60718")]
    Resume(ResumeArgs),
    /// Submit a pipeline to the servers that are set, or to `gristmill up`, and print the run's id.
    #[command(
        after_help = "Examples:\n  gristmill submit pipeline.yaml\n  gristmill submit pipeline.yaml --set trees=200 --key nightly-2026-11-22\n  gristmill wait $(gristmill submit pipeline.yaml)"
    )]
    Submit(SubmitArgs),
    /// Watch a run to its end.
    Watch(WatchArgs),
    /// Wait silently until a run has ended; the exit code says how.
    #[command(after_help = "Example:\n  gristmill wait run-0192f0c1a2b37000a1b2c3d4e5f60718 --timeout 600 --json")]
    Wait(WaitArgs),
    /// Schedule: take submissions, decide, give work out. Any number may run.
    Scheduler(SchedulerArgs),
    /// Work: take tasks of some pools and do them. Any number may run.
    #[command(after_help = "Examples:\n  gristmill worker\n  gristmill worker --pools default,bigmem --slots 4")]
    Worker(WorkerArgs),
    /// Start and drain workers on this machine, as many as a pool's work needs.
    #[command(
        after_help = "Examples:\n  gristmill pool\n  gristmill pool bigmem --min 0 --max 4 --slots 2 --memory 8192 --drain-time 30\n  gristmill pool gpu --label accelerator=a100 --json\n\nThe same can stand in gristmill.toml, as `[pools.NAME]` with min, max, slots, memory, drain_time, start_up, idle\nand requires (labels that workers must have)."
    )]
    Pool(PoolArgs),
    /// A scheduler, a worker, the API and the dashboard in one process, embedded or on servers.
    #[command(after_help = "Examples:\n  gristmill up\n  gristmill up --api 127.0.0.1:5001 --serve 127.0.0.1:8080")]
    Up(UpArgs),
    /// Serve the registered models over HTTP, for the clients of Triton, KServe, MLflow, SageMaker and Vertex AI; over
    /// gRPC, by queue and of streams where that is asked for.
    #[command(
        after_help = "Examples:\n  gristmill serve\n  gristmill serve --listen 0.0.0.0:8080 --model flight-delays\n  curl http://127.0.0.1:8080/v2/models\n  curl http://127.0.0.1:8080/invocations -H 'content-type: application/json' -d '{\"dataframe_records\": [{\"distance\": 200}]}'"
    )]
    Serve(ServeArgs),
    /// Serve the API and the dashboard, and answer MLflow's clients.
    #[command(
        after_help = "Examples:\n  gristmill api\n  gristmill api --listen 0.0.0.0:5000 --tls-certificate server.pem --tls-key server.key\n  gristmill api &\n  export MLFLOW_TRACKING_URI=http://127.0.0.1:5000\n  python -c 'import mlflow; print(mlflow.search_registered_models())'"
    )]
    Api(ApiArgs),
    /// Make, list and revoke the tokens that the API lets in.
    #[command(
        after_help = "Examples:\n  gristmill token create ann --role admin\n  gristmill token list\n  gristmill token revoke 8f14e45fceea167a"
    )]
    Token(TokenArgs),
    /// Put a champion, a canary and shadows behind one name that clients ask.
    #[command(
        after_help = "Examples:\n  gristmill endpoint set delays --champion flight-delays@champion --canary flight-delays@4 --share 0.1\n  gristmill endpoint show delays"
    )]
    Endpoint(EndpointArgs),
    /// List pools: who serves them, what waits there, and what those who scale them have decided.
    Pools(ListArgs),
    /// Say how many slots and how much memory a pool's workers should have, from what tasks have used.
    #[command(after_help = "Examples:\n  gristmill sizing\n  gristmill sizing bigmem --json")]
    Sizing(SizingArgs),
    /// Say what a run has cost, by step or pool; prices are `[prices]` in the scheduler's gristmill.toml.
    #[command(
        after_help = "Examples:\n  gristmill cost\n  gristmill cost run-0192f0c1a2b37000a1b2c3d4e5f60718 --by pool"
    )]
    Cost(CostArgs),
    /// Sum up what ended runs have cost.
    #[command(after_help = "Examples:\n  gristmill costs\n  gristmill costs --since 4w --by model")]
    Costs(CostsArgs),
    /// Say how budgets stand: `[budgets.NAME]` in the scheduler's gristmill.toml.
    Budgets(ListArgs),
    /// Measure throughput, waits, scaling, scoring, and what survives a kill, on private servers.
    Loadtest(Box<LoadtestArgs>),
    /// Check every server that is set, and say what is wrong and how to mend it.
    Doctor(JsonArgs),
    /// List runs, newest first.
    Runs(RunsArgs),
    /// Show a run: its steps, what was made, what failed.
    Show(RunRef),
    /// Say why a run, or a step of it, isn't getting on, or why it ended as it did.
    Explain(RunRef),
    /// List what a run's searches have tried, while they run and after; the best first.
    Trials(RunRef),
    /// Ask a run to stop. What succeeded is kept.
    Cancel(CancelArgs),
    /// Draw a run as a waterfall.
    Trace(RunRef),
    /// Write a run's report as one HTML file.
    #[command(
        after_help = "Examples:\n  gristmill report\n  gristmill report run-0192f0c1a2b37000a1b2c3d4e5f60718 -o out/report.html"
    )]
    Report(ReportArgs),
    /// List registered models.
    Models(JsonArgs),
    /// Show a registered model: versions, metrics, aliases with their history.
    Model(ModelArgs),
    /// Point an alias of a model to a version.
    #[command(after_help = "Example:\n  gristmill promote flight-delays 3 champion --why 'better on the holidays'")]
    Promote(PromoteArgs),
    /// Point an alias of a model back to where it was before.
    #[command(after_help = "Example:\n  gristmill rollback flight-delays champion --why 'complaints from JFK'")]
    Rollback(RollbackArgs),
    /// Look into the registry and after it: lineage, log, tags, aliases, signatures, deletion, erasure, copies.
    #[command(
        after_help = "Examples:\n  gristmill registry lineage flight-delays@champion\n  gristmill registry log flight-delays\n  gristmill registry tag flight-delays@3 reviewed-by=ann\n  gristmill registry verify --read-artifacts\n  gristmill registry erase case-1234 sha256:0c1f…"
    )]
    Registry(RegistryArgs),
    /// List artifacts, show one, or save one to a file.
    Artifacts(ArtifactsArgs),
    /// Print the JSON Schema of pipeline files, for editors.
    Schema,
    /// Measure this machine: the pure core, no-op tasks end to end, a chain of steps.
    #[command(
        after_help = "Examples:\n  gristmill bench core\n  gristmill bench noop --tasks 100000\n  gristmill bench chain --json"
    )]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// A file, a folder or a glob.
    pub data: String,
    /// The column to predict.
    #[arg(long, value_name = "COLUMN")]
    pub target: String,
    /// The file to write.
    #[arg(short, long, default_value = "pipeline.yaml", value_name = "FILE")]
    pub output: PathBuf,
    /// Write over the file if it is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Sets a parameter; may be given more than once.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Sets a parameter; may be given more than once.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// Do all work anew, whatever was done before.
    #[arg(long)]
    pub no_cache: bool,
    #[command(flatten)]
    pub how: HowArgs,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run; the newest one when left out.
    pub run: Option<String>,
    #[command(flatten)]
    pub how: HowArgs,
}

/// How a run is run here.
#[derive(Clone, Debug, Args)]
pub struct HowArgs {
    /// End with one JSON object on standard output; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Tasks that run at a time. Default: the machine's cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// Memory that one task may plan with, in MiB. Default: half of the machine's.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    pub memory: Option<u64>,
    /// Flush every decision to the disk before it counts: survives a power cut, not only a killed process.
    #[arg(long)]
    pub durable: bool,
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Sets a parameter; may be given more than once.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
    /// Do all work anew, whatever was done before.
    #[arg(long)]
    pub no_cache: bool,
    /// Submitting again under the same key within 7 days answers the same run.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Added to the priority of every step.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-100..=100))]
    pub priority: Option<i8>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The run; the newest one when left out.
    pub run: Option<String>,
    /// End with one JSON object on standard output; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The run; the newest one when left out.
    pub run: Option<String>,
    /// Give up after so many seconds; the run goes on.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SchedulerArgs {
    /// Serve metrics and health on this address, such as `127.0.0.1:9464`.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_METRICS")]
    pub metrics: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The pools that it serves, with commas between them.
    #[arg(long, value_name = "POOLS", value_delimiter = ',', default_value = "default")]
    pub pools: Vec<String>,
    /// Tasks that run at a time. Default: the machine's cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// Memory that one task may plan with, in MiB. Default: half of the machine's.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    pub memory: Option<u64>,
    /// What it is like, for pools that ask for it: `accelerator=a100`; may be given more than once.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Its machine may be taken away: the label `spot=true`.
    #[arg(long)]
    pub spot: bool,
    /// Hand everything back at once when this file appears: the notice that a spot machine is about to be taken away.
    #[arg(long, value_name = "FILE")]
    pub spot_notice: Option<PathBuf>,
    /// Seconds that what runs may take after SIGTERM before it is handed back.
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_MS / 1_000, value_parser = clap::value_parser!(u64).range(..=2_592_000))]
    pub grace: u64,
    /// Serve metrics and health on this address, such as `127.0.0.1:9465`.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_METRICS")]
    pub metrics: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct PoolArgs {
    /// The pool that its workers serve.
    #[arg(default_value = "default")]
    pub name: String,
    /// Workers there always are. Default: none.
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Workers there are at the most. Default: the machine's cores.
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Tasks that each worker runs at a time. Default: 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// Memory that one task of a worker may plan with, in MiB. Default: half of the machine's.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    pub memory: Option<u64>,
    /// Seconds in which what waits should be worked off. Default: 60.
    #[arg(long, value_name = "SECONDS")]
    pub drain_time: Option<f64>,
    /// Seconds that a worker takes to start. Default: 1, and then what is measured.
    #[arg(long, value_name = "SECONDS")]
    pub start_up: Option<f64>,
    /// Seconds that a worker is kept though it isn't needed. Default: a quarter of what one takes to start, at which
    /// starting again and idling together cost least in simulated loads.
    #[arg(long, value_name = "SECONDS")]
    pub idle: Option<f64>,
    /// What its workers are like, as for `gristmill worker`.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The machine may be taken away: the label `spot=true`.
    #[arg(long)]
    pub spot: bool,
    /// Hand everything back at once when this file appears.
    #[arg(long, value_name = "FILE")]
    pub spot_notice: Option<PathBuf>,
    /// Serve metrics on this address, such as `127.0.0.1:9466`.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Print one JSON object a line on standard output for each decision and each worker that starts or ends.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// The address of the API and the dashboard. Default: 127.0.0.1:5000, unless that is taken.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_API_LISTEN")]
    pub api: Option<SocketAddr>,
    /// Serve neither API nor dashboard.
    #[arg(long, conflicts_with = "api")]
    pub no_api: bool,
    #[command(flatten)]
    pub options: ApiOptions,
    /// Serve the registered models too, over HTTP at this address, as `gristmill serve` does.
    #[arg(long, value_name = "ADDRESS")]
    pub serve: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// How many to list.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunRef {
    /// The run; the newest one when left out.
    pub run: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The run; the newest one when left out.
    pub run: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run; the newest one when left out.
    pub run: Option<String>,
    /// The file to write.
    #[arg(short, long, default_value = "report.html", value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ArtifactsArgs {
    /// The artifact to show: its digest, or the first digits of it. All are listed when left out.
    pub digest: Option<String>,
    /// Save it to this file.
    #[arg(short, long, value_name = "FILE", requires = "digest")]
    pub output: Option<PathBuf>,
    /// How many to list.
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    pub scenario: Scenario,
    /// Tasks, or steps of the chain. Default: 1,000,000 (core), 100,000 (noop), 1,000 (chain).
    #[arg(long, value_name = "N")]
    pub tasks: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The pure core: events per second, bytes of state a task, cost per task from 1,000 tasks to many.
    Core,
    /// No-op tasks through the embedded stores: tasks per second with a durable journal.
    Noop,
    /// A chain of no-op steps: the time from one step's end to the next one's start.
    Chain,
}

fn label(text: &str) -> Result<(String, String), String> {
    let allowed = |part: &str| !part.is_empty() && part.len() <= LABEL_BYTES_MAX && !part.contains(['=', ',', ' ']);
    match text.split_once('=') {
        Some((key, value)) if allowed(key) && allowed(value) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("write it as `key=value`, each of up to {LABEL_BYTES_MAX} letters without blanks")),
    }
}

/// Labels as they were given, and what is said of the machine.
pub fn labels(given: &[(String, String)], spot: bool) -> BTreeMap<String, String> {
    let spot = spot.then(|| ("spot".to_owned(), "true".to_owned()));
    given.iter().cloned().chain(spot).collect()
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as `name=value`".to_owned()),
    }
}
