//! What can be asked for.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::bursts::BurstsArgs;
use crate::scenario::chain::ChainArgs;
use crate::scenario::chaos::ChaosArgs;
use crate::scenario::fan_out::FanOutArgs;
use crate::scenario::mixed::MixedArgs;
use crate::scenario::recovery::RecoveryArgs;
use crate::scenario::scaling::ScalingArgs;
use crate::scenario::soak::SoakArgs;
use crate::scenario::throughput::ThroughputArgs;
use crate::scenario::upgrade::UpgradeArgs;
use crate::scoring::ScoringArgs;

/// `gristmill loadtest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gristmill loadtest throughput --report throughput.html
  gristmill loadtest chain -o chain.json
  gristmill loadtest chain --compare chain.json --fail-on-worse 10
  gristmill loadtest bursts --shape burst --scale-downs 200
  gristmill loadtest soak --minutes 30 --json
  gristmill loadtest scaling --part rules --workers 200")]
pub struct LoadtestArgs {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// What all scenarios share.
#[derive(Debug, Args)]
pub struct Options {
    /// The program to test. Default: this one.
    #[arg(long, global = true, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Test on the servers that are set (GRISTMILL_STATE, GRISTMILL_BROKER, GRISTMILL_ARTIFACTS). Default: private ones
    /// are started, and stopped afterwards.
    #[arg(long, global = true)]
    pub use_servers: bool,
    /// Folder for servers, data and logs. Default: a temporary one, which is kept when something fails.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Write the result to this file, to compare later ones with.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write a report as one HTML file.
    #[arg(long, global = true, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Compare with an earlier result.
    #[arg(long, global = true, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Exit with 1 when a figure got worse, beyond noise, by more than so many per cent.
    #[arg(long, global = true, value_name = "PERCENT", requires = "compare")]
    pub fail_on_worse: Option<f64>,
    /// Don't show how it is getting on.
    #[arg(long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Tasks a second: no-op tasks, submitted and waited for.
    Throughput(ThroughputArgs),
    /// The wait between two steps: a chain of no-op steps; also from a submission, and from a worker's start.
    Chain(ChainArgs),
    /// One step that grows into thousands of tasks, and one that waits for them all.
    FanOut(FanOutArgs),
    /// Machine learning: the pipeline of the flights' delays, from files to scores.
    Mixed(MixedArgs),
    /// Loads that come and go on a pool that scales itself: what is paid, who waits, what an all-knowing one would pay.
    Bursts(BurstsArgs),
    /// Online scoring at rates that rise until it is too slow; latency counts from when a request was due.
    Scoring(ScoringArgs),
    /// Kill, stop, cut and fill everything under a mixed load, then count what was lost.
    Chaos(ChaosArgs),
    /// Time until work goes on after a death; fairness between a small and a large run.
    Recovery(RecoveryArgs),
    /// Half of what the cluster can do, for long: does anything grow?
    Soak(SoakArgs),
    /// Two programs, old and new, side by side under load, replaced one process at a time, there and back.
    Upgrade(UpgradeArgs),
    /// Scaling past this machine, simulated with the real core and policy: a thousand workers under four loads beside KEDA's
    /// rule, growth to a million tasks, ten thousand workers, a day of a hundred thousand runs.
    Scaling(ScalingArgs),
}

impl Scenario {
    /// Its name, as it is written in a command.
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::Throughput(_) => "throughput",
            Scenario::Chain(_) => "chain",
            Scenario::FanOut(_) => "fan-out",
            Scenario::Mixed(_) => "mixed",
            Scenario::Bursts(_) => "bursts",
            Scenario::Scoring(_) => "scoring",
            Scenario::Chaos(_) => "chaos",
            Scenario::Recovery(_) => "recovery",
            Scenario::Soak(_) => "soak",
            Scenario::Upgrade(_) => "upgrade",
            Scenario::Scaling(_) => "scaling",
        }
    }

    /// Whether it runs on RabbitMQ, Redis and S3.
    pub fn needs_servers(&self) -> bool {
        !matches!(self, Scenario::Scoring(_) | Scenario::Scaling(_))
    }

    /// Whether it kills servers, or looks into their folders.
    pub fn breaks_servers(&self) -> bool {
        matches!(self, Scenario::Chaos(_) | Scenario::Recovery(_) | Scenario::Soak(_))
    }

    /// What it was run with, as it stands in the result.
    pub fn settings(&self) -> anyhow::Result<Map<String, Value>> {
        let value = match self {
            Scenario::Throughput(args) => serde_json::to_value(args),
            Scenario::Chain(args) => serde_json::to_value(args),
            Scenario::FanOut(args) => serde_json::to_value(args),
            Scenario::Mixed(args) => serde_json::to_value(args),
            Scenario::Bursts(args) => serde_json::to_value(args),
            Scenario::Scoring(args) => serde_json::to_value(args),
            Scenario::Chaos(args) => serde_json::to_value(args),
            Scenario::Recovery(args) => serde_json::to_value(args),
            Scenario::Soak(args) => serde_json::to_value(args),
            Scenario::Upgrade(args) => serde_json::to_value(args),
            Scenario::Scaling(args) => serde_json::to_value(args),
        };
        match value.context("the settings can't be written as JSON")? {
            Value::Object(settings) => Ok(settings),
            other => anyhow::bail!("the settings are no object: {other}"),
        }
    }
}
