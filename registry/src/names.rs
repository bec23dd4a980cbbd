//! What models, aliases and tags may be called.

use gristmill_protocol::limits::{
    MODEL_DIGESTS_MAX, MODEL_LABEL_BYTES_MAX, MODEL_NAME_BYTES_MAX, MODEL_TEXT_BYTES_MAX,
};

use crate::error::RegistryError;
use crate::fact::External;

/// Refuses what can't be a model's name: references are `name@which`, paths are split at `/`.
pub(crate) fn check_model(name: &str) -> Result<(), RegistryError> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MODEL_NAME_BYTES_MAX {
        format!("it has {} bytes; up to {MODEL_NAME_BYTES_MAX} are allowed", name.len())
    } else if matches!(name, "." | "..") {
        "it would be a folder's name for itself or the one above".to_owned()
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
    } else if text.len() > MODEL_LABEL_BYTES_MAX {
        format!("it has {} bytes; up to {MODEL_LABEL_BYTES_MAX} are allowed", text.len())
    } else if text.chars().any(char::is_control) {
        "it can't have control characters in it".to_owned()
    } else {
        return Ok(());
    };
    Err(RegistryError::BadName { what, text: shorten(text), why })
}

/// Refuses a text that is too long to stand in a log.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), RegistryError> {
    if text.len() <= MODEL_TEXT_BYTES_MAX {
        Ok(())
    } else {
        Err(RegistryError::TooLong { what, max: MODEL_TEXT_BYTES_MAX })
    }
}

/// Refuses more digests than an entry may hold.
pub(crate) fn check_count(what: &'static str, count: usize) -> Result<(), RegistryError> {
    if count <= MODEL_DIGESTS_MAX { Ok(()) } else { Err(RegistryError::TooLong { what, max: MODEL_DIGESTS_MAX }) }
}

/// Refuses what is too long among what is said of a version from outside.
pub(crate) fn check_external(external: &External) -> Result<(), RegistryError> {
    let External { source, run, run_link, logged_model } = external;
    for (what, text) in [("the run", run), ("the link to the run", run_link), ("the logged model", logged_model)] {
        check_text(what, text.as_deref().unwrap_or_default())?;
    }
    check_text("the source", source)
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
