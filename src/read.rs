//! The reading commands: they open the home beside whoever owns it, and print.

use anyhow::Context;
use gristmill_protocol::Timestamp;
use gristmill_scheduler::explain as explaining;
use gristmill_scheduler::history::History;
use serde_json::Value;
use std::io::IsTerminal;

use crate::cli::{ArtifactsArgs, JsonArgs, ModelArgs, ReportArgs, RunRef, RunsArgs};
use crate::home::Home;
use crate::problem::Exit;
use crate::settings::Settings;
use crate::{
    artifacts, card, models as model_texts, report as reporting, show as showing, trace as tracing_, trials as tried,
};

/// Columns of a screen that doesn't say how wide it is.
const WIDTH: usize = 100;

/// What is printed when a run has ended: JSON for programs, else what was made and what to type next.
pub async fn print_end(home: &Home, history: &History, json: bool) -> anyhow::Result<()> {
    let now = home.state.clock().await?.now;
    if json {
        return print_json(&showing::summary_json(history, now));
    }
    let seconds = crate::progress::human_seconds(history.seconds(now));
    println!("\n{} in {seconds}", history.status_name());
    if history.steps.iter().all(gristmill_scheduler::history::StepHistory::is_cached) {
        println!("everything is as it was: no work was done");
    }
    print!("{}{}", showing::made_text(history), showing::failures_text(history));
    if let Some(command) = showing::next_command(history) {
        println!("next: {command}");
    }
    Ok(())
}

/// `gristmill runs`.
pub async fn runs(settings: &Settings, args: RunsArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let records = home.state.runs(None, args.limit).await?;
    if args.json {
        print_json(&showing::runs_json(&records))?;
    } else {
        print!("{}", showing::runs_text(&records, home.state.clock().await?.now));
    }
    Ok(Exit::Success)
}

/// `gristmill show`.
pub async fn show(settings: &Settings, args: RunRef) -> anyhow::Result<Exit> {
    let (_, history, now) = open(settings, args.run.as_deref()).await?;
    if args.json {
        print_json(&showing::summary_json(&history, now))?;
    } else {
        print!("{}", showing::show_text(&history, now));
    }
    Ok(Exit::Success)
}

/// `gristmill explain`.
pub async fn explain(settings: &Settings, args: RunRef) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    let now = home.state.clock().await?.now;
    // A home's workers are known to the process that owns it alone; the journal says the rest.
    let workers = home.state.workers().await.ok();
    let explanation = explaining::explain(&*home.state, run, workers.as_deref(), now).await?;
    if args.json {
        print_json(&explanation.to_json())?;
    } else {
        print!("{}", explanation.to_text());
    }
    Ok(Exit::Success)
}

/// `gristmill trials`.
pub async fn trials(settings: &Settings, args: RunRef) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    let searches = tried::read(&*home.state, run).await?;
    if args.json {
        print_json(&tried::to_json(&searches)?)?;
    } else {
        print!("{}", tried::text(&searches));
    }
    Ok(Exit::Success)
}

/// `gristmill trace`.
pub async fn trace(settings: &Settings, args: RunRef) -> anyhow::Result<Exit> {
    let (_, history, now) = open(settings, args.run.as_deref()).await?;
    if args.json {
        print_json(&tracing_::trace_json(&history, now))?;
    } else {
        print!("{}", tracing_::trace_text(&history, now, width()));
    }
    Ok(Exit::Success)
}

/// `gristmill report`.
pub async fn report(settings: &Settings, args: ReportArgs) -> anyhow::Result<Exit> {
    let (home, history, _) = open(settings, args.run.as_deref()).await?;
    let bytes = reporting::write(&history, &*home.artifacts, &args.output).await?;
    println!("{} tells of {}: {}", args.output.display(), history.run, crate::text::bytes(bytes));
    Ok(Exit::Success)
}

/// `gristmill models`.
pub async fn models(settings: &Settings, args: JsonArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let all = model_texts::all(&home.registry).await?;
    if args.json {
        print_json(&model_texts::models_json(&all))?;
    } else {
        print!("{}", model_texts::models_text(&all, home.state.clock().await?.now));
    }
    Ok(Exit::Success)
}

/// `gristmill model`.
pub async fn model(settings: &Settings, args: ModelArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    if args.card {
        let card = card::read(&home.registry, &*home.artifacts, &args.name).await?;
        if args.json {
            print_json(&card.to_json())?;
        } else {
            print!("{}", card.to_markdown());
        }
        return Ok(Exit::Success);
    }
    let model = home.registry.model(&args.name).await?;
    if let Some(at) = args.at {
        let then = Timestamp(u64::try_from(at.as_millisecond()).unwrap_or_default());
        if args.json {
            print_json(&model_texts::aliases_json(&model, then))?;
        } else {
            print!("{}", model_texts::aliases_text(&model, then));
        }
        return Ok(Exit::Success);
    }
    if args.json {
        print_json(&model_texts::model_json(&model))?;
    } else {
        print!("{}", model_texts::model_text(&model, home.state.clock().await?.now));
    }
    Ok(Exit::Success)
}

/// `gristmill artifacts`.
pub async fn artifacts(settings: &Settings, args: ArtifactsArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let Some(text) = &args.digest else {
        let (listed, more) = artifacts::list(&*home.artifacts, args.limit).await?;
        if args.json {
            print_json(&artifacts::list_json(&listed))?;
        } else {
            print!("{}", artifacts::list_text(&listed, more));
        }
        return Ok(Exit::Success);
    };
    let digest = artifacts::find(&*home.artifacts, text).await?;
    if let Some(path) = &args.output {
        let bytes = artifacts::save(&*home.artifacts, digest, path).await?;
        println!("{} saved: {}", path.display(), crate::text::bytes(bytes));
        return Ok(Exit::Success);
    }
    let shown = artifacts::show(&*home.artifacts, digest).await?;
    if args.json {
        print_json(&shown.to_json()?)?;
    } else {
        print!("{}", shown.to_text()?);
    }
    Ok(Exit::Success)
}

/// The home, the run's history and the time.
async fn open(settings: &Settings, run: Option<&str>) -> anyhow::Result<(Home, History, Timestamp)> {
    let home = Home::read(settings).await?;
    let run = home.find_run(run).await?;
    let history = History::read(&*home.state, run).await?;
    let now = home.state.clock().await?.now;
    Ok((home, history, now))
}

/// Columns of the terminal, or a width that suits files and mails.
fn width() -> usize {
    let columns = std::io::stdout().is_terminal().then(|| console::Term::stdout().size_checked()).flatten();
    columns.map_or(WIDTH, |(_, columns)| usize::from(columns))
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value).context("failed to print JSON")?);
    Ok(())
}
