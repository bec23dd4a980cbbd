//! Experiments, runs and logged models: what facts say of them.

mod experiments;
mod files;
mod logged_model;
mod members;
mod metric;
mod run;

pub(crate) use experiments::{Experiment, ExperimentFact, Experiments};
pub(crate) use files::{FileFact, FileRef, Files};
pub(crate) use logged_model::{LoggedModel, LoggedModelFact, ModelStatus};
pub(crate) use members::{MemberFact, Members};
pub(crate) use metric::{Metric, number};
pub use run::RunStatus;
pub(crate) use run::{DatasetInput, Run, RunFact};
