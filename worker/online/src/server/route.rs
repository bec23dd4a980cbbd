//! What a method and a path ask for.

use std::borrow::Cow;

use hyper::Method;

use crate::models::Which;
use crate::refusal::Refusal;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Predictions, in Open Inference V2.
    Infer(Cow<'a, str>, Which),
    /// Predictions by the default model, as MLflow and SageMaker ask.
    Invocations,
    /// Predictions for `instances`, as Vertex AI and V1 clients ask.
    Instances(Option<Cow<'a, str>>),
    ServerMetadata,
    ServerLive,
    ServerReady,
    /// Whether the default model is there, in MLflow's and SageMaker's form.
    Ping,
    Version,
    Models,
    ModelMetadata(Cow<'a, str>, Which),
    ModelReady(Cow<'a, str>, Which),
    ModelConfig(Cow<'a, str>, Which),
    /// Of one model, or of all.
    ModelStats(Option<(Cow<'a, str>, Which)>),
    /// A model in V1.
    V1Models,
    V1Model(Cow<'a, str>),
    RepositoryIndex,
    RepositoryLoad(Cow<'a, str>),
    RepositoryUnload(Cow<'a, str>),
    OpenApi,
    Metrics,
}

/// In whose words a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// `{"error":…}`.
    Inference,
    /// `{"error_code":…,"message":…}`.
    Mlflow,
}

/// What a request asks.
pub fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Refusal> {
    let mut parts = [""; 8];
    let mut count = 0;
    // A slash at the end means nothing.
    for part in path.trim_matches('/').split('/') {
        let Some(slot) = parts.get_mut(count) else { return Err(unknown(path)) };
        *slot = part;
        count += 1;
    }
    let (allowed, route) = match &parts[..count] {
        ["v2", "models", model, "infer"] => (Method::POST, Route::Infer(decoded(model)?, Which::Served)),
        ["v2", "models", model, "versions", version, "infer"] => {
            (Method::POST, Route::Infer(decoded(model)?, which(version)?))
        }
        ["invocations"] => (Method::POST, Route::Invocations),
        ["v1", "models", model] if model.ends_with(":predict") => {
            (Method::POST, Route::Instances(Some(decoded(model.trim_end_matches(":predict"))?)))
        }
        ["v2"] => (Method::GET, Route::ServerMetadata),
        ["v2", "health", "live"] | ["healthz"] => (Method::GET, Route::ServerLive),
        ["v2", "health", "ready"] | ["readyz"] => (Method::GET, Route::ServerReady),
        ["v2", "models"] => (Method::GET, Route::Models),
        ["v2", "models", "stats"] => (Method::GET, Route::ModelStats(None)),
        ["v2", "models", model, rest @ ..] => (Method::GET, of_model(model, rest).ok_or_else(|| unknown(path))??),
        ["v2", "repository", "index"] => (Method::POST, Route::RepositoryIndex),
        ["v2", "repository", "models", model, "load"] => (Method::POST, Route::RepositoryLoad(decoded(model)?)),
        ["v2", "repository", "models", model, "unload"] => (Method::POST, Route::RepositoryUnload(decoded(model)?)),
        ["v1", "models"] => (Method::GET, Route::V1Models),
        ["v1", "models", model] => (Method::GET, Route::V1Model(decoded(model)?)),
        ["ping" | "health"] => (Method::GET, Route::Ping),
        ["version"] => (Method::GET, Route::Version),
        ["openapi.json"] => (Method::GET, Route::OpenApi),
        ["metrics"] => (Method::GET, Route::Metrics),
        _ => return Err(unknown(path)),
    };
    if *method == allowed || (allowed == Method::GET && *method == Method::HEAD) {
        return Ok(route);
    }
    let allowed = if allowed == Method::GET { "GET, HEAD" } else { "POST" };
    Err(Refusal::WrongMethod { path: path.to_owned(), allowed })
}

/// In whose words refusals of a path are told.
pub fn voice(path: &str) -> Voice {
    if path == "/invocations" { Voice::Mlflow } else { Voice::Inference }
}

fn of_model<'a>(model: &'a str, rest: &[&str]) -> Option<Result<Route<'a>, Refusal>> {
    let (version, rest) = match rest {
        ["versions", version, rest @ ..] => (which(version), rest),
        rest => (Ok(Which::Served), rest),
    };
    let make: fn(Cow<'a, str>, Which) -> Route<'a> = match rest {
        [] => Route::ModelMetadata,
        ["ready"] => Route::ModelReady,
        ["config"] => Route::ModelConfig,
        ["stats"] => |model, which| Route::ModelStats(Some((model, which))),
        _ => return None,
    };
    Some(version.and_then(|version| Ok(make(decoded(model)?, version))))
}

fn which(version: &str) -> Result<Which, Refusal> {
    Ok(Which::named(&decoded(version)?))
}

fn unknown(path: &str) -> Refusal {
    Refusal::NotFound(format!("there is nothing at `{path}`; `/openapi.json` lists what there is"))
}

/// A part of a path without its percent signs.
fn decoded(part: &str) -> Result<Cow<'_, str>, Refusal> {
    if !part.contains('%') {
        return Ok(Cow::Borrowed(part));
    }
    let wrong = || Refusal::BadRequest(format!("`{part}` is no part of a path"));
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_models_and_versions() {
        let post = |path| route(&Method::POST, path);
        let get = |path| route(&Method::GET, path);
        assert_eq!(post("/v2/models/m/infer"), Ok(Route::Infer("m".into(), Which::Served)));
        assert_eq!(post("/v2/models/a%20b/versions/3/infer"), Ok(Route::Infer("a b".into(), Which::Version(3))));
        let alias = Which::Alias("challenger".to_owned());
        assert_eq!(get("/v2/models/m/versions/challenger/ready"), Ok(Route::ModelReady("m".into(), alias)));
        assert_eq!(get("/v2/"), Ok(Route::ServerMetadata));
        assert_eq!(post("/v1/models/m:predict"), Ok(Route::Instances(Some("m".into()))));
        assert_eq!(get("/v2/models/stats"), Ok(Route::ModelStats(None)));
    }

    #[test]
    fn wrong_paths_and_methods_are_told_apart() {
        let status = |method, path| route(&method, path).unwrap_err().status();
        assert_eq!(status(Method::GET, "/v2/models/m/infer"), 405);
        assert_eq!(status(Method::GET, "/v2/models/m/x"), 404);
        assert_eq!(status(Method::GET, "/invocations"), 405);
        assert_eq!(status(Method::POST, "/v2"), 405);
        assert_eq!(status(Method::GET, "/x"), 404);
        assert_eq!(status(Method::GET, "/v2/models/%zz"), 400);
        assert_eq!(status(Method::GET, "/1/2/3/4/5/6/7/8/9"), 404);
        assert_eq!(status(Method::GET, "/v2/models/%e"), 400);
    }
}
