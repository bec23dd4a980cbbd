//! Jobs submitted through a queue: what any AMQP client may send, and what it is answered.
//!
//! A submission is JSON or MessagePack, by the message's content type:
//!
//! ```json
//! { "pipeline": "name: nightly\nsteps:\n  a: { noop: {} }\n", "params": { "trees": 200 }, "key": "nightly-2026-11-22" }
//! ```
//!
//! Instead of `pipeline` it may have `name`, and `version`, of a pipeline that is kept.
//!
//! The answer is JSON: `{"run": "run-…"}`, or `{"error": "…", "complaints": […]}` with everything that is wrong.
//!
//! A message may also carry a list of submissions, under `application/vnd.gristmill.submissions+msgpack; v=1` (or
//! `+json`); its answer is the list of their answers, in the same order. For those who send thousands of small ones, a
//! message's own cost is most of the work.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ErrorCode;
use crate::id::RunId;
use crate::limits::SUBMISSIONS_MAX;
use crate::payload::UploadedFile;
use crate::pipeline::Complaints;
use crate::pipeline::complaint::Complaint;

/// The queue that schedulers take submissions from.
pub const QUEUE: &str = "gm.submissions";
/// The highest version of submissions that this program reads.
pub const VERSION: u32 = 1;
/// Content types of submissions, without their version.
const JSON: [&str; 2] = ["application/json", "application/vnd.gristmill.submission+json"];
const MSGPACK: [&str; 2] = ["application/msgpack", "application/vnd.gristmill.submission+msgpack"];
/// Content types of lists of submissions, without their version.
const JSON_LIST: &str = "application/vnd.gristmill.submissions+json";
const MSGPACK_LIST: &str = "application/vnd.gristmill.submissions+msgpack";

/// The fields of a submission.
const FIELDS: [&str; 10] =
    ["pipeline", "name", "version", "params", "key", "namespace", "priority", "no_cache", "files", "outputs"];

/// A job to run. Unknown fields are ignored, as in all messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SubmissionMessage {
    /// The pipeline file's text. Its paths are those of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// In its place, the name of a kept pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version of it. Default: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Values of the pipeline's parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Submitting again under the same key within 7 days answers the same run. Default: the message's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Keys and limits are counted within it. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Added to the priority of every step; -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i8>,
    /// Do all work anew, whatever was done before.
    #[serde(default)]
    pub no_cache: bool,
    /// By ingest step, source files that were put among the artifacts before, in place of those that it names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Vec<UploadedFile>>,
    /// Where steps write files.
    #[serde(default)]
    pub outputs: Outputs,
}

/// Where the files go that steps write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// To the workers' disk, where the pipeline says.
    #[default]
    Files,
    /// Among the artifacts, to be fetched from there.
    Artifacts,
}

/// What a submission is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SubmissionAnswer {
    Accepted {
        run: RunId,
    },
    Refused {
        error: String,
        code: ErrorCode,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        complaints: Vec<Complaint>,
    },
}

/// Why a message can't be read as a submission.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    #[error("the content type `{found}` isn't known; send `application/json` or `application/msgpack`")]
    ContentType { found: String },
    #[error("the submission has version {found}; this program reads versions up to {VERSION}")]
    Version { found: String },
    #[error("the submission isn't valid JSON")]
    Json(#[source] serde_json::Error),
    #[error("the submission isn't valid MessagePack")]
    MsgPack(#[source] Box<rmp_serde::decode::Error>),
    #[error("the message carries {found} submissions; it may carry 1 to {SUBMISSIONS_MAX}")]
    Count { found: usize },
}

impl SubmissionMessage {
    /// Reads the body of a message with one submission.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<SubmissionMessage, SubmissionError> {
        let kind = kind_of(content_type)?;
        if JSON.contains(&kind.as_str()) {
            serde_json::from_slice(body).map_err(SubmissionError::Json)
        } else if MSGPACK.contains(&kind.as_str()) {
            rmp_serde::from_slice(body).map_err(|error| SubmissionError::MsgPack(Box::new(error)))
        } else {
            Err(SubmissionError::ContentType { found: content_type.to_owned() })
        }
    }

    /// Reads a submission that a person wrote as a part of something: unknown fields are errors. For
    /// `#[serde(deserialize_with)]`.
    pub fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SubmissionMessage, D::Error> {
        let fields = Map::<String, Value>::deserialize(deserializer)?;
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(D::Error::unknown_field(unknown, &FIELDS));
        }
        serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)
    }

    /// Reads the body of a message with one submission or a list of them.
    ///
    /// Whoever takes a list gives a submission without a key the message's id and its place, `<id>/<place>`: the same
    /// message then makes the same runs.
    ///
    /// # Errors
    /// When the content type isn't known, the body can't be read, or the list is empty or longer than
    /// [`SUBMISSIONS_MAX`].
    pub fn decode_many(content_type: &str, body: &[u8]) -> Result<Vec<SubmissionMessage>, SubmissionError> {
        let submissions: Vec<SubmissionMessage> = match kind_of(content_type)?.as_str() {
            JSON_LIST => serde_json::from_slice(body).map_err(SubmissionError::Json)?,
            MSGPACK_LIST => rmp_serde::from_slice(body).map_err(|error| SubmissionError::MsgPack(Box::new(error)))?,
            _ => return SubmissionMessage::decode(content_type, body).map(|submission| vec![submission]),
        };
        match submissions.len() {
            1..=SUBMISSIONS_MAX => Ok(submissions),
            found => Err(SubmissionError::Count { found }),
        }
    }

    /// Whether a message of this type carries a list, whose answer is a list too.
    pub fn is_list(content_type: &str) -> bool {
        kind_of(content_type).is_ok_and(|kind| kind == JSON_LIST || kind == MSGPACK_LIST)
    }

    /// Its parameters as the pipeline's check takes them: texts as they are, all else as JSON.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.params.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }
}

/// The content type without its version, which must be one that this program reads.
fn kind_of(content_type: &str) -> Result<String, SubmissionError> {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    match parts.find_map(|part| part.strip_prefix("v=")) {
        Some(version) if version.parse::<u32>().map_or(true, |version| version == 0 || version > VERSION) => {
            Err(SubmissionError::Version { found: version.to_owned() })
        }
        _ => Ok(kind),
    }
}

impl SubmissionAnswer {
    /// The answer to a pipeline with something wrong: all of it.
    pub fn complaints(complaints: Complaints) -> SubmissionAnswer {
        let error = match complaints.complaints.len() + complaints.omitted {
            1 => "the pipeline has a mistake".to_owned(),
            count => format!("the pipeline has {count} mistakes"),
        };
        SubmissionAnswer::Refused { error, code: ErrorCode::BadPipeline, complaints: complaints.complaints }
    }

    /// The answer's body, which is JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer is plain data")
    }

    /// The body of the answer to a list of submissions.
    pub fn list_to_json(answers: &[SubmissionAnswer]) -> Vec<u8> {
        serde_json::to_vec(answers).expect("answers are plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline;

    #[test]
    fn json_and_messagepack_say_the_same() {
        let json = br#"{ "pipeline": "name: x", "params": { "trees": 200, "source": "a b" }, "later": 1 }"#;
        let message = SubmissionMessage::decode("application/json", json).expect("valid");
        assert_eq!(
            message.parameters(),
            [("trees".to_owned(), "200".to_owned()), ("source".to_owned(), "a b".to_owned())]
        );
        let bytes = rmp_serde::to_vec_named(&message).expect("plain data");
        let read = SubmissionMessage::decode("application/vnd.gristmill.submission+msgpack; v=1", &bytes);
        assert_eq!(read.expect("valid"), message);
    }

    #[test]
    fn what_a_person_writes_has_no_unknown_fields() {
        let full = SubmissionMessage {
            pipeline: Some("name: x".to_owned()),
            name: Some("x".to_owned()),
            version: Some(1),
            params: Map::from_iter([("trees".to_owned(), Value::from(3))]),
            key: Some("k".to_owned()),
            namespace: Some("n".to_owned()),
            priority: Some(1),
            no_cache: true,
            files: BTreeMap::from([("a".to_owned(), Vec::new())]),
            outputs: Outputs::Artifacts,
        };
        let json = serde_json::to_value(&full).expect("plain data");
        let names: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, FIELDS, "each field can be written");
        assert_eq!(SubmissionMessage::strict(&json).expect("it is known"), full);
        let error = SubmissionMessage::strict(&serde_json::json!({ "nmae": "x" })).expect_err("unknown");
        assert!(error.to_string().contains("unknown field `nmae`"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let cases = [
            ("text/plain", "{}", "isn't known"),
            ("application/vnd.gristmill.submission+json; v=2", "{}", "has version 2"),
            ("application/json", "{", "isn't valid JSON"),
            ("application/msgpack", "{", "isn't valid MessagePack"),
        ];
        for (content_type, body, expected) in cases {
            let error = SubmissionMessage::decode(content_type, body.as_bytes()).expect_err(content_type);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_message_may_carry_a_list() {
        let submission =
            |name: &str| SubmissionMessage { pipeline: Some(format!("name: {name}")), ..Default::default() };
        let list = vec![submission("a"), submission("b")];
        let packed = rmp_serde::to_vec_named(&list).expect("plain data");
        let packed_type = "application/vnd.gristmill.submissions+msgpack; v=1";
        assert_eq!(SubmissionMessage::decode_many(packed_type, &packed).expect("valid"), list);
        let json = serde_json::to_vec(&list).expect("plain data");
        let json_type = "application/vnd.gristmill.submissions+json";
        assert_eq!(SubmissionMessage::decode_many(json_type, &json).expect("valid"), list);
        assert!(SubmissionMessage::is_list(packed_type) && SubmissionMessage::is_list(json_type));

        let one = serde_json::to_vec(&list[0]).expect("plain data");
        assert_eq!(SubmissionMessage::decode_many("application/json", &one).expect("valid"), list[..1]);
        assert!(!SubmissionMessage::is_list("application/json"));

        let many = serde_json::to_vec(&vec![submission("a"); SUBMISSIONS_MAX + 1]).expect("plain data");
        for (content_type, body, expected) in [
            (json_type, b"[]".as_slice(), "carries 0 submissions"),
            (json_type, many.as_slice(), "carries 1001 submissions"),
            (json_type, one.as_slice(), "isn't valid JSON"),
            (packed_type, b"{".as_slice(), "isn't valid MessagePack"),
            ("application/vnd.gristmill.submissions+msgpack; v=2", packed.as_slice(), "has version 2"),
        ] {
            let error = SubmissionMessage::decode_many(content_type, body).expect_err(content_type);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_wrong_pipeline_is_answered_with_all_complaints() {
        let complaints = pipeline::check("job", "name: x\nsteps:\n  a: { nop: {} }\n  b: { split: {} }\n", &[]);
        let answer = SubmissionAnswer::complaints(complaints.expect_err("it is wrong"));
        let json: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
        assert_eq!(json["code"], "bad_pipeline");
        assert!(json["complaints"].as_array().is_some_and(|complaints| complaints.len() >= 2), "{json}");
    }
}
