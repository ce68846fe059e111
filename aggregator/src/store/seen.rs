//! The dedup table: which events of a batch were counted before, and remembering the others.
//!
//! Look first, then COPY: half the cost of `INSERT … ON CONFLICT DO NOTHING RETURNING`, which
//! inserts speculatively, row by row, and answers with every row that is new. Between the two
//! another transaction may remember one of the same identities (copies of an event in two
//! partitions): then the COPY fails on the unique index, and the batch is tried again and looks
//! again.

use ahash::AHashSet;
use chrono::NaiveDate;
use rivulet_events::{Identity, ids::RESET_CLOCK_DAY};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgBindIterExt as _};
use uuid::Uuid;

use super::partitions;
use crate::prepare::Event;

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
    let mut copy = conn
        .copy_in_raw("COPY event_seen (day, seen_on, key) FROM STDIN (FORMAT binary)")
        .await?;
    copy.send(rows(events)).await?;
    copy.finish().await.map(drop)
}

/// COPY's binary format: a header, each row as its number of fields and each field after its
/// length, a trailer.
fn rows(events: &[Event]) -> Vec<u8> {
    const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    const ROW: usize = 2 + (4 + 4) + (4 + 4) + (4 + 16);
    let mut out = Vec::with_capacity(HEADER.len() + events.len() * ROW + 2);
    out.extend_from_slice(HEADER);
    for event in events {
        out.extend_from_slice(&3_i16.to_be_bytes());
        for date in [event.identity.day, event.seen_on] {
            out.extend_from_slice(&4_i32.to_be_bytes());
            out.extend_from_slice(&pg_date(date).to_be_bytes());
        }
        out.extend_from_slice(&16_i32.to_be_bytes());
        out.extend_from_slice(&event.identity.key);
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    out
}

/// Days since 2000-01-01, PostgreSQL's zero.
fn pg_date(date: NaiveDate) -> i32 {
    date.to_epoch_days() - 10_957
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
