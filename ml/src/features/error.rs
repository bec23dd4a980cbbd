//! Why features can't be fitted or computed, in words that a person can act on.

use arrow::error::ArrowError;
use gristmill_protocol::limits::FEATURE_LEVELS_TRACKED_MAX;

use crate::sql::{ExpressionError, SqlError};

/// Why features can't be fitted or computed.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error("there are no feature columns")]
    None,
    #[error("there is no column `{column}` to learn from")]
    Missing { column: String, nearest: Option<String> },
    #[error("column `{column}` is named twice among the features")]
    Twice { column: String },
    #[error("the target `{column}` is also among the features")]
    Target { column: String },
    #[error("column `{column}` is of type {found}, which can't be taken as {wanted}")]
    Type { column: String, found: String, wanted: &'static str },
    #[error("column `{column}` has no values in the training rows")]
    Empty { column: String },
    #[error("column `{column}` has more than {FEATURE_LEVELS_TRACKED_MAX} levels")]
    Levels { column: String },
    #[error(
        "`encoding: {encoding}` needs a number or two classes to order by, and the target `{target}` has {classes} classes"
    )]
    Order { encoding: &'static str, target: String, classes: usize },
    #[error("`{setting}` of column `{column}` {reason}")]
    Setting { column: String, setting: &'static str, reason: &'static str, hint: &'static str },
    #[error("column `{column}` was of type {trained} in training and is now of type {found}")]
    Changed { column: String, trained: &'static str, found: String, hint: Option<String> },
    #[error("column `{column}` holds whole numbers in training and now {value} in row {row}")]
    NotWhole { column: String, value: f64, row: usize },
    #[error("`{text}` in row {row} of column `{column}` is no {wanted}")]
    Unread { column: String, text: String, row: usize, wanted: &'static str },
    #[error("row {row} has no value in column `{column}`, in which training met none missing")]
    Null { column: String, row: usize },
    #[error("row {row} is not a JSON object")]
    NotARow { row: usize },
    #[error("an expression is called `{name}`, like a column of the table")]
    Taken { name: String },
    #[error(transparent)]
    Expression(#[from] Box<ExpressionError>),
    #[error("the expression `{name}` can't be computed")]
    Compute {
        name: String,
        #[source]
        source: Box<SqlError>,
    },
    #[error("{wanted} components can't be made of {columns} numeric columns")]
    Components { wanted: usize, columns: usize },
    #[error("components can't be made of missing numbers")]
    ComponentsOfMissing,
    #[error("no components were found: {reason}")]
    Decompose { reason: String },
    #[error("failed to read column `{column}`")]
    Read {
        column: String,
        #[source]
        source: ArrowError,
    },
}

impl FeatureError {
    /// Whether it is about a value of one row, so that other rows of the batch may be well.
    pub fn is_of_a_row(&self) -> bool {
        matches!(self, FeatureError::NotWhole { .. } | FeatureError::Compute { .. })
    }

    /// All of it in one line, for a row that stands alone.
    pub fn reason(&self) -> String {
        match self {
            FeatureError::NotWhole { column, value, .. } => {
                format!("column `{column}` holds whole numbers in training and here {value}")
            }
            FeatureError::Compute { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            FeatureError::None => Some("name columns under `features: { numeric: […], categorical: […] }`".to_owned()),
            FeatureError::Missing { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            FeatureError::Components { .. } => {
                Some("ask for as many as there are numeric columns, or fewer".to_owned())
            }
            FeatureError::ComponentsOfMissing => Some("say what stands in for them: `impute: mean`".to_owned()),
            FeatureError::Missing { .. } | FeatureError::Read { .. } | FeatureError::Decompose { .. } => None,
            FeatureError::Twice { .. } => Some("a column is either numeric or categorical".to_owned()),
            FeatureError::Target { .. } => Some("a model can't be given what it is to predict: remove it".to_owned()),
            FeatureError::Type { wanted: "numeric", .. } => {
                Some("name it under `categorical`, or `cast` it in a transform".to_owned())
            }
            FeatureError::Type { wanted: "categorical", .. } => {
                Some("name it under `numeric`, or `cast` it in a transform".to_owned())
            }
            FeatureError::Type { wanted: "a number or a level", .. } => {
                Some("name it under `dates`, or `cast` it".to_owned())
            }
            FeatureError::Type { .. } => Some("`cast` it in a transform".to_owned()),
            FeatureError::Empty { .. } => Some("leave it out, or look at where it comes from".to_owned()),
            FeatureError::Levels { .. } => Some(
                "it looks like an identifier: leave it out, group its values in a transform, or set `encoding: hashed`"
                    .to_owned(),
            ),
            FeatureError::Order { .. } => Some("use `encoding: one_hot`".to_owned()),
            FeatureError::Setting { hint, .. } => Some((*hint).to_owned()),
            FeatureError::Changed { hint: Some(hint), .. } => Some(hint.clone()),
            FeatureError::Changed { trained, .. } => Some(format!("`cast` it to {trained} in a transform")),
            FeatureError::NotWhole { .. } => {
                Some("training knew whole numbers as levels: round it in a transform, or train on floats".to_owned())
            }
            FeatureError::Unread { wanted: "date", .. } => Some("write it as `2013-01-31`".to_owned()),
            FeatureError::Unread { wanted: "timestamp", .. } => Some("write it as `2013-01-31T10:00:00Z`".to_owned()),
            FeatureError::Unread { .. } => None,
            FeatureError::Null { .. } => {
                Some("find out why it is missing; the model would take it as what it fills in or as unknown".to_owned())
            }
            FeatureError::NotARow { .. } => {
                Some("write it as names and values: `{ \"distance\": 200, \"carrier\": \"AA\" }`".to_owned())
            }
            FeatureError::Taken { .. } => Some("choose another name for it".to_owned()),
            FeatureError::Expression(error) => match &error.source {
                SqlError::Changing { .. } => {
                    Some("an expression must give the same for the same row; pass what changes as a column".to_owned())
                }
                SqlError::NoColumn => Some("name a column in it, or remove it".to_owned()),
                SqlError::NotAValue { .. } => Some("`cast` its result to a number or text".to_owned()),
                source => source.hint(),
            },
            FeatureError::Compute { source, .. } => source.hint(),
        }
    }
}
