//! The API and the dashboard over a home, beside whoever works on it: `cargo run -p gristmill-api --example serve --
//! HOME [ADDRESS]`. It links no models, so endpoints and rollbacks are refused; `gristmill api` has all of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gristmill_api::{Api, ApiSettings, Scaled, ServerSettings, Stores, router, serve};
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::broker::dead_letters::NoDeadLetters;
use gristmill_backends::state::State;
use gristmill_backends::state::embedded::EmbeddedState;
use gristmill_registry::Registry;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let home = PathBuf::from(arguments.next().unwrap_or_else(|| ".gristmill".to_owned()));
    let address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:5000".to_owned()).parse()?;
    let state: Arc<dyn State> = Arc::new(EmbeddedState::open_reader(&home)?);
    let artifacts = Arc::new(DirectoryArtifacts::open(&home.join("artifacts"))?);
    let registry = Registry::new(state.clone(), artifacts.clone());
    let listener = TcpListener::bind(address).await?;
    println!("the API is at http://{}", listener.local_addr()?);
    let settings = ApiSettings {
        is_local: address.ip().is_loopback(),
        local_name: "local".to_owned(),
        is_encrypted: false,
        trace_url: None,
    };
    let api = Arc::new(Api::new(
        Stores {
            state,
            artifacts,
            registry,
            dead_letters: Arc::new(NoDeadLetters),
            serving: None,
            scaled: Scaled::default(),
        },
        settings,
    ));
    let stop = async {
        tokio::signal::ctrl_c().await.ok();
    };
    serve(listener, router(&api, None), ServerSettings::default(), stop).await;
    api.end().await;
    Ok(())
}
