//! One run over several processes is one trace: checked by what a collector really gets.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use support::servers::{PATIENCE, Servers};
use support::{Place, small_flights};

/// Attempts are told in whole microseconds, what is inside them in nanoseconds.
const CLOCK_NS: u64 = 1_000;

/// Takes spans over OTLP/HTTP, on a runtime of its own.
struct Collector {
    address: SocketAddr,
    spans: mpsc::Receiver<Span>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Collector {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        let (sender, spans) = mpsc::channel();
        let take = move |body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).expect("a request");
            let groups = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
            // The test may have seen enough.
            groups.flat_map(|group| group.spans).for_each(|span| drop(sender.send(span)));
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let app = Router::new().route("/v1/traces", post(take)).route("/v1/metrics", post(async || ()));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Collector { address, spans, _runtime: runtime }
    }
}

#[test]
fn a_run_over_processes_is_one_tree_without_orphans() {
    let collector = Collector::start();
    let servers = Servers::start();
    let place = Place::new();
    small_flights(&place, &[1, 2], 5);
    let endpoint = format!("http://{}", collector.address);
    let spawn = |arguments: &[&str]| {
        servers.spawn_ready(&place, arguments, &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())])
    };
    let mut processes = [spawn(&["scheduler"]), spawn(&["worker", "--slots", "1"]), spawn(&["worker", "--slots", "1"])];
    let submitted = servers.json(&place, &["submit", "flights.yaml", "--json"]);
    let run = submitted["run"].as_str().expect("a run").to_owned();
    servers.json(&place, &["wait", &run, "--json"]);
    // What the journal says must be what the collector has in the end.
    let drawn = servers.json(&place, &["trace", &run, "--json"]);
    let drawn = drawn.as_array().expect("spans");
    let expected: BTreeSet<&str> = drawn.iter().filter_map(|span| span["span_id"].as_str()).collect();
    processes.iter().for_each(|process| process.signal("TERM"));
    for process in &mut processes {
        assert!(process.0.wait().expect("it ends").success());
    }
    // All that they had to send has left; what is expected comes first or not at all.
    let mut found: BTreeMap<String, Span> = BTreeMap::new();
    while !expected.iter().all(|id| found.contains_key(*id)) {
        let span = collector.spans.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let missing: Vec<_> =
                drawn.iter().filter(|span| !found.contains_key(span["span_id"].as_str().unwrap_or(""))).collect();
            panic!("{missing:#?} didn't come")
        });
        found.insert(hex(&span.span_id), span);
    }
    found.extend(collector.spans.try_iter().map(|span| (hex(&span.span_id), span)));
    let trace = drawn[0]["trace_id"].as_str().expect("a trace");
    let of_run: Vec<&Span> = found.values().filter(|span| hex(&span.trace_id) == trace).collect();
    assert_eq!(of_run.len(), found.len(), "no span is in another trace");
    let roots: Vec<&&Span> = of_run.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 1, "there is one root");
    let orphans: Vec<&str> = of_run
        .iter()
        .filter(|span| !span.parent_span_id.is_empty() && !found.contains_key(&hex(&span.parent_span_id)))
        .map(|span| span.name.as_str())
        .collect();
    assert!(orphans.is_empty(), "{orphans:?} have no parent");
    // What happens inside an attempt is below it, and on the worker that made it.
    for (inner, task) in [
        ("infer schema", "task flights"),
        ("run query", "task trips"),
        ("fit features", "task model"),
        ("train units", "task model"),
        ("measure partition", "task quality"),
        ("score partition", "task scores"),
        ("register version", "task release"),
    ] {
        let span = of_run.iter().find(|span| span.name == inner).unwrap_or_else(|| panic!("no span `{inner}`"));
        let attempt = &found[&hex(&span.parent_span_id)];
        assert!(attempt.name.starts_with(task), "`{inner}` is in `{}`", attempt.name);
        assert!(expected.contains(hex(&attempt.span_id).as_str()), "the journal knows `{}`", attempt.name);
        let within = attempt.start_time_unix_nano <= span.start_time_unix_nano + CLOCK_NS
            && span.end_time_unix_nano <= attempt.end_time_unix_nano + CLOCK_NS;
        assert!(within, "`{inner}` isn't within `{}`", attempt.name);
    }
    assert!(of_run.iter().any(|span| span.name == "read artifact"), "artifacts are read");
    assert!(of_run.iter().any(|span| span.name == "write artifact"), "artifacts are written");
    // Each message that was worked on leads back to the one that was published.
    const PRODUCER: i32 = 4;
    const CONSUMER: i32 = 5;
    let consumers: Vec<&&Span> = of_run.iter().filter(|span| span.kind == CONSUMER).collect();
    assert!(!consumers.is_empty(), "messages were worked on");
    for consumer in consumers {
        let link = consumer.links.first().unwrap_or_else(|| panic!("{} has no link", consumer.name));
        let producer = found.get(&hex(&link.span_id)).expect("the producer's span came too");
        assert_eq!(producer.kind, PRODUCER);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
