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

/// What a script speaks.
#[derive(Clone, Copy)]
enum Way {
    Http,
    Grpc,
}

/// Runs a script against a server on a free port, which then drains.
fn check(script: &str, way: Way) {
    let python = python::python();
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
    python::run(Command::new(python).arg(python::script(script)).arg(&address));
    drop(end);
    assert_eq!(runtime.block_on(server).unwrap(), 0, "connections were cut");
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
fn tritonclient_works_over_grpc() {
    check("triton_grpc.py", Way::Grpc);
}

#[test]
fn the_kserve_sdk_works_over_grpc() {
    check("kserve_grpc.py", Way::Grpc);
}
