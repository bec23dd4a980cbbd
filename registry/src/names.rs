//! What models, aliases and tags may be called.

use crate::error::RegistryError;

/// Bytes of a model's name. Escaped for a mark a byte takes three, and a part of a mark has up to 255.
pub const MODEL_NAME_BYTES_MAX: usize = 80;
/// Bytes of an alias or of a tag's name: what clients of other registries allow.
pub const LABEL_BYTES_MAX: usize = 250;
/// Bytes of a tag's value or of a description: a page of text. What is longer is an artifact.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Artifacts and datasets that one request names: they all stand in one entry of the log.
pub const DIGESTS_MAX: usize = 1_000;

/// Refuses what can't be a model's name: references are `name@which`, paths are split at `/`.
pub(crate) fn check_model(name: &str) -> Result<(), RegistryError> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MODEL_NAME_BYTES_MAX {
        format!("it has {} bytes; up to {MODEL_NAME_BYTES_MAX} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| c.is_control() || "@/:".contains(*c)) {
        format!("it can't have {bad:?} in it")
    } else {
        return Ok(());
    };
    Err(RegistryError::BadName { what: "model's name", text: shorten(name), why })
}

/// Refuses what can't be an alias: what is a number names a version.
pub(crate) fn check_alias(alias: &str) -> Result<(), RegistryError> {
    check_label("alias", alias)?;
    if alias.parse::<u64>().is_err() {
        return Ok(());
    }
    let why = "a number names a version".to_owned();
    Err(RegistryError::BadName { what: "alias", text: alias.to_owned(), why })
}

/// Refuses what can't be a tag's name.
pub(crate) fn check_label(what: &'static str, text: &str) -> Result<(), RegistryError> {
    let why = if text.is_empty() {
        "it is empty".to_owned()
    } else if text.len() > LABEL_BYTES_MAX {
        format!("it has {} bytes; up to {LABEL_BYTES_MAX} are allowed", text.len())
    } else if text.chars().any(char::is_control) {
        "it can't have control characters in it".to_owned()
    } else {
        return Ok(());
    };
    Err(RegistryError::BadName { what, text: shorten(text), why })
}

/// Refuses a text that is too long to stand in a log.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), RegistryError> {
    if text.len() <= TEXT_BYTES_MAX { Ok(()) } else { Err(RegistryError::TooLong { what, max: TEXT_BYTES_MAX }) }
}

/// Refuses more digests than an entry may hold.
pub(crate) fn check_count(what: &'static str, count: usize) -> Result<(), RegistryError> {
    if count <= DIGESTS_MAX { Ok(()) } else { Err(RegistryError::TooLong { what, max: DIGESTS_MAX }) }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
