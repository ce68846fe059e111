//! What the product backend declares of families, read from JSON: the same rules for the HTTP API
//! and for the import.

use std::borrow::Cow;

use rivulet_events::{ConsentVersion, ParentId, data::AgeGroup};
use rivulet_zones::Zone;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::consents::{Consent, Consents, Method};

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

/// `consents` of a parent, each a boolean or an object with the evidence. `null` is the same as left out. A name that is
/// none of the three is refused: otherwise a revocation with a misspelt name would be answered as done.
///
/// # Errors
/// It is no object of consents.
pub fn consents(object: &Map<String, Value>) -> Result<Consents, Invalid> {
    let mut consents = Consents::default();
    let given = match object.get("consents") {
        None | Some(Value::Null) => return Ok(consents),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(invalid("/consents", "must be an object")),
    };
    for (name, value) in given {
        let pointer = || format!("/consents/{}", escaped(name));
        let consent = match name.as_str() {
            "coppa" => &mut consents.coppa,
            "audio" => &mut consents.audio,
            "analytics" => &mut consents.analytics,
            _ => {
                let message = "unknown consent; there are coppa, audio and analytics";
                return Err(invalid(pointer(), message));
            }
        };
        *consent = match value {
            Value::Null => None,
            Value::Bool(granted) => Some(Consent::from(*granted)),
            Value::Object(evidence) => Some(evidenced(evidence, &pointer())?),
            _ => {
                let message =
                    "must be true or false, or an object with granted, version and method";
                return Err(invalid(pointer(), message));
            }
        };
    }
    Ok(consents)
}

/// A consent with its evidence. A key that is none of the three is refused, as the name of a consent is.
fn evidenced(object: &Map<String, Value>, pointer: &str) -> Result<Consent, Invalid> {
    let known = ["granted", "version", "method"];
    if let Some(other) = object.keys().find(|key| !known.contains(&key.as_str())) {
        let message = "unknown field of a consent; there are granted, version and method";
        return Err(invalid(format!("{pointer}/{}", escaped(other)), message));
    }
    let Some(Value::Bool(granted)) = object.get("granted") else {
        return Err(invalid(
            format!("{pointer}/granted"),
            "must be true or false",
        ));
    };
    let mut consent = Consent::from(*granted);
    match object.get("version") {
        None | Some(Value::Null) => {}
        Some(version) => {
            let version = version.as_str().and_then(ConsentVersion::new);
            let wrong = || invalid(format!("{pointer}/version"), ConsentVersion::RULE);
            consent.version = Some(version.ok_or_else(wrong)?);
        }
    }
    match object.get("method") {
        None | Some(Value::Null) => {}
        Some(method) => {
            let method = method.as_str().and_then(Method::from_word);
            let message = "must be one of form, card, id, knowledge, text-plus, other";
            let wrong = || invalid(format!("{pointer}/method"), message);
            consent.method = method.ok_or_else(wrong)?;
        }
    }
    Ok(consent)
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
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
