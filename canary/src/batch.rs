//! The events that are sent, one of each type, and how each is found again.

use chrono::NaiveDate;
use rivulet_events::{EventType, Identity};
use rivulet_sdk::{Client, Event, NotStored};
use serde_json::json;
use uuid::Uuid;

use crate::CHILD;

/// One event of each type. None of them counts as activity: they say nothing about anybody.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The id-day of all of them.
    pub(crate) day: NaiveDate,
    /// In the order of [`EventType::ALL`].
    pub(crate) ids: Vec<Uuid>,
    /// The keys by which the rollups remember them.
    pub(crate) keys: Vec<Uuid>,
}

impl Batch {
    /// Tells a client of them, whose clock stands still: so all of them have one id-day.
    pub(crate) fn told(client: &Client) -> Result<Self, NotStored> {
        let mut batch = Self {
            day: NaiveDate::default(),
            ids: Vec::new(),
            keys: Vec::new(),
        };
        for kind in EventType::ALL {
            let data = match kind {
                EventType::Interaction => json!({"action": "view"}),
                EventType::Message => {
                    json!({"conversation_id": Uuid::new_v4(), "sequence": 2, "role": "system"})
                }
                EventType::Speech => json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1}),
                EventType::Session => json!({"action": "heartbeat"}),
            };
            let event = Event::new(kind.as_str(), data).in_session(Uuid::new_v4());
            let id = client.track(CHILD.uuid(), event)?;
            // Of a UUIDv7 the time alone decides, whatever the event says.
            let identity = Identity::of(*kind, CHILD, id, 0);
            batch.day = identity.day;
            batch.ids.push(id);
            batch.keys.push(Uuid::from_bytes(identity.key));
        }
        Ok(batch)
    }
}
