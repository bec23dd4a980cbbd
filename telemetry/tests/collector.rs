//! What a collector and a Prometheus server get from us, over real sockets.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_protocol::{AttemptRef, RunId, TaskKey};
use gristmill_telemetry::ids::{SpanId, TraceContext, parse_traceparent, traceparent};
use gristmill_telemetry::serve::serve;
use gristmill_telemetry::spans::{Finished, Messages, Spans};
use gristmill_telemetry::{KeyValue, Protocol, Settings, Telemetry};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use support::{Collector, PROTOCOLS, attribute, destination, start_hanging_grpc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A limit that only a bug can reach.
const PATIENCE: Duration = Duration::from_secs(30);
const START_US: u64 = 1_700_000_000_000_000;

fn settings(service: &'static str, protocol: Protocol, address: SocketAddr) -> Settings {
    Settings {
        service,
        instance: "w-1".to_owned(),
        log: None,
        traces: Some(destination(protocol, address, "/v1/traces")),
        metrics: Some(destination(protocol, address, "/v1/metrics")),
        // Nothing goes by itself: the tests look at what the end sends.
        spans_every: Duration::from_secs(3_600),
        metrics_every: Duration::from_secs(3_600),
    }
}

/// Ends it as a process does, away from the thread that runs the collector.
async fn shutdown(telemetry: Telemetry) -> Duration {
    let started = Instant::now();
    let ended = tokio::task::spawn_blocking(move || telemetry.shutdown());
    tokio::time::timeout(PATIENCE, ended).await.expect("in time").expect("no panic");
    started.elapsed()
}

fn run() -> RunId {
    RunId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)
}

fn attempt(index: u32) -> AttemptRef {
    AttemptRef { run: run(), task: TaskKey { index, tag: 9 }, attempt: 1 }
}

fn took(name: &str, us: u64) -> Finished {
    Finished::new(name, START_US, START_US + us)
}

fn messages(message_id: Option<&str>, batch: Option<usize>) -> Messages {
    let destination = "gristmill.tasks:pool".to_owned();
    Messages { system: "rabbitmq", destination, message_id: message_id.map(str::to_owned), batch }
}

#[tokio::test]
async fn scheduler_and_worker_write_one_tree() {
    for protocol in PROTOCOLS {
        write_one_tree(Collector::start(protocol).await).await;
    }
}

async fn write_one_tree(mut collector: Collector) {
    let start = |service| Telemetry::start(&settings(service, collector.protocol, collector.address)).expect("started");
    let (scheduler, worker) = (start("gristmill-scheduler"), start("gristmill-worker"));

    // Two messages leave, each with its producer's context in a header.
    let out = scheduler.spans();
    let headers: Vec<String> = (0..2)
        .map(|index| {
            let id = out.new_id();
            let parent = TraceContext::of_step(run(), "train");
            out.publish(parent, id, &messages(Some(&format!("m-{index}")), None), took("", 5));
            traceparent(run(), id)
        })
        .collect();
    // The worker takes both as a batch, runs two attempts and something inside the first.
    let done = worker.spans();
    let producers: Vec<TraceContext> = headers.iter().map(|text| parse_traceparent(text).expect("ours")).collect();
    let batch = messages(None, Some(2));
    done.process(TraceContext::of_step(run(), "train"), done.new_id(), &batch, &producers, took("", 90));
    let failed = Some(("bad_input".to_owned(), "no rows".to_owned()));
    let attributes = vec![KeyValue::new("gristmill.attempt", 1)];
    done.attempt_span(attempt(0), "train", Finished { attributes, ..took("train", 40) });
    done.attempt_span(attempt(1), "train", Finished { error: failed, ..took("train", 40) });
    done.inner(TraceContext::of_attempt(attempt(0)), done.new_id(), took("read partition", 10));
    // The scheduler knows last of all that the step and the run have ended.
    out.step_span(run(), "train", took("train", 95));
    out.run_span(run(), took("pipeline", 100));
    shutdown(worker).await;
    shutdown(scheduler).await;

    let spans = collector.spans();
    assert_eq!(spans.len(), 8);
    let trace = run().as_u128().to_be_bytes();
    assert!(spans.iter().all(|(_, span)| span.trace_id == trace), "one trace");
    let ids: BTreeSet<&[u8]> = spans.iter().map(|(_, span)| &span.span_id[..]).collect();
    assert_eq!(ids.len(), 8, "no two spans with one id");
    let (roots, children): (Vec<_>, Vec<_>) = spans.iter().partition(|(_, span)| span.parent_span_id.is_empty());
    assert_eq!(roots.len(), 1);
    assert_eq!(roots[0].1.span_id, SpanId::of_run(run()).0.to_be_bytes());
    for (_, span) in children {
        assert!(ids.contains(&span.parent_span_id[..]), "`{}` is an orphan", span.name);
    }

    let by_name = |name: &str| spans.iter().filter(|(_, span)| span.name == name).collect::<Vec<_>>();
    let published = by_name("publish gristmill.tasks:pool");
    let (service, process) = by_name("process gristmill.tasks:pool")[0];
    assert_eq!(service, "gristmill-worker");
    let linked: BTreeSet<&[u8]> = process.links.iter().map(|link| &link.span_id[..]).collect();
    assert_eq!(linked, published.iter().map(|(_, span)| &span.span_id[..]).collect());
    assert!(process.links.iter().all(|link| link.trace_id == trace));
    let said = |span: &Span, key: &str| attribute(&span.attributes, key);
    assert_eq!(said(process, "messaging.batch.message_count").as_deref(), Some("2"));
    assert_eq!(said(process, "messaging.operation.type").as_deref(), Some("process"));
    assert_eq!(said(process, "messaging.message.id"), None);
    let (service, first) = published[0];
    assert_eq!(service, "gristmill-scheduler");
    for (key, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "gristmill.tasks:pool"),
        ("messaging.message.id", "m-0"),
    ] {
        assert_eq!(said(first, key).as_deref(), Some(value), "{key}");
    }
    let lost = spans.iter().find(|(_, span)| span.span_id == SpanId::of_attempt(attempt(1)).0.to_be_bytes());
    let lost = &lost.expect("it came").1;
    assert_eq!(said(lost, "error.type").as_deref(), Some("bad_input"));
    assert_eq!(lost.status.as_ref().expect("it failed").message, "no rows");
    assert_eq!((lost.start_time_unix_nano, lost.end_time_unix_nano), (START_US * 1_000, (START_US + 40) * 1_000));
}

#[tokio::test]
async fn metrics_reach_the_collector() {
    for protocol in PROTOCOLS {
        send_metrics(Collector::start(protocol).await).await;
    }
}

async fn send_metrics(mut collector: Collector) {
    let settings = settings("gristmill-worker", collector.protocol, collector.address);
    let telemetry = Telemetry::start(&settings).expect("started");
    let metrics = telemetry.metrics();
    metrics.tasks.with(&["succeeded"]).add(3);
    metrics.queue_ready.with(&["default"]).set(7.5);
    metrics.task_duration.with(&["train"]).record(0.3);
    metrics.task_duration.with(&["train"]).record(40.0);
    shutdown(telemetry).await;
    let mut found = BTreeMap::new();
    for request in collector.metrics() {
        let scopes = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
        found.extend(scopes.flat_map(|scope| scope.metrics).map(|metric| (metric.name, metric.data)));
    }
    let Some(Some(Data::Sum(tasks))) = found.get("gristmill_tasks") else { panic!("{:?}", found.keys()) };
    assert!(tasks.is_monotonic);
    assert_eq!(attribute(&tasks.data_points[0].attributes, "outcome").as_deref(), Some("succeeded"));
    let Some(Some(Data::Histogram(times))) = found.get("gristmill_task_duration_seconds") else { panic!("no times") };
    assert_eq!((times.data_points[0].count, times.data_points[0].sum), (2, Some(40.3)));
    assert!(matches!(found.get("gristmill_queue_ready"), Some(Some(Data::Gauge(_)))));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_spans() {
    // One that refuses, one that takes connections and never answers, and one that takes even requests.
    let refuses = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = (silent.local_addr().expect("bound"), silent);
    let away = PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, refuses), (protocol, silent.0)]);
    for (protocol, address) in away.chain([(Protocol::Grpc, start_hanging_grpc().await)]) {
        let telemetry = Telemetry::start(&settings("gristmill-worker", protocol, address)).expect("started");
        let spans = telemetry.spans();
        let began = Instant::now();
        // More than the queue takes; nobody waits for room.
        for index in 0..20_000 {
            spans.attempt_span(attempt(index), "train", took("train", 1));
        }
        telemetry.metrics().tasks.with(&["failed"]).add(1);
        let wrote = began.elapsed();
        // A request may take five seconds: who waited for one would take longer.
        assert!(wrote < Duration::from_secs(4), "{protocol}: 20 000 spans took {wrote:?}");
        let took = shutdown(telemetry).await;
        // Its limit is two seconds; the rest is for a busy machine.
        assert!(took < Duration::from_secs(6), "{protocol}: the end took {took:?}");
        spans.run_span(run(), Finished::new("late", START_US, START_US));
    }
}

#[tokio::test]
async fn without_a_collector_spans_go_nowhere() {
    let spans = Spans::none();
    assert!(!spans.is_exported());
    spans.run_span(run(), took("pipeline", 1));
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

/// One line of a sample: its name and labels, and its value.
fn sample(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let name = series.split('{').next().expect("a name");
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
    (series.to_owned(), value.parse().expect("a number"))
}

#[tokio::test]
async fn prometheus_can_read_the_metrics() {
    let Ok(telemetry) = Telemetry::start(&Settings {
        traces: None,
        metrics: None,
        ..settings("gristmill-worker", Protocol::default(), ([127, 0, 0, 1], 1).into())
    }) else {
        panic!("nothing to start")
    };
    let metrics = telemetry.metrics();
    metrics.tasks.with(&["succeeded"]).add(2);
    metrics.queue_ready.with(&["a \"b\" \\ \n c"]).set(1.5);
    metrics.store_call_duration.with(&["append", "ok"]).record_time(Duration::from_micros(700));
    let (ready, is_ready) = tokio::sync::watch::channel(false);
    let readiness = move || if *is_ready.borrow() { Ok(()) } else { Err("the broker is away".to_owned()) };
    let server = serve(([127, 0, 0, 1], 0).into(), metrics, Arc::new(readiness)).await.expect("it listens");

    let answer = ask(server.address(), "/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let mut typed = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            assert!(typed.insert(declared.split(' ').next().expect("a name")), "declared twice: {line}");
        } else if !line.starts_with('#') {
            let (series, value) = sample(line);
            assert!(typed.iter().any(|name| series.starts_with(name)), "not declared: {line}");
            assert!(samples.insert(series, value).is_none(), "said twice: {line}");
        }
    }
    assert_eq!(samples["gristmill_tasks_total{outcome=\"succeeded\"}"], 2.0);
    assert_eq!(samples["gristmill_queue_ready{pool=\"a \\\"b\\\" \\\\ \\n c\"}"], 1.5);
    assert_eq!(samples["gristmill_leases_lost_total"], 0.0);
    let bucket = |le: &str| {
        samples[&format!("gristmill_store_call_duration_seconds_bucket{{verb=\"append\",result=\"ok\",le=\"{le}\"}}")]
    };
    assert_eq!((bucket("0.0005"), bucket("0.001"), bucket("+Inf")), (0.0, 1.0, 1.0));

    assert!(ask(server.address(), "/healthz").await.starts_with("HTTP/1.1 200"));
    let not_ready = ask(server.address(), "/readyz").await;
    assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.ends_with("the broker is away\n"), "{not_ready}");
    ready.send(true).expect("the server asks");
    assert!(ask(server.address(), "/readyz").await.starts_with("HTTP/1.1 200"));
}
