//! Fitting features in one pass over the training rows.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use gristmill_protocol::limits::FEATURE_LEVELS_TRACKED_MAX;
use gristmill_protocol::pipeline::steps::Encoding;
use gristmill_protocol::pipeline::{ColumnType, Features};

use super::calendar::DateSums;
use super::computed::Expressions;
use super::levels::{FOLDS, Level, LevelCounts, bucket_of_integer, bucket_of_text, fold_of};
use super::plan::{ColumnPlan, LevelPlan, NumberPlan, Take};
use super::signature::changed;
use super::words::WordSums;
use super::{Feature, FeatureError, FeaturePlan, FittedData, FittedFeatures, Input, Levels, flag_output, integer_name};
use crate::columns::{self, Keys, kind_name, kind_of};
use crate::table::{Column, TableSchema, arrow_type};
use crate::target::{Moments, Target};

/// Learns means, levels and orders from the training rows. Partitions can be read apart and merged; the
/// result is the same for the same partitions in the same order.
#[derive(Clone, Debug)]
pub struct FeatureFitter {
    expressions: Expressions,
    components: Option<usize>,
    inputs: Vec<Input>,
    seen: Vec<Seen>,
    target: Moments,
    /// Rows and sums by part of the rows; see [`Encoding::Target`].
    folds: [Level; FOLDS],
    first_row: u64,
}

/// What was seen of one column.
#[derive(Clone, Debug)]
enum Seen {
    /// `values` are kept only where the plan needs them: eight bytes a row.
    Numeric {
        plan: NumberPlan,
        moments: Moments,
        missing: u64,
        values: Vec<f64>,
    },
    Integer(LevelPlan, LevelCounts<i64>),
    Text(LevelPlan, LevelCounts<String>),
    /// Rows of each bucket.
    Hashed {
        counts: Vec<u64>,
        missing: u64,
    },
    Dates(DateSums),
    Words(WordSums),
}

/// The columns of a table that features are made of: those listed, and those that expressions look at.
pub fn columns_read(features: &Features, schema: &TableSchema) -> Result<Vec<String>, FeatureError> {
    let texts: Vec<(String, String)> =
        features.expressions.iter().map(|(name, sql)| (name.clone(), sql.clone())).collect();
    let expressions = Expressions::compile(&texts, schema)?;
    let listed = features.listed().filter(|name| expressions.position(name).is_none());
    let mut columns: Vec<String> = Vec::new();
    for name in listed.chain(expressions.stored.inputs.iter().map(|input| input.name.as_str())) {
        if !columns.iter().any(|column| column == name) {
            columns.push(name.to_owned());
        }
    }
    Ok(columns)
}

impl FeatureFitter {
    /// Looks for the columns in the schema, and compiles the expressions.
    pub fn new(schema: &Schema, plan: FeaturePlan, target: &Target) -> Result<FeatureFitter, FeatureError> {
        let FeaturePlan { mut columns, components, expressions, unlisted } = plan;
        if columns.is_empty() && expressions.is_empty() {
            return Err(FeatureError::None);
        }
        let expressions = Expressions::compile(&expressions, &known_columns(schema))?;
        if let Some(input) = expressions.stored.inputs.iter().find(|input| input.name == target.column) {
            return Err(FeatureError::Target { column: input.name.clone() });
        }
        for stored in &expressions.stored.list {
            if let Some(unlisted) = &unlisted
                && !columns.iter().any(|column| column.name == stored.name)
            {
                let take = match stored.kind {
                    ColumnType::String => Take::Levels(unlisted.levels.clone()),
                    ColumnType::Boolean | ColumnType::Integer | ColumnType::Float => {
                        Take::Number(unlisted.number.clone())
                    }
                    ColumnType::Date | ColumnType::Timestamp => {
                        return Err(FeatureError::Type {
                            column: stored.name.clone(),
                            found: kind_name(stored.kind).to_owned(),
                            wanted: "a number or a level",
                        });
                    }
                };
                columns.push(ColumnPlan { name: stored.name.clone(), take });
            }
        }
        let mut known = HashSet::new();
        let mut inputs = Vec::new();
        let mut seen = Vec::new();
        for ColumnPlan { name, take } in columns {
            if name == target.column {
                return Err(FeatureError::Target { column: name });
            }
            if !known.insert(name.clone()) {
                return Err(FeatureError::Twice { column: name });
            }
            let data_type = match expressions.position(&name) {
                Some(at) => arrow_type(expressions.stored.list[at].kind),
                None => match schema.field_with_name(&name) {
                    Ok(field) => field.data_type().clone(),
                    Err(_) => {
                        let names = schema.fields().iter().map(|field| field.name().as_str());
                        return Err(FeatureError::Missing { nearest: columns::nearest(&name, names), column: name });
                    }
                },
            };
            let Some((kind, empty)) = kind_of(&data_type).and_then(|kind| Some((kind, Seen::new(&take, &name, kind)?)))
            else {
                return Err(FeatureError::Type {
                    column: name,
                    found: kind_of(&data_type).map_or_else(|| data_type.to_string(), |kind| kind_name(kind).to_owned()),
                    wanted: match take {
                        Take::Number(_) => "numeric",
                        Take::Levels(_) => "categorical",
                        Take::Dates(_) => "a date",
                        Take::Words { .. } => "text",
                    },
                });
            };
            inputs.push(Input { name, kind, nullable: false });
            seen.push(empty?);
        }
        let folds = [Level::default(); FOLDS];
        Ok(FeatureFitter { components, expressions, inputs, seen, target: Moments::default(), folds, first_row: 0 })
    }

    /// The same fitter for rows that come after `first_row` others, which are fitted apart and merged.
    pub fn starting_at(self, first_row: u64) -> FeatureFitter {
        FeatureFitter { first_row, ..self }
    }

    /// Takes the rows of a batch. `target` are their values by [`Target::values`]; one each.
    pub fn push(&mut self, batch: &RecordBatch, target: &[f64]) -> Result<(), FeatureError> {
        assert_eq!(batch.num_rows(), target.len(), "each row has one target value");
        let first_row = self.first_row + self.target.count;
        for (&value, row) in target.iter().zip(first_row..) {
            self.target.add(value);
            self.folds[fold_of(row)].add(Level { rows: 1, target_sum: value });
        }
        let read = self.expressions.columns(batch)?;
        for (input, column) in self.expressions.stored.inputs.iter_mut().zip(&read) {
            input.nullable |= column.null_count() > 0;
        }
        let computed = self.expressions.evaluate(read)?;
        for (input, seen) in self.inputs.iter().zip(&mut self.seen) {
            let column = match self.expressions.position(&input.name) {
                Some(at) => &computed[at],
                None => columns::column(batch, &input.name)
                    .map_err(|nearest| FeatureError::Missing { column: input.name.clone(), nearest })?,
            };
            seen.push(input, column, target, first_row)?;
            if seen.level_count() > FEATURE_LEVELS_TRACKED_MAX {
                return Err(FeatureError::Levels { column: input.name.clone() });
            }
        }
        Ok(())
    }

    /// Adds what another fitter of the same plan and schema saw in later rows. With `encoding: target` the other one
    /// has to be told where its rows start ([`FeatureFitter::starting_at`]).
    pub fn merge(&mut self, later: FeatureFitter) -> Result<(), FeatureError> {
        assert!(
            later.first_row == self.first_row + self.target.count || !self.seen.iter().any(Seen::has_folds),
            "the rows of the later fitter follow those of this one"
        );
        self.target.merge(&later.target);
        self.folds.iter_mut().zip(later.folds).for_each(|(fold, more)| fold.add(more));
        for (input, more) in self.expressions.stored.inputs.iter_mut().zip(&later.expressions.stored.inputs) {
            input.nullable |= more.nullable;
        }
        for ((input, seen), later) in self.inputs.iter().zip(&mut self.seen).zip(later.seen) {
            seen.merge(later);
            if seen.level_count() > FEATURE_LEVELS_TRACKED_MAX {
                return Err(FeatureError::Levels { column: input.name.clone() });
            }
        }
        Ok(())
    }

    /// The fitted features; where the plan wants components, [`super::ComponentsFitter`] finds them.
    pub fn finish(self) -> Result<FittedFeatures, FeatureError> {
        let rows = self.target.count;
        let mut data = FittedData {
            inputs: Vec::new(),
            features: Vec::new(),
            outputs: Vec::new(),
            rows,
            expressions: self.expressions.stored.clone(),
            components: None,
        };
        let mut all_codes = Vec::new();
        for (mut input, seen) in self.inputs.into_iter().zip(self.seen) {
            if seen.is_empty() {
                return Err(FeatureError::Empty { column: input.name });
            }
            let (name, kind, outputs) = (&input.name, input.kind, &mut data.outputs);
            let mut fold_codes = None;
            let (nullable, feature) = match seen {
                Seen::Numeric { plan, moments, missing, values } => {
                    (missing > 0, plan.fit(name, moments, missing, values, outputs))
                }
                Seen::Integer(plan, counts) => {
                    let names = |key: &i64| integer_name(*key, kind);
                    let fitted = counts.fit(&plan, name, names, self.target.mean, &self.folds, outputs);
                    fold_codes = fitted.folds;
                    let levels = Levels::Integer(fitted.keys);
                    (fitted.missing, Feature::Categorical { levels, coding: fitted.coding })
                }
                Seen::Text(plan, counts) => {
                    let fitted = counts.fit(&plan, name, String::clone, self.target.mean, &self.folds, outputs);
                    fold_codes = fitted.folds;
                    let levels = Levels::Text(fitted.keys);
                    (fitted.missing, Feature::Categorical { levels, coding: fitted.coding })
                }
                Seen::Hashed { counts, missing } => {
                    for (bucket, &count) in counts.iter().enumerate() {
                        outputs.push(flag_output(format!("{name}#{bucket}"), count, rows));
                    }
                    (missing > 0, Feature::Hashed { buckets: counts.len() as u32 })
                }
                Seen::Dates(sums) => (sums.missing > 0, sums.fit(name, outputs)),
                Seen::Words(sums) => {
                    sums.outputs(name, outputs);
                    let (buckets, binary, filled) = (sums.buckets(), sums.binary, sums.filled);
                    (sums.missing > 0, Feature::Words { buckets, binary, filled })
                }
            };
            input.nullable = nullable;
            data.inputs.push(input);
            data.features.push(feature);
            all_codes.push(fold_codes);
        }
        let fitted = FittedFeatures::new(data, self.expressions, all_codes);
        let mut fitted = fitted.expect("what was just fitted fits together");
        fitted.components_wanted = self.components;
        Ok(fitted)
    }
}

/// The columns of a schema that are of our six kinds.
fn known_columns(schema: &Schema) -> TableSchema {
    let column = |field: &arrow::datatypes::FieldRef| {
        Some(Column { name: field.name().clone(), kind: kind_of(field.data_type())?, nullable: true })
    };
    TableSchema { columns: schema.fields().iter().filter_map(column).collect() }
}

impl Seen {
    /// Nothing seen yet; none when columns of this kind can't be taken so.
    fn new(take: &Take, name: &str, kind: ColumnType) -> Option<Result<Seen, FeatureError>> {
        Some(Ok(match (take, kind) {
            (Take::Number(_), ColumnType::String) => return None,
            (Take::Number(plan), _) => {
                Seen::Numeric { plan: plan.clone(), moments: Moments::default(), missing: 0, values: Vec::new() }
            }
            (Take::Levels(_), ColumnType::Float | ColumnType::Timestamp) => return None,
            (Take::Levels(plan), _) if plan.encoding == Encoding::Hashed => {
                Seen::Hashed { counts: vec![0; plan.buckets as usize], missing: 0 }
            }
            (Take::Levels(plan), ColumnType::String) => Seen::Text(plan.clone(), LevelCounts::new(plan)),
            (Take::Levels(plan), _) => Seen::Integer(plan.clone(), LevelCounts::new(plan)),
            (Take::Dates(plan), ColumnType::Date | ColumnType::Timestamp) => {
                return Some(DateSums::new(plan, name, kind).map(Seen::Dates));
            }
            (Take::Words { buckets, binary }, ColumnType::String) => Seen::Words(WordSums::new(*buckets, *binary)),
            (Take::Dates(_) | Take::Words { .. }, _) => return None,
        }))
    }

    fn push(&mut self, input: &Input, column: &ArrayRef, target: &[f64], first_row: u64) -> Result<(), FeatureError> {
        let read = |source| FeatureError::Read { column: input.name.clone(), source };
        match self {
            Seen::Numeric { plan, moments, missing, values } => {
                let numbers = columns::numbers(column).map_err(read)?;
                *missing += numbers.null_count() as u64;
                numbers.iter().flatten().for_each(|number| moments.add(number));
                if plan.needs_values() {
                    values.extend(numbers.iter().flatten());
                }
            }
            Seen::Dates(sums) => sums.push(columns::numbers(column).map_err(read)?.iter()),
            Seen::Integer(..) | Seen::Text(..) | Seen::Hashed { .. } | Seen::Words(_) => {
                let keys = columns::keys(column).map_err(read)?;
                match (self, keys) {
                    (Seen::Integer(_, counts), Some(Keys::Integer(keys))) => counts.push(&keys, target, first_row),
                    (Seen::Text(_, counts), Some(Keys::Text(keys))) => counts.push(&keys, target, first_row),
                    (Seen::Hashed { counts, missing }, Some(Keys::Integer(keys))) => {
                        *missing += keys.null_count() as u64;
                        let buckets = counts.len() as u32;
                        keys.iter().flatten().for_each(|key| counts[bucket_of_integer(key, buckets)] += 1);
                    }
                    (Seen::Hashed { counts, missing }, Some(Keys::Text(keys))) => {
                        *missing += keys.null_count() as u64;
                        let buckets = counts.len() as u32;
                        keys.iter().flatten().for_each(|key| counts[bucket_of_text(key, buckets)] += 1);
                    }
                    (Seen::Words(sums), Some(Keys::Text(texts))) => sums.push(texts.iter()),
                    (_, _) => return Err(changed(input, column.data_type())),
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, later: Seen) {
        match (self, later) {
            (
                Seen::Numeric { moments, missing, values, .. },
                Seen::Numeric { moments: more, missing: missing_too, values: mut rest, .. },
            ) => {
                moments.merge(&more);
                *missing += missing_too;
                values.append(&mut rest);
            }
            (Seen::Integer(_, counts), Seen::Integer(_, later)) => counts.merge(later),
            (Seen::Text(_, counts), Seen::Text(_, later)) => counts.merge(later),
            (Seen::Hashed { counts, missing }, Seen::Hashed { counts: more, missing: missing_too }) => {
                counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
                *missing += missing_too;
            }
            (Seen::Dates(sums), Seen::Dates(later)) => sums.merge(&later),
            (Seen::Words(sums), Seen::Words(later)) => sums.merge(&later),
            (_, _) => unreachable!("fitters of the same plan and schema look at the same columns"),
        }
    }

    fn level_count(&self) -> usize {
        match self {
            Seen::Integer(_, counts) => counts.count(),
            Seen::Text(_, counts) => counts.count(),
            Seen::Numeric { .. } | Seen::Hashed { .. } | Seen::Dates(_) | Seen::Words(_) => 0,
        }
    }

    fn has_folds(&self) -> bool {
        match self {
            Seen::Integer(_, counts) => counts.has_folds(),
            Seen::Text(_, counts) => counts.has_folds(),
            Seen::Numeric { .. } | Seen::Hashed { .. } | Seen::Dates(_) | Seen::Words(_) => false,
        }
    }

    /// Whether all values were missing.
    fn is_empty(&self) -> bool {
        match self {
            Seen::Numeric { moments, .. } => moments.count == 0,
            Seen::Integer(_, counts) => counts.count() == 0,
            Seen::Text(_, counts) => counts.count() == 0,
            Seen::Hashed { counts, .. } => counts.iter().all(|count| *count == 0),
            Seen::Dates(sums) => sums.missing == sums.rows,
            Seen::Words(sums) => sums.missing == sums.rows,
        }
    }
}
