//! `cancel`, `promote`, `rollback`: commands that change what is there, from beside the process that runs.

use gristmill_protocol::message::InboxEvent;

use crate::cli::{CancelArgs, PromoteArgs, RollbackArgs};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;

/// Who does it, for the audit.
pub fn who() -> String {
    std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned())
}

/// `gristmill cancel`.
pub async fn cancel(settings: &Settings, args: CancelArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    if let Some(status) = home.state.run(run).await?.and_then(|record| record.status) {
        return Err(Problem::usage(format!("`{run}` has ended already: {}", status.as_str())).into());
    }
    home.state.post(run.shard(), InboxEvent::Cancel { run, by: who() }).await?;
    println!("{run} is asked to stop");
    Ok(Exit::Success)
}

/// `gristmill promote`.
pub async fn promote(settings: &Settings, args: PromoteArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    if !gristmill_protocol::pipeline::names::is_name(&args.alias) {
        let text = format!("`{}` can't be an alias", args.alias);
        return Err(Problem::usage(text).hint("use lower-case letters, digits, `-` and `_`, a letter first").into());
    }
    let now = home.state.clock().await?.now;
    home.registry.promote(&args.name, args.version, &args.alias, &who(), &args.why, now).await?;
    println!("{}@{} is version {}", args.name, args.alias, args.version);
    Ok(Exit::Success)
}

/// `gristmill rollback`.
pub async fn rollback(settings: &Settings, args: RollbackArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let now = home.state.clock().await?.now;
    let moved = home.registry.rollback(&args.name, &args.alias, &who(), &args.why, now).await?;
    let from = moved.from.map(|from| format!(", not {from} any more")).unwrap_or_default();
    println!("{}@{} is version {}{from}", args.name, args.alias, moved.to);
    Ok(Exit::Success)
}
