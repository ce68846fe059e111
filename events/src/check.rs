//! What no ingest lets through. Records come from Kafka, where others may be able to write: what a consumer
//! counts or stores is judged here, once for all consumers, so that none of them takes what another sets aside.
//!
//! Only what every release has kept to is asked for. That strings are trimmed is not: earlier ones left some as
//! they were.

use std::{borrow::Cow, ops::RangeInclusive};

use chrono::NaiveDate;

use crate::{
    bounds,
    data::EventType,
    record::{AttributeValue, Record},
};

const DAY_MS: i64 = 86_400_000;

/// Years that a server's clock may show, the second excluded. ClickHouse's type for days ends in June of that.
const YEARS: [i32; 2] = [2020, 2149];

/// How far `event_time` may lie from `received_at`, in days: further than [placing](crate::place) lets it.
const DAYS_FROM_RECEIPT: RangeInclusive<i64> = -60 * DAY_MS..=2 * DAY_MS;

/// How far `local_date` may lie from the UTC date of `event_time`, in days: further than in any zone.
const DAYS_FROM_UTC: RangeInclusive<i64> = -2..=2;

/// A record that says what no ingest lets through. Nothing of what it says is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no ingest lets this through: {field} {problem}")]
pub struct Implausible {
    /// The field to blame, as `data.xp`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

pub(crate) type Checked = Result<(), Implausible>;

const fn wrong(field: &'static str, problem: &'static str) -> Checked {
    Err(Implausible { field, problem })
}

impl Record<'_> {
    /// Judges everything that is not already judged by its type.
    pub(crate) fn check(&self) -> Checked {
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

/// A field that is required when another is a certain word, and with `only` is for nothing else.
pub(crate) fn presence(
    field: &'static str,
    is_for_it: bool,
    is_there: bool,
    only: bool,
) -> Checked {
    match (is_for_it, is_there) {
        (true, false) => wrong(field, "is missing"),
        (false, true) if only => wrong(field, "is for another action"),
        _ => Ok(()),
    }
}

pub(crate) fn int<T: TryInto<i64>>(
    field: &'static str,
    value: Option<T>,
    range: RangeInclusive<i64>,
) -> Checked {
    match value.map(TryInto::try_into) {
        Some(Ok(value)) if range.contains(&value) => Ok(()),
        None => Ok(()),
        Some(_) => wrong(field, "is out of its range"),
    }
}

pub(crate) fn number(
    field: &'static str,
    value: Option<f64>,
    range: RangeInclusive<f64>,
) -> Checked {
    match value {
        Some(value) if !range.contains(&value) => wrong(field, "is out of its range"),
        _ => Ok(()),
    }
}

pub(crate) fn text(field: &'static str, text: &Option<Cow<'_, str>>, max: usize) -> Checked {
    match text {
        Some(Cow::Borrowed(text)) if is_plain(text, max) => Ok(()),
        Some(text) => filled(field, text, max),
        None => Ok(()),
    }
}

pub(crate) fn language_tag(field: &'static str, tag: &Option<Cow<'_, str>>, max: usize) -> Checked {
    text(field, tag, max)?;
    match tag {
        Some(tag) if !bounds::is_language_tag(tag) => wrong(field, "is no language tag"),
        _ => Ok(()),
    }
}

/// Whether its length and its first byte are all there is to look at. That holds for a borrowed text: JSON has a NUL
/// only as an escape, and what has escapes is not borrowed.
fn is_plain(text: &str, max: usize) -> bool {
    text.len() <= max
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_graphic())
}

/// A text of `max` scalars at most that is not blank: a blank one is absent.
fn filled(field: &'static str, text: &str, max: usize) -> Checked {
    if text.chars().all(char::is_whitespace) {
        return wrong(field, "is blank");
    }
    bounded(field, text, max)
}

fn bounded(field: &'static str, text: &str, max: usize) -> Checked {
    if bounds::is_longer(text, max) {
        return wrong(field, "is too long");
    }
    // PostgreSQL stores none.
    if text.as_bytes().contains(&0) {
        return wrong(field, "holds a NUL");
    }
    Ok(())
}
