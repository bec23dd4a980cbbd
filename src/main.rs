//! The `gristmill` command line: the only place that knows every crate and builds the parts from settings.
//!
//! ```text
//! cli.rs       the commands and their options
//! problem.rs   what a person is told when something goes wrong, and exit codes
//! home.rs      the folder where state lives
//! cluster.rs   scheduler, worker and stores in this process
//! run.rs       run, resume: start, watch, sum up
//! progress.rs  a line a step, redrawn on a terminal
//! change.rs    cancel, promote, rollback
//! init.rs      a first pipeline for a table
//! check.rs     check, schema
//! bench.rs     core, noop, chain
//! read.rs      the reading commands: open the home, ask, print
//! show.rs      runs, show: what came of a run
//! explain.rs   why a run is where it is
//! trace.rs     a run as a waterfall
//! report/      a run as one HTML file
//! artifacts.rs what is in the store
//! models.rs    what is registered
//! text.rs      numbers, times and tables as people read them
//! ```

mod artifacts;
mod bench;
mod change;
mod check;
mod cli;
mod cluster;
mod explain;
mod home;
mod init;
mod models;
mod problem;
mod progress;
mod read;
mod report;
mod run;
mod show;
mod text;
mod trace;

#[cfg(test)]
#[path = "../scheduler/tests/support/journal.rs"]
mod journal;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::problem::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("GRISTMILL_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start threads: {error}");
            return Exit::Failed.into();
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit.into(),
        Err(error) => problem::print(&error).into(),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let home = cli.home;
    match cli.command {
        Command::Init(args) => init::init(args),
        Command::Check(args) => check::check(args),
        Command::Schema => check::schema(),
        Command::Run(args) => run::run(&home, args).await,
        Command::Resume(args) => run::resume(&home, args).await,
        Command::Cancel(args) => change::cancel(&home, args).await,
        Command::Promote(args) => change::promote(&home, args).await,
        Command::Rollback(args) => change::rollback(&home, args).await,
        Command::Bench(args) => bench::bench(args).await,
        Command::Runs(args) => read::runs(&home, args).await,
        Command::Show(args) => read::show(&home, args).await,
        Command::Explain(args) => read::explain(&home, args).await,
        Command::Trace(args) => read::trace(&home, args).await,
        Command::Report(args) => read::report(&home, args).await,
        Command::Models(args) => read::models(&home, args).await,
        Command::Model(args) => read::model(&home, args).await,
        Command::Artifacts(args) => read::artifacts(&home, args).await,
    }
}
