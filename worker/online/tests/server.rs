//! The whole server on a free port: models that move, fail and panic, and bodies that make no sense.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gristmill_online::endpoint::canary::CanaryLimits;
use gristmill_online::endpoint::{CanarySettings, Endpoint, EndpointSettings, ModelRef};
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::models::Which;
use gristmill_online::{
    Column, Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, Rows, Scoring, ServerSettings,
    Signature, Source, SourceError, Values, serve,
};
use gristmill_telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// What a version does.
#[derive(Clone)]
enum Manner {
    /// `x` and its version's number.
    Tells(u64),
    Fails,
    Panics,
    /// Waits until it is told to go on.
    Hangs(Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>),
}

struct Model {
    signature: Signature,
    manner: Manner,
}

impl Predictor for Model {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let version = match &self.manner {
            Manner::Tells(version) => *version,
            Manner::Fails => return Err(PredictError::Failed("a table is missing".to_owned())),
            Manner::Panics => panic!("as it was told to"),
            Manner::Hangs(go) => {
                let _ = go.lock().unwrap().recv();
                0
            }
        };
        let Values::Number(x) = rows.columns()[0].values() else { unreachable!() };
        let versions = vec![version.cast_signed(); rows.len()];
        let columns = vec![("prediction".into(), Column::from(versions)), ("x".into(), Column::from(x.clone()))];
        Ok(Predictions::new(columns, rows.len()))
    }
}

/// One model `m`; what each version does follows from its number.
struct Shelf {
    manners: fn(u64) -> Manner,
    hanging: Option<Manner>,
}

impl Source for Shelf {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        Ok(vec![known(1)])
    }

    fn load(&self, _name: &str, version: u64) -> Result<Loaded, SourceError> {
        let signature = Signature::new(
            vec![Field::new("x", Kind::Number)],
            vec![Field::new("prediction", Kind::Integer), Field::new("x", Kind::Number)],
        );
        let manner = match &self.hanging {
            Some(manner) if version == 4 => manner.clone(),
            _ => (self.manners)(version),
        };
        Ok(Loaded { predictor: Arc::new(Model { signature, manner }), bytes: 100 })
    }
}

fn known(champion: u64) -> Known {
    let aliases = [("champion".to_owned(), champion)].into();
    Known { name: "m".to_owned(), versions: (1..=10).collect(), aliases, stamps: [].into() }
}

/// A minute for each request: only a bug takes that long, however busy the machine is.
fn settings() -> ServerSettings {
    ServerSettings { timeout: Duration::from_secs(60), ..ServerSettings::default() }
}

struct Server {
    scoring: Arc<Scoring>,
    address: std::net::SocketAddr,
    end: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

impl Server {
    async fn start(shelf: Shelf, settings: ServerSettings) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let models = Models::new(Arc::new(shelf), 1_000_000);
        models.refresh().await.unwrap();
        let engine = EngineSettings { wait_max: Duration::from_secs(60), ..EngineSettings::default() };
        let engine = Engine::start(engine).unwrap();
        let scoring = Arc::new(Scoring::new(models, engine, Arc::new(Metrics::new(None)), None));
        let (end, ended) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, Arc::clone(&scoring), settings, async { drop(ended.await) }));
        Server { scoring, address, end, task }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn end(self) -> usize {
        drop(self.end);
        self.task.await.unwrap()
    }
}

struct Client(TcpStream);

impl Client {
    /// The status and the body of an answer.
    async fn ask(&mut self, head: &str, body: &[u8]) -> (u16, String) {
        let head = format!("{head}\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        loop {
            let read = self.0.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "the connection ended");
            let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&answer[..end]).unwrap().to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            if answer.len() == end + 4 + length {
                let body = String::from_utf8_lossy(&answer[end + 4..]).into_owned();
                return (head[9..12].parse().unwrap(), body);
            }
        }
    }

    async fn score(&mut self, x: f64, headers: &str) -> (u16, serde_json::Value) {
        let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP64","data":[{x}]}}]}}"#);
        let (status, body) = self.ask(&format!("POST /v2/models/m/infer HTTP/1.1{headers}"), body.as_bytes()).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

fn reference(version: u64) -> ModelRef {
    ModelRef { name: "m".to_owned(), which: Which::Version(version) }
}

fn put(server: &Server, canary: Option<CanarySettings>, shadows: Vec<ModelRef>) {
    let settings =
        EndpointSettings { name: "m".to_owned(), champion: reference(1), canary, shadows, shadow_core_share: 1.0 };
    let endpoint = Endpoint::start(settings, server.scoring.models(), server.scoring.metrics(), None).unwrap();
    server.scoring.put_endpoint(endpoint);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_moves_of_an_alias_fail_and_tear_no_request() {
    let server = Server::start(Shelf { manners: Manner::Tells, hanging: None }, settings()).await;
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for at in 0..4 {
        let mut client = server.connect().await;
        let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
        clients.push(tokio::spawn(async move {
            let mut x = f64::from(at);
            while !over.load(Ordering::Relaxed) {
                let (status, answer) = client.score(x, "").await;
                assert_eq!(status, 200, "{answer}");
                // The version that is named is the one that answered, for this request.
                assert_eq!(answer["model_version"], answer["outputs"][0]["data"][0].to_string());
                assert_eq!(answer["outputs"][1]["data"][0], x);
                asked.fetch_add(1, Ordering::Relaxed);
                x += 4.0;
            }
        }));
    }
    // As many moves as said, and more where the clients come late: what isn't asked meanwhile shows nothing.
    let mut moves = 0;
    while moves < 1_000 || asked.load(Ordering::Relaxed) < 1_000 {
        server.scoring.models().serve(known(moves % 10 + 1)).await;
        tokio::task::yield_now().await;
        moves += 1;
        assert!(clients.iter().all(|client| !client.is_finished()), "a client has ended");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(server.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_taken_back_and_no_request_notices() {
    let manners = |version| if version == 2 { Manner::Panics } else { Manner::Tells(version) };
    let server = Server::start(Shelf { manners, hanging: None }, settings()).await;
    let canary = CanarySettings { model: reference(2), share: 0.5, limits: CanaryLimits::default() };
    put(&server, Some(canary), Vec::new());
    let mut client = server.connect().await;
    for key in 0..200 {
        let (status, answer) = client.score(1.0, &format!("\r\ngristmill-key: {key}")).await;
        assert_eq!((status, &answer["model_version"]), (200, &serde_json::json!("1")), "{answer}");
    }
    let report = server.scoring.endpoint("m").unwrap().report();
    let reason = report.taken_back.unwrap().to_string();
    assert_eq!(reason, "it fails at 100.0 % of requests, the champion at 0.0 %");
    assert_eq!(report.canary.unwrap()[0].failed, 20);
    assert_eq!(server.scoring.metrics().canary_rollbacks.with(&["m"]).value(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_works_answers_its_share_and_each_key_meets_one_side() {
    let server = Server::start(Shelf { manners: |_| Manner::Tells(1), hanging: None }, settings()).await;
    let canary = CanarySettings { model: reference(2), share: 0.3, limits: CanaryLimits::default() };
    put(&server, Some(canary), Vec::new());
    let mut client = server.connect().await;
    let mut by_canary = 0;
    for key in 0..300 {
        let key = format!("\r\ngristmill-key: {key}");
        let (_, first) = client.score(1.0, &key).await;
        let (_, second) = client.score(2.0, &key).await;
        assert_eq!(first["model_version"], second["model_version"]);
        by_canary += u32::from(first["model_version"] == "2");
    }
    assert!((60..120).contains(&by_canary), "{by_canary}");
    assert_eq!(server.scoring.endpoint("m").unwrap().report().taken_back, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadows_that_fail_panic_or_hang_leave_answers_alone() {
    let manners = |version| match version {
        2 => Manner::Fails,
        3 => Manner::Panics,
        version => Manner::Tells(version),
    };
    let (go, receiver) = std::sync::mpsc::channel();
    let hanging = Manner::Hangs(Arc::new(std::sync::Mutex::new(receiver)));
    let server = Server::start(Shelf { manners, hanging: Some(hanging) }, settings()).await;
    put(&server, None, (2..=5).map(reference).collect());
    let mut client = server.connect().await;
    for x in 0..1_000 {
        let (status, answer) = client.score(f64::from(x), "").await;
        assert_eq!((status, &answer["model_version"]), (200, &serde_json::json!("1")));
    }
    let endpoint = server.scoring.endpoint("m").unwrap();
    // The one that hangs has one at hand and its queue full; the others come through what they took.
    loop {
        let report = endpoint.report();
        let done =
            |at: usize| report.shadows[at].1.requests + report.shadows[at].1.failed + report.shadows[at].1.dropped;
        if [0, 1, 3].into_iter().all(|at| done(at) == 1_000) {
            assert_eq!(report.shadows[2].1.dropped, 1_000 - 257);
            assert_eq!(report.shadows[0].1.requests, 0);
            assert_eq!(report.shadows[1].1.requests, 0);
            // Version 5 says 5 where the live one says 1.
            assert_eq!(report.shadows[3].1.agreement(), Some(0.0));
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(go);
    assert_eq!(server.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_sense_is_never_our_fault() {
    let settings = ServerSettings { body_bytes_max: 10_000, ..settings() };
    let server = Server::start(Shelf { manners: Manner::Tells, hanging: None }, settings).await;
    let mut client = server.connect().await;
    let seeds: [(&str, &[u8]); 5] = [
        (
            "POST /v2/models/m/infer HTTP/1.1",
            br#"{"id":"a","inputs":[{"name":"x","shape":[1,1],"datatype":"FP64","data":[[1.5]]}],"outputs":[{"name":"x"}]}"#,
        ),
        ("POST /invocations HTTP/1.1\r\ncontent-type: application/json", br#"{"dataframe_split":{"columns":["x"],"data":[[1]]}}"#),
        ("POST /invocations HTTP/1.1\r\ncontent-type: application/json", br#"{"dataframe_records":[{"x":1},{"x":null}]}"#),
        ("POST /invocations HTTP/1.1\r\ncontent-type: text/csv", b"x,y\n1,\"a\"\n2,b\n"),
        ("POST /v1/models/m:predict HTTP/1.1", br#"{"instances":[{"x":1},[1],2]}"#),
    ];
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for (head, seed) in seeds {
        for _ in 0..2_000 {
            let mut body = seed.to_vec();
            for _ in 0..=next(3) {
                let at = next(body.len());
                match next(3) {
                    0 => drop(body.remove(at)),
                    1 => body[at] = next(256) as u8,
                    _ => body.insert(at, b"{}[]\",:0-\\"[next(10)]),
                }
            }
            let (status, answer) = client.ask(head, &body).await;
            assert!(matches!(status, 200 | 400), "{status} {answer} for {}", body.escape_ascii());
        }
    }
    let (status, _) = client.ask("POST /v2/models/m/infer HTTP/1.1\r\ncontent-encoding: gzip", b"x").await;
    assert_eq!(status, 400);
    let (status, answer) = client.ask("POST /v2/models/x/infer HTTP/1.1", b"{}").await;
    assert_eq!((status, answer.as_str()), (404, r#"{"error":"there is no model `x`"}"#));
    let (status, answer) = client.ask("POST /v2/models/m/infer HTTP/1.1", &[b' '; 20_000]).await;
    assert_eq!((status, answer.as_str()), (413, r#"{"error":"the body is over the limit of 10000 bytes"}"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_answers_what_is_at_hand() {
    let (go, receiver) = std::sync::mpsc::channel();
    let hanging = Manner::Hangs(Arc::new(std::sync::Mutex::new(receiver)));
    let server = Server::start(Shelf { manners: Manner::Tells, hanging: Some(hanging) }, settings()).await;
    let mut client = server.connect().await;
    let sent = Arc::new(Notify::new());
    let told = Arc::clone(&sent);
    let request = tokio::spawn(async move {
        let infer = br#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[7]}]}"#;
        told.notify_one();
        client.ask("POST /v2/models/m/versions/4/infer HTTP/1.1", infer).await
    });
    sent.notified().await;
    // It is at hand when the model waits in it.
    while server.scoring.models().usage().0 == 0 {
        tokio::task::yield_now().await;
    }
    let ended = tokio::spawn(server.end());
    go.send(()).unwrap();
    let (status, answer) = request.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ended.await.unwrap(), 0);
}
