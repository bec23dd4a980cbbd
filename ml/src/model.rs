//! A trained model: all that scoring needs, in bytes that don't depend on where it was trained.
//!
//! A model is data only: reading one runs nothing, and a damaged one is refused. Equal training gives equal
//! bytes, so equal digests.

pub mod decision;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
pub use decision::Decision;
pub(crate) use decision::is_positive;
use gristmill_protocol::limits::MODEL_BYTES_MAX;
use gristmill_protocol::pipeline::{Algorithm, Learning};
use serde::{Deserialize, Serialize};

use crate::estimators::{Estimator, Fill, Trained};
use crate::features::{FeatureError, FittedFeatures, Input};
use crate::matrix::Matrix;
use crate::target::{Classes, Goal, Target};

/// The version of the format of models that the first can't say: whose features are more than numbers and levels, and
/// margins and groups.
/// Others are written in the first, so that equal training gives equal bytes over versions of this program.
pub const FORMAT: u32 = 2;
/// The first version of the format; still read, and still written where it is enough.
pub const FORMAT_FIRST: u32 = 1;

/// Why bytes aren't a model that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the model has {bytes} bytes, more than the {MODEL_BYTES_MAX} that are read")]
    TooLarge { bytes: usize },
    #[error("the model has format {found}, and this program reads formats {FORMAT_FIRST} to {FORMAT}")]
    Format { found: u32 },
    #[error("the model is damaged: {reason}")]
    Damaged { reason: String },
}

/// How the model came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub algorithm: Algorithm,
    pub seed: u64,
    /// Rows that it learned from.
    pub rows: u64,
}

/// How much something matters to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    pub name: String,
    /// Its share; all add up to 1.
    pub share: f64,
}

/// A trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    format: u32,
    target: Target,
    features: FittedFeatures,
    estimator: Estimator,
    training: Training,
    /// For each column of the matrix.
    importances: Vec<f64>,
    /// What the caller keeps beside it, such as a profile of the training rows.
    reference: Option<serde_json::Value>,
    /// How scores become probabilities and decisions.
    #[serde(default, skip_serializing_if = "Decision::is_plain")]
    decision: Decision,
}

/// What a model says of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    Values(Vec<f64>),
    /// The number of each row's group; -1 for rows in none.
    Groups(Vec<i64>),
    /// The probability of each class, row by row.
    Classes {
        classes: Classes,
        probabilities: Vec<f64>,
        /// The probability from which on a row is of the second of two classes. Without one the more probable class
        /// is predicted.
        threshold: Option<f64>,
    },
}

impl Model {
    /// Puts a model together. For linear models the importance of a column is its coefficient times its
    /// standard deviation, without the sign, averaged over classes.
    pub fn new(
        target: Target,
        features: FittedFeatures,
        trained: Trained,
        training: Training,
        reference: Option<serde_json::Value>,
    ) -> Result<Model, ModelError> {
        let mut importances = match (&trained.estimator, trained.importances) {
            (_, Some(importances)) => importances,
            (Estimator::Linear(linear), None) => {
                let mut weights = vec![0.0; features.outputs().len()];
                for coefficients in linear.coefficients() {
                    for ((weight, w), output) in weights.iter_mut().zip(coefficients).zip(features.outputs()) {
                        *weight += w.abs() * output.std;
                    }
                }
                weights
            }
            (_, None) => vec![0.0; features.outputs().len()],
        };
        let sum: f64 = importances.iter().sum();
        if sum > 0.0 {
            importances.iter_mut().for_each(|importance| *importance /= sum);
        }
        let estimator = trained.estimator;
        let is_first = features.are_plain()
            && !matches!(estimator, Estimator::Machines(_) | Estimator::Means(_) | Estimator::Dense(_));
        let format = if is_first { FORMAT_FIRST } else { FORMAT };
        let decision = Decision::default();
        let model = Model { format, target, features, estimator, training, importances, reference, decision };
        model.check()?;
        Ok(model)
    }

    /// The model as bytes; equal models have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("numbers and names can be written")
    }

    /// Reads a model back, refusing damaged ones and those of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, ModelError> {
        /// The one field that every format has.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        if bytes.len() > MODEL_BYTES_MAX {
            return Err(ModelError::TooLarge { bytes: bytes.len() });
        }
        let damaged = |error: rmp_serde::decode::Error| ModelError::Damaged { reason: error.to_string() };
        let head: Head = rmp_serde::from_slice(bytes).map_err(damaged)?;
        if !(FORMAT_FIRST..=FORMAT).contains(&head.format) {
            return Err(ModelError::Format { found: head.format });
        }
        let model: Model = rmp_serde::from_slice(bytes).map_err(damaged)?;
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<(), ModelError> {
        let damaged = |reason: String| Err(ModelError::Damaged { reason });
        let columns = self.features.outputs().len();
        let consistent = match &self.estimator {
            Estimator::Trees(forests) => {
                !forests.is_empty() && forests.iter().all(|forest| forest.columns() == columns)
            }
            Estimator::Linear(linear) => linear.columns() == columns,
            other => other.columns() == columns,
        };
        if !consistent || columns == 0 || self.importances.len() != columns {
            return damaged(format!("its estimator doesn't read the {columns} columns of its features"));
        }
        if self.estimator.outputs() != self.target.outputs() {
            return damaged(format!(
                "its estimator gives {} scores and its target needs {}",
                self.estimator.outputs(),
                self.target.outputs()
            ));
        }
        if let Some(reason) = self.decision.misfit(&self.target) {
            return damaged(reason);
        }
        if let Goal::Classes { classes, counts } = &self.target.goal
            && (classes.count() < 2 || counts.len() != classes.count())
        {
            return damaged("its classes don't match their counts".to_owned());
        }
        Ok(())
    }

    /// The columns that it reads.
    pub fn signature(&self) -> &[Input] {
        self.features.signature()
    }

    /// The columns that it reads with what types they take, and the expressions over them, as JSON; see
    /// [`FittedFeatures::signature_json`].
    pub fn signature_json(&self) -> serde_json::Value {
        self.features.signature_json()
    }

    /// What it predicts.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Classification or regression.
    pub fn learning(&self) -> Learning {
        self.target.learning()
    }

    pub fn features(&self) -> &FittedFeatures {
        &self.features
    }

    pub fn estimator(&self) -> &Estimator {
        &self.estimator
    }

    pub fn training(&self) -> &Training {
        &self.training
    }

    /// How scores become probabilities and decisions.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The same model with other probabilities or decisions; an error when these aren't for its target.
    pub fn with_decision(mut self, decision: Decision) -> Result<Model, ModelError> {
        self.decision = decision;
        self.check()?;
        Ok(self)
    }

    /// The probability from which on a row is of the second of two classes, where one was chosen.
    pub fn threshold(&self) -> Option<f64> {
        self.decision.threshold.as_ref().map(|threshold| threshold.at)
    }

    /// The model without what the caller kept beside it: smaller, and it predicts the same.
    #[must_use]
    pub fn without_reference(self) -> Model {
        Model { reference: None, ..self }
    }

    /// What the caller keeps beside it.
    pub fn reference(&self) -> Option<&serde_json::Value> {
        self.reference.as_ref()
    }

    /// How much each input column and expression matters, the most important first; of equal ones in the pipeline's order.
    pub fn importances(&self) -> Vec<Importance> {
        let mut shares: Vec<Importance> =
            self.features.inputs().iter().map(|input| Importance { name: input.name.clone(), share: 0.0 }).collect();
        for (sources, importance) in self.features.inputs_of_outputs().iter().zip(&self.importances) {
            sources.iter().for_each(|&(input, share)| shares[input].share += importance * share);
        }
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }

    /// How much each column of the matrix (`carrier=AA`) matters, in their order.
    pub fn column_importances(&self) -> Vec<Importance> {
        let names = self.features.names().into_iter();
        names.zip(&self.importances).map(|(name, &share)| Importance { name, share }).collect()
    }

    /// Scores the rows of a batch. Columns that the model doesn't read are ignored.
    pub fn predict(&self, batch: &RecordBatch) -> Result<Predictions, FeatureError> {
        struct Rows<'a>(&'a FittedFeatures, &'a RecordBatch);
        impl Fill<FeatureError> for Rows<'_> {
            fn fill_f32(&self, matrix: &mut Matrix<f32>) -> Result<(), FeatureError> {
                self.0.transform(self.1, matrix, 0)
            }
            fn fill_f64(&self, matrix: &mut Matrix<f64>) -> Result<(), FeatureError> {
                self.0.transform(self.1, matrix, 0)
            }
        }
        let mut scores = self.estimator.score(batch.num_rows(), Rows(&self.features, batch))?;
        if let Some(calibration) = &self.decision.calibration {
            calibration.apply(&mut scores);
        }
        Ok(match &self.target.goal {
            Goal::Value { .. } => Predictions::Values(scores),
            Goal::Groups => Predictions::Groups(scores.into_iter().map(|group| group as i64).collect()),
            Goal::Classes { classes, .. } => Predictions::Classes {
                classes: classes.clone(),
                probabilities: match self.target.outputs() {
                    1 => scores.iter().flat_map(|&positive| [1.0 - positive, positive]).collect(),
                    _ => scores,
                },
                threshold: self.threshold(),
            },
        })
    }
}

impl Predictions {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Predictions::Values(values) => values.len(),
            Predictions::Groups(groups) => groups.len(),
            Predictions::Classes { classes, probabilities, .. } => probabilities.len() / classes.count(),
        }
    }

    /// The index of each row's class: the most probable, of equal ones the first, as in scikit-learn; or what the
    /// model's threshold decides.
    pub fn class_indexes(&self) -> Vec<usize> {
        match self {
            Predictions::Values(_) | Predictions::Groups(_) => Vec::new(),
            Predictions::Classes { probabilities, threshold: Some(threshold), .. } => {
                let positive = |row: &[f64]| usize::from(is_positive(row[1], Some(*threshold)));
                probabilities.chunks(2).map(positive).collect()
            }
            Predictions::Classes { classes, probabilities, .. } => probabilities
                .chunks(classes.count())
                .map(|row| (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best }))
                .collect(),
        }
    }

    /// The columns that scoring adds: `prediction`, of the target's type; and for classes their
    /// probabilities, `probability` of the positive one of two, `probability_<class>` of more.
    pub fn columns(&self) -> Vec<(String, ArrayRef)> {
        match self {
            Predictions::Values(values) => {
                vec![("prediction".to_owned(), Arc::new(Float64Array::from(values.clone())) as ArrayRef)]
            }
            Predictions::Groups(groups) => {
                vec![("prediction".to_owned(), Arc::new(Int64Array::from(groups.clone())) as ArrayRef)]
            }
            Predictions::Classes { classes, probabilities, .. } => {
                let count = classes.count();
                let mut columns = vec![("prediction".to_owned(), classes.array(self.class_indexes().into_iter()))];
                let names = classes.names();
                for class in if count == 2 { 1..2 } else { 0..count } {
                    let of_class = probabilities.iter().skip(class).step_by(count).copied();
                    let name =
                        if count == 2 { "probability".to_owned() } else { format!("probability_{}", names[class]) };
                    columns.push((name, Arc::new(Float64Array::from_iter_values(of_class))));
                }
                columns
            }
        }
    }
}
