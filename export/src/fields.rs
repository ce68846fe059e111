//! What a column of a file is, and schema.json, which says it to programs.

use serde_json::{Value, json};

/// A column of a table, or a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As the store names it.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// Whether there may be none.
    pub nullable: bool,
    /// What it means.
    pub about: String,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UUID.
    Uuid,
    /// Text, which may be anything.
    Text,
    /// `true` or `false`.
    Boolean,
    /// An integer.
    Integer,
    /// A number.
    Number,
    /// A date, `2026-03-01`.
    Date,
    /// A time, RFC 3339 in UTC.
    Time,
    /// A list of texts.
    List,
    /// Texts by name.
    Map,
}

/// The columns of PostgreSQL's tables, in order, and what they mean: from where they are declared.
#[derive(Clone, Debug)]
pub struct Tables {
    /// `daily_child_metrics`.
    pub daily: Vec<Field>,
    /// `learning_analytics`.
    pub learning: Vec<Field>,
    /// `topic_progress`.
    pub topics: Vec<Field>,
    /// `streaks`, as an object.
    pub streak: Vec<Field>,
}

/// A change of a consent: name, kind, whether it may be null, meaning. A column of `consent_changes` that comes later needs
/// a line here, and nothing else.
pub(crate) const CONSENT_CHANGES: &[(&str, Kind, bool, &str)] = &[
    (
        "consent",
        Kind::Text,
        false,
        "coppa: any processing at all. audio: numbers of speech. analytics: the history.",
    ),
    (
        "granted",
        Kind::Boolean,
        false,
        "true where it was granted, false where it was revoked.",
    ),
    (
        "version",
        Kind::Text,
        true,
        "The version of the text that was agreed to; null where none was told.",
    ),
    (
        "method",
        Kind::Text,
        false,
        "How it was given: form, card, id, knowledge, text-plus, or other.",
    ),
    ("changed_at", Kind::Time, false, "When."),
];

impl Kind {
    /// Whether a spreadsheet may take a value for a formula.
    pub(crate) const fn is_free(self) -> bool {
        matches!(self, Self::Text)
    }
}

impl Field {
    fn json(&self, is_csv: bool) -> Value {
        let (kind, format) = match self.kind {
            Kind::Uuid => ("string", Some("uuid")),
            Kind::Text => ("string", None),
            Kind::Boolean => ("boolean", None),
            Kind::Integer => ("integer", None),
            Kind::Number => ("number", None),
            Kind::Date => ("string", Some("date")),
            Kind::Time => ("string", Some("date-time")),
            Kind::List => ("array", is_csv.then_some("json")),
            Kind::Map => ("object", is_csv.then_some("json")),
        };
        let mut field = json!({
            "name": self.name, "type": kind, "nullable": self.nullable, "description": self.about,
        });
        if let Some(format) = format {
            field["format"] = format.into();
        }
        if let Some(unit) = unit(&self.name) {
            field["unit"] = unit.into();
        }
        if is_csv && self.kind.is_free() {
            field["guarded"] = true.into();
        }
        field
    }
}

/// Names say their unit; those that say none are counts, words or dates.
fn unit(name: &str) -> Option<&'static str> {
    if name.ends_with("_ms") {
        Some("milliseconds")
    } else if name.ends_with("_db") {
        Some("decibels")
    } else if name.contains("_milli_") {
        Some("thousandths")
    } else {
        None
    }
}

/// The file `schema.json`.
pub(crate) fn schema(events: &[Field], tables: &Tables) -> Value {
    const EVENTS: &str = "Every event of the history, in the order of event_time, then event_id as text, then event_type, \
        then id_day.";
    let file = |kind: &str, about: &str, fields: &[Field]| {
        let fields: Vec<_> = fields
            .iter()
            .map(|field| field.json(kind == "text/csv"))
            .collect();
        json!({"media_type": kind, "description": about, "fields": fields})
    };
    let changes: Vec<_> = CONSENT_CHANGES
        .iter()
        .map(|(name, kind, nullable, about)| Field {
            name: (*name).to_owned(),
            kind: *kind,
            nullable: *nullable,
            about: (*about).to_owned(),
        })
        .map(|field| field.json(false))
        .collect();
    json!({
        "format": "rivulet-export",
        "version": 1,
        "encoding": "UTF-8",
        "csv": {
            "dialect": "RFC 4180: commas, CRLF, quotes doubled, a header line.",
            "null": "An empty cell.",
            "guarded": "In a guarded column a value that begins with = + - @, their full-width forms, a tab, a line break or \
                ' has a ' in front, so that no spreadsheet runs it. Take the first ' of such a value away to get what is held.",
            "json": "A list or an object is JSON in its cell.",
        },
        "files": {
            "events.ndjson": file("application/x-ndjson",
                &format!("{EVENTS} A JSON object a line; a field that is null is left out."), events),
            "events.csv": file("text/csv", &format!("{EVENTS} The same as events.ndjson."), events),
            "daily.csv": file("text/csv",
                "A line for each day with events, in the order of local_date. From all events, those that are not in the \
                 history too.", &tables.daily),
            "learning.csv": file("text/csv",
                "A line for each day and subject with interactions, in the order of local_date, then subject by byte.",
                &tables.learning),
            "topics.csv": file("text/csv", "A line for each topic, over all time, in the order of topic by byte.",
                &tables.topics),
            "streak.json": file("application/json", "Days in a row, as of last_active_date.", &tables.streak),
            "consents.json": {
                "media_type": "application/json",
                "description": "What the child's parent consents to now, and every change of it, in order.",
                "history_fields": changes,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_unit() {
        assert_eq!(unit("active_ms"), Some("milliseconds"));
        assert_eq!(unit("snr_db"), Some("decibels"));
        assert_eq!(unit("confidence_milli_sum"), Some("thousandths"));
        assert_eq!(unit("answers"), None);
    }
}
