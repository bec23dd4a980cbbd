//! Features that a pipeline leaves to be found in the profile of the rows.

use gristmill_protocol::pipeline::Features;
use gristmill_protocol::pipeline::roles::{Role, role};
use gristmill_protocol::pipeline::steps::Listed;

use crate::profile::TableProfile;

/// The features with the columns that no list names added to the lists that suit them. `others` are columns that are
/// no features: the target, the weights.
pub fn infer(features: &Features, profile: &TableProfile, others: &[&str]) -> Features {
    let mut inferred = Features { infer: false, ..features.clone() };
    let listed: Vec<String> = features.listed().map(str::to_owned).collect();
    for column in &profile.columns {
        if listed.contains(&column.name) || others.contains(&column.name.as_str()) {
            continue;
        }
        let name = column.name.clone();
        match role(column.kind, profile.rows, column.nulls, column.distinct) {
            Role::Numeric => inferred.numeric.push(Listed::Name(name)),
            Role::Categorical => inferred.categorical.push(Listed::Name(name)),
            Role::Dates => inferred.dates.push(Listed::Name(name)),
            Role::Left(_) => {}
        }
    }
    inferred
}
