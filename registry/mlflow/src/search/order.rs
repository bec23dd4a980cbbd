//! Orders: `name DESC`, `` metrics.`a b` ASC ``. What isn't there comes last, whichever way the rest goes.

use std::cmp::Ordering;

use super::filter::{Dialect, Subject, subject};
use super::token::{Part, Token, tokens};
use crate::refusal::Refusal;

/// Clauses of an order. Each is another column to sort by.
const ORDERS_MAX: usize = 20;

/// One column to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub subject: Subject,
    pub ascending: bool,
}

/// What something is sorted by: numbers before what isn't one, and nothing after all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Number(f64),
    Text(String),
    Nothing,
}

/// Reads orders.
pub(crate) fn parse_orders(texts: &[String], dialect: &Dialect) -> Result<Vec<Order>, Refusal> {
    if texts.len() > ORDERS_MAX {
        return Err(Refusal::invalid(format!("`order_by` may have up to {ORDERS_MAX} fields")));
    }
    let mut orders: Vec<Order> = Vec::new();
    for text in texts {
        let order = parse_order(text, dialect)?;
        if orders.iter().any(|known| known.subject == order.subject) {
            return Err(Refusal::invalid(format!("`order_by` contains duplicate fields: {texts:?}")));
        }
        orders.push(order);
    }
    Ok(orders)
}

fn parse_order(text: &str, dialect: &Dialect) -> Result<Order, Refusal> {
    let bad = || Refusal::invalid(format!("Invalid order_by clause '{text}'. Could not be parsed."));
    let tokens = tokens(text).map_err(|_| bad())?;
    let (parts, ascending) = match &tokens[..] {
        [Token::Name(parts)] => (parts, true),
        [Token::Name(parts), Token::Name(word)] => match &word[..] {
            [Part { text, quote: None }] if text.eq_ignore_ascii_case("asc") => (parts, true),
            [Part { text, quote: None }] if text.eq_ignore_ascii_case("desc") => (parts, false),
            _ => return Err(Refusal::invalid(format!("Invalid ordering key in order_by clause '{text}'."))),
        },
        _ => return Err(bad()),
    };
    Ok(Order { subject: subject(parts, dialect, true)?, ascending })
}

/// Compares by some keys, one a clause.
pub(crate) fn by_clauses(orders: &[Order], left: &[Key], right: &[Key]) -> Ordering {
    let keys = left.iter().zip(right).zip(orders);
    keys.map(|((left, right), order)| compare(left, right, order.ascending))
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn compare(left: &Key, right: &Key, ascending: bool) -> Ordering {
    let class = |key: &Key| match key {
        Key::Number(number) if number.is_nan() => 2,
        Key::Number(_) => 0,
        Key::Text(_) => 1,
        Key::Nothing => 3,
    };
    let within = match (left, right) {
        (Key::Number(left), Key::Number(right)) => left.partial_cmp(right).unwrap_or(Ordering::Equal),
        (Key::Text(left), Key::Text(right)) => left.cmp(right),
        _ => Ordering::Equal,
    };
    class(left).cmp(&class(right)).then(if ascending { within } else { within.reverse() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect {
        text_attributes: &["name"],
        number_attributes: &["start_time"],
        lists: &[],
        runs: true,
        nulls: true,
        quoted_numbers: false,
    };

    fn orders(texts: &[&str]) -> Result<Vec<Order>, Refusal> {
        parse_orders(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &DIALECT)
    }

    #[test]
    fn orders_are_read() {
        let read = orders(&["name", "start_time desc", "metrics.`a b` ASC", "params.x DESC"]).expect("read");
        let ways: Vec<bool> = read.iter().map(|order| order.ascending).collect();
        assert_eq!(ways, [true, false, true, false]);
        assert_eq!(read[2].subject, Subject::Metric("a b".to_owned()));
        for bad in ["", "foo", "name up", "name desc desc", "1", "name, start_time", "dataset.name"] {
            assert!(orders(&[bad]).is_err(), "{bad}");
        }
        assert!(orders(&["name", "name desc"]).is_err());
    }

    #[test]
    fn what_is_not_there_comes_last() {
        let down = orders(&["metrics.a desc"]).expect("read");
        let up = orders(&["metrics.a"]).expect("read");
        let mut keys = vec![Key::Nothing, Key::Number(1.0), Key::Number(f64::NAN), Key::Number(2.0)];
        let sort = |keys: &mut Vec<Key>, orders: &[Order]| {
            keys.sort_by(|left, right| by_clauses(orders, std::slice::from_ref(left), std::slice::from_ref(right)));
            format!("{keys:?}")
        };
        assert_eq!(sort(&mut keys, &down), "[Number(2.0), Number(1.0), Number(NaN), Nothing]");
        assert_eq!(sort(&mut keys, &up), "[Number(1.0), Number(2.0), Number(NaN), Nothing]");
    }
}
