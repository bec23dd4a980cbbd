//! What is to be fitted: the pipeline's features with the algorithm's defaults filled in.

use gristmill_protocol::pipeline::steps::{
    CategoricalColumn, Clip, DateColumn, DatePart, Encoding, Impute, NumericColumn, OfColumn, Scale, TextColumn,
};
use gristmill_protocol::pipeline::{Algorithm, Features};

use super::{FeatureError, ORDER_PRIOR_ROWS};
use crate::estimators::grows_trees;
use crate::target::{Goal, Target};

/// Columns of `encoding: hashed`, unless the pipeline says otherwise.
const HASH_BUCKETS: u32 = 64;
/// Columns that words are spread over, unless the pipeline says otherwise.
const WORD_BUCKETS: u32 = 256;

/// What is to be fitted: the pipeline's features with the algorithm's defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturePlan {
    pub(super) columns: Vec<ColumnPlan>,
    /// Names and texts.
    pub(super) expressions: Vec<(String, String)>,
    /// Components in place of the numeric columns.
    pub(super) components: Option<usize>,
    /// How expressions are taken that no list names; none when there are no expressions.
    pub(super) unlisted: Option<Unlisted>,
}

/// How expressions are taken that no list names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unlisted {
    pub number: NumberPlan,
    pub levels: LevelPlan,
}

/// How one column is taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ColumnPlan {
    pub name: String,
    pub take: Take,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Take {
    Number(NumberPlan),
    Levels(LevelPlan),
    Dates(DatePlan),
    Words { buckets: u32, binary: bool },
}

/// See [`NumericColumn`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NumberPlan {
    pub impute: Fill,
    pub scale: Scale,
    pub clip: Option<Clip>,
    pub bins: Option<u32>,
    pub log: bool,
    pub missing_indicator: bool,
    /// Whether each bin is a column.
    pub one_hot: bool,
}

/// What becomes of missing numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fill {
    With(Impute),
    /// They stay missing where training met some to learn from; elsewhere the mean stands in.
    AsMet,
}

/// See [`CategoricalColumn`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LevelPlan {
    pub encoding: Encoding,
    pub levels_max: usize,
    pub min_rows: u64,
    pub buckets: u32,
    pub smoothing: f64,
}

/// See [`DateColumn`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DatePlan {
    pub parts: Option<Vec<DatePart>>,
    pub cyclical: bool,
    pub scale: Scale,
    pub fill: Fill,
    pub missing_indicator: bool,
}

impl FeaturePlan {
    /// Fills in what the pipeline leaves open, for an algorithm that takes no missing numbers. Trees don't care for
    /// scale, and do better and faster with ordered levels; linear models need both scaling and one-hot. Levels have
    /// no one order for more than two classes.
    pub fn new(features: &Features, trees: bool, target: &Target) -> Result<FeaturePlan, FeatureError> {
        Defaults { features, trees, takes_missing: false, target }.plan()
    }

    /// The same for an algorithm, some of which take missing numbers.
    pub fn for_algorithm(
        features: &Features,
        algorithm: &Algorithm,
        target: &Target,
    ) -> Result<FeaturePlan, FeatureError> {
        let takes_missing = matches!(algorithm, Algorithm::GradientBoosting(_));
        Defaults { features, trees: grows_trees(algorithm), takes_missing, target }.plan()
    }
}

struct Defaults<'a> {
    features: &'a Features,
    trees: bool,
    takes_missing: bool,
    target: &'a Target,
}

impl Defaults<'_> {
    fn plan(&self) -> Result<FeaturePlan, FeatureError> {
        let features = self.features;
        let mut columns = Vec::new();
        for column in &features.numeric {
            let take = Take::Number(self.number(&column.settings())?);
            columns.push(ColumnPlan { name: column.column().to_owned(), take });
        }
        for column in &features.categorical {
            let take = Take::Levels(self.levels(&column.settings())?);
            columns.push(ColumnPlan { name: column.column().to_owned(), take });
        }
        for column in &features.dates {
            let take = Take::Dates(self.dates(&column.settings()));
            columns.push(ColumnPlan { name: column.column().to_owned(), take });
        }
        for column in &features.text {
            let TextColumn { buckets, binary, .. } = column.settings();
            let take = Take::Words { buckets: buckets.unwrap_or(WORD_BUCKETS).max(1), binary };
            columns.push(ColumnPlan { name: column.column().to_owned(), take });
        }
        Ok(FeaturePlan {
            columns,
            components: features.pca.as_ref().map(|pca| pca.components as usize),
            expressions: features.expressions.iter().map(|(name, sql)| (name.clone(), sql.clone())).collect(),
            unlisted: match features.expressions.keys().next() {
                Some(name) => Some(Unlisted {
                    number: self.number(&NumericColumn::plain(name))?,
                    levels: self.levels(&CategoricalColumn::plain(name))?,
                }),
                None => None,
            },
        })
    }

    fn scale(&self) -> Scale {
        self.features.scale.unwrap_or(if self.trees { Scale::None } else { Scale::Standard })
    }

    fn number(&self, column: &NumericColumn) -> Result<NumberPlan, FeatureError> {
        let refuse =
            |setting, reason, hint| Err(FeatureError::Setting { column: column.column.clone(), setting, reason, hint });
        let impute = match column.impute.or(self.features.impute) {
            Some(Impute::None) if !self.takes_missing => {
                return refuse(
                    "impute: none",
                    "leaves numbers missing, which only `gradient_boosting` can learn from",
                    "use `impute: mean`, `median` or `{ constant: 0 }`",
                );
            }
            Some(impute) => Fill::With(impute),
            None if self.takes_missing => Fill::AsMet,
            None => Fill::With(Impute::Mean),
        };
        if column.bins.is_some() && (column.scale.is_some() || column.log || column.clip.is_some()) {
            return refuse(
                "bins",
                "stands beside `scale`, `log` or `clip`, which would change nothing",
                "bins hold the same rows whatever the scale; remove one of the two",
            );
        }
        if column.bins.is_some_and(|bins| !(2..=255).contains(&bins)) {
            return refuse("bins", "must be between 2 and 255", "give it a number between 2 and 255");
        }
        let ordered = match column.clip {
            Some(Clip::Bounds([Some(low), Some(high)])) => low <= high,
            Some(Clip::Quantiles(clip)) => {
                let [low, high] = clip.quantiles;
                (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high) && low <= high
            }
            Some(Clip::Bounds(_)) | None => true,
        };
        if !ordered {
            return refuse("clip", "has its bounds the wrong way round", "write the lower bound first");
        }
        Ok(NumberPlan {
            impute,
            scale: column.scale.unwrap_or_else(|| self.scale()),
            clip: column.clip,
            bins: column.bins,
            log: column.log,
            missing_indicator: column.missing_indicator.unwrap_or(self.features.missing_indicator),
            one_hot: !self.trees,
        })
    }

    fn levels(&self, column: &CategoricalColumn) -> Result<LevelPlan, FeatureError> {
        let many_classes = self.target.outputs() > 1;
        let has_target = self.target.goal != Goal::Groups;
        let encoding = match column.encoding.or(self.features.encoding) {
            Some(encoding @ (Encoding::Ordered | Encoding::Target)) if many_classes => {
                let encoding = if encoding == Encoding::Target { "target" } else { "ordered" };
                let (target, classes) = (self.target.column.clone(), self.target.outputs());
                return Err(FeatureError::Order { encoding, target, classes });
            }
            Some(Encoding::Ordered | Encoding::Target) if !has_target => {
                return Err(FeatureError::Setting {
                    column: column.column.clone(),
                    setting: "encoding",
                    reason: "needs a target to order levels by, and groups have none",
                    hint: "use `one_hot`, `ordinal` or `hashed`",
                });
            }
            Some(encoding) => encoding,
            None if self.trees && !many_classes => Encoding::Ordered,
            None => Encoding::OneHot,
        };
        let smoothing = column.smoothing.unwrap_or(ORDER_PRIOR_ROWS);
        if !(smoothing.is_finite() && smoothing >= 0.0) {
            return Err(FeatureError::Setting {
                column: column.column.clone(),
                setting: "smoothing",
                reason: "must be a number of rows, 0 or more",
                hint: "20 is a good start",
            });
        }
        Ok(LevelPlan {
            encoding,
            levels_max: column.levels_max.unwrap_or(self.features.levels_max) as usize,
            min_rows: column.min_rows.unwrap_or(1),
            buckets: column.buckets.unwrap_or(HASH_BUCKETS).max(1),
            smoothing,
        })
    }

    fn dates(&self, column: &DateColumn) -> DatePlan {
        DatePlan {
            parts: column.parts.clone(),
            cyclical: column.cyclical.unwrap_or(!self.trees),
            scale: self.scale(),
            fill: if self.takes_missing { Fill::AsMet } else { Fill::With(Impute::Mean) },
            missing_indicator: self.features.missing_indicator,
        }
    }
}
