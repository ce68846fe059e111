//! What the product backend declares of families, read from JSON: the same rules for the HTTP API
//! and for the import.

use std::borrow::Cow;

use rivulet_events::{ParentId, data::AgeGroup};
use rivulet_zones::Zone;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::families::Consents;

/// A field that breaks its rule. Quotes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct Invalid {
    /// JSON pointer to the field.
    pub pointer: Cow<'static, str>,
    /// What it must be.
    pub message: &'static str,
}

fn invalid(pointer: impl Into<Cow<'static, str>>, message: &'static str) -> Invalid {
    Invalid {
        pointer: pointer.into(),
        message,
    }
}

/// `timezone` of a parent: a name of the IANA database that this program knows.
///
/// # Errors
/// It is absent or none.
pub fn timezone(object: &Map<String, Value>) -> Result<Zone, Invalid> {
    object
        .get("timezone")
        .and_then(Value::as_str)
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| {
            invalid(
                "/timezone",
                "must be the name of an IANA time zone, such as Europe/Rome",
            )
        })
}

/// `consents` of a parent. `null` is the same as left out. A name that is none of the three is refused: otherwise a
/// revocation with a misspelt name would be answered as done.
///
/// # Errors
/// It is no object of booleans.
pub fn consents(object: &Map<String, Value>) -> Result<Consents, Invalid> {
    let mut consents = Consents::default();
    let given = match object.get("consents") {
        None | Some(Value::Null) => return Ok(consents),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(invalid("/consents", "must be an object")),
    };
    for (name, value) in given {
        let pointer = || format!("/consents/{}", name.replace('~', "~0").replace('/', "~1"));
        let granted = match value {
            Value::Null => None,
            Value::Bool(granted) => Some(*granted),
            _ => return Err(invalid(pointer(), "must be true or false")),
        };
        match name.as_str() {
            "coppa" => consents.coppa = granted,
            "audio" => consents.audio = granted,
            "analytics" => consents.analytics = granted,
            _ => {
                let message = "unknown consent; there are coppa, audio and analytics";
                return Err(invalid(pointer(), message));
            }
        }
    }
    Ok(consents)
}

/// `streaks` of a parent: whether the family's page shows them. `null` is the same as left out.
///
/// # Errors
/// It is no boolean.
pub fn streaks(object: &Map<String, Value>) -> Result<Option<bool>, Invalid> {
    match object.get("streaks") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(shown)) => Ok(Some(*shown)),
        Some(_) => Err(invalid("/streaks", "must be true or false")),
    }
}

/// A UUID in the field `name`.
///
/// # Errors
/// It is absent or none.
pub fn id(object: &Map<String, Value>, name: &'static str) -> Result<Uuid, Invalid> {
    object
        .get(name)
        .and_then(Value::as_str)
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| invalid(format!("/{name}"), "must be a UUID"))
}

/// `parent_id` of a child.
///
/// # Errors
/// It is absent or no UUID.
pub fn parent_id(object: &Map<String, Value>) -> Result<ParentId, Invalid> {
    id(object, "parent_id").map(ParentId::new)
}

/// `age_group` of a child.
///
/// # Errors
/// It is absent or none of the three.
pub fn age_group(object: &Map<String, Value>) -> Result<AgeGroup, Invalid> {
    object
        .get("age_group")
        .and_then(Value::as_str)
        .and_then(AgeGroup::from_word)
        .ok_or_else(|| {
            invalid(
                "/age_group",
                "must be one of wonder_cubs, curious_explorers, mind_masters",
            )
        })
}
