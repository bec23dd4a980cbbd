//! Watching a run from outside: its journal, read as it grows, says all there is to see.

use std::time::Duration;

use anyhow::Context;
use gristmill_backends::state::State;
use gristmill_protocol::fact::JournalBody;
use gristmill_protocol::{RunId, wire};
use gristmill_scheduler::history::History;
use gristmill_scheduler_core::{Scheduler, StepView};

use crate::home::Home;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::settings::Settings;

/// Between two looks at a run in this process: often enough for the eye, and for a run that does no work.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Between two looks at a run elsewhere: some calls a second, from each that watches.
const LOOK_EVERY_ELSEWHERE: Duration = Duration::from_millis(100);
/// Entries read at a time.
const READ_MAX: usize = 256;
/// Looks that may fail one after the other: a store that restarts is back before.
const FAILURES_MAX: u32 = 300;

/// How long to wait between two looks.
pub fn look_every(settings: &Settings) -> Duration {
    if settings.is_distributed() { LOOK_EVERY_ELSEWHERE } else { LOOK_EVERY }
}

/// What a run looks like.
#[derive(Clone, Debug)]
pub struct RunView {
    pub steps: Vec<StepView>,
}

/// A run's journal, replayed as far as it was read.
struct Follower {
    run: RunId,
    core: Scheduler,
    position: u64,
}

impl Follower {
    /// Reads what is new; returns what the run looks like.
    async fn advance(&mut self, state: &dyn State) -> anyhow::Result<RunView> {
        loop {
            let entries = state.journal(self.run, self.position, READ_MAX).await?;
            for entry in &entries {
                let body: JournalBody = wire::decode("a journal entry", &entry.body)?;
                for fact in &body.facts {
                    self.core.replay(self.run, fact).context("the journal can't be replayed")?;
                }
                self.position = entry.position;
            }
            if entries.len() < READ_MAX {
                return Ok(RunView { steps: self.core.steps(self.run) });
            }
        }
    }
}

/// Shows a run's progress until it has ended. `check` may say that there is no use in waiting any longer.
pub async fn watch(
    home: &Home,
    run: RunId,
    every: Duration,
    check: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let history = History::read(&*home.state, run).await?;
    eprintln!("{run}  {}", history.plan.pipeline);
    let steps: Vec<String> = history.plan.steps.iter().map(|step| step.name.clone()).collect();
    let mut progress = Progress::new(&steps);
    let mut follower = Follower { run, core: Scheduler::new(), position: 0 };
    let (mut ended_steps, mut failures) = (0, 0);
    loop {
        match look(home, &mut follower, &mut progress, &mut ended_steps).await {
            Ok(true) => {
                progress.finish();
                return Ok(());
            }
            Ok(false) => failures = 0,
            Err(error) => {
                failures += 1;
                // After a rollback of the store the journal may be shorter than what was read.
                follower = Follower { run, core: Scheduler::new(), position: 0 };
                if failures >= FAILURES_MAX {
                    return Err(error);
                }
            }
        }
        check()?;
        tokio::time::sleep(every).await;
    }
}

/// One look; says whether the run is over.
async fn look(
    home: &Home,
    follower: &mut Follower,
    progress: &mut Progress,
    ended_steps: &mut usize,
) -> anyhow::Result<bool> {
    let run = follower.run;
    let record = home.state.run(run).await?;
    let over = match record {
        Some(record) => record.status.is_some(),
        None => return Err(Problem::failed(format!("`{run}` isn't in the state any more")).into()),
    };
    let view = follower.advance(&*home.state).await?;
    let now_ended = view.steps.iter().filter(|step| step.state.has_ended()).count();
    if over || now_ended > *ended_steps {
        *ended_steps = now_ended;
        progress.ended(&History::read(&*home.state, run).await?);
    }
    if !over {
        progress.update(run, &view, &home.state.workers().await.unwrap_or_default());
    }
    Ok(over)
}
