//! Looking at what is in quarantine.

use chrono::{DateTime, Utc};
use rivulet_auditlog::{Action, record_now};
use rivulet_events::record::child_of;
use serde::Serialize;
use sqlx::{FromRow, PgPool, QueryBuilder};

use crate::{Error, Selection};

/// A record in quarantine, without what it says.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize)]
pub struct Entry {
    /// Who set it aside.
    pub consumer: String,
    /// Where it came from.
    pub topic: String,
    /// Where it came from.
    pub partition: i32,
    /// Where it came from.
    pub kafka_offset: i64,
    /// Which topic of that name, `<cluster id>/<topic id>`.
    pub topic_incarnation: String,
    /// Why, stable.
    pub code: String,
    /// When.
    pub quarantined_at: DateTime<Utc>,
    /// How long it is.
    pub record_bytes: i32,
}

/// All there is about a record in quarantine. It may hold a child's data: for a person's eyes.
#[derive(Clone, Debug, FromRow)]
pub struct Details {
    /// Where it came from, and why it is here.
    #[sqlx(flatten)]
    pub entry: Entry,
    /// Why, in words; may quote the record.
    pub detail: String,
    /// As it was in Kafka.
    pub record: Vec<u8>,
}

/// How many records of one code a consumer set aside.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Count {
    /// The code.
    pub code: String,
    /// The consumer.
    pub consumer: String,
    /// Rows.
    pub records: i64,
}

const ENTRY: &str = "SELECT consumer, topic, partition, kafka_offset, topic_incarnation, code,
    quarantined_at, octet_length(record) AS record_bytes";

/// The selected records in the order of where they came from, at most `limit`.
///
/// # Errors
/// PostgreSQL.
pub async fn list(
    pool: &PgPool,
    selection: &Selection,
    limit: Option<i64>,
) -> Result<Vec<Entry>, Error> {
    let mut query = QueryBuilder::new(ENTRY);
    query.push(" FROM quarantine");
    selection.push_where(&mut query);
    query
        .push(" ORDER BY topic, partition, kafka_offset, topic_incarnation, consumer LIMIT ")
        .push_bind(limit);
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// How many are selected, by code and consumer, the most first.
///
/// # Errors
/// PostgreSQL.
pub async fn count(pool: &PgPool, selection: &Selection) -> Result<Vec<Count>, Error> {
    let mut query = QueryBuilder::new("SELECT code, consumer, count(*) AS records FROM quarantine");
    selection.push_where(&mut query);
    query.push(" GROUP BY code, consumer ORDER BY records DESC, code, consumer");
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// The one selected record, as each of the consumers that set it aside tells it; none if there is none.
///
/// # Errors
/// [`Error::Ambiguous`], or PostgreSQL.
pub async fn show(pool: &PgPool, selection: &Selection) -> Result<Vec<Details>, Error> {
    let mut query = QueryBuilder::new(ENTRY);
    query.push(", detail, record FROM quarantine");
    selection.push_where(&mut query);
    // More than there are consumers.
    query.push(" ORDER BY topic, partition, kafka_offset, topic_incarnation, consumer LIMIT 10");
    let found: Vec<Details> = query.build_query_as().fetch_all(pool).await?;
    let is_same = |a: &Entry, b: &Entry| {
        (a.partition, a.kafka_offset) == (b.partition, b.kafka_offset)
            && a.topic == b.topic
            && a.topic_incarnation == b.topic_incarnation
    };
    if found
        .windows(2)
        .any(|pair| !is_same(&pair[0].entry, &pair[1].entry))
    {
        return Err(Error::Ambiguous);
    }
    if let Some(Details { entry, record, .. }) = found.first() {
        let seen = rivulet_auditlog::Entry::done(Action::Read).detail("kinds", vec!["quarantine"]);
        let seen = match child_of(record) {
            Some(child) => seen.child(child.uuid()),
            None => seen.about("topic", [entry.topic.as_str()]),
        };
        record_now(pool, seen).await?;
    }
    Ok(found)
}
