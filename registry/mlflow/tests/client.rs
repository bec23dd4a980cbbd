//! MLflow's own client from PyPI, unmodified and in a process of its own, against a home folder; and MLflow's own server
//! beside ours, asked the same.
//!
//! MLflow lives in a virtual environment in the target folder, made by the first test that needs it.

#[path = "../examples/serve_home.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod serve_home;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What is installed: the version whose server this one behaves as.
const PACKAGES: [&str; 1] = ["mlflow==3.17.2"];

/// The target folder of the profile.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().and_then(Path::parent).unwrap().to_owned()
}

/// The Python that has MLflow.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = target().parent().unwrap().join("mlflow-venv");
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

/// Runs a script against a home on a free port, which then drains; `pipeline` says whether one has run in it.
fn check(script: &str, pipeline: bool) {
    let python = python();
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (end, ended) = oneshot::channel::<()>();
    let folder = home.path().to_owned();
    let server = runtime
        .spawn(async move { serve_home::run_home(&folder, pipeline, listener, async { drop(ended.await) }).await });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    run(Command::new(python).arg(script).arg(&address));
    drop(end);
    runtime.block_on(server).unwrap().unwrap();
}

#[test]
fn an_unmodified_client_does_what_people_do_with_it() {
    check("workflow.py", true);
}

#[test]
fn answers_are_those_of_mlflows_own_server() {
    check("differential.py", false);
}
