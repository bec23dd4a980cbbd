//! Where the parts live: from options, the environment and `gristmill.toml`, in this order.
//!
//! What isn't said is embedded: state in a folder, a broker in the process, artifacts beside the state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use gristmill_pools::costs::{Budgets, Prices};
use gristmill_protocol::wire;
use gristmill_registry::{PublicKey, Signer};
use serde::Deserialize;

use crate::pool::PoolSettings;
use crate::problem::Problem;

/// The file that is read when none is named.
const FILE: &str = "gristmill.toml";

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct SettingArgs {
    /// Folder where state lives: runs, models, artifacts. Default: `.gristmill`.
    #[arg(long, global = true, env = "GRISTMILL_HOME", value_name = "FOLDER")]
    pub home: Option<PathBuf>,
    /// The file with these settings. Default: `gristmill.toml`, if it is there.
    #[arg(long, global = true, env = "GRISTMILL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// RabbitMQ, as `amqp://user:password@host:5672/%2f` or `amqps://…`. Default: in this process.
    #[arg(long, global = true, env = "GRISTMILL_BROKER", value_name = "URL", hide_env_values = true)]
    pub broker: Option<String>,
    /// Redis, as `redis://:password@host:6379` or `rediss://…`. Default: in the home folder.
    #[arg(long, global = true, env = "GRISTMILL_STATE", value_name = "URL", hide_env_values = true)]
    pub state: Option<String>,
    /// An S3 bucket, as `s3://bucket/prefix`, or a folder that all machines share. Default: in the home folder.
    #[arg(long, global = true, env = "GRISTMILL_ARTIFACTS", value_name = "URL")]
    pub artifacts: Option<String>,
    /// The type of RabbitMQ's queues.
    #[arg(long, global = true, env = "GRISTMILL_QUEUE_TYPE", value_name = "TYPE", hide_short_help = true)]
    pub queue_type: Option<QueueType>,
    /// Start on a Redis that may lose what it was told, with a warning.
    #[arg(long, global = true, env = "GRISTMILL_ALLOW_UNSAFE_STATE", hide_short_help = true)]
    pub allow_unsafe_state: bool,
    /// The secret key that signs the versions registered here: a file of `gristmill registry keygen`.
    #[arg(long, global = true, env = "GRISTMILL_SIGNING_KEY", value_name = "FILE", hide_short_help = true)]
    pub signing_key: Option<PathBuf>,
    /// A public key that is trusted to sign; may be given more than once. With any, only versions that one of them
    /// has signed are used or served.
    #[arg(
        long = "trusted-key",
        global = true,
        env = "GRISTMILL_TRUSTED_KEYS",
        value_name = "KEY",
        value_delimiter = ',',
        hide_short_help = true
    )]
    pub trusted_keys: Vec<PublicKey>,
    /// Read and write messages of this version at the most. Processes agree on what all read by themselves; this holds
    /// them back until an upgrade is known to stay. Default: the highest.
    #[arg(long, global = true, env = "GRISTMILL_MESSAGE_VERSION", value_name = "N", hide_short_help = true)]
    pub message_version: Option<u8>,
}

/// The type of RabbitMQ's queues. Nothing is lost with either, since the state says what is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// Faster; for one broker.
    #[default]
    Classic,
    /// Replicated; for a cluster of brokers.
    Quorum,
}

impl QueueType {
    /// As it is written in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        }
    }
}

/// The settings as they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub home: PathBuf,
    /// The broker's URL; in this process when there is none.
    pub broker: Option<String>,
    /// The state's URL; in the home folder when there is none.
    pub state: Option<String>,
    /// The artifact store; in the home folder when there is none.
    pub artifacts: Option<ArtifactStore>,
    pub queue_type: QueueType,
    pub allow_unsafe_state: bool,
    /// The file of the key that signs what is registered.
    pub signing_key: Option<PathBuf>,
    /// Whose signatures are asked for; nobody's when there are none.
    pub trusted_keys: Vec<PublicKey>,
    /// The highest version of messages that this process reads and writes.
    pub message_version: u8,
    /// What pools are to be like, by name.
    pub pools: BTreeMap<String, PoolSettings>,
    /// What slots cost, and what may be spent.
    pub prices: Prices,
    pub budgets: Budgets,
}

/// An artifact store that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactStore {
    /// `s3://bucket/prefix`.
    S3(String),
    /// A folder that all machines share.
    Folder(PathBuf),
}

impl ArtifactStore {
    /// As it is written in settings.
    pub fn url(&self) -> String {
        match self {
            ArtifactStore::S3(url) => url.clone(),
            ArtifactStore::Folder(path) => path.display().to_string(),
        }
    }
}

/// What the file may hold. Unknown keys are errors, because people write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    home: Option<PathBuf>,
    broker: Option<String>,
    state: Option<String>,
    artifacts: Option<String>,
    queue_type: Option<QueueType>,
    allow_unsafe_state: Option<bool>,
    signing_key: Option<PathBuf>,
    trusted_keys: Option<Vec<PublicKey>>,
    message_version: Option<u8>,
    #[serde(default)]
    pools: BTreeMap<String, PoolSettings>,
    #[serde(default)]
    prices: Prices,
    #[serde(default)]
    budgets: Budgets,
}

impl Settings {
    /// Puts options, environment and file together, and checks them.
    pub fn load(args: &SettingArgs) -> anyhow::Result<Settings> {
        let file = read_file(args.config.as_deref())?;
        let settings = Settings {
            home: args.home.clone().or(file.home).unwrap_or_else(|| PathBuf::from(".gristmill")),
            broker: args.broker.clone().or(file.broker).filter(|url| !url.is_empty()),
            state: args.state.clone().or(file.state).filter(|url| !url.is_empty()),
            artifacts: args
                .artifacts
                .clone()
                .or(file.artifacts)
                .filter(|url| !url.is_empty())
                .map(|url| artifact_store(&url))
                .transpose()?,
            queue_type: args.queue_type.or(file.queue_type).unwrap_or_default(),
            allow_unsafe_state: args.allow_unsafe_state || file.allow_unsafe_state.unwrap_or(false),
            signing_key: args.signing_key.clone().or(file.signing_key),
            trusted_keys: match args.trusted_keys.as_slice() {
                [] => file.trusted_keys.unwrap_or_default(),
                named => named.to_vec(),
            },
            message_version: args.message_version.or(file.message_version).unwrap_or(wire::VERSION),
            pools: file.pools,
            prices: file.prices,
            budgets: file.budgets,
        };
        check_message_version(settings.message_version)?;
        for (name, pool) in &settings.pools {
            pool.rules(name)?;
        }
        check_scheme("broker", settings.broker.as_deref(), &["amqp", "amqps"])?;
        check_scheme("state", settings.state.as_deref(), &["redis", "rediss"])?;
        if settings.broker.is_some() && settings.state.is_none() {
            return Err(Problem::usage("a broker is set and no state: other processes couldn't see the runs")
                .hint("set `GRISTMILL_STATE=redis://…` too, or leave `GRISTMILL_BROKER` out")
                .into());
        }
        if settings.state.is_some() && settings.broker.is_none() {
            return Err(Problem::usage("a state is set and no broker: other processes couldn't get work")
                .hint("set `GRISTMILL_BROKER=amqp://…` too, or leave `GRISTMILL_STATE` out")
                .into());
        }
        if settings.state.is_some() && settings.artifacts.is_none() {
            return Err(Problem::usage("state and broker are servers, and artifacts would be on this disk alone")
                .hint("set `GRISTMILL_ARTIFACTS=s3://bucket/prefix`, or a folder that all machines share")
                .into());
        }
        Ok(settings)
    }

    /// The key that signs what is registered here, read anew.
    pub fn signer(&self) -> anyhow::Result<Option<Arc<Signer>>> {
        let read = self.signing_key.as_deref().map(Signer::load).transpose();
        Ok(read.context("failed to read the signing key")?.map(Arc::new))
    }

    /// The same settings for a process that is started from here.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("GRISTMILL_HOME", self.home.display().to_string()),
            ("GRISTMILL_QUEUE_TYPE", self.queue_type.as_str().to_owned()),
            ("GRISTMILL_ALLOW_UNSAFE_STATE", self.allow_unsafe_state.to_string()),
            ("GRISTMILL_MESSAGE_VERSION", self.message_version.to_string()),
        ];
        let urls = [("GRISTMILL_BROKER", &self.broker), ("GRISTMILL_STATE", &self.state)];
        environment.extend(urls.into_iter().filter_map(|(name, url)| Some((name, url.clone()?))));
        environment.extend(self.artifacts.as_ref().map(|store| ("GRISTMILL_ARTIFACTS", store.url())));
        environment.extend(self.signing_key.as_ref().map(|key| ("GRISTMILL_SIGNING_KEY", key.display().to_string())));
        if !self.trusted_keys.is_empty() {
            let keys: Vec<String> = self.trusted_keys.iter().map(ToString::to_string).collect();
            environment.push(("GRISTMILL_TRUSTED_KEYS", keys.join(",")));
        }
        environment
    }

    /// Whether other processes do the work.
    pub fn is_distributed(&self) -> bool {
        self.state.is_some()
    }

    /// Whether workers see the files that a caller's pipeline names: they do in the caller's own process.
    pub fn workers_see_files(&self) -> bool {
        !self.is_distributed()
    }
}

fn read_file(named: Option<&Path>) -> anyhow::Result<File> {
    let path = named.unwrap_or(Path::new(FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Ok(File::default()),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read the settings in `{}`", path.display()));
        }
    };
    toml::from_str(&text)
        .map_err(|error| Problem::usage(format!("`{}` can't be understood: {error}", path.display())).into())
}

fn check_message_version(version: u8) -> anyhow::Result<()> {
    if (wire::BASE..=wire::VERSION).contains(&version) {
        return Ok(());
    }
    let (from, to) = (wire::BASE, wire::VERSION);
    Err(Problem::usage(format!("messages of version {version} aren't known here; {from} to {to} are")).into())
}

fn check_scheme(what: &str, url: Option<&str>, schemes: &[&str]) -> anyhow::Result<()> {
    let Some(url) = url else { return Ok(()) };
    match url.split_once("://") {
        Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(()),
        _ => {
            // The whole URL may hold a password.
            let scheme = url.split_once("://").map_or("no scheme", |(scheme, _)| scheme);
            let wanted: Vec<String> = schemes.iter().map(|scheme| format!("`{scheme}://…`")).collect();
            Err(Problem::usage(format!("the {what}'s URL has {scheme}; {} is wanted", wanted.join(" or "))).into())
        }
    }
}

fn artifact_store(text: &str) -> anyhow::Result<ArtifactStore> {
    match text.split_once("://") {
        Some(("s3", rest)) if !rest.is_empty() => Ok(ArtifactStore::S3(text.to_owned())),
        Some(("file", path)) if path.starts_with('/') => Ok(ArtifactStore::Folder(PathBuf::from(path))),
        None => Ok(ArtifactStore::Folder(PathBuf::from(text))),
        Some((scheme, _)) => Err(Problem::usage(format!("artifacts can't be kept at `{scheme}://`"))
            .hint("write `s3://bucket/prefix`, or the path of a folder that all machines share")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: &Path) -> SettingArgs {
        SettingArgs {
            home: None,
            config: Some(config.to_owned()),
            broker: None,
            state: None,
            artifacts: None,
            queue_type: None,
            allow_unsafe_state: false,
            signing_key: None,
            trusted_keys: Vec::new(),
            message_version: None,
        }
    }

    fn load(text: &str) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gristmill.toml");
        std::fs::write(&path, text).expect("writable");
        Settings::load(&args(&path))
    }

    #[test]
    fn an_empty_file_is_one_process_with_no_server() {
        let settings = load("").expect("nothing is wrong with it");
        assert_eq!(settings.home, Path::new(".gristmill"));
        assert!(!settings.is_distributed() && settings.workers_see_files());
    }

    #[test]
    fn options_come_before_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gristmill.toml");
        std::fs::write(&path, "home = \"there\"\nqueue_type = \"quorum\"\n").expect("writable");
        let settings = Settings::load(&SettingArgs { home: Some("here".into()), ..args(&path) }).expect("fine");
        assert_eq!((settings.home.as_path(), settings.queue_type), (Path::new("here"), QueueType::Quorum));
    }

    #[test]
    fn half_a_cluster_is_refused_with_what_is_missing() {
        let cases = [
            ("broker = \"amqp://h\"", "a broker is set and no state"),
            ("state = \"redis://h\"", "a state is set and no broker"),
            ("state = \"redis://h\"\nbroker = \"amqp://h\"", "artifacts would be on this disk alone"),
            ("state = \"http://h\"", "the state's URL has http"),
            ("artifacts = \"gs://b\"", "artifacts can't be kept at `gs://`"),
            ("stat = \"redis://h\"", "unknown field `stat`"),
        ];
        for (text, expected) in cases {
            let error = load(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let whole = "state = \"redis://h\"\nbroker = \"amqp://h\"\nartifacts = \"s3://b/p\"";
        assert!(load(whole).expect("whole").is_distributed());
    }
}
