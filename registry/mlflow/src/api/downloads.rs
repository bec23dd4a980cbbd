//! Versions as folders that can be downloaded. A version from outside is its files; one of ours is its bytes, and an
//! `MLmodel` that says what they are. It claims no flavour that could load them: nobody is made to run what they can't.

use bytes::Bytes;
use gristmill_protocol::Digest;
use gristmill_registry::VersionView;
use serde_json::json;

use crate::Mlflow;
use crate::manifest::{Manifest, is_manifest};
use crate::pipelines::wire_id;
use crate::refusal::Refusal;
use crate::tracking::{FileRef, Files};

/// What paths of versions begin with.
pub(super) const ROOT: &str = "registered-models";
/// What the bytes of a model of ours are called.
const BYTES: &str = "model.gristmill";

/// The address of a version's folder.
pub(super) fn folder(name: &str, version: u64) -> String {
    format!("mlflow-artifacts:/{ROOT}/{}/{version}", escape(name))
}

/// A name as one part of a path: all but letters, digits, `-`, `_` and `.` as `~` and two hexadecimal digits a byte.
fn escape(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(char::from(byte)),
            _ => text += &format!("~{byte:02x}"),
        }
    }
    text
}

pub(super) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        if *first == b'~' {
            let hex = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

/// What an `MLmodel` says of a model of ours. Texts are written as JSON, which is YAML too.
fn ml_model(name: &str, version: &VersionView, size: u64) -> Bytes {
    let new = &version.new;
    let text = |text: &str| json!(text).to_string();
    let (name, algorithm, digest) = (text(name), text(&new.algorithm), text(&new.model.to_string()));
    let lines = [
        "artifact_path: model".to_owned(),
        "flavors:".to_owned(),
        "  gristmill:".to_owned(),
        format!("    model_file: {}", text(BYTES)),
        format!("    digest: {digest}"),
        format!("    size_bytes: {size}"),
        format!("    algorithm: {algorithm}"),
        "metadata:".to_owned(),
        format!("  registered_model: {name}"),
        format!("  version: {}", version.version),
        format!("run_id: {}", text(&wire_id(new.run))),
        String::new(),
    ];
    lines.join("\n").into()
}

impl Mlflow {
    /// The files of a version's folder. Refuses a version that isn't trusted.
    pub(super) async fn files_of_version(&self, name: &str, version: u64) -> Result<Files, Refusal> {
        let (_, found) = self.registry.version(&format!("{name}@{version}")).await?;
        if is_manifest(&found) {
            return Ok(Manifest::read(&self.artifacts.get(found.new.model).await?)?.tree());
        }
        let missing = || Refusal::missing(format!("the bytes of version {version} of `{name}` aren't there any more"));
        let size = self.artifacts.size(found.new.model).await?.ok_or_else(missing)?;
        let about = ml_model(name, &found, size);
        let digest = Digest::of(&about);
        if self.artifacts.size(digest).await?.is_none() {
            self.artifacts.put(about.clone()).await?;
        }
        let about = FileRef { digest, size: about.len() as u64 };
        let model = FileRef { digest: found.new.model, size };
        Ok(Files([("MLmodel".to_owned(), about), (BYTES.to_owned(), model)].into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_come_back(name in "\\PC{1,30}") {
            let escaped = escape(&name);
            prop_assert!(!escaped.contains(['/', '%', '#', '?', ' ']), "{escaped}");
            prop_assert_eq!(unescape(&escaped), Some(name));
        }
    }
}
