//! Python with the clients, in a virtual environment in the target folder, made by the first test that needs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What is installed. The versions are those that were current when the formats were written down.
const PACKAGES: [&str; 4] = ["tritonclient[http,grpc]==2.73.0", "kserve==0.21.0", "mlflow==3.17.2", "pika==1.3.2"];

/// The target folder of the profile.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().and_then(Path::parent).unwrap().to_owned()
}

/// The Python that has the clients.
pub fn python() -> &'static Path {
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

pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{}\n{text}", String::from_utf8_lossy(&output.stdout));
}

/// Where the scripts are.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}
