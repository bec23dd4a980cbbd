//! Real processes: started, stopped, killed and started again.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gristmill_backends::state::State;
use tokio::process::{Child, Command};

use crate::servers::Servers;

/// How long something that is started may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take to end in order: work that it has begun is done first.
const END_PATIENCE: Duration = Duration::from_secs(60);

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
            .envs(self.servers.environment().iter().cloned())
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

    /// A scheduler or so many of them, and workers with so many slots each; returns when the workers are known.
    pub async fn cluster(
        &self,
        state: &dyn State,
        schedulers: usize,
        workers: usize,
        slots: usize,
    ) -> anyhow::Result<Vec<Process>> {
        let slots = slots.to_string();
        let mut processes = Vec::new();
        for at in 0..schedulers {
            processes.push(self.start(&format!("scheduler-{at}"), &["scheduler"])?);
        }
        for at in 0..workers {
            processes.push(self.start(&format!("worker-{at}"), &["worker", "--slots", &slots])?);
        }
        self.wait_for_workers(state, workers).await?;
        Ok(processes)
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

    /// Tells it to end, and waits until it has.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        self.signal("TERM").await?;
        let ended = tokio::time::timeout(END_PATIENCE, self.child.wait()).await;
        ended.with_context(|| format!("{} doesn't end", self.name))?.context("failed to wait for a process")?;
        Ok(())
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("failed to kill {}", self.name))
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

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        memory_of(self.pid()?, "VmRSS:")
    }
}

/// A line of what Linux tells of a process's memory, in bytes.
pub fn memory_of(pid: u32, line: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|found| found.starts_with(line))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1_024)
}
