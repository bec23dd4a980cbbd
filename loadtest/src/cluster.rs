//! Real processes on private servers: started, stopped, killed and started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gristmill_backends::state::State;
use gristmill_backends::state::redis::{RedisOptions, RedisState};
use tokio::process::{Child, Command};

/// How long something that is started may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Private servers in a folder, by `deploy/local/servers`.
#[derive(Clone, Debug)]
pub struct Servers {
    script: PathBuf,
    folder: PathBuf,
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
    /// Starts all of them, installing what is missing.
    pub async fn start(script: &Path, folder: &Path) -> anyhow::Result<Servers> {
        let mut servers = Servers { script: script.to_owned(), folder: folder.to_owned(), environment: Vec::new() };
        let folder_text = folder.display().to_string();
        servers.call(&["start", &folder_text]).await?;
        let path = folder.join("env");
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        servers.environment = text.lines().filter_map(assignment).collect();
        ensure!(servers.get("GRISTMILL_STATE").is_some(), "`{}` doesn't name the state", path.display());
        Ok(servers)
    }

    /// A variable that the servers are known by.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub async fn stop_all(&self) -> anyhow::Result<()> {
        self.call(&["stop", &self.folder.display().to_string()]).await
    }

    /// Ends a server as a crash would.
    pub async fn kill(&self, server: Server) -> anyhow::Result<()> {
        self.call(&["stop-one", server.name(), &self.folder.display().to_string(), "--kill"]).await
    }

    /// Starts a server again with the same port and data; returns when it accepts connections.
    pub async fn start_one(&self, server: Server) -> anyhow::Result<()> {
        self.call(&["start-one", server.name(), &self.folder.display().to_string()]).await
    }

    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let folder = self.folder.display().to_string();
        let mut all = vec!["rabbitmqctl", folder.as_str()];
        all.extend(arguments);
        self.call(&all).await
    }

    /// The file that Redis appends to, and how long it is.
    pub fn redis_journal(&self) -> anyhow::Result<(PathBuf, u64)> {
        let folder = self.folder.join("redis/data/appendonlydir");
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

    async fn call(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.script)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("failed to call `{}`", self.script.display()))?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`servers {}` failed: {text}", arguments.join(" "));
        Ok(())
    }

    /// Connects to the state.
    pub async fn state(&self) -> anyhow::Result<RedisState> {
        let url = self.get("GRISTMILL_STATE").context("the state isn't known")?;
        Ok(RedisState::connect(url, RedisOptions::default()).await?)
    }
}

/// `export NAME='value'` as a name and a value.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
}

/// A scheduler or a worker.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    arguments: Vec<String>,
    child: Child,
    /// SIGSTOP was sent; SIGCONT is due then.
    pub stopped_until: Option<Instant>,
}

/// What processes are started with.
#[derive(Clone, Debug)]
pub struct Program {
    pub binary: PathBuf,
    pub servers: Servers,
    pub logs: PathBuf,
}

impl Program {
    /// Starts a process whose output goes to a file of its name.
    pub fn start(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = self.spawn(name, &arguments)?;
        Ok(Process { name: name.to_owned(), arguments, child, stopped_until: None })
    }

    fn spawn(&self, name: &str, arguments: &[String]) -> anyhow::Result<Child> {
        let path = self.logs.join(format!("{name}.log"));
        let open = || std::fs::File::options().create(true).append(true).open(&path);
        let log = open().with_context(|| format!("failed to write `{}`", path.display()))?;
        let other = log.try_clone().context("failed to write a log")?;
        Command::new(&self.binary)
            .args(arguments)
            .envs(self.servers.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(other)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.binary.display()))
    }

    /// Starts a process again that has ended.
    pub async fn restart(&self, process: &mut Process) -> anyhow::Result<()> {
        process.child.wait().await.context("failed to wait for a process")?;
        process.child = self.spawn(&process.name, &process.arguments)?;
        process.stopped_until = None;
        Ok(())
    }

    /// Waits until so many workers are known to the state.
    pub async fn wait_for_workers(&self, state: &dyn State, count: usize) -> anyhow::Result<()> {
        let end = Instant::now() + START_PATIENCE;
        loop {
            if state.workers().await.is_ok_and(|workers| workers.len() >= count) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{count} workers didn't start; see `{}`", self.logs.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Process {
    /// The id of the process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal by its name (`KILL`, `STOP`, `CONT`, `TERM`).
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().await;
        status.context("failed to send a signal")?;
        Ok(())
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> anyhow::Result<()> {
        self.child.wait().await.context("failed to wait for a process")?;
        Ok(())
    }

    /// Seconds of CPU time so far.
    pub fn cpu_seconds(&self) -> Option<f64> {
        // Fields 14 and 15 of proc_pid_stat(5), in ticks of which Linux has 100 a second for programs.
        const TICKS: f64 = 100.0;
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(ticks / TICKS)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}
