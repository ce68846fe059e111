//! What goes for its age of the registry, of erasures and of the audit log, and children of whom nothing comes any more.
//!
//! The periods are those that `rivulet migrate` brought to `retention_periods` from retention.toml. Rows go in small
//! transactions; all of it may be done again, and by several processes at once.

use std::{convert::Infallible, time::Duration};

use chrono::{DateTime, Days, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{Error, NotErased, Subject, request_any};

/// How often it is looked whether a day has passed.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Rows, families or children of one transaction.
const TOGETHER: i64 = 100;

/// Between two transactions, for everybody else.
const PAUSE: Duration = Duration::from_millis(20);

/// Who asks for the erasure of children of whom nothing comes any more.
const BY: &str = "retention";

/// Deletes what is too old, for ever. `inactive_days`: erases children without an event for so long.
pub async fn keep_up(pool: PgPool, inactive_days: Option<u32>) -> Infallible {
    loop {
        if let Err(error) = expire(&pool, Utc::now(), inactive_days).await {
            tracing::warn!(%error, "what is too old could not be deleted; trying again later");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Deletes what is too old at `now`, of every class of which that was not done on that day.
///
/// # Errors
/// PostgreSQL failed. What was deleted before stays deleted.
pub async fn expire(
    pool: &PgPool,
    now: DateTime<Utc>,
    inactive_days: Option<u32>,
) -> Result<(), Error> {
    let today = now.date_naive();
    for (class, delete) in [
        ("consents", &FAMILIES[..]),
        ("erasures", &ERASURES[..]),
        ("audit", &AUDIT[..]),
    ] {
        let due: Option<NaiveDate> = sqlx::query_scalar("SELECT retention_due($1, $2)")
            .bind(class)
            .bind(today)
            .fetch_one(pool)
            .await?;
        let Some(cut) = due else {
            continue;
        };
        if class == "audit" {
            rivulet_auditlog::drop_months_before(pool, cut).await?;
        }
        for statement in delete {
            let rows = in_steps(pool, statement, cut).await?;
            if rows > 0 {
                tracing::info!(class, rows, until = %cut, "rows went for their age");
            }
        }
        // Unless the period was changed meanwhile, which asks for another look.
        sqlx::query(
            "UPDATE retention_periods SET swept_until = $2
             WHERE class = $1 AND CURRENT_DATE - days <= $2 AND coalesce(swept_until < $2, true)",
        )
        .bind(class)
        .bind(cut)
        .execute(pool)
        .await?;
    }
    if let Some(days) = inactive_days {
        erase_inactive(pool, now, days).await?;
    }
    Ok(())
}

/// The evidence of the consents of families that were deleted so long ago, which may go only while the parent is there;
/// the families; single children; and withdrawals, of children who are gone or that ended so long ago.
const FAMILIES: [&str; 4] = [
    "DELETE FROM consent_changes WHERE ctid = ANY (ARRAY(
         SELECT c.ctid FROM consent_changes c JOIN parents p ON p.id = c.parent_id
         WHERE p.deleted_at < $1 LIMIT $2))",
    "WITH old AS (
         SELECT id FROM parents p
         WHERE deleted_at < $1 AND NOT EXISTS (SELECT FROM consent_changes c WHERE c.parent_id = p.id)
         ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
     ), members AS (
         DELETE FROM children USING old WHERE parent_id = old.id
     )
     DELETE FROM parents USING old WHERE parents.id = old.id",
    "WITH old AS (
         SELECT id FROM children WHERE deleted_at < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
     )
     DELETE FROM children USING old WHERE children.id = old.id",
    "DELETE FROM revocations WHERE ctid = ANY (ARRAY(
         SELECT r.ctid FROM revocations r
         WHERE r.granted_at < $1 OR NOT EXISTS (SELECT FROM children c WHERE c.id = r.child_id)
         ORDER BY r.id LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

const ERASURES: [&str; 1] = ["WITH old AS (
         SELECT id FROM erasures WHERE state = 'done' AND done_at < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
     ), stores AS (
         DELETE FROM erasure_stores USING old WHERE erasure_id = old.id
     )
     DELETE FROM erasures USING old WHERE erasures.id = old.id"];

const AUDIT: [&str; 1] = [
    "DELETE FROM quarantine_actions WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM quarantine_actions WHERE acted_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

/// Runs a statement that deletes a few old rows until it finds none. Returns how many it deleted.
async fn in_steps(pool: &PgPool, statement: &'static str, cut: NaiveDate) -> Result<u64, Error> {
    let mut deleted = 0;
    loop {
        let rows = sqlx::query(statement)
            .bind(cut)
            .bind(TOGETHER)
            .execute(pool)
            .await?
            .rows_affected();
        if rows == 0 {
            return Ok(deleted);
        }
        deleted += rows;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Children who are registered, without an event since `since`. PostgreSQL must have been told of all until then: it
/// says nobody while the aggregator is behind, or daily rows went that would tell.
const INACTIVE: &str = "
    SELECT c.id FROM children c JOIN parents p ON p.id = c.parent_id
    WHERE c.deleted_at IS NULL AND p.deleted_at IS NULL AND c.created_at < $1::date
      AND NOT EXISTS (SELECT FROM daily_child_metrics d WHERE d.child_id = c.id AND d.local_date >= $1)
      AND (SELECT greatest(kept_since, CURRENT_DATE - days) <= $1 FROM retention_periods WHERE class = 'daily')
      AND (SELECT min(consumed_until) > $2 FROM kafka_positions WHERE consumer = 'aggregator')";

/// How far the aggregator may be behind for that.
const BEHIND: Duration = Duration::from_secs(24 * 3_600);

/// Children of whom no event came for `days`, though they are registered for so long; at most `limit`. Nobody while the
/// aggregator is more than a day behind, which could have missed one who is back.
///
/// # Errors
/// PostgreSQL failed.
pub async fn inactive(
    pool: &PgPool,
    now: DateTime<Utc>,
    days: u32,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let since = now.date_naive() - Days::new(days.into());
    sqlx::query_scalar(AssertSqlSafe(format!("{INACTIVE} ORDER BY c.id LIMIT $3")))
        .bind(since)
        .bind(now - BEHIND)
        .bind(limit)
        .fetch_all(pool)
        .await
}

async fn erase_inactive(pool: &PgPool, now: DateTime<Utc>, days: u32) -> Result<(), Error> {
    loop {
        let children = inactive(pool, now, days, TOGETHER).await?;
        if children.is_empty() {
            return Ok(());
        }
        let subjects: Vec<_> = children.into_iter().map(Subject::Child).collect();
        match request_any(pool, &subjects, BY).await {
            Ok(_) => tracing::info!(
                children = subjects.len(),
                "children of whom nothing came for as long as retention.toml says are being erased"
            ),
            Err(NotErased::Database(error)) => return Err(error.into()),
            Err(NotErased::NotFound) => return Ok(()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
