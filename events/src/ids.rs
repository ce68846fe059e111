//! Identifiers: newtypes that do not print a child, and the identity of an event.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use crate::data::EventType;

macro_rules! redacted_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps the id; from here on it no longer shows in logs.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare id, for a store or a wire. Never for a log.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}

redacted_id!(
    /// A child. `Debug` is redacted and there is no `Display`, so it cannot reach a log by accident.
    ChildId
);
redacted_id!(
    /// A parent, hence a family. Redacted like [`ChildId`].
    ParentId
);

/// The id-day of events whose clock was reset: `1970-01-01`.
pub const RESET_CLOCK_DAY: NaiveDate = NaiveDate::from_epoch_days(0).expect("day zero exists");

/// The first id-day that is believed. Earlier ones count as [`RESET_CLOCK_DAY`].
pub const FIRST_TRUSTED_DAY: NaiveDate =
    NaiveDate::from_ymd_opt(2025, 1, 1).expect("a date of the calendar");

/// The last id-day that is believed. Later ones count as [`RESET_CLOCK_DAY`]. This bounds what false dates can do to
/// the stores: ClickHouse has a partition for each month.
pub const LAST_TRUSTED_DAY: NaiveDate =
    NaiveDate::from_ymd_opt(2037, 12, 31).expect("a date of the calendar");

/// How far an id-day may lie before the day of arrival to be [timely](Identity::is_timely), in days. More than
/// the oldest event's age, since it goes by the uncorrected clock.
pub const OLDEST_ID_DAY: u64 = 34;
/// How far an id-day may lie after the day of arrival to be timely, in days.
pub const LATEST_ID_DAY: u64 = 1;

/// What makes two copies the same event: (`type`, `child_id`, `id`, id-day).
///
/// It depends only on what the client repeats verbatim, never on arrival or a corrected clock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// The id-day, the dedup table's partition.
    pub day: NaiveDate,
    /// 48 bits of milliseconds, then 80 bits of XXH3-128 over (type, child, id).
    ///
    /// The milliseconds are the `UUIDv7` id's own, which keeps inserts at the right-hand edge of
    /// the index; any other id has the midnight of its id-day there, because `occurred_at` within
    /// the day is not part of the identity.
    pub key: [u8; 16],
}

impl Identity {
    /// The identity of the event `id` of that type and child; `occurred_at_ms` as sent.
    #[must_use]
    pub fn of(kind: EventType, child: ChildId, id: Uuid, occurred_at_ms: i64) -> Self {
        let v7 = v7_millis(id);
        let day = trusted_day(v7.unwrap_or(occurred_at_ms));
        let millis = v7.unwrap_or_else(|| i64::from(day.to_epoch_days()) * 86_400_000);
        let mut hashed = [0u8; 33];
        hashed[0] = kind.wire_code();
        hashed[1..17].copy_from_slice(child.uuid().as_bytes());
        hashed[17..].copy_from_slice(id.as_bytes());
        let mut key = xxh3_128(&hashed).to_be_bytes();
        key[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        Self { day, key }
    }

    /// Whether the id-day is near the day of arrival, both in UTC. The others are of devices whose clock is
    /// off by days: such an event is taken only where `sent_at` says so, and the day would be a partition
    /// that nothing else needs.
    #[must_use]
    pub fn is_timely(&self, received_on: NaiveDate) -> bool {
        let days = (self.day - received_on).num_days();
        (-(OLDEST_ID_DAY as i64)..=LATEST_ID_DAY as i64).contains(&days)
    }
}

/// The Unix milliseconds inside a `UUIDv7`, `None` for any other version or variant.
pub(crate) fn v7_millis(id: Uuid) -> Option<i64> {
    let bytes = id.as_bytes();
    (bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10).then(|| {
        let mut be = [0u8; 8];
        be[2..].copy_from_slice(&bytes[..6]);
        i64::from_be_bytes(be)
    })
}

pub(crate) fn utc(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

pub(crate) fn date_of(millis: i64) -> NaiveDate {
    utc(millis).date_naive()
}

fn trusted_day(millis: i64) -> NaiveDate {
    let days = millis.div_euclid(86_400_000);
    i32::try_from(days)
        .ok()
        .and_then(NaiveDate::from_epoch_days)
        .filter(|day| (FIRST_TRUSTED_DAY..=LAST_TRUSTED_DAY).contains(day))
        .unwrap_or(RESET_CLOCK_DAY)
}
