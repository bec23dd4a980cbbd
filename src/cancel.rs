//! `cancel`: asks a run to stop, from beside the process that runs it.

use gristmill_protocol::message::InboxEvent;

use crate::cli::CancelArgs;
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;

/// `gristmill cancel`.
pub async fn cancel(settings: &Settings, args: CancelArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    if let Some(status) = home.state.run(run).await?.and_then(|record| record.status) {
        return Err(Problem::usage(format!("`{run}` has ended already: {}", status.as_str())).into());
    }
    home.state.post(run.shard(), InboxEvent::Cancel { run, by: crate::who() }).await?;
    println!("{run} is asked to stop");
    Ok(Exit::Success)
}
