//! The table `kafka_positions`: where each consumer is. A position is moved by compare-and-set inside the caller's
//! transaction. The offset itself is the fencing token: an instance with a stale one changes no row, whatever Kafka's
//! group believes.

use chrono::{DateTime, Utc};
use rivulet_events::sabotage::sabotaged;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row, SqlSafeStr as _, postgres::PgRow};

/// One partition's step from `expected` to `next`.
#[derive(Clone, Copy, Debug)]
pub struct Advance<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The topic's incarnation, as the [`Part`](crate::Part) has it.
    pub incarnation: &'a str,
    /// The position before.
    pub expected: i64,
    /// The position after: the last record's offset + 1.
    pub next: i64,
    /// The largest `received_at` among the records, unix milliseconds; 0 when none is known.
    pub received_at: i64,
}

/// What a transaction that stores something must heed: the numbers of the newest tombstone
/// (`rivulet_registry::tombstones`) and of the newest withdrawal of a consent (`rivulet_registry::revocations`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heed {
    /// 0 where nobody was erased.
    pub tombstone: i64,
    /// 0 where none was withdrawn.
    pub revocation: i64,
}

/// Why positions did not move. The transaction must be rolled back either way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another instance moved these partitions (topic, partition), or an operator did. What was made
    /// of their records is worthless: call [`Handle::resync`](crate::Handle::resync) for each.
    #[error("another instance has moved {} of these partitions", .0.len())]
    Fenced(Vec<(String, i32)>),
    /// PostgreSQL failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Locks the rows in the order of their key (two instances may want the same ones in a different
/// order), compares, and sets. A row that somebody else holds is waited for and compared anew. Every table is reached by a
/// key, also the one with a single row: callers may have scans switched off.
macro_rules! compare_and_set {
    (set: $set:literal, only_if: $only_if:literal) => {
        concat!(
            "WITH wanted AS (
                SELECT * FROM unnest($2::text[], $3::int[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
                    AS w(topic, partition, incarnation, expected, next, received_at)
            ), held AS (
                SELECT p.topic, p.partition, w.incarnation, w.expected, w.next,
                       to_timestamp(least(greatest(w.received_at, 0), extract(epoch FROM now()) * 1000)::float8 / 1000) AS until
                FROM kafka_positions p JOIN wanted w USING (topic, partition)
                WHERE p.consumer = $1
                ORDER BY p.topic, p.partition
                FOR UPDATE OF p
            )
            UPDATE kafka_positions p SET updated_at = now(), ",
            $set,
            " FROM held
            WHERE p.consumer = $1 AND p.topic = held.topic AND p.partition = held.partition
                AND p.topic_incarnation = held.incarnation AND p.next_offset = held.expected AND ",
            $only_if,
            " RETURNING p.topic, p.partition, (SELECT coalesce(max(number), 0) FROM tombstones), (SELECT number FROM revocation_state WHERE is_only)"
        )
    };
}

const ADVANCE: &str = compare_and_set!(
    set: "next_offset = held.next, consumed_until = greatest(p.consumed_until, held.until),
          ledger_to = held.next,
          ledger_from = CASE p.ledger_to WHEN held.expected THEN p.ledger_from ELSE held.expected END",
    only_if: "p.pending_end IS NULL"
);
const BEGIN_RANGE: &str = compare_and_set!(
    set: "pending_end = held.next, pending_tombstone = (SELECT coalesce(max(number), 0) FROM tombstones),
          pending_revocation = (SELECT number FROM revocation_state WHERE is_only)",
    only_if: "p.pending_end IS NULL"
);
const FINISH_RANGE: &str = compare_and_set!(
    set: "next_offset = held.next, pending_end = NULL, pending_tombstone = NULL, pending_revocation = NULL,
          consumed_until = greatest(p.consumed_until, held.until),
          ledger_to = held.next,
          ledger_from = CASE p.ledger_to WHEN held.expected THEN p.ledger_from ELSE held.expected END",
    only_if: "p.pending_end = held.next"
);

/// Moves every part's position from `expected` to `next`: all of them, or it is an error. Returns what a transaction that
/// holds (`rivulet_registry::tombstones`) must heed.
///
/// # Errors
/// [`Error::Fenced`] names the partitions that were not where they should be.
pub async fn advance(
    conn: &mut PgConnection,
    consumer: &str,
    parts: &[Advance<'_>],
) -> Result<Heed, Error> {
    compare_and_set(conn, ADVANCE, consumer, parts).await
}

/// Before records go to a store outside of this database: notes that `[expected, next)` of each
/// part is on its way. Until [`finish_range`], a consumer that opens the partition gets exactly these
/// records again, as a part with `pending_end`. Returns by what the block is to be formed, now and whenever it is formed again.
///
/// # Errors
/// [`Error::Fenced`] names the partitions that were elsewhere, or had a range begun already.
pub async fn begin_range(
    conn: &mut PgConnection,
    consumer: &str,
    parts: &[Advance<'_>],
) -> Result<Heed, Error> {
    compare_and_set(conn, BEGIN_RANGE, consumer, parts).await
}

/// What [`begin_range`] returned for this range, which was begun before.
///
/// # Errors
/// [`Error::Fenced`] where no such range was begun.
pub async fn begun_range(
    conn: &mut PgConnection,
    consumer: &str,
    part: &Advance<'_>,
) -> Result<Heed, Error> {
    let begun: Option<(i64, i64)> = sqlx::query_as(
        // A range that a release before these has begun was formed with everybody.
        "SELECT coalesce(pending_tombstone, 0), coalesce(pending_revocation, 0) FROM kafka_positions
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND topic_incarnation = $4
           AND next_offset = $5 AND pending_end = $6",
    )
    .bind(consumer)
    .bind(part.topic)
    .bind(part.partition)
    .bind(part.incarnation)
    .bind(part.expected)
    .bind(part.next)
    .fetch_optional(conn)
    .await?;
    let heed = begun.map(|(tombstone, revocation)| Heed {
        tombstone,
        revocation,
    });
    heed.ok_or_else(|| Error::Fenced(vec![(part.topic.to_owned(), part.partition)]))
}

/// After the store has them: moves each part's position over the range that was begun.
///
/// # Errors
/// [`Error::Fenced`] names the partitions where no such range was begun.
pub async fn finish_range(
    conn: &mut PgConnection,
    consumer: &str,
    parts: &[Advance<'_>],
) -> Result<(), Error> {
    let finished = compare_and_set(conn, FINISH_RANGE, consumer, parts).await;
    finished.map(drop)
}

/// What there is to heed now.
///
/// # Errors
/// PostgreSQL failed.
pub async fn newest(conn: &mut PgConnection) -> Result<Heed, sqlx::Error> {
    let (tombstone, revocation) = sqlx::query_as(
        "SELECT coalesce((SELECT max(number) FROM tombstones), 0), number FROM revocation_state",
    )
    .fetch_one(conn)
    .await?;
    Ok(Heed {
        tombstone,
        revocation,
    })
}

/// The time before which everything received was consumed, in every partition. `None` before the
/// consumer first ran, 1970 while a partition was not consumed at all. What is remembered to
/// recognise repeated events may be dropped by its distance from this, not from the clock: after
/// a long stop the clock says nothing about what is still to come.
///
/// # Errors
/// PostgreSQL failed.
pub async fn consumed_horizon(
    conn: &mut PgConnection,
    consumer: &str,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar("SELECT min(consumed_until) FROM kafka_positions WHERE consumer = $1")
        .bind(consumer)
        .fetch_one(conn)
        .await
}

async fn compare_and_set(
    conn: &mut PgConnection,
    statement: &'static str,
    consumer: &str,
    parts: &[Advance<'_>],
) -> Result<Heed, Error> {
    let statement = if sabotaged("compare-and-set") {
        let blind = statement.replace("p.next_offset = held.expected", "true");
        AssertSqlSafe(blind).into_sql_str()
    } else {
        statement.into_sql_str()
    };
    let moved: Vec<((String, i32), Heed)> = sqlx::query(statement)
        .bind(consumer)
        .bind(column(parts, |part| part.topic))
        .bind(column(parts, |part| part.partition))
        .bind(column(parts, |part| part.incarnation))
        .bind(column(parts, |part| part.expected))
        .bind(column(parts, |part| part.next))
        .bind(column(parts, |part| part.received_at))
        .try_map(|row: PgRow| {
            let heed = Heed {
                tombstone: row.try_get(2)?,
                revocation: row.try_get(3)?,
            };
            Ok(((row.try_get(0)?, row.try_get(1)?), heed))
        })
        .fetch_all(conn)
        .await?;
    let fenced: Vec<_> = parts
        .iter()
        .map(|part| (part.topic.to_owned(), part.partition))
        .filter(|key| !moved.iter().any(|(moved, _)| moved == key))
        .collect();
    match moved.first() {
        _ if !fenced.is_empty() => Err(Error::Fenced(fenced)),
        Some((_, heed)) => Ok(*heed),
        None => Ok(Heed {
            tombstone: 0,
            revocation: 0,
        }),
    }
}

fn column<'p, P, T>(parts: &'p [P], field: impl Fn(&'p P) -> T) -> Vec<T> {
    parts.iter().map(field).collect()
}

/// A partition as Kafka describes it now.
pub(crate) struct Found {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) incarnation: String,
    pub(crate) low: i64,
}

/// A partition as the table has it.
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) incarnation: String,
    pub(crate) next_offset: i64,
    pub(crate) pending_end: Option<i64>,
}

/// The positions of these partitions. One that was never seen begins at its oldest record.
pub(crate) async fn open(
    pool: &PgPool,
    consumer: &str,
    found: &[Found],
) -> Result<Vec<Stored>, sqlx::Error> {
    let topics = column(found, |partition| partition.topic.as_str());
    let partitions = column(found, |partition| partition.partition);
    let mut conn = pool.acquire().await?;
    sqlx::query(
        "INSERT INTO kafka_positions
             (consumer, topic, partition, topic_incarnation, next_offset, ledger_from, ledger_to)
         SELECT $1, f.*, f.next_offset, f.next_offset
         FROM unnest($2::text[], $3::int[], $4::text[], $5::bigint[])
             AS f (topic, partition, incarnation, next_offset)
         ON CONFLICT DO NOTHING",
    )
    .bind(consumer)
    .bind(&topics)
    .bind(&partitions)
    .bind(column(found, |partition| partition.incarnation.as_str()))
    .bind(column(found, |partition| partition.low))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "SELECT topic, partition, topic_incarnation, next_offset, pending_end FROM kafka_positions
         WHERE consumer = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))",
    )
    .bind(consumer)
    .bind(&topics)
    .bind(&partitions)
    .try_map(|row: PgRow| {
        Ok(Stored {
            topic: row.try_get(0)?,
            partition: row.try_get(1)?,
            incarnation: row.try_get(2)?,
            next_offset: row.try_get(3)?,
            pending_end: row.try_get(4)?,
        })
    })
    .fetch_all(&mut *conn)
    .await
}

/// Notes that everything received before `until` was consumed in these partitions (topic, partition, position), which
/// are at the end of their log. Without this a topic that nobody writes to would hold the horizon back for ever. Rows
/// that somebody else has locked are left for the next time.
pub(crate) async fn idle(
    pool: &PgPool,
    consumer: &str,
    at_end: &[(String, i32, i64)],
    until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH held AS (
            SELECT p.topic, p.partition FROM kafka_positions p
            JOIN unnest($2::text[], $3::int[], $4::bigint[]) AS w(topic, partition, next_offset)
                USING (topic, partition, next_offset)
            WHERE p.consumer = $1 AND p.pending_end IS NULL
                AND p.consumed_until < $5 - interval '1 minute'
            ORDER BY p.topic, p.partition
            FOR UPDATE OF p SKIP LOCKED
        )
        UPDATE kafka_positions p SET consumed_until = $5, updated_at = now() FROM held
        WHERE p.consumer = $1 AND p.topic = held.topic AND p.partition = held.partition",
    )
    .bind(consumer)
    .bind(column(at_end, |(topic, ..)| topic.as_str()))
    .bind(column(at_end, |(_, partition, _)| *partition))
    .bind(column(at_end, |(.., next)| *next))
    .bind(until)
    .execute(pool)
    .await
    .map(drop)
}
