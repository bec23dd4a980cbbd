//! Searching as MLflow does it: filters in its little SQL, orders, and pages.

mod filter;
mod like;
mod order;
mod page;
mod token;

pub(crate) use filter::{Clause, Comparator, Dialect, Found, Searched, Subject, Value, parse};
pub(crate) use order::{Key, Order, by_clauses, parse_orders};
pub(crate) use page::{Page, token_of};
