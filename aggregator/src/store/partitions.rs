//! The partitions that the program makes and drops: a day of `event_seen`, a month of the rollups.

use std::collections::BTreeSet;

use ahash::AHashSet;
use chrono::{Datelike as _, Months, NaiveDate};
use rivulet_events::ids::RESET_CLOCK_DAY;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// Held by whoever makes or drops partitions, so that two instances do not make the same one.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('rivulet.partitions', 0))";

/// Held by a transaction that relies on it that a partition is not there. It is taken before anything of `event_seen`
/// is locked, because a transaction that holds the other lock may be waiting for that table.
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

    const fn parent(self) -> &'static str {
        match self {
            Self::Seen(_) => "event_seen",
            Self::Daily(_) => "daily_child_metrics",
            Self::Learning(_) => "learning_analytics",
        }
    }

    fn name(self) -> String {
        match self {
            Self::Seen(day) => seen_name(day),
            Self::Daily(month) | Self::Learning(month) => {
                format!("{}_{}", self.parent(), month.format("%Y%m"))
            }
        }
    }

    /// Made beside the parent and then attached: unlike `CREATE TABLE … PARTITION OF`, that does
    /// not wait for the parent's readers and writers, nor make them wait.
    fn ddl(self) -> String {
        let (parent, name) = (self.parent(), self.name());
        let (options, index, bounds) = match self {
            Self::Seen(day) => (
                "",
                format!("CREATE UNIQUE INDEX {name}_key ON {name} (key);"),
                format!("IN ('{day}')"),
            ),
            // Free room on a page keeps an updated row on that page, so that no index has to change.
            Self::Daily(month) | Self::Learning(month) => (
                "WITH (fillfactor = 75)",
                String::new(),
                format!("FROM ('{month}') TO ('{}')", month + Months::new(1)),
            ),
        };
        format!(
            "CREATE TABLE {name} (LIKE {parent} INCLUDING ALL) {options}; {index}
             ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES {bounds}"
        )
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
        sqlx::query(LOCK).execute(&mut *tx).await?;
        for partition in &missing {
            let there: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1))",
            )
            .bind(partition.name())
            .fetch_one(&mut *tx)
            .await?;
            if !there {
                sqlx::raw_sql(AssertSqlSafe(partition.ddl()))
                    .execute(&mut *tx)
                    .await?;
            }
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

/// Waits for whoever makes or drops partitions, and for readers and writers no longer than they may be kept waiting.
pub(super) async fn hold(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("SET LOCAL lock_timeout = '2s'")
        .execute(&mut *conn)
        .await?;
    sqlx::query(LOCK).execute(conn).await.map(drop)
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

/// Drops the days of `event_seen` before `until`, except the one of reset clocks; says how many. What arrived
/// on `until` or later, long after its id-day, is remembered with those.
///
/// Dropping waits for the transactions that use `event_seen`, and new ones wait for it: not for
/// longer than its `lock_timeout`, after which a later round tries again.
pub(super) async fn drop_seen_before(
    conn: &mut PgConnection,
    until: NaiveDate,
) -> Result<usize, sqlx::Error> {
    hold(conn).await?;
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'event_seen'::regclass AND relname < $1 AND relname <> $2
         ORDER BY relname",
    )
    .bind(seen_name(until))
    .bind(seen_name(RESET_CLOCK_DAY))
    .fetch_all(&mut *conn)
    .await?;
    let apart = seen_name(RESET_CLOCK_DAY);
    for name in &names {
        // Nobody adds to it between the move and the drop.
        sqlx::raw_sql(AssertSqlSafe(format!(
            "LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE;
             INSERT INTO {apart} (day, seen_on, key)
                 SELECT '{RESET_CLOCK_DAY}', seen_on, key FROM {name} WHERE seen_on >= '{until}'
                 ON CONFLICT (key) DO NOTHING;
             DROP TABLE {name}"
        )))
        .execute(&mut *conn)
        .await?;
    }
    Ok(names.len())
}
