//! What follows from a message alone: its key, the id of its effect, and where that goes.

use lapin::message::Delivery;
use lapin::types::AMQPValue;
use serde_json::Value;

use super::order::Key;
use crate::letter;

/// Bytes of message ids and routing keys, by AMQP.
const SHORT_BYTES_MAX: usize = 255;
/// The header in which RabbitMQ has a message's place in a stream.
const OFFSET: &str = "x-stream-offset";

/// What says which messages belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// Nothing: no order is kept.
    Nothing,
    /// A header of the message.
    Header(String),
    /// A column of the request, by its first row. For bodies that are JSON throughout.
    Column(String),
    /// The routing key with which the message came.
    RoutingKey,
}

impl KeyOf {
    /// A message's key. Messages that don't have what was asked for share one, and so keep their order too.
    pub(super) fn of(&self, delivery: &Delivery) -> Key {
        let text = match self {
            KeyOf::Nothing => return None,
            KeyOf::Header(name) => letter::header(&delivery.properties, name),
            KeyOf::Column(name) => column(&delivery.data, name),
            KeyOf::RoutingKey => Some(delivery.routing_key.to_string()),
        };
        Some(text.unwrap_or_default().into_bytes().into())
    }
}

/// The first value of an input of a V2 request.
fn column(body: &[u8], name: &str) -> Option<String> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let inputs = request.get("inputs")?.as_array()?;
    let mut value = inputs.iter().find(|input| input.get("name").is_some_and(|found| found == name))?.get("data")?;
    while let Value::Array(values) = value {
        value = values.first()?;
    }
    Some(value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
}

/// A message's place in a stream.
pub(super) fn offset(delivery: &Delivery) -> Option<u64> {
    match delivery.properties.headers().as_ref()?.inner().get(OFFSET)? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}

/// The id of a message's effect: the same whenever and by whomever the message is scored, and another for each source. One that has neither an
/// id nor a place in a stream can't be known again, and has none. A stream that was `made` anew has its places again, for
/// other messages.
pub(super) fn effect_id(stream: &str, queue: &str, made: u64, delivery: &Delivery) -> Option<String> {
    let id = match (delivery.properties.message_id(), offset(delivery)) {
        (Some(id), _) if !id.as_str().is_empty() => format!("{stream}/{queue}/id:{id}"),
        (_, Some(offset)) if made == 0 => format!("{stream}/{queue}/{offset}"),
        (_, Some(offset)) => format!("{stream}/{queue}/{made}:{offset}"),
        _ => return None,
    };
    if id.len() <= SHORT_BYTES_MAX {
        return Some(id);
    }
    Some(letter::sha256(id.as_bytes()))
}

/// A routing key with places for what a message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingKey(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key,
    Model,
    RoutingKey,
}

/// Why a text is no template of routing keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no routing key: it may have `{{key}}`, `{{model}}` and `{{routing_key}}`, and no other braces")]
pub struct RoutingKeyError {
    text: String,
}

impl std::str::FromStr for RoutingKey {
    type Err = RoutingKeyError;

    fn from_str(text: &str) -> Result<RoutingKey, RoutingKeyError> {
        let wrong = || RoutingKeyError { text: text.to_owned() };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(wrong)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "key" => Part::Key,
                "model" => Part::Model,
                "routing_key" => Part::RoutingKey,
                _ => return Err(wrong()),
            });
            rest = after;
        }
        if rest.contains('}') || parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err(wrong());
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(RoutingKey(parts))
    }
}

impl RoutingKey {
    /// The routing key of one message; nothing when it is longer than AMQP has room for.
    pub fn filled(&self, key: &str, model: &str, routing_key: &str) -> Option<String> {
        let part = |part: &Part| -> String {
            match part {
                Part::Text(text) => text.clone(),
                Part::Key => key.to_owned(),
                Part::Model => model.to_owned(),
                Part::RoutingKey => routing_key.to_owned(),
            }
        };
        let filled: String = self.0.iter().map(part).collect();
        (filled.len() <= SHORT_BYTES_MAX).then_some(filled)
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldTable;

    use super::*;

    #[test]
    fn a_routing_key_is_filled_with_what_a_message_has() {
        let template: RoutingKey = "scores.{model}.{key}".parse().unwrap();
        assert_eq!(template.filled("k 1", "m", "r").as_deref(), Some("scores.m.k 1"));
        assert_eq!("{routing_key}".parse::<RoutingKey>().unwrap().filled("k", "m", "r").as_deref(), Some("r"));
        assert_eq!("".parse::<RoutingKey>().unwrap().filled("k", "m", "r").as_deref(), Some(""));
        assert_eq!(template.filled(&"k".repeat(250), "m", "r"), None);
        for wrong in ["{", "}", "a{b}", "{key", "key}", "a}{key}"] {
            assert!(wrong.parse::<RoutingKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_source_and_each_message_has_ids_of_its_own() {
        let delivery = |id: Option<&str>, offset: Option<i64>| {
            let mut headers = FieldTable::default();
            if let Some(offset) = offset {
                headers.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
            }
            let mut properties = BasicProperties::default().with_headers(headers);
            if let Some(id) = id {
                properties = properties.with_message_id(id.into());
            }
            let mut delivery = Delivery::mock(1, "".into(), "".into(), false, Vec::new());
            delivery.properties = properties;
            delivery
        };
        let id = |queue, made, delivery| effect_id("s", queue, made, &delivery);
        assert_eq!(id("a", 0, delivery(Some("7"), None)).as_deref(), Some("s/a/id:7"));
        assert_eq!(id("b", 0, delivery(Some("7"), Some(3))).as_deref(), Some("s/b/id:7"));
        assert_eq!(id("a", 0, delivery(None, Some(7))).as_deref(), Some("s/a/7"));
        assert_eq!(id("a", 2, delivery(None, Some(7))).as_deref(), Some("s/a/2:7"));
        assert_eq!(id("a", 0, delivery(None, None)), None);
        assert_eq!(id(&"q".repeat(255), 0, delivery(None, Some(7))).unwrap().len(), 64);
    }

    #[test]
    fn a_column_is_the_first_value_of_an_input() {
        let body = br#"{"inputs":[{"name":"a","data":[1]},{"name":"b","data":[["x"],["y"]]},{"name":"c","data":[]}]}"#;
        assert_eq!(column(body, "a").as_deref(), Some("1"));
        assert_eq!(column(body, "b").as_deref(), Some("x"));
        assert_eq!(column(body, "c"), None);
        assert_eq!(column(b"{", "a"), None);
    }
}
