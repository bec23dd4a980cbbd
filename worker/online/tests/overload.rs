//! Requests that waited too long for their turn, which no queue of the engine shows: the one thread of the server's
//! runtime is held by a model's call, so that whatever else came is late when it is read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{
    Column, Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, Rows, Scoring, ServerSettings,
    Signature, Source, SourceError, serve,
};
use gristmill_telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What a request may wait. Only a machine that runs nothing of a thread for so long makes the test fail.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Says that it was called, and waits until it is told to go on.
struct Held {
    signature: Signature,
    called: Mutex<mpsc::Sender<()>>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Predictor for Held {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        self.called.lock().unwrap().send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        Ok(Predictions::new(vec![("y".into(), Column::from(vec![1.0; rows.len()]))], rows.len()))
    }
}

struct Shelf(Arc<Held>);

impl Source for Shelf {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        Ok(vec![Known { name: "m".to_owned(), versions: vec![1], aliases: [].into(), stamps: [].into() }])
    }

    fn load(&self, _name: &str, _version: u64) -> Result<Loaded, SourceError> {
        Ok(Loaded { predictor: Arc::clone(&self.0) as Arc<dyn Predictor>, bytes: 100 })
    }
}

struct Server {
    address: SocketAddr,
    called: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<usize>,
}

impl Server {
    /// A server on one thread, where every call but a model's first one runs too.
    fn start() -> Server {
        let (called_sender, called) = mpsc::channel();
        let (go, go_receiver) = mpsc::channel();
        let signature = Signature::new(vec![Field::new("x", Kind::Number)], vec![Field::new("y", Kind::Number)]);
        let held = Held { signature, called: Mutex::new(called_sender), go: Mutex::new(go_receiver) };
        let (told, address) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let run = async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let models = Models::new(Arc::new(Shelf(Arc::new(held))), 1_000);
            models.refresh().await.unwrap();
            let inline_max = Duration::from_secs(3_600);
            let engine = EngineSettings { inline_max, wait_max: WAIT_MAX, ..EngineSettings::default() };
            let engine = Engine::start(engine).unwrap();
            let scoring = Arc::new(Scoring::new(models, engine, Arc::new(Metrics::new(None)), None));
            let settings = ServerSettings { timeout: Duration::from_secs(60), ..ServerSettings::default() };
            serve(listener, scoring, settings, async { drop(ended.await) }).await
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(run));
        Server { address: address.recv().unwrap(), called, go, end, thread }
    }

    fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).unwrap())
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&mut self) {
        let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1]}]}"#;
        let head = format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.write_all((head + body).as_bytes()).unwrap();
    }

    /// An answer's head and body.
    fn read(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut bytes = [0; 4_096];
            let read = self.0.read(&mut bytes).unwrap();
            assert!(read > 0, "the connection ended after {}", answer.escape_ascii());
            answer.extend_from_slice(&bytes[..read]);
        }
        String::from_utf8(answer).unwrap()
    }
}

#[test]
fn what_waited_too_long_to_be_read_is_shed_and_its_connection_goes_on() {
    let server = Server::start();
    let (mut first, mut second, mut third) = (server.connect(), server.connect(), server.connect());
    // All connections are served once, so that they wait to be read; how long the model takes is known from here on.
    for client in [&mut first, &mut second, &mut third] {
        client.send();
        server.called.recv().unwrap();
        server.go.send(()).unwrap();
        assert!(client.read().starts_with("HTTP/1.1 200"));
    }
    // The first one's call holds the server; the others' requests come meanwhile and are noticed together after it.
    first.send();
    server.called.recv().unwrap();
    second.send();
    third.send();
    server.go.send(()).unwrap();
    assert!(first.read().starts_with("HTTP/1.1 200"));
    // One of them is called, and the other one gets old.
    server.called.recv().unwrap();
    let called = Instant::now();
    while called.elapsed() <= WAIT_MAX {
        std::thread::yield_now();
    }
    server.go.send(()).unwrap();
    let mut answers = [second.read(), third.read()];
    answers.sort();
    assert!(answers[0].starts_with("HTTP/1.1 200"), "{answers:?}");
    assert!(answers[1].starts_with("HTTP/1.1 503"), "{answers:?}");
    assert!(answers[1].contains("\r\nretry-after: 1\r\n"), "{answers:?}");
    assert!(server.called.try_recv().is_err(), "what was shed was scored");
    // What comes then waits for nobody.
    for client in [&mut second, &mut third] {
        client.send();
        server.called.recv().unwrap();
        server.go.send(()).unwrap();
        assert!(client.read().starts_with("HTTP/1.1 200"));
    }
    drop((first, second, third));
    drop(server.end);
    assert_eq!(server.thread.join().unwrap(), 0);
}
