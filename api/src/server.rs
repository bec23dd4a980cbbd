//! Connections: plain or encrypted, so many at a time, and an orderly end.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// How the server behaves.
#[derive(Clone)]
pub struct ServerSettings {
    /// Connections at a time; further ones wait to be accepted. A page that watches has one for itself.
    pub connections_max: usize,
    /// How long a connection may be silent before a request's head is complete.
    pub idle_max: Duration,
    /// How long a handshake may take.
    pub handshake_max: Duration,
    /// How long requests at hand may take when the server ends.
    pub drain_max: Duration,
    /// Certificate and key, if connections are encrypted.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            connections_max: 4_096,
            idle_max: Duration::from_secs(120),
            handshake_max: Duration::from_secs(10),
            drain_max: Duration::from_secs(25),
            tls: None,
        }
    }
}

/// Why connections can't be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("failed to read `{path}`")]
    Pem { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("`{path}` holds no certificate")]
    NoCertificate { path: PathBuf },
    #[error("certificate `{certificate}` and key `{key}` can't be used")]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

/// What encrypts connections, from files in PEM: a chain of certificates, the server's first, and its key.
pub fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(unreadable(certificate))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(unreadable(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.to_owned() });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        builder.map_err(unusable)?.with_no_client_auth().with_single_cert(chain, private).map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `stop` ends, then answers what is at hand and ends. Returns the number of connections that were cut
/// because they took longer than the settings allow.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) -> usize {
    let connections_max = settings.connections_max.clamp(1, u32::MAX as usize >> 1);
    let slots = Arc::new(Semaphore::new(connections_max));
    let drain_max = settings.drain_max;
    let (end, ended) = watch::channel(false);
    tokio::select! {
        () = accept(&listener, &router, &settings, &slots, &ended) => {}
        () = stop => {}
    }
    drop(listener);
    end.send_replace(true);
    let all = slots.acquire_many(u32::try_from(connections_max).unwrap_or(u32::MAX));
    match tokio::time::timeout(drain_max, all).await {
        Ok(_) => 0,
        Err(_) => connections_max - slots.available_permits(),
    }
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    settings: &ServerSettings,
    slots: &Arc<Semaphore>,
    ended: &watch::Receiver<bool>,
) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(keep(stream, router.clone(), settings.clone(), slot, ended.clone()));
            }
            // Out of file descriptors, or a client that has gone already; some time may help, and a busy loop doesn't.
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One connection, until the client closes it or the server ends.
async fn keep(
    stream: TcpStream,
    router: Router,
    settings: ServerSettings,
    slot: OwnedSemaphorePermit,
    ended: watch::Receiver<bool>,
) {
    // Answers are whole; waiting to send them together with the next helps nobody.
    let _ = stream.set_nodelay(true);
    match &settings.tls {
        None => talk(stream, router, &settings, ended).await,
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.clone()).accept(stream);
            match tokio::time::timeout(settings.handshake_max, handshake).await {
                Ok(Ok(stream)) => talk(stream, router, &settings, ended).await,
                Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        }
    }
    drop(slot);
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    settings: &ServerSettings,
    mut ended: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let answer = router.oneshot(request.map(Body::new)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(settings.idle_max);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ends = tokio::select! {
        result = connection.as_mut() => result,
        () = async { drop(ended.wait_for(|ended| *ended).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ends {
        tracing::debug!(%error, "connection ended");
    }
}
