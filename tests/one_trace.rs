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
use support::servers::{Process, Servers, wait_for};
use support::{Place, small_flights};

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
        let mut command = servers.command(&place, arguments);
        Process(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).spawn().expect("the program starts"))
    };
    let mut processes = vec![spawn(&["scheduler"])];
    processes.push(spawn(&["worker", "--slots", "1"]));
    processes.push(spawn(&["worker", "--slots", "1"]));
    servers.wait_for_workers(&place, 2);
    let submitted = servers.json(&place, &["submit", "flights.yaml", "--json"]);
    let run = submitted["run"].as_str().expect("a run").to_owned();
    servers.json(&place, &["wait", &run, "--json"]);
    // What the journal says must be what the collector has in the end.
    let drawn = servers.json(&place, &["trace", &run, "--json"]);
    let drawn = drawn.as_array().expect("spans");
    let expected: BTreeSet<&str> = drawn.iter().filter_map(|span| span["span_id"].as_str()).collect();
    for process in &mut processes {
        process.signal("TERM");
        assert!(process.0.wait().expect("it ends").success());
    }
    let mut found: BTreeMap<String, Span> = BTreeMap::new();
    wait_for("all spans", || {
        while let Ok(span) = collector.spans.try_recv() {
            found.insert(hex(&span.span_id), span);
        }
        expected.iter().all(|id| found.contains_key(*id)).then_some(())
    });
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
