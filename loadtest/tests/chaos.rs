//! Chaos, short: everything that can be killed is killed at least once in a minute, and nothing is lost.
//!
//! `GRISTMILL_CHAOS_TASKS` and `GRISTMILL_CHAOS_FAULTS` make it longer.

use std::path::Path;
use std::process::Command;

fn number(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[test]
fn nothing_is_lost_when_everything_is_killed() {
    let loadtest = Path::new(env!("CARGO_BIN_EXE_gristmill-loadtest"));
    let binary = loadtest.with_file_name("gristmill");
    assert!(binary.exists(), "`{}` isn't there; build it with `cargo build --release`", binary.display());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(loadtest)
        .arg("--binary")
        .arg(&binary)
        .arg("--servers")
        .arg(root.join("deploy/local/servers"))
        .arg("--folder")
        .arg(folder.path())
        .args(["chaos", "--tasks", &number("GRISTMILL_CHAOS_TASKS", "20000")])
        .args(["--faults", &number("GRISTMILL_CHAOS_FAULTS", "14"), "--every", "2"])
        .output()
        .expect("the load test starts");
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}{complaint}");
}
