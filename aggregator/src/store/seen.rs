//! The dedup table: which events of a batch were counted before, and remembering the others.
//!
//! Look first, then insert: two thirds of the cost of `INSERT … ON CONFLICT DO NOTHING RETURNING`, which
//! inserts speculatively, row by row, and answers with every row that is new. Between the two
//! another transaction may remember one of the same identities (copies of an event in two
//! partitions): then the insert fails on the unique index, and the batch is tried again and looks
//! again.
//!
//! Not COPY, a tenth cheaper in the server: it takes several small writes, and sqlx 0.9.0 leaves
//! Nagle's algorithm on (transact-rs/sqlx#4335), so that many a transaction waited 40 ms.

use ahash::AHashSet;
use chrono::NaiveDate;
use rivulet_events::{Identity, ids::RESET_CLOCK_DAY};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgBindIterExt as _};
use uuid::Uuid;

use super::partitions;
use crate::prepare::Event;

const REMEMBER: &str = "
    INSERT INTO event_seen (day, seen_on, key)
    SELECT * FROM unnest($1::date[], $2::date[], $3::uuid[])";

/// Those of the events, sorted by identity, that were counted before.
pub(super) async fn counted(
    conn: &mut PgConnection,
    events: &[Event],
) -> Result<AHashSet<Identity>, sqlx::Error> {
    let mut counted = AHashSet::new();
    for of_day in events.chunk_by(|a, b| a.identity.day == b.identity.day) {
        let day = of_day[0].identity.day;
        // The partition by its name: through the parent every partition would be planned for.
        let sql = format!(
            "SELECT key FROM {} WHERE key = ANY ($1)",
            partitions::seen_name(day)
        );
        let keys = of_day
            .iter()
            .map(|event| Uuid::from_bytes(event.identity.key));
        let found: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(keys.bind_iter())
            .fetch_all(&mut *conn)
            .await?;
        counted.extend(found.into_iter().map(|key| Identity {
            day,
            key: key.into_bytes(),
        }));
    }
    Ok(counted)
}

/// Remembers the events, none of which was counted before.
pub(super) async fn remember(conn: &mut PgConnection, events: &[Event]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let keys = events
        .iter()
        .map(|event| Uuid::from_bytes(event.identity.key));
    sqlx::query(REMEMBER)
        .bind(events.iter().map(|event| event.identity.day).bind_iter())
        .bind(events.iter().map(|event| event.seen_on).bind_iter())
        .bind(keys.bind_iter())
        .execute(conn)
        .await
        .map(drop)
}

/// Forgets what is older than the retention, which ends on `until`. For the id-day of reset clocks,
/// whose partition stays, this goes by the day of arrival.
pub(super) async fn purge_reset_clocks(
    conn: &mut PgConnection,
    until: NaiveDate,
) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "DELETE FROM {} WHERE seen_on < $1",
        partitions::seen_name(RESET_CLOCK_DAY)
    );
    Ok(sqlx::query(AssertSqlSafe(sql))
        .bind(until)
        .execute(conn)
        .await?
        .rows_affected())
}
