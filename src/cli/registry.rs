//! The commands that read and change registered models.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model's name; with `--card` also `name@alias` or `name@3`.
    pub name: String,
    /// Print the card of a version (the latest, if none is named), in Markdown or with `--json` as JSON: what it
    /// learned from, how good and how fair it is, and what to watch out for.
    #[arg(long)]
    pub card: bool,
    /// Say where its aliases pointed then, as `2026-11-22T12:00:00Z`.
    #[arg(long, value_name = "TIME", conflicts_with = "card")]
    pub at: Option<jiff::Timestamp>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// The alias that is to point to it.
    #[arg(default_value = "champion")]
    pub alias: String,
    /// Why, for the model's history.
    #[arg(long, default_value = "")]
    pub why: String,
    /// The evaluation to go by, as its digest or the first digits of it. Default: the one that the version was
    /// registered with. A version whose gates said no isn't promoted.
    #[arg(long, value_name = "DIGEST")]
    pub evidence: Option<String>,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The model's name.
    pub name: String,
    /// The alias that is to go back.
    #[arg(default_value = "champion")]
    pub alias: String,
    /// Why, for the model's history.
    #[arg(long, default_value = "")]
    pub why: String,
}

#[derive(Debug, Args)]
pub struct RegistryArgs {
    #[command(subcommand)]
    pub command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Say where a version comes from and what it has scored; or which versions come from a dataset, a model's bytes,
    /// a search or a run.
    Lineage {
        /// `name@alias`, `name@3`, a digest (or the first digits of one), or a run.
        of: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the facts of a model, oldest first: who did what, when, why, before and after. Models that are gone too.
    Log {
        /// The model's name.
        name: String,
        /// Facts after this number.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: u64,
        /// How many to list.
        #[arg(short = 'n', long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set an alias without asking the gates, or remove one.
    Alias {
        #[command(subcommand)]
        command: AliasCommand,
    },
    /// Set a tag of a model or a version, or remove one.
    #[command(
        after_help = "Examples:\n  gristmill registry tag flight-delays owner=ops\n  gristmill registry tag flight-delays@3 owner"
    )]
    Tag {
        /// `name`, `name@alias` or `name@3`.
        of: String,
        /// `TAG=VALUE` sets the tag, `TAG` alone removes it.
        tag: String,
        /// Why, for the model's history.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Describe a model or a version.
    Describe {
        /// `name`, `name@alias` or `name@3`.
        of: String,
        /// The description.
        text: String,
    },
    /// Give a model another name. Signatures were for the old one: sign again.
    Rename {
        name: String,
        to: String,
        /// Why, for the model's history.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Sign a version with the signing key (`--signing-key`).
    Sign {
        /// `name@alias` or `name@3`.
        of: String,
    },
    /// Delete a version to which no alias points, or a model with all its versions.
    Delete {
        /// `name` or `name@3`.
        of: String,
        /// Days until `purge` may remove its artifacts.
        #[arg(long, default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(0..=36_500))]
        keep_days: u64,
        /// Why, for the model's history.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Remove the artifacts of deleted versions whose days are over.
    Purge {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove artifacts for good, whatever needs them, and note it in every model that they belonged to.
    Erase {
        /// Which request it is, such as a case number; never a name, for it stays in the log.
        subject: String,
        /// The artifacts, by digest.
        #[arg(required = true)]
        digests: Vec<gristmill_protocol::Digest>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check every fact's hash, every version's artifacts and every signature; exit code 1 when something is damaged.
    Verify {
        /// Read every artifact and compute its digest anew; else only look whether it is there.
        #[arg(long)]
        read_artifacts: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write to the state every fact that the artifact store has a copy of and the state has lost.
    Rebuild {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key to sign versions with, and print its public half.
    Keygen {
        /// The file that gets the secret half; only its owner can read it.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum AliasCommand {
    /// Point an alias to a version, whatever its gates said.
    Set {
        name: String,
        alias: String,
        version: u64,
        /// Why, for the model's history.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Remove an alias; its history stays.
    Remove {
        name: String,
        alias: String,
        /// Why, for the model's history.
        #[arg(long, default_value = "")]
        why: String,
    },
}
