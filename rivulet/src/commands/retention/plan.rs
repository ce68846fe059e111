//! What would go by the retention file, and when: asked of every store, changed in none.

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveDate, Utc};
use clickhouse::Client;
use rivulet_events::EventType;
use rivulet_migrations::logins::Login;
use rivulet_retention::{Class, Drift, Inactive, Policy};
use serde::{Serialize, Serializer};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    retention::{Kept, in_words},
    services::Services,
};

/// Inactive children that are counted and named, at most.
const INACTIVE: i64 = 1_000_000;

/// What one store has of a class. Numbers are of what is too old by the file, and would go.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) class: &'static str,
    /// By the file.
    pub(super) days: u32,
    /// The store, and the table or topic.
    pub(super) place: String,
    pub(super) rows: Option<u64>,
    /// Whole partitions, which are dropped.
    pub(super) partitions: Option<u64>,
    /// Of the rows, without indexes; of ClickHouse as a share of the table.
    pub(super) bytes: Option<u64>,
    /// The day of the oldest that is there.
    pub(super) oldest: Option<NaiveDate>,
    /// The day on which the oldest is too old.
    pub(super) next: Option<NaiveDate>,
    pub(super) note: Option<String>,
}

/// The whole of it.
#[derive(Serialize)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    /// None where the file names no period for them.
    pub(super) inactive_children: Option<u64>,
    #[serde(serialize_with = "as_texts")]
    pub(super) drifts: Vec<Drift>,
    #[serde(skip)]
    pub(super) inactive: Option<Inactive>,
    #[serde(skip)]
    pub(super) inactive_ids: Vec<Uuid>,
}

fn as_texts<S: Serializer>(drifts: &[Drift], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(drifts.iter().map(ToString::to_string))
}

/// A table of PostgreSQL and what tells the age of a row of it.
struct Table {
    class: Class,
    name: &'static str,
    /// A date or a time.
    age: &'static str,
    /// Which rows can become too old; the others wait for something else.
    only: &'static str,
    /// Whether it is partitioned by months.
    months: bool,
}

const fn table(
    class: Class,
    name: &'static str,
    age: &'static str,
    only: &'static str,
    months: bool,
) -> Table {
    Table {
        class,
        name,
        age,
        only,
        months,
    }
}

const TABLES: [Table; 11] = [
    table(
        Class::Daily,
        "daily_child_metrics",
        "local_date",
        "true",
        true,
    ),
    table(Class::Daily, "streaks", "lower(active_days)", "true", false),
    table(
        Class::Learning,
        "learning_analytics",
        "local_date",
        "true",
        true,
    ),
    table(
        Class::Learning,
        "topic_progress",
        "last_seen_at",
        "true",
        false,
    ),
    table(
        Class::Identities,
        "withheld_seen",
        "received_on",
        "true",
        false,
    ),
    table(Class::Identities, "consumer_ledger", "hour", "true", false),
    table(
        Class::Quarantine,
        "quarantine",
        "quarantined_at",
        "true",
        false,
    ),
    table(
        Class::Consents,
        "parents",
        "deleted_at",
        "deleted_at IS NOT NULL",
        false,
    ),
    table(
        Class::Consents,
        "children",
        "deleted_at",
        "deleted_at IS NOT NULL",
        false,
    ),
    table(
        Class::Audit,
        "quarantine_actions",
        "acted_at",
        "true",
        false,
    ),
    table(
        Class::Erasures,
        "erasures",
        "done_at",
        "state = 'done'",
        false,
    ),
];

impl Part {
    fn new(policy: &Policy, class: Class, place: impl Into<String>) -> Self {
        Self {
            class: class.as_str(),
            days: policy.days(class),
            place: place.into(),
            rows: None,
            partitions: None,
            bytes: None,
            oldest: None,
            next: None,
            note: None,
        }
    }

    fn oldest(mut self, oldest: Option<NaiveDate>) -> Self {
        self.oldest = oldest;
        self.next = oldest.map(|day| day + Days::new(u64::from(self.days) + 1));
        self
    }
}

/// Asks all of them.
pub(super) async fn make(
    policy: Policy,
    services: &Services,
    now: DateTime<Utc>,
) -> anyhow::Result<Plan> {
    let pool = services.postgres.pool(Login::Operator, "retention", 2)?;
    let (client, database) = (
        services.clickhouse.client()?,
        &services.clickhouse.clickhouse_database,
    );
    let cluster = services.kafka.cluster()?;
    let mut parts = history(&client, &policy, now).await.context("ClickHouse")?;
    parts.extend(postgres(&pool, &policy, now).await.context("PostgreSQL")?);
    let topics = rivulet_kafka::kept_by_topic(&cluster).await?;
    for (topic, kept) in topics {
        parts.push(Part {
            note: Some(format!("Kafka's own work; now after {}", in_words(kept))),
            ..Part::new(&policy, Class::Kafka, format!("Kafka {topic}"))
        });
    }
    let spills: i64 = sqlx::query_scalar("SELECT count(*) FROM spills")
        .fetch_one(&pool)
        .await?;
    parts.push(Part {
        note: Some(format!(
            "of {spills} nodes; older ones are held back: rivulet_ingest_spill_held_back_records"
        )),
        ..Part::new(&policy, Class::Spill, "ingest's spill")
    });
    for class in [Class::Logs, Class::Backups] {
        parts.push(Part {
            note: Some("not Rivulet's to delete".to_owned()),
            ..Part::new(&policy, class, "yours")
        });
    }
    parts.sort_by_key(|part| {
        Class::ALL
            .iter()
            .position(|class| class.as_str() == part.class)
    });
    let mut inactive_ids = Vec::new();
    if let Some(inactive) = policy.inactive {
        let days = inactive.after.days();
        inactive_ids = rivulet_erasure::aged::inactive(&pool, now, days, INACTIVE).await?;
    }
    let kept = Kept {
        policy,
        pool,
        login: Login::Operator,
        kafka: Some(cluster),
        clickhouse: Some((client, database.clone())),
    };
    Ok(Plan {
        parts,
        inactive_children: kept.policy.inactive.map(|_| inactive_ids.len() as u64),
        drifts: kept.drifts().await?,
        inactive: kept.policy.inactive,
        inactive_ids,
    })
}

fn cut(policy: &Policy, class: Class, now: DateTime<Utc>) -> NaiveDate {
    now.date_naive() - Days::new(policy.days(class).into())
}

async fn history(
    client: &Client,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Result<Vec<Part>, clickhouse::error::Error> {
    let mut parts = Vec::new();
    let tables = EventType::ALL.iter().map(|kind| {
        let is_kind = format!("event_type = '{}'", kind.as_str());
        (Class::of(*kind), "events", "received_at", is_kind)
    });
    let days = (
        Class::Daily,
        "child_day_rollup",
        "last_received_at",
        "true".to_owned(),
    );
    for (class, table, age, only) in tables.chain([days]) {
        // In seconds, because a day may be cut in the middle: the TTL does.
        let until = (now - chrono::TimeDelta::days(policy.days(class).into())).timestamp();
        let (rows, old, oldest): (u64, u64, u32) = client
            .query_raw(&format!(
                "SELECT count(), countIf({age} < fromUnixTimestamp({until})), toUInt32(toUnixTimestamp(min({age})))
                 FROM {table} WHERE {only}"
            ))
            .fetch_one()
            .await?;
        let (all_rows, all_bytes): (u64, u64) = client
            .query("SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND table = ? AND active")
            .bind(table)
            .fetch_one()
            .await?;
        let bytes = u128::from(all_bytes) * u128::from(old) / u128::from(all_rows.max(1));
        let oldest = DateTime::from_timestamp(oldest.into(), 0).filter(|_| rows > 0);
        parts.push(Part {
            rows: Some(old),
            bytes: u64::try_from(bytes).ok(),
            ..Part::new(policy, class, format!("ClickHouse {table}"))
                .oldest(oldest.map(|at| at.date_naive()))
        });
    }
    Ok(parts)
}

async fn postgres(
    pool: &PgPool,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Result<Vec<Part>, sqlx::Error> {
    // One snapshot, and for as long as it takes.
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0")
        .execute(&mut *conn)
        .await?;
    let mut parts = Vec::new();
    for table in &TABLES {
        let cut = cut(policy, table.class, now);
        let (partitions, in_partitions) = if table.months {
            months(conn, table.name, cut).await?
        } else {
            (None, 0)
        };
        let Table {
            class,
            name,
            age,
            only,
            ..
        } = table;
        let count = format!(
            "SELECT count(*), coalesce(sum(pg_column_size(t)), 0)::bigint FROM {name} t WHERE {only} AND {age} < $1"
        );
        let (rows, bytes): (i64, i64) = sqlx::query_as(AssertSqlSafe(count))
            .bind(cut)
            .fetch_one(&mut *conn)
            .await?;
        let oldest = if table.months {
            oldest_of_months(conn, name, age).await?
        } else {
            oldest(conn, name, age, only).await?
        };
        parts.push(Part {
            rows: Some(rows.unsigned_abs()),
            partitions,
            bytes: Some(bytes.unsigned_abs().max(in_partitions)),
            ..Part::new(policy, *class, format!("PostgreSQL {name}")).oldest(oldest)
        });
    }
    parts.push(identities(conn, policy).await?);
    parts.push(audit_log(conn, policy, now).await?);
    Ok(parts)
}

/// The whole months that are too old: how many, and their bytes.
async fn months(
    conn: &mut PgConnection,
    table: &str,
    cut: NaiveDate,
) -> Result<(Option<u64>, u64), sqlx::Error> {
    let (months, bytes): (i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(pg_table_size(name::regclass)), 0)::bigint FROM partitions_before($1, $2)",
    )
    .bind(table)
    .bind(cut)
    .fetch_one(conn)
    .await?;
    Ok((Some(months.unsigned_abs()), bytes.unsigned_abs()))
}

async fn oldest(
    conn: &mut PgConnection,
    table: &str,
    age: &str,
    only: &str,
) -> Result<Option<NaiveDate>, sqlx::Error> {
    let select = format!("SELECT min({age})::date FROM {table} WHERE {only}");
    sqlx::query_scalar(AssertSqlSafe(select))
        .fetch_one(conn)
        .await
}

/// Looks into the months from the oldest on, until one has a row.
async fn oldest_of_months(
    conn: &mut PgConnection,
    table: &str,
    age: &str,
) -> Result<Option<NaiveDate>, sqlx::Error> {
    let ends: Vec<NaiveDate> =
        sqlx::query_scalar("SELECT ends FROM partitions_before($1, '9999-01-01') ORDER BY ends")
            .bind(table)
            .fetch_all(&mut *conn)
            .await?;
    for end in ends {
        // Not by the month's own name, which the operator's login may not read.
        if let Some(day) = oldest(conn, table, age, &format!("{age} < '{end}'")).await? {
            return Ok(Some(day));
        }
    }
    Ok(None)
}

/// Days of `event_seen`, each a partition. They go behind what was consumed.
async fn identities(conn: &mut PgConnection, policy: &Policy) -> Result<Part, sqlx::Error> {
    let (oldest, partitions, bytes, horizon): (Option<NaiveDate>, i64, i64, Option<NaiveDate>) = sqlx::query_as(
        "SELECT min(day), count(*) FILTER (WHERE is_old), coalesce(sum(size) FILTER (WHERE is_old), 0)::bigint,
                (SELECT min(consumed_until)::date FROM kafka_positions WHERE consumer = 'aggregator')
         FROM (SELECT day, pg_table_size(inhrelid) AS size,
                      day < (SELECT min(consumed_until)::date - $1 FROM kafka_positions WHERE consumer = 'aggregator') AS is_old
               FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
               CROSS JOIN LATERAL to_date(right(relname, 8), 'YYYYMMDD') AS day
               WHERE inhparent = 'event_seen'::regclass AND relname <> 'event_seen_19700101') AS days",
    )
    .bind(policy.days(Class::Identities).cast_signed())
    .fetch_one(conn)
    .await?;
    Ok(Part {
        partitions: Some(partitions.unsigned_abs()),
        bytes: Some(bytes.unsigned_abs()),
        note: horizon.map(|day| format!("counted from what was consumed: {day}")),
        ..Part::new(policy, Class::Identities, "PostgreSQL event_seen").oldest(oldest)
    })
}

/// Goes by whole months.
async fn audit_log(
    conn: &mut PgConnection,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Result<Part, sqlx::Error> {
    let part = Part::new(policy, Class::Audit, "PostgreSQL audit_log");
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('audit_log') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    if !is_there {
        return Ok(Part {
            note: Some("there is none".to_owned()),
            ..part
        });
    }
    let first: Option<NaiveDate> =
        sqlx::query_scalar("SELECT min(ends) FROM partitions_before('audit_log', '9999-01-01')")
            .fetch_one(&mut *conn)
            .await?;
    let (partitions, bytes) = months(conn, "audit_log", cut(policy, Class::Audit, now)).await?;
    Ok(Part {
        partitions,
        bytes: Some(bytes),
        next: first.map(|ends| ends + Days::new(policy.days(Class::Audit).into())),
        ..part
    })
}
