//! What can be searched of a run.

use super::experiments::is_seen;
use crate::search::{Dialect, Found, Key, Searched, Subject};
use crate::tracking::Run;

/// The tag that says what a dataset was used for.
const CONTEXT: &str = "mlflow.data.context";

pub(super) const DIALECT: Dialect = Dialect {
    text_attributes: &["run_id", "run_name", "user_id", "status", "artifact_uri"],
    number_attributes: &["start_time", "end_time"],
    lists: &["run_id"],
    runs: true,
    nulls: true,
    quoted_numbers: false,
};

impl Searched for Run {
    fn found(&self, subject: &Subject) -> Found<'_> {
        match subject {
            Subject::Attribute(key) => match key.as_str() {
                "run_id" => self.id.as_str().into(),
                "run_name" => self.name.as_str().into(),
                "user_id" => self.user.as_str().into(),
                "status" => self.status.name().into(),
                "artifact_uri" => self.artifact_uri.as_str().into(),
                "start_time" => Found::Number(self.start_time as f64),
                _ => self.end_time.map_or(Found::Nothing, |time| Found::Number(time as f64)),
            },
            Subject::Metric(key) => self.metrics.get(key).map_or(Found::Nothing, |metric| Found::Number(metric.value)),
            Subject::Param(key) => self.params.get(key).into(),
            Subject::Tag(key) => self.tags.get(key).into(),
            Subject::Dataset(key) => Found::Any(match key.as_str() {
                "name" => self.datasets.iter().map(|input| input.name.as_str()).collect(),
                "digest" => self.datasets.iter().map(|input| input.digest.as_str()).collect(),
                _ => {
                    let tags = self.datasets.iter().flat_map(|input| &input.tags);
                    tags.filter(|(key, _)| key == CONTEXT).map(|(_, value)| value.as_str()).collect()
                }
            }),
        }
    }
}

/// What something found is sorted by.
pub(super) fn key_of(found: Found<'_>) -> Key {
    match found {
        Found::Number(number) => Key::Number(number),
        Found::Text(text) => Key::Text(text.into_owned()),
        Found::Nothing | Found::Any(_) => Key::Nothing,
    }
}

/// Whether a run is asked for, when its experiment is deleted or isn't.
pub(super) fn is_run_seen(view_type: &str, run: &Run, experiment_deleted: bool) -> bool {
    is_seen(view_type, run.deleted || experiment_deleted)
}
