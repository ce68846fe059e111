//! The rows that both requests and live streams read from PostgreSQL.

use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::{ChildId, data::AgeGroup};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::{AssertSqlSafe, FromRow, Row as _, postgres::PgRow};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, RefOr, Schema, Type},
};
use uuid::Uuid;

use crate::{date_range::DateRange, problem::Problem, reading::Reading};

/// Bytes of rows in one answer; at least one row.
pub(crate) const BYTES: usize = 512 << 10;

/// A row of an answer. One list has the columns that SQL names and that the OpenAPI document describes. Rows that are
/// not `read` are written as JSON by PostgreSQL. That takes it 9 µs a day, and reading takes 1 µs.
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

/// Reads a column by its index.
trait Column: Sized {
    fn of(row: &PgRow, index: usize) -> Result<Self, sqlx::Error>;
}

macro_rules! column {
    ($($type:ty),+) => {$(
        impl Column for $type {
            fn of(row: &PgRow, index: usize) -> Result<Self, sqlx::Error> {
                row.try_get(index)
            }
        }
    )+};
}

column!(NaiveDate, DateTime<Utc>, String, Vec<String>, bool, f64);

impl Column for u64 {
    /// Counts and sums are never negative.
    fn of(row: &PgRow, index: usize) -> Result<Self, sqlx::Error> {
        row.try_get(index).map(i64::unsigned_abs)
    }
}

impl Column for Option<u64> {
    fn of(row: &PgRow, index: usize) -> Result<Self, sqlx::Error> {
        let number: Option<i64> = row.try_get(index)?;
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
        /// Activities begun.
        starts: u64,
        /// Answers given.
        answers: u64,
        /// Answers that were right.
        correct_answers: u64,
        /// Hints taken.
        hints: u64,
        /// Activities left out.
        skips: u64,
        /// Activities finished.
        completions: u64,
        /// Sum over the answers that have one.
        response_time_ms: u64,
        /// How many those are.
        response_time_count: u64,
        /// Points earned.
        xp: u64,
        /// Stars earned.
        stars: u64,
        /// By the child.
        messages_sent: u64,
        /// By the assistant.
        messages_received: u64,
        /// By the child.
        questions_asked: u64,
        /// Conversations with the assistant that began.
        conversations_started: u64,
        /// Messages with a moment of insight.
        aha_moments: u64,
        /// Messages on which a safety filter acted.
        messages_filtered: u64,
        /// Of the language model.
        tokens_used: u64,
        /// The deepest `depth_level`; null if no message had one.
        max_depth: Option<u64>,
        /// Speech events.
        speech_windows: u64,
        /// Sum of their lengths.
        speech_ms: u64,
        /// Words of the child, in speech.
        child_words: u64,
        /// Words of adults near the child, in speech.
        adult_words: u64,
        /// Turns between child and adult, in speech.
        conversational_turns: u64,
        /// Vocalisations that are no words, in speech.
        child_vocalizations: u64,
        /// Utterances of the child, in speech.
        utterances: u64,
        /// Words not heard from the child before, in speech.
        new_words: u64,
        /// Of one window; null without speech.
        max_unique_words: Option<u64>,
        /// Each once, sorted by byte; the first 256.
        topics: Vec<String>,
        /// Whether there are others.
        topics_more: bool,
        /// Each once, sorted by byte; the first 256.
        badges: Vec<String>,
        /// Whether there are others.
        badges_more: bool,
        /// What makes the day count for a streak.
        qualifying_events: u64,
        /// The earliest event time.
        first_event_at: DateTime<Utc>,
        /// The latest event time.
        last_event_at: DateTime<Utc>,
        /// Those that analysts do not get to see.
        withheld_events: u64,
        /// When the row was last written.
        updated_at: DateTime<Utc>,
    }
);

row!(
    /// One number of a period and subject.
    read Metric {
        /// A day, a Monday or the first of a month.
        period_start: NaiveDate,
        /// `general` where the app named none.
        subject: String,
        #[schema(value_type = MetricType)]
        metric_type: String,
        metric_value: f64,
        #[schema(value_type = MetricUnit)]
        metric_unit: String,
        /// The denominator: of time the interactions, of the score the events.
        sample_count: u64,
    }
);

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
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
#[expect(dead_code, reason = "only its schema is used")]
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
        /// As the app named it.
        topic: String,
        /// Whatever the action.
        interactions: u64,
        /// Answers given.
        answers: u64,
        /// Answers that were right.
        correct_answers: u64,
        /// Time on task.
        duration_ms: u64,
        /// Messages of the child and of the assistant.
        messages: u64,
        /// By the child.
        questions_asked: u64,
        /// Conversations begun.
        conversations: u64,
        /// The deepest `depth_level`; null if no message had one.
        max_depth: Option<u64>,
        /// When a message first was 5 deep or more.
        first_depth_5_at: Option<DateTime<Utc>>,
        /// When an event first named it.
        first_seen_at: DateTime<Utc>,
        /// When an event last named it.
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

impl Metric {
    /// The period's first day, and the subject.
    pub(crate) fn group(&self) -> (NaiveDate, &str) {
        (self.period_start, &self.subject)
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

row!(
    /// A child beside its siblings.
    #[expect(dead_code, reason = "PostgreSQL writes it")]
    ChildOfFamily {
        child_id: Uuid,
        #[schema(schema_with = age_groups)]
        age_group: String,
        /// As a parent sees it; null where the family is shown none.
        streak_today: Option<u64>,
        /// Null before the first active day.
        last_active_date: Option<NaiveDate>,
        /// Null without events.
        this_week: Option<Week>,
        /// Null without events.
        last_week: Option<Week>,
    }
);

fn age_groups() -> Object {
    let groups = AgeGroup::ALL.iter().map(|group| group.as_str());
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(groups))
        .build()
}

/// A page of what PostgreSQL writes as JSON.
pub(crate) struct Page<'a> {
    /// SQL for rows: a column `json`, the `keys`, and one row more than a page has, which shows that there
    /// are others.
    pub(crate) rows: &'a str,
    pub(crate) keys: &'a str,
    /// What the rows are ordered by: the keys, one way or the other.
    pub(crate) order: &'a str,
    /// Rows at most.
    pub(crate) most: usize,
    /// Bytes of them at most, and at least one row.
    pub(crate) bytes: usize,
}

impl Page<'_> {
    /// SQL for the rows of the page: `json`, how many were `found`, and the keys. What is not answered is
    /// not sent here either.
    pub(crate) fn sql(&self) -> AssertSqlSafe<String> {
        let Self {
            rows,
            keys,
            order,
            most,
            bytes,
        } = self;
        AssertSqlSafe(format!(
            "WITH found AS MATERIALIZED ({rows})
             SELECT json, count, {keys} FROM (
                 SELECT *, count(*) OVER () AS count, row_number() OVER page AS nth,
                        sum(octet_length(json) + 1) OVER page AS bytes
                 FROM found WINDOW page AS (ORDER BY {order})
             ) AS found
             WHERE nth = 1 OR (nth <= {most} AND bytes <= {bytes}) ORDER BY nth"
        ))
    }
}

/// Rows as PostgreSQL wrote them, as one array; they need not be taken apart.
pub(crate) fn array<'a>(rows: impl Iterator<Item = &'a str>) -> Result<Box<RawValue>, Problem> {
    let rows: Vec<_> = rows.filter(|row| !row.is_empty()).collect();
    RawValue::from_string(format!("[{}]", rows.join(","))).map_err(|error| {
        tracing::error!(%error, "PostgreSQL wrote text that is not JSON");
        Problem::Unavailable("the numbers cannot be read now")
    })
}

fn unwritable(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "an answer could not be written");
    Problem::Unavailable("the numbers cannot be told now")
}

/// The first of the days of a range of dates that have events, in order, as many as fit into one answer; and, where
/// there are others, the last of these.
pub(crate) async fn days_with_events(
    reading: &mut Reading,
    child: ChildId,
    dates: DateRange,
) -> Result<(Box<RawValue>, Option<NaiveDate>), Problem> {
    let sql = format!("SELECT {} FROM days_within($1, $2, $3, $4)", Day::COLUMNS);
    let mut found: Vec<Day> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(child.uuid())
        .bind(dates.from)
        .bind(dates.to)
        .bind(BYTES as i64)
        .fetch_all(&mut *reading.tx)
        .await?;
    // They are in order already. To check that costs little.
    found.sort_unstable_by_key(Day::date);
    let (days, last) = fitting(&found, |_, _| false, found.len())?;
    Ok((days, last.map(Day::date)))
}

/// The first of these rows as JSON, as many as fit into one answer; and, where there are others, the last of
/// these. Rows that are the `same` stay together, and `most` such groups are in one answer. What is found is
/// bounded already: by the bytes of it, or by rows.
pub(crate) fn fitting<T: Serialize>(
    found: &[T],
    same: fn(&T, &T) -> bool,
    most: usize,
) -> Result<(Box<RawValue>, Option<&T>), Problem> {
    let json = to_raw_value(found).map_err(unwritable)?;
    if json.get().len() <= BYTES && found.chunk_by(same).count() <= most {
        return Ok((json, None));
    }
    let (mut taken, mut bytes) = (0, 0);
    for (nth, group) in found.chunk_by(same).enumerate() {
        // The brackets of the group's array count for the comma before the group.
        bytes += to_raw_value(group).map_err(unwritable)?.get().len() - 1;
        if nth > 0 && (nth == most || bytes > BYTES) {
            break;
        }
        taken += group.len();
    }
    let (taken, others) = found.split_at(taken);
    let json = to_raw_value(taken).map_err(unwritable)?;
    Ok((json, taken.last().filter(|_| !others.is_empty())))
}

/// Those of these days that have events, the newest first: as many as may fit into so many bytes of JSON, and one more
/// where there are others.
pub(crate) async fn days(
    reading: &mut Reading,
    child: ChildId,
    days: &[NaiveDate],
    bytes: usize,
) -> Result<Vec<Day>, Problem> {
    let sql = format!(
        "SELECT {} FROM newest_days_within($1, $2, $3)",
        Day::COLUMNS
    );
    let days = sqlx::query_as(AssertSqlSafe(sql))
        .bind(child.uuid())
        .bind(days)
        .bind(bytes as i64);
    Ok(days.fetch_all(&mut *reading.tx).await?)
}
