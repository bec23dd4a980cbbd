//! The registry from the command line: its history, its lineage, signatures, deletion, and its copies.

mod support;

use serde_json::Value;
use support::Place;
use support::server::{Server, register};

/// What a command says on success.
fn said(place: &Place, arguments: &[&str]) -> String {
    let said = place.gristmill(arguments);
    assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
    said.stdout
}

/// What a command says when it refuses.
fn refused(place: &Place, arguments: &[&str]) -> String {
    let said = place.gristmill(arguments);
    assert_ne!(said.code, Some(0), "{arguments:?}: {}", said.stdout);
    said.stderr
}

#[test]
fn a_version_is_traced_to_its_data_and_to_what_it_scored() {
    let place = Place::new();
    register(&place, 4);
    let lineage = place.json(&["registry", "lineage", "late@champion", "--json"]);
    let steps: Vec<&str> =
        lineage["steps"].as_array().expect("steps").iter().filter_map(|s| s["step"].as_str()).collect();
    assert_eq!(steps, ["flights", "trips", "model"]);
    assert_eq!(lineage["predictions"], serde_json::json!([]));

    // Back from the dataset, and from the run.
    let dataset = lineage["datasets"][0].as_str().expect("a dataset").to_owned();
    assert_eq!(said(&place, &["registry", "lineage", &dataset]), "late@1\n");
    let run = lineage["run"].as_str().expect("a run").to_owned();
    assert_eq!(said(&place, &["registry", "lineage", &run]), "late@1\n");

    // A batch by the registered version is in its lineage, once however often the run is.
    place.write(
        "score.yaml",
        "name: nightly\nsteps:\n  flights: { ingest: { source: data } }\n  trips:\n    transform:\n      sql: >\n        \
         select carrier, hour, distance, dep_delay, time_hour from flights where dep_delay is not null limit 1000\n  \
         scores: { score: { model: late@champion, input: trips, output: out/nightly.csv } }\n",
    );
    for _ in 0..2 {
        said(&place, &["run", "score.yaml"]);
    }
    let lineage = place.json(&["registry", "lineage", "late@1", "--json"]);
    let predictions = lineage["predictions"].as_array().expect("predictions");
    assert_eq!(predictions.len(), 1, "{lineage:#}");
    assert_eq!(predictions[0]["rows"], 1_000);
    let output = predictions[0]["output"].as_str().expect("an output").to_owned();
    let shown = place.json(&["artifacts", &output, "--json"]);
    assert!(shown.to_string().contains("nightly.csv"), "{shown}");
    let text = said(&place, &["registry", "lineage", "late@1"]);
    assert!(text.contains("step scores of run-"), "{text}");
}

#[test]
fn history_says_who_what_when_and_why() {
    let place = Place::new();
    register(&place, 4);
    register(&place, 3);
    said(&place, &["registry", "tag", "late@2", "reviewed-by=ann"]);
    said(&place, &["registry", "describe", "late", "Arrives more than 15 minutes late"]);
    let before = jiff_now();
    said(&place, &["promote", "late", "1", "--why", "better on the holidays"]);
    said(&place, &["rollback", "late", "champion", "--why", "complaints from JFK"]);
    let log = said(&place, &["registry", "log", "late"]);
    for wanted in [
        "version 1 registered",
        "tag reviewed-by=ann of version 2",
        "the model described",
        "promoted champion 2 → 1",
        "better on the holidays",
        "rolled back champion 1 → 2",
        "complaints from JFK",
    ] {
        assert!(log.contains(wanted), "`{wanted}` in\n{log}");
    }
    let facts = place.json(&["registry", "log", "late", "--json"]);
    assert!(facts.as_array().expect("facts").iter().all(|fact| fact["by"].is_string() && fact["at_ms"].is_u64()));
    // Where the alias was before it moved.
    let then = place.json(&["model", "late", "--at", &before, "--json"]);
    assert_eq!(then["aliases"]["champion"], 2);
    let long_ago = place.json(&["model", "late", "--at", "2001-01-01T00:00:00Z", "--json"]);
    assert_eq!(long_ago["aliases"]["champion"], Value::Null);

    said(&place, &["registry", "rename", "late", "delays"]);
    assert!(said(&place, &["model", "delays"]).contains("champion"));
    assert!(refused(&place, &["model", "late"]).contains("there is no registered model `late`"));
}

/// The time as the program takes it.
fn jiff_now() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output().expect("date");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn only_trusted_signatures_are_served_where_they_are_asked_for() {
    let place = Place::new();
    register(&place, 4);
    let key = said(&place, &["registry", "keygen", "release.key"]).trim().to_owned();
    let other = said(&place, &["registry", "keygen", "other.key"]).trim().to_owned();
    let score = ["registry", "lineage", "late@1", "--trusted-key"];
    let error = refused(&place, &[&score[..], &[&key]].concat());
    assert!(error.contains("version 1 of model `late` isn't signed"), "{error}");
    said(&place, &["registry", "sign", "late@1", "--signing-key", "release.key"]);
    said(&place, &[&score[..], &[&key]].concat());
    let error = refused(&place, &[&score[..], &[&other]].concat());
    assert!(error.contains("isn't signed by a trusted key"), "{error}");

    // A server that trusts another key answers for no version.
    let server = Server::start_with(&place, &["--trusted-key", &other]);
    let asked = serde_json::json!({ "dataframe_records": [{ "carrier": "AA" }] });
    let (status, answer) = server.ask("POST", "/invocations", &asked);
    assert_eq!(status, 503, "{answer}");

    // What is registered with a key at hand is signed in the same step.
    let text = std::fs::read_to_string(place.path().join("flights.yaml")).expect("the pipeline");
    place.write("flights.yaml", text.replace("max_depth: 4", "max_depth: 2"));
    said(&place, &["run", "flights.yaml", "--signing-key", "release.key"]);
    let model = place.json(&["model", "late", "--json"]);
    assert_eq!(model["versions"][1]["signed_by"][0], Value::from(key));
}

#[test]
fn what_is_deleted_goes_when_its_days_are_over_and_what_is_erased_goes_at_once() {
    let place = Place::new();
    register(&place, 4);
    register(&place, 3);
    let digest = |at: usize| -> String {
        place.json(&["model", "late", "--json"])["versions"][at]["digest"].as_str().expect("a digest").to_owned()
    };
    let (first, second) = (digest(0), digest(1));
    let error = refused(&place, &["registry", "delete", "late@2"]);
    assert!(error.contains("alias `champion`"), "{error}");
    said(&place, &["registry", "delete", "late@1", "--keep-days", "1", "--why", "superseded"]);
    assert!(said(&place, &["registry", "purge"]).starts_with("purged 0 versions"), "its day isn't over");
    said(&place, &["artifacts", &first]);
    register(&place, 2);
    said(&place, &["registry", "delete", "late@2", "--keep-days", "0"]);
    assert!(said(&place, &["registry", "purge"]).contains("late@2"));
    assert!(refused(&place, &["artifacts", &second]).contains("no artifact's digest begins with"));

    let third = digest(0);
    let erased = said(&place, &["registry", "erase", "case-1234", &third]);
    assert!(erased.contains("late@champion points to it"), "{erased}");
    assert!(refused(&place, &["artifacts", &third]).contains("no artifact's digest begins with"));
    let verified = said(&place, &["registry", "verify"]);
    assert!(verified.contains("nothing is damaged"), "{verified}");
    assert!(said(&place, &["registry", "log", "late"]).contains("1 artifact erased for case-1234"));
}

#[test]
fn the_registry_verifies_and_comes_back_from_its_copies() {
    let place = Place::new();
    register(&place, 4);
    let said = place.gristmill(&["registry", "verify", "--read-artifacts"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("nothing is damaged"), "{}", said.stdout);
    let before = place.json(&["model", "late", "--json"]);

    // The state is lost; the artifacts are not.
    for entry in std::fs::read_dir(place.path().join(".gristmill")).expect("the home") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::remove_file(path).expect("it can be removed");
        }
    }
    let said = place.gristmill(&["registry", "rebuild"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert_eq!(place.json(&["model", "late", "--json"]), before);

    // A version whose bytes are gone is found.
    let digest = before["versions"][0]["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let file = walk(&place.path().join(".gristmill/artifacts")).into_iter().find(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| digest.ends_with(name) || name.contains(&digest))
    });
    std::fs::remove_file(file.expect("the model's file")).expect("it can be removed");
    let said = place.gristmill(&["registry", "verify", "--json"]);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.json()["damages"][0]["what"].is_string(), "{}", said.stdout);

    let said = place.gristmill(&["registry", "keygen", "release.key"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(place.gristmill(&["registry", "keygen", "release.key"]).code, Some(2));
}

/// All files under a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
