//! RabbitMQ, Redis and S3: private ones in a folder, or those that are set.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use gristmill_backends::broker::rabbitmq::{RabbitBroker, RabbitOptions};
use gristmill_backends::state::redis::{RedisOptions, RedisState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// The script that starts private servers. It is part of the program, so that an installed one needs no checkout.
const SCRIPT: &str = include_str!("../../deploy/local/servers");
/// The variables by which servers are known.
const VARIABLES: [&str; 8] = [
    "GRISTMILL_STATE",
    "GRISTMILL_BROKER",
    "GRISTMILL_ARTIFACTS",
    "GRISTMILL_QUEUE_TYPE",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
];
/// Bytes of what Redis tells of itself; it is some 6 KiB.
const INFO_BYTES_MAX: usize = 256 * 1024;

/// Servers of a test.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The script and its folder, where the servers are the test's own.
    own: Option<(PathBuf, PathBuf)>,
    environment: Vec<(String, String)>,
}

/// A server that can be stopped and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    RabbitMq,
    Redis,
}

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Server::RabbitMq => "rabbitmq",
            Server::Redis => "redis",
        }
    }
}

impl Servers {
    /// Starts private ones in a folder, installing what is missing.
    pub async fn start(folder: &Path) -> anyhow::Result<Servers> {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
        let script = folder.join("servers");
        std::fs::write(&script, SCRIPT).with_context(|| format!("failed to write `{}`", script.display()))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("failed to make `{}` a program", script.display()))?;
        let mut servers = Servers { own: Some((script, folder.to_owned())), environment: Vec::new() };
        let started = servers.call("start", &[]).await;
        if let Err(error) = started {
            // What did start must not stay behind.
            servers.stop_all().await?;
            return Err(error);
        }
        let path = folder.join("env");
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        servers.environment = text.lines().filter_map(assignment).collect();
        ensure!(servers.get("GRISTMILL_STATE").is_some(), "`{}` doesn't name the state", path.display());
        Ok(servers)
    }

    /// Those that the environment names.
    pub fn set() -> anyhow::Result<Servers> {
        let known = |name: &&str| std::env::var(name).ok().map(|value| ((*name).to_owned(), value));
        let environment: Vec<(String, String)> = VARIABLES.iter().filter_map(known).collect();
        let servers = Servers { own: None, environment };
        for needed in &VARIABLES[..3] {
            ensure!(
                servers.get(needed).is_some(),
                "`{needed}` isn't set; leave `--use-servers` out for private servers"
            );
        }
        Ok(servers)
    }

    /// Variables that processes are started with.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// A variable that the servers are known by.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether they are the test's own, and may be killed.
    pub fn are_private(&self) -> bool {
        self.own.is_some()
    }

    /// The folder of private servers.
    pub fn folder(&self) -> Option<&Path> {
        self.own.as_ref().map(|(_, folder)| folder.as_path())
    }

    /// Ends private servers; others aren't touched.
    pub async fn stop_all(&self) -> anyhow::Result<()> {
        if self.are_private() { self.call("stop", &[]).await.map(|_| ()) } else { Ok(()) }
    }

    /// Ends a server as a crash would.
    pub async fn kill(&self, server: Server) -> anyhow::Result<()> {
        self.call_one("stop-one", server, &["--kill"]).await
    }

    /// Starts a server again with the same port and data; returns when it accepts connections.
    pub async fn start_one(&self, server: Server) -> anyhow::Result<()> {
        self.call_one("start-one", server, &[]).await
    }

    /// What `rabbitmqctl` says.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.call("rabbitmqctl", arguments).await
    }

    /// The process of a private server.
    pub async fn pid(&self, server: Server) -> anyhow::Result<u32> {
        let said = self.call("status", &[]).await?;
        let line = said.lines().find(|line| line.starts_with(server.name()));
        let pid = line.and_then(|line| line.rsplit_once("process ")).and_then(|(_, pid)| pid.trim().parse().ok());
        pid.with_context(|| format!("{} has no process", server.name()))
    }

    /// The file that Redis appends to, and how long it is.
    pub fn redis_journal(&self) -> anyhow::Result<(PathBuf, u64)> {
        let folder = self.folder().context("the servers aren't the test's own")?.join("redis/data/appendonlydir");
        let files = std::fs::read_dir(&folder).with_context(|| format!("failed to read `{}`", folder.display()))?;
        let mut journals: Vec<PathBuf> = Vec::new();
        for file in files {
            let path = file.context("failed to list the store's files")?.path();
            if path.extension().is_some_and(|extension| extension == "aof") && path.to_string_lossy().contains(".incr.")
            {
                journals.push(path);
            }
        }
        // While it is written anew there are two; the longer name or the later in order is the one in use.
        journals.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        let last = journals.pop().with_context(|| format!("`{}` has no journal of Redis", folder.display()))?;
        let length = std::fs::metadata(&last).with_context(|| format!("failed to look at `{}`", last.display()))?.len();
        Ok((last, length))
    }

    /// What Redis tells of itself (`INFO`), over a plain connection.
    pub async fn redis_info(&self) -> anyhow::Result<String> {
        let url = self.get("GRISTMILL_STATE").context("the state isn't known")?;
        let Some(rest) = url.strip_prefix("redis://") else { bail!("`{url}` isn't spoken to in plain") };
        let (login, address) = rest.rsplit_once('@').unwrap_or(("", rest));
        let address = address.split('/').next().unwrap_or(address);
        let mut stream = tokio::net::TcpStream::connect(address).await.context("failed to reach Redis")?;
        let (_, password) = login.split_once(':').unwrap_or(("", login));
        let greeting = if password.is_empty() { String::new() } else { format!("AUTH {password}\r\n") };
        stream.write_all(format!("{greeting}INFO\r\nQUIT\r\n").as_bytes()).await.context("failed to ask Redis")?;
        let mut answer = Vec::new();
        let mut limited = stream.take(INFO_BYTES_MAX as u64);
        limited.read_to_end(&mut answer).await.context("Redis doesn't answer")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer.contains("redis_version"), "Redis doesn't say how it is: {}", answer.trim());
        Ok(answer)
    }

    /// Connects to the state.
    pub async fn state(&self) -> anyhow::Result<RedisState> {
        let url = self.get("GRISTMILL_STATE").context("the state isn't known")?;
        Ok(RedisState::connect(url, RedisOptions::default()).await?)
    }

    /// Connects to the broker.
    pub async fn broker(&self) -> anyhow::Result<RabbitBroker> {
        let url = self.get("GRISTMILL_BROKER").context("the broker isn't known")?;
        Ok(RabbitBroker::connect(url, RabbitOptions::default()).await?)
    }

    async fn call_one(&self, command: &str, server: Server, more: &[&str]) -> anyhow::Result<()> {
        let (script, folder) = self.own.as_ref().context("the servers aren't the test's own: they stay as they are")?;
        let folder = folder.display().to_string();
        let mut arguments = vec![command, server.name(), &folder];
        arguments.extend(more);
        run(script, &arguments).await.map(|_| ())
    }

    async fn call(&self, command: &str, more: &[&str]) -> anyhow::Result<String> {
        let (script, folder) = self.own.as_ref().context("the servers aren't the test's own: they stay as they are")?;
        let folder = folder.display().to_string();
        let mut arguments = vec![command, folder.as_str()];
        arguments.extend(more);
        run(script, &arguments).await
    }
}

async fn run(script: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("failed to call `{}`", script.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`servers {}` failed: {text}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `export NAME='value'` as a name and a value.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
}
