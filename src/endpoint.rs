//! `endpoint`: what is behind the names that clients ask, and how canaries and shadows do.

use std::collections::BTreeMap;
use std::fmt::Write;

use gristmill_backends::state::StateError;
use gristmill_online::endpoint::comparison::{Advice, Bars, Comparison, advise};
use gristmill_protocol::Timestamp;
use gristmill_worker::online::endpoints::{
    CanarySpec, EndpointChange, EndpointDocument, EndpointError, EndpointSeen, EndpointSpec, Endpoints, SideSeen,
};
use serde_json::{Value, json};

use crate::cli::{EndpointArgs, EndpointCommand, EndpointSetArgs};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::text::{self, Table};

/// Changes that are listed; the others are in `--json`.
const CHANGES_SHOWN: usize = 10;

/// `gristmill endpoint …`.
pub async fn endpoint(settings: &Settings, args: EndpointArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let endpoints = Endpoints::new(home.state.clone());
    match args.command {
        EndpointCommand::Set(args) => set(&home, &endpoints, args).await,
        EndpointCommand::List { json } => {
            let mut all = Vec::new();
            for name in endpoints.names().await? {
                all.extend(endpoints.get(&name).await?.map(|(_, document)| document));
            }
            if json {
                println!("{:#}", all.iter().map(|document| json!(document.spec)).collect::<Value>());
            } else {
                print!("{}", list_text(&all));
            }
            Ok(Exit::Success)
        }
        EndpointCommand::Show { name, json } => {
            let (_, document) = endpoints.get(&name).await?.ok_or_else(|| unknown(&name))?;
            let seen = endpoints.seen(&name).await?;
            if json {
                println!("{:#}", show_json(&document, &seen));
            } else {
                print!("{}", show_text(&document, &seen, home.state.clock().await?.now));
            }
            Ok(Exit::Success)
        }
        EndpointCommand::Remove { name } => {
            endpoints.remove(&name).await.map_err(explained)?;
            println!("endpoint {name} is gone");
            Ok(Exit::Success)
        }
    }
}

async fn set(home: &Home, endpoints: &Endpoints, args: EndpointSetArgs) -> anyhow::Result<Exit> {
    let mut spec = EndpointSpec::new(&args.name, &args.champion);
    if let (Some(model), Some(share)) = (&args.canary, args.share) {
        let usual = CanarySpec::new(model, share);
        spec.canary = Some(CanarySpec {
            disagreement_max: args.disagreement_max.unwrap_or(usual.disagreement_max),
            latency_times: args.latency_times.unwrap_or(usual.latency_times),
            failures_over: args.failures_over.unwrap_or(usual.failures_over),
            ..usual
        });
    }
    spec.shadows = args.shadows;
    spec.shadow_core_share = args.shadow_core_share.unwrap_or(spec.shadow_core_share);
    let canary = spec.canary.iter().map(|canary| &canary.model);
    for model in [&spec.champion].into_iter().chain(canary).chain(&spec.shadows) {
        check_model(home, model).await?;
    }
    let change = EndpointChange { at: home.state.clock().await?.now, by: crate::who(), why: args.why };
    endpoints.set(spec, change).await.map_err(explained)?;
    println!("endpoint {} is set; servers follow within a second", args.name);
    Ok(Exit::Success)
}

/// Refuses a model that isn't registered.
async fn check_model(home: &Home, text: &str) -> anyhow::Result<()> {
    if text.contains('@') {
        home.registry.version(text).await?;
    } else {
        home.registry.model(text).await?;
    }
    Ok(())
}

fn unknown(name: &str) -> Problem {
    Problem::usage(format!("there is no endpoint `{name}`")).hint("`gristmill endpoint list` lists them")
}

fn explained(error: EndpointError) -> anyhow::Error {
    match error {
        EndpointError::None(name) => unknown(&name).into(),
        EndpointError::Bad(text) => Problem::usage(text).into(),
        EndpointError::State(StateError::Conflict { .. }) => {
            let problem = Problem::failed("somebody else has changed the endpoint at the same time");
            problem.hint("look at it with `gristmill endpoint show`, then set it again").into()
        }
        error => error.into(),
    }
}

fn list_text(all: &[EndpointDocument]) -> String {
    if all.is_empty() {
        return "there are no endpoints\nhint: `gristmill endpoint set NAME --champion MODEL` makes one\n".to_owned();
    }
    let mut table = Table::new(&["endpoint", "champion", "canary", "shadows"]);
    for EndpointDocument { spec, .. } in all {
        let canary = spec.canary.as_ref().map(canary_text).unwrap_or_default();
        table.row([spec.name.clone(), spec.champion.clone(), canary, spec.shadows.join(", ")]);
    }
    table.to_string()
}

fn canary_text(canary: &CanarySpec) -> String {
    match &canary.taken_back {
        Some(_) => format!("{}, taken back", canary.model),
        None => format!("{}, {}", canary.model, text::percent(canary.share)),
    }
}

/// What all servers together have seen of each shadow, in the versions of who told last.
fn shadows(seen: &[EndpointSeen]) -> BTreeMap<&str, Comparison> {
    let mut all: BTreeMap<&str, Comparison> = BTreeMap::new();
    let mut latest_first: Vec<&EndpointSeen> = seen.iter().collect();
    latest_first.sort_by_key(|seen| std::cmp::Reverse(seen.at));
    for (model, comparison) in latest_first.iter().flat_map(|seen| &seen.shadows) {
        all.entry(model).or_default().merge(comparison);
    }
    all
}

fn show_text(document: &EndpointDocument, seen: &[EndpointSeen], now: Timestamp) -> String {
    let EndpointDocument { spec, changes } = document;
    let mut out = format!("{}: {} answers\n", spec.name, spec.champion);
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes all text");
    if let Some(canary) = &spec.canary {
        match &canary.taken_back {
            Some(end) => {
                line(format!("canary {} was taken back {}: {}", canary.model, text::ago(end.at, now), end.reason))
            }
            None => line(format!("canary {} answers {} of the keys", canary.model, text::percent(canary.share))),
        }
    }
    let sides: Vec<(&EndpointSeen, &[SideSeen; 2])> =
        seen.iter().filter_map(|seen| Some((seen, seen.canary.as_ref()?))).collect();
    if !sides.is_empty() {
        let mut table = Table::new(&["server", "side", ">requests", ">failed", ">p99", ">rows compared", ">differ"]);
        for (server, [canary, champion]) in sides {
            for (side, seen) in [("canary", canary), ("champion", champion)] {
                table.row([
                    server.server.clone(),
                    side.to_owned(),
                    text::count(seen.requests),
                    text::count(seen.failed),
                    text::seconds(seen.p99_us as f64 / 1e6),
                    text::count(seen.compared),
                    text::count(seen.disagreed),
                ]);
            }
        }
        line(format!("\n{table}"));
    }
    for (model, seen) in shadows(seen) {
        line(format!("\nshadow {model}: {}", advice_text(&advise(&seen, &Bars::default()))));
        line(format!("  {}", comparison_text(&seen)));
    }
    if seen.is_empty() {
        line("no server has told of it yet".to_owned());
    }
    line("\nchanges, latest first".to_owned());
    let mut table = Table::new(&["", "", ""]).indented("  ");
    for change in changes.iter().rev().take(CHANGES_SHOWN) {
        table.row([text::moment(change.at), format!("by {}", change.by), change.why.clone()]);
    }
    out + &table.to_string()
}

fn advice_text(advice: &Advice) -> String {
    match advice {
        Advice::Promote => "ready to be promoted".to_owned(),
        Advice::Wait(why) => format!("too early to say: {why}"),
        Advice::Keep(why) => format!("not to be promoted: {}", why.join("; ")),
    }
}

fn comparison_text(seen: &Comparison) -> String {
    let mut parts = vec![text::counted(seen.requests, "request"), text::counted(seen.rows, "row")];
    parts.extend(seen.agreement().map(|part| format!("agrees on {}", text::percent(part))));
    parts.extend(seen.mean_difference().map(|(mean, size)| {
        format!(
            "scores differ by {} ({} without sign, {} at most)",
            text::number(mean),
            text::number(size),
            text::number(seen.difference_max)
        )
    }));
    if seen.requests > 0 {
        let each = |time: std::time::Duration| text::seconds(time.as_secs_f64() / seen.requests as f64);
        parts.push(format!("{} a request beside {}", each(seen.other_time), each(seen.live_time)));
    }
    if seen.failed + seen.dropped > 0 {
        parts.push(format!("failed at {}, had no time for {}", text::count(seen.failed), text::count(seen.dropped)));
    }
    parts.join(", ")
}

pub fn show_json(document: &EndpointDocument, seen: &[EndpointSeen]) -> Value {
    let shadow = |(model, seen): (&str, Comparison)| {
        let advice = advise(&seen, &Bars::default());
        let verdict = match advice {
            Advice::Promote => "promote",
            Advice::Wait(_) => "wait",
            Advice::Keep(_) => "keep",
        };
        json!({
            "model": model, "requests": seen.requests, "failed": seen.failed, "dropped": seen.dropped,
            "rows": seen.rows, "agreement": seen.agreement(),
            "mean_difference": seen.mean_difference().map(|(mean, _)| mean),
            "mean_absolute_difference": seen.mean_difference().map(|(_, size)| size),
            "seconds": seen.other_time.as_secs_f64(), "live_seconds": seen.live_time.as_secs_f64(),
            "advice": verdict, "because": advice_text(&advice),
        })
    };
    json!({
        "endpoint": document.spec,
        "changes": document.changes,
        "servers": seen.iter().map(|seen| json!({
            "server": seen.server, "at_ms": seen.at.0,
            "canary": seen.canary.as_ref().map(|[canary, _]| canary),
            "champion": seen.canary.as_ref().map(|[_, champion]| champion),
        })).collect::<Vec<_>>(),
        "shadows": shadows(seen).into_iter().map(shadow).collect::<Vec<_>>(),
    })
}
