//! `registry …`, `promote`, `rollback`: what changes registered models, looks into their history, or looks after it.

mod care;
mod change;
mod lineage;
mod log;

use gristmill_protocol::Timestamp;
use gristmill_registry::{Act, Acting, VersionRef};
use serde_json::{Value, json};

pub use change::{promote, rollback};

use crate::cli::{RegistryArgs, RegistryCommand};
use crate::home::Home;
use crate::problem::Exit;
use crate::settings::Settings;

/// `gristmill registry …`.
pub async fn registry(settings: &Settings, args: RegistryArgs) -> anyhow::Result<Exit> {
    match args.command {
        RegistryCommand::Lineage { of, json } => lineage::lineage(settings, &of, json).await,
        RegistryCommand::Log { name, after, limit, json } => log::log(settings, &name, after, limit, json).await,
        RegistryCommand::Alias { command } => change::alias(settings, command).await,
        RegistryCommand::Tag { of, tag, why } => change::tag(settings, &of, &tag, &why).await,
        RegistryCommand::Describe { of, text } => change::describe(settings, &of, &text).await,
        RegistryCommand::Rename { name, to, why } => change::rename(settings, &name, &to, &why).await,
        RegistryCommand::Sign { of } => change::sign(settings, &of).await,
        RegistryCommand::Delete { of, keep_days, why } => change::delete(settings, &of, keep_days, &why).await,
        RegistryCommand::Purge { json } => change::purge(settings, json).await,
        RegistryCommand::Erase { subject, digests, json } => change::erase(settings, &subject, &digests, json).await,
        RegistryCommand::Verify { read_artifacts, json } => care::verify(settings, read_artifacts, json).await,
        RegistryCommand::Rebuild { json } => care::rebuild(settings, json).await,
        RegistryCommand::Keygen { file } => care::keygen(&file),
    }
}

/// The registry in the hands of whoever runs the program, and the time.
async fn acting<'a>(home: &'a Home, why: &str) -> anyhow::Result<(Acting<'a>, Timestamp)> {
    let at = home.state.clock().await?.now;
    let why = Some(why.to_owned()).filter(|why| !why.is_empty());
    Ok((home.registry.on_behalf(Act { by: crate::who(), why, at, ..Act::default() }), at))
}

/// A version, for programs.
fn reference_json(of: &VersionRef) -> Value {
    json!({ "name": of.name, "version": of.version })
}

fn print_json(value: &Value) {
    println!("{value:#}");
}
