//! `models` and `model NAME`: what is registered, how good it is, and where its aliases point and pointed.

use std::collections::BTreeSet;
use std::fmt::Write;

use gristmill_protocol::Timestamp;
use gristmill_registry::{ModelView, Registry, RegistryError, VersionView};
use serde_json::{Value, json};

use crate::text::{self, Table};

/// Metrics that get a column of their own; the others are in `--json`.
const METRICS_SHOWN: usize = 4;
/// Moves of aliases that are listed; the others are in `--json`.
const MOVES_SHOWN: usize = 20;
/// The metrics that people look at first, in this order; others follow by name.
const METRICS_FIRST: [&str; 6] = ["roc_auc", "rmse", "accuracy", "r2", "log_loss", "mae"];

/// All registered models, by name.
pub async fn all(registry: &Registry) -> Result<Vec<ModelView>, RegistryError> {
    let mut models = Vec::new();
    for name in registry.names().await? {
        models.push(registry.model(&name).await?);
    }
    Ok(models)
}

/// The registered models as a table.
pub fn models_text(models: &[ModelView], now: Timestamp) -> String {
    if models.is_empty() {
        return "no model is registered yet\nhint: a `register` step of a pipeline registers one\n".to_owned();
    }
    let mut table = Table::new(&["model", ">versions", "aliases", "latest", "metrics of the latest"]);
    for model in models {
        let aliases: Vec<String> = model.aliases.iter().map(|(alias, to)| format!("{alias} → {to}")).collect();
        let latest = model.versions.last();
        table.row([
            model.name.clone(),
            text::count(model.versions.len() as u64),
            aliases.join(", "),
            latest.map(|version| text::ago(version.at, now)).unwrap_or_default(),
            latest.map(metrics_line).unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// The registered models as JSON.
pub fn models_json(models: &[ModelView]) -> Value {
    let model = |model: &ModelView| {
        json!({
            "name": model.name,
            "versions": model.versions.len(),
            "aliases": model.aliases,
            "latest": model.versions.last().map(version_json),
        })
    };
    Value::Array(models.iter().map(model).collect())
}

/// One model: its versions and the moves of its aliases.
pub fn model_text(model: &ModelView, now: Timestamp) -> String {
    let mut out = format!("{}, {}\n\n", model.name, text::counted(model.versions.len() as u64, "version"));
    let metrics = columns(&model.versions);
    let mut titles = vec![">version".to_owned(), "aliases".to_owned()];
    titles.extend(metrics.iter().map(|metric| format!(">{metric}")));
    titles.extend(["algorithm", "registered", "by", "digest"].map(str::to_owned));
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = Table::new(&titles);
    for version in model.versions.iter().rev() {
        let mut row = vec![version.version.to_string(), model.aliases_of(version.version).join(", ")];
        let metric =
            |name: &String| version.new.metrics.get(name).map(|value| text::number(*value)).unwrap_or_default();
        row.extend(metrics.iter().map(metric));
        let algorithm = version.new.algorithm.clone();
        row.extend([algorithm, text::ago(version.at, now), version.by.clone(), version.new.model.short()]);
        table.row(row);
    }
    out += &table.to_string();
    if !model.moves.is_empty() {
        let mut moves = Table::new(&["", "", "", ""]).indented("  ");
        for moved in model.moves.iter().rev().take(MOVES_SHOWN) {
            let from = moved.from.map_or_else(|| "new".to_owned(), |from| from.to_string());
            let back = if moved.rollback { " (back)" } else { "" };
            let step = format!("{} {from} → {}{back}", moved.alias, moved.to);
            moves.row([text::moment(moved.at), step, format!("by {}", moved.by), moved.why.clone()]);
        }
        write!(out, "\naliases, latest move first\n{moves}").expect("writing to memory");
        if model.moves.len() > MOVES_SHOWN {
            let more = text::counted((model.moves.len() - MOVES_SHOWN) as u64, "earlier move");
            writeln!(out, "  {more} with `--json`").expect("writing to memory");
        }
    }
    if let Some(version) = model.versions.last() {
        let reference = format!("{}@{}", model.name, version.version);
        writeln!(out, "\nnext: `gristmill artifacts {}` shows `{reference}`", version.new.model.short())
            .expect("writing to memory");
    }
    out
}

/// Where a model's aliases pointed at a time.
pub fn aliases_text(model: &ModelView, at: Timestamp) -> String {
    let mut out = String::new();
    for alias in model.history.keys() {
        let to = model.alias_at(alias, at).map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
        writeln!(out, "{}@{alias} was {to} at {}", model.name, text::moment(at)).expect("writing to memory");
    }
    if out.is_empty() {
        writeln!(out, "{} never had an alias", model.name).expect("writing to memory");
    }
    out
}

/// The same as JSON: the version by alias, or null.
pub fn aliases_json(model: &ModelView, at: Timestamp) -> Value {
    let aliases = model.history.keys().map(|alias| (alias.clone(), json!(model.alias_at(alias, at))));
    json!({ "name": model.name, "at_ms": at.0, "aliases": aliases.collect::<serde_json::Map<_, _>>() })
}

/// One model with all that its log says.
pub fn model_json(model: &ModelView) -> Value {
    let moved = |moved: &gristmill_registry::AliasMove| {
        json!({
            "at_ms": moved.at.0, "by": moved.by, "why": moved.why,
            "alias": moved.alias, "from": moved.from, "to": moved.to, "rollback": moved.rollback,
        })
    };
    json!({
        "name": model.name,
        "aliases": model.aliases,
        "versions": model.versions.iter().map(version_json).collect::<Vec<_>>(),
        "moves": model.moves.iter().map(moved).collect::<Vec<_>>(),
    })
}

fn version_json(version: &VersionView) -> Value {
    let new = &version.new;
    json!({
        "version": version.version,
        "at_ms": version.at.0,
        "by": version.by,
        "digest": new.model.to_string(),
        "algorithm": new.algorithm,
        "metrics": new.metrics,
        "run": new.run.to_string(),
        "step": new.step,
        "evidence": new.evidence.map(|digest| digest.to_string()),
        "description": version.description,
        "tags": version.tags,
        "signed_by": version.signatures.iter().map(|signature| signature.key.to_string()).collect::<Vec<_>>(),
        "datasets": version.lineage.datasets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "study": version.lineage.study.map(|digest| digest.to_string()),
    })
}

/// The metrics of all versions, those that people look at first in front, as many as fit.
fn columns(versions: &[VersionView]) -> Vec<String> {
    let known: BTreeSet<&String> = versions.iter().flat_map(|version| version.new.metrics.keys()).collect();
    let rank = |name: &String| METRICS_FIRST.iter().position(|first| first == name).unwrap_or(METRICS_FIRST.len());
    let mut names: Vec<String> = known.into_iter().cloned().collect();
    names.sort_by_key(rank);
    names.truncate(METRICS_SHOWN);
    names
}

fn metrics_line(version: &VersionView) -> String {
    let metric = |name: &String| Some(format!("{name} {}", text::number(*version.new.metrics.get(name)?)));
    columns(std::slice::from_ref(version)).iter().filter_map(metric).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;
    use gristmill_protocol::{Digest, RunId};
    use gristmill_registry::{AliasMove, NewVersion};

    use super::*;

    fn model() -> ModelView {
        let at = Timestamp(1_735_787_045_000);
        let version = |version: u64, roc_auc: f64| {
            let new = NewVersion {
                model: Digest::of(&version.to_be_bytes()),
                run: RunId::from_u128(7),
                step: "release".to_owned(),
                metrics: BTreeMap::from([("roc_auc".to_owned(), roc_auc), ("accuracy".to_owned(), 0.85)]),
                evidence: None,
                algorithm: "random_forest".to_owned(),
            };
            VersionView::new(version, at.plus_ms(version * 3_600_000), "ann", new)
        };
        let moved = |from, to, why: &str| AliasMove {
            at: at.plus_ms(to * 3_600_000),
            by: "ann".to_owned(),
            why: why.to_owned(),
            alias: "champion".to_owned(),
            from,
            to,
            rollback: false,
        };
        let mut model = ModelView::default();
        model.name = "delays".to_owned();
        model.versions = vec![version(1, 0.91), version(2, 0.914)];
        model.aliases = BTreeMap::from([("champion".to_owned(), 2)]);
        model.moves = vec![moved(None, 1, "first"), moved(Some(1), 2, "better on the holidays")];
        model
    }

    #[test]
    fn models_are_listed_with_their_latest_metrics() {
        expect![[r#"
            model   versions  aliases       latest   metrics of the latest
            delays         2  champion → 2  1 h ago  roc_auc 0.914, accuracy 0.85
        "#]]
        .assert_eq(&models_text(&[model()], Timestamp(1_735_800_000_000)));
        expect![[r#"
            no model is registered yet
            hint: a `register` step of a pipeline registers one
        "#]]
        .assert_eq(&models_text(&[], Timestamp(0)));
    }

    #[test]
    fn a_model_shows_versions_and_the_moves_of_its_aliases() {
        expect![[r#"
            delays, 2 versions

            version  aliases   roc_auc  accuracy  algorithm      registered  by   digest
                  2  champion    0.914      0.85  random_forest  1 h ago     ann  cd04a4754498
                  1               0.91      0.85  random_forest  2 h ago     ann  cd2662154e6d

            aliases, latest move first
              2025-01-02 05:04:05 UTC  champion 1 → 2    by ann  better on the holidays
              2025-01-02 04:04:05 UTC  champion new → 1  by ann  first

            next: `gristmill artifacts cd04a4754498` shows `delays@2`
        "#]]
        .assert_eq(&model_text(&model(), Timestamp(1_735_800_000_000)));
    }
}
