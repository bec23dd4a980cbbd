//! Endpoints from the command line: a canary that is worse goes by itself, shadows are compared, and captured requests
//! meet their labels in the next pipeline.

mod support;

use std::time::Instant;

use serde_json::{Value, json};
use support::Place;
use support::server::{PATIENCE, Server, register, scored};

/// Waits until an endpoint is as wanted, and returns what `show` says of it.
fn until(place: &Place, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let shown = place.json(&["endpoint", "show", name, "--json"]);
        if wanted(&shown) {
            return shown;
        }
        assert!(began.elapsed() < PATIENCE, "{shown:#}");
    }
}

fn set(place: &Place, arguments: &[&str]) {
    let said = place.gristmill(&[&["endpoint", "set"], arguments].concat());
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
}

/// Two versions: a forest, and one of a single level that says something else.
fn two_versions() -> Place {
    let place = Place::new();
    register(&place, 8);
    let text = std::fs::read_to_string(place.path().join("flights.yaml")).expect("the pipeline");
    // It learns the opposite of what is asked.
    let worse = text.replace("arr_delay > 15 as late", "arr_delay <= 15 as late").replace(", alias: champion", "");
    place.write("worse.yaml", worse.replace("out/scores.csv", "out/worse.csv"));
    let said = place.gristmill(&["run", "worse.yaml"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    place
}

#[test]
fn a_worse_canary_is_taken_back_by_itself_on_every_server() {
    let place = two_versions();
    let servers = [Server::start(&place), Server::start(&place)];
    set(&place, &["delays", "--champion", "late@champion", "--canary", "late@2", "--share", "0.5", "--why", "try it"]);
    let rows = scored(&place);
    let ask = |server: &Server, at: usize| {
        let (record, _) = &rows[at % rows.len()];
        let key = format!("gristmill-key: customer-{at}\r\n");
        let body = json!({ "instances": [record] });
        server.ask_with("POST", "/v1/models/delays:predict", &key, &body)
    };
    // The servers follow.
    for server in &servers {
        let began = Instant::now();
        while ask(server, 0).0 != 200 {
            assert!(began.elapsed() < PATIENCE, "the endpoint isn't served");
        }
    }
    // Only the first server is asked, and no request fails while it finds out.
    let began = Instant::now();
    for at in 0.. {
        let (status, answer) = ask(&servers[0], at);
        assert_eq!(status, 200, "{answer}");
        let taken_back =
            || place.json(&["endpoint", "show", "delays", "--json"])["endpoint"]["canary"]["taken_back"].clone();
        if at % 100 == 99 && !taken_back().is_null() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the canary stays");
    }
    let shown = until(&place, "delays", |shown| !shown["endpoint"]["canary"]["taken_back"].is_null());
    let reason = shown["endpoint"]["canary"]["taken_back"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("it disagrees on"), "{reason}");
    let text = place.gristmill(&["endpoint", "show", "delays"]).stdout;
    assert!(text.contains("was taken back") && text.contains("by server"), "{text}");
    // The other server follows: every key gets the champion's answer.
    let champions = |at: usize| {
        let (_, answer) = ask(&servers[1], at);
        let found = answer["predictions"][0]["probability"].as_f64().expect("a probability");
        (found - rows[at].1).abs() < 1e-12
    };
    let began = Instant::now();
    while !(0..20).all(champions) {
        assert!(began.elapsed() < PATIENCE, "the other server doesn't follow");
    }
}

#[test]
fn a_shadow_is_compared_and_reported_and_removed() {
    let place = two_versions();
    let server = Server::start(&place);
    set(&place, &["late", "--champion", "late@champion", "--shadow", "late@champion", "--shadow", "late@2"]);
    let rows = scored(&place);
    let records: Vec<&Value> = rows.iter().take(600).map(|(record, _)| record).collect();
    let asked = json!({ "dataframe_records": records });
    let shown = until(&place, "late", |shown| {
        let (status, answer) = server.ask("POST", "/invocations", &asked);
        assert_eq!(status, 200, "{answer}");
        let seen = |shadow: &Value| shadow["rows"].as_u64().is_some_and(|rows| rows >= 1_200);
        shown["shadows"].as_array().is_some_and(|shadows| shadows.len() == 2 && shadows.iter().all(seen))
    });
    let advice = |model: &str| {
        let mut shadows = shown["shadows"].as_array().expect("shadows").iter();
        shadows.find(|shadow| shadow["model"] == model).cloned().expect("the shadow")
    };
    let same = advice("late@champion");
    assert_eq!((&same["agreement"], &same["mean_absolute_difference"]), (&json!(1.0), &json!(0.0)), "{same}");
    let worse = advice("late@2");
    assert_eq!(worse["advice"], "keep", "{worse}");
    assert!(worse["because"].as_str().expect("a reason").contains("it agrees on"), "{worse}");
    let said = place.gristmill(&["endpoint", "remove", "late"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(place.json(&["endpoint", "list", "--json"]), json!([]));
    assert_eq!(server.ask("POST", "/invocations", &asked).0, 200);
    let said = place.gristmill(&["endpoint", "set", "x", "--champion", "nobody"]);
    assert!(said.stderr.contains("there is no registered model `nobody`"), "{}", said.stderr);
}

#[test]
fn captured_requests_join_the_labels_that_come_later() {
    let place = two_versions();
    let tagged = place.gristmill(&["registry", "tag", "late", "columns.pii=carrier"]);
    assert_eq!(tagged.code, Some(0), "{}", tagged.stderr);
    let server = Server::start_with(&place, &["--capture", "captured", "--capture-drop", "pii"]);
    set(&place, &["delays", "--champion", "late@champion", "--shadow", "late@2", "--shadow-core-share", "1"]);
    let rows = scored(&place);
    let mut labels = "request_id,late\n".to_owned();
    let began = Instant::now();
    for (at, (record, probability)) in rows.iter().take(200).enumerate() {
        let id = format!("x-request-id: flight-{at}\r\n");
        let body = json!({ "instances": [record] });
        while server.ask_with("POST", "/v1/models/delays:predict", &id, &body).0 != 200 {
            assert!(began.elapsed() < PATIENCE, "the endpoint isn't served");
        }
        labels += &format!("flight-{at},{}\n", *probability >= 0.5);
    }
    // The shadow has looked at all of them too before the end keeps what waits.
    until(&place, "delays", |shown| shown["shadows"][0]["rows"] == 200);
    server.end();
    place.write("labels.csv", labels);
    place.write(
        "judge.yaml",
        r#"name: judge
steps:
  captured: { ingest: { source: "captured/late/*.parquet" } }
  labels: { ingest: { source: labels.csv } }
  joined:
    transform:
      sql: >
        select c.version, c.request_id, c.prediction = l.late as is_right
        from captured c join labels l on c.request_id = l.request_id
  by_version:
    transform:
      sql: >
        select version, count(*) as answers, avg(case when is_right then 1.0 else 0.0 end) as accuracy
        from joined group by version order by version
  accuracy: { expect: { input: by_version, rules: [ { rows: { min: 2, max: 2 } } ] } }
"#,
    );
    let said = place.gristmill(&["run", "judge.yaml", "--json"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let shown = said.json();
    assert_eq!(shown["steps"]["joined"]["rows"], 400, "{shown:#}");
    // A column that was tagged isn't in the files.
    let file = std::fs::read_dir(place.path().join("captured/late")).expect("files").next().expect("one").expect("it");
    let bytes = std::fs::read(file.path()).expect("a file");
    let has = |name: &str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(has("time_hour") && has("request_id") && !has("carrier"));
}
