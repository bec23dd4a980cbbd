//! Scoring: single rows to a served model, as an open loop at rates that rise until the 99th percentile is too slow,
//! beside a server on the same machine that answers every request with the same bytes.
//!
//! ```text
//! pacer.rs   when requests are due
//! http.rs    requests over connections that stay, and the constant server
//! server.rs  a registered model and `gristmill serve`
//! ```

mod http;
mod pacer;
mod server;

use std::path::PathBuf;

use anyhow::Context;

use self::http::{Constant, Measured, Target, open_loop};
use self::pacer::Schedule;
use self::server::{BODY, Server, register};
use crate::Place;
use crate::live::{Live, Now};
use crate::outcome::Found;

/// By how much the rate rises from step to step.
const FACTOR: f64 = 1.5;
/// Steps at the most: from 200 a second the last one asks for 400,000.
const STEPS_MAX: usize = 20;
/// A step counts as held when so few of its requests fail.
const ERRORS_MAX: f64 = 0.001;
/// Seconds before the first step, in which caches fill and connections open.
const WARM_UP: f64 = 1.0;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct ScoringArgs {
    /// Requests a second, one step each. Default: from 200 on, half as many more each step, until it is too slow.
    #[arg(long, value_delimiter = ',', value_name = "RATES")]
    pub rates: Vec<f64>,
    /// Seconds of each step.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Milliseconds of the 99th percentile from which on it is too slow.
    #[arg(long, default_value_t = 50.0)]
    pub p99_limit: f64,
    /// Connections that requests are sent over.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Ask this server instead of one of our own, such as `http://127.0.0.1:8000/score`.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// What the server is asked: a file of JSON. Default: one flight as `dataframe_records`.
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// Folder with the flights' files that the model learns from. Default: a small table is made.
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Repeats when requests come.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One rate and what came of it.
struct Step {
    rate: f64,
    measured: Measured,
}

impl Step {
    fn is_held(&self, p99_limit_ms: f64) -> bool {
        let errors = self.measured.errors as f64 / self.measured.latency.count().max(1) as f64;
        errors <= ERRORS_MAX && self.measured.latency.ms(99.0) <= p99_limit_ms
    }
}

/// The rate that is held, and latencies at each rate.
pub async fn scoring(place: &Place, args: &ScoringArgs) -> anyhow::Result<Found> {
    let body = match &args.body {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?,
        None => BODY.to_owned(),
    };
    let live = &place.live;
    let server = match &args.target {
        Some(_) => None,
        None => {
            live.phase("registering a model");
            register(place, args.data.as_deref()).await?;
            Some(Server::start(place).await?)
        }
    };
    let url = args.target.as_deref().or(server.as_ref().map(|server| server.url.as_str()));
    let target = Target::new(url.context("there is no server")?, &body).await?;
    let constant = Constant::start().await?;
    let raw_target = Target::new(&format!("http://{}/", constant.address), &body).await?;
    let steps = steps(live, "the model", &target, args).await?;
    let raw = Constant::steps(live, &raw_target, args, &steps).await?;
    let resident = server.as_ref().and_then(Server::resident_bytes);
    drop(server);
    Ok(told(args, &steps, &raw, resident))
}

/// Rates one after the other, until one isn't held or there are no more.
async fn steps(live: &Live, name: &str, target: &Target, args: &ScoringArgs) -> anyhow::Result<Vec<Step>> {
    let rates: Vec<f64> = match args.rates.is_empty() {
        true => (0..STEPS_MAX).map(|step| (200.0 * FACTOR.powi(step as i32)).round()).collect(),
        false => args.rates.clone(),
    };
    let connections = args.connections as usize;
    if let Some(first) = rates.first() {
        open_loop(target, Schedule::new(*first, WARM_UP, args.seed), connections).await?;
    }
    let mut steps: Vec<Step> = Vec::new();
    for rate in rates {
        live.phase(&format!("{name} at {}/s", crate::text::number(rate)));
        let measured = open_loop(target, Schedule::new(rate, args.seconds, args.seed), connections).await?;
        let p99_ms = Some(measured.latency.ms(99.0));
        live.show(&Now { rate: Some(rate), p99_ms, errors: measured.errors, ..Now::default() });
        let step = Step { rate, measured };
        let is_held = step.is_held(args.p99_limit);
        steps.push(step);
        // Rates that were asked for are all measured.
        if !is_held && args.rates.is_empty() {
            break;
        }
    }
    Ok(steps)
}

impl Constant {
    /// The same rates for the constant server.
    async fn steps(live: &Live, target: &Target, args: &ScoringArgs, as_for: &[Step]) -> anyhow::Result<Vec<Step>> {
        let rates = match args.rates.is_empty() {
            // It goes on where the model couldn't.
            true => Vec::new(),
            false => as_for.iter().map(|step| step.rate).collect(),
        };
        steps(live, "a constant", target, &ScoringArgs { rates, ..args.clone() }).await
    }
}

fn told(args: &ScoringArgs, steps: &[Step], raw: &[Step], resident: Option<u64>) -> Found {
    let mut found = Found::default();
    let held = |steps: &[Step]| {
        let held = steps.iter().filter(|step| step.is_held(args.p99_limit)).map(|step| step.rate);
        held.fold(0.0, f64::max)
    };
    let (most, raw_most) = (held(steps), held(raw));
    found.higher("scoring_requests_per_second", most, "1/s").limit("a constant answer", raw_most);
    // Latency is told at half of what is held: at the edge it says more of chance than of the server.
    let calm = steps.iter().filter(|step| step.rate <= (most / 2.0).max(steps.first().map_or(0.0, |step| step.rate)));
    if let Some(calm) = calm.max_by(|a, b| a.rate.total_cmp(&b.rate)) {
        let beside = raw.iter().find(|step| step.rate == calm.rate);
        let raw_ms = |p: f64| beside.map_or(f64::NAN, |step| step.measured.latency.ms(p));
        for (name, p) in [("p50", 50.0), ("p99", 99.0), ("p99_9", 99.9)] {
            let figure = found.lower(&format!("scoring_ms_{name}"), calm.measured.latency.ms(p), "ms");
            figure.limit("a constant answer", raw_ms(p));
        }
        found.figure("scoring_latency_at_requests_per_second", calm.rate, "1/s", None);
    }
    found.lower("scoring_errors", steps.iter().map(|step| step.measured.errors as f64).sum(), "");
    if let Some(bytes) = resident {
        found.lower("server_resident_bytes", bytes as f64, "bytes");
    }
    for (name, of) in [("the model", steps), ("a constant", raw)] {
        for (label, p) in [("p50", 50.0), ("p99", 99.0)] {
            let points = of.iter().map(|step| (step.rate, step.measured.latency.ms(p)));
            found.series(&format!("{name}: {label}"), "ms", "requests a second", points);
        }
    }
    for step in steps {
        found.distribution(&format!("at {}/s", crate::text::number(step.rate)), &step.measured.latency);
        if let Some(error) = &step.measured.first_error {
            found.note(format!("{} errors at {}/s, the first: {error}", step.measured.errors, step.rate));
        }
        let (asked, reached) = (step.rate, step.measured.latency.count() as f64 / step.measured.seconds);
        if reached < asked * 0.9 && step.is_held(args.p99_limit) {
            found.note(format!("at {asked}/s only {reached:.0}/s were reached"));
        }
    }
    if let Some(step) = steps.last().filter(|step| step.is_held(args.p99_limit) && args.rates.is_empty()) {
        found.note(format!("{}/s was held and no higher rate was tried", step.rate));
    }
    let late = steps.iter().find(|step| step.rate == most).map(|step| step.measured.lateness.ms(99.0));
    if let Some(late) = late.filter(|late| *late > 2.0) {
        found.note(format!("at the highest held rate requests were sent up to {late:.1} ms late (p99), which counts"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rate: f64, us: u64, errors: u64) -> Step {
        let latency = (0..1_000).map(|_| us).collect();
        Step { rate, measured: Measured { latency, errors, seconds: 1_000.0 / rate, ..Measured::default() } }
    }

    #[test]
    fn what_is_held_is_told_beside_the_limit() {
        let args = ScoringArgs {
            rates: Vec::new(),
            seconds: 1.0,
            p99_limit: 50.0,
            connections: 4,
            target: None,
            body: None,
            data: None,
            seed: 1,
        };
        let model = [step(200.0, 900, 0), step(400.0, 1_200, 0), step(800.0, 2_000, 9), step(1_600.0, 90_000, 0)];
        let raw = [step(200.0, 100, 0), step(400.0, 110, 0), step(800.0, 120, 0)];
        let found = told(&args, &model, &raw, Some(1 << 20));
        let rate = found.get("scoring_requests_per_second").expect("a rate");
        assert_eq!((rate.value, rate.limit.as_ref().map(|limit| limit.value)), (400.0, Some(800.0)));
        let p99 = found.get("scoring_ms_p99").expect("a latency");
        assert_eq!((p99.value, p99.limit.as_ref().map(|limit| limit.value)), (0.9, Some(0.1)));
        assert_eq!(found.get("scoring_errors").map(|figure| figure.value), Some(9.0));
    }
}
