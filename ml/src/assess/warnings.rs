//! What a person should look at, whatever the gates say.

use std::collections::BTreeMap;

use gristmill_protocol::pipeline::Learning;

use super::Assessment;
use super::leakage::Measure;
use crate::metrics::{self, Direction, MetricInterval};

pub(super) fn of(all: &BTreeMap<String, f64>, found: &Assessment, learning: Learning) -> Vec<String> {
    let mut warnings = Vec::new();
    for leak in &found.leaks {
        let what = match leak.measure {
            Measure::Auc => format!("has an area under the ROC curve of {:.3} by itself", leak.value),
            Measure::Variance => format!("explains {:.1} % of the target by itself", leak.value * 100.0),
            Measure::Information => format!("shares {:.1} % of its information with the target", leak.value * 100.0),
        };
        warnings.push(format!("`{}` {what}: is it known before what it predicts?", leak.name));
    }
    for slice in &found.slices {
        if slice.rows == 0 {
            warnings.push(format!("the slice `{}` has no rows", slice.name));
        }
        warnings.extend(worse(all, slice, learning));
    }
    for by in &found.fairness {
        let (column, least) = (&by.column, by.min_rows);
        let small = by.found.groups.iter().filter(|group| !group.compared).count();
        if small > 0 {
            let groups = by.found.groups.len();
            warnings.push(format!("{small} of {groups} groups of `{column}` have fewer than {least} rows to compare"));
        }
        if by.found.four_fifths == Some(false) {
            let lowest = by.found.groups.iter().filter(|group| group.impact_ratio.is_some());
            let lowest = lowest.min_by(|a, b| a.impact_ratio.unwrap_or(1.0).total_cmp(&b.impact_ratio.unwrap_or(1.0)));
            if let Some(group) = lowest {
                warnings.push(format!(
                    "`{}` of `{column}` is decided `{}` {:.2} times as often as the group where that is most frequent, \
                     less than four fifths",
                    group.name,
                    by.positive,
                    group.impact_ratio.unwrap_or(1.0)
                ));
            }
        }
    }
    warnings
}

/// A slice that is worse than all rows by more than its rows explain, by the metric that decides between models.
fn worse(all: &BTreeMap<String, f64>, slice: &super::Slice, learning: Learning) -> Option<String> {
    let metric = ["roc_auc", "accuracy", "rmse"].into_iter().find(|name| all.contains_key(*name))?;
    let (overall, here) = (*all.get(metric)?, *slice.metrics.get(metric)?);
    let MetricInterval { low, high } = *slice.intervals.get(metric)?;
    let surely = match metrics::direction(learning, metric).ok()? {
        Direction::Larger => high < overall,
        Direction::Smaller => low > overall,
        Direction::NearerToZero => false,
    };
    let name = &slice.name;
    surely.then(|| {
        format!("in the slice `{name}` `{metric}` is {here:.4} ({low:.4} to {high:.4}), and {overall:.4} on all rows")
    })
}
