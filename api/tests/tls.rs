//! Encrypted connections, and those that aren't.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use gristmill_api::{ServerSettings, TlsError, serve, tls};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn whoever_trusts_the_certificate_is_answered_and_plain_text_is_not() {
    let config = tls(&data("localhost.pem"), &data("localhost.key")).expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/hello", get(async || "hello"));
    let settings = ServerSettings { tls: Some(config), ..ServerSettings::default() };
    tokio::spawn(serve(listener, router, settings, std::future::pending()));

    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(data("localhost.pem")).expect("a certificate")).expect("it is whole");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = |roots: RootCertStore| {
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        TlsConnector::from(Arc::new(builder.expect("versions").with_root_certificates(roots).with_no_client_auth()))
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut stream = client(trusted).connect(name.clone(), stream).await.expect("a handshake");
    stream.write_all(REQUEST).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");

    let stream = TcpStream::connect(address).await.expect("a connection");
    client(RootCertStore::empty()).connect(name, stream).await.expect_err("nobody vouches for it");

    let mut plain = TcpStream::connect(address).await.expect("a connection");
    plain.write_all(REQUEST).await.expect("sent");
    let mut answer = Vec::new();
    // It is closed, with or without a last word of the protocol.
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn files_that_are_no_pair_are_told_by_name() {
    let error = tls(&data("README.md"), &data("localhost.key")).expect_err("no certificate");
    assert!(matches!(&error, TlsError::NoCertificate { path } if path.ends_with("README.md")), "{error}");
    let error = tls(&data("localhost.pem"), &data("localhost.pem")).expect_err("no key");
    assert!(matches!(error, TlsError::Pem { .. }), "{error}");
    tls(&data("nothing.pem"), &data("localhost.key")).expect_err("no file");
}
