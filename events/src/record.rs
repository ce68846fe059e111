//! The Kafka record: what a consumer reads, one event a record, as JSON with a schema version.

use std::{borrow::Cow, ops::RangeInclusive};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    consent::ConsentVersion,
    data::{AgeGroup, Data, Device, EventType},
    ids::{ChildId, Identity, ParentId, date_of},
    rules::Implausible,
    sabotage::sabotaged,
    text,
};

/// The schema version that this release writes.
///
/// A release that adds a field which may be absent keeps the number. One that adds a field which readers must know
/// of, or changes what a field means, raises it, and gives [`Record::read`] what turns a record of the version
/// before into one of its own. So there is never more than one version between two releases that run side by side.
pub const SCHEMA_VERSION: u16 = 1;

/// The schema versions that this release reads: the one before its own, as far as there was one; its own; and the
/// next, because in a rolling upgrade a newer ingest may write before the last older consumer is gone. Of the next
/// version it takes what it knows and leaves the additions.
pub const READABLE_VERSIONS: RangeInclusive<u16> = 1..=SCHEMA_VERSION + 1;

/// A value in `attributes`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AttributeValue<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string, at most 256 scalars.
    Text(Cow<'a, str>),
}

/// One accepted event, with its time, day and identity fixed for ever at ingest.
///
/// Field order is wire order: `v` first, so that a reader can tell the version before the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<'a, D = Data<'a>> {
    /// Schema version, one of [`READABLE_VERSIONS`]; [`SCHEMA_VERSION`] when written by this release.
    pub v: u16,
    /// The event's type; always that of `data`.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The client's idempotency key.
    pub id: Uuid,
    /// The child.
    pub child_id: ChildId,
    /// The child's parent at `received_at`.
    pub parent_id: ParentId,
    /// The child's age group at `received_at`.
    pub age_group: AgeGroup,
    /// The app session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// The device's clock, as sent: Unix milliseconds.
    pub occurred_at: i64,
    /// Corrected for skew and clamped (docs/contract.md, "Time"): Unix milliseconds.
    pub event_time: i64,
    /// This server's clock: Unix milliseconds.
    pub received_at: i64,
    /// The date of `event_time` in the child's zone.
    pub local_date: NaiveDate,
    /// Whether the consent `analytics` allows it in the history. If not, it is withheld from ClickHouse.
    pub analytics: bool,
    /// The version of the consent under which it was taken: for speech that of `audio` where it has one, else that of
    /// `coppa`. `None` where none was declared, and in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_version: Option<ConsentVersion>,
    /// How often a consent of the child had been given again when it was taken. By this consumers know, whatever the
    /// clocks say, what was taken before a consent was withdrawn and what after it was given again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consent_epoch: i64,
    /// The device, if told.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device<'a>>,
    /// For BI only, in the order sent.
    #[serde(
        borrow,
        default,
        with = "attributes",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub attributes: Vec<(Cow<'a, str>, AttributeValue<'a>)>,
    /// What happened.
    pub data: D,
}

impl<'a> Record<'a> {
    /// The record's JSON, appended to `out`.
    ///
    /// # Errors
    /// None that a well-formed record can meet; a non-finite float would be one.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        if sabotaged("next-version") {
            return self.encode_as_the_next_release_may(out);
        }
        serde_json::to_writer(out, self)
    }

    /// With additions that this release knows nothing of, in every object: for the test of a rolling upgrade.
    fn encode_as_the_next_release_may(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let mut next = serde_json::to_value(self)?;
        next["v"] = (SCHEMA_VERSION + 1).into();
        next["added"] = serde_json::json!({"by": ["the next release"]});
        for object in ["data", "device"] {
            if let Some(object) = next.get_mut(object) {
                object["added"] = 1.into();
            }
        }
        serde_json::to_writer(out, &next)
    }

    /// Reads a record without judging it, to find out what became of it: an earlier release may have taken what this
    /// one sets aside.
    ///
    /// # Errors
    /// [`DecodeError`], [`DecodeError::Implausible`] excepted.
    pub fn read(expected: EventType, payload: &'a [u8]) -> Result<Self, DecodeError> {
        match expected {
            EventType::Interaction => Self::read_as(payload, expected, Data::Interaction),
            EventType::Message => Self::read_as(payload, expected, Data::Message),
            EventType::Speech => Self::read_as(payload, expected, Data::Speech),
            EventType::Session => Self::read_as(payload, expected, Data::Session),
        }
    }

    fn read_as<D: Deserialize<'a>>(
        payload: &'a [u8],
        expected: EventType,
        wrap: impl Fn(D) -> Data<'a>,
    ) -> Result<Self, DecodeError> {
        let record: Record<'a, D> =
            text::json(payload).map_err(|error| explain(payload, expected, error))?;
        if !READABLE_VERSIONS.contains(&record.v) {
            return Err(DecodeError::UnknownVersion(record.v));
        }
        if record.event_type != expected {
            return Err(wrong_type(expected, record.event_type));
        }
        Ok(Record {
            v: record.v,
            event_type: record.event_type,
            id: record.id,
            child_id: record.child_id,
            parent_id: record.parent_id,
            age_group: record.age_group,
            session_id: record.session_id,
            occurred_at: record.occurred_at,
            event_time: record.event_time,
            received_at: record.received_at,
            local_date: record.local_date,
            analytics: record.analytics,
            consent_version: record.consent_version,
            consent_epoch: record.consent_epoch,
            device: record.device,
            attributes: record.attributes,
            data: wrap(record.data),
        })
    }

    /// The identity, by which copies of this event are one event.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let identity = Identity::of(self.event_type, self.child_id, self.id, self.occurred_at);
        if sabotaged("id-day") {
            let day = date_of(self.received_at);
            return Identity { day, ..identity };
        }
        identity
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(epoch: &i64) -> bool {
    *epoch == 0
}

/// The child of any record that names one, whether or not the rest of it can be read.
#[must_use]
pub fn child_of(payload: &[u8]) -> Option<ChildId> {
    #[derive(Deserialize)]
    struct Child {
        child_id: ChildId,
    }
    let Child { child_id } = serde_json::from_slice(payload).ok()?;
    Some(child_id)
}

/// If the record is of another version or type, that is a better reason than what the parser says.
fn explain(payload: &[u8], expected: EventType, error: serde_json::Error) -> DecodeError {
    #[derive(Deserialize)]
    struct Version {
        v: u16,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        event_type: EventType,
    }
    if let Ok(Version { v }) = serde_json::from_slice(payload)
        && !READABLE_VERSIONS.contains(&v)
    {
        return DecodeError::UnknownVersion(v);
    }
    match serde_json::from_slice(payload) {
        Ok(Kind { event_type }) if event_type != expected => wrong_type(expected, event_type),
        _ => DecodeError::Malformed(error),
    }
}

const fn wrong_type(expected: EventType, found: EventType) -> DecodeError {
    DecodeError::WrongType {
        expected: expected.as_str(),
        found: found.as_str(),
    }
}

/// `attributes` is an object on the wire and keeps its order here.
mod attributes {
    use std::{borrow::Cow, fmt};

    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, MapAccess, Visitor},
    };

    use super::AttributeValue;
    use crate::text::Text;

    type Pairs<'a> = Vec<(Cow<'a, str>, AttributeValue<'a>)>;

    pub(super) fn serialize<S: Serializer>(
        pairs: &[(Cow<'_, str>, AttributeValue<'_>)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
    }

    /// Not derived: to try the variants of an untagged enum, serde keeps a copy of the value.
    impl<'de: 'a, 'a> Deserialize<'de> for AttributeValue<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct ValueVisitor;
            impl<'de> Visitor<'de> for ValueVisitor {
                type Value = AttributeValue<'de>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a string, a number or a boolean")
                }
                fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                    Ok(AttributeValue::Bool(value))
                }
                fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                    Ok(AttributeValue::Int(value))
                }
                fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                    Ok(i64::try_from(value)
                        .map_or(AttributeValue::Float(value as f64), AttributeValue::Int))
                }
                fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                    Ok(AttributeValue::Float(value))
                }
                fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                    Ok(AttributeValue::Text(Cow::Borrowed(text)))
                }
                fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                    Ok(AttributeValue::Text(Cow::Owned(text.to_owned())))
                }
            }
            deserializer.deserialize_any(ValueVisitor)
        }
    }

    pub(super) fn deserialize<'de: 'a, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Pairs<'a>, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    pairs.push((key, value));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON of a record.
    #[error("not a record of this schema: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a release this one does not know.
    #[error("schema version {0} is unknown to this release, which reads {READABLE_VERSIONS:?}")]
    UnknownVersion(u16),
    /// The record's type is not its topic's.
    #[error("a record of type `{found}` in the topic for `{expected}`")]
    WrongType {
        /// What the topic holds.
        expected: &'static str,
        /// What the record says.
        found: &'static str,
    },
    /// It says what no ingest lets through.
    #[error(transparent)]
    Implausible(#[from] Implausible),
}

impl DecodeError {
    /// The stable code, for the quarantine table and metric labels.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_record",
            Self::UnknownVersion(_) => "unknown_version",
            Self::WrongType { .. } => "wrong_type",
            Self::Implausible(_) => "implausible_record",
        }
    }
}
