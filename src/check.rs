//! Checking pipeline files, and their schema.

use std::path::Path;

use anyhow::Context;
use gristmill_protocol::limits::PIPELINE_BYTES_MAX;
use gristmill_protocol::pipeline::{self, Complaints, Pipeline};

use crate::cli::CheckArgs;
use crate::problem::{Exit, Problem};

/// Reads and checks a pipeline file; returns its text too.
pub fn load(path: &Path, parameters: &[(String, String)]) -> anyhow::Result<(Pipeline, String)> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > PIPELINE_BYTES_MAX as u64 {
        let text = format!("`{name}` has {size} bytes; a pipeline file has at most {PIPELINE_BYTES_MAX}");
        return Err(Problem::usage(text).into());
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = pipeline::text_of(&name, &bytes)?.to_owned();
    let pipeline = pipeline::check(&name, &text, parameters)?;
    Ok((pipeline, text))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let problem = Problem::usage(format!("failed to read `{}`: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::NotFound => problem.hint("`gristmill init DATA --target COLUMN` writes a first pipeline"),
        _ => problem,
    }
}

/// `gristmill check`.
pub fn check(args: CheckArgs) -> anyhow::Result<Exit> {
    let result = load(&args.pipeline, &args.parameters);
    if args.json {
        let (complaints, exit) = match result {
            Ok((pipeline, _)) => (pipeline.warnings, Exit::Success),
            Err(error) => (error.downcast::<Complaints>()?, Exit::Usage),
        };
        println!("{}", serde_json::to_string_pretty(&complaints).context("failed to print JSON")?);
        return Ok(exit);
    }
    let (pipeline, _) = result?;
    eprint!("{}", pipeline.warnings);
    println!("{}: {} steps, all well", args.pipeline.display(), pipeline.steps.len());
    Ok(Exit::Success)
}

/// `gristmill schema`.
pub fn schema() -> anyhow::Result<Exit> {
    println!("{}", serde_json::to_string_pretty(&pipeline::json_schema()).context("failed to print JSON")?);
    Ok(Exit::Success)
}
