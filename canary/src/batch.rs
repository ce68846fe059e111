//! The events that are sent, one of each type, and how each is found again.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use rivulet_events::{EventType, Identity};
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use crate::CHILD;

/// One event of each type. None of them counts as activity: they say nothing about anybody.
pub(crate) struct Batch {
    /// The id-day of all of them.
    pub(crate) day: NaiveDate,
    /// In the order of [`EventType::ALL`].
    pub(crate) ids: Vec<Uuid>,
    /// The keys by which the rollups remember them.
    pub(crate) keys: Vec<Uuid>,
    /// The request's body.
    pub(crate) body: Value,
}

impl Batch {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        let millis = now.timestamp_millis();
        // `now_v7` may take another millisecond for each, and then another day.
        let id = || {
            Builder::from_unix_timestamp_millis(millis.unsigned_abs(), &rand::random()).into_uuid()
        };
        let occurred_at = now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut batch = Self {
            day: now.date_naive(),
            ids: Vec::new(),
            keys: Vec::new(),
            body: Value::Null,
        };
        let mut events = Vec::new();
        for kind in EventType::ALL {
            let event_id = id();
            let identity = Identity::of(*kind, CHILD, event_id, millis);
            batch.ids.push(event_id);
            batch.keys.push(Uuid::from_bytes(identity.key));
            events.push(json!({
                "id": event_id,
                "type": kind.as_str(),
                "child_id": CHILD.uuid(),
                "occurred_at": occurred_at,
                "session_id": id(),
                "device": {"id": "canary", "platform": "other", "app_version": env!("CARGO_PKG_VERSION")},
                "data": match kind {
                    EventType::Interaction => json!({"action": "view"}),
                    EventType::Message => json!({"conversation_id": id(), "sequence": 2, "role": "system"}),
                    EventType::Speech => json!({"audio_session_id": id(), "window_ms": 1}),
                    EventType::Session => json!({"action": "heartbeat"}),
                },
            }));
        }
        batch.body = json!({"events": events});
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_of_the_day_that_it_is_looked_for_under() {
        let last_moment: DateTime<Utc> = "2026-03-31T23:59:59.9999Z".parse().unwrap();
        let batch = Batch::new(last_moment);
        for (index, kind) in EventType::ALL.iter().enumerate() {
            let event = &batch.body["events"][index];
            assert_eq!(event["type"], kind.as_str());
            assert_eq!(event["id"], batch.ids[index].to_string());
            let identity = Identity::of(*kind, CHILD, batch.ids[index], 0);
            assert_eq!(identity.day, batch.day);
            assert_eq!(identity.key, *batch.keys[index].as_bytes());
        }
    }
}
