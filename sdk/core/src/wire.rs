//! The contract of `POST /v1/events` and `GET /v1/config` (docs/contract.md), as bytes.

use std::{collections::BTreeMap, io::Write as _};

use chrono::{DateTime, SecondsFormat};
use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Device, Event};

/// An event as it is stored and sent, in the order of the contract.
#[derive(Serialize)]
struct Envelope<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    kind: &'a str,
    child_id: Uuid,
    occurred_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Device::is_empty")]
    device: &'a Device,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, Value>,
    data: &'a Value,
}

pub(crate) fn event(
    event: &Event,
    id: Uuid,
    child: Uuid,
    made_ms: i64,
    device: &Device,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Envelope {
        id,
        kind: &event.kind,
        child_id: child,
        occurred_at: rfc3339(made_ms),
        session_id: event.session_id,
        device,
        attributes: &event.attributes,
        data: &event.data,
    })
}

/// To the millisecond, in UTC. A clock that is off by more than the calendar has is at its beginning.
pub(crate) fn rfc3339(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The body of a batch, compressed.
pub(crate) fn body<'a>(
    sent_ms: i64,
    dropped: &BTreeMap<String, u64>,
    events: impl Iterator<Item = &'a str>,
) -> std::io::Result<Vec<u8>> {
    let mut body = GzEncoder::new(Vec::new(), Compression::fast());
    write!(body, r#"{{"sent_at":"{}","#, rfc3339(sent_ms))?;
    if !dropped.is_empty() {
        write!(body, r#""dropped":{},"#, serde_json::to_string(dropped)?)?;
    }
    body.write_all(br#""events":["#)?;
    for (index, event) in events.enumerate() {
        if index > 0 {
            body.write_all(b",")?;
        }
        body.write_all(event.as_bytes())?;
    }
    body.write_all(b"]}")?;
    body.finish()
}

/// The answer to a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    #[serde(with = "time")]
    pub(crate) received_at: i64,
    pub(crate) results: Vec<EventResult>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct EventResult {
    index: usize,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) code: String,
    pub(crate) pointer: Option<String>,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Accepted,
    Rejected,
    Retry,
}

/// What a server said of `events` events; nothing where the body is not its own, be it of a proxy or half of one.
pub(crate) fn answer(body: &[u8], events: usize) -> Option<Answer> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let in_order = answer
        .results
        .iter()
        .enumerate()
        .all(|(at, result)| at == result.index);
    (answer.results.len() == events && in_order).then_some(answer)
}

/// What the server wishes of its clients.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct ServerConfig {
    pub(crate) enabled: bool,
    pub(crate) max_events: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) flush_interval_s: u64,
    pub(crate) consents: Option<Consents>,
}

/// Of a family.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Consents {
    pub(crate) coppa: bool,
    pub(crate) audio: bool,
}

pub(crate) fn config(body: &[u8]) -> Option<ServerConfig> {
    serde_json::from_slice(body).ok()
}

/// The code of a problem document, for people.
pub(crate) fn code(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    problem["code"].as_str().unwrap_or("no code").to_owned()
}

/// Seconds of a `Retry-After`, which is a number or a date.
pub(crate) fn retry_after(value: &str, wall_ms: i64) -> Option<u64> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(seconds);
    }
    let until = DateTime::parse_from_rfc2822(value.trim())
        .ok()?
        .timestamp_millis();
    Some(u64::try_from(until - wall_ms).unwrap_or(0).div_ceil(1000))
}

/// When a JWT ends, in seconds since 1970. A key has no end.
pub(crate) fn expires(token: &str) -> Option<i64> {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1)?)
        .ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(claims.exp as i64)
}

mod time {
    use chrono::DateTime;
    use serde::{Deserialize as _, Deserializer, de::Error as _};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let text = String::deserialize(from)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|time| time.timestamp_millis())
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::*;

    fn unpacked(body: &[u8]) -> Value {
        let mut text = String::new();
        flate2::read::GzDecoder::new(body)
            .read_to_string(&mut text)
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_body_says_when_it_was_sent_and_what_was_lost() {
        let none = BTreeMap::new();
        let events = [r#"{"a":1}"#, r#"{"b":2}"#];
        let whole = unpacked(&body(1_000, &none, events.into_iter()).unwrap());
        assert_eq!(
            whole,
            json!({"sent_at": "1970-01-01T00:00:01.000Z", "events": [{"a": 1}, {"b": 2}]})
        );
        let lost = BTreeMap::from([("overflow".to_owned(), 3)]);
        let whole = unpacked(&body(1_000, &lost, std::iter::empty()).unwrap());
        assert_eq!(whole["dropped"], json!({"overflow": 3}));
        assert_eq!(whole["events"], json!([]));
    }

    #[test]
    fn what_does_not_answer_for_each_event_is_no_answer() {
        let result = |index, outcome| json!({"index": index, "id": null, "outcome": outcome});
        let of = |results: &[Value]| {
            let body = json!({"received_at": "2026-05-04T09:30:00.250Z", "results": results});
            answer(body.to_string().as_bytes(), 2)
        };
        let good = of(&[result(0, "accepted"), result(1, "retry")]).unwrap();
        assert_eq!(good.received_at, 1_777_887_000_250);
        assert_eq!(good.results[1].outcome, Outcome::Retry);
        assert!(of(&[result(0, "accepted")]).is_none());
        assert!(of(&[result(1, "accepted"), result(0, "accepted")]).is_none());
        assert!(of(&[result(0, "accepted"), result(1, "perhaps")]).is_none());
        assert!(answer(b"<html>log in to the hotel</html>", 2).is_none());
    }

    #[test]
    fn waiting_is_said_in_seconds_or_until_a_date() {
        assert_eq!(retry_after(" 7 ", 0), Some(7));
        assert_eq!(
            retry_after("Mon, 04 May 2026 09:30:02 GMT", 1_777_887_000_250),
            Some(2)
        );
        assert_eq!(
            retry_after("Mon, 04 May 2026 09:29:00 GMT", 1_777_887_000_250),
            Some(0)
        );
        assert_eq!(retry_after("soon", 0), None);
    }

    #[test]
    fn a_token_tells_when_it_ends_and_a_key_does_not() {
        assert_eq!(
            expires("e30.eyJleHAiOjE3Nzc4ODcwMDB9.x"),
            Some(1_777_887_000)
        );
        assert_eq!(expires("rvk_abc"), None);
        assert_eq!(expires("a.b.c"), None);
    }
}
