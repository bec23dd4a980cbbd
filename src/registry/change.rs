//! What changes registered models. Each is one fact of the model's log, in the name of whoever runs the program.

use bytes::Bytes;
use gristmill_protocol::Digest;
use gristmill_registry::{Promotion, VersionView};
use serde_json::json;

use super::{acting, print_json, reference_json};
use crate::api::prove;
use crate::artifacts;
use crate::cli::{AliasCommand, PromoteArgs, RollbackArgs};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::text;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// `gristmill promote`.
pub async fn promote(settings: &Settings, args: PromoteArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let promotion = match &args.evidence {
        Some(text) => Promotion::Evidence(artifacts::find(&*home.artifacts, text).await?),
        None => Promotion::OwnEvidence,
    };
    let (acting, _) = acting(&home, &args.why).await?;
    acting.promote(&args.name, args.version, &args.alias, promotion).await?;
    println!("{}@{} is version {}", args.name, args.alias, args.version);
    Ok(Exit::Success)
}

/// `gristmill rollback`: goes back to a version only once it is known to load and to answer.
pub async fn rollback(settings: &Settings, args: RollbackArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let (acting, _) = acting(&home, &args.why).await?;
    let prove = |version: &VersionView, bytes: &Bytes| prove(&version.new.algorithm, bytes);
    let moved = acting.rollback(&args.name, &args.alias, &prove).await?;
    let from = moved.from.map(|from| format!(", not {from} any more")).unwrap_or_default();
    println!("{}@{} is version {}{from}", args.name, args.alias, moved.to);
    Ok(Exit::Success)
}

/// `gristmill registry alias`.
pub async fn alias(settings: &Settings, command: AliasCommand) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    match command {
        AliasCommand::Set { name, alias, version, why } => {
            acting(&home, &why).await?.0.set_alias(&name, &alias, version).await?;
            println!("{name}@{alias} is version {version}");
        }
        AliasCommand::Remove { name, alias, why } => {
            acting(&home, &why).await?.0.remove_alias(&name, &alias).await?;
            println!("{name}@{alias} is gone");
        }
    }
    Ok(Exit::Success)
}

/// `gristmill registry tag`.
pub async fn tag(settings: &Settings, of: &str, tag: &str, why: &str) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let (name, version) = named(&home, of).await?;
    let (tag, value) = match tag.split_once('=') {
        Some((tag, value)) => (tag, Some(value)),
        None => (tag, None),
    };
    acting(&home, why).await?.0.tag(&name, version, tag, value).await?;
    match value {
        Some(value) => println!("{of} has the tag {tag}={value}"),
        None => println!("{of} has no tag {tag}"),
    }
    Ok(Exit::Success)
}

/// `gristmill registry describe`.
pub async fn describe(settings: &Settings, of: &str, text: &str) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let (name, version) = named(&home, of).await?;
    acting(&home, "").await?.0.describe(&name, version, text).await?;
    println!("{of} is described");
    Ok(Exit::Success)
}

/// `gristmill registry rename`.
pub async fn rename(settings: &Settings, name: &str, to: &str, why: &str) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    acting(&home, why).await?.0.rename(name, to).await?;
    println!("{name} is called {to} now");
    Ok(Exit::Success)
}

/// `gristmill registry sign`.
pub async fn sign(settings: &Settings, of: &str) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let Some(signer) = &home.signer else {
        let problem = Problem::usage("there is no key to sign with");
        return Err(problem
            .hint("name one with `--signing-key FILE`; `gristmill registry keygen FILE` makes one")
            .into());
    };
    let (name, version) = named(&home, of).await?;
    let Some(version) = version else {
        return Err(Problem::usage(format!("`{of}` names no version"))
            .hint("write it as `name@alias` or `name@3`")
            .into());
    };
    let signature = acting(&home, "").await?.0.sign(&name, version, signer).await?;
    println!("{name}@{version} is signed by {}", signature.key);
    Ok(Exit::Success)
}

/// `gristmill registry delete`.
pub async fn delete(settings: &Settings, of: &str, keep_days: u64, why: &str) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let (name, version) = named(&home, of).await?;
    let (acting, now) = acting(&home, why).await?;
    let until = now.plus_ms(keep_days * DAY_MS);
    match version {
        Some(version) => acting.delete_version(&name, version, until).await?,
        None => acting.delete_model(&name, until).await?,
    }
    println!("{of} is deleted; `gristmill registry purge` removes its artifacts from {} on", text::moment(until));
    Ok(Exit::Success)
}

/// `gristmill registry purge`.
pub async fn purge(settings: &Settings, json: bool) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let purged = acting(&home, "its days were over").await?.0.purge().await?;
    if json {
        print_json(&purged.iter().map(reference_json).collect());
        return Ok(Exit::Success);
    }
    println!("purged {}", text::counted(purged.len() as u64, "version"));
    purged.iter().for_each(|of| println!("  {}@{}", of.name, of.version));
    Ok(Exit::Success)
}

/// `gristmill registry erase`.
pub async fn erase(settings: &Settings, subject: &str, digests: &[Digest], json: bool) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let erasure = acting(&home, "erasure").await?.0.erase(subject, digests).await?;
    if json {
        print_json(&json!({
            "models": erasure.models,
            "unusable": erasure.unusable.iter().map(reference_json).collect::<Vec<_>>(),
            "aliased": erasure.aliased.iter().map(|(of, alias)| {
                json!({ "name": of.name, "version": of.version, "alias": alias })
            }).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Success);
    }
    let (artifacts, models) = (digests.len() as u64, erasure.models.join(", "));
    println!("{} erased; noted in {models}", text::counted(artifacts, "artifact"));
    for of in &erasure.unusable {
        println!("  {}@{} can't be loaded any more", of.name, of.version);
    }
    for (of, alias) in &erasure.aliased {
        println!("  {}@{alias} points to it: roll it back or promote another version", of.name);
    }
    Ok(Exit::Success)
}

/// The model, and the version where `@` names one. Versions that aren't trusted are named like others.
async fn named(home: &Home, text: &str) -> anyhow::Result<(String, Option<u64>)> {
    let Some((name, which)) = text.split_once('@') else { return Ok((text.to_owned(), None)) };
    if let Ok(version) = which.parse() {
        return Ok((name.to_owned(), Some(version)));
    }
    let aliases = home.registry.model(name).await?.aliases;
    match aliases.get(which) {
        Some(version) => Ok((name.to_owned(), Some(*version))),
        None => {
            let known: Vec<&str> = aliases.keys().map(String::as_str).collect();
            let problem = Problem::usage(format!("model `{name}` has no alias `{which}`"));
            Err(problem.hint(format!("its aliases are: {}", known.join(", "))).into())
        }
    }
}
