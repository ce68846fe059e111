//! What no ingest lets through. Records come from Kafka, where others may be able to write: what a consumer
//! counts or stores is judged here, once for all consumers, so that none of them takes what another sets aside.
//!
//! Only what every release has kept to is asked for. That strings are trimmed is not: earlier ones left some as
//! they were.

use std::{borrow::Cow, ops::RangeInclusive};

use chrono::NaiveDate;

use crate::{
    bounds,
    data::{Data, Interaction, InteractionAction, Message, Session, Speech},
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

type Checked = Result<(), Implausible>;

const fn wrong(field: &'static str, problem: &'static str) -> Checked {
    Err(Implausible { field, problem })
}

impl Record<'_> {
    /// Judges everything that is not already judged by its type.
    pub(crate) fn check(&self) -> Checked {
        self.check_times()?;
        if let Some(device) = &self.device {
            text("device.id", &device.id, bounds::DEVICE_ID)?;
            text(
                "device.app_version",
                &device.app_version,
                bounds::APP_VERSION,
            )?;
        }
        if !self.attributes.is_empty() {
            attributes(&self.attributes)?;
        }
        match &self.data {
            Data::Interaction(data) => interaction(data),
            Data::Message(data) => message(data),
            Data::Speech(data) => speech(data),
            Data::Session(_) if self.session_id.is_none() => wrong("session_id", "is missing"),
            Data::Session(data) => session(data),
        }
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

fn interaction(data: &Interaction<'_>) -> Checked {
    let is_answer = matches!(data.action, InteractionAction::Answer);
    if is_answer != data.is_correct.is_some() {
        return wrong(
            "data.is_correct",
            "is for each answer, and for nothing else",
        );
    }
    if matches!(data.action, InteractionAction::Rate) && data.rating.is_none() {
        return wrong("data.rating", "is missing");
    }
    text("data.subject", &data.subject, bounds::LABEL)?;
    text("data.topic", &data.topic, bounds::LABEL)?;
    text("data.badge", &data.badge, bounds::LABEL)?;
    int(
        "data.response_time_ms",
        data.response_time_ms,
        bounds::RESPONSE_TIME_MS,
    )?;
    int("data.duration_ms", data.duration_ms, bounds::DURATION_MS)?;
    number("data.confidence", data.confidence, bounds::CONFIDENCE)?;
    int("data.difficulty", data.difficulty, bounds::GRADE)?;
    int("data.rating", data.rating, bounds::GRADE)?;
    int("data.xp", data.xp, bounds::REWARD)?;
    int("data.stars", data.stars, bounds::REWARD)
}

fn message(data: &Message<'_>) -> Checked {
    text("data.topic", &data.topic, bounds::LABEL)?;
    text("data.filter_reason", &data.filter_reason, bounds::LABEL)?;
    int("data.sequence", Some(data.sequence), bounds::SEQUENCE)?;
    int("data.chars", data.chars, bounds::CHARS)?;
    int("data.words", data.words, bounds::WORDS)?;
    int(
        "data.selected_choice",
        data.selected_choice,
        bounds::SELECTED_CHOICE,
    )?;
    int("data.depth_level", data.depth_level, bounds::DEPTH_LEVEL)?;
    int("data.tokens_used", data.tokens_used, bounds::TOKENS_USED)?;
    int(
        "data.processing_time_ms",
        data.processing_time_ms,
        bounds::PROCESSING_TIME_MS,
    )
}

fn speech(data: &Speech<'_>) -> Checked {
    let count = |field, value| int(field, Some(value), bounds::SPEECH_COUNT);
    int("data.window_ms", Some(data.window_ms), bounds::WINDOW_MS)?;
    count("data.child_words", data.child_words)?;
    count("data.adult_words", data.adult_words)?;
    count("data.child_vocalizations", data.child_vocalizations)?;
    count("data.conversational_turns", data.conversational_turns)?;
    count("data.utterances", data.utterances)?;
    count("data.unique_words", data.unique_words)?;
    count("data.new_words", data.new_words)?;
    number("data.snr_db", data.snr_db, bounds::SNR_DB)?;
    text(
        "data.model_version",
        &data.model_version,
        bounds::MODEL_VERSION,
    )?;
    text("data.language", &data.language, bounds::LANGUAGE)?;
    match &data.language {
        Some(tag) if !bounds::is_language_tag(tag) => wrong("data.language", "is no language tag"),
        _ => Ok(()),
    }
}

fn session(data: &Session) -> Checked {
    int("data.active_ms", Some(data.active_ms), bounds::ACTIVE_MS)
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

fn int<T: TryInto<i64>>(
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

fn number(field: &'static str, value: Option<f64>, range: RangeInclusive<f64>) -> Checked {
    match value {
        Some(value) if !range.contains(&value) => wrong(field, "is out of its range"),
        _ => Ok(()),
    }
}

fn text(field: &'static str, text: &Option<Cow<'_, str>>, max: usize) -> Checked {
    match text {
        Some(Cow::Borrowed(text)) if is_plain(text, max) => Ok(()),
        Some(text) => filled(field, text, max),
        None => Ok(()),
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
