//! Finds the events in a request's body, without reading them.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use chrono::DateTime;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Written by some editors and platforms at the start of a text; no part of it.
pub const BYTE_ORDER_MARK: &str = "\u{feff}";

/// How many members the body's own object may have. Only three of them mean something, but all are remembered, to notice
/// one that is given twice.
const MEMBERS: usize = 1_000;

/// The events of a body, each its JSON as sent.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The device's clock at this attempt, Unix milliseconds.
    pub sent_at: Option<i64>,
    /// What the client says that it lost, as JSON that nobody has looked into: see [`lost`].
    pub dropped: Option<&'a str>,
    /// In the order of the request.
    pub events: Vec<&'a str>,
}

/// Why a body as a whole cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not JSON, or not of the right shape. The text quotes no value.
    #[error("the body cannot be read: {0}")]
    InvalidBody(String),
    /// No `events`.
    #[error("the body has no `events`; send {{\"events\": [...]}}")]
    MissingEvents,
    /// `sent_at` is no RFC 3339 time.
    #[error("`sent_at` must be an RFC 3339 time with an offset, such as 2026-05-04T09:30:00Z")]
    InvalidSentAt,
    /// More than the limit.
    #[error("more than {0} events in one request; split it")]
    TooManyEvents(usize),
}

/// A line that is not UTF-8: that event's `invalid_json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// Reads `{"sent_at": …, "events": [ … ]}`.
///
/// # Errors
/// The body as a whole is refused; nothing of it was taken.
pub fn json(body: &str, max_events: usize) -> Result<Batch<'_>, BatchError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut seen = Seen {
        max_events,
        ..Seen::default()
    };
    let mut input = serde_json::Deserializer::from_str(body);
    let read = BodySeed(&mut seen)
        .deserialize(&mut input)
        .and_then(|()| input.end());
    if seen.too_many {
        return Err(BatchError::TooManyEvents(max_events));
    }
    if let Err(error) = read {
        let text = error.to_string();
        return Err(BatchError::InvalidBody(
            if text.starts_with("invalid type") {
                "it must be a JSON object with an array `events`".to_owned()
            } else {
                text
            },
        ));
    }
    let sent_at = match seen.sent_at {
        None => None,
        Some(raw) => {
            let text: Option<String> =
                serde_json::from_str(raw.get()).map_err(|_| BatchError::InvalidSentAt)?;
            let time = |text: String| parse_time(text.trim()).ok_or(BatchError::InvalidSentAt);
            text.map(time).transpose()?
        }
    };
    Ok(Batch {
        sent_at,
        dropped: seen.dropped.map(RawValue::get),
        events: seen.events.ok_or(BatchError::MissingEvents)?,
    })
}

/// Why an SDK drops an event that the server never had; what it calls otherwise is `other`.
pub const REASONS: [&str; 7] = [
    "overflow",
    "expired",
    "consent",
    "too_large",
    "disk",
    "damaged",
    "other",
];

/// Events that a client says it lost, by the index of the reason in [`REASONS`]. It is nothing but a number for operators, so what
/// cannot be read is left out, and no request can claim more than a million of a reason.
#[must_use]
pub fn lost(dropped: &str) -> [u64; REASONS.len()] {
    let mut lost = [0; REASONS.len()];
    // Longer than all reasons with their numbers.
    if dropped.len() > 1_000 {
        return lost;
    }
    let counts: HashMap<String, u64> = serde_json::from_str(dropped).unwrap_or_default();
    for (reason, count) in counts {
        let known = REASONS.iter().position(|known| *known == reason);
        let total: &mut u64 = &mut lost[known.unwrap_or(REASONS.len() - 1)];
        *total = (*total + count.min(1_000_000)).min(1_000_000);
    }
    lost
}

/// Reads one event a line; blank lines are skipped.
///
/// # Errors
/// [`BatchError::TooManyEvents`].
pub fn ndjson(
    body: &[u8],
    max_events: usize,
) -> Result<Vec<Result<&str, InvalidUtf8>>, BatchError> {
    let mut events = Vec::new();
    let body = body
        .strip_prefix(BYTE_ORDER_MARK.as_bytes())
        .unwrap_or(body);
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if events.len() == max_events {
            return Err(BatchError::TooManyEvents(max_events));
        }
        events.push(std::str::from_utf8(line).map_err(|_| InvalidUtf8));
    }
    Ok(events)
}

/// An RFC 3339 time as Unix milliseconds, truncated.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.timestamp_millis())
}

#[derive(Default)]
struct Seen<'a> {
    max_events: usize,
    too_many: bool,
    sent_at: Option<&'a RawValue>,
    dropped: Option<&'a RawValue>,
    events: Option<Vec<&'a str>>,
}

struct BodySeed<'s, 'a>(&'s mut Seen<'a>);

impl<'de> DeserializeSeed<'de> for BodySeed<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BodySeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys: HashSet<String> = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "sent_at" => self.0.sent_at = Some(map.next_value()?),
                "dropped" => self.0.dropped = Some(map.next_value()?),
                "events" => self.0.events = map.next_value_seed(EventsSeed(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            if !keys.insert(key) {
                return Err(A::Error::custom("a key is given twice in one object"));
            }
            if keys.len() > MEMBERS {
                return Err(A::Error::custom("too many keys beside `events`"));
            }
        }
        Ok(())
    }
}

struct EventsSeed<'s, 'a>(&'s mut Seen<'a>);

impl<'de> DeserializeSeed<'de> for EventsSeed<'_, 'de> {
    type Value = Option<Vec<&'de str>>;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EventsSeed<'_, 'de> {
    type Value = Option<Vec<&'de str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::with_capacity(64);
        while let Some(event) = seq.next_element::<&'de RawValue>()? {
            if events.len() == self.0.max_events {
                // Stop reading: a million tiny events must not cost a million steps.
                self.0.too_many = true;
                return Err(A::Error::custom("too many events"));
            }
            events.push(event.get());
        }
        Ok(Some(events))
    }
}
