//! Python with packages from PyPI, in virtual environments in the target folder, made by the first test that needs one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A virtual environment, and what is installed there.
pub struct Environment {
    name: &'static str,
    packages: &'static [&'static str],
    made: OnceLock<PathBuf>,
}

/// The clients. The versions are those that were current when the formats were written down.
pub static CLIENTS: Environment = Environment {
    name: "clients-venv",
    packages: &["tritonclient[http,grpc]==2.73.0", "kserve==0.21.0", "mlflow==3.17.2", "pika==1.3.2"],
    made: OnceLock::new(),
};

/// Asks whatever the OpenAPI document allows, and what it doesn't.
#[expect(clippy::allow_attributes, reason = "not all tests that share this file use all of it")]
#[allow(dead_code)]
pub static SCHEMATHESIS: Environment =
    Environment { name: "schemathesis-venv", packages: &["schemathesis==4.32.5"], made: OnceLock::new() };

/// The target folder of the profile.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().and_then(Path::parent).unwrap().to_owned()
}

impl Environment {
    /// The folder of its programs.
    pub fn programs(&self) -> &Path {
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

    /// Its Python, to run one of the scripts beside this file.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs().join("python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name));
        command
    }
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{}\n{text}", String::from_utf8_lossy(&output.stdout));
}
