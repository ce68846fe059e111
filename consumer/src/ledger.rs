//! The table `consumer_ledger`: what became of the records that a consumer passed, by partition and
//! hour. The other side of the books is the log in Kafka.

use sqlx::{PgConnection, postgres::PgBindIterExt as _};

use crate::positions::Advance;

const HOUR_MS: i64 = 3_600_000;

/// 2100-01-01: a producer may put any timestamp on a record, and PostgreSQL has none for some.
const LAST_MS: i64 = 4_102_444_800_000;

/// What became of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Took effect.
    pub counted: u64,
    /// Copies of what took effect, or was withheld, before.
    pub duplicates: u64,
    /// Could not be processed, and are in the table `quarantine`.
    pub quarantined: u64,
    /// Of the counted, those that `analytics` keeps out of ClickHouse.
    pub withheld: u64,
    /// Dropped, because their child was erased.
    pub erased: u64,
    /// Dropped, because the consent was withdrawn on which they had been taken.
    pub revoked: u64,
}

impl Account {
    /// Records that it is of.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.counted + self.duplicates + self.quarantined + self.erased + self.revoked
    }
}

/// The hour of a Kafka timestamp in Unix milliseconds, in hours since 1970; 0 where there is none.
#[must_use]
pub fn hour(timestamp: i64) -> i64 {
    timestamp.clamp(0, LAST_MS) / HOUR_MS
}

/// Adds to the ledger, in the transaction that moves the position. Each entry is the step of a partition, an hour as of
/// [`hour`], and what became of that hour's records. No step may have the same hour twice.
///
/// # Errors
/// PostgreSQL failed.
pub async fn add<'a, 'e: 'a>(
    conn: &mut PgConnection,
    consumer: &str,
    entries: &'a [(&'e Advance<'e>, i64, Account)],
) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Account) -> u64| entries.iter().map(move |entry| of(&entry.2) as i64);
    sqlx::query(
        "INSERT INTO consumer_ledger AS l
             (consumer, topic, partition, topic_incarnation, hour,
              counted, duplicates, quarantined, withheld, erased, revoked)
         SELECT $1, topic, partition, incarnation, to_timestamp(hour * 3600), c, d, q, w, x, r
         FROM unnest($2::text[], $3::int[], $4::text[], $5::bigint[],
                     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
                     $11::bigint[])
             AS e (topic, partition, incarnation, hour, c, d, q, w, x, r)
         ON CONFLICT (consumer, topic, partition, topic_incarnation, hour) DO UPDATE
         SET counted = l.counted + excluded.counted,
             duplicates = l.duplicates + excluded.duplicates,
             quarantined = l.quarantined + excluded.quarantined,
             withheld = l.withheld + excluded.withheld,
             erased = l.erased + excluded.erased,
             revoked = l.revoked + excluded.revoked",
    )
    .bind(consumer)
    .bind(entries.iter().map(|entry| entry.0.topic).bind_iter())
    .bind(entries.iter().map(|entry| entry.0.partition).bind_iter())
    .bind(entries.iter().map(|entry| entry.0.incarnation).bind_iter())
    .bind(entries.iter().map(|entry| entry.1).bind_iter())
    .bind(column(|account| account.counted).bind_iter())
    .bind(column(|account| account.duplicates).bind_iter())
    .bind(column(|account| account.quarantined).bind_iter())
    .bind(column(|account| account.withheld).bind_iter())
    .bind(column(|account| account.erased).bind_iter())
    .bind(column(|account| account.revoked).bind_iter())
    .execute(conn)
    .await
    .map(drop)
}

/// Drops the hours of a consumer that are more than `days` behind what it consumed.
///
/// # Errors
/// PostgreSQL failed.
pub async fn forget(conn: &mut PgConnection, consumer: &str, days: u64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM consumer_ledger WHERE consumer = $1 AND hour <
             (SELECT min(consumed_until) FROM kafka_positions WHERE consumer = $1)
             - $2 * interval '1 day'",
    )
    .bind(consumer)
    .bind(i64::try_from(days).unwrap_or(i64::MAX))
    .execute(conn)
    .await
    .map(drop)
}
