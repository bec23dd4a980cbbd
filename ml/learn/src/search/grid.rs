//! All points of a space.

use super::assignment::{Assignment, Value};
use super::space::{Domain, Parameter, Space};

/// Points of a grid at the most: all are held in memory, and no budget visits more.
pub const POINTS_MAX: usize = 100_000;

/// Every assignment of the space, where numbers with more than `values_max` values take that many, spaced
/// evenly over their coordinate and with both ends. None when there are more than `points_max` points.
pub fn points(space: &Space, values_max: u32, points_max: usize) -> Option<Vec<Assignment>> {
    let mut points = vec![Assignment::default()];
    for (name, parameter) in space.in_order() {
        points = expand(points, name, parameter, values_max, points_max)?;
    }
    Some(points)
}

fn expand(
    points: Vec<Assignment>,
    name: &str,
    parameter: &Parameter,
    values_max: u32,
    points_max: usize,
) -> Option<Vec<Assignment>> {
    let active = points.iter().filter(|point| parameter.is_active(point)).count();
    if active == 0 {
        return Some(points);
    }
    let count = parameter.domain.values().unwrap_or(u64::MAX);
    let count =
        if matches!(parameter.domain, Domain::Categorical { .. }) { count } else { count.min(values_max.into()) };
    let total = (points.len() - active) as u64 + (active as u64).saturating_mul(count);
    if total > points_max as u64 {
        return None;
    }
    let values = values(&parameter.domain, count);
    let mut expanded = Vec::with_capacity(total as usize);
    for point in points {
        if !parameter.is_active(&point) {
            expanded.push(point);
            continue;
        }
        for value in &values {
            let mut point = point.clone();
            point.set(name, value.clone());
            expanded.push(point);
        }
    }
    Some(expanded)
}

/// `count` values of a domain, without repeats.
fn values(domain: &Domain, count: u64) -> Vec<Value> {
    let (low, high) = match domain {
        Domain::Categorical { choices } => return choices.clone(),
        Domain::Integer { low, step, .. } if domain.values() == Some(count) => {
            return (0..count).map(|at| Value::Integer(low + at as i64 * step)).collect();
        }
        Domain::Float { low, step: Some(step), .. } if domain.values() == Some(count) => {
            // Through a coordinate, so that a value is the very number that sampling gives.
            let value = |at: u64| domain.coordinate(&Value::Float(low + at as f64 * step)).map(|at| domain.at(at));
            return (0..count).filter_map(value).collect();
        }
        Domain::Integer { low, high, .. } => (Value::Integer(*low), Value::Integer(*high)),
        Domain::Float { low, high, .. } => (Value::Float(*low), Value::Float(*high)),
    };
    let (Some(first), Some(last)) = (domain.coordinate(&low), domain.coordinate(&high)) else {
        return Vec::new();
    };
    let spacing = (last - first) / (count.max(2) - 1) as f64;
    let mut values: Vec<Value> = (0..count).map(|at| domain.at(first + spacing * at as f64)).collect();
    values.dedup();
    values
}
