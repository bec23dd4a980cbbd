//! `gristmill init`: a first pipeline for a table.

use std::path::Path;

use anyhow::Context;
use gristmill_ml::ingest::{self, ReadOptions};
use gristmill_ml::profile::{Profiler, Scalar, TableProfile, TopValue};
use gristmill_protocol::pipeline::starter::{StarterColumn, StarterTable, starter_pipeline};
use gristmill_protocol::pipeline::steps::{BadLines, Ingest, OneOrMany};

use crate::cli::InitArgs;
use crate::problem::{Exit, Problem};
use crate::progress::grouped;

/// Reads the table and writes a pipeline that runs.
pub fn init(args: InitArgs) -> anyhow::Result<Exit> {
    if args.output.exists() && !args.force {
        let text = format!("`{}` is there already", args.output.display());
        return Err(Problem::usage(text).hint("add `--force` to write over it, or `-o` for another file").into());
    }
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::path::absolute(folder).context("failed to find the working folder")?;
    let here = std::env::current_dir().context("failed to find the working folder")?;
    // The file names the data from where it stands itself.
    let source = if folder == here { args.data.clone() } else { here.join(&args.data).display().to_string() };
    let profile = profile(&source, &folder)?;
    let target = profile.columns.iter().find(|column| column.name == args.target);
    if target.is_none() {
        let names: Vec<&str> = profile.columns.iter().map(|column| column.name.as_str()).collect();
        let problem = Problem::usage(format!("`{}` has no column `{}`", args.data, args.target));
        return Err(match gristmill_protocol::pipeline::names::nearest(&args.target, names.iter().copied()) {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None => problem.hint(format!("its columns are: {}", names.join(", "))),
        }
        .into());
    }
    let text = starter_pipeline(&starter_table(&profile, source, args.target));
    std::fs::write(&args.output, text).with_context(|| format!("failed to write `{}`", args.output.display()))?;
    println!("{} written for {} rows", args.output.display(), grouped(profile.rows));
    println!("next: gristmill run {}", args.output.display());
    Ok(Exit::Success)
}

fn profile(source: &str, folder: &Path) -> anyhow::Result<TableProfile> {
    let step = Ingest {
        source: OneOrMany::One(source.to_owned()),
        format: None,
        delimiter: None,
        nulls: None,
        columns: None,
        types: Default::default(),
        bad_lines: BadLines::default(),
    };
    let files = ingest::discover(&step.source.to_vec(), folder, None).map_err(with_hint)?;
    let schema = ingest::infer(&files, &step).map_err(with_hint)?;
    let options = ReadOptions::of(&step).map_err(with_hint)?;
    let mut profiler = Profiler::new(&schema);
    let scratch = std::env::temp_dir().join(format!("gristmill-init-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("failed to make `{}`", scratch.display()))?;
    let read = files.iter().try_for_each(|file| {
        let mut drop_partition =
            |finished: gristmill_ml::partition::FinishedPartition| std::fs::remove_file(finished.path);
        let report = ingest::read_file(file, &schema, &options, &scratch, &mut drop_partition).map_err(with_hint)?;
        profiler.merge(&report.profile).context("files of one table have other columns")
    });
    std::fs::remove_dir_all(&scratch).with_context(|| format!("failed to remove `{}`", scratch.display()))?;
    read?;
    Ok(profiler.finish())
}

fn with_hint(error: gristmill_ml::ingest::IngestError) -> anyhow::Error {
    let hint = error.hint();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    match hint {
        Some(hint) => Problem::usage(text).hint(hint).into(),
        None => Problem::usage(text).into(),
    }
}

fn starter_table(profile: &TableProfile, source: String, target: String) -> StarterTable {
    let columns = profile.columns.iter().map(|column| {
        // The most frequent values are all there are when they are as many.
        let listed = !column.approximate && column.top.len() as u64 == column.distinct;
        let text = |value: &TopValue| match &value.value {
            Scalar::Text(text) => Some(text.clone()),
            Scalar::Boolean(_) | Scalar::Integer(_) | Scalar::Float(_) => None,
        };
        StarterColumn {
            name: column.name.clone(),
            kind: column.kind,
            distinct: column.distinct,
            null_share: if profile.rows == 0 { 0.0 } else { column.nulls as f64 / profile.rows as f64 },
            levels: if listed { column.top.iter().filter_map(text).collect() } else { Vec::new() },
        }
    });
    StarterTable { source, target, rows: profile.rows, columns: columns.collect() }
}
