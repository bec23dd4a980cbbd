//! What happens beyond capacity: requests come at a constant rate, whatever the server does with them.
//!
//! `overload [SECONDS] [MODEL] [--pin]` starts the server as a process of its own and measures what it can do in a closed
//! loop; then requests come at parts and multiples of that for so many seconds each. `MODEL` is `forest`, `slow10` or
//! `slow50` (default). With `--pin` the server has core 0 and the load has core 1.
//!
//! `overload serve` is the server alone.

mod forest;
mod load;

use std::io::{self, Write};
use std::time::Duration;

use gristmill_online::engine::EngineSettings;
use load::{Failure, Server, at, open_loop};

/// The loads, in parts of the capacity.
const LOADS: [f64; 5] = [0.5, 0.8, 1.0, 2.0, 4.0];

async fn measure(seconds: f64, model: &str, is_pinned: bool) -> Result<(), Failure> {
    let time = Duration::from_secs_f64(seconds);
    let server = Server::start(&["serve"], is_pinned)?;
    let request = forest::request(model);
    load::capacity(server.address, &request, time / 4).await?;
    let capacity = load::capacity(server.address, &request, time).await?;
    let mut out = io::stdout();
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    writeln!(out, "model `{model}`, capacity {capacity:.0}/s, the machine's load before {}\n", busy.trim())?;
    writeln!(
        out,
        "| offered | accepted/s | of capacity | p50 ms | p99 | p99.9 | shed/s | p50 | p99 | other | sent late p99 |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for part in LOADS {
        let mut seen = open_loop(server.address, &request, capacity * part, time).await?;
        let accepted = seen.accepted.len() as f64 / seconds;
        let shed = seen.shed.len() as f64 / seconds;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| at(&mut seen.accepted, part));
        let [shed50, shed99] = [0.5, 0.99].map(|part| at(&mut seen.shed, part));
        let (percent, late) = (100.0 * accepted / capacity, at(&mut seen.late, 0.99));
        writeln!(
            out,
            "| {part:.1} × | {accepted:.0} | {percent:.0} % | {p50} | {p99} | {p999} | {shed:.0} | {shed50} | {shed99} | {} | {late} |",
            seen.other
        )?;
    }
    server.end()
}

async fn serve() -> Result<(), Failure> {
    load::serve_until_told(forest::scoring(EngineSettings::default()).await?).await
}

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return tokio::runtime::Runtime::new()?.block_on(serve());
    }
    let is_pinned = arguments.iter().any(|argument| argument == "--pin");
    arguments.retain(|argument| argument != "--pin");
    let seconds: f64 = arguments.first().map_or(Ok(2.0), |text| text.parse())?;
    let model = arguments.get(1).map_or("slow50", String::as_str);
    if is_pinned {
        load::take_core_1()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(seconds, model, is_pinned))
}
