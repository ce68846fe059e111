//! Reads JSON objects in which no key is given twice.

use std::fmt;

use rivulet_events::repair;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Why JSON is no object that can be acted upon. Quotes none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No JSON, or something else than an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A key is given twice, so nobody knows which value was meant.
    #[error("a key is given twice in an object")]
    KeyTwice,
}

/// Reads an object, which may begin with a byte order mark. A key that is given twice, at any depth, is refused.
/// `serde_json` itself would take the last value: a consent that is revoked and granted in one object would be granted.
///
/// # Errors
/// See [`Unreadable`].
pub fn object(json: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    let json = json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json);
    let mut read = serde_json::from_slice(json);
    if read.is_err() {
        let mut repaired = json.to_vec();
        if repair::json(&mut repaired) {
            read = serde_json::from_slice(&repaired);
        }
    }
    match read {
        Ok(Unique(Value::Object(object))) => Ok(object),
        // `Unique` takes every value, so this can only be a key that is given twice.
        Err(error) if error.is_data() => Err(Unreadable::KeyTwice),
        _ => Err(Unreadable::NotAnObject),
    }
}

/// A value whose objects have each key once.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, _>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_what_it_is_anywhere_else_unless_a_key_is_given_twice() {
        for good in [
            "{}",
            "\u{feff} {\"a\": [{\"a\": 1}, {\"a\": -1}], \"b\": {\"a\": 1.5e300, \"A\": null}}",
            r#"{"a": true, "b": "\u00e9", "c": 18446744073709551615, "d": [[], {}]}"#,
        ] {
            let plain: Value = serde_json::from_str(good.trim_start_matches('\u{feff}')).unwrap();
            assert_eq!(
                object(good.as_bytes()).map(Value::from),
                Ok(plain),
                "{good}"
            );
        }
        // `serde_json` alone refuses these. `object` reads them, and makes of the number what no field can be.
        for (odd, read) in [
            (r#"{"\ud800": "a\udc00"}"#, json!({"\u{fffd}": "a\u{fffd}"})),
            (r#"{"a": 1e999}"#, json!({"a": []})),
        ] {
            assert_eq!(object(odd.as_bytes()).map(Value::from), Ok(read), "{odd}");
        }
        for twice in [
            r#"{"\ud800": 1, "\udfff": 1}"#,
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "\u0061": 2}"#,
            r#"{"a": {"b": [{"c": null, "c": null}]}}"#,
        ] {
            assert_eq!(
                object(twice.as_bytes()),
                Err(Unreadable::KeyTwice),
                "{twice}"
            );
        }
        let deep = [r#"{"a":"#.repeat(200), "1".to_owned(), "}".repeat(200)].concat();
        for none in ["", "[]", "1", "{", "{} {}", "\u{feff}\u{feff}{}", &deep] {
            assert_eq!(
                object(none.as_bytes()),
                Err(Unreadable::NotAnObject),
                "{none}"
            );
        }
        assert_eq!(object(b"{\"a\": \"\xff\"}"), Err(Unreadable::NotAnObject));
    }
}
