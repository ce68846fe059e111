//! What the files of an export are, from the same rows as the answers.

use chrono::{DateTime, NaiveDate, Utc};
use rivulet_export::{Field, Kind, Tables};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};
use uuid::Uuid;

use crate::{
    rows::{Day, Topic},
    streak::Streak,
};

/// The row of `learning_analytics`: a child's day in a subject.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SubjectDay {
    /// In the family's time zone, fixed when an event arrived.
    local_date: NaiveDate,
    /// `general` where the app named none.
    subject: String,
    /// Whatever the action.
    interactions: u64,
    /// Activities begun.
    starts: u64,
    /// Activities finished.
    completions: u64,
    /// Answers given.
    answers: u64,
    /// Answers that were right.
    correct_answers: u64,
    /// Hints taken.
    hints: u64,
    /// Activities left out.
    skips: u64,
    /// Sum over the answers that have one.
    response_time_ms: u64,
    /// How many those are.
    response_time_count: u64,
    /// Time on task.
    duration_ms: u64,
    /// Sum of the difficulties, each 1 to 5.
    difficulty_sum: u64,
    /// How many those are.
    difficulty_count: u64,
    /// Sum of the ratings, each 1 to 5.
    rating_sum: u64,
    /// How many those are.
    rating_count: u64,
    /// Sum of the confidences, each 0 to 1 000.
    confidence_milli_sum: u64,
    /// How many those are.
    confidence_count: u64,
    /// Those that analysts do not get to see.
    withheld_events: u64,
    /// When the row was last written.
    updated_at: DateTime<Utc>,
}

/// Every row begins with it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct OfChild {
    /// The child.
    child_id: Uuid,
}

/// What the files of an export are that PostgreSQL's rows go to.
#[must_use]
pub fn exported_tables() -> Tables {
    let mut streak = fields(&Streak::schema());
    // They depend on the day of reading.
    streak.retain(|field| !matches!(field.name.as_str(), "today" | "streak_today"));
    let of_child = fields(&OfChild::schema());
    let table = |schema| [of_child.clone(), fields(&schema)].concat();
    Tables {
        daily: table(Day::schema()),
        learning: table(SubjectDay::schema()),
        topics: table(Topic::schema()),
        streak,
    }
}

fn fields(schema: &RefOr<Schema>) -> Vec<Field> {
    let RefOr::T(Schema::Object(object)) = schema else {
        return Vec::new();
    };
    let properties = object.properties.iter();
    properties
        .map(|(name, schema)| {
            let schema = json!(schema);
            let (kind, nullable) = match &schema["type"] {
                Value::Array(kinds) => (kinds[0].clone(), true),
                kind => (kind.clone(), false),
            };
            let kind = match (kind.as_str(), schema["format"].as_str()) {
                (Some("integer"), _) => Kind::Integer,
                (Some("number"), _) => Kind::Number,
                (Some("boolean"), _) => Kind::Boolean,
                (Some("array"), _) => Kind::List,
                (_, Some("date")) => Kind::Date,
                (_, Some("date-time")) => Kind::Time,
                (_, Some("uuid")) => Kind::Uuid,
                _ => Kind::Text,
            };
            Field {
                name: name.clone(),
                kind,
                nullable,
                about: schema["description"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            }
        })
        .collect()
}
