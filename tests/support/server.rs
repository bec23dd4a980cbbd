//! `gristmill serve`, a model for it, and how it is asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Place, flights};

/// What is waited for comes within a second or so; only a fault can reach this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A registered model of a month of flights, with `depth` for its trees.
pub fn register(place: &Place, depth: u32) {
    write_pipeline(place, depth);
    let said = place.gristmill(&["run", "flights.yaml", "--json"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
}

/// The pipeline that registers it, with its data.
pub fn write_pipeline(place: &Place, depth: u32) {
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
}

/// `gristmill serve`, ended when dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    pub fn start(place: &Place) -> Server {
        Server::start_with(place, &[])
    }

    /// With further options.
    pub fn start_with(place: &Place, options: &[&str]) -> Server {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
        arguments.extend(options);
        Server::of(place.command(&arguments))
    }

    /// `gristmill api`.
    pub fn api(place: &Place) -> Server {
        Server::of(place.command(&["api", "--listen", "127.0.0.1:0"]))
    }

    /// A command that says where it listens.
    pub fn of(mut command: Command) -> Server {
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
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.ask_with(method, path, "", body)
    }

    /// With further lines in the head, each with its end.
    pub fn ask_with(&self, method: &str, path: &str, lines: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n{lines}\r\n",
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

impl Server {
    /// Tells it to end, and waits until it has.
    pub fn end(mut self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(told.success());
        let ended = self.child.wait().expect("the server ends");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been told to end before.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Rows of the scores as records, and what the batch says of each.
pub fn scored(place: &Place) -> Vec<(Value, f64)> {
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
