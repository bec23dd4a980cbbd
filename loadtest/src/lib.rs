//! `gristmill loadtest`: loads with real processes and real servers, measured beside the raw limits of the machine.
//!
//! ```text
//! args.rs       what can be asked for
//! servers.rs    RabbitMQ, Redis and S3: private ones, or those that are set
//! cluster.rs    schedulers and workers that are started, stopped and killed
//! load.rs       what is submitted
//! progress.rs   a run as it goes on
//! check.rs      reads one journal and counts what must not be; verdict.rs adds up
//! raw.rs        what the servers do at most
//! scenario/     one file a scenario
//! bursts/       loads that come and go, for pools that scale
//! scoring/      online scoring, open loop
//! outcome.rs    what was found, as it stands in a file
//! compare.rs    two results beside each other
//! page/         a result as HTML
//! live.rs       what is going on, while it is
//! histogram.rs, slope.rs   how values spread; whether something grows
//! ```
//!
//! Scaling past this machine is simulated by the crate `gristmill-scaling` (`loadtest/scaling`).

mod args;
mod bursts;
mod check;
mod cluster;
mod compare;
mod histogram;
mod live;
mod load;
mod machine;
mod outcome;
mod page;
mod progress;
mod raw;
mod scenario;
mod scoring;
mod servers;
mod slope;
mod text;
mod verdict;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

pub use crate::args::{LoadtestArgs, Scenario};
use crate::cluster::Program;
use crate::compare::Comparison;
use crate::live::Live;
use crate::outcome::{Found, Outcome, SCHEMA};
use crate::servers::Servers;

/// What a scenario runs in.
pub(crate) struct Place {
    /// The program under test.
    pub binary: PathBuf,
    pub folder: PathBuf,
    pub logs: PathBuf,
    pub live: Live,
}

/// Runs a scenario, shows and writes what it found. Whether it passed, and got no worse than was allowed.
///
/// # Errors
///
/// When the servers or the program don't start, something isn't as the scenario needs it, or a file can't be read or
/// written.
pub async fn run(args: &LoadtestArgs) -> anyhow::Result<bool> {
    let options = &args.options;
    // What can't be read is said before a long test, not after it.
    let earlier = options.compare.as_deref().map(read).transpose()?;
    let binary = match &options.binary {
        Some(binary) => binary.canonicalize().with_context(|| format!("there is no `{}`", binary.display()))?,
        None => std::env::current_exe().context("failed to find this program")?,
    };
    let temporary = match &options.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
            None
        }
        None => {
            Some(tempfile::Builder::new().prefix("gristmill-loadtest-").tempdir().context("failed to make a folder")?)
        }
    };
    let folder = options.folder.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path));
    let folder = folder.context("there is no folder")?.canonicalize().context("failed to find the folder")?;
    let logs = folder.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("failed to make `{}`", logs.display()))?;
    let place = Place { binary, folder, logs, live: Live::new(options.quiet) };
    let ran = in_place(args, &place).await;
    place.live.end();
    let outcome = match ran {
        Ok(outcome) => outcome,
        Err(error) => {
            let kept = temporary.map_or_else(|| place.folder.clone(), tempfile::TempDir::keep);
            return Err(
                error.context(format!("the load test failed; its logs are in `{}`", kept.join("logs").display()))
            );
        }
    };
    let comparison = earlier.map(|earlier| compare::compare(&earlier, &outcome)).transpose()?;
    if let (Some(false), Some(temporary)) = (outcome.found.passed, temporary) {
        place.live.say(&format!("logs: {}", temporary.keep().join("logs").display()));
    }
    tell(args, &outcome, comparison.as_ref())?;
    let got_worse = match (&comparison, options.fail_on_worse) {
        (Some(comparison), Some(percent)) => !comparison.worse_by(percent).is_empty(),
        _ => false,
    };
    Ok(outcome.found.passed != Some(false) && !got_worse)
}

/// Starts what the scenario needs, runs it, and stops everything whatever came of it.
async fn in_place(args: &LoadtestArgs, place: &Place) -> anyhow::Result<Outcome> {
    let servers = match (args.scenario.needs_servers(), args.options.use_servers) {
        (false, _) => None,
        (true, true) => {
            anyhow::ensure!(!args.scenario.breaks_servers(), "this scenario kills servers: it needs private ones");
            Some(Servers::set()?)
        }
        (true, false) => {
            place.live.phase("starting servers");
            Some(Servers::start(&place.folder.join("servers")).await?)
        }
    };
    let (began, started_ms) = (Instant::now(), load::wall_clock().0);
    let working = async {
        let versions = machine::versions(&place.binary, servers.as_ref()).await;
        Ok::<_, anyhow::Error>((versions, perform(&args.scenario, place, servers.as_ref()).await?))
    };
    // Ended by hand, the servers must not stay behind.
    let worked = tokio::select! {
        worked = working => worked,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("it was interrupted")),
    };
    if let Some(servers) = &servers {
        servers.stop_all().await?;
    }
    let (versions, found) = worked?;
    Ok(Outcome {
        schema: SCHEMA,
        system: "gristmill".to_owned(),
        scenario: args.scenario.name().to_owned(),
        started_ms,
        seconds: began.elapsed().as_secs_f64(),
        machine: machine::machine(),
        versions,
        settings: args.scenario.settings()?,
        found,
    })
}

async fn perform(asked: &Scenario, place: &Place, servers: Option<&Servers>) -> anyhow::Result<Found> {
    let program = || {
        let servers = servers.context("the scenario needs servers")?.clone();
        anyhow::Ok(Program { binary: place.binary.clone(), servers, logs: place.logs.clone() })
    };
    let live = &place.live;
    match asked {
        Scenario::Throughput(args) => scenario::throughput::throughput(&program()?, live, args).await,
        Scenario::Chain(args) => scenario::chain::chain(&program()?, live, args).await,
        Scenario::FanOut(args) => scenario::fan_out::fan_out(&program()?, live, args).await,
        Scenario::Mixed(args) => scenario::mixed::mixed(&program()?, place, args).await,
        Scenario::Bursts(args) => bursts::bursts(&program()?, place, args).await,
        Scenario::Scoring(args) => scoring::scoring(place, args).await,
        Scenario::Chaos(args) => scenario::chaos::chaos(&program()?, live, args).await,
        Scenario::Recovery(args) => scenario::recovery::recovery(&program()?, live, args).await,
        Scenario::Soak(args) => scenario::soak::soak(&program()?, place, args).await,
        Scenario::Upgrade(args) => scenario::upgrade::upgrade(&program()?, live, args).await,
        // It computes for minutes: nothing else of this runtime waits for it.
        Scenario::Scaling(args) => Ok(tokio::task::block_in_place(|| scenario::scaling::scaling(live, args))),
    }
}

/// Writes the files that were asked for, and shows the figures.
fn tell(args: &LoadtestArgs, outcome: &Outcome, comparison: Option<&Comparison>) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(outcome).context("the result can't be written as JSON")?;
    if let Some(path) = &args.options.output {
        write(path, &json)?;
    }
    if let Some(path) = &args.options.report {
        write(path, &page::page(outcome, comparison))?;
    }
    let mut shown = if args.options.json { format!("{json}\n") } else { summary(outcome) };
    if let Some(comparison) = comparison {
        // The result alone is for programs to read.
        if args.options.json {
            eprint!("{}", comparison.table());
        } else {
            shown.push_str(&format!("\n{}", comparison.table()));
        }
    }
    match std::io::stdout().lock().write_all(shown.as_bytes()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("failed to write the result"),
    }
}

/// The figures as a table of a terminal.
fn summary(outcome: &Outcome) -> String {
    let figures = &outcome.found.figures;
    let shown: Vec<String> = figures.iter().map(|figure| text::with_unit(figure.value, &figure.unit)).collect();
    let name_width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
    let value_width = shown.iter().map(|value| value.chars().count()).max().unwrap_or(0);
    let mut lines = String::new();
    for (figure, value) in figures.iter().zip(&shown) {
        let limit = figure.limit.as_ref().map(|limit| {
            let times = figure.value / limit.value;
            format!("  {} {} ({times:.2} ×)", limit.name, text::with_unit(limit.value, &figure.unit))
        });
        let line = format!("{:<name_width$}  {value:>value_width$}{}", figure.name, limit.unwrap_or_default());
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    for note in &outcome.found.notes {
        lines.push_str(&format!("note: {note}\n"));
    }
    let passed = match outcome.found.passed {
        Some(true) => "passed",
        Some(false) => "FAILED",
        None => "done",
    };
    lines.push_str(&format!("{}: {passed} in {}\n", outcome.scenario, text::clock(outcome.seconds)));
    lines
}

fn read(path: &Path) -> anyhow::Result<Outcome> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is no result of a load test", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests_support::outcome;

    #[test]
    fn a_result_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("result.json");
        let json = serde_json::to_string(&outcome("chain")).expect("JSON");
        write(&path, &json).expect("written");
        let back = read(&path).expect("a result");
        assert_eq!(serde_json::to_string(&back).expect("JSON"), json);
        assert!(
            json.contains(r#""better":"higher","limit":{"name":"rabbitmq round trips","value":21000.0}"#),
            "{json}"
        );
    }

    #[test]
    fn the_summary_tells_figures_beside_limits() {
        let summary = summary(&outcome("chain"));
        assert!(summary.contains("tasks_per_second  9,120/s  rabbitmq round trips 21,000/s (0.43 ×)"), "{summary}");
        assert!(summary.ends_with("chain: passed in 12 s\n"), "{summary}");
    }
}
