//! Deletes the rollups that are older than `retention_periods` lets them be: what `rivulet migrate` brought there from
//! retention.toml.
//!
//! Whole months go by dropping their partition. Of the month at the edge, of streaks and of topics, rows go in small
//! transactions, each of some hundred children, in the order of keys: nobody waits for one for longer than for another
//! batch. All of it may be done again, and by several instances at once.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::partitions;
use crate::metrics::{EXPIRED_PARTITIONS, EXPIRED_ROWS};

/// Rows looked at in one transaction.
const WINDOW: i64 = 1_000;

/// Between two transactions, for everybody else.
const PAUSE: Duration = Duration::from_millis(20);

/// The days of a streak that are kept. It stays what it is: a function of the set of active days.
const TRIM: &str = "
    UPDATE streaks t
    SET (current_streak, longest_streak, streak_started_on, last_active_date, freezes_available)
            = (SELECT s.* FROM streak_of(t.active_days - datemultirange(daterange(NULL, $3))) AS s),
        active_days = t.active_days - datemultirange(daterange(NULL, $3)),
        updated_at = now()
    WHERE child_id > $1 AND child_id <= $2 AND lower(active_days) < $3";

/// Deletes what is too old, of every class of which that was not done today.
pub(crate) async fn sweep(pool: &PgPool, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let today = now.date_naive();
    if let Some(cut) = due(pool, "daily", today).await? {
        let streaks = by_child(pool, "streaks", "lower(active_days) < $3", cut).await?;
        let months = drop_months(pool, "daily_child_metrics", cut).await?;
        let rows = by_child(pool, "daily_child_metrics", "local_date < $3", cut).await?;
        done(pool, "daily", cut).await?;
        if months + streaks + rows > 0 {
            tracing::info!(months, rows, streaks, until = %cut, "daily rollups went for their age");
        }
    }
    if let Some(cut) = due(pool, "learning", today).await? {
        let months = drop_months(pool, "learning_analytics", cut).await?;
        let rows = by_child(pool, "learning_analytics", "local_date < $3", cut).await?;
        let topics = by_child(pool, "topic_progress", "last_seen_at < $3", cut).await?;
        done(pool, "learning", cut).await?;
        if months + rows + topics > 0 {
            tracing::info!(months, rows, topics, until = %cut, "progress went for its age");
        }
    }
    Ok(())
}

async fn due(
    pool: &PgPool,
    class: &str,
    today: NaiveDate,
) -> Result<Option<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar("SELECT retention_due($1, $2)")
        .bind(class)
        .bind(today)
        .fetch_one(pool)
        .await
}

/// Unless the period was changed meanwhile, which asks for another look.
async fn done(pool: &PgPool, class: &str, cut: NaiveDate) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE retention_periods SET swept_until = $2
         WHERE class = $1 AND CURRENT_DATE - days <= $2 AND coalesce(swept_until < $2, true)",
    )
    .bind(class)
    .bind(cut)
    .execute(pool)
    .await
    .map(drop)
}

/// Drops the months that end on or before `cut`, one at a time.
async fn drop_months(
    pool: &PgPool,
    table: &'static str,
    cut: NaiveDate,
) -> Result<u64, sqlx::Error> {
    let mut months = 0;
    while partitions::drop_month_before(pool, table, cut).await? {
        months += 1;
        EXPIRED_PARTITIONS.with([table]).increment(1);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(months)
}

/// Deletes the rows of a table that are too old, or makes streaks shorter, in windows of children. Returns how many.
async fn by_child(
    pool: &PgPool,
    table: &'static str,
    is_old: &'static str,
    cut: NaiveDate,
) -> Result<u64, sqlx::Error> {
    let statements = statements(table, is_old);
    let is_next = is_old.replace("$3", "$2");
    let next = format!(
        "SELECT child_id FROM (
             SELECT child_id FROM {table} WHERE child_id > $1 AND {is_next} ORDER BY child_id LIMIT {WINDOW}
         ) AS next ORDER BY child_id DESC LIMIT 1"
    );
    let (mut after, mut changed) = (Uuid::nil(), 0);
    loop {
        let mut transaction = pool.begin().await?;
        sqlx::raw_sql("SET LOCAL synchronous_commit = off; SET LOCAL statement_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        let last: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(next.clone()))
            .bind(after)
            .bind(cut)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(last) = last else {
            return Ok(changed);
        };
        let mut rows = 0;
        for statement in &statements {
            let done = sqlx::query(AssertSqlSafe(statement.clone()))
                .bind(after)
                .bind(last)
                .bind(cut)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
            if !statement.starts_with("SELECT") {
                rows += done;
            }
        }
        transaction.commit().await?;
        EXPIRED_ROWS.with([table]).increment(rows);
        changed += rows;
        after = last;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is done to the children after `$1` up to `$2`. Streaks are locked first, in the order in which the aggregator does.
fn statements(table: &str, is_old: &str) -> Vec<String> {
    let window = format!("FROM {table} WHERE child_id > $1 AND child_id <= $2 AND");
    if table == "streaks" {
        vec![
            format!("SELECT FROM (SELECT {window} {is_old} ORDER BY child_id FOR UPDATE) AS held"),
            format!("DELETE {window} upper(active_days) <= $3"),
            TRIM.to_owned(),
        ]
    } else {
        vec![format!("DELETE {window} {is_old}")]
    }
}
