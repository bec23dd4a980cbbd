//! What a shadow does to the answers of the model that it goes along with: none, one that takes ten times longer, and one
//! that panics at each request, at 80 % of what the server can do with none.
//!
//! `shadow [SECONDS] [ROUNDS] [--pin]`: so many seconds each, in turns, each server a process of its own. With `--pin` the
//! server has core 0 and the load has core 1.
//!
//! `shadow serve NAME` is one of the servers alone; `NAME` is the shadow, or `none`.

mod forest;
mod load;

use std::io::{self, Write};
use std::time::Duration;

use gristmill_online::endpoint::{EndpointSettings, ModelRef};
use gristmill_online::engine::EngineSettings;
use gristmill_online::models::Which;
use load::{Failure, Seen, Server, at, open_loop};

const LIVE: &str = "slow10";
const SHADOWS: [&str; 3] = ["none", "slow100", "panics"];
/// The part of the capacity that is asked for.
const PART: f64 = 0.8;

async fn serve(shadow: &str) -> Result<(), Failure> {
    let scoring = forest::scoring(EngineSettings::default()).await?;
    let model = |name: &str| ModelRef { name: name.to_owned(), which: Which::Served };
    let settings = EndpointSettings {
        name: "live".to_owned(),
        champion: model(LIVE),
        canary: None,
        shadows: if shadow == "none" { Vec::new() } else { vec![model(shadow)] },
        // A tenth of a core for what nobody waits for.
        shadow_core_share: 0.1,
    };
    scoring.start_endpoint(settings)?;
    load::serve_until_told(scoring).await
}

async fn measure(seconds: f64, rounds: u32, is_pinned: bool) -> Result<(), Failure> {
    let time = Duration::from_secs_f64(seconds);
    let request = forest::request("live");
    let start = |shadow: &&str| Server::start(&["serve", shadow], is_pinned);
    let servers = SHADOWS.iter().map(start).collect::<Result<Vec<Server>, Failure>>()?;
    load::capacity(servers[0].address, &request, time / 4).await?;
    let capacity = load::capacity(servers[0].address, &request, time).await?;
    let mut whole = SHADOWS.map(|_| Seen::default());
    for _ in 0..rounds {
        for (server, whole) in servers.iter().zip(&mut whole) {
            let seen = open_loop(server.address, &request, PART * capacity, time).await?;
            whole.accepted.extend(seen.accepted);
            whole.shed.extend(seen.shed);
            whole.late.extend(seen.late);
            whole.other += seen.other;
        }
    }
    let mut out = io::stdout();
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    writeln!(out, "model `{LIVE}`, capacity {capacity:.0}/s, the machine's load {}\n", busy.trim())?;
    writeln!(out, "| shadow | answered | p50 ms | p99 | p99.9 | shed | other | sent late p99 |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for (shadow, seen) in SHADOWS.iter().zip(&mut whole) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| at(&mut seen.accepted, part));
        let (answered, shed, other, late) =
            (seen.accepted.len(), seen.shed.len(), seen.other, at(&mut seen.late, 0.99));
        writeln!(out, "| {shadow} | {answered} | {p50} | {p99} | {p999} | {shed} | {other} | {late} |")?;
    }
    servers.into_iter().try_for_each(Server::end)
}

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve_word, shadow] = arguments.as_slice()
        && serve_word == "serve"
    {
        return tokio::runtime::Runtime::new()?.block_on(serve(shadow));
    }
    let is_pinned = arguments.iter().any(|argument| argument == "--pin");
    arguments.retain(|argument| argument != "--pin");
    let seconds: f64 = arguments.first().map_or(Ok(1.0), |text| text.parse())?;
    let rounds: u32 = arguments.get(1).map_or(Ok(5), |text| text.parse())?;
    if is_pinned {
        load::take_core_1()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(seconds, rounds, is_pinned))
}
