//! Files of a caller whose disk the workers don't see: sources go up before a run, outputs come down after it.

use std::path::Path;

use anyhow::Context;
use gristmill_backends::artifacts::Artifacts;
use gristmill_ml::ingest;
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::{Files, UploadedFile, plan_with};
use gristmill_protocol::pipeline::{Pipeline, Task};
use gristmill_protocol::plan::Plan;
use gristmill_protocol::wire;
use gristmill_scheduler::history::History;

use crate::home::Home;
use crate::problem::Problem;
use crate::settings::Settings;

/// The plan of a pipeline, with its sources uploaded where workers wouldn't see them.
pub async fn plan(
    settings: &Settings,
    artifacts: &dyn Artifacts,
    pipeline: &Pipeline,
    folder: &Path,
    work_folder: &Path,
) -> anyhow::Result<Plan> {
    let mut files = Vec::new();
    for step in &pipeline.steps {
        files.push(match &step.task {
            _ if settings.workers_see_files() => Files::Here,
            Task::Ingest(ingest) => {
                let found = ingest::discover(&ingest.source.to_vec(), folder, ingest.format).map_err(|error| {
                    let problem = Problem::usage(format!("step `{}`: {error}", step.name));
                    match error.hint() {
                        Some(hint) => problem.hint(hint),
                        None => problem,
                    }
                })?;
                Files::Uploaded { sources: Some(upload(artifacts, &found).await?) }
            }
            _ => Files::Uploaded { sources: None },
        });
    }
    let place = |name: &str| pipeline.steps.iter().position(|step| step.name == name);
    Ok(plan_with(pipeline, &folder.display().to_string(), &work_folder.display().to_string(), |step| {
        place(&step.name).and_then(|at| files.get(at).cloned()).unwrap_or_default()
    }))
}

/// Uploads files, each once by its digest, and the list of them.
async fn upload(artifacts: &dyn Artifacts, files: &[ingest::SourceFile]) -> anyhow::Result<gristmill_protocol::Digest> {
    let mut list = Vec::with_capacity(files.len());
    for file in files {
        let uploaded = artifacts.put_file(&file.path).await;
        let (digest, bytes) = uploaded.with_context(|| format!("failed to upload `{}`", file.path.display()))?;
        list.push(UploadedFile { path: file.path.display().to_string(), digest, bytes });
    }
    Ok(artifacts.put(wire::encode(&list).into()).await?)
}

/// Writes the files that a run has made to where its pipeline says, if they are elsewhere.
pub async fn download(home: &Home, history: &History) -> anyhow::Result<()> {
    for step in &history.steps {
        if let Some(Output::Scores { path, artifact: Some(artifact), .. }) = &step.output {
            crate::artifacts::save_over(&*home.artifacts, *artifact, Path::new(path))
                .await
                .with_context(|| format!("failed to fetch `{path}`; the run keeps it as `{artifact}`"))?;
        }
    }
    Ok(())
}
