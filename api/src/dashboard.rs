//! The dashboard: plain files that are part of the program, so that nothing has to be built or found.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Nothing but our own files is loaded or run, and no other site may frame the pages.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'; object-src 'none'";

include!(concat!(env!("OUT_DIR"), "/dashboard_files.rs"));

/// The pages: `/`, and their files under `/dashboard/`.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(async || file("index.html")))
        .route("/dashboard/{*path}", get(async |Path(path): Path<String>| file(&path)))
}

fn file(path: &str) -> Response {
    let Some((_, digest, bytes)) = FILES.iter().find(|(name, ..)| *name == path) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let content_type = match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let mut response = (*bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Asked again each time, so that pages and API are of one version.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, HeaderValue::from_static(digest));
    response
}
