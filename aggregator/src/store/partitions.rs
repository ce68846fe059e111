//! The partitions that the program makes and drops: a day of `event_seen`, a month of the rollups.

use std::collections::BTreeSet;

use ahash::AHashSet;
use chrono::{Datelike as _, NaiveDate};
use sqlx::{PgConnection, PgPool};

/// Held by a transaction that relies on it that a partition is not there: who makes or drops one has this lock alone. It is
/// taken before anything of `event_seen` is locked, because a transaction that holds the other lock may be waiting for that
/// table.
const SHARED_LOCK: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtextextended('rivulet.partitions', 0))";

/// A partition, known by its table and first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Partition {
    Seen(NaiveDate),
    Daily(NaiveDate),
    Learning(NaiveDate),
}

impl Partition {
    /// The two partitions that hold a local date.
    pub(crate) fn rollups_of(date: NaiveDate) -> [Self; 2] {
        let month = date.with_day(1).unwrap_or(date);
        [Self::Daily(month), Self::Learning(month)]
    }

    /// Its table, and a day that it holds.
    const fn of(self) -> (&'static str, NaiveDate) {
        match self {
            Self::Seen(day) => ("event_seen", day),
            Self::Daily(month) => ("daily_child_metrics", month),
            Self::Learning(month) => ("learning_analytics", month),
        }
    }
}

/// The partition of `event_seen` for an id-day.
pub(super) fn seen_name(day: NaiveDate) -> String {
    format!("event_seen_{}", day.format("%Y%m%d"))
}

/// The partitions that were there when this process last looked.
#[derive(Debug, Default)]
pub(super) struct Known(AHashSet<Partition>);

impl Known {
    /// Makes those of the partitions that are not there, in a transaction of its own.
    pub(super) async fn ensure(
        &mut self,
        pool: &PgPool,
        needed: impl IntoIterator<Item = Partition>,
    ) -> Result<(), sqlx::Error> {
        let missing: BTreeSet<_> = needed
            .into_iter()
            .filter(|partition| !self.0.contains(partition))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut tx = pool.begin().await?;
        for partition in &missing {
            // By a function of the owner: the login of this role makes nothing else.
            let (table, day) = partition.of();
            sqlx::query("SELECT make_partition($1, $2)")
                .bind(table)
                .bind(day)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        self.0.extend(missing);
        Ok(())
    }

    /// Another instance dropped a partition: forgets which ones exist.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// The days of `event_seen` that have a partition: these and no others until the end of the transaction.
pub(super) async fn seen_days(conn: &mut PgConnection) -> Result<Vec<NaiveDate>, sqlx::Error> {
    sqlx::query(SHARED_LOCK).execute(&mut *conn).await?;
    sqlx::query_scalar(
        "SELECT to_date(right(relname, 8), 'YYYYMMDD')
         FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'event_seen'::regclass",
    )
    .fetch_all(conn)
    .await
}

/// A transaction that drops partitions waits for others, and lets them wait, no longer than this. A later round tries again.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'";

/// Drops the days of `event_seen` before `until`, except the one of reset clocks; says how many. What arrived
/// on `until` or later, long after its id-day, is remembered with those.
///
/// Dropping waits for the transactions that use `event_seen`, and new ones wait for it.
pub(super) async fn drop_seen_before(
    conn: &mut PgConnection,
    until: NaiveDate,
) -> Result<i64, sqlx::Error> {
    sqlx::raw_sql(PATIENCE).execute(&mut *conn).await?;
    sqlx::query_scalar("SELECT drop_seen_before($1)")
        .bind(until)
        .fetch_one(conn)
        .await
}

/// Drops the oldest month of a rollup that ends on or before `cut`, in a transaction of its own; says whether there was
/// one.
pub(super) async fn drop_month_before(
    pool: &PgPool,
    table: &str,
    cut: NaiveDate,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql(PATIENCE).execute(&mut *transaction).await?;
    let dropped = sqlx::query_scalar("SELECT drop_month_before($1, $2)")
        .bind(table)
        .bind(cut)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(dropped)
}
