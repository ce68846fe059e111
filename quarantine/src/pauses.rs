//! The table `quarantine_pauses`: consumers that wait for an operator, and what the operator decided.

use rivulet_auditlog::{Action, Entry, record};
use sqlx::{FromRow, PgPool};

use crate::Error;

/// A pause that was ended.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Pause {
    /// Who had stopped.
    pub consumer: String,
    /// The topic because of which it had stopped.
    pub topic: String,
    /// How many of the topic's recent records were unfit.
    pub unfit: i64,
    /// How many recent records of the topic there were.
    pub records: i64,
}

/// Lets consumers that have stopped go on: one of them or all, those that stopped because of one topic or of any. They
/// set aside what they must, until the share of such records has been small again.
///
/// # Errors
/// PostgreSQL.
pub async fn resume(
    pool: &PgPool,
    consumer: Option<&str>,
    topic: Option<&str>,
    by: &str,
) -> Result<Vec<Pause>, Error> {
    let mut transaction = pool.begin().await?;
    let resumed: Vec<Pause> = sqlx::query_as(
        "UPDATE quarantine_pauses SET resumed_by = $3, resumed_at = now()
         WHERE resumed_at IS NULL AND consumer = coalesce($1, consumer) AND topic = coalesce($2, topic)
         RETURNING consumer, topic, unfit, records",
    )
    .bind(consumer)
    .bind(topic)
    .bind(by)
    .fetch_all(&mut *transaction)
    .await?;
    if resumed.is_empty() {
        return Ok(resumed);
    }
    let mut topics: Vec<_> = resumed.iter().map(|pause| pause.topic.as_str()).collect();
    topics.dedup();
    let consumers: Vec<_> = resumed
        .iter()
        .map(|pause| pause.consumer.as_str())
        .collect();
    let entry = Entry::done(Action::QuarantineResume)
        .about("topic", topics)
        .detail("consumers", consumers)
        .detail("by", by);
    record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(resumed)
}

/// Notes that the consumer waits, and returns whether it may go on.
pub(crate) async fn may_go_on(
    pool: &PgPool,
    consumer: &str,
    topic: &str,
    (unfit, records): (u64, u64),
) -> Result<bool, sqlx::Error> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query_scalar(
        "INSERT INTO quarantine_pauses AS p (consumer, topic, unfit, records) VALUES ($1, $2, $3, $4)
         ON CONFLICT (consumer, topic) DO UPDATE SET unfit = excluded.unfit, records = excluded.records
         RETURNING p.resumed_at IS NOT NULL",
    )
    .bind(consumer)
    .bind(topic)
    .bind(number(unfit))
    .bind(number(records))
    .fetch_one(pool)
    .await
}

/// Forgets the pause of a topic whose share is small again, and with it the operator's decision. The next pause needs a
/// new one.
pub(crate) async fn forget(pool: &PgPool, consumer: &str, topic: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM quarantine_pauses WHERE consumer = $1 AND topic = $2")
        .bind(consumer)
        .bind(topic)
        .execute(pool)
        .await
        .map(drop)
}
