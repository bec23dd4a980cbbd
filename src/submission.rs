//! What is submitted: a checked pipeline with where its files are; `submit`, `watch` and `wait`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use gristmill_backends::artifacts::Artifacts;
use gristmill_protocol::Timestamp;
use gristmill_protocol::fact::About;
use gristmill_protocol::pipeline::Pipeline;
use gristmill_scheduler::message::{NAMESPACE, apply};
use gristmill_scheduler::submit::{Submission, submit as submit_to};
use serde_json::json;

use crate::cli::{SubmitArgs, WaitArgs, WatchArgs};
use crate::cluster::random_bits;
use crate::follow::{look_every, watch as follow};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::{check as checking, files, run as running};

/// What a caller wants to be run.
#[derive(Clone, Debug)]
pub struct What {
    pub pipeline: PathBuf,
    pub parameters: Vec<(String, String)>,
    pub no_cache: bool,
    pub priority: Option<i8>,
}

/// A pipeline file that has nothing wrong, and its text.
pub struct Checked {
    pub pipeline: Pipeline,
    pub source: String,
}

/// Reads and checks the pipeline before anything else is touched.
pub fn check(what: &What) -> anyhow::Result<Checked> {
    let (mut pipeline, source) = checking::load(&what.pipeline, &what.parameters)?;
    eprint!("{}", pipeline.warnings);
    apply(&mut pipeline, what.no_cache, what.priority);
    Ok(Checked { pipeline, source })
}

/// Makes the submission, with source files uploaded where that is needed.
pub async fn prepare(
    settings: &Settings,
    artifacts: &dyn Artifacts,
    checked: Checked,
    what: &What,
    key: Option<String>,
) -> anyhow::Result<Submission> {
    let Checked { pipeline, source } = checked;
    let folder = folder_of(&what.pipeline)?;
    let work_folder = std::env::current_dir().context("failed to find the working folder")?;
    let plan = files::plan(settings, artifacts, &pipeline, &folder, &work_folder).await?;
    Ok(Submission {
        plan,
        about: About {
            source,
            params: pipeline.params.into_iter().collect(),
            folder: folder.display().to_string(),
            origin: None,
        },
        namespace: NAMESPACE.to_owned(),
        is_callers_key: key.is_some(),
        key: key.unwrap_or_else(|| format!("{:032x}", random_bits())),
        at: wall_clock(),
    })
}

/// The folder that relative paths of a pipeline start from: its own.
fn folder_of(pipeline: &Path) -> anyhow::Result<PathBuf> {
    let whole = std::path::absolute(pipeline).context("failed to find the working folder")?;
    Ok(whole.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned))
}

pub fn wall_clock() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// `gristmill submit`.
pub async fn submit(settings: &Settings, args: SubmitArgs) -> anyhow::Result<Exit> {
    let what =
        What { pipeline: args.pipeline, parameters: args.parameters, no_cache: args.no_cache, priority: args.priority };
    let checked = check(&what)?;
    let home = Home::read(settings).await?;
    let submission = prepare(settings, &*home.artifacts, checked, &what, args.key).await?;
    let run = submit_to(&*home.state, submission).await?.run;
    if args.json {
        println!("{}", json!({ "run": run.to_string() }));
    } else {
        println!("{run}");
        if !settings.is_distributed() {
            eprintln!("it runs as soon as `gristmill up` does");
        }
        eprintln!("next: `gristmill watch {run}`");
    }
    Ok(Exit::Success)
}

/// `gristmill watch`.
pub async fn watch(settings: &Settings, args: WatchArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    follow(&home, run, look_every(settings), || Ok(())).await?;
    running::sum_up(&home, run, args.json).await
}

/// `gristmill wait`.
pub async fn wait(settings: &Settings, args: WaitArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    let ended = async {
        loop {
            // A store that is away for a while is no reason to give up.
            if let Ok(Some(record)) = home.state.run(run).await
                && record.status.is_some()
            {
                return;
            }
            tokio::time::sleep(look_every(settings)).await;
        }
    };
    match args.timeout {
        Some(seconds) => {
            let limit = std::time::Duration::from_secs(seconds);
            if tokio::time::timeout(limit, ended).await.is_err() {
                return Err(Problem::failed(format!("`{run}` hasn't ended within {seconds} s"))
                    .hint(format!("it goes on; `gristmill explain {run}` says what it waits for"))
                    .into());
            }
        }
        None => ended.await,
    }
    running::sum_up(&home, run, args.json).await
}
