//! Groups of rows, found without a target.

use gristmill_learn::cluster::{Dbscan, DbscanSettings, KMeans, KMeansSettings};
use gristmill_learn::refusal::Refusal;
use gristmill_protocol::pipeline::steps;

use super::training_set::TrainingSet;
use super::{Control, TrainError, Unit};

/// The number of rows that are in no group, as in scikit-learn.
pub const NO_GROUP: f64 = -1.0;

/// Groups around their means.
pub(super) fn k_means(
    set: &TrainingSet,
    settings: &steps::KMeans,
    seed: u64,
    control: &Control<'_>,
) -> Result<Unit, TrainError> {
    let (rows, _) = set.numbers();
    let settings = KMeansSettings { groups: settings.clusters, starts: settings.starts, ..KMeansSettings::default() };
    let grouped = on_threads("k_means", control, || KMeans::fit(&settings, rows, seed))?;
    Ok(Unit::Means(grouped.model))
}

/// Groups where rows lie densely.
pub(super) fn dbscan(set: &TrainingSet, settings: &steps::Dbscan, control: &Control<'_>) -> Result<Unit, TrainError> {
    let (rows, _) = set.numbers();
    let settings = DbscanSettings { radius: settings.eps, neighbors_min: settings.min_samples };
    let dense = on_threads("dbscan", control, || Dbscan::fit(&settings, rows))?;
    if dense.model.cores() == 0 {
        let message =
            "no row has enough neighbours: all would lie alone; raise `eps` or lower `min_samples`".to_owned();
        return Err(TrainError::Fit { algorithm: "dbscan", message });
    }
    Ok(Unit::Dense(dense.model))
}

fn on_threads<T: Send>(
    algorithm: &'static str,
    control: &Control<'_>,
    fit: impl FnOnce() -> Result<T, Refusal> + Send,
) -> Result<T, TrainError> {
    let fail = |message: String| TrainError::Fit { algorithm, message };
    let threads = rayon::ThreadPoolBuilder::new().num_threads(control.threads.max(1)).build();
    let threads = threads.map_err(|error| fail(error.to_string()))?;
    threads.install(fit).map_err(|error| fail(error.to_string()))
}
