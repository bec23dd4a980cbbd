//! What names and values may be, as MLflow has it.

use crate::refusal::Refusal;

/// Characters of the key of a parameter, a metric or a tag.
const KEY_MAX: usize = 250;
/// Characters of a parameter's value.
const PARAM_VALUE_MAX: usize = 6_000;
/// Characters of a run's tag.
const TAG_VALUE_MAX: usize = 8_000;
/// Characters of an experiment's tag.
const EXPERIMENT_TAG_VALUE_MAX: usize = 20_000;
/// Characters of an experiment's name.
const EXPERIMENT_NAME_MAX: usize = 500;
/// Characters of a tag of a registered model or of a version.
const MODEL_TAG_VALUE_MAX: usize = 100_000;
/// Characters of an alias.
const ALIAS_MAX: usize = 255;
/// Metrics, and entities in all, of one batch.
pub(crate) const BATCH_MAX: usize = 1_000;
/// Parameters, and tags, of one batch.
pub(crate) const BATCH_PAIRS_MAX: usize = 100;

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a name would be another one as a path.
fn normal(name: &str) -> Option<String> {
    let absolute = name.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let mut norm = if absolute { format!("/{}", parts.join("/")) } else { parts.join("/") };
    if norm.is_empty() {
        norm = ".".to_owned();
    }
    let other = norm != name || norm == "." || norm.starts_with("..") || absolute;
    other.then_some(norm)
}

fn path_like(path: &str, name: &str) -> Result<(), Refusal> {
    match normal(name) {
        None => Ok(()),
        Some(norm) => Err(Refusal::invalid(format!(
            "Invalid value {} for parameter '{path}' supplied: Names may be treated as files in certain cases, and must \
             not resolve to other names when treated as such. This name would resolve to '{norm}'",
            quoted(name)
        ))),
    }
}

/// The key of a parameter, a metric or a tag; `path` says where it stands.
pub(crate) fn key(path: &str, name: &str) -> Result<(), Refusal> {
    if !name.chars().all(|c| c.is_alphanumeric() || "/_.- :".contains(c)) {
        return Err(Refusal::invalid(format!(
            "Invalid value {} for parameter '{path}' supplied: Names may only contain alphanumerics, underscores (_), \
             dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
            quoted(name)
        )));
    }
    path_like(path, name)
}

fn length(what: &str, max: usize, text: &str) -> Result<(), Refusal> {
    if text.chars().count() <= max {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("'{what}' exceeds the maximum length of {max} characters")))
    }
}

/// What is longer than allowed is cut, as MLflow's server does by default.
fn cut(max: usize, text: &str) -> String {
    text.chars().take(max).collect()
}

fn at(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A parameter; its value is cut where it is too long.
pub(crate) fn param(path: &str, name: &str, value: &str) -> Result<(String, String), Refusal> {
    key(&at(path, "key"), name)?;
    length("Param key", KEY_MAX, name)?;
    Ok((name.to_owned(), cut(PARAM_VALUE_MAX, value)))
}

/// A run's tag; its value is cut where it is too long.
pub(crate) fn run_tag(path: &str, name: &str, value: &str) -> Result<(String, String), Refusal> {
    key(&at(path, "key"), name)?;
    length(&at(path, "key"), KEY_MAX, name)?;
    Ok((name.to_owned(), cut(TAG_VALUE_MAX, value)))
}

/// The name and the time of a metric.
pub(crate) fn metric(path: &str, name: &str, timestamp: i64) -> Result<(), Refusal> {
    key(&at(path, "name"), name)?;
    if timestamp < 0 {
        return Err(Refusal::invalid(format!(
            "Invalid value {timestamp} for parameter '{}' supplied: metric '{name}'. Timestamp must be a nonnegative \
             long (64-bit integer) ",
            at(path, "timestamp")
        )));
    }
    length("Metric name", KEY_MAX, name)
}

pub(crate) fn experiment_tag(name: &str, value: &str) -> Result<(), Refusal> {
    key("key", name)?;
    length("key", KEY_MAX, name)?;
    length("value", EXPERIMENT_TAG_VALUE_MAX, value)
}

pub(crate) fn model_tag(name: &str, value: &str) -> Result<(), Refusal> {
    key("key", name)?;
    length("key", KEY_MAX, name)?;
    length("value", MODEL_TAG_VALUE_MAX, value)
}

pub(crate) fn experiment_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("Invalid experiment name: ''"));
    }
    length("name", EXPERIMENT_NAME_MAX, name)
}

/// The name of a registered model.
pub(crate) fn model_name(name: &str) -> Result<(), Refusal> {
    if name.trim().is_empty() {
        return Err(Refusal::invalid("Missing value for required parameter 'name'."));
    }
    if name.contains(['/', ':']) {
        return Err(Refusal::invalid(format!("Invalid model name '{name}'. Names cannot contain '/' or ':'.")));
    }
    path_like("name", name)
}

/// The name of a logged model.
pub(crate) fn logged_model_name(name: &str) -> Result<(), Refusal> {
    if !name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Invalid model name ('{name}') provided. Model name must be a non-empty string and cannot contain the following \
         characters: ('/', ':', '.', '%', '\"', \"'\")"
    )))
}

/// An alias that may be asked for.
pub(crate) fn alias(alias: &str) -> Result<(), Refusal> {
    if alias.is_empty() {
        return Err(Refusal::invalid("Registered model alias name cannot be empty."));
    }
    if !alias.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        return Err(Refusal::invalid(format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    length("Registered model alias name", ALIAS_MAX, alias)
}

/// An alias that may be set.
pub(crate) fn new_alias(name: &str) -> Result<(), Refusal> {
    alias(name)?;
    if name.to_lowercase() == "latest" {
        return Err(Refusal::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let digits = name.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(Refusal::invalid(format!("Version alias name '{name}' is reserved.")));
    }
    Ok(())
}

/// The number of a version.
pub(crate) fn version(text: &str) -> Result<u64, Refusal> {
    let number: Result<i64, _> = text.trim().parse();
    let number =
        number.map_err(|_| Refusal::invalid(format!("Parameter 'version' must be an integer, got '{text}'.")))?;
    // No version has a number below 1, so none is found under this one.
    Ok(u64::try_from(number).unwrap_or(0))
}

/// How much one batch may hold.
pub(crate) fn batch(metrics: usize, params: usize, tags: usize) -> Result<(), Refusal> {
    let all = metrics + params + tags;
    let limits = [
        ("metrics", BATCH_MAX, metrics),
        ("params", BATCH_PAIRS_MAX, params),
        ("tags", BATCH_PAIRS_MAX, tags),
        ("metrics, params, and tags", BATCH_MAX, all),
    ];
    match limits.into_iter().find(|(_, max, count)| count > max) {
        None => Ok(()),
        Some((what, max, count)) => Err(Refusal::invalid(format!(
            "A batch logging request can contain at most {max} {what}. Got {count} {what}. Please split up {what} across \
             multiple requests and try again."
        ))),
    }
}

/// A path of an artifact, relative to where artifacts of its owner begin; empty for the place itself.
pub(crate) fn artifact_path(path: &str) -> Result<&str, Refusal> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    let drive = path.as_bytes().get(1) == Some(&b':');
    let control = path.chars().any(|c| c.is_control() || c == '\\' || c == '#');
    if !path.is_empty() && (path.split('/').any(bad) || drive || control) {
        return Err(Refusal::invalid("Invalid path"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(good: &[&str], bad: &[&str], check: impl Fn(&str) -> Result<(), Refusal>) {
        good.iter().for_each(|text| assert_eq!(check(text), Ok(()), "{text:?}"));
        bad.iter().for_each(|text| assert!(check(text).is_err(), "{text:?}"));
    }

    #[test]
    fn keys() {
        let good = ["a", "a/b", "a b:c-d_e.f", "ä", "a..b"];
        let bad = ["a*", "a//b", "../a", "/a", "a/", ".", "..", "a/../b", "", "\u{1}"];
        all(&good, &bad, |name| key("key", name));
        let refusal = key("params[0].key", "../a").expect_err("refused");
        assert!(refusal.message.ends_with("This name would resolve to '../a'"), "{refusal}");
        assert!(param("", &"k".repeat(251), "v").is_err());
        assert_eq!(param("", "k", &"v".repeat(6_001)).expect("cut").1.len(), 6_000);
    }

    #[test]
    fn names_of_models() {
        all(&["a", "a b", "ä@1", "a.b"], &["", "  ", "a/b", "a:b", ".", ".."], model_name);
        all(&["a-b", "mm"], &["a/b", "a.b", "50%"], logged_model_name);
    }

    #[test]
    fn aliases() {
        all(
            &["champion", "a-b_c", "v", "v1a", "7", "ä"],
            &["", "a b", "latest", "Latest", "v1", "V22", "a.b"],
            new_alias,
        );
        all(&["latest", "v1"], &["", "a b"], alias);
        assert!(alias(&"a".repeat(256)).is_err());
    }

    #[test]
    fn versions_and_batches() {
        assert_eq!(version("3"), Ok(3));
        assert_eq!(version("-3"), Ok(0));
        assert!(version("x").is_err() && version("").is_err() && version("1.5").is_err());
        assert_eq!(batch(800, 100, 100), Ok(()));
        assert!(batch(1_001, 0, 0).is_err() && batch(0, 101, 0).is_err() && batch(950, 51, 0).is_err());
    }

    #[test]
    fn paths_of_artifacts() {
        let check = |path: &str| artifact_path(path).map(drop);
        all(
            &["", "a", "a/b.txt", "a/", "a b/c%d"],
            &["/a", "a//b", "../a", "a/..", "c:/x", "a\\b", "a#b", "./a"],
            check,
        );
    }
}
