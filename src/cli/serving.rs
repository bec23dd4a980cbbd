//! `serve`, `endpoint`, `api` and `token`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use gristmill_protocol::api::Role;

/// Memory that models may take unless told otherwise, in MiB.
const MODELS_MIB: u64 = 1024;
/// Milliseconds that a request may take unless told otherwise.
const TIMEOUT_MS: u64 = 5_000;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The address to listen at.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Speak gRPC too, the Open Inference Protocol's, at this address.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_GRPC")]
    pub grpc: Option<SocketAddr>,
    /// Score requests of a queue of the broker too, and answer where they say. Default name: `gristmill.score`.
    #[arg(long, value_name = "QUEUE", num_args = 0..=1, default_missing_value = "gristmill.score")]
    pub queue: Option<String>,
    /// Score a stream too: a file that says from which queue or RabbitMQ stream to which exchange, in order of which
    /// key. May be repeated.
    #[arg(long = "stream", value_name = "FILE")]
    pub streams: Vec<PathBuf>,
    /// The model that answers where a path names none, as `/invocations`. With one model registered, that one.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Memory that models may take, in MiB; those used least lately go first.
    #[arg(long, value_name = "MIB", default_value_t = MODELS_MIB, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub memory: u64,
    /// Threads that run models. Default: the machine's cores.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Milliseconds that a request may take that doesn't say so itself.
    #[arg(long, value_name = "MS", default_value_t = TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=300_000))]
    pub timeout_ms: u64,
    /// Leave what columns a model has out of errors.
    #[arg(long)]
    pub hide_schema: bool,
    #[command(flatten, next_help_heading = "What is kept of requests")]
    pub capture: CaptureArgs,
}

/// What is kept of requests and answers, for labels that come later.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Keep requests and answers as Parquet files in this folder, with the request ids that labels join by.
    #[arg(long, value_name = "FOLDER", env = "GRISTMILL_CAPTURE")]
    pub capture: Option<PathBuf>,
    /// The part of requests to keep.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share, requires = "capture")]
    pub capture_share: f64,
    /// Leave out columns with this tag; `gristmill registry tag MODEL columns.TAG=COLUMN,…` gives it. May be repeated.
    #[arg(long, value_name = "TAG", requires = "capture")]
    pub capture_drop: Vec<String>,
    /// Keep columns with this tag as a keyed hash, which still joins and groups. May be repeated.
    #[arg(long, value_name = "TAG", requires = "capture")]
    pub capture_hash: Vec<String>,
    /// The key of the hash.
    #[arg(long, value_name = "SECRET", env = "GRISTMILL_CAPTURE_HASH_KEY", hide_env_values = true)]
    pub capture_hash_key: Option<String>,
}

impl ServeArgs {
    /// Over HTTP at an address, all else as usual.
    pub fn at(listen: SocketAddr) -> ServeArgs {
        ServeArgs {
            listen,
            grpc: None,
            queue: None,
            streams: Vec::new(),
            model: None,
            memory: MODELS_MIB,
            threads: None,
            timeout_ms: TIMEOUT_MS,
            hide_schema: false,
            capture: CaptureArgs {
                capture: None,
                capture_share: 1.0,
                capture_drop: Vec::new(),
                capture_hash: Vec::new(),
                capture_hash_key: None,
            },
        }
    }
}

#[derive(Debug, Args)]
pub struct ApiArgs {
    /// The address to listen at. Default: 127.0.0.1:5000.
    #[arg(long, value_name = "ADDRESS", env = "GRISTMILL_API_LISTEN")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub options: ApiOptions,
}

/// How the API is served.
#[derive(Debug, Args)]
pub struct ApiOptions {
    /// Encrypt connections to the API: a file in PEM with its certificate, then those that vouch for it.
    #[arg(long, value_name = "FILE", env = "GRISTMILL_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's key, a file in PEM.
    #[arg(long, value_name = "FILE", env = "GRISTMILL_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Where the dashboard links to for a run's trace, such as `https://jaeger.example/trace/{trace}`.
    #[arg(long, value_name = "URL", env = "GRISTMILL_TRACE_URL")]
    pub trace_url: Option<String>,
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once. From the first one on the API asks everybody for one.
    #[command(
        after_help = "Examples:\n  gristmill token create ann --role admin\n  gristmill token create nightly --role submitter --namespace team-a --expires-days 90"
    )]
    Create {
        /// In whose name things are done with it.
        name: String,
        /// What it may do.
        #[arg(long)]
        role: TokenRole,
        /// A namespace that it may see and work in; may be given more than once. Default: all.
        #[arg(long = "namespace", value_name = "NAME", default_value = "*")]
        namespaces: Vec<String>,
        /// Days until it ends by itself. Default: it doesn't.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
        expires_days: Option<u32>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List tokens, without their secrets.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a token: servers refuse it within a second.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
    },
}

/// What a token may do; each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Read.
    Viewer,
    /// Submit, cancel and resume runs; keep pipelines; set schedules and triggers.
    Submitter,
    /// Move aliases, set endpoints, requeue dead letters.
    Deployer,
    /// Make tokens, drop dead letters, read the audit.
    Admin,
}

impl From<TokenRole> for Role {
    fn from(role: TokenRole) -> Role {
        match role {
            TokenRole::Viewer => Role::Viewer,
            TokenRole::Submitter => Role::Submitter,
            TokenRole::Deployer => Role::Deployer,
            TokenRole::Admin => Role::Admin,
        }
    }
}

#[derive(Debug, Args)]
pub struct EndpointArgs {
    #[command(subcommand)]
    pub command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Say what an endpoint serves. What isn't named isn't served by it any more.
    #[command(
        after_help = "Examples:\n  gristmill endpoint set delays --champion flight-delays@champion\n  gristmill endpoint set delays --champion flight-delays@champion --canary flight-delays@4 --share 0.1\n  gristmill endpoint set delays --champion flight-delays@champion --shadow flight-delays@5"
    )]
    Set(EndpointSetArgs),
    /// List the endpoints.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show an endpoint: what it serves, how canary and shadows do beside the champion, and whether to promote them.
    Show {
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove an endpoint. A model of its name answers again.
    Remove { name: String },
}

#[derive(Debug, Args)]
pub struct EndpointSetArgs {
    /// The name that clients ask for.
    pub name: String,
    /// Who answers: `name` (its champion), `name@alias` or `name@3`.
    #[arg(long, value_name = "MODEL")]
    pub champion: String,
    /// Who answers a part of the keys, on trial: it is taken back by itself when it fails, is slow or disagrees.
    #[arg(long, value_name = "MODEL", requires = "share")]
    pub canary: Option<String>,
    /// The canary's part of the keys, from 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "canary")]
    pub share: Option<f64>,
    /// The part of rows on which the canary may differ from the champion. Default 0.2.
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "canary")]
    pub disagreement_max: Option<f64>,
    /// How many times the champion's p99 the canary's may be. Default 3.
    #[arg(long, value_name = "TIMES", requires = "canary")]
    pub latency_times: Option<f64>,
    /// How much more often than the champion the canary may fail, as a part of requests. Default 0.01.
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "canary")]
    pub failures_over: Option<f64>,
    /// Who scores along without being heard. May be repeated.
    #[arg(long = "shadow", value_name = "MODEL")]
    pub shadows: Vec<String>,
    /// The part of a core that each shadow may use. Default 0.25.
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "shadows")]
    pub shadow_core_share: Option<f64>,
    /// Why, for the endpoint's history.
    #[arg(long, default_value = "")]
    pub why: String,
}

/// A part of something.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1".to_owned()),
    }
}

/// A number of threads.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads) if (1..=1024).contains(&threads) => Ok(threads),
        _ => Err("a number from 1 to 1024".to_owned()),
    }
}
