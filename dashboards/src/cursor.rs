//! Where an answer ended, for the request that asks for what comes after it.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use uuid::Uuid;

use crate::problem::Problem;

/// The position of an answer's last row in the order of its rows. It says no more than that row did, and gives no
/// access: whoever sends it must have a credential, and sees only what that allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Position {
    Day(NaiveDate),
    /// A period and a subject.
    Learning(NaiveDate, String),
    /// Of topics with the latest first: when it was last met, and its name.
    Latest(DateTime<Utc>, String),
    /// Of topics by name.
    Topic(String),
    /// When it was registered, and its id.
    Child(DateTime<Utc>, Uuid),
}

/// The position is one among rows of another kind.
pub(crate) const FOREIGN: Problem = Problem::InvalidParameter(Cow::Borrowed(
    "`after` is the `next` of an answer to another question",
));

/// As it is written in `next`, and in an address: URL-safe base64.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Dates and texts can always be written as JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        f.write_str(&URL_SAFE_NO_PAD.encode(json))
    }
}

impl Position {
    fn read(text: &str) -> Option<Self> {
        let json = URL_SAFE_NO_PAD.decode(text).ok()?;
        let position = serde_json::from_slice(&json).ok()?;
        let is_day = |day: &NaiveDate| matches!(day.year(), 1..=9999);
        let is_time = |time: &DateTime<Utc>| is_day(&time.date_naive());
        // PostgreSQL cannot store a NUL, so no answer had one.
        let is_text = |text: &str| !text.contains('\0');
        let is_possible = match &position {
            Self::Day(day) => is_day(day),
            Self::Learning(day, subject) => is_day(day) && is_text(subject),
            Self::Latest(time, topic) => is_time(time) && is_text(topic),
            Self::Topic(topic) => is_text(topic),
            Self::Child(time, _) => is_time(time),
        };
        is_possible.then_some(position)
    }
}

/// The parameter `after`.
pub(crate) fn after<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Position>, D::Error> {
    let text = String::deserialize(from)?;
    match Position::read(&text) {
        Some(position) => Ok(Some(position)),
        None => Err(D::Error::custom("no answer has this `next`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        let time = "2026-05-04T12:00:00.123456Z".parse().unwrap();
        let day = "2026-05-04".parse().unwrap();
        for position in [
            Position::Day(day),
            Position::Learning(day, "maths & \"more\"/ü".to_owned()),
            Position::Latest(time, "😀".repeat(100)),
            Position::Topic(String::new()),
            Position::Child(time, Uuid::new_v4()),
        ] {
            let text = position.to_string();
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            assert!(text.bytes().all(is_safe), "{text}");
            assert_eq!(Position::read(&text), Some(position));
        }
        for json in [
            "",
            "null",
            r#"{"day":"2026-02-30"}"#,
            r#"{"day":"+10000-01-01"}"#,
            r#"{"day":"0000-12-31"}"#,
            r#"{"latest":["+10000-01-01T00:00:00Z","a"]}"#,
            r#"{"topic":"\u0000"}"#,
            r#"{"learning":["2026-05-04"]}"#,
            r#"{"nothing":1}"#,
        ] {
            assert_eq!(
                Position::read(&URL_SAFE_NO_PAD.encode(json)),
                None,
                "{json}"
            );
        }
        for text in ["", "=", "%", "e30", "bnVsbA=="] {
            assert_eq!(Position::read(text), None, "{text}");
        }
    }
}
