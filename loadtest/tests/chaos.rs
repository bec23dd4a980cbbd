//! Chaos, short: everything that can be killed is killed at least once in a minute, and nothing is lost.
//!
//! The long one runs by name: `cargo nextest run --release --workspace --run-ignored only long_chaos`.

use std::path::Path;
use std::process::Command;

#[test]
fn nothing_is_lost_when_everything_is_killed() {
    chaos("20000", "14");
}

#[test]
#[ignore = "ten minutes"]
fn nothing_is_lost_in_a_long_chaos() {
    chaos("200000", "200");
}

fn chaos(tasks: &str, faults: &str) {
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
        .args(["chaos", "--tasks", tasks, "--faults", faults, "--every", "2"])
        .output()
        .expect("the load test starts");
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}{complaint}");
}
