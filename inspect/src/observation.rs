//! What is told of an event.

use chrono::{DateTime, Utc};
use rivulet_events::{ChildId, EventType, Identity};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// An event that was answered now, or a request that was refused as a whole. It has what identifies the event and what it
/// was answered, and nothing of what it held.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Observation {
    /// As the answer has it: the client's, where it sent one.
    pub request_id: String,
    /// The server's clock.
    pub received_at: DateTime<Utc>,
    /// The name of the API key; null with a client token, and where a request was refused.
    pub key: Option<String>,
    /// With a client token: the hash of the family's id, as the audit log has it.
    pub family: Option<String>,
    /// Its place in the request, from 0; null where the request was refused.
    pub index: Option<u32>,
    /// Its id, where that is a UUID.
    pub id: Option<Uuid>,
    /// Its type, where that is one of them.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Its child, where that is a UUID.
    pub child_id: Option<Uuid>,
    /// The device's clock, as sent.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The device's clock at this attempt, where it was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// What it was answered: `accepted`, `rejected` or `retry`; `refused` of a whole request.
    // No enum, as `Fate` is one: generators of clients would rename that one's words.
    #[schema(value_type = String)]
    pub outcome: Outcome,
    /// The status of the answer, where the request was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub status: Option<u16>,
    /// Of a rejected event why; of a refused request the code of the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub code: Option<String>,
    /// The field that is to blame: a JSON pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub pointer: Option<String>,
    /// As the answer has them: names of fields, no values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
    /// `spilled` where it is on the node's disk, and not in Kafka yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    pub durability: Option<Durability>,
    /// Nothing of it was stored, as was asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub dry_run: bool,
    /// It is kept out of the history: `analytics` is not granted.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub withheld: bool,
    /// Where Kafka has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub topic: Option<String>,
    /// Where Kafka has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub partition: Option<i32>,
    /// Where Kafka has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub offset: Option<i64>,
}

/// What an event, or a whole request, was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is durable, or would be.
    Accepted,
    /// It will never be taken.
    Rejected,
    /// It was not stored, and may come again.
    Retry,
    /// The whole request was refused.
    Refused,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Rejected, Self::Retry, Self::Refused];

    /// As JSON has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Retry => "retry",
            Self::Refused => "refused",
        }
    }
}

/// Where an accepted event is, if it is not in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On the node's disk.
    Spilled,
}

/// Whoever watches was too slow for so many observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Missed {
    /// How many, since it was last told.
    pub missed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Observation {
    /// The event's type.
    #[must_use]
    pub fn kind(&self) -> Option<EventType> {
        self.event_type.as_deref().and_then(EventType::from_word)
    }

    /// The event's identity, by which it is counted once.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        Some(Identity::of(
            self.kind()?,
            ChildId::new(self.child_id?),
            self.id?,
            self.occurred_at?.timestamp_millis(),
        ))
    }

    /// Whether something of it was stored, so that it has a fate.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.outcome == Outcome::Accepted && !self.dry_run
    }
}
