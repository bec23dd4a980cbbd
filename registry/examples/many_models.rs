//! Registers a model under many names, to see how a server fares with them.
//!
//! `many_models HOME NAME COUNT`: what `NAME@champion` is in the home folder becomes the champion of `many-0`, `many-1`
//! and so on. Each has a log of its own; the bytes are there once, and a server loads them once a name.

use std::path::Path;
use std::sync::Arc;

use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_registry::{Act, Registration, Registry};

/// Registrations at a time; each waits for a disk, and several can.
const AT_A_TIME: u64 = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [home, name, count] = arguments.as_slice() else { return Err("expected HOME NAME COUNT".into()) };
    let (home, count) = (Path::new(home), count.parse::<u64>()?);
    let state = Arc::new(EmbeddedState::open(home, Synchronous::Normal)?);
    let registry = Registry::new(state, Arc::new(DirectoryArtifacts::open(&home.join("artifacts"))?));
    let (_, version) = registry.version(&format!("{name}@champion")).await?;
    let tasks = (0..AT_A_TIME.min(count)).map(|first| {
        let (registry, new, made_at) = (registry.clone(), version.new.clone(), version.at);
        tokio::spawn(async move {
            let mut at = first;
            while at < count {
                let name = format!("many-{at}");
                let act = Act { by: "many_models".to_owned(), at: made_at, ..Act::default() };
                let registration = Registration { alias: Some("champion".to_owned()), ..Registration::of(new.clone()) };
                registry.on_behalf(act).register(&name, registration).await?;
                at += AT_A_TIME;
            }
            Ok::<(), gristmill_registry::RegistryError>(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}
