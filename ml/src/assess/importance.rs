//! Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019): how much worse the model is when an input's
//! values are dealt to other rows. Unlike the importances that training leaves behind, these are about rows that the
//! model hasn't seen, and say nothing of inputs that it could do without.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take;
use gristmill_learn::chance::Chance;
use gristmill_protocol::pipeline::steps::ImportanceCheck;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::AssessError;
use crate::metrics::{self, Direction, Evaluator};
use crate::model::Model;

/// What each input is worth by a metric, the most first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permutation {
    pub metric: String,
    pub rows: u64,
    pub repeats: u32,
    pub inputs: Vec<Worth>,
}

/// What an input is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    pub name: String,
    /// How much worse the metric is without it, averaged over repeats; about 0, or less, for an input that doesn't
    /// matter.
    pub mean: f64,
    /// Standard deviation over the repeats.
    pub deviation: f64,
}

/// Measures every input on these rows.
pub fn measure(model: &Model, rows: &RecordBatch, settings: &ImportanceCheck) -> Result<Permutation, AssessError> {
    let classes = model.target().classes().map_or(0, |classes| classes.count());
    let metric = settings.metric.as_deref().unwrap_or_else(|| metrics::default_metric(model.learning(), classes));
    let direction = metrics::direction(model.learning(), metric).map_err(|nearest| AssessError::Metric {
        metric: metric.to_owned(),
        hint: nearest.map(|nearest| format!("did you mean `{nearest}`?")),
    })?;
    let truth = model.target().values(rows)?;
    let score = |batch: &RecordBatch| -> Result<f64, AssessError> {
        let mut evaluator = Evaluator::new(model);
        evaluator.push(&model.predict(batch)?, &truth);
        let value = evaluator.metrics().get(metric).copied().unwrap_or(f64::NAN);
        Ok(match direction {
            Direction::Larger => value,
            Direction::Smaller => -value,
            Direction::NearerToZero => -value.abs(),
        })
    };
    let whole = score(rows)?;
    if !whole.is_finite() {
        return Err(AssessError::Metric {
            metric: metric.to_owned(),
            hint: Some("it isn't defined on these rows: choose another `metric`".to_owned()),
        });
    }
    let count = settings.repeats.max(1);
    let drop_of = |(input, repeat): (usize, u32)| -> Result<f64, AssessError> {
        let place = rows.schema().index_of(&model.signature()[input].name)?;
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        Chance::stream(settings.seed, &[input as u64, repeat.into()]).shuffle(&mut order);
        let mut arrays = rows.columns().to_vec();
        arrays[place] = take(&arrays[place], &UInt32Array::from(order), None)?;
        Ok(whole - score(&RecordBatch::try_new(rows.schema(), arrays)?)?)
    };
    let inputs = model.signature().len();
    let jobs: Vec<(usize, u32)> = (0..inputs).flat_map(|input| (0..count).map(move |repeat| (input, repeat))).collect();
    let drops: Vec<f64> = jobs.into_par_iter().map(drop_of).collect::<Result<_, _>>()?;
    let worth = |(input, drops): (usize, &[f64])| {
        let mean = drops.iter().sum::<f64>() / drops.len() as f64;
        let variance = drops.iter().map(|drop| (drop - mean).powi(2)).sum::<f64>() / drops.len() as f64;
        Worth { name: model.signature()[input].name.clone(), mean, deviation: variance.sqrt() }
    };
    let mut inputs: Vec<Worth> = drops.chunks(count as usize).enumerate().map(worth).collect();
    inputs.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    Ok(Permutation { metric: metric.to_owned(), rows: rows.num_rows() as u64, repeats: count, inputs })
}
