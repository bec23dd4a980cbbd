//! Inputs that alone predict too well: most often something that is known only after what it predicts.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use gristmill_learn::explain::{
    LEAK_AUC, LEAK_SHARE, correlation_ratio, mutual_information, quantile_bins, single_auc,
};
use serde::{Deserialize, Serialize};

use super::AssessError;
use crate::columns::{self, Keys};
use crate::model::Model;

/// Groups that numbers are cut into where a measure needs groups.
const BINS: u32 = 50;
/// Rows below which an input may well tell the target by chance.
const ROWS_MIN: usize = 50;

/// A suspicious input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    pub name: String,
    pub measure: Measure,
    /// From 0 for nothing (0.5 for an area) to 1 for everything.
    pub value: f64,
}

/// How well an input alone tells the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The area under the ROC curve of the input as a score.
    Auc,
    /// The share of the target's variance between the input's groups.
    Variance,
    /// The information that the input shares with the classes.
    Information,
}

/// The inputs that alone predict suspiciously well, the worst first.
pub fn find(model: &Model, rows: &RecordBatch) -> Result<Vec<Leak>, AssessError> {
    if rows.num_rows() < ROWS_MIN {
        return Ok(Vec::new());
    }
    let truth = model.target().values(rows)?;
    let classes = model.target().classes().map_or(0, |classes| classes.count());
    let mut leaks = Vec::new();
    for (input, is_number) in model.signature().iter().zip(model.features().takes_numbers()) {
        let Some(column) = rows.column_by_name(&input.name) else { continue };
        let numbers = || -> Result<Vec<f64>, AssessError> {
            Ok(columns::numbers(column)?.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
        };
        let groups = match is_number {
            true => quantile_bins(&numbers()?, BINS),
            false => match columns::keys(column)? {
                Some(keys) => groups(&keys),
                None => continue,
            },
        };
        let (measure, value, suspicious) = match classes {
            0 => (Measure::Variance, correlation_ratio(&groups, &truth), LEAK_SHARE),
            2 if is_number => {
                let positive: Vec<bool> = truth.iter().map(|&class| class == 1.0).collect();
                (Measure::Auc, single_auc(&numbers()?, &positive), LEAK_AUC)
            }
            2 => (Measure::Variance, correlation_ratio(&groups, &truth), LEAK_SHARE),
            _ => {
                let truth: Vec<u32> = truth.iter().map(|&class| class as u32).collect();
                (Measure::Information, mutual_information(&groups, &truth), LEAK_SHARE)
            }
        };
        if let Some(value) = value.filter(|value| *value >= suspicious) {
            leaks.push(Leak { name: input.name.clone(), measure, value });
        }
    }
    leaks.sort_by(|a, b| b.value.total_cmp(&a.value));
    Ok(leaks)
}

/// A number for each level; a missing value is a level.
fn groups(keys: &Keys) -> Vec<u32> {
    fn number<K: Ord>(keys: impl Iterator<Item = Option<K>>) -> Vec<u32> {
        let mut known: BTreeMap<Option<K>, u32> = BTreeMap::new();
        keys.map(|key| {
            let next = known.len() as u32;
            *known.entry(key).or_insert(next)
        })
        .collect()
    }
    match keys {
        Keys::Integer(keys) => number(keys.iter()),
        Keys::Text(keys) => number((0..keys.len()).map(|row| keys.is_valid(row).then(|| keys.value(row)))),
    }
}
