//! Unmodified clients from PyPI, in processes of their own, against the example server.
//!
//! The clients live in a virtual environment in the target folder, made by the first test that needs it.

#[path = "../examples/serve_sum.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod serve_sum;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use gristmill_online::{ServerSettings, serve_grpc};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What is installed. The versions are those that were current when the formats were written down.
const PACKAGES: [&str; 3] = ["tritonclient[http,grpc]==2.73.0", "kserve==0.21.0", "mlflow==3.17.2"];

/// The target folder of the profile.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().and_then(Path::parent).unwrap().to_owned()
}

/// The Python that has the clients.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = target().parent().unwrap().join("clients-venv");
        let python = folder.join("bin/python");
        // Tests in other processes may want to make it too.
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let made = folder.join("made");
        let packages = PACKAGES.join("\n");
        if std::fs::read_to_string(&made).is_ok_and(|made| made == packages) {
            return python;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
        std::fs::write(made, packages).unwrap();
        python
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{}\n{text}", String::from_utf8_lossy(&output.stdout));
}

/// What a script speaks.
#[derive(Clone, Copy)]
enum Way {
    Http,
    Grpc,
}

/// Runs a script against a server on a free port, which then drains.
fn check(script: &str, way: Way) {
    let python = python();
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    run(Command::new(python).arg(script).arg(&address));
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
