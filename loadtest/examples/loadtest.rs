//! The load tests without the program around them, for work on them: `cargo run --release -p gristmill-loadtest --example
//! loadtest -- --binary target/release/gristmill throughput`.

use std::process::ExitCode;

use clap::Parser;
use gristmill_loadtest::{LoadtestArgs, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    loadtest: LoadtestArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Cli::parse().loadtest).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
