//! The worker processes of one pool on this machine: starting, draining, noticing their ends.
//!
//! Workers outlive a pool that is killed, and the next one finds them by their label and takes them over, so that a
//! crash of it costs nobody work. A worker is told to end with SIGTERM and then finishes what it runs, however long
//! that takes; only when the pool itself ends is a second SIGTERM sent, which hands back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use gristmill_backends::state::WorkerView;
use gristmill_protocol::WorkerId;
use tokio::process::{Child, Command};

use super::signal::{is_alive, terminate};

/// The label by which a pool knows its workers: the pool's name and the machine's.
pub const MANAGED: &str = "managed-by";
/// A worker that hasn't said that it lives by then won't: connecting is tried for less.
const START_MAX: Duration = Duration::from_secs(60);

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Where the servers are: what holds passwords isn't for everybody who lists processes.
    pub environment: Vec<(&'static str, String)>,
    /// The value of [`MANAGED`].
    pub managed_by: String,
    pub host: String,
}

impl Recipe {
    /// Whether a worker was started by it, by this process or one before.
    fn has_started(&self, view: &WorkerView) -> bool {
        view.about.host == self.host && view.about.labels.get(MANAGED) == Some(&self.managed_by)
    }
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Starting,
    Live,
    Draining,
}

/// One worker process.
struct Member {
    stage: Stage,
    worker: Option<WorkerId>,
    /// Attempts that it held when it was last heard of.
    held: usize,
    since: Instant,
    /// Its process, where this pool has started it.
    child: Option<Child>,
}

/// What has happened to a worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Started {
        pid: u32,
    },
    /// It takes work, so long after it was started.
    Ready {
        pid: u32,
        worker: WorkerId,
        took: Duration,
    },
    Adopted {
        pid: u32,
        worker: WorkerId,
    },
    Draining {
        pid: u32,
        worker: Option<WorkerId>,
    },
    /// It ended as it was told to.
    Ended {
        pid: u32,
        worker: Option<WorkerId>,
    },
    /// It ended by itself: killed, crashed, or taken away with its machine.
    Lost {
        pid: u32,
        worker: Option<WorkerId>,
        how: String,
    },
}

/// All worker processes of the pool on this machine.
pub struct Members {
    recipe: Recipe,
    by_pid: BTreeMap<u32, Member>,
    /// Milliseconds paid for processes that have ended.
    paid: Duration,
    pub lost: u64,
}

impl Members {
    pub fn new(recipe: Recipe) -> Members {
        Members { recipe, by_pid: BTreeMap::new(), paid: Duration::ZERO, lost: 0 }
    }

    pub fn count(&self, stage: Stage) -> u32 {
        self.by_pid.values().filter(|member| member.stage == stage).count() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// Time of processes, from their start (or when they were taken over) to their end, together.
    pub fn paid(&self) -> Duration {
        self.paid + self.by_pid.values().map(|member| member.since.elapsed()).sum::<Duration>()
    }

    /// What workers say of themselves, put right by what is known here before they say it: who was told to go, and whose
    /// process has ended.
    pub fn correct(&self, mut workers: Vec<WorkerView>) -> Vec<WorkerView> {
        workers.retain_mut(|view| {
            if !self.recipe.has_started(view) {
                return true;
            }
            let member = self.by_pid.get(&view.about.pid);
            view.draining |= member.is_some_and(|member| member.stage == Stage::Draining);
            member.is_some()
        });
        workers
    }

    /// Starts one worker.
    pub fn start(&mut self) -> anyhow::Result<Change> {
        let child = Command::new(&self.recipe.program)
            .args(&self.recipe.arguments)
            .args(["--label", &format!("{MANAGED}={}", self.recipe.managed_by)])
            .envs(self.recipe.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("GRISTMILL_METRICS")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A signal to the pool's process group, as from Ctrl-C, is the pool's to pass on.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.recipe.program.display()))?;
        let pid = child.id().context("a process that was just started has ended")?;
        let member =
            Member { stage: Stage::Starting, worker: None, held: 0, since: Instant::now(), child: Some(child) };
        self.by_pid.insert(pid, member);
        Ok(Change::Started { pid })
    }

    /// Tells one worker to finish what it runs and end: an idle one, else the one that holds least.
    pub fn drain_one(&mut self) -> Option<Change> {
        let live = self.by_pid.iter_mut().filter(|(_, member)| member.stage == Stage::Live);
        let (&pid, member) = live.min_by_key(|(_, member)| member.held)?;
        Some(drain(pid, member))
    }

    /// Tells all workers to end.
    pub fn drain_all(&mut self) -> Vec<Change> {
        let running = self.by_pid.iter_mut().filter(|(_, member)| member.stage != Stage::Draining);
        running.map(|(&pid, member)| drain(pid, member)).collect()
    }

    /// Tells all that still drain to hand back what they run.
    pub fn hurry(&self) {
        for &pid in self.by_pid.keys() {
            send(pid);
        }
    }

    /// Takes note of who lives, by what workers say of themselves and by which processes have ended.
    pub fn look(&mut self, workers: &[WorkerView]) -> Vec<Change> {
        let mut changes = Vec::new();
        let recipe = &self.recipe;
        for view in workers.iter().filter(|view| recipe.has_started(view)) {
            let pid = view.about.pid;
            match self.by_pid.get_mut(&pid) {
                Some(member) => {
                    member.held = view.held.len();
                    if member.stage == Stage::Starting && !view.draining {
                        member.stage = Stage::Live;
                        member.worker = Some(view.worker);
                        changes.push(Change::Ready { pid, worker: view.worker, took: member.since.elapsed() });
                    }
                }
                None if is_alive(pid) => {
                    let stage = if view.draining { Stage::Draining } else { Stage::Live };
                    let (worker, held) = (Some(view.worker), view.held.len());
                    self.by_pid.insert(pid, Member { stage, worker, held, since: Instant::now(), child: None });
                    changes.push(Change::Adopted { pid, worker: view.worker });
                }
                None => {}
            }
        }
        let mut ended = Vec::new();
        for (&pid, member) in &mut self.by_pid {
            let how = match &mut member.child {
                Some(child) => match child.try_wait() {
                    Ok(None) => None,
                    Ok(Some(status)) => Some(status.to_string()),
                    Err(error) => Some(error.to_string()),
                },
                None => (!is_alive(pid)).then(|| "it is gone".to_owned()),
            };
            if let Some(how) = how {
                ended.push((pid, how));
            } else if member.stage == Stage::Starting && member.since.elapsed() > START_MAX {
                changes.push(drain(pid, member));
            }
        }
        for (pid, how) in ended {
            let Some(member) = self.by_pid.remove(&pid) else { continue };
            self.paid += member.since.elapsed();
            let worker = member.worker;
            if member.stage == Stage::Draining {
                changes.push(Change::Ended { pid, worker });
            } else {
                self.lost += 1;
                changes.push(Change::Lost { pid, worker, how });
            }
        }
        changes
    }
}

fn drain(pid: u32, member: &mut Member) -> Change {
    member.stage = Stage::Draining;
    send(pid);
    Change::Draining { pid, worker: member.worker }
}

/// SIGTERM, the first of which drains and the second hands back. A process that has ended is noticed when it is looked at.
fn send(pid: u32) {
    if let Err(error) = terminate(pid) {
        tracing::debug!(pid, error = &error as &dyn std::error::Error, "a worker can't be told to end");
    }
}
