//! What is found out about a model beside its metrics: how sure these are, where it is worse, whether it treats groups
//! alike, how easily it changes its mind, what it goes by, and what looks too good.
//!
//! ```text
//! mod.rs         one pass over the rows: predictions, slices, groups, and a sample
//! sample.rs      rows picked by chance for what looks at a few of them
//! robustness.rs  inputs made wrong
//! importance.rs  inputs dealt to other rows
//! attribution.rs what moved single predictions
//! leakage.rs     inputs that alone predict too well
//! latency.rs     one row at a time
//! warnings.rs    what a person should look at
//! ```
//!
//! Everything follows from the rows and seeds alone, but for [`latency`], which is a clock's.

pub mod attribution;
pub mod importance;
pub mod latency;
pub mod leakage;
pub mod robustness;
mod sample;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use gristmill_learn::fair::{self, Fairness};
use gristmill_protocol::pipeline::steps::{FairnessCheck, Validate, Wrong};
use serde::{Deserialize, Serialize};

use crate::features::FeatureError;
use crate::metrics::{self, Comparison, Evaluator, MetricInterval};
use crate::model::Model;
use crate::names;
use crate::sql::{Condition, SqlError};
use crate::table::{TableError, TableSchema};
use crate::target::TargetError;
use sample::Sample;

/// Groups of a column at the most: more are an identifier, and no table of them is read.
pub const GROUPS_MAX: usize = 200;
/// What rows without a value are called as a group.
const MISSING: &str = "<missing>";

/// Why a model can't be assessed.
#[derive(Debug, thiserror::Error)]
pub enum AssessError {
    #[error("the slice `{slice}` can't be made")]
    Slice {
        slice: String,
        #[source]
        source: SqlError,
    },
    #[error("{what}: {source}")]
    Column {
        what: &'static str,
        #[source]
        source: TableError,
    },
    #[error("column `{column}` has more than {GROUPS_MAX} groups")]
    Groups { column: String },
    #[error("`{found}` is no class of the target `{target}`")]
    Positive { found: String, target: String, hint: Option<String> },
    #[error("`fairness` doesn't say which of {classes} classes is a positive decision")]
    NoPositive { classes: usize },
    #[error("`fairness` is for classes, and the model tells a number")]
    Number,
    #[error("`{metric}` isn't a metric of this model")]
    Metric { metric: String, hint: Option<String> },
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("failed to work on rows")]
    Rows(#[from] ArrowError),
}

impl AssessError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            AssessError::Slice { source, .. } => source.hint(),
            AssessError::Column { source, .. } => source.hint(),
            AssessError::Groups { .. } => Some("group its values in a transform".to_owned()),
            AssessError::Positive { hint, .. } | AssessError::Metric { hint, .. } => hint.clone(),
            AssessError::NoPositive { .. } => Some("add `positive: CLASS`".to_owned()),
            AssessError::Number => Some("remove `fairness`".to_owned()),
            AssessError::Features(error) => error.hint(),
            AssessError::Target(error) => error.hint(),
            AssessError::Rows(_) => None,
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assessment {
    /// The chance that an interval holds the true value; 0 without intervals.
    pub level: f64,
    /// Of the metrics on all rows.
    pub intervals: BTreeMap<String, MetricInterval>,
    pub slices: Vec<Slice>,
    pub fairness: Vec<ByGroup>,
    pub robustness: Vec<Perturbed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permutation: Option<importance::Permutation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributions: Option<attribution::Attributions>,
    pub leaks: Vec<leakage::Leak>,
    pub comparisons: Vec<Comparison>,
    pub model_bytes: u64,
    /// Microseconds that half of single rows are scored within; measured where a gate asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_us: Option<f64>,
    /// What a person should look at, a sentence each.
    pub warnings: Vec<String>,
}

/// A part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    pub name: String,
    pub condition: String,
    pub rows: u64,
    /// Those that are defined on its rows.
    pub metrics: BTreeMap<String, f64>,
    pub intervals: BTreeMap<String, MetricInterval>,
}

/// The groups of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByGroup {
    pub column: String,
    /// The class that is a positive decision.
    pub positive: String,
    /// Rows below which a rate isn't compared.
    pub min_rows: u64,
    #[serde(flatten)]
    pub found: Fairness,
}

/// What wrong inputs do to predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perturbed {
    pub wrong: Wrong,
    /// The share of a standard deviation for noise, else the chance of a value to be wrong.
    pub amount: f64,
    pub rows: u64,
    /// The share of rows for which another class is decided; none for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<f64>,
    /// How far numbers move on average, in standard deviations of the predictions; none for classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<f64>,
}

/// Takes the rows of a dataset once, batch by batch.
pub struct Assessor<'a> {
    model: &'a Model,
    validate: &'a Validate,
    columns: Vec<String>,
    evaluator: Evaluator,
    slices: Vec<Cut>,
    groups: Vec<Groups>,
    sample: Sample,
}

/// A slice while it is cut.
struct Cut {
    name: String,
    text: String,
    condition: Condition,
    rows: Vec<u32>,
}

/// The groups of a column while they are found.
struct Groups {
    column: String,
    names: BTreeMap<String, u32>,
    of_row: Vec<u32>,
}

impl<'a> Assessor<'a> {
    /// Makes ready for a dataset of this schema with so many rows.
    pub fn new(
        model: &'a Model,
        validate: &'a Validate,
        schema: &TableSchema,
        rows: u64,
    ) -> Result<Assessor<'a>, AssessError> {
        let known = |what, name: &str| match schema.index_of(name) {
            Ok(_) => Ok(name.to_owned()),
            Err(source) => Err(AssessError::Column { what, source }),
        };
        let inputs = model.signature().iter().map(|input| known("the model reads it", &input.name));
        let inputs = inputs.chain([known("it is what the model predicts", &model.target().column)]);
        let inputs: Vec<String> = inputs.collect::<Result<_, _>>()?;
        let mut read = inputs.clone();
        let by = validate.fairness.iter().flat_map(|fairness| &fairness.by);
        for column in by {
            read.push(known("`fairness` compares its groups", column)?);
        }
        if let Some(fairness) = &validate.fairness {
            positive(model, fairness)?;
        }
        let compile = |name: &str, sql: &str, schema: &TableSchema| {
            Condition::compile(sql, schema).map_err(|source| AssessError::Slice { slice: name.to_owned(), source })
        };
        for (name, sql) in &validate.slices {
            read.extend(compile(name, sql, schema)?.columns().iter().cloned());
        }
        // Conditions know columns by their place, so they are compiled for those that are read, in that order.
        let columns: Vec<String> =
            schema.names().filter(|name| read.iter().any(|read| read == name)).map(str::to_owned).collect();
        let narrow = schema.project(&columns).map_err(|source| AssessError::Column { what: "it is read", source })?;
        let cut = |(name, sql): (&String, &String)| {
            let condition = compile(name, sql, &narrow)?;
            Ok(Cut { name: name.clone(), text: sql.trim().to_owned(), condition, rows: Vec::new() })
        };
        let groups = |column: &String| Groups { column: column.clone(), names: BTreeMap::new(), of_row: Vec::new() };
        Ok(Assessor {
            model,
            validate,
            columns,
            evaluator: Evaluator::new(model),
            slices: validate.slices.iter().map(cut).collect::<Result<_, AssessError>>()?,
            groups: validate.fairness.iter().flat_map(|fairness| &fairness.by).map(groups).collect(),
            sample: Sample::new(inputs, rows, sample_rows(model, validate)),
        })
    }

    /// The columns to read, in the order in which batches must have them.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Takes the next rows.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), AssessError> {
        let first = self.evaluator.rows();
        let truth = self.model.target().values(batch)?;
        self.evaluator.push(&self.model.predict(batch)?, &truth);
        for slice in &mut self.slices {
            let holds = slice.condition.evaluate(batch);
            let holds = holds.map_err(|source| AssessError::Slice { slice: slice.name.clone(), source })?;
            // Rows of which the condition isn't known are outside, as in `where`.
            let inside = holds.iter().zip(first..).filter(|(holds, _)| *holds == Some(true));
            slice.rows.extend(inside.map(|(_, row)| row as u32));
        }
        for groups in &mut self.groups {
            groups.push(batch)?;
        }
        self.sample.push(batch, first as u64)
    }

    /// The predictions and the truth of all rows so far.
    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    /// All that doesn't compare with another model. `threads` is how many may work; `bytes` is the model's size.
    pub fn finish(&self, threads: usize, bytes: u64) -> Result<Assessment, AssessError> {
        let work = || self.assess(bytes);
        match rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build() {
            Ok(pool) => pool.install(work),
            // The system gives no threads: those that there are do.
            Err(_) => work(),
        }
    }

    fn assess(&self, model_bytes: u64) -> Result<Assessment, AssessError> {
        let settings = &self.validate.intervals;
        let slice = |cut: &Cut| {
            let rows = self.evaluator.select(&cut.rows);
            Slice {
                name: cut.name.clone(),
                condition: cut.text.clone(),
                rows: cut.rows.len() as u64,
                metrics: rows.metrics(),
                intervals: metrics::intervals(&rows, settings),
            }
        };
        let sample = self.sample.rows()?;
        let mut found = Assessment {
            level: if settings.draws > 0 { settings.level } else { 0.0 },
            intervals: metrics::intervals(&self.evaluator, settings),
            slices: self.slices.iter().map(slice).collect(),
            model_bytes,
            ..Assessment::default()
        };
        if let (Some(fairness), Some((truth, decided))) = (&self.validate.fairness, self.evaluator.decisions()) {
            let (class, name) = positive(self.model, fairness)?;
            let decided: Vec<bool> = decided.iter().map(|decided| *decided == class).collect();
            let truth: Vec<bool> = truth.iter().map(|truth| usize::from(*truth) == class).collect();
            for groups in &self.groups {
                let counts = fair::count(&groups.of_row, &decided, &truth, groups.names.len());
                let named = groups.names.iter().map(|(name, at)| (name.clone(), counts[*at as usize])).collect();
                found.fairness.push(ByGroup {
                    column: groups.column.clone(),
                    positive: name.clone(),
                    min_rows: fairness.min_rows,
                    found: fair::fairness(named, fairness.min_rows),
                });
            }
        }
        if sample.num_rows() > 0 {
            if let Some(settings) = &self.validate.robustness {
                found.robustness = robustness::measure(self.model, &sample, settings)?;
            }
            if let Some(settings) = &self.validate.importance {
                found.permutation = Some(importance::measure(self.model, &sample, settings)?);
            }
            if let Some(settings) = &self.validate.attributions {
                found.attributions = attribution::explain(self.model, &sample, settings.rows as usize)?;
            }
            found.leaks = leakage::find(self.model, &sample)?;
        }
        found.warnings = warnings::of(&self.evaluator.metrics(), &found, self.model.learning());
        Ok(found)
    }

    /// Microseconds that half of single rows are scored within; none without rows.
    pub fn row_us(&self) -> Result<Option<f64>, AssessError> {
        latency::row_us(self.model, &self.sample.rows()?)
    }
}

impl Groups {
    fn push(&mut self, batch: &RecordBatch) -> Result<(), AssessError> {
        let missing = || FeatureError::Missing { column: self.column.clone(), nearest: None };
        let column = batch.column_by_name(&self.column).ok_or_else(missing)?;
        let options = FormatOptions::default();
        let format = ArrayFormatter::try_new(column, &options)?;
        for row in 0..column.len() {
            let name = if column.is_null(row) { MISSING.to_owned() } else { format.value(row).to_string() };
            let next = self.names.len() as u32;
            let group = *self.names.entry(name).or_insert(next);
            if self.names.len() > GROUPS_MAX {
                return Err(AssessError::Groups { column: self.column.clone() });
            }
            self.of_row.push(group);
        }
        Ok(())
    }
}

/// The class that is a positive decision: its place and its name.
fn positive(model: &Model, fairness: &FairnessCheck) -> Result<(usize, String), AssessError> {
    let classes = model.target().classes().ok_or(AssessError::Number)?.names();
    match &fairness.positive {
        Some(value) => {
            let name = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let at = classes.iter().position(|class| *class == name).ok_or_else(|| AssessError::Positive {
                hint: names::hint(&name, classes.iter().map(String::as_str)),
                target: model.target().column.clone(),
                found: name.clone(),
            })?;
            Ok((at, name))
        }
        None if classes.len() == 2 => Ok((1, classes[1].clone())),
        None => Err(AssessError::NoPositive { classes: classes.len() }),
    }
}

/// Rows of the sample: fewer where many inputs are dealt out anew many times, so that the time stays bounded.
fn sample_rows(model: &Model, validate: &Validate) -> u64 {
    let passes = validate.importance.as_ref().map_or(1, |importance| importance.repeats as u64);
    let passes = passes * model.signature().len().max(1) as u64;
    (sample::SCORED_MAX / passes).clamp(sample::ROWS_MIN, sample::ROWS_MAX)
}
