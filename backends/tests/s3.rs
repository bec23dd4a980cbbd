//! Artifacts in a bucket: against `moto_server`, and against answers that no good server gives.
#![cfg(feature = "s3")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_backends::artifacts::s3::{S3Artifacts, S3Options};
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::conformance::{self, ArtifactsFixture};
use gristmill_protocol::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A limit that only a bug can reach.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `moto_server` of its own, ended when it is dropped.
struct Moto {
    child: Child,
    address: String,
    buckets: AtomicU64,
}

impl Moto {
    fn start() -> Moto {
        let program = moto_program();
        let mut command = Command::new(&program);
        // Port 0: the system picks a free one, and the server says which.
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("`{}` can't be started: {error}", program.display()));
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = lines.by_ref().find_map(|line| {
            said.push_str(&line);
            said.push('\n');
            Some(line.split_once("Running on http://")?.1.trim().to_owned())
        });
        let Some(address) = address else { panic!("`{}` ended before it listened:\n{said}", program.display()) };
        // Its log goes nowhere, but somebody has to read it or it blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Moto { child, address, buckets: AtomicU64::new(0) }
    }

    fn options(&self) -> S3Options {
        options(&self.address)
    }

    /// Makes a bucket; its name.
    fn bucket(&self) -> String {
        let name = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        self.request("PUT", &format!("/{name}"), b"");
        name
    }

    async fn connect(&self, url: &str) -> S3Artifacts {
        S3Artifacts::connect(url, self.options()).await.expect("connected")
    }

    /// A request past the store's back; the server checks no signature, but wants one to know the region.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(&self.address).expect("it listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\nAuthorization: \
             AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            self.address,
            body.len(),
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        answer
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `$GRISTMILL_MOTO`, or `moto_server` on the path, or in the folder of servers for tests.
fn moto_program() -> PathBuf {
    if let Some(named) = std::env::var_os("GRISTMILL_MOTO") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = std::env::var_os("GRISTMILL_SERVERS").map(PathBuf::from);
    let in_servers = servers.map(|folder| folder.join("venv/bin"));
    let found = std::env::split_paths(&path).chain(in_servers).map(|folder| folder.join("moto_server"));
    found.into_iter().find(|program| program.is_file()).expect(
        "no `moto_server` found: install it with `deploy/local/servers` or `pip install 'moto[server]'`, or set \
         GRISTMILL_MOTO to its path",
    )
}

fn options(address: &str) -> S3Options {
    S3Options {
        endpoint: Some(format!("http://{address}")),
        region: Some("us-east-1".to_owned()),
        credentials: Some(("test".to_owned(), "test".to_owned())),
        ..S3Options::default()
    }
}

fn key(digest: Digest) -> String {
    let hex = digest.hex();
    format!("sha256/{}/{hex}", &hex[..2])
}

/// Some bytes that don't repeat soon.
fn noise(len: usize) -> Bytes {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The error and all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

struct Buckets(Moto);

#[async_trait]
impl ArtifactsFixture for Buckets {
    async fn fresh(&self) -> Arc<dyn Artifacts> {
        Arc::new(self.0.connect(&format!("s3://{}/some/prefix", self.0.bucket())).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_the_promises_of_an_artifact_store() {
    conformance::artifacts(Arc::new(Buckets(Moto::start()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_many_parts_comes_back_whole() {
    let moto = Moto::start();
    let bucket = moto.bucket();
    let artifacts = moto.connect(&format!("s3://{bucket}")).await;
    let bytes = noise(40 << 20);
    let digest = artifacts.put(bytes.clone()).await.expect("put");
    assert!(artifacts.get(digest).await.expect("there") == bytes);
    let range = artifacts.range(digest, (8 << 20) - 5, 10).await.expect("in range");
    assert_eq!(range, bytes.slice((8 << 20) - 5..(8 << 20) + 5));

    // The same from a file, with a last part that isn't full.
    let path = artifacts.scratch().join("model");
    let bytes = bytes.slice(..(33 << 20) + 1);
    std::fs::write(&path, &bytes).expect("written");
    let (digest, size) = artifacts.put_file(&path).await.expect("put");
    assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
    assert!(artifacts.get(digest).await.expect("there") == bytes);

    let uploads = moto.request("GET", &format!("/{bucket}?uploads"), b"");
    assert!(!uploads.contains("<UploadId>"), "an upload is left open: {uploads}");
}

#[tokio::test]
async fn damage_is_found_when_an_artifact_is_read() {
    let moto = Moto::start();
    let bucket = moto.bucket();
    let artifacts = moto.connect(&format!("s3://{bucket}")).await;
    let digest = artifacts.put(Bytes::from_static(b"good bytes")).await.expect("put");
    moto.request("PUT", &format!("/{bucket}/{}", key(digest)), b"evil bytes");
    let answer = artifacts.get(digest).await;
    let found = Digest::of(b"evil bytes");
    assert!(matches!(answer, Err(ArtifactError::Corrupt { digest: of, found: what }) if of == digest && what == found));

    // Shorter than it was: put again, it is whole again.
    moto.request("PUT", &format!("/{bucket}/{}", key(digest)), b"good");
    artifacts.put(Bytes::from_static(b"good bytes")).await.expect("put");
    assert_eq!(artifacts.get(digest).await.expect("whole"), "good bytes");
}

#[tokio::test]
async fn what_others_keep_in_the_bucket_is_passed_over() {
    let moto = Moto::start();
    let bucket = moto.bucket();
    let artifacts = moto.connect(&format!("s3://{bucket}/p")).await;
    let digest = artifacts.put(Bytes::from_static(b"ours")).await.expect("put");
    let other = Digest::of(b"theirs");
    for theirs in ["p/sha256/00/readme".to_owned(), "p/sha256/zz".to_owned(), format!("p2/{}", key(other))] {
        moto.request("PUT", &format!("/{bucket}/{theirs}"), b"theirs");
    }
    for limit in 1..4 {
        assert_eq!(artifacts.list(None, limit).await.expect("listed"), [(digest, 4)]);
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_with_what_to_do() {
    let moto = Moto::start();
    let answer = S3Artifacts::connect("s3://nowhere/prefix", moto.options()).await;
    let text = chain(&answer.expect_err("there is no such bucket"));
    assert!(text.contains("s3://nowhere/prefix/sha256/"), "{text}");
    assert!(text.contains("aws s3 mb s3://nowhere"), "{text}");

    // And one that goes away later.
    let bucket = moto.bucket();
    let artifacts = moto.connect(&format!("s3://{bucket}")).await;
    moto.request("DELETE", &format!("/{bucket}"), b"");
    let error = artifacts.put(Bytes::from_static(b"x")).await.expect_err("there is no such bucket");
    assert!(chain(&error).contains(&format!("there is no bucket `{bucket}`")), "{}", chain(&error));
}

#[tokio::test]
async fn a_store_that_goes_away_is_unavailable() {
    let moto = Moto::start();
    let artifacts = moto.connect(&format!("s3://{}", moto.bucket())).await;
    let digest = artifacts.put(Bytes::from_static(b"x")).await.expect("put");
    let options = moto.options();
    drop(moto);
    let unavailable = |error: ArtifactError| assert!(matches!(error, ArtifactError::Unavailable { .. }), "{error:?}");
    let calls = async {
        unavailable(artifacts.get(digest).await.expect_err("away"));
        unavailable(artifacts.put(Bytes::from_static(b"y")).await.expect_err("away"));
        unavailable(artifacts.size(digest).await.expect_err("away"));
        unavailable(artifacts.list(None, 1).await.expect_err("away"));
        unavailable(artifacts.delete(digest).await.expect_err("away"));
        unavailable(S3Artifacts::connect("s3://bucket", options).await.expect_err("away"));
    };
    tokio::time::timeout(PATIENCE, calls).await.expect("in time");
}

#[tokio::test]
async fn a_store_that_never_answers_is_unavailable_within_its_limit() {
    // Connections are taken by the system and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let options = S3Options {
        attempts: 2,
        attempt_timeout: Duration::from_millis(200),
        call_timeout: Duration::from_secs(2),
        ..options(&address)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), S3Artifacts::connect("s3://bucket", options)).await;
    let error = answer.expect("within its limit").expect_err("nobody answers");
    assert!(matches!(error, ArtifactError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn addresses_that_mean_nothing_are_refused() {
    for url in ["bucket", "s3://", "s3:///key", "http://bucket", "s3://buck et/x", "s3://bucket/x?region=y"] {
        let answer = S3Artifacts::connect(url, options("127.0.0.1:1")).await;
        assert!(matches!(answer, Err(ArtifactError::Io { .. })), "{url}: {answer:?}");
    }
}

/// A server that answers as a script says, once a connection, and notes what it was asked.
struct Scripted {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// `answer` gets the request's first line and its headers in lower case, and gives all bytes of the answer.
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, notes) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, notes) = (Arc::clone(&answer), Arc::clone(&notes));
                tokio::spawn(async move { serve(stream, &*answer, &notes).await });
            }
        });
        Scripted { address, asked }
    }

    fn count(&self, what: &str) -> usize {
        self.asked.lock().expect("not poisoned").iter().filter(|line| line.contains(what)).count()
    }
}

async fn serve(mut stream: TcpStream, answer: &(dyn Fn(&str) -> Vec<u8> + Send + Sync), notes: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let end = loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let first = head.lines().next().unwrap_or_default().to_owned();
    let head = format!("{first}\n{}", head.to_ascii_lowercase());
    let body: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    while request.len() < end + body {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    notes.lock().expect("not poisoned").push(first);
    // A client that has gone is what some scripts are about.
    let _ = stream.write_all(&answer(&head)).await;
    let _ = stream.shutdown().await;
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

const EMPTY_LIST: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

#[tokio::test]
async fn an_upload_that_fails_is_aborted() {
    let server = Scripted::start(|request| {
        let line = request.lines().next().unwrap_or_default();
        match line {
            _ if line.contains("list-type=2") => response("200 OK", "", EMPTY_LIST),
            _ if line.starts_with("HEAD") => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n".to_vec(),
            _ if line.starts_with("POST") && line.contains("uploads") => {
                let begun = "<InitiateMultipartUploadResult><UploadId>u-1</UploadId></InitiateMultipartUploadResult>";
                response("200 OK", "", begun)
            }
            _ if line.starts_with("PUT") && line.contains("partNumber=2") => response("403 Forbidden", "", DENIED),
            _ if line.starts_with("PUT") => response("200 OK", "ETag: \"e\"\r\n", ""),
            _ if line.starts_with("DELETE") => response("204 No Content", "", ""),
            _ => response("400 Bad Request", "", ""),
        }
    })
    .await;
    let artifacts = S3Artifacts::connect("s3://bucket", options(&server.address)).await.expect("connected");
    let error = artifacts.put(noise(20 << 20)).await.expect_err("denied");
    let text = chain(&error);
    assert!(text.contains("access to the bucket `bucket` is denied"), "{text}");
    assert!(text.contains("s3:PutObject") && text.contains("s3://bucket/sha256/"), "{text}");
    assert_eq!(server.count("x-id=AbortMultipartUpload&uploadId=u-1"), 1, "{:?}", server.asked);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_on_from_there() {
    let body = "0123456789".repeat(100);
    let digest = Digest::of(body.as_bytes());
    let server = Scripted::start(move |request| {
        if request.contains("list-type=2") {
            return response("200 OK", "", EMPTY_LIST);
        }
        // Every answer promises all that is left, and gives 400 bytes of it.
        let range = request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
        let from = range.and_then(|from| from.parse().ok()).unwrap_or(0);
        let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
        let range = format!("Content-Range: bytes {from}-999/1000\r\n");
        let full = response(status, if from == 0 { "" } else { &range }, &body[from..]);
        let head = full.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        full[..full.len().min(head + 400)].to_vec()
    })
    .await;
    let artifacts = S3Artifacts::connect("s3://bucket", options(&server.address)).await.expect("connected");
    assert_eq!(artifacts.get(digest).await.expect("whole").len(), 1_000);
    assert_eq!(server.count("GET /bucket/sha256"), 3);
}

#[tokio::test]
async fn a_file_of_scratch_is_gone_with_the_store() {
    let server = Scripted::start(|_| response("200 OK", "", EMPTY_LIST)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let options = S3Options { scratch_in: Some(folder.path().to_owned()), ..options(&server.address) };
    let artifacts = S3Artifacts::connect("s3://bucket", options).await.expect("connected");
    std::fs::write(artifacts.scratch().join("half"), b"half").expect("written");
    drop(artifacts);
    let left = |folder: &Path| std::fs::read_dir(folder).expect("there").count();
    assert_eq!(left(folder.path()), 0);
}
