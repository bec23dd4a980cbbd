//! Where a version comes from: the address that a client gives, checked, and the files that are found there.
//!
//! An address of files that are kept here must lie within the run or the logged model that the client names. Of an
//! address elsewhere nothing is known but itself: it isn't fetched.

use gristmill_registry::VersionView;

use super::artifacts::proxied;
use crate::Mlflow;
use crate::manifest::ManifestFile;
use crate::refusal::{Code, Refusal};
use crate::request::Asked;
use crate::tracking::Files;

/// What clients give as the source of a prompt, which has none.
const PROMPT_SOURCES: [&str; 2] = ["dummy-source", "prompt-template"];
/// How often an address is unquoted: nobody quotes it more than a few times, and each time is a pass.
const UNQUOTED_MAX: usize = 16;

/// Where a version comes from.
pub(super) struct Origin {
    pub source: String,
    pub run: Option<String>,
    pub logged_model: Option<String>,
    pub content: Content,
}

/// What a version consists of.
pub(super) enum Content {
    /// These files; none when they aren't kept here.
    Files(Vec<ManifestFile>),
    /// What another version consists of.
    Same(Box<VersionView>),
}

fn within(source: &str, what: &str) -> Refusal {
    Refusal::invalid(format!(
        "Invalid model version source: '{source}'. The {what} request parameter must identify the resource that contains \
         the source."
    ))
}

/// The scheme of an address, its host, and its path.
fn parts(uri: &str) -> (&str, &str, &str) {
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let Some((scheme, rest)) = uri.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return ("", "", uri);
    };
    let Some(rest) = rest.strip_prefix("//") else { return (scheme, "", rest) };
    let end = rest.find('/').unwrap_or(rest.len());
    (scheme, &rest[..end], &rest[end..])
}

/// Refuses an address that could mean another one than it seems.
fn check_plain(source: &str) -> Result<(), Refusal> {
    let mut plain = source.to_owned();
    for _ in 0..UNQUOTED_MAX {
        let next = unquoted(&plain);
        if next == plain {
            break;
        }
        plain = next;
    }
    let (_, _, path) = parts(&plain);
    let path = path.trim_end_matches('/').split(['?', '#']).next().unwrap_or_default();
    let bad = |part: &str| part == "." || part == "..";
    let fine = path.starts_with('/') && !path.split('/').any(bad) && !plain.contains('\0') && unquoted(&plain) == plain;
    if fine && !plain.split('/').any(|part| part == "..") {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, \
         objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references \
         present. Please provide an absolute path."
    )))
}

/// A text with its `%41` and `+` taken for what they mean, once.
fn unquoted(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = more.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => bytes.push(byte),
            None => bytes.push(if *first == b'+' { b' ' } else { *first }),
        }
        rest = if byte.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The path of `source` from `root` on, where it lies within.
fn path_within<'a>(source: &'a str, root: &str) -> Option<&'a str> {
    let (source, root) = (proxied(source)?.trim_end_matches('/'), proxied(root)?);
    let rest = source.strip_prefix(root)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

/// The files under a folder, or the file itself; refuses a place where there are none.
fn under(source: &str, files: &Files, path: &str) -> Result<Content, Refusal> {
    let path = path.trim_matches('/');
    let mut found: Vec<ManifestFile> =
        files.under(path).map(|(path, file)| ManifestFile { path: path.to_owned(), file }).collect();
    if let Some(file) = files.0.get(path) {
        let name = path.rsplit('/').next().unwrap_or(path);
        found.push(ManifestFile { path: name.to_owned(), file: *file });
    }
    if found.is_empty() {
        let text = format!("there are no files at '{source}'; store them before the version is registered");
        return Err(Refusal::invalid(text));
    }
    Ok(Content::Files(found))
}

impl Mlflow {
    /// Where the version that a request makes comes from.
    pub(super) async fn origin_of(&self, asked: &Asked, is_prompt: bool) -> Result<Origin, Refusal> {
        let source = asked.text("source");
        let text = |name: &str| Some(asked.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
        let (run, logged_model) = (text("run_id"), text("model_id"));
        let elsewhere = || Content::Files(Vec::new());
        let origin = |run, logged_model, content| Origin { source: source.to_owned(), run, logged_model, content };
        if is_prompt {
            if PROMPT_SOURCES.contains(&source) {
                return Ok(origin(run, logged_model, elsewhere()));
            }
            let text = "Prompt sources must use an MLflow placeholder.";
            return Err(Refusal::invalid(format!("Invalid prompt source: '{source}'. {text}")));
        }
        let (scheme, host, path) = parts(source);
        if scheme == "models" {
            return self.origin_of_model(asked, host, path).await;
        }
        if scheme.is_empty() || scheme == "file" {
            let what = if logged_model.is_some() { "model_id" } else { "run_id" };
            return Err(Refusal::invalid(format!(
                "Invalid model version source: '{source}'. To use a local path as a model version source, the {what} \
                 request parameter has to be specified and the local path has to be contained within the artifact \
                 directory of the run specified by the {what}."
            )));
        }
        check_plain(source)?;
        if let Some(id) = logged_model {
            return match (scheme, proxied(source)) {
                ("runs", _) => Err(within(source, "model_id")),
                (_, None) => Ok(origin(run, Some(id), elsewhere())),
                (_, Some(_)) => {
                    let model =
                        self.logged_model(&id).await.map_err(|refusal| unless_missing(refusal, source, "model_id"))?;
                    let path = path_within(source, &model.artifact_uri).ok_or_else(|| within(source, "model_id"))?;
                    let run = run.or(Some(model.run.clone()).filter(|run| !run.is_empty()));
                    Ok(origin(run, Some(id), under(source, &model.files, path)?))
                }
            };
        }
        if scheme != "runs" && proxied(source).is_none() {
            return Ok(origin(run, None, elsewhere()));
        }
        let id = run.clone().ok_or_else(|| within(source, "run_id"))?;
        let of_run = self.run(&id).await.map_err(|refusal| unless_missing(refusal, source, "run_id"))?;
        let path = if scheme == "runs" {
            let rest = path.trim_start_matches('/').strip_prefix(id.as_str()).filter(|_| host.is_empty());
            rest.and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| within(source, "run_id"))?
        } else {
            path_within(source, &of_run.artifact_uri).ok_or_else(|| within(source, "run_id"))?
        };
        // Files of a run that keeps them elsewhere aren't known here.
        let here = proxied(&of_run.artifact_uri).is_some();
        let content = if here { under(source, &of_run.files, path)? } else { elsewhere() };
        Ok(origin(run, None, content))
    }

    /// The same of `models:/m-…`, `models:/name/3` or `models:/name@alias`.
    async fn origin_of_model(&self, asked: &Asked, host: &str, path: &str) -> Result<Origin, Refusal> {
        let source = asked.text("source");
        if !host.is_empty() {
            return Err(within(source, "model_id"));
        }
        let path = path.trim_matches('/');
        let given = |name: &str| asked.given(name).map(str::to_owned);
        let is_id = path.strip_prefix("m-").is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '@']));
        if is_id {
            if asked.text("model_id") != path {
                return Err(within(source, "model_id"));
            }
            let model = self.logged_model(path).await.map_err(|refusal| unless_missing(refusal, source, "model_id"))?;
            let made_by = Some(model.run.clone()).filter(|run| !run.is_empty());
            let run = given("run_id").filter(|run| !run.is_empty()).or(made_by);
            let here = proxied(&model.artifact_uri).is_some();
            let content = if here { under(source, &model.files, "")? } else { Content::Files(Vec::new()) };
            return Ok(Origin { source: source.to_owned(), run, logged_model: Some(path.to_owned()), content });
        }
        let (name, which) =
            path.split_once('/').or_else(|| path.split_once('@')).ok_or_else(|| within(source, "model_id"))?;
        let model = self.model(name).await?;
        let found = match which.parse() {
            Ok(number) if path.contains('/') => model.version(number),
            _ if path.contains('/') && which.eq_ignore_ascii_case("latest") => model.versions.last(),
            _ if path.contains('/') => None,
            _ => model.aliased(which),
        };
        let version = found.ok_or_else(|| Refusal::no_version(name, which))?;
        let known = super::model_views::run_id(version);
        let of_model = version.external.as_ref().and_then(|external| external.logged_model.clone());
        let differs = |given: Option<String>, known: &str| given.is_some_and(|given| given != known);
        if differs(given("run_id"), &known) || differs(given("model_id"), of_model.as_deref().unwrap_or_default()) {
            return Err(Refusal::invalid(format!(
                "Invalid model version source: '{source}'. The run_id and model_id request parameters must match the \
                 referenced model version."
            )));
        }
        Ok(Origin {
            source: format!("models:/{name}/{}", version.version),
            run: Some(known).filter(|run| !run.is_empty()),
            logged_model: of_model,
            content: Content::Same(Box::new(version.clone())),
        })
    }
}

/// What isn't there doesn't contain the source.
fn unless_missing(refusal: Refusal, source: &str, what: &str) -> Refusal {
    if refusal.code == Code::ResourceDoesNotExist { within(source, what) } else { refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts() {
        assert_eq!(parts("s3://bucket/a/b"), ("s3", "bucket", "/a/b"));
        assert_eq!(parts("mlflow-artifacts:/1/a"), ("mlflow-artifacts", "", "/1/a"));
        assert_eq!(parts("/tmp/a:b"), ("", "", "/tmp/a:b"));
        assert_eq!(parts("models:/m/1"), ("models", "", "/m/1"));
    }

    #[test]
    fn addresses_that_lead_elsewhere_are_refused() {
        for good in ["s3://bucket/a", "https://h/x/y", "mlflow-artifacts:/1/a b", "runs:/abc/model"] {
            assert_eq!(check_plain(good), Ok(()), "{good}");
        }
        for bad in ["s3://b/../c", "s3://b/%2e%2e/c", "s3://b/%252e%252e/c", "s3://bucket", "dbfs:x", "https://h/a/./b"]
        {
            assert!(check_plain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_lies_within() {
        let root = "mlflow-artifacts:/1/abc/artifacts";
        assert_eq!(path_within("mlflow-artifacts:/1/abc/artifacts/model/", root), Some("model"));
        assert_eq!(path_within("mlflow-artifacts:/1/abc/artifacts", root), Some(""));
        assert_eq!(path_within("mlflow-artifacts:/1/abc/artifacts2", root), None);
        assert_eq!(path_within("s3://1/abc/artifacts/model", root), None);
    }
}
