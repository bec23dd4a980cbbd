//! The `gristmill` command line: the only place that knows every crate and builds the parts from settings.
//!
//! ```text
//! cli.rs       the commands and their options
//! problem.rs   what a person is told when something goes wrong, and exit codes
//! settings.rs  where the parts live: options, environment, gristmill.toml
//! home.rs      the stores: a folder, or servers
//! cluster.rs   a scheduler and a worker in this process
//! services.rs  scheduler, worker, up: processes that run until they are told to end
//! pool.rs      as many worker processes as a pool needs; pool/ starts and drains them
//! serve.rs     the registered models online
//! api.rs       the API, the dashboard and MLflow's API on one address
//! token.rs     who may use them
//! endpoint.rs  champions, canaries, shadows
//! run.rs       run, resume: start, watch, sum up
//! submission.rs  what is submitted; submit, watch, wait
//! intake.rs    jobs submitted through a queue
//! files.rs     a caller's files, where workers don't see them
//! follow.rs    a run's progress, from its journal
//! observe.rs   logs, metrics, traces
//! costs.rs     what runs cost, budgets, pools and their sizes
//! doctor.rs    are the servers there and fit?
//! progress.rs  a line a step, redrawn on a terminal
//! cancel.rs    asks a run to stop
//! registry/    promote, rollback and all else that is done with registered models
//! init.rs      a first pipeline for a table
//! check.rs     check, schema
//! bench.rs     core, noop, chain
//! read.rs      the reading commands: open the home, ask, print
//! show.rs      runs, show: what came of a run
//! trials.rs    what searches have tried
//! trace.rs     a run as a waterfall
//! report/      a run as one HTML file
//! artifacts.rs what is in the store
//! models.rs    what is registered
//! text.rs      numbers, times and tables as people read them
//! ```

mod api;
mod artifacts;
mod bench;
mod cancel;
mod card;
mod check;
mod cli;
mod cluster;
mod costs;
mod doctor;
mod endpoint;
mod files;
mod follow;
mod home;
mod init;
mod intake;
mod measure;
mod models;
mod observe;
mod pool;
mod problem;
mod progress;
mod read;
mod registry;
mod report;
mod run;
mod serve;
mod services;
mod settings;
mod show;
mod submission;
mod text;
mod token;
mod trace;
mod trials;

#[cfg(test)]
#[path = "../scheduler/tests/support/journal.rs"]
mod journal;

use std::process::ExitCode;

use clap::Parser;
use gristmill_telemetry::Telemetry;

use crate::cli::{Cli, Command};
use crate::problem::Exit;
use crate::settings::Settings;

fn main() -> ExitCode {
    problem::end_with_reader();
    let cli = Cli::parse();
    let service = match &cli.command {
        Command::Scheduler(_) => "gristmill-scheduler",
        Command::Worker(_) => "gristmill-worker",
        Command::Pool(_) => "gristmill-pool",
        Command::Serve(_) => "gristmill-serve",
        Command::Api(_) => "gristmill-api",
        _ => "gristmill",
    };
    let telemetry = match observe::start(service, format!("{:016x}", cluster::random_bits() as u64)) {
        Ok(telemetry) => telemetry,
        Err(error) => return problem::print(&error).into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start threads: {error}");
            return Exit::Failed.into();
        }
    };
    measure::start(telemetry.metrics());
    let ended = runtime.block_on(dispatch(cli, &telemetry));
    telemetry.shutdown();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => problem::print(&error).into(),
    }
}

async fn dispatch(cli: Cli, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let settings = &Settings::load(&cli.settings)?;
    match cli.command {
        Command::Init(args) => init::init(args),
        Command::Check(args) => check::check(args),
        Command::Schema => check::schema(),
        Command::Run(args) => run::run(settings, args, telemetry).await,
        Command::Submit(args) => submission::submit(settings, args).await,
        Command::Watch(args) => submission::watch(settings, args).await,
        Command::Wait(args) => submission::wait(settings, args).await,
        Command::Scheduler(args) => services::scheduler(settings, args, telemetry).await,
        Command::Worker(args) => services::worker(settings, args, telemetry).await,
        Command::Pool(args) => pool::pool(settings, args, telemetry).await,
        Command::Up(args) => services::up(settings, args, telemetry).await,
        Command::Serve(args) => serve::serve(settings, args, telemetry).await,
        Command::Api(args) => api::api(settings, args).await,
        Command::Token(args) => token::token(settings, args).await,
        Command::Endpoint(args) => endpoint::endpoint(settings, args).await,
        Command::Registry(args) => registry::registry(settings, args).await,
        Command::Pools(args) => costs::pools(settings, args).await,
        Command::Sizing(args) => costs::sizing(settings, args).await,
        Command::Cost(args) => costs::cost(settings, args).await,
        Command::Costs(args) => costs::costs(settings, args).await,
        Command::Budgets(args) => costs::budgets(settings, args).await,
        Command::Loadtest(args) => match gristmill_loadtest::run(&args).await? {
            true => Ok(Exit::Success),
            false => Ok(Exit::Failed),
        },
        Command::Doctor(args) => doctor::doctor(settings, args).await,
        Command::Resume(args) => run::resume(settings, args, telemetry).await,
        Command::Cancel(args) => cancel::cancel(settings, args).await,
        Command::Promote(args) => registry::promote(settings, args).await,
        Command::Rollback(args) => registry::rollback(settings, args).await,
        Command::Bench(args) => bench::bench(args, telemetry).await,
        Command::Runs(args) => read::runs(settings, args).await,
        Command::Show(args) => read::show(settings, args).await,
        Command::Explain(args) => read::explain(settings, args).await,
        Command::Trials(args) => read::trials(settings, args).await,
        Command::Trace(args) => read::trace(settings, args).await,
        Command::Report(args) => read::report(settings, args).await,
        Command::Models(args) => read::models(settings, args).await,
        Command::Model(args) => read::model(settings, args).await,
        Command::Artifacts(args) => read::artifacts(settings, args).await,
    }
}

/// Who runs the program, for the audit.
fn who() -> String {
    std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned())
}
