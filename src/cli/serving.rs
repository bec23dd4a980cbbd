//! `serve`.

use std::net::SocketAddr;

use clap::Args;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The address to listen at.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The model that answers where a path names none, as `/invocations`. With one model registered, that one.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Memory that models may take, in MiB; those used least lately go first.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub memory: u64,
    /// Threads that run models. Default: the machine's cores.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Milliseconds that a request may take that doesn't say so itself.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=300_000))]
    pub timeout_ms: u64,
    /// Leave what columns a model has out of errors.
    #[arg(long)]
    pub hide_schema: bool,
}

/// A number of threads.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads) if (1..=1024).contains(&threads) => Ok(threads),
        _ => Err("a number from 1 to 1024".to_owned()),
    }
}
