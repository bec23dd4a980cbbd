//! Days and points in time taken apart: parts as numbers, or as a sine and a cosine where they come round again.

use std::f64::consts::TAU;

use gristmill_protocol::pipeline::ColumnType;
use gristmill_protocol::pipeline::steps::{DatePart, Scale};
use serde::{Deserialize, Serialize};

use super::plan::{DatePlan, Fill};
use super::{Feature, FeatureError, Output, flag_output};
use crate::dates::{civil_from_days, days_from_civil};
use crate::target::Moments;

const DAY_SECONDS: f64 = 86_400.0;

/// How a part becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wave {
    /// As it is.
    Whole,
    /// The sine of its share of the way round.
    Sine,
    Cosine,
}

/// One column made of a day or a point in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DateOutput {
    pub part: DatePart,
    pub wave: Wave,
    /// What stands in for a missing one, before scaling; none leaves it missing.
    pub fill: Option<f64>,
    pub center: f64,
    pub scale: f64,
}

impl DateOutput {
    /// `value` counts days (of dates) or seconds (of points in time) since 1970. NaN for what stays missing.
    pub fn apply(&self, value: Option<f64>, kind: ColumnType) -> f64 {
        match value.map(|value| number(self.part, self.wave, value, kind)).or(self.fill) {
            Some(value) => (value - self.center) / self.scale,
            None => f64::NAN,
        }
    }

    pub fn is_sound(&self) -> bool {
        self.fill.is_none_or(f64::is_finite)
            && self.center.is_finite()
            && self.scale.is_finite()
            && self.scale > 0.0
            && (self.wave == Wave::Whole || round(self.part).is_some())
    }
}

/// The least value of a part and how many there are before it begins again.
fn round(part: DatePart) -> Option<(f64, f64)> {
    match part {
        DatePart::Year => None,
        DatePart::Month => Some((1.0, 12.0)),
        DatePart::Day => Some((1.0, 31.0)),
        // The mean length of a year of the Gregorian calendar.
        DatePart::DayOfYear => Some((1.0, 365.2425)),
        DatePart::Weekday => Some((0.0, 7.0)),
        DatePart::Hour => Some((0.0, 24.0)),
        DatePart::Minute => Some((0.0, 60.0)),
    }
}

fn part_name(part: DatePart) -> &'static str {
    match part {
        DatePart::Year => "year",
        DatePart::Month => "month",
        DatePart::Day => "day",
        DatePart::DayOfYear => "day_of_year",
        DatePart::Weekday => "weekday",
        DatePart::Hour => "hour",
        DatePart::Minute => "minute",
    }
}

fn number(part: DatePart, wave: Wave, value: f64, kind: ColumnType) -> f64 {
    let (days, seconds) = match kind {
        ColumnType::Timestamp => {
            let day = (value / DAY_SECONDS).floor();
            (day as i64, value - day * DAY_SECONDS)
        }
        _ => (value as i64, 0.0),
    };
    let (year, month, day) = civil_from_days(days);
    let number = match part {
        DatePart::Year => year as f64,
        DatePart::Month => month as f64,
        DatePart::Day => day as f64,
        DatePart::DayOfYear => (days - days_from_civil(year, 1, 1) + 1) as f64,
        // 1970 began on a Thursday.
        DatePart::Weekday => (days + 3).rem_euclid(7) as f64,
        DatePart::Hour => (seconds / 3_600.0).floor(),
        DatePart::Minute => (seconds / 60.0).floor() % 60.0,
    };
    let angle = || round(part).map_or(0.0, |(least, count)| TAU * (number - least) / count);
    match wave {
        Wave::Whole => number,
        Wave::Sine => angle().sin(),
        Wave::Cosine => angle().cos(),
    }
}

/// What was seen of a column of days or points in time.
#[derive(Clone, Debug)]
pub(super) struct DateSums {
    plan: DatePlan,
    kind: ColumnType,
    parts: Vec<(DatePart, Wave, Moments)>,
    pub missing: u64,
    pub rows: u64,
}

impl DateSums {
    pub fn new(plan: &DatePlan, name: &str, kind: ColumnType) -> Result<DateSums, FeatureError> {
        let mut parts = match (&plan.parts, kind) {
            (Some(parts), _) => parts.clone(),
            (None, ColumnType::Timestamp) => {
                vec![DatePart::Year, DatePart::Month, DatePart::Day, DatePart::Weekday, DatePart::Hour]
            }
            (None, _) => vec![DatePart::Year, DatePart::Month, DatePart::Day, DatePart::Weekday],
        };
        parts.sort_unstable();
        parts.dedup();
        if kind == ColumnType::Date && parts.iter().any(|part| *part >= DatePart::Hour) {
            return Err(FeatureError::Setting {
                column: name.to_owned(),
                setting: "parts",
                reason: "asks for the time of day, and days have none",
                hint: "take `hour` and `minute` of points in time only",
            });
        }
        let waves = |part: DatePart| match plan.cyclical && round(part).is_some() {
            true => [Some(Wave::Sine), Some(Wave::Cosine)],
            false => [Some(Wave::Whole), None],
        };
        let parts = parts
            .into_iter()
            .flat_map(|part| waves(part).into_iter().flatten().map(move |wave| (part, wave, Moments::default())));
        Ok(DateSums { plan: plan.clone(), kind, parts: parts.collect(), missing: 0, rows: 0 })
    }

    pub fn push(&mut self, values: impl Iterator<Item = Option<f64>>) {
        for value in values {
            self.rows += 1;
            match value {
                Some(value) => {
                    for (part, wave, moments) in &mut self.parts {
                        moments.add(number(*part, *wave, value, self.kind));
                    }
                }
                None => self.missing += 1,
            }
        }
    }

    pub fn merge(&mut self, later: &DateSums) {
        for ((_, _, moments), (_, _, more)) in self.parts.iter_mut().zip(&later.parts) {
            moments.merge(more);
        }
        self.missing += later.missing;
        self.rows += later.rows;
    }

    /// Columns such as `at.month`, or `at.month.sin` and `at.month.cos`.
    pub fn fit(self, name: &str, outputs: &mut Vec<Output>) -> Feature {
        let mut columns = Vec::new();
        for (part, wave, mut moments) in self.parts {
            let fill = match self.plan.fill {
                Fill::AsMet if self.missing > 0 => None,
                _ => Some(moments.mean),
            };
            moments.merge(&Moments::repeated(moments.mean, if fill.is_some() { self.missing } else { 0 }));
            // Sines and cosines are of one size already.
            let (center, scale) = match (self.plan.scale, wave) {
                (Scale::None, _) | (_, Wave::Sine | Wave::Cosine) => (0.0, 1.0),
                (Scale::MinMax, Wave::Whole) => (moments.min, moments.max - moments.min),
                (Scale::Standard | Scale::Robust, Wave::Whole) => (moments.mean, moments.std()),
            };
            let scale = if scale > 0.0 { scale } else { 1.0 };
            let wave_name = match wave {
                Wave::Whole => "",
                Wave::Sine => ".sin",
                Wave::Cosine => ".cos",
            };
            outputs.push(Output {
                name: format!("{name}.{}{wave_name}", part_name(part)),
                mean: (moments.mean - center) / scale,
                std: moments.std() / scale,
                flag: false,
            });
            columns.push(DateOutput { part, wave, fill, center, scale });
        }
        let indicator = self.plan.missing_indicator && self.missing > 0;
        if indicator {
            outputs.push(flag_output(format!("{name}=<missing>"), self.missing, self.rows));
        }
        Feature::Dates { columns, indicator }
    }
}
