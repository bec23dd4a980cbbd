//! Online scoring, end to end: a registered model answers as a batch does, and a moved alias is served without a failed
//! request.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Place, flights};

/// What is waited for comes within a second or so; only a fault can reach this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registered model of a month of flights, with `depth` for its trees.
fn register(place: &Place, depth: u32) {
    let name = "flights-2013-01.csv.gz";
    place.write(&format!("data/{name}"), std::fs::read(flights().join(name)).expect("the example's data"));
    place.write(
        "flights.yaml",
        format!(
            r#"name: late
steps:
  flights: {{ ingest: {{ source: data }} }}
  trips:
    transform:
      sql: >
        select carrier, hour, distance, dep_delay, time_hour, arr_delay > 15 as late
        from flights where arr_delay is not null and dep_delay is not null limit 4000
  model:
    train:
      input: trips
      target: late
      features:
        numeric: [dep_delay, distance, pace]
        categorical: [carrier]
        dates: [ {{ column: time_hour, parts: [hour] }} ]
        expressions: {{ pace: distance / (hour + 1) }}
      algorithm: {{ random_forest: {{ trees: 20, max_depth: {depth} }} }}
  release: {{ register: {{ model: model, name: late, alias: champion }} }}
  scores: {{ score: {{ model: model, input: trips, output: out/scores.csv }} }}
"#
        ),
    );
    let said = place.gristmill(&["run", "flights.yaml", "--json"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
}

/// `gristmill serve`, ended when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(place: &Place) -> Server {
        let mut command = place.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("the program says where it listens");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(';').next());
        let address = address.unwrap_or_else(|| panic!("an address in `{line}`")).to_owned();
        // What else it says must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Server { child, address }
    }

    /// The status and the body of an answer.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let status = status.unwrap_or_else(|| panic!("a status in {answer}"));
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server has ended");
    }
}

/// Rows of the scores as records, and what the batch says of each.
fn scored(place: &Place) -> Vec<(Value, f64)> {
    let text = std::fs::read_to_string(place.path().join("out/scores.csv")).expect("scores");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let cell = |name: &str| cells[names.iter().position(|known| *known == name).expect("a column")];
            let number = |name: &str| cell(name).parse::<f64>().expect("a number");
            let record = json!({
                "carrier": cell("carrier"), "hour": number("hour") as i64, "distance": number("distance"),
                "dep_delay": number("dep_delay"), "time_hour": cell("time_hour"),
            });
            (record, number("probability"))
        })
        .collect()
}

#[test]
fn a_server_answers_as_a_batch_does() {
    let place = Place::new();
    register(&place, 8);
    let server = Server::start(&place);
    assert_eq!(server.ask("GET", "/v2/health/ready", &Value::Null).0, 200);
    let (status, model) = server.ask("GET", "/v2/models/late", &Value::Null);
    assert_eq!(status, 200, "{model}");
    let inputs: Vec<&str> =
        model["inputs"].as_array().expect("inputs").iter().filter_map(|i| i["name"].as_str()).collect();
    for name in ["carrier", "hour", "distance", "dep_delay", "time_hour"] {
        assert!(inputs.contains(&name), "{inputs:?}");
    }
    let rows = scored(&place);
    let records: Vec<&Value> = rows.iter().take(500).map(|(record, _)| record).collect();
    let (status, answer) = server.ask("POST", "/invocations", &json!({ "dataframe_records": records }));
    assert_eq!(status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().expect("predictions");
    assert_eq!(predictions.len(), 500);
    for ((_, expected), found) in rows.iter().zip(predictions) {
        let found = found["probability"].as_f64().expect("a probability");
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }
    let mut bad = rows[0].0.clone();
    bad["time_hour"] = json!("yesterday");
    let (status, answer) = server.ask("POST", "/invocations", &json!({ "dataframe_records": [bad] }));
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["message"].as_str().is_some_and(|text| text.contains("`yesterday` in row 0 of column `time_hour`")),
        "{answer}"
    );
    let (status, answer) = server.ask("POST", "/invocations", &json!({ "dataframe_records": [{ "carrier": "AA" }] }));
    assert_eq!(status, 400, "{answer}");
    let (_, metrics) = server.ask("GET", "/metrics", &Value::Null);
    assert!(metrics.as_str().is_some_and(|text| text.contains("gristmill_")), "{metrics}");
}

#[test]
fn a_moved_alias_is_served_without_a_failed_request() {
    let place = Place::new();
    register(&place, 8);
    let server = Server::start(&place);
    let (record, _) = scored(&place).swap_remove(0);
    let inputs: Vec<Value> = ["carrier", "hour", "distance", "dep_delay", "time_hour"]
        .iter()
        .map(|name| {
            let datatype = if record[name].is_string() { "BYTES" } else { "FP64" };
            json!({ "name": name, "shape": [1, 1], "datatype": datatype, "data": [record[name]] })
        })
        .collect();
    let version = || {
        let (status, answer) = server.ask("POST", "/v2/models/late/infer", &json!({ "inputs": inputs }));
        assert_eq!(status, 200, "{answer}");
        answer["model_version"].as_str().expect("a version").to_owned()
    };
    assert_eq!(version(), "1");
    let until = |wanted: &str| {
        let began = Instant::now();
        while version() != wanted {
            assert!(began.elapsed() < PATIENCE, "version {wanted} isn't served");
        }
    };
    register(&place, 3);
    until("2");
    for wanted in ["1", "2", "1"] {
        let said = place.gristmill(&["promote", "late", wanted, "champion", "--why", "to see it move"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        until(wanted);
    }
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
