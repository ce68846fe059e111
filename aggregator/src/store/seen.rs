//! The dedup table: finds out which events of a batch were counted before, and remembers the others.
//!
//! It looks first and inserts then. That takes two thirds of the time of `INSERT … ON CONFLICT DO NOTHING RETURNING`,
//! which inserts speculatively, row by row, and answers with every row that is new. Between the two another transaction
//! may remember one of the same identities, if copies of an event are in two partitions. Then the insert fails on the
//! unique index, and the batch is tried again and looks again.
//!
//! An identity is remembered in the partition of its id-day, if there is one. Otherwise it is apart: in the partition
//! of reset clocks. A partition is made for events whose id-day is near the day of their arrival, and is dropped by
//! age. So when an identity is looked for, the partition of its day may not be there yet, may be there, or may be gone.
//! Copies are found all the same:
//!
//! - Both partitions are looked into, the day's first: what is moved when a day is dropped has then been
//!   moved.
//! - Who finds no partition for a day keeps it from being made until the end of the transaction. Otherwise
//!   another transaction could remember a copy there meanwhile, and no index would notice.
//!
//! Not COPY, a tenth cheaper in the server: it takes several small writes, and sqlx 0.9.0 leaves
//! Nagle's algorithm on (transact-rs/sqlx#4335), so that many a transaction waited 40 ms.

use ahash::AHashSet;
use chrono::NaiveDate;
use rivulet_events::{Identity, ids::RESET_CLOCK_DAY, sabotage::sabotaged};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgBindIterExt as _};
use uuid::Uuid;

use super::partitions;
use crate::prepare::DistinctEvent;

const REMEMBER: &str = "
    INSERT INTO event_seen (day, seen_on, key)
    SELECT * FROM unnest($1::date[], $2::date[], $3::uuid[])";

/// The identities that are apart and whose keys are in these ranges: of each range [`FEW`] at most, and one more.
const APART_BETWEEN: &str = "
    SELECT asked.number, found.key
    FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS asked (first, last, number)
    CROSS JOIN LATERAL (
        SELECT key FROM event_seen_19700101 WHERE key BETWEEN first AND last LIMIT 1001
    ) AS found";

/// So many keys of a day that are apart are read at once, instead of asking for each key.
const FEW: usize = 1_000;

/// The id-days of the events that have no partition, and get none while this transaction lasts.
pub(super) async fn days_apart(
    conn: &mut PgConnection,
    events: &[DistinctEvent],
) -> Result<AHashSet<NaiveDate>, sqlx::Error> {
    let days = |timely: bool| {
        let of = events
            .iter()
            .filter(move |event| event.is_timely() == timely);
        of.map(|event| event.identity.day)
    };
    let mut apart: AHashSet<_> = days(false).collect();
    // The partitions of these days were made before the transaction began.
    for day in days(true) {
        apart.remove(&day);
    }
    apart.remove(&RESET_CLOCK_DAY);
    if !apart.is_empty() {
        for day in partitions::seen_days(conn).await? {
            apart.remove(&day);
        }
    }
    Ok(apart)
}

/// Those of the events, sorted by identity, that were counted before.
pub(super) async fn counted(
    conn: &mut PgConnection,
    events: &[DistinctEvent],
    apart: &AHashSet<NaiveDate>,
) -> Result<AHashSet<Identity>, sqlx::Error> {
    let mut counted = AHashSet::new();
    // Events that may be apart: `days` has those whose day has a partition, and `keys` has all others.
    let mut days: Vec<&[DistinctEvent]> = Vec::new();
    let mut keys: Vec<&DistinctEvent> = Vec::new();
    for of_day in events.chunk_by(|a, b| a.identity.day == b.identity.day) {
        let day = of_day[0].identity.day;
        if apart.contains(&day) || day == RESET_CLOCK_DAY {
            keys.extend(of_day);
            continue;
        }
        counted.extend(of_keys(conn, day, of_day.iter()).await?);
        days.push(of_day);
    }
    // Few events are apart, and fewer of them have an id of the same milliseconds, so reading these costs next to
    // nothing.
    let key = |event: &DistinctEvent| Uuid::from_bytes(event.identity.key);
    let found: Vec<(i64, Uuid)> = if days.is_empty() || sabotaged("both-partitions") {
        Vec::new()
    } else {
        sqlx::query_as(APART_BETWEEN)
            .bind(days.iter().map(|of_day| key(&of_day[0])).bind_iter())
            .bind(
                days.iter()
                    .map(|of_day| key(&of_day[of_day.len() - 1]))
                    .bind_iter(),
            )
            .fetch_all(&mut *conn)
            .await?
    };
    for found in found.chunk_by(|a, b| a.0 == b.0) {
        let of_day = days[found[0].0 as usize - 1];
        if found.len() > FEW {
            keys.extend(of_day);
            continue;
        }
        let day = of_day[0].identity.day;
        counted.extend(found.iter().map(|(_, key)| Identity {
            day,
            key: key.into_bytes(),
        }));
    }
    if !keys.is_empty() {
        let found = of_keys(conn, RESET_CLOCK_DAY, keys.iter().copied()).await?;
        let found: AHashSet<_> = found.map(|identity| identity.key).collect();
        let known = keys
            .iter()
            .filter(|event| found.contains(&event.identity.key));
        counted.extend(known.map(|event| event.identity));
    }
    Ok(counted)
}

/// The identities of these events that are in the partition of a day.
async fn of_keys<'e>(
    conn: &mut PgConnection,
    day: NaiveDate,
    events: impl ExactSizeIterator<Item = &'e DistinctEvent>,
) -> Result<impl Iterator<Item = Identity>, sqlx::Error> {
    // The partition by its name: through the parent every partition would be planned for.
    let sql = format!(
        "SELECT key FROM {} WHERE key = ANY ($1)",
        partitions::seen_name(day)
    );
    let keys = events.map(|event| Uuid::from_bytes(event.identity.key));
    let found: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(keys.bind_iter())
        .fetch_all(conn)
        .await?;
    Ok(found.into_iter().map(move |key| Identity {
        day,
        key: key.into_bytes(),
    }))
}

/// Remembers the events, none of which was counted before.
pub(super) async fn remember(
    conn: &mut PgConnection,
    events: &[DistinctEvent],
    apart: &AHashSet<NaiveDate>,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let partition_of = |event: &DistinctEvent| match event.identity.day {
        day if apart.contains(&day) => RESET_CLOCK_DAY,
        day => day,
    };
    let keys = events
        .iter()
        .map(|event| Uuid::from_bytes(event.identity.key));
    sqlx::query(REMEMBER)
        .bind(events.iter().map(partition_of).bind_iter())
        .bind(events.iter().map(|event| event.seen_on).bind_iter())
        .bind(keys.bind_iter())
        .execute(conn)
        .await
        .map(drop)
}

/// Forgets the identities that are apart and arrived before `until`. Their partition is never dropped, so they are
/// forgotten by the day of arrival.
pub(super) async fn purge_apart(
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
