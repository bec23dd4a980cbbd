//! The features of a pipeline file: which columns a model learns from, and how each becomes numbers.
//!
//! A column is named alone, with the settings of all columns, or as a mapping with settings of its own:
//! `numeric: [distance, { column: dep_delay, impute: median, clip: [-60, 600] }]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::names::NAME_PATTERN;
use crate::limits::{EXPRESSION_CHARS_MAX, EXPRESSIONS_MAX};

/// The columns to learn from. What is fitted here (means, levels) becomes part of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Takes the columns that no list names, too, as their profile suggests: numbers, texts of up to 256 levels,
    /// booleans, days and points in time. Left out are columns of one value, identifiers and long lists of texts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub infer: bool,
    /// Columns taken as numbers.
    #[serde(default)]
    pub numeric: Vec<Listed<NumericColumn>>,
    /// Columns taken as levels, with one bucket for levels that training didn't see.
    #[serde(default)]
    pub categorical: Vec<Listed<CategoricalColumn>>,
    /// Days and points in time, taken apart: year, month, day, weekday, hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<Listed<DateColumn>>,
    /// Columns of text, taken as bags of words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<Listed<TextColumn>>,
    /// Columns computed from others of the same row, in SQL: `ratio: dep_delay / nullif(distance, 0)`. Taken as
    /// numbers, as levels when they are text, or as the list says that names them.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(extend("propertyNames" = json!({ "format": "name", "pattern": NAME_PATTERN }), "maxProperties" = EXPRESSIONS_MAX, "additionalProperties" = json!({ "type": "string", "minLength": 1, "maxLength": EXPRESSION_CHARS_MAX })))]
    pub expressions: IndexMap<String, String>,
    /// Puts principal components in place of the numeric columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pca: Option<PcaFeature>,
    /// How levels become numbers. Default `ordered` for trees on a number or two classes, else `one_hot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// What stands in for a missing number. Default `mean`; for `gradient_boosting`, which learns from them, `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impute: Option<Impute>,
    /// How numbers are scaled. Default `standard` for linear models, `none` for trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Whether a numeric column that had missing values gets a second column saying so. Default false.
    #[serde(default)]
    pub missing_indicator: bool,
    /// Levels kept of a categorical column, the most frequent first; the rest share the unknown bucket. Default 256.
    #[serde(default = "default_levels_max")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub levels_max: u32,
}

fn default_levels_max() -> u32 {
    256
}

impl Features {
    /// The columns and expressions that the lists name, in their order.
    pub fn listed(&self) -> impl Iterator<Item = &str> {
        let numeric = self.numeric.iter().map(Listed::column);
        let categorical = self.categorical.iter().map(Listed::column);
        let dates = self.dates.iter().map(Listed::column);
        numeric.chain(categorical).chain(dates).chain(self.text.iter().map(Listed::column))
    }
}

/// Principal components: the directions in which the numeric columns vary most, once they are filled in and scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcaFeature {
    /// How many; the first vary most.
    #[schemars(extend("minimum" = 1, "maximum" = 1_000))]
    pub components: u32,
}

/// A column of a list: its name alone, or with settings of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Listed<S> {
    Name(String),
    With(S),
}

/// The settings of one column.
pub trait OfColumn {
    /// The settings of a column that is named alone.
    fn plain(column: &str) -> Self;
    /// The column's name.
    fn column(&self) -> &str;
}

impl<S: OfColumn + Clone> Listed<S> {
    /// The column's name.
    pub fn column(&self) -> &str {
        match self {
            Listed::Name(name) => name,
            Listed::With(settings) => settings.column(),
        }
    }

    /// The column's settings; those that aren't given are none.
    pub fn settings(&self) -> S {
        match self {
            Listed::Name(name) => S::plain(name),
            Listed::With(settings) => settings.clone(),
        }
    }
}

/// A column taken as a number. Values are clipped, then missing ones filled in, then logarithms taken, then
/// scaled or put into bins; what is fitted for a step is fitted on what the steps before it made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumericColumn {
    /// The column, or an expression's name.
    pub column: String,
    /// What stands in for a missing number. Default: as for all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impute: Option<Impute>,
    /// How it is scaled. Default: as for all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Bounds outside of which values count as the bound: `[0, 600]`, `[null, 600]` or `{ quantiles: [0.01, 0.99] }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// Puts values into this many bins of about as many training rows each: one column with the bin's number
    /// for trees, a column of zeros and ones for each bin for linear models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 2, "maximum" = 255))]
    pub bins: Option<u32>,
    /// Takes `sign(x) * ln(1 + |x|)`, which is `ln(1 + x)` for all that isn't negative. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Whether a second column says where the value was missing. Default: as for all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_indicator: Option<bool>,
}

/// Bounds outside of which values count as the bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Clip {
    /// Lower and upper bound; `null` for none.
    Bounds([Option<f64>; 2]),
    Quantiles(Quantiles),
}

/// Quantiles of the training rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// The lower and the upper one, 0 to 1.
    #[schemars(extend("items" = json!({ "type": "number", "minimum": 0, "maximum": 1 })))]
    pub quantiles: [f64; 2],
}

/// A column taken as levels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoricalColumn {
    /// The column, or an expression's name.
    pub column: String,
    /// How levels become numbers. Default: as for all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Levels kept, the most frequent first; the rest share the unknown bucket. Default: as for all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub levels_max: Option<u32>,
    /// Training rows of a level below which it goes into the unknown bucket. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub min_rows: Option<u64>,
    /// Columns of `encoding: hashed`. Default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 2, "maximum" = 10_000))]
    pub buckets: Option<u32>,
    /// Rows' worth of the overall mean in each level's mean, for `encoding: target`. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0))]
    pub smoothing: Option<f64>,
}

/// A day or a point in time, taken apart. In UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DateColumn {
    /// The column, or an expression's name.
    pub column: String,
    /// The parts taken. Default: year, month, day, weekday, and of a point in time the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub parts: Option<Vec<DatePart>>,
    /// Whether parts that come round again are taken as a sine and a cosine, so that December is next to January.
    /// Default true for linear models, false for trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cyclical: Option<bool>,
}

/// A part of a day or a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatePart {
    Year,
    /// 1 to 12.
    Month,
    /// Of the month, 1 to 31.
    Day,
    /// Of the year, 1 to 366.
    DayOfYear,
    /// 0 is Monday.
    Weekday,
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
}

/// A column of text, taken as a bag of words: letters and digits without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextColumn {
    /// The column, or an expression's name.
    pub column: String,
    /// Columns that words are spread over by a hash. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 2, "maximum" = 10_000))]
    pub buckets: Option<u32>,
    /// Whether a word counts once, however often it comes. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
}

/// How levels become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// A column of zeros and ones for each level.
    OneHot,
    /// One column with the level's rank by the mean of the target in training: for trees as expressive
    /// as one-hot, in a fraction of the memory and time. Not for more than two classes.
    Ordered,
    /// One column with the level's place in the order of its values; -1 for the unknown.
    Ordinal,
    /// Columns of zeros and ones that levels are spread over by a hash: for very many levels.
    Hashed,
    /// One column with the mean of the target; for training rows the mean over other rows. Not for more than
    /// two classes.
    Target,
}

/// What stands in for a missing number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Impute {
    #[default]
    Mean,
    Median,
    /// This number.
    Constant(f64),
    /// Nothing: the model takes missing numbers as they are. Only for `gradient_boosting`.
    None,
}

/// How numbers are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    None,
    /// To mean 0 and standard deviation 1.
    Standard,
    /// To 0 at the smallest and 1 at the largest value.
    MinMax,
    /// To median 0 and a distance of 1 between the quartiles: outliers don't matter.
    Robust,
}

impl OfColumn for NumericColumn {
    fn plain(column: &str) -> Self {
        NumericColumn { column: column.to_owned(), ..NumericColumn::default() }
    }
    fn column(&self) -> &str {
        &self.column
    }
}

impl OfColumn for CategoricalColumn {
    fn plain(column: &str) -> Self {
        CategoricalColumn { column: column.to_owned(), ..CategoricalColumn::default() }
    }
    fn column(&self) -> &str {
        &self.column
    }
}

impl OfColumn for DateColumn {
    fn plain(column: &str) -> Self {
        DateColumn { column: column.to_owned(), ..DateColumn::default() }
    }
    fn column(&self) -> &str {
        &self.column
    }
}

impl OfColumn for TextColumn {
    fn plain(column: &str) -> Self {
        TextColumn { column: column.to_owned(), ..TextColumn::default() }
    }
    fn column(&self) -> &str {
        &self.column
    }
}
