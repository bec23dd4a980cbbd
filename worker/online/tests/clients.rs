//! Unmodified clients from PyPI, in processes of their own, against the example server.

#[path = "../examples/serve_sum.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod serve_sum;

#[path = "clients/python.rs"]
mod python;

use std::process::Command;

use gristmill_online::{ServerSettings, serve_grpc};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What a program speaks.
#[derive(Clone, Copy)]
enum Way {
    Http,
    Grpc,
}

/// Runs a program against a server on a free port, which then drains.
fn against_server(way: Way, command: impl FnOnce(&str) -> Command) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (end, ended) = oneshot::channel::<()>();
    let server = runtime.spawn(async move {
        let ended = async { drop(ended.await) };
        match way {
            Way::Http => serve_sum::run(listener, ended).await.unwrap(),
            Way::Grpc => {
                let scoring = serve_sum::scoring().await.unwrap();
                serve_grpc(listener, scoring, ServerSettings::default(), ended).await
            }
        }
    });
    python::run(&mut command(&address));
    drop(end);
    assert_eq!(runtime.block_on(server).unwrap(), 0, "connections were cut");
}

fn check(script: &str, way: Way) {
    let mut command = python::CLIENTS.script(script);
    against_server(way, move |address| {
        command.arg(address);
        command
    });
}

#[test]
fn tritonclient_works() {
    check("triton.py", Way::Http);
}

#[test]
fn the_kserve_sdk_works() {
    check("kserve_sdk.py", Way::Http);
}

#[test]
fn mlflows_scoring_client_works() {
    check("mlflow_scoring.py", Way::Http);
}

#[test]
fn mlflows_own_scoring_server_answers_the_same() {
    check("mlflow_differential.py", Way::Http);
}

#[test]
fn tritonclient_works_over_grpc() {
    check("triton_grpc.py", Way::Grpc);
}

#[test]
fn the_kserve_sdk_works_over_grpc() {
    check("kserve_grpc.py", Way::Grpc);
}

#[test]
fn whatever_the_openapi_document_allows_is_answered_as_it_says() {
    let mut command = Command::new(python::SCHEMATHESIS.programs().join("schemathesis"));
    // In a folder of its own, where no settings are found.
    let folder = python::target().join("schemathesis");
    std::fs::create_dir_all(&folder).unwrap();
    command.current_dir(folder).args(["--no-color", "run", "--phases", "coverage,fuzzing", "--checks", "all"]);
    // The document doesn't know a model's columns: rows that it allows may be of no use to the model.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    command.args(["--max-examples", "30", "--seed", "7", "--generation-database", "none", "--warnings", "off"]);
    against_server(Way::Http, move |address| {
        command.arg(format!("http://{address}/openapi.json"));
        command
    });
}
