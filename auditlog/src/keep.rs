//! What goes on beside the roles: groups are written, and the head of the log is told.

use std::{sync::Arc, time::Duration};

use chrono::{NaiveDate, Utc};
use sqlx::{FromRow, PgPool};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Groups,
    groups::{times, write},
    hex,
    metrics::{FAILED_WRITES, HEAD_HASH, HEAD_SEQ, LOST},
};

/// How often the head is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long a process that ends tries to write what it has.
const LAST_WRITE: Duration = Duration::from_secs(10);
/// How long a write may take before it counts as failed.
const WRITE: Duration = Duration::from_secs(10);

/// The end of the log.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Head {
    /// The newest row's number; 0 of an empty log.
    pub seq: i64,
    /// Its hash; zeros of an empty log.
    pub hash: Vec<u8>,
}

impl Head {
    /// The hash in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.hash)
    }

    /// The first 48 bits of the hash, which a metric carries exactly.
    #[must_use]
    pub fn number(&self) -> u64 {
        let bits = self.hash.iter().take(6);
        bits.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// The end of the log as it is now.
///
/// # Errors
/// PostgreSQL.
pub async fn head(pool: &PgPool) -> Result<Head, sqlx::Error> {
    sqlx::query_as("SELECT seq, hash FROM public.audit_head")
        .fetch_one(pool)
        .await
}

/// Writes the groups every so often, or when there is much, and once more when `stopping`; tells the head of the log as
/// a metric, and in the log of the process at the start and each day. Where PostgreSQL does not take the groups, they
/// wait in memory.
pub async fn keep(groups: Arc<Groups>, pool: PgPool, every: Duration, stopping: CancellationToken) {
    let mut writes = interval(every.max(Duration::from_millis(10)));
    let mut looks = interval(LOOK_EVERY);
    for ticks in [&mut writes, &mut looks] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let (mut waiting, mut told_on) = (Vec::new(), None);
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = writes.tick() => {}
            // Not in a loop while PostgreSQL is away.
            () = groups.is_full.notified(), if waiting.is_empty() => {}
            _ = looks.tick() => {
                let head = stopping.run_until_cancelled(timeout(WRITE, head(&pool)));
                if let Some(Ok(Ok(head))) = head.await {
                    tell(&head, &mut told_on);
                }
                continue;
            }
        }
        if waiting.is_empty() {
            waiting = groups.take();
        }
        if !matches!(timeout(WRITE, write(&pool, &mut waiting)).await, Ok(Ok(()))) {
            FAILED_WRITES.increment(1);
            tracing::warn!(
                reads = times(&waiting),
                "reads cannot be written to the audit log now; they wait in memory"
            );
        }
    }
    let last = async {
        write(&pool, &mut waiting).await?;
        waiting = groups.take();
        write(&pool, &mut waiting).await
    };
    if !matches!(timeout(LAST_WRITE, last).await, Ok(Ok(()))) {
        let lost = times(&waiting) + times(&groups.take());
        LOST.increment(lost);
        tracing::error!(
            reads = lost,
            "reads are missing in the audit log: PostgreSQL did not take them"
        );
    }
}

fn tell(head: &Head, told_on: &mut Option<NaiveDate>) {
    HEAD_SEQ.set(head.seq as f64);
    HEAD_HASH.set(head.number() as f64);
    let today = Utc::now().date_naive();
    if *told_on != Some(today) {
        *told_on = Some(today);
        tracing::info!(
            seq = head.seq,
            hash = head.hex(),
            "the head of the audit log"
        );
    }
}

/// Drops the months of the log that ended before this day, the oldest first, and returns how many rows went. A row in
/// the log tells of each, so that [`verify`](crate::verify) goes on from there. The owner of the table may drop any month
/// that is over; the operator's login those that are as old as retention.toml says.
///
/// # Errors
/// PostgreSQL; a month that somebody reads just now is not waited for longer than two seconds.
pub async fn drop_months_before(pool: &PgPool, day: NaiveDate) -> Result<u64, sqlx::Error> {
    let months: Vec<NaiveDate> = sqlx::query_scalar(
        "SELECT month FROM (
             SELECT to_date(right(relname, 6), 'YYYYMM') AS month FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = 'public.audit_log'::regclass) AS months
         WHERE (month + interval '1 month')::date <= $1 ORDER BY month",
    )
    .bind(day)
    .fetch_all(pool)
    .await?;
    let is_owner: bool = sqlx::query_scalar(
        "SELECT has_function_privilege('public.audit_drop_month(date)', 'EXECUTE')",
    )
    .fetch_one(pool)
    .await?;
    let drop_month = if is_owner {
        "SELECT public.audit_drop_month($1)"
    } else {
        "SELECT public.audit_expire_month($1)"
    };
    let mut dropped = 0;
    for month in months {
        let rows: i64 = sqlx::query_scalar(drop_month)
            .bind(month)
            .fetch_one(pool)
            .await?;
        dropped += rows.unsigned_abs();
    }
    Ok(dropped)
}
