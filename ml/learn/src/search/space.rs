//! What may be tried: parameters, their values, and when they apply.
//!
//! People write a space as a map of names to parameters:
//!
//! ```yaml
//! estimator: { type: categorical, choices: [forest, boost] }
//! trees:     { type: integer, low: 50, high: 500, step: 50 }
//! rate:      { type: float, low: 0.01, high: 0.3, log: true, when: { estimator: [boost] } }
//! ```
//!
//! A parameter with `when` is active when every parameter named there is active and has one of the values
//! listed. Numbers are looked at in a *coordinate*: the value, or its logarithm with `log`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, Value};
use crate::chance::{Chance, named};

/// Parameters of a space at the most: past some dozens no search of affordable length finds its way.
pub const PARAMETERS_MAX: usize = 100;
/// Choices of a parameter at the most: trials are counted in hundreds, and each choice needs some.
pub const CHOICES_MAX: usize = 1_000;
/// Integers up to here are exact as 64-bit floating-point numbers, in which coordinates are computed.
pub const INTEGER_MAX: i64 = 1 << 53;

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// One of these, without an order.
    Categorical { choices: Vec<Value> },
    /// `low`, `low + step`, … up to `high`, both included; `high` is one of them.
    Integer { low: i64, high: i64, step: i64, log: bool },
    /// From `low` to `high`, both included; with a step as for integers.
    Float { low: f64, high: f64, step: Option<f64>, log: bool },
}

/// A parameter: its values and when it applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub domain: Domain,
    /// Names of other parameters and the values with which this one is active; all must hold.
    pub when: BTreeMap<String, Vec<Value>>,
}

/// All parameters, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, ParameterText>", into = "BTreeMap<String, ParameterText>")]
pub struct Space {
    parameters: BTreeMap<String, Parameter>,
    /// Names, each behind those that its `when` names.
    order: Vec<String>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Such as `rate.when.estimator`.
    pub path: String,
    pub text: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    pub complaints: Vec<Complaint>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, complaint) in self.complaints.iter().enumerate() {
            write!(f, "{}`{}` {}", if at > 0 { "; " } else { "" }, complaint.path, complaint.text)?;
        }
        Ok(())
    }
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Complaints(Vec<Complaint>);

impl Complaints {
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.0.push(Complaint { path: path.into(), text: text.into() });
    }

    pub fn result(self) -> Result<(), Invalid> {
        if self.0.is_empty() { Ok(()) } else { Err(Invalid { complaints: self.0 }) }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Categorical,
    Integer,
    Float,
}

/// A parameter as people write it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterText {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    low: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<Value>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    log: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    when: BTreeMap<String, Vec<Value>>,
}

impl TryFrom<BTreeMap<String, ParameterText>> for Space {
    type Error = Invalid;

    fn try_from(texts: BTreeMap<String, ParameterText>) -> Result<Space, Invalid> {
        let mut complaints = Complaints::default();
        let mut parameters = BTreeMap::new();
        for (name, text) in texts {
            let domain = text.domain(&name, &mut complaints);
            parameters.insert(name, Parameter { domain, when: text.when });
        }
        match complaints.result() {
            // What is said about a domain that couldn't be read would mislead, so the rest is looked at with
            // the complaints so far, and only those of the names kept.
            Err(mut invalid) => {
                let unread: BTreeSet<String> =
                    invalid.complaints.iter().filter_map(|c| c.path.split('.').next()).map(str::to_owned).collect();
                if let Err(more) = Space::new(parameters) {
                    let about = |complaint: &Complaint| unread.iter().any(|name| complaint.path.starts_with(name));
                    invalid.complaints.extend(more.complaints.into_iter().filter(|complaint| !about(complaint)));
                }
                Err(invalid)
            }
            Ok(()) => Space::new(parameters),
        }
    }
}

impl ParameterText {
    /// The domain, or a stand-in with complaints.
    fn domain(&self, name: &str, complaints: &mut Complaints) -> Domain {
        let set = [("low", &self.low), ("high", &self.high), ("step", &self.step)];
        match self.kind {
            Kind::Categorical => {
                for (field, value) in set {
                    if value.is_some() {
                        complaints.add(format!("{name}.{field}"), "is of numbers, and the parameter is categorical");
                    }
                }
                if self.log {
                    complaints.add(format!("{name}.log"), "is of numbers, and the parameter is categorical");
                }
                Domain::Categorical { choices: self.choices.clone() }
            }
            Kind::Integer | Kind::Float => {
                if !self.choices.is_empty() {
                    complaints.add(format!("{name}.choices"), "is of categorical parameters; give `low` and `high`");
                }
                for (field, value) in &set[..2] {
                    if value.is_none() {
                        complaints.add(format!("{name}.{field}"), "is missing");
                    }
                }
                if matches!(self.kind, Kind::Integer) {
                    let mut whole = |field: &str, value: &Option<Value>, default: i64| match value {
                        None => default,
                        Some(Value::Integer(value)) => *value,
                        Some(other) => {
                            complaints.add(format!("{name}.{field}"), format!("is a whole number, not `{other}`"));
                            default
                        }
                    };
                    let (low, high) = (whole("low", &self.low, 1), whole("high", &self.high, 1));
                    Domain::Integer { low, high, step: whole("step", &self.step, 1), log: self.log }
                } else {
                    let mut number = |field: &str, value: &Option<Value>, default: f64| match value {
                        None => default,
                        Some(Value::Integer(value)) => *value as f64,
                        Some(Value::Float(value)) => *value,
                        Some(other) => {
                            complaints.add(format!("{name}.{field}"), format!("is a number, not `{other}`"));
                            default
                        }
                    };
                    let (low, high) = (number("low", &self.low, 1.0), number("high", &self.high, 1.0));
                    let step = self.step.as_ref().map(|_| number("step", &self.step, 1.0));
                    Domain::Float { low, high, step, log: self.log }
                }
            }
        }
    }
}

impl From<Space> for BTreeMap<String, ParameterText> {
    fn from(space: Space) -> BTreeMap<String, ParameterText> {
        let text = |parameter: Parameter| {
            let nothing = || None::<Value>;
            let (kind, choices, low, high, step, log) = match parameter.domain {
                Domain::Categorical { choices } => (Kind::Categorical, choices, nothing(), None, None, false),
                Domain::Integer { low, high, step, log } => {
                    let step = (step != 1).then(|| step.into());
                    (Kind::Integer, Vec::new(), Some(low.into()), Some(high.into()), step, log)
                }
                Domain::Float { low, high, step, log } => {
                    (Kind::Float, Vec::new(), Some(low.into()), Some(high.into()), step.map(Value::from), log)
                }
            };
            ParameterText { kind, choices, low, high, step, log, when: parameter.when }
        };
        space.parameters.into_iter().map(|(name, parameter)| (name, text(parameter))).collect()
    }
}

impl Space {
    /// Checks the parameters. A `high` that isn't a whole number of steps above `low` is moved down to one.
    pub fn new(parameters: BTreeMap<String, Parameter>) -> Result<Space, Invalid> {
        let mut complaints = Complaints::default();
        if parameters.is_empty() || parameters.len() > PARAMETERS_MAX {
            complaints.add("space", format!("has {} parameters; 1 to {PARAMETERS_MAX} are possible", parameters.len()));
        }
        for (name, parameter) in &parameters {
            parameter.domain.check(name, &mut complaints);
            check_condition(name, parameter, &parameters, &mut complaints);
        }
        let order = order(&parameters, &mut complaints);
        complaints.result()?;
        let parameters = parameters
            .into_iter()
            .map(|(name, parameter)| (name, Parameter { domain: parameter.domain.on_steps(), ..parameter }))
            .collect();
        Ok(Space { parameters, order })
    }

    /// The parameters by name.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        &self.parameters
    }

    /// The parameters, each behind those that decide whether it is active.
    pub fn in_order(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.order.iter().map(|name| (name.as_str(), &self.parameters[name]))
    }

    /// An assignment at random: uniform over choices and coordinates. Each parameter has a stream of its own,
    /// so another parameter in the space doesn't move its values.
    pub fn sample(&self, seed: u64, trial: u64) -> Assignment {
        self.assign(|name, parameter, _| parameter.domain.sample(&mut Chance::stream(seed, &[trial, named(name)])))
    }

    /// An assignment of what `value` gives for each active parameter, which sees the values before it.
    pub fn assign(&self, mut value: impl FnMut(&str, &Parameter, &Assignment) -> Value) -> Assignment {
        let mut assignment = Assignment::default();
        for (name, parameter) in self.in_order() {
            if parameter.is_active(&assignment) {
                let value = value(name, parameter, &assignment);
                assignment.set(name, value);
            }
        }
        assignment
    }

    /// Whether an assignment has a possible value for each active parameter and nothing else.
    pub fn check(&self, assignment: &Assignment) -> Result<(), Invalid> {
        let mut complaints = Complaints::default();
        for (name, value) in assignment.iter() {
            match self.parameters.get(name) {
                None => complaints.add(name, "isn't a parameter of the space"),
                Some(parameter) if !parameter.is_active(assignment) => {
                    complaints.add(name, "has a value, and its `when` doesn't hold");
                }
                Some(parameter) if !parameter.domain.contains(value) => {
                    complaints.add(name, format!("can't be `{value}`"));
                }
                Some(_) => {}
            }
        }
        for (name, parameter) in &self.parameters {
            if assignment.get(name).is_none() && parameter.is_active(assignment) {
                complaints.add(name, "is missing");
            }
        }
        complaints.result()
    }
}

impl Parameter {
    /// A parameter that always applies.
    pub fn always(domain: Domain) -> Parameter {
        Parameter { domain, when: BTreeMap::new() }
    }

    /// Whether it applies, given the values of those that its `when` names.
    pub fn is_active(&self, assignment: &Assignment) -> bool {
        self.when.iter().all(|(name, values)| assignment.get(name).is_some_and(|value| values.contains(value)))
    }
}

impl Domain {
    fn check(&self, name: &str, complaints: &mut Complaints) {
        match self {
            Domain::Categorical { choices } => {
                if choices.is_empty() || choices.len() > CHOICES_MAX {
                    let text = format!("has {} values; 1 to {CHOICES_MAX} are possible", choices.len());
                    complaints.add(format!("{name}.choices"), text);
                }
                for (at, choice) in choices.iter().enumerate() {
                    if matches!(choice, Value::Float(value) if !value.is_finite()) {
                        complaints.add(format!("{name}.choices"), format!("has `{choice}`, which is no number"));
                    }
                    if choices[..at].contains(choice) {
                        complaints.add(format!("{name}.choices"), format!("has `{choice}` twice"));
                    }
                }
            }
            Domain::Integer { low, high, step, log } => {
                for (field, value) in [("low", low), ("high", high)] {
                    if value.unsigned_abs() > INTEGER_MAX as u64 {
                        let text = format!("is {value}; numbers up to {INTEGER_MAX} are possible");
                        complaints.add(format!("{name}.{field}"), text);
                    }
                }
                let text = [low.to_string(), high.to_string(), step.to_string()];
                check_range(name, text, low <= high, *step > 0, !log || *low > 0, complaints);
            }
            Domain::Float { low, high, step, log } => {
                for (field, value) in [("low", *low), ("high", *high), ("step", step.unwrap_or(1.0))] {
                    if !value.is_finite() {
                        complaints.add(format!("{name}.{field}"), format!("is `{value}`, which is no number"));
                        return;
                    }
                }
                let text = [low.to_string(), high.to_string(), step.unwrap_or(1.0).to_string()];
                check_range(
                    name,
                    text,
                    low <= high,
                    step.is_none_or(|step| step > 0.0),
                    !log || *low > 0.0,
                    complaints,
                );
                if step.is_some_and(|step| (high - low) / step > INTEGER_MAX as f64) || !(high - low).is_finite() {
                    complaints.add(format!("{name}.high"), "is too many steps above `low`");
                }
            }
        }
    }

    fn on_steps(self) -> Domain {
        match self {
            Domain::Integer { low, high, step, log } => {
                Domain::Integer { low, high: low + (high - low) / step * step, step, log }
            }
            Domain::Float { low, high, step: Some(step), log } => {
                // A thousandth of a step of room, since 0.1 + 2 × 0.1 isn't 0.3.
                let steps = ((high - low) / step + 1e-3).floor();
                Domain::Float { low, high: readable(low + steps * step), step: Some(step), log }
            }
            other => other,
        }
    }

    /// Whether this is a possible value.
    pub fn contains(&self, value: &Value) -> bool {
        match (self, value) {
            (Domain::Categorical { choices }, value) => choices.contains(value),
            (Domain::Integer { low, high, step, .. }, Value::Integer(value)) => {
                (low..=high).contains(&value) && (value - low) % step == 0
            }
            (Domain::Float { low, high, step, .. }, Value::Float(value)) => {
                let on_step = step.is_none_or(|step| {
                    let steps = (value - low) / step;
                    (steps - steps.round()).abs() < 1e-3
                });
                (low..=high).contains(&value) && on_step
            }
            (_, _) => false,
        }
    }

    /// How many values there are; none when they can't be counted.
    pub fn values(&self) -> Option<u64> {
        match self {
            Domain::Categorical { choices } => Some(choices.len() as u64),
            Domain::Integer { low, high, step, .. } => Some(((high - low) / step) as u64 + 1),
            Domain::Float { low, high, step: Some(step), .. } => Some(((high - low) / step).round() as u64 + 1),
            Domain::Float { low, high, step: None, .. } => (low == high).then_some(1),
        }
    }

    /// A value at random.
    pub fn sample(&self, chance: &mut Chance) -> Value {
        match self {
            Domain::Categorical { choices } => choices[chance.below(choices.len() as u64) as usize].clone(),
            Domain::Integer { .. } | Domain::Float { .. } => {
                let (low, high) = self.bounds();
                self.at(low + (high - low) * chance.unit())
            }
        }
    }

    /// The coordinate of a number; none for choices and for values of another type.
    pub fn coordinate(&self, value: &Value) -> Option<f64> {
        match (self, value) {
            (Domain::Integer { log, .. }, Value::Integer(value)) => Some(coordinate(*value as f64, *log)),
            (Domain::Float { log, .. }, Value::Float(value)) => Some(coordinate(*value, *log)),
            (_, _) => None,
        }
    }

    /// The smallest and the largest coordinate, half a step beyond the first and last value where there are
    /// steps: each value then has an equal share of a linear range. Zeros for choices.
    pub fn bounds(&self) -> (f64, f64) {
        match self {
            Domain::Categorical { .. } => (0.0, 0.0),
            Domain::Float { low, high, step: None, log } => (coordinate(*low, *log), coordinate(*high, *log)),
            Domain::Integer { low, high, step, log } => {
                (cell(*low as f64, *step as f64, *log).0, cell(*high as f64, *step as f64, *log).1)
            }
            Domain::Float { low, high, step: Some(step), log } => {
                (cell(*low, *step, *log).0, cell(*high, *step, *log).1)
            }
        }
    }

    /// The coordinates that become this value: none where each has its own value, and for choices.
    pub fn cell(&self, value: &Value) -> Option<(f64, f64)> {
        match (self, value) {
            (Domain::Integer { step, log, .. }, Value::Integer(value)) => Some(cell(*value as f64, *step as f64, *log)),
            (Domain::Float { step: Some(step), log, .. }, Value::Float(value)) => Some(cell(*value, *step, *log)),
            (_, _) => None,
        }
    }

    /// The value nearest to a coordinate. The first of choices.
    pub fn at(&self, at: f64) -> Value {
        let value = |log: &bool| if *log { at.exp() } else { at };
        match self {
            Domain::Categorical { choices } => choices[0].clone(),
            Domain::Integer { low, high, step, log } => {
                let steps = ((value(log) - *low as f64) / *step as f64).round();
                let last = (high - low) / step;
                Value::Integer(low + steps.clamp(0.0, last as f64) as i64 * step)
            }
            Domain::Float { low, high, step: Some(step), log } => {
                let steps = ((value(log) - low) / step).round();
                Value::Float(readable(low + steps.max(0.0) * step).clamp(*low, *high))
            }
            Domain::Float { low, high, step: None, log } => Value::Float(readable(value(log)).clamp(*low, *high)),
        }
    }
}

fn coordinate(value: f64, log: bool) -> f64 {
    if log { value.ln() } else { value }
}

/// Coordinates up to half a step below and above. Where half a step below isn't positive, the logarithm is
/// taken of half the value.
fn cell(value: f64, step: f64, log: bool) -> (f64, f64) {
    let below = value - step / 2.0;
    let below = if log && below <= 0.0 { value / 2.0 } else { below };
    (coordinate(below, log), coordinate(value + step / 2.0, log))
}

/// The number of 15 digits nearest to this one, which people can read: 0.3 for 0.1 + 2 × 0.1.
fn readable(value: f64) -> f64 {
    format!("{value:.14e}").parse().unwrap_or(value)
}

fn check_range(
    name: &str,
    [low, high, step]: [String; 3],
    ordered: bool,
    step_fits: bool,
    log_fits: bool,
    complaints: &mut Complaints,
) {
    if !ordered {
        complaints.add(format!("{name}.high"), format!("is {high}, below `low`, which is {low}"));
    }
    if !step_fits {
        complaints.add(format!("{name}.step"), format!("is more than zero, not {step}"));
    }
    if !log_fits {
        complaints.add(format!("{name}.low"), format!("is more than zero with `log`, not {low}"));
    }
}

fn check_condition(
    name: &str,
    parameter: &Parameter,
    parameters: &BTreeMap<String, Parameter>,
    complaints: &mut Complaints,
) {
    for (other, values) in &parameter.when {
        let path = format!("{name}.when.{other}");
        let Some(parent) = parameters.get(other) else {
            complaints.add(path, "isn't a parameter of the space");
            continue;
        };
        if matches!(parent.domain, Domain::Float { .. }) {
            complaints.add(path, format!("needs single values, and `{other}` is a float"));
            continue;
        }
        if values.is_empty() {
            complaints.add(path.clone(), "lists no value, so the parameter would never be active");
        }
        for value in values.iter().filter(|value| !parent.domain.contains(value)) {
            complaints.add(path.clone(), format!("lists `{value}`, which `{other}` can't be"));
        }
    }
}

/// Names, each behind those that its `when` names, else in the order of names.
fn order(parameters: &BTreeMap<String, Parameter>, complaints: &mut Complaints) -> Vec<String> {
    let mut placed = BTreeSet::new();
    let mut order = Vec::with_capacity(parameters.len());
    loop {
        let before = order.len();
        for (name, parameter) in parameters {
            let known = |other: &String| placed.contains(other) || !parameters.contains_key(other);
            if !placed.contains(name) && parameter.when.keys().all(known) {
                placed.insert(name.clone());
                order.push(name.clone());
            }
        }
        if order.len() == before {
            break;
        }
    }
    for name in parameters.keys().filter(|name| !placed.contains(*name)) {
        complaints.add(format!("{name}.when"), "depends on itself through others");
    }
    order
}
