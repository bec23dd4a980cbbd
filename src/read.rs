//! The reading commands: they open the home beside whoever owns it, and print.

use std::io::IsTerminal;
use std::path::Path;

use gristmill_protocol::{RunId, Timestamp};
use gristmill_scheduler::history::History;

use crate::cli::{ArtifactsArgs, JsonArgs, ModelArgs, ReportArgs, RunRef, RunsArgs};
use crate::home::Home;
use crate::problem::Exit;
use crate::{artifacts, explain, models, report, show, text, trace};

/// Columns of a waterfall that isn't drawn on a terminal.
const WIDTH_DEFAULT: usize = 100;

/// What is printed when a run has ended: JSON for programs, else what was made and what to type next.
pub async fn print_end(home: &Home, history: &History, json: bool) -> anyhow::Result<()> {
    let now = now(home).await?;
    if json {
        println!("{:#}", show::summary_json(history, now));
    } else {
        print!("{}", show::end_text(history, now));
    }
    Ok(())
}

/// `gristmill runs`.
pub async fn runs(folder: &Path, args: RunsArgs) -> anyhow::Result<Exit> {
    let home = Home::read(folder)?;
    let records = home.state.runs(None, args.limit).await?;
    match args.json {
        true => println!("{:#}", show::runs_json(&records)),
        false => print!("{}", show::runs_text(&records, now(&home).await?)),
    }
    Ok(Exit::Success)
}

/// `gristmill show`.
pub async fn show(folder: &Path, args: RunRef) -> anyhow::Result<Exit> {
    let (home, history) = history(folder, args.run.as_deref()).await?;
    let now = now(&home).await?;
    match args.json {
        true => println!("{:#}", show::summary_json(&history, now)),
        false => print!("{}", show::show_text(&history, now)),
    }
    Ok(Exit::Success)
}

/// `gristmill explain`.
pub async fn explain(folder: &Path, args: RunRef) -> anyhow::Result<Exit> {
    let home = Home::read(folder)?;
    let run = home.find_run(args.run.as_deref()).await?;
    let workers = home.state.workers().await?;
    let explanation = explain::explain(&*home.state, run, &workers, now(&home).await?).await?;
    match args.json {
        true => println!("{:#}", explanation.to_json()),
        false => print!("{}", explanation.to_text()),
    }
    Ok(Exit::Success)
}

/// `gristmill trace`.
pub async fn trace(folder: &Path, args: RunRef) -> anyhow::Result<Exit> {
    let (home, history) = history(folder, args.run.as_deref()).await?;
    let now = now(&home).await?;
    match args.json {
        true => println!("{:#}", trace::trace_json(&history, now)),
        false => print!("{}", trace::trace_text(&history, now, width())),
    }
    Ok(Exit::Success)
}

/// `gristmill report`.
pub async fn report(folder: &Path, args: ReportArgs) -> anyhow::Result<Exit> {
    let (home, history) = history(folder, args.run.as_deref()).await?;
    let bytes = report::write(&history, &*home.artifacts, &args.output).await?;
    println!("{} tells of {}, {}", args.output.display(), history.run, text::bytes(bytes));
    Ok(Exit::Success)
}

/// `gristmill models`.
pub async fn models(folder: &Path, args: JsonArgs) -> anyhow::Result<Exit> {
    let home = Home::read(folder)?;
    let models = models::all(&home.registry).await?;
    match args.json {
        true => println!("{:#}", models::models_json(&models)),
        false => print!("{}", models::models_text(&models, now(&home).await?)),
    }
    Ok(Exit::Success)
}

/// `gristmill model`.
pub async fn model(folder: &Path, args: ModelArgs) -> anyhow::Result<Exit> {
    let home = Home::read(folder)?;
    let model = home.registry.model(&args.name).await?;
    match args.json {
        true => println!("{:#}", models::model_json(&model)),
        false => print!("{}", models::model_text(&model, now(&home).await?)),
    }
    Ok(Exit::Success)
}

/// `gristmill artifacts`.
pub async fn artifacts(folder: &Path, args: ArtifactsArgs) -> anyhow::Result<Exit> {
    let home = Home::read(folder)?;
    let Some(wanted) = args.digest else {
        let (listed, more) = artifacts::list(&*home.artifacts, args.limit).await?;
        match args.json {
            true => println!("{:#}", artifacts::list_json(&listed)),
            false => print!("{}", artifacts::list_text(&listed, more)),
        }
        return Ok(Exit::Success);
    };
    let digest = artifacts::find(&*home.artifacts, &wanted).await?;
    if let Some(path) = args.output {
        let bytes = artifacts::save(&*home.artifacts, digest, &path).await?;
        println!("{} holds {digest}, {}", path.display(), text::bytes(bytes));
        return Ok(Exit::Success);
    }
    let shown = artifacts::show(&*home.artifacts, digest).await?;
    match args.json {
        true => println!("{:#}", shown.to_json()?),
        false => print!("{}", shown.to_text()?),
    }
    Ok(Exit::Success)
}

async fn history(folder: &Path, run: Option<&str>) -> anyhow::Result<(Home, History)> {
    let home = Home::read(folder)?;
    let run: RunId = home.find_run(run).await?;
    let history = History::read(&*home.state, run).await?;
    Ok((home, history))
}

async fn now(home: &Home) -> anyhow::Result<Timestamp> {
    Ok(home.state.clock().await?.now)
}

/// Columns of the terminal, or a width that suits files and mails.
fn width() -> usize {
    let columns = std::io::stdout().is_terminal().then(|| console::Term::stdout().size_checked()).flatten();
    columns.map_or(WIDTH_DEFAULT, |(_, columns)| usize::from(columns))
}
