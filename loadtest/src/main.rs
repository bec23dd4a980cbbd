//! `gristmill-loadtest`: load, chaos and speed, on private servers and with real processes.
//!
//! ```text
//! cluster.rs   servers and processes that are started, stopped and killed
//! load.rs      what is submitted
//! check.rs     reads journals and counts what must not be
//! chaos.rs     everything that can be killed is
//! speed.rs     throughput and waits, beside the raw limits of the same servers
//! recovery.rs  how long until work goes on; whether a small run waits behind a large one
//! ```

mod chaos;
mod check;
mod cluster;
mod load;
mod recovery;
mod speed;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::cluster::{Program, Servers};

/// Load, chaos and speed scenarios of gristmill.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gristmill-loadtest chaos --tasks 20000
  gristmill-loadtest speed
  gristmill-loadtest recovery --rounds 20")]
struct Cli {
    /// The program to test.
    #[arg(long, default_value = "target/release/gristmill", value_name = "FILE")]
    binary: PathBuf,
    /// The script that starts servers.
    #[arg(long, default_value = "deploy/local/servers", value_name = "FILE")]
    servers: PathBuf,
    /// Folder for the servers and logs of this test.
    #[arg(long, default_value = "target/loadtest", value_name = "FOLDER")]
    folder: PathBuf,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Kill, stop, cut and fill everything under a mixed load, then count what was lost.
    Chaos(chaos::ChaosArgs),
    /// Throughput, fan-out, chain and start, beside the raw limits of the same servers.
    Speed(speed::SpeedArgs),
    /// Time until work goes on after a death; fairness between a small and a large run.
    Recovery(recovery::RecoveryArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario and prints its figures; says whether it passed.
async fn run(cli: &Cli) -> anyhow::Result<bool> {
    let binary = cli.binary.canonicalize().with_context(|| format!("there is no `{}`", cli.binary.display()))?;
    let script = cli.servers.canonicalize().with_context(|| format!("there is no `{}`", cli.servers.display()))?;
    std::fs::create_dir_all(&cli.folder).with_context(|| format!("failed to make `{}`", cli.folder.display()))?;
    let folder = cli.folder.canonicalize().context("failed to find the folder")?;
    let servers = Servers::start(&script, &folder.join("servers")).await?;
    let program = Program { binary, servers: servers.clone(), logs: chaos::logs(&folder)? };
    let figures = match &cli.scenario {
        Scenario::Chaos(args) => chaos::chaos(&program, args).await,
        Scenario::Speed(args) => speed::speed(&program, args).await,
        Scenario::Recovery(args) => recovery::recovery(&program, args).await,
    };
    servers.stop_all().await?;
    let figures = figures?;
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(figures.get("passed").and_then(serde_json::Value::as_bool).unwrap_or(true))
}
