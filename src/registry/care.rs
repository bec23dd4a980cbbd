//! Looking after the registry itself: verify it, bring it back from its copies, make a key.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use gristmill_backends::state::embedded::Synchronous;
use gristmill_registry::{Closely, Damage, Rebuilt, Signer, Verification};
use serde_json::{Value, json};

use super::print_json;
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::text;

/// Damages that are listed; the others are in `--json`.
const DAMAGES_SHOWN: usize = 50;

/// `gristmill registry verify`.
pub async fn verify(settings: &Settings, read_artifacts: bool, json: bool) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let found = home.registry.verify(Closely { read_artifacts }).await?;
    if json {
        print_json(&verification_json(&found));
    } else {
        print!("{}", verification_text(&found));
    }
    Ok(if found.damages.is_empty() { Exit::Success } else { Exit::Failed })
}

/// `gristmill registry rebuild`.
pub async fn rebuild(settings: &Settings, json: bool) -> anyhow::Result<Exit> {
    let home = Home::own(settings, Synchronous::Full).await?;
    let rebuilt = home.registry.rebuild().await?;
    if json {
        print_json(&rebuilt_json(&rebuilt));
    } else {
        print!("{}", rebuilt_text(&rebuilt));
    }
    Ok(if rebuilt.damages.is_empty() { Exit::Success } else { Exit::Failed })
}

/// `gristmill registry keygen`.
pub fn keygen(file: &Path) -> anyhow::Result<Exit> {
    if file.exists() {
        let problem = Problem::usage(format!("`{}` is there already", file.display()));
        return Err(problem
            .hint("name a file that doesn't exist yet; a key that was written over can't be brought back")
            .into());
    }
    let signer = Signer::generate().context("failed to make a key")?;
    signer.save(file).context("failed to keep the key")?;
    eprintln!("{} has the secret key; whoever has it can sign. The public key, for those who check:", file.display());
    println!("{}", signer.public_key());
    Ok(Exit::Success)
}

fn damages_json(damages: &[Damage]) -> Value {
    let damage = |damage: &Damage| json!({ "log": damage.log, "fact": damage.fact, "what": damage.what });
    damages.iter().map(damage).collect()
}

fn damages_text(out: &mut String, damages: &[Damage]) {
    for damage in damages.iter().take(DAMAGES_SHOWN) {
        writeln!(out, "  {damage}").expect("a string takes all text");
    }
    if damages.len() > DAMAGES_SHOWN {
        let more = text::count((damages.len() - DAMAGES_SHOWN) as u64);
        writeln!(out, "  and {more} more").expect("a string takes all text");
    }
}

fn verification_json(found: &Verification) -> Value {
    json!({
        "logs": found.logs,
        "facts": found.facts,
        "versions": found.versions,
        "artifacts": found.artifacts,
        "signatures": found.signatures,
        "uncopied": found.uncopied,
        "damages": damages_json(&found.damages),
    })
}

fn verification_text(found: &Verification) -> String {
    let mut out = format!(
        "looked at {} in {}: {}, {}, {}\n",
        text::counted(found.facts, "fact"),
        text::counted(found.logs, "log"),
        text::counted(found.versions, "version"),
        text::counted(found.artifacts, "artifact"),
        text::counted(found.signatures, "signature"),
    );
    if found.uncopied > 0 {
        let facts = text::counted(found.uncopied, "fact");
        writeln!(out, "{facts} have no copy yet; the model's next change copies them")
            .expect("a string takes all text");
    }
    match found.damages.len() {
        0 => out += "nothing is damaged\n",
        count => {
            writeln!(out, "{}:", text::counted(count as u64, "damage")).expect("a string takes all text");
            damages_text(&mut out, &found.damages);
        }
    }
    out
}

fn rebuilt_json(rebuilt: &Rebuilt) -> Value {
    json!({ "logs": rebuilt.logs, "facts": rebuilt.facts, "damages": damages_json(&rebuilt.damages) })
}

fn rebuilt_text(rebuilt: &Rebuilt) -> String {
    let (facts, logs) = (text::counted(rebuilt.facts, "fact"), text::counted(rebuilt.logs, "log"));
    let mut out = format!("brought back {facts} of {logs} from the artifacts\n");
    damages_text(&mut out, &rebuilt.damages);
    out
}
