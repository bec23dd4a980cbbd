//! Training: smartcore or the learning crate fits, what was fitted becomes a compact [`Estimator`] for scoring.
//!
//! Training is cut into units that don't depend on each other: [`TREES_PER_UNIT`] trees of a forest (of one
//! class, when there are more than two), or the whole of any other algorithm. [`train_units`] runs a range
//! of them on some threads; [`join`] puts the parts together. Each tree has its own seed, made from the
//! model's seed, the class and the tree's number, so the result doesn't depend on how units were spread over
//! tasks, machines or threads.
//!
//! Two classes are learned by *regression* on 0 and 1: the variance of such labels is half the Gini index,
//! so the trees are those of a classification, and the mean in a leaf is the probability. For more classes
//! there is one such forest a class, and the probabilities are normalised.

mod boosting;
pub mod control;
mod gram;
pub mod groups;
mod instances;
mod linear;
mod margin;
mod mirror;
mod training_set;
mod trees;

#[cfg(test)]
mod tests;

use std::ops::Range;

use gristmill_learn::bayes::Gaussian;
use gristmill_learn::boost::Boosted;
use gristmill_learn::cluster::{Dbscan, KMeans};
use gristmill_learn::neighbors::Neighbors;
use gristmill_protocol::pipeline::{Algorithm, Learning};
use serde::{Deserialize, Serialize};

pub use control::Control;
pub use linear::{Linear, Link};
pub use margin::Machine;
pub use training_set::{Memory, TrainingSet, TrainingSetBuilder};

use crate::compiled::Forest;
use crate::features::FeatureError;
use crate::matrix::{Layout, Matrix, TooLarge};
use crate::target::{Target, TargetError, learning_name};
use crate::weights::WeightError;

/// Trees of a unit: enough that a part is worth sending, few enough that parts can be spread.
pub const TREES_PER_UNIT: u32 = 10;
/// Trees of a forest at the most: past a few hundred nothing gets better, and models grow.
pub const TREES_MAX: u32 = 10_000;

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("`{algorithm}` learns {}, and the target `{target}` asks for {}", learning_name(*.learns), learning_name(*.asked))]
    Goal { algorithm: &'static str, learns: Learning, asked: Learning, target: String },
    #[error("`{name}` of `{algorithm}` is {value}, and must be {wanted}")]
    Setting { algorithm: &'static str, name: &'static str, value: String, wanted: &'static str },
    #[error("there are {rows} rows to learn {columns} columns from; `{algorithm}` needs more rows than columns")]
    FewRows { algorithm: &'static str, rows: usize, columns: usize },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error("`{algorithm}` can't learn from weighted rows")]
    Unweighted { algorithm: &'static str },
    #[error("the training rows changed between two readings: {expected} were counted, {found} came")]
    RowsChanged { expected: usize, found: usize },
    #[error("`{algorithm}` found no finite solution")]
    Diverged { algorithm: &'static str },
    #[error("failed to fit `{algorithm}`: {message}")]
    Fit { algorithm: &'static str, message: String },
    #[error("fitting `{algorithm}` panicked: {message}")]
    Panicked { algorithm: &'static str, message: String },
    #[error("training was stopped")]
    Stopped,
    #[error("failed to join the trained parts: {reason}")]
    Join { reason: String },
    #[error("failed to read a trained part: {reason}")]
    Part { reason: String },
}

impl TrainError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TrainError::Goal { learns: Learning::Regression, .. } => Some(
                "use `logistic_regression`, `random_forest` or `gradient_boosting`, or set `task: regression`"
                    .to_owned(),
            ),
            TrainError::Goal { learns: Learning::Classification, .. } => {
                Some("use `ridge`, `random_forest` or `gradient_boosting`, or set `task: classification`".to_owned())
            }
            TrainError::Goal { learns: Learning::Clustering, .. } => {
                Some("`k_means` and `dbscan` find groups: remove `target`".to_owned())
            }
            TrainError::TooLarge(error) => Some(error.hint().to_owned()),
            TrainError::Features(error) => error.hint(),
            TrainError::Target(error) => error.hint(),
            TrainError::Weights(error) => error.hint(),
            TrainError::Unweighted { .. } => Some(
                "forests, `gradient_boosting`, `naive_bayes` and linear models of two classes or numbers can"
                    .to_owned(),
            ),
            TrainError::Diverged { .. } => {
                Some("scale the features (`scale: standard`) or give a penalty (`alpha`)".to_owned())
            }
            TrainError::FewRows { .. } => Some("use fewer levels (`levels_max`) or more rows".to_owned()),
            TrainError::Setting { .. }
            | TrainError::RowsChanged { .. }
            | TrainError::Fit { .. }
            | TrainError::Panicked { .. }
            | TrainError::Stopped
            | TrainError::Join { .. }
            | TrainError::Part { .. } => None,
        }
    }
}

/// The name of an algorithm, as pipeline files write it.
pub fn algorithm_name(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::LogisticRegression(_) => "logistic_regression",
        Algorithm::LinearRegression(_) => "linear_regression",
        Algorithm::Ridge(_) => "ridge",
        Algorithm::Lasso(_) => "lasso",
        Algorithm::ElasticNet(_) => "elastic_net",
        Algorithm::DecisionTree(_) => "decision_tree",
        Algorithm::RandomForest(_) => "random_forest",
        Algorithm::ExtraTrees(_) => "extra_trees",
        Algorithm::GradientBoosting(_) => "gradient_boosting",
        Algorithm::KNearestNeighbors(_) => "k_nearest_neighbors",
        Algorithm::NaiveBayes(_) => "naive_bayes",
        Algorithm::SupportVectorMachine(_) => "support_vector_machine",
        Algorithm::KMeans(_) => "k_means",
        Algorithm::Dbscan(_) => "dbscan",
    }
}

/// Whether the algorithm grows trees.
pub fn grows_trees(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::DecisionTree(_)
            | Algorithm::RandomForest(_)
            | Algorithm::ExtraTrees(_)
            | Algorithm::GradientBoosting(_)
    )
}

/// Checks the algorithm's settings, and that it can learn what the target asks for.
pub fn check(algorithm: &Algorithm, target: &Target) -> Result<(), TrainError> {
    let name = algorithm_name(algorithm);
    let setting = |setting: &'static str, value: String, wanted| {
        Err(TrainError::Setting { algorithm: name, name: setting, value, wanted })
    };
    let penalty = |alpha: f64| match alpha.is_finite() && alpha >= 0.0 {
        true => Ok(()),
        false => setting("alpha", alpha.to_string(), "0 or more"),
    };
    let tree = |max_depth: u16, min_samples_leaf: u32, min_samples_split: u32| match () {
        () if max_depth == 0 => setting("max_depth", max_depth.to_string(), "1 or more"),
        () if min_samples_leaf == 0 => setting("min_samples_leaf", min_samples_leaf.to_string(), "1 or more"),
        () if min_samples_split < 2 => setting("min_samples_split", min_samples_split.to_string(), "2 or more"),
        () => Ok(()),
    };
    let over_zero = |name: &'static str, value: f64| match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => setting(name, value.to_string(), "over 0"),
    };
    let learns = match algorithm {
        Algorithm::LogisticRegression(settings) => {
            penalty(settings.alpha)?;
            Some(Learning::Classification)
        }
        Algorithm::LinearRegression(_) => Some(Learning::Regression),
        Algorithm::Ridge(settings) => {
            penalty(settings.alpha)?;
            Some(Learning::Regression)
        }
        Algorithm::Lasso(settings) => {
            penalty(settings.alpha)?;
            Some(Learning::Regression)
        }
        Algorithm::ElasticNet(settings) => {
            penalty(settings.alpha)?;
            if !(0.0..=1.0).contains(&settings.l1_ratio) {
                return setting("l1_ratio", settings.l1_ratio.to_string(), "between 0 and 1");
            }
            Some(Learning::Regression)
        }
        Algorithm::DecisionTree(settings) => {
            tree(settings.max_depth, settings.min_samples_leaf, settings.min_samples_split)?;
            None
        }
        Algorithm::RandomForest(settings) | Algorithm::ExtraTrees(settings) => {
            tree(settings.max_depth, settings.min_samples_leaf, settings.min_samples_split)?;
            if !(1..=TREES_MAX).contains(&settings.trees) {
                return setting("trees", settings.trees.to_string(), "between 1 and 10000");
            }
            if settings.max_features == Some(0) {
                return setting("max_features", "0".to_owned(), "1 or more");
            }
            None
        }
        Algorithm::GradientBoosting(settings) => {
            boosting::check(settings, target)?;
            None
        }
        Algorithm::KNearestNeighbors(settings) if settings.neighbors == 0 => {
            return setting("neighbors", "0".to_owned(), "1 or more");
        }
        Algorithm::KNearestNeighbors(_) => None,
        Algorithm::NaiveBayes(_) => Some(Learning::Classification),
        Algorithm::SupportVectorMachine(settings) => {
            over_zero("c", settings.c)?;
            settings.gamma.map_or(Ok(()), |gamma| over_zero("gamma", gamma))?;
            Some(Learning::Classification)
        }
        Algorithm::KMeans(_) => Some(Learning::Clustering),
        Algorithm::Dbscan(settings) => {
            over_zero("eps", settings.eps)?;
            Some(Learning::Clustering)
        }
    };
    match learns {
        None if target.learning() == Learning::Clustering => Err(TrainError::Goal {
            algorithm: name,
            learns: Learning::Classification,
            asked: Learning::Clustering,
            target: target.column.clone(),
        }),
        Some(learns) if learns != target.learning() => {
            Err(TrainError::Goal { algorithm: name, learns, asked: target.learning(), target: target.column.clone() })
        }
        _ => Ok(()),
    }
}

/// How many units training has. Unit `u` of a forest grows trees for class `u / units a class`.
pub fn units(algorithm: &Algorithm, target: &Target) -> u32 {
    let outputs = u32::try_from(target.outputs()).expect("classes are limited");
    match algorithm {
        Algorithm::RandomForest(settings) | Algorithm::ExtraTrees(settings) => {
            outputs * settings.trees.div_ceil(TREES_PER_UNIT)
        }
        Algorithm::DecisionTree(_) | Algorithm::SupportVectorMachine(_) => outputs,
        _ => 1,
    }
}

/// What one unit learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Trees {
        forest: Forest,
        /// The sum over the trees of each column's share in the fall of impurity.
        importances: Vec<f64>,
    },
    Linear(Linear),
    Boosted {
        model: Boosted,
        importances: Vec<f64>,
    },
    Neighbors(Neighbors),
    Bayes(Gaussian),
    Machine(Machine),
    Means(KMeans),
    Dense(Dbscan),
}

/// What a range of units learned: bytes that travel between workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The first of its units.
    pub first: u32,
    units: Vec<Unit>,
}

impl Part {
    /// The part as bytes; equal parts have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("numbers and names can be written")
    }

    /// Reads a part back, refusing damaged ones.
    pub fn from_bytes(bytes: &[u8]) -> Result<Part, TrainError> {
        rmp_serde::from_slice(bytes).map_err(|error| TrainError::Part { reason: error.to_string() })
    }
}

/// Trains a range of the units on up to `control.threads` threads.
pub fn train_units(
    set: &TrainingSet,
    algorithm: &Algorithm,
    seed: u64,
    range: Range<u32>,
    control: &Control<'_>,
) -> Result<Part, TrainError> {
    if let Algorithm::RandomForest(settings) | Algorithm::ExtraTrees(settings) = algorithm {
        let random_cuts = matches!(algorithm, Algorithm::ExtraTrees(_));
        let units = trees::grow_units(set, settings, random_cuts, seed, range.clone(), control)?;
        return Ok(Part { first: range.start, units });
    }
    let units = control.run(algorithm_name(algorithm), range.clone(), |unit| match algorithm {
        Algorithm::DecisionTree(settings) => trees::fit_tree_unit(set, settings, unit),
        Algorithm::GradientBoosting(settings) => boosting::fit(set, settings, seed, control),
        Algorithm::KNearestNeighbors(settings) => instances::remember(set, settings),
        Algorithm::NaiveBayes(_) => instances::bayes(set),
        Algorithm::SupportVectorMachine(settings) => margin::fit(set, settings, seed, unit, control),
        Algorithm::KMeans(settings) => groups::k_means(set, settings, seed, control),
        Algorithm::Dbscan(settings) => groups::dbscan(set, settings, control),
        _ => linear::fit(set, algorithm),
    })?;
    Ok(Part { first: range.start, units })
}

/// What scores rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// One forest: a number, or the probability of the positive class. Several: one for each class.
    Trees(Vec<Forest>),
    Linear(Linear),
    Boosted(Boosted),
    Neighbors(Neighbors),
    Bayes(Gaussian),
    /// One: the probability of the positive class. Several: one for each class.
    Machines(Vec<Machine>),
    /// The number of the nearest group.
    Means(KMeans),
    /// The number of the group, [`groups::NO_GROUP`] for rows that lie alone.
    Dense(Dbscan),
}

/// A trained estimator and what its columns matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    pub estimator: Estimator,
    /// For each column of the matrix, its share in the fall of impurity (trees), adding up to 1; none for
    /// linear models, whose coefficients say it.
    pub importances: Option<Vec<f64>>,
}

/// Puts all parts together, in any order.
pub fn join(mut parts: Vec<Part>, algorithm: &Algorithm, target: &Target) -> Result<Trained, TrainError> {
    let expected = units(algorithm, target);
    parts.sort_by_key(|part| part.first);
    let mut next = 0;
    let mut all: Vec<Unit> = Vec::with_capacity(expected as usize);
    for part in parts {
        if part.first != next {
            return Err(TrainError::Join {
                reason: format!("unit {next} comes {}", if part.first > next { "in no part" } else { "in two parts" }),
            });
        }
        next +=
            u32::try_from(part.units.len()).map_err(|_| TrainError::Join { reason: "too many units".to_owned() })?;
        all.extend(part.units);
    }
    if next != expected {
        return Err(TrainError::Join { reason: format!("{next} of {expected} units are there") });
    }
    let per_output = all.len() / target.outputs();
    let mut forests: Vec<Forest> = Vec::new();
    let mut totals: Vec<f64> = Vec::new();
    let mut machines: Vec<Machine> = Vec::new();
    for (at, unit) in all.into_iter().enumerate() {
        match unit {
            Unit::Machine(machine) => machines.push(machine),
            Unit::Means(model) => return Ok(Trained { estimator: Estimator::Means(model), importances: None }),
            Unit::Dense(model) => return Ok(Trained { estimator: Estimator::Dense(model), importances: None }),
            Unit::Linear(linear) => return Ok(Trained { estimator: Estimator::Linear(linear), importances: None }),
            Unit::Neighbors(model) => {
                return Ok(Trained { estimator: Estimator::Neighbors(model), importances: None });
            }
            Unit::Bayes(model) => return Ok(Trained { estimator: Estimator::Bayes(model), importances: None }),
            Unit::Boosted { model, importances } => {
                return Ok(Trained { estimator: Estimator::Boosted(model), importances: Some(importances) });
            }
            Unit::Trees { forest, importances } => {
                if forests.first().is_some_and(|first| first.columns() != forest.columns())
                    || importances.len() != forest.columns()
                {
                    return Err(TrainError::Join { reason: "the parts were trained on different columns".to_owned() });
                }
                totals.resize(importances.len(), 0.0);
                totals.iter_mut().zip(&importances).for_each(|(total, share)| *total += share);
                match forests.last_mut() {
                    Some(last) if at % per_output != 0 => last.append(forest),
                    _ => forests.push(forest),
                }
            }
        }
    }
    if !machines.is_empty() {
        return Ok(Trained { estimator: Estimator::Machines(machines), importances: None });
    }
    let sum: f64 = totals.iter().sum();
    if sum > 0.0 {
        totals.iter_mut().for_each(|total| *total /= sum);
    }
    Ok(Trained { estimator: Estimator::Trees(forests), importances: Some(totals) })
}

impl Estimator {
    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        match self {
            Estimator::Trees(forests) => forests.first().map_or(0, Forest::columns),
            Estimator::Linear(linear) => linear.columns(),
            Estimator::Boosted(model) => model.columns(),
            Estimator::Neighbors(model) => model.columns(),
            Estimator::Bayes(model) => model.columns(),
            Estimator::Machines(machines) => machines.first().map_or(0, Machine::columns),
            Estimator::Means(model) => model.columns(),
            Estimator::Dense(model) => model.columns(),
        }
    }

    /// How many scores it gives a row.
    pub fn outputs(&self) -> usize {
        match self {
            Estimator::Trees(forests) => forests.len(),
            Estimator::Linear(linear) => linear.outputs(),
            Estimator::Boosted(model) => model.outputs(),
            Estimator::Neighbors(model) => one_of_two(model.outputs()),
            Estimator::Bayes(model) => one_of_two(model.classes()),
            Estimator::Machines(machines) => machines.len(),
            Estimator::Means(_) | Estimator::Dense(_) => 1,
        }
    }

    /// Scores rows that `fill` writes into a matrix laid out in rows. The scores of a row lie side by side:
    /// the number; the probability of the positive class; or the probability of each class.
    pub(crate) fn score<E>(&self, rows: usize, fill: impl Fill<E>) -> Result<Vec<f64>, E> {
        match self {
            Estimator::Linear(linear) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f64(&mut matrix)?;
                Ok(linear.predict(&matrix))
            }
            Estimator::Neighbors(model) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f32(&mut matrix)?;
                let scores = model.predict(&matrix);
                let scores = scores.unwrap_or_else(|refusal| unreachable!("features leave nothing missing: {refusal}"));
                Ok(positive_of_two(scores, model.outputs()))
            }
            Estimator::Bayes(model) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f64(&mut matrix)?;
                Ok(positive_of_two(model.predict(&matrix), model.classes()))
            }
            Estimator::Boosted(model) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f32(&mut matrix)?;
                Ok(model.predict(&matrix))
            }
            Estimator::Trees(forests) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f32(&mut matrix)?;
                Ok(side_by_side(rows, forests.iter().map(|forest| forest.predict(&matrix)).collect()))
            }
            Estimator::Machines(machines) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f64(&mut matrix)?;
                Ok(side_by_side(rows, machines.iter().map(|machine| machine.probabilities(&matrix)).collect()))
            }
            Estimator::Means(model) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f64(&mut matrix)?;
                Ok(model.predict(&matrix).into_iter().map(f64::from).collect())
            }
            Estimator::Dense(model) => {
                let mut matrix = Matrix::zeros(rows, self.columns(), Layout::Rows);
                fill.fill_f32(&mut matrix)?;
                Ok(model.predict(&matrix).into_iter().map(|group| group.map_or(groups::NO_GROUP, f64::from)).collect())
            }
        }
    }
}

/// The scores of each class against the rest, row by row: one of two classes as it is, those of more divided by their
/// sum.
fn side_by_side(rows: usize, mut columns: Vec<Vec<f64>>) -> Vec<f64> {
    if columns.len() == 1 {
        return columns.swap_remove(0);
    }
    let mut scores = vec![0.0; rows * columns.len()];
    for (row, scores) in scores.chunks_mut(columns.len()).enumerate() {
        let sum: f64 = columns.iter().map(|column| column[row]).sum();
        let even = 1.0 / columns.len() as f64;
        for (score, column) in scores.iter_mut().zip(&columns) {
            *score = if sum > 0.0 { column[row] / sum } else { even };
        }
    }
    scores
}

/// How many scores a row has whose estimator tells the probabilities of so many classes: of two one says it.
fn one_of_two(outputs: usize) -> usize {
    if outputs == 2 { 1 } else { outputs }
}

/// Of the probabilities of two classes that of the second.
fn positive_of_two(scores: Vec<f64>, outputs: usize) -> Vec<f64> {
    if outputs == 2 { scores.into_iter().skip(1).step_by(2).collect() } else { scores }
}

/// Writes rows into a matrix of either precision.
pub(crate) trait Fill<E> {
    fn fill_f32(&self, matrix: &mut Matrix<f32>) -> Result<(), E>;
    fn fill_f64(&self, matrix: &mut Matrix<f64>) -> Result<(), E>;
}
