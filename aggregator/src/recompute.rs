//! Compares rollup rows with a full recount of children's events, and can put the recount in their place.
//!
//! The recount is written by the aggregator's own statements, into temporary tables that for the
//! length of a transaction hide those of the same names. So there is no second definition of a row
//! that could differ from the first.

use chrono::NaiveDate;
use rivulet_events::ChildId;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    Rollup,
    store::{ensure_partitions, notify, tables},
    streak::RULE_VERSION,
    verdict::{Verdict, judge},
};

/// A table and its primary key.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
}

const TABLES: &[Table] = &[
    Table {
        name: "daily_child_metrics",
        key: &["child_id", "local_date"],
    },
    Table {
        name: "learning_analytics",
        key: &["child_id", "local_date", "subject"],
    },
    Table {
        name: "topic_progress",
        key: &["child_id", "topic"],
    },
    Table {
        name: "streaks",
        key: &["child_id"],
    },
];

/// A row that is not what the recount says.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its table.
    pub table: &'static str,
    /// Its primary key.
    pub key: Map<String, Value>,
    /// The columns that differ, as stored; none where the row is missing.
    pub stored: Option<Map<String, Value>>,
    /// The same columns as recounted; none where there should be no row.
    pub recounted: Option<Map<String, Value>>,
}

/// What came of comparing some children.
#[derive(Debug, Default)]
pub struct Compared {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that were not, because some of their events are withheld from the history, or may be
    /// older than it.
    pub left_out: u64,
    /// Those that differ.
    pub differences: Vec<Difference>,
}

/// A transaction in which children's rows are compared with a recount, and may be replaced.
///
/// The caller decides who may write to the rows meanwhile. For [`Recompute::replace`] the aggregator's positions must
/// be locked in this transaction, and the recount must be of everything below them.
pub struct Recompute {
    conn: PgConnection,
}

impl Recompute {
    /// Begins a transaction of its own session with this statement.
    ///
    /// # Errors
    /// PostgreSQL failed.
    pub async fn begin(pool: &PgPool, begin: &'static str) -> Result<Self, sqlx::Error> {
        // A new session: one that has run these statements on the real tables would run them there again.
        let mut conn = pool.acquire().await?.detach();
        sqlx::raw_sql(begin).execute(&mut conn).await?;
        Ok(Self { conn })
    }

    /// The transaction's connection, for what must be read in it.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Compares the children's rows with `recount`, which is of all of their events that the history
    /// can still have: those of `since` on.
    ///
    /// # Errors
    /// PostgreSQL failed.
    pub async fn compare(
        &mut self,
        children: &[ChildId],
        recount: &Rollup,
        since: NaiveDate,
    ) -> Result<Compared, sqlx::Error> {
        let children: Vec<_> = children.iter().map(|child| child.uuid()).collect();
        let conn = &mut self.conn;
        for Table { name, .. } in TABLES {
            let sql = format!(
                "CREATE TEMP TABLE {name} (LIKE public.{name} INCLUDING ALL) ON COMMIT DROP"
            );
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut *conn)
                .await?;
        }
        tables::add(conn, recount).await?;
        let mut compared = Compared::default();
        for table in TABLES {
            if table.name == "streaks" {
                streaks(conn, &children).await?;
            }
            compare(conn, table, &children, since, &mut compared).await?;
        }
        Ok(compared)
    }

    /// Puts the recount in the place of the rows that differ, and commits. Returns how many rows were
    /// written or removed.
    ///
    /// # Errors
    /// PostgreSQL failed; nothing was changed.
    pub async fn replace(mut self) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for Table { name, key } in TABLES {
            let columns: String = sqlx::query_scalar(
                "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
                 WHERE attrelid = ('public.' || $1)::regclass AND attnum > 0
                   AND NOT attisdropped AND attgenerated = '' AND attname <> 'updated_at'",
            )
            .bind(name)
            .fetch_one(&mut self.conn)
            .await?;
            let key = key.join(", ");
            let delete = format!(
                "DELETE FROM public.{name} WHERE ({key}) IN (SELECT {key} FROM differing_{name})"
            );
            let insert = format!(
                "INSERT INTO public.{name} ({columns}) SELECT {columns} FROM pg_temp.{name}
                 WHERE ({key}) IN (SELECT {key} FROM differing_{name})"
            );
            let deleted = sqlx::query(AssertSqlSafe(delete))
                .execute(&mut self.conn)
                .await?
                .rows_affected();
            let inserted = sqlx::query(AssertSqlSafe(insert))
                .execute(&mut self.conn)
                .await?
                .rows_affected();
            changed += deleted.max(inserted);
        }
        let days: Vec<(Uuid, NaiveDate)> =
            sqlx::query_as("SELECT child_id, local_date FROM differing_daily_child_metrics")
                .fetch_all(&mut self.conn)
                .await?;
        let days = days
            .into_iter()
            .map(|(child, day)| (ChildId::new(child), day));
        notify(&mut self.conn, days).await?;
        sqlx::raw_sql("COMMIT").execute(&mut self.conn).await?;
        self.conn.close().await?;
        Ok(changed)
    }
}

/// Whether an error of PostgreSQL is about what some of the rows say or how many they are, so that others may pass
/// without those.
#[must_use]
pub fn blames_rows(error: &sqlx::Error) -> bool {
    matches!(judge(error), Verdict::Refused | Verdict::Slow)
}

/// Makes the partitions that the recount's rows belong in; not part of any transaction.
///
/// # Errors
/// PostgreSQL failed.
pub async fn make_partitions(pool: &PgPool, recount: &Rollup) -> Result<(), sqlx::Error> {
    ensure_partitions(pool, recount).await
}

/// The first day that streaks are of: what is older goes with the daily rows, the streak's days first.
const STREAKS_SINCE: &str =
    "(SELECT CURRENT_DATE - days FROM retention_periods WHERE class = 'daily')";

/// The recount's streaks: a function of the active days, those of rows that are left as they are
/// among them.
async fn streaks(conn: &mut PgConnection, children: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("TRUNCATE pg_temp.streaks")
        .execute(&mut *conn)
        .await?;
    let insert = format!(
        "INSERT INTO pg_temp.streaks (child_id, current_streak, longest_streak, streak_started_on,
                                      last_active_date, freezes_available, active_days, rule_version)
         SELECT d.child_id, s.*, d.days, $2
         FROM (SELECT child_id, range_agg(daterange(local_date, local_date + 1)) AS days
               FROM (SELECT child_id, local_date, qualifying_events
                     FROM public.daily_child_metrics p
                     WHERE child_id = ANY ($1) AND local_date >= {STREAKS_SINCE} AND NOT EXISTS
                         (SELECT FROM differing_daily_child_metrics
                          WHERE child_id = p.child_id AND local_date = p.local_date)
                     UNION ALL
                     SELECT child_id, local_date, qualifying_events
                     FROM pg_temp.daily_child_metrics
                     JOIN differing_daily_child_metrics USING (child_id, local_date)) AS kept
               WHERE qualifying_events > 0
               GROUP BY child_id) AS d
         CROSS JOIN LATERAL streak_of(d.days) AS s"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(children)
        .bind(RULE_VERSION)
        .execute(conn)
        .await
        .map(drop)
}

/// Compares a table, and leaves the keys of what differs in `differing_<table>`.
async fn compare(
    conn: &mut PgConnection,
    table: &Table,
    children: &[Uuid],
    since: NaiveDate,
    compared: &mut Compared,
) -> Result<(), sqlx::Error> {
    let Table { name, key } = table;
    let keys = key.join(", ");
    // The condition by which a row has events that are not in the history.
    let whole = match *name {
        "streaks" => &format!("coalesce(lower(p.active_days) >= {STREAKS_SINCE}, true)"),
        // Topics are of all time, so a child who has events from before the history begins is left out. The daily rows
        // may be gone that tell of those, but not when the topic was first seen.
        "topic_progress" => {
            "coalesce(p.withheld_events, 0) = 0 AND coalesce(p.first_seen_at >= $2::date + 1, true) AND NOT EXISTS
                 (SELECT FROM public.daily_child_metrics
                  WHERE child_id = j.child_id AND local_date < $2)"
        }
        _ => "coalesce(p.withheld_events, 0) = 0 AND local_date >= $2",
    };
    let whole = whole.replace("j.child_id", "coalesce(p.child_id, t.child_id)");
    let join = format!(
        "FROM (SELECT * FROM public.{name} WHERE child_id = ANY ($1)) AS p
         FULL JOIN pg_temp.{name} AS t USING ({keys})"
    );
    let count = format!(
        "SELECT count(*) FILTER (WHERE {whole}), count(*) FILTER (WHERE NOT ({whole})), $2::date {join}"
    );
    let (rows, left_out, _): (i64, i64, NaiveDate) = sqlx::query_as(AssertSqlSafe(count))
        .bind(children)
        .bind(since)
        .fetch_one(&mut *conn)
        .await?;
    compared.rows += rows.unsigned_abs();
    compared.left_out += left_out.unsigned_abs();

    let differing = format!("differing_{name}");
    let create = format!(
        "CREATE TEMP TABLE {differing} ON COMMIT DROP AS
         SELECT {keys}, 'null'::jsonb AS stored, 'null'::jsonb AS recounted FROM public.{name} LIMIT 0"
    );
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&mut *conn)
        .await?;
    let select = format!(
        "INSERT INTO {differing} ({keys}, stored, recounted)
         SELECT {keys}, to_jsonb(p) - 'updated_at', to_jsonb(t) - 'updated_at' {join}
         WHERE $2::date IS NOT NULL AND {whole}
           AND to_jsonb(p) - 'updated_at' IS DISTINCT FROM to_jsonb(t) - 'updated_at'"
    );
    sqlx::query(AssertSqlSafe(select))
        .bind(children)
        .bind(since)
        .execute(&mut *conn)
        .await?;
    let read = format!("SELECT stored::text, recounted::text FROM {differing} ORDER BY {keys}");
    let rows: Vec<(Option<String>, Option<String>)> = sqlx::query_as(AssertSqlSafe(read))
        .fetch_all(&mut *conn)
        .await?;
    for (stored, recounted) in rows {
        let parse = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        compared
            .differences
            .push(difference(table, parse(stored), parse(recounted)));
    }
    Ok(())
}

/// Reduces two rows to their key and the columns that differ.
fn difference(
    table: &Table,
    mut stored: Option<Map<String, Value>>,
    mut recounted: Option<Map<String, Value>>,
) -> Difference {
    let mut key = Map::new();
    for name in table.key {
        let of = |row: &mut Option<Map<String, Value>>| row.as_mut()?.remove(*name);
        let (a, b) = (of(&mut stored), of(&mut recounted));
        key.extend(a.or(b).map(|value| ((*name).to_owned(), value)));
    }
    if let (Some(stored), Some(recounted)) = (&mut stored, &mut recounted) {
        stored.retain(|name, value| recounted.get(name) != Some(value));
        recounted.retain(|name, _| stored.contains_key(name));
    }
    Difference {
        table: table.name,
        key,
        stored,
        recounted,
    }
}
