//! Refuses records that no ingest can have written. Records come from Kafka, where others may be able to write. What a
//! consumer counts or stores is judged here, once for all consumers, so that none of them takes what another sets
//! aside.
//!
//! Only rules that all releases have kept are checked. That strings are trimmed is not one of them: earlier releases
//! left some as they were.

use std::{borrow::Cow, ops::RangeInclusive};

use chrono::NaiveDate;

use crate::{
    bounds,
    data::EventType,
    record::{AttributeValue, DecodeError, Record},
    rules::{Checked, bounded, filled, wrong},
};

const DAY_MS: i64 = 86_400_000;

/// Years that a server's clock may show, the second excluded. ClickHouse's type for days ends in June of that.
const YEARS: [i32; 2] = [2020, 2149];

/// How far `event_time` may lie from `received_at`, in days: further than [`crate::event_time`] lets it.
const DAYS_FROM_RECEIPT: RangeInclusive<i64> = -60 * DAY_MS..=2 * DAY_MS;

/// How far `local_date` may lie from the UTC date of `event_time`, in days: further than in any zone.
const DAYS_FROM_UTC: RangeInclusive<i64> = -2..=2;

impl<'a> Record<'a> {
    /// Reads a record from the topic of `expected`, and judges it: what is read can be counted and stored.
    ///
    /// # Errors
    /// [`DecodeError`]: the record belongs in quarantine.
    pub fn decode(expected: EventType, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let record = Self::read(expected, payload)?;
        record.check()?;
        Ok(record)
    }

    /// Judges everything that is not already judged by its type.
    fn check(&self) -> Checked {
        self.check_times()?;
        if let Some(device) = &self.device {
            device.check()?;
        }
        if !self.attributes.is_empty() {
            attributes(&self.attributes)?;
        }
        if self.session_id.is_none() && self.event_type == EventType::Session {
            return wrong("session_id", "is missing");
        }
        self.data.check()
    }

    fn check_times(&self) -> Checked {
        let [from, until] = const { [midnight(YEARS[0]), midnight(YEARS[1])] };
        if !(from..until).contains(&self.received_at) {
            return wrong("received_at", "is no time of this service");
        }
        let from_receipt = self.event_time.saturating_sub(self.received_at);
        if !DAYS_FROM_RECEIPT.contains(&from_receipt) {
            return wrong("event_time", "is too far from received_at");
        }
        let utc_day = self.event_time.div_euclid(DAY_MS);
        if !DAYS_FROM_UTC.contains(&(i64::from(self.local_date.to_epoch_days()) - utc_day)) {
            return wrong("local_date", "is not the date of event_time in any zone");
        }
        Ok(())
    }
}

/// The first midnight of a year, Unix milliseconds.
const fn midnight(year: i32) -> i64 {
    match NaiveDate::from_ymd_opt(year, 1, 1) {
        Some(day) => day.to_epoch_days() as i64 * DAY_MS,
        None => panic!("a year of the calendar"),
    }
}

fn attributes(attributes: &[(Cow<'_, str>, AttributeValue<'_>)]) -> Checked {
    const FIELD: &str = "attributes";
    if attributes.len() > bounds::ATTRIBUTES {
        return wrong(FIELD, "has too many keys");
    }
    for (key, value) in attributes {
        // A key may be blank.
        bounded(FIELD, key, bounds::ATTRIBUTE_KEY)?;
        match value {
            AttributeValue::Text(value) => filled(FIELD, value, bounds::ATTRIBUTE_TEXT)?,
            AttributeValue::Float(value) if !value.is_finite() => {
                return wrong(FIELD, "has a number that is none");
            }
            AttributeValue::Float(_) | AttributeValue::Int(_) | AttributeValue::Bool(_) => {}
        }
    }
    Ok(())
}
