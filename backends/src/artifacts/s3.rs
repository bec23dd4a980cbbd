//! Artifacts in an S3 bucket: objects `<prefix>/sha256/ab/abcdef…`, each the bytes that its name is the digest of.
//!
//! Marks are objects of no bytes, `<prefix>/marks/<name>`.
//!
//! An object appears whole or not at all: a put is one request, or a multipart upload that is completed in
//! the end and aborted when it fails. Objects of one name all have the same bytes, so racing puts need no
//! conditional write, and nothing here leans on one: services differ in what those promise.
//!
//! The client repeats a request that failed in a way worth repeating, [`S3Options::attempts`] times in all;
//! a body that breaks off is asked for again from where it broke. What ran out of attempts or time is
//! [`ArtifactError::Unavailable`]; what the service refuses (no such bucket, access denied) is
//! [`ArtifactError::Io`] with the place and what to do about it.
//!
//! Left out: a cache of objects on this machine. `local_path` answers nothing, and readers ask for ranges.

mod failure;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::{Bytes, BytesMut};
use gristmill_protocol::Digest;
use tempfile::TempDir;

use self::failure::{Reason, Verb};
use self::upload::{Source, hash_file};
use super::{ArtifactError, Artifacts, check_mark};

/// Bytes that no object exceeds at any service we know of (S3 itself ends at 50 TB). Ranges past it are
/// answered without asking for them, since services trip over numbers that large.
const OBJECT_BYTES_MAX: u64 = 1 << 50;
/// Keys in one page of a list: what S3 gives at the most.
const LIST_PAGE_MAX: usize = 1_000;
/// The region that is signed for when an endpoint is set and no region: servers of one's own take any.
const REGION_OF_ENDPOINTS: &str = "us-east-1";
/// How long a connection may take. A store that is there answers within milliseconds, across a continent
/// within a quarter of a second; three tries of a lost packet fit in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes from which hashing is worth a thread: it takes about as long as the way there.
const HASH_HERE_BYTES: usize = 64 * 1024;

/// How to reach a bucket. What isn't set comes from the usual variables (`AWS_ENDPOINT_URL_S3` or
/// `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` and its like) or from the machine's role.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The server, when it isn't S3 itself: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// An access key and its secret.
    pub credentials: Option<(String, String)>,
    /// Whether the bucket is in the path rather than the host name. When not said: with an endpoint, yes.
    pub path_style: Option<bool>,
    /// How often a request is made before it has failed. Four outlast a server's restart of some seconds.
    pub attempts: u32,
    /// How long one attempt may take to be answered, and a body to go on. The largest request carries a part
    /// of 8 MiB, which passes in 30 s over 3 Mbit/s.
    pub attempt_timeout: Duration,
    /// How long a call may take with all its attempts; each part of a large object is a call of its own.
    pub call_timeout: Duration,
    /// The folder in which the scratch folder is made; without one, the system's.
    pub scratch_in: Option<PathBuf>,
}

impl Default for S3Options {
    fn default() -> S3Options {
        S3Options {
            endpoint: None,
            region: None,
            credentials: None,
            path_style: None,
            attempts: 4,
            attempt_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(90),
            scratch_in: None,
        }
    }
}

/// Artifacts in a bucket. Clones share the connections.
#[derive(Clone, Debug)]
pub struct S3Artifacts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    bucket: String,
    /// `sha256/`, with the URL's prefix before it.
    root: String,
    /// `marks/`, with the URL's prefix before it.
    marks: String,
    attempts: u32,
    attempt_timeout: Duration,
    /// Files that aren't artifacts yet. Removed with this; what a killed process leaves is the system's to clean.
    scratch: TempDir,
}

impl S3Artifacts {
    /// Connects to `s3://bucket/prefix` and asks it for a first answer, so that a wrong name, a wrong key or a
    /// server that is away shows here and not at the first artifact.
    pub async fn connect(url: &str, options: S3Options) -> Result<S3Artifacts, ArtifactError> {
        let (bucket, prefix) = parse_url(url).map_err(|reason| wrong_options(url, reason))?;
        let client = client(url, &options).await?;
        let scratch = match &options.scratch_in {
            Some(folder) => TempDir::with_prefix_in("gristmill-", folder),
            None => TempDir::with_prefix("gristmill-"),
        };
        let scratch_in = options.scratch_in.clone().unwrap_or_else(std::env::temp_dir);
        let scratch =
            scratch.map_err(|source| ArtifactError::Io { verb: "make a folder for an", path: scratch_in, source })?;
        let inner = Inner {
            client,
            bucket,
            marks: if prefix.is_empty() { "marks/".to_owned() } else { format!("{prefix}/marks/") },
            root: if prefix.is_empty() { "sha256/".to_owned() } else { format!("{prefix}/sha256/") },
            attempts: options.attempts,
            attempt_timeout: options.attempt_timeout,
            scratch,
        };
        inner.list(None, 1).await?;
        Ok(S3Artifacts { inner: Arc::new(inner) })
    }
}

/// The bucket and the prefix that a URL names.
fn parse_url(url: &str) -> Result<(String, String), &'static str> {
    let rest = url.strip_prefix("s3://").ok_or("write it as `s3://bucket/prefix`")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if bucket.is_empty() || !bucket.chars().all(fits) {
        return Err("its bucket's name isn't one; write it as `s3://bucket/prefix`");
    }
    if prefix.contains(['?', '#']) {
        return Err("options don't go into the URL; set the `AWS_…` variables");
    }
    Ok((bucket.to_owned(), prefix.trim_matches('/').to_owned()))
}

fn wrong_options(url: &str, reason: &str) -> ArtifactError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, reason.to_owned());
    ArtifactError::Io { verb: "use the folder of an", path: url.into(), source }
}

async fn client(url: &str, options: &S3Options) -> Result<Client, ArtifactError> {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(options.attempt_timeout))
        .read_timeout(options.attempt_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.call_timeout)
        .build();
    // Backing off starts at a tenth of a second: most failures worth repeating are one lost connection.
    let retries = RetryConfig::standard()
        .with_max_attempts(options.attempts)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_secs(5));
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries);
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &options.region {
        loader = loader.region(aws_config::Region::new(region.clone()));
    }
    if let Some((key, secret)) = &options.credentials {
        let credentials = aws_sdk_s3::config::Credentials::new(key, secret, None, None, "gristmill");
        loader = loader.credentials_provider(credentials);
    }
    let shared = loader.load().await;
    // The SDK reads these two itself; here they decide about path style and the region.
    let of_environment =
        || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().any(|name| std::env::var_os(name).is_some());
    let has_endpoint = shared.endpoint_url().is_some() || of_environment();
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(options.path_style.unwrap_or(has_endpoint))
        // Every request is signed with the SHA-256 of its body, and what is read is checked against its digest.
        // Checksums in trailers add nothing to that, and many servers don't know them.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if shared.region().is_none() {
        if !has_endpoint {
            return Err(wrong_options(url, "its region isn't known; set `AWS_REGION` to the bucket's"));
        }
        config = config.region(aws_sdk_s3::config::Region::new(REGION_OF_ENDPOINTS));
    }
    Ok(Client::from_conf(config.build()))
}

impl Inner {
    fn key(&self, digest: Digest) -> String {
        let hex = digest.hex();
        format!("{}{}/{hex}", self.root, &hex[..2])
    }

    /// The digest that a key stands for; nothing for what others put there.
    fn digest(&self, key: &str) -> Option<Digest> {
        let (first, hex) = key.strip_prefix(&self.root)?.split_once('/')?;
        let digest: Digest = format!("sha256:{hex}").parse().ok()?;
        hex.starts_with(first).then_some(digest).filter(|_| first.len() == 2)
    }

    async fn size(&self, verb: Verb, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        let key = self.key(digest);
        match self.client.head_object().bucket(&self.bucket).key(&key).send().await {
            Ok(head) => Ok(Some(head.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0))),
            Err(error) => match Reason::of(&error) {
                // The answer to HEAD has no body, so a bucket that is gone looks the same; `connect` has seen it.
                Reason::Missing => Ok(None),
                reason => Err(self.failed(verb, &key, reason, error)),
            },
        }
    }

    /// Whether an upload can be skipped.
    async fn is_kept(&self, digest: Digest, size: u64) -> Result<bool, ArtifactError> {
        Ok(self.size(Verb::Put, digest).await? == Some(size))
    }

    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        let (digest, bytes) = digest_of(bytes).await?;
        let size = bytes.len() as u64;
        if !self.is_kept(digest, size).await? {
            self.upload(digest, size, Source::Bytes(bytes)).await?;
        }
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        let (digest, size) = hash_file(path).await?;
        if !self.is_kept(digest, size).await? {
            self.upload(digest, size, Source::open(path).await?).await?;
        }
        if path.starts_with(self.scratch.path()) {
            // What is put from scratch is moved. A file that can't be removed goes with the folder.
            let _ = tokio::fs::remove_file(path).await;
        }
        Ok((digest, size))
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        let bytes = self.read(digest, 0, None).await?;
        let (found, bytes) = digest_of(bytes).await?;
        if found == digest { Ok(bytes) } else { Err(ArtifactError::Corrupt { digest, found }) }
    }

    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        let end = offset.saturating_add(len);
        if len > 0 && end <= OBJECT_BYTES_MAX {
            return self.read(digest, offset, Some(end)).await;
        }
        // A Range header can't ask for nothing.
        let size = self.size(Verb::Read, digest).await?.ok_or(ArtifactError::Missing { digest })?;
        if end > size { Err(ArtifactError::OutOfRange { digest, size, offset, end }) } else { Ok(Bytes::new()) }
    }

    /// Reads from `offset` to `end`, or to the end of the object.
    async fn read(&self, digest: Digest, offset: u64, end: Option<u64>) -> Result<Bytes, ArtifactError> {
        let key = self.key(digest);
        let mut bytes = BytesMut::new();
        let mut broken_off = 0;
        loop {
            let from = offset + bytes.len() as u64;
            let range = match end {
                Some(end) => Some(format!("bytes={from}-{}", end - 1)),
                None if from > 0 => Some(format!("bytes={from}-")),
                None => None,
            };
            let is_part = range.is_some();
            let asked = self.client.get_object().bucket(&self.bucket).key(&key).set_range(range).send().await;
            let object = match asked {
                Ok(object) => object,
                Err(error) => {
                    return Err(match (Reason::of(&error), end) {
                        (Reason::Missing, _) => ArtifactError::Missing { digest },
                        (Reason::OutOfRange, Some(end)) => {
                            let size = self.size(Verb::Read, digest).await?.ok_or(ArtifactError::Missing { digest })?;
                            ArtifactError::OutOfRange { digest, size, offset, end }
                        }
                        (reason, _) => self.failed(Verb::Read, &key, reason, error),
                    });
                }
            };
            if is_part && object.content_range().is_none() {
                let reason = "it gave the whole object where a range was asked for";
                return Err(self.failed(Verb::Read, &key, Reason::Refused, reason));
            }
            let length = object.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
            // `bytes 5-9/200`: the object ends before the range does when the last number says so.
            let whole = object.content_range().and_then(|text| text.rsplit_once('/')?.1.parse().ok());
            let size = whole.unwrap_or(from + length);
            if let Some(end) = end.filter(|end| *end > size) {
                return Err(ArtifactError::OutOfRange { digest, size, offset, end });
            }
            let wanted = end.unwrap_or(size) - offset;
            if bytes.is_empty() {
                bytes.reserve(usize::try_from(wanted).unwrap_or(0));
            }
            match self.read_body(object.body, &mut bytes, wanted).await {
                Ok(()) => return Ok(bytes.freeze()),
                // It broke off after the last byte.
                Err(_) if bytes.len() as u64 == wanted => return Ok(bytes.freeze()),
                Err(reason) => {
                    broken_off += 1;
                    if broken_off >= self.attempts {
                        return Err(self.failed(Verb::Read, &key, Reason::Away, reason));
                    }
                    tracing::debug!(key, reason, "an artifact's body broke off; asking for the rest");
                }
            }
        }
    }

    /// Adds a body to `bytes`, which shall become `wanted` long.
    async fn read_body(&self, mut body: ByteStream, bytes: &mut BytesMut, wanted: u64) -> Result<(), String> {
        loop {
            let next = tokio::time::timeout(self.attempt_timeout, body.next()).await;
            match next.map_err(|_| format!("nothing came for {:?}", self.attempt_timeout))? {
                Some(chunk) => bytes.extend_from_slice(&chunk.map_err(|error| failure::chain(&error))?),
                None if bytes.len() as u64 == wanted => return Ok(()),
                None => return Err(format!("the body ended after {} of {wanted} bytes", bytes.len())),
            }
            if bytes.len() as u64 > wanted {
                bytes.clear();
                return Err(format!("more than the {wanted} bytes that were asked for came"));
            }
        }
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        while found.len() < limit {
            let page = (limit - found.len()).min(LIST_PAGE_MAX);
            let mut ask = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.root);
            ask = ask.max_keys(i32::try_from(page).unwrap_or(i32::MAX));
            ask = match &next {
                Some(token) => ask.continuation_token(token),
                None => ask.set_start_after(after.map(|after| self.key(after))),
            };
            let page = ask.send().await;
            let page = page.map_err(|error| self.failed(Verb::List, &self.root, Reason::of(&error), error))?;
            for object in page.contents() {
                let digest = object.key().and_then(|key| self.digest(key));
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                found.extend(digest.zip(size));
            }
            next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn mark(&self, name: &str) -> Result<(), ArtifactError> {
        check_mark(name)?;
        let key = format!("{}{name}", self.marks);
        let put = self.client.put_object().bucket(&self.bucket).key(&key);
        let put = put.body(ByteStream::from_static(b"")).send().await;
        put.map_err(|error| self.failed(Verb::Put, &key, Reason::of(&error), error))?;
        Ok(())
    }

    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
        let root = format!("{}{prefix}", self.marks);
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        while found.len() < limit {
            let page = (limit - found.len()).min(LIST_PAGE_MAX);
            let mut ask = self.client.list_objects_v2().bucket(&self.bucket).prefix(&root);
            ask = ask.max_keys(i32::try_from(page).unwrap_or(i32::MAX));
            ask = match &next {
                Some(token) => ask.continuation_token(token),
                None => ask.set_start_after((!after.is_empty()).then(|| format!("{}{after}", self.marks))),
            };
            let page = ask.send().await;
            let page = page.map_err(|error| self.failed(Verb::List, &root, Reason::of(&error), error))?;
            let names = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&self.marks));
            found.extend(names.map(str::to_owned));
            next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        let key = self.key(digest);
        match self.client.delete_object().bucket(&self.bucket).key(&key).send().await {
            Ok(_) => Ok(()),
            Err(error) => match Reason::of(&error) {
                Reason::Missing => Ok(()),
                reason => Err(self.failed(Verb::Remove, &key, reason, error)),
            },
        }
    }
}

/// The digest of some bytes, and the bytes again.
async fn digest_of(bytes: Bytes) -> Result<(Digest, Bytes), ArtifactError> {
    if bytes.len() <= HASH_HERE_BYTES {
        return Ok((Digest::of(&bytes), bytes));
    }
    let hashed = tokio::task::spawn_blocking(move || (Digest::of(&bytes), bytes)).await;
    hashed.map_err(|source| ArtifactError::Unavailable { verb: "hash", source: Box::new(source) })
}

#[async_trait]
impl Artifacts for S3Artifacts {
    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        self.inner.put(bytes).await
    }

    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        self.inner.put_file(path).await
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        self.inner.get(digest).await
    }

    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        self.inner.range(digest, offset, len).await
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        self.inner.size(Verb::LookUp, digest).await
    }

    fn local_path(&self, _digest: Digest) -> Option<PathBuf> {
        None
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        self.inner.list(after, limit).await
    }

    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        self.inner.delete(digest).await
    }

    async fn mark(&self, name: &str) -> Result<(), ArtifactError> {
        self.inner.mark(name).await
    }

    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
        self.inner.marks(prefix, after, limit).await
    }

    fn scratch(&self) -> PathBuf {
        self.inner.scratch.path().to_owned()
    }
}
