//! A process that knows its collector from the environment alone: what the collector gets of it, and its log.

mod support;

use std::collections::BTreeMap;
use std::process::Stdio;

use gristmill_protocol::{AttemptRef, RunId, TaskKey};
use gristmill_telemetry::ids::SpanId;
use gristmill_telemetry::spans::Finished;
use gristmill_telemetry::{Protocol, Settings, Telemetry};
use opentelemetry_proto::tonic::trace::v1::Span;
use support::{Collector, HEADER, PROTOCOLS};
use tracing::{error_span, info, info_span};

/// Names the tests that are such a process, when they are started as one.
const CHILD: &str = "GRISTMILL_TEST_CHILD";

fn attempt() -> AttemptRef {
    let run = RunId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    AttemptRef { run, task: TaskKey { index: 3, tag: 9 }, attempt: 1 }
}

/// Works on an attempt as a worker does. Started by the other tests, in a process of its own; alone it does nothing.
#[test]
fn a_process_that_works() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let settings = Settings::from_env("gristmill-worker", "w-1".to_owned());
    let settings = settings.unwrap_or_else(|error| panic!("{error}"));
    let telemetry = Telemetry::start(&settings).expect("started");
    {
        let (run, id) = (attempt().run, attempt().span_id());
        let (trace_id, span_id) = (format_args!("{:032x}", run.as_u128()), format_args!("{id:016x}"));
        let _attempt =
            error_span!(target: "gristmill_worker::spans", "task", name = "train", %run, %trace_id, %span_id).entered();
        info!("begins");
        let _training = info_span!(target: "gristmill_worker::spans", "train units").entered();
        info_span!(target: "gristmill_worker::spans", "write artifact").in_scope(|| info!("writes"));
    }
    telemetry.spans().attempt_span(attempt(), "train", Finished::new("task train", 1, 2));
    telemetry.metrics().tasks.with(&["succeeded"]).add(1);
    telemetry.shutdown();
}

/// Starts that process with these variables; whether it succeeded, and its log.
async fn start(variables: &[(&str, String)]) -> (bool, String) {
    let mut command = tokio::process::Command::new(std::env::current_exe().expect("a test has a file"));
    command.args(["a_process_that_works", "--exact", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") || name.to_string_lossy().starts_with("GRISTMILL_") {
            command.env_remove(name);
        }
    }
    command.env(CHILD, "1").envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().await.expect("it starts");
    (output.status.success(), String::from_utf8(output.stderr).expect("text"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn its_attempts_come_with_what_is_inside_them_and_its_log_names_them() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(protocol).await;
        let (ended_well, log) = start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_string()),
            ("OTEL_EXPORTER_OTLP_HEADERS", format!("{HEADER}=mill-7")),
            ("GRISTMILL_LOG", "info".to_owned()),
            ("GRISTMILL_LOG_FORMAT", "json".to_owned()),
        ])
        .await;
        assert!(ended_well, "{log}");
        let headers = collector.headers();
        assert!(!headers.is_empty() && headers.iter().all(|value| value == "mill-7"), "{protocol}: {headers:?}");
        assert_eq!(collector.metrics().len(), 1, "{protocol}");

        let spans: BTreeMap<String, Span> =
            collector.spans().into_iter().map(|(_, span)| (span.name.clone(), span)).collect();
        let names: Vec<&str> = spans.keys().map(String::as_str).collect();
        assert_eq!(names, ["task train", "train units", "write artifact"], "{protocol}");
        let trace = attempt().run.as_u128().to_be_bytes();
        assert!(spans.values().all(|span| span.trace_id == trace), "{protocol}: one trace");
        assert_eq!(hex(&spans["task train"].span_id), SpanId::of_attempt(attempt()).to_string());
        assert_eq!(spans["train units"].parent_span_id, spans["task train"].span_id);
        assert_eq!(spans["write artifact"].parent_span_id, spans["train units"].span_id);

        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
        let told: Vec<_> = lines.iter().map(|line| (line["message"].as_str(), line["span_id"].as_str())).collect();
        let [attempt_id, writing_id] = ["task train", "write artifact"].map(|name| hex(&spans[name].span_id));
        let expected = [(Some("begins"), Some(attempt_id.as_str())), (Some("writes"), Some(writing_id.as_str()))];
        assert_eq!(told, expected, "{protocol}");
        assert!(lines.iter().all(|line| line["trace_id"] == hex(&trace)), "{protocol}: {log}");
    }
}

#[tokio::test]
async fn without_a_collector_its_log_still_names_its_attempts() {
    let variables = [("GRISTMILL_LOG", "info".to_owned()), ("GRISTMILL_LOG_FORMAT", "json".to_owned())];
    let (ended_well, log) = start(&variables).await;
    assert!(ended_well, "{log}");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(line["span_id"], SpanId::of_attempt(attempt()).to_string(), "{log}");
        assert_eq!(line["trace_id"], format!("{:032x}", attempt().run.as_u128()), "{log}");
    }
}

#[tokio::test]
async fn a_protocol_that_nobody_speaks_ends_it_with_what_to_write() {
    let (ended_well, log) = start(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift".to_owned())]).await;
    assert!(!ended_well && log.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && log.contains("http/protobuf"), "{log}");
}

#[tokio::test]
async fn a_collector_that_takes_nothing_is_told_of_once_a_signal() {
    let refuses = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let (ended_well, log) = start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{refuses}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_string()),
            ("GRISTMILL_LOG", "warn".to_owned()),
            ("GRISTMILL_LOG_FORMAT", "json".to_owned()),
        ])
        .await;
        assert!(ended_well, "{protocol}: {log}");
        let told = log.lines().filter(|line| line.contains("doesn't take what is sent")).count();
        assert!((1..=2).contains(&told), "{protocol}: {log}");
    }
}
