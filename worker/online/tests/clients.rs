//! Unmodified clients from PyPI, in processes of their own, against the example server.
//!
//! They live in virtual environments in the target folder, made by the first test that needs one.

#[path = "../examples/serve_sum.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod serve_sum;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A virtual environment, and what is installed there.
struct Environment {
    name: &'static str,
    packages: &'static [&'static str],
    made: OnceLock<PathBuf>,
}

/// The versions are those that were current when the formats were written down.
static CLIENTS: Environment = Environment {
    name: "clients-venv",
    packages: &["tritonclient[http]==2.73.0", "kserve==0.21.0", "mlflow==3.17.2"],
    made: OnceLock::new(),
};

/// Asks whatever the OpenAPI document allows, and what it doesn't.
static SCHEMATHESIS: Environment =
    Environment { name: "schemathesis-venv", packages: &["schemathesis==4.32.5"], made: OnceLock::new() };

/// The target folder of the profile.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().and_then(Path::parent).unwrap().to_owned()
}

impl Environment {
    /// The folder of its programs.
    fn programs(&self) -> &Path {
        self.made.get_or_init(|| {
            let folder = target().parent().unwrap().join(self.name);
            let programs = folder.join("bin");
            // Tests in other processes may want to make it too.
            std::fs::create_dir_all(&folder).unwrap();
            let lock = std::fs::File::create(folder.join("lock")).unwrap();
            lock.lock().unwrap();
            let made = folder.join("made");
            let packages = self.packages.join("\n");
            if std::fs::read_to_string(&made).is_ok_and(|made| made == packages) {
                return programs;
            }
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            run(Command::new(programs.join("python")).args(["-m", "pip", "install", "--quiet"]).args(self.packages));
            std::fs::write(made, packages).unwrap();
            programs
        })
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{}\n{text}", String::from_utf8_lossy(&output.stdout));
}

/// Runs a program against a server on a free port, which then drains.
fn against_server(command: impl FnOnce(&str) -> Command) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (end, ended) = oneshot::channel::<()>();
    let server = runtime.spawn(async { serve_sum::run(listener, async { drop(ended.await) }).await.unwrap() });
    run(&mut command(&address));
    drop(end);
    assert_eq!(runtime.block_on(server).unwrap(), 0, "connections were cut");
}

fn check(script: &str) {
    let mut command = Command::new(CLIENTS.programs().join("python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script));
    against_server(move |address| {
        command.arg(address);
        command
    });
}

#[test]
fn tritonclient_works() {
    check("triton.py");
}

#[test]
fn the_kserve_sdk_works() {
    check("kserve_sdk.py");
}

#[test]
fn mlflows_scoring_client_works() {
    check("mlflow_scoring.py");
}

#[test]
fn whatever_the_openapi_document_allows_is_answered_as_it_says() {
    let mut command = Command::new(SCHEMATHESIS.programs().join("schemathesis"));
    // In a folder of its own, where no settings are found.
    let folder = target().join("schemathesis");
    std::fs::create_dir_all(&folder).unwrap();
    command.current_dir(folder).args(["--no-color", "run", "--phases", "coverage,fuzzing", "--checks", "all"]);
    // The document doesn't know a model's columns: rows that it allows may be of no use to the model.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    command.args([
        "--max-examples",
        "30",
        "--seed",
        "7",
        "--generation-database",
        "none",
        "--warnings",
        "off",
        "--suppress-health-check",
        "all",
    ]);
    against_server(move |address| {
        command.arg(format!("http://{address}/openapi.json"));
        command
    });
}
