//! The dashboard in a real browser, over runs on real servers: tests/browser says what it does there.

mod support;

use std::path::Path;
use std::process::Command;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use support::Place;
use support::server::{Server, write_pipeline};
use support::servers::Servers;

const DEAD: &str = "gm.submissions.dead";

/// The folder with what tests/run has installed for it.
fn browser() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_gristmill")).ancestors().nth(2).expect("the build's folder");
    let folder = folder.join("servers/browser");
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/install");
    let installed = Command::new(install).arg(&folder).status().expect("the script starts");
    assert!(installed.success());
    folder
}

#[test]
fn a_person_does_all_of_it_in_a_browser() {
    let folder = browser();
    let servers = Servers::start();
    let place = Place::new();
    let up = Server::of(servers.command(&place, &["up", "--api", "127.0.0.1:0", "--slots", "4"]));
    // Two versions, so that one can be promoted and rolled back.
    for depth in [4, 5] {
        write_pipeline(&place, depth);
        let said = servers.gristmill(&place, &["run", "flights.yaml"]);
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    }
    let said = servers.gristmill(&place, &["token", "create", "ann", "--role", "admin"]);
    let token = said.stdout.trim().to_owned();
    assert!(token.starts_with("gmt_"), "{}", said.stderr);
    // Nobody can read this as a submission, and nobody waits for an answer.
    let url = servers.environment.iter().find(|(name, _)| name == "GRISTMILL_BROKER").expect("a broker").1.clone();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(dead_letter(&url));
    let shots = place.path().join("shots");
    let shots = std::env::var_os("GRISTMILL_SHOTS").map_or(shots, Into::into);
    let output = Command::new("node")
        .arg(folder.join("dashboard.mjs"))
        .args(["--url", &format!("http://{}/", up.address), "--token", &token, "--model", "late", "--dead-letters"])
        .arg("--shots")
        .arg(&shots)
        .output()
        .expect("node starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
}

/// Sends what can't be read, and waits until it was put aside.
async fn dead_letter(url: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let properties = BasicProperties::default().with_content_type("text/plain".into());
    let sent = channel.basic_publish(
        "".into(),
        "gm.submissions".into(),
        BasicPublishOptions::default(),
        b"not a submission",
        properties,
    );
    sent.await.expect("sent").await.expect("confirmed");
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    loop {
        let queue = channel.queue_declare(DEAD.into(), options, FieldTable::default()).await;
        if queue.expect("the queue is there").message_count() > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}
