//! What is asked of PostgreSQL both by requests and by live streams.

use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::ChildId;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use sqlx::{AssertSqlSafe, FromRow, Row as _, postgres::PgRow};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};
use uuid::Uuid;

use crate::{problem::Problem, range::Range, reading::Reading};

/// A row as it is answered: what SQL names and what the OpenAPI document says are one list. Those that
/// are not `read` are written as JSON by PostgreSQL, which takes 9 µs a day and reading it 1 µs.
macro_rules! row {
    ($(#[$about:meta])* read $name:ident {
        $($(#[$of:meta])* $column:ident: $type:ty,)+
    }) => {
        row!($(#[$about])* #[derive(Serialize)] $name { $($(#[$of])* $column: $type,)+ });

        impl FromRow<'_, PgRow> for $name {
            fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
                let mut columns = 0..;
                // Fields are evaluated in the order they are written in.
                Ok(Self {
                    $($column: Column::of(row, columns.next().unwrap_or_default())?,)+
                })
            }
        }
    };
    ($(#[$about:meta])* $name:ident {
        $(#[$of_first:meta])* $first:ident: $first_type:ty,
        $($(#[$of:meta])* $column:ident: $type:ty,)+
    }) => {
        $(#[$about])*
        #[derive(ToSchema)]
        pub(crate) struct $name {
            $(#[$of_first])* $first: $first_type,
            // Always there, also where it is null.
            $($(#[$of])* #[schema(required = true)] $column: $type,)+
        }

        impl $name {
            /// For a `SELECT`.
            pub(crate) const COLUMNS: &str =
                concat!(stringify!($first), $(", ", stringify!($column)),+);
        }
    };
}

/// A column by its place.
trait Column: Sized {
    fn of(row: &PgRow, place: usize) -> Result<Self, sqlx::Error>;
}

macro_rules! column {
    ($($type:ty),+) => {$(
        impl Column for $type {
            fn of(row: &PgRow, place: usize) -> Result<Self, sqlx::Error> {
                row.try_get(place)
            }
        }
    )+};
}

column!(NaiveDate, DateTime<Utc>, Vec<String>);

impl Column for u64 {
    /// Counts and sums are never negative.
    fn of(row: &PgRow, place: usize) -> Result<Self, sqlx::Error> {
        row.try_get(place).map(i64::unsigned_abs)
    }
}

impl Column for Option<u64> {
    fn of(row: &PgRow, place: usize) -> Result<Self, sqlx::Error> {
        let number: Option<i64> = row.try_get(place)?;
        Ok(number.map(i64::unsigned_abs))
    }
}

row!(
    /// A child's day.
    read Day {
        /// In the family's time zone, fixed when an event arrived.
        local_date: NaiveDate,
        /// All events.
        events: u64,
        /// Sessions started.
        sessions: u64,
        /// Time the app was in use.
        active_ms: u64,
        /// Whatever the action.
        interactions: u64,
        starts: u64,
        answers: u64,
        correct_answers: u64,
        hints: u64,
        skips: u64,
        completions: u64,
        /// Sum over the answers that have one.
        response_time_ms: u64,
        /// How many those are.
        response_time_count: u64,
        xp: u64,
        stars: u64,
        /// By the child.
        messages_sent: u64,
        /// By the assistant.
        messages_received: u64,
        /// By the child.
        questions_asked: u64,
        conversations_started: u64,
        aha_moments: u64,
        messages_filtered: u64,
        tokens_used: u64,
        /// The deepest `depth_level`; null if no message had one.
        max_depth: Option<u64>,
        /// Speech events.
        speech_windows: u64,
        /// Sum of their lengths.
        speech_ms: u64,
        child_words: u64,
        adult_words: u64,
        conversational_turns: u64,
        child_vocalizations: u64,
        utterances: u64,
        new_words: u64,
        /// Of one window; null without speech.
        max_unique_words: Option<u64>,
        /// Each once, sorted by byte.
        topics: Vec<String>,
        /// Each once, sorted by byte.
        badges: Vec<String>,
        /// What makes the day count for a streak.
        qualifying_events: u64,
        first_event_at: DateTime<Utc>,
        last_event_at: DateTime<Utc>,
        /// Those that analysts do not get to see.
        withheld_events: u64,
        /// When the row was last written.
        updated_at: DateTime<Utc>,
    }
);

row!(
    /// One number of a period and subject.
    #[expect(dead_code, reason = "PostgreSQL writes it")]
    Metric {
        /// A day, a Monday or the first of a month.
        period_start: NaiveDate,
        /// `general` where the app named none.
        subject: String,
        metric_type: MetricType,
        metric_value: f64,
        metric_unit: MetricUnit,
        /// The denominator: of time the interactions, of the score the events.
        sample_count: u64,
    }
);

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "PostgreSQL writes it")]
enum MetricType {
    CompletionRate,
    Accuracy,
    TimeSpent,
    ResponseSpeed,
    DifficultyRating,
    Satisfaction,
    EngagementScore,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "PostgreSQL writes it")]
enum MetricUnit {
    Ratio,
    Minutes,
    Seconds,
    #[schema(rename = "1-5")]
    OneToFive,
    #[schema(rename = "0-100")]
    OfHundred,
}

row!(
    /// A child and a topic, over all time.
    #[expect(dead_code, reason = "PostgreSQL writes it")]
    Topic {
        topic: String,
        interactions: u64,
        answers: u64,
        correct_answers: u64,
        /// Time on task.
        duration_ms: u64,
        messages: u64,
        questions_asked: u64,
        /// Conversations begun.
        conversations: u64,
        /// The deepest `depth_level`; null if no message had one.
        max_depth: Option<u64>,
        /// When a message first was 5 deep or more.
        first_depth_5_at: Option<DateTime<Utc>>,
        first_seen_at: DateTime<Utc>,
        last_seen_at: DateTime<Utc>,
        /// `100 * (correct_answers + 1) / (answers + 2)`; null without answers.
        #[schema(minimum = 0, maximum = 100)]
        mastery_score: Option<f64>,
        /// Those that analysts do not get to see.
        withheld_events: u64,
        /// When the row was last written.
        updated_at: DateTime<Utc>,
    }
);

/// A child's week, from Monday: the sums of its days, the largest of what is largest, and all topics and
/// badges.
#[derive(ToSchema)]
#[expect(dead_code, reason = "PostgreSQL writes it")]
struct ActiveDays {
    /// Days that count for a streak.
    #[schema(maximum = 7)]
    active_days: u64,
}

impl Day {
    pub(crate) const fn date(&self) -> NaiveDate {
        self.local_date
    }
}

/// The row of `weekly_summaries`.
pub(crate) struct Week;

impl ToSchema for Week {}

impl PartialSchema for Week {
    fn schema() -> RefOr<Schema> {
        let mut week = ActiveDays::schema();
        if let (RefOr::T(Schema::Object(week)), RefOr::T(Schema::Object(day))) =
            (&mut week, Day::schema())
        {
            let of_week = |column: &String| column != "local_date";
            let columns = day.properties.into_iter();
            week.properties
                .extend(columns.filter(|(column, _)| of_week(column)));
            week.required
                .extend(day.required.into_iter().filter(of_week));
        }
        week
    }
}

/// Days without a gap, the first and the last among them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "PostgreSQL writes it")]
struct Days {
    from: NaiveDate,
    to: NaiveDate,
}

/// Days in a row.
#[derive(ToSchema)]
#[expect(dead_code, reason = "PostgreSQL writes it")]
pub(crate) struct Streak {
    child_id: Uuid,
    /// The family's: the name of an IANA time zone.
    timezone: String,
    /// The day that it is there.
    today: NaiveDate,
    /// Whether the family is shown streaks.
    shown: bool,
    /// What a parent sees today: it falls to 0 as days pass that cannot be bridged.
    streak_today: u64,
    /// As of `last_active_date`.
    current_streak: u64,
    longest_streak: u64,
    /// The first day of the current streak; null before the first active day.
    #[schema(required = true)]
    streak_started_on: Option<NaiveDate>,
    #[schema(required = true)]
    last_active_date: Option<NaiveDate>,
    /// Missed days that the streak would survive.
    #[schema(maximum = 2)]
    freezes_available: u64,
    /// Which rule it was reckoned by; null before the first active day.
    #[schema(required = true)]
    rule_version: Option<u64>,
    /// Days with something that counts, in order.
    active_days: Vec<Days>,
    /// When the row was last written; null before the first active day.
    #[schema(required = true)]
    updated_at: Option<DateTime<Utc>>,
}

/// JSON as PostgreSQL wrote it, which need not be taken apart.
pub(crate) fn raw(json: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(json).map_err(|error| {
        tracing::error!(%error, "PostgreSQL wrote JSON that is none");
        Problem::Unavailable("the numbers cannot be read now")
    })
}

/// Those of the days of a range that have events, in order.
pub(crate) async fn range(
    reading: &mut Reading,
    child: ChildId,
    range: Range,
) -> Result<Vec<Day>, Problem> {
    let sql = format!(
        "SELECT {} FROM daily_child_metrics WHERE child_id = $1 AND local_date BETWEEN $2 AND $3
         ORDER BY local_date",
        Day::COLUMNS
    );
    let days = sqlx::query_as(AssertSqlSafe(sql))
        .bind(child.uuid())
        .bind(range.from)
        .bind(range.to);
    Ok(days.fetch_all(&mut *reading.tx).await?)
}

/// Those of these days that have events, in order.
pub(crate) async fn days(
    reading: &mut Reading,
    child: ChildId,
    days: &[NaiveDate],
) -> Result<Vec<Day>, Problem> {
    let sql = format!(
        "SELECT {} FROM daily_child_metrics WHERE child_id = $1 AND local_date = ANY ($2)
         ORDER BY local_date",
        Day::COLUMNS
    );
    let days = sqlx::query_as(AssertSqlSafe(sql))
        .bind(child.uuid())
        .bind(days);
    Ok(days.fetch_all(&mut *reading.tx).await?)
}

/// The row of `streaks`, and what the parent sees today.
pub(crate) async fn streak(reading: &mut Reading, child: ChildId) -> Result<Value, Problem> {
    let streak: Option<Value> = sqlx::query_scalar(
        "SELECT json_build_object(
             'current_streak', current_streak, 'longest_streak', longest_streak,
             'streak_started_on', streak_started_on, 'last_active_date', last_active_date,
             'freezes_available', freezes_available, 'rule_version', rule_version,
             'active_days', (SELECT json_agg(json_build_object('from', lower(r), 'to', upper(r) - 1)
                                             ORDER BY r) FROM unnest(active_days) r),
             'streak_today', streak_as_of(child_id, $2), 'updated_at', updated_at)
         FROM streaks WHERE child_id = $1",
    )
    .bind(child.uuid())
    .bind(reading.today)
    .fetch_optional(&mut *reading.tx)
    .await?;
    // Before the first active day there is no row.
    let mut answer = streak.unwrap_or_else(|| {
        json!({
            "current_streak": 0, "longest_streak": 0, "streak_started_on": null,
            "last_active_date": null, "freezes_available": 0, "rule_version": null,
            "active_days": [], "streak_today": 0, "updated_at": null,
        })
    });
    answer["child_id"] = json!(child.uuid());
    answer["timezone"] = json!(reading.timezone.name());
    answer["today"] = json!(reading.today);
    answer["shown"] = json!(reading.streaks);
    Ok(answer)
}
