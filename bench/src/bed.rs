//! The services, with a database and topics of the benchmark's own.

use std::collections::BTreeSet;

use anyhow::Result;
use chrono::{Datelike as _, NaiveDate};
use rivulet_kafka::TopicPlan;
use rivulet_sandbox::TestBed;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{events::Author, process};

/// A migrated bed with its topics.
pub(crate) async fn make() -> Result<TestBed> {
    let bed = TestBed::new().await;
    process::command(&["migrate"], &bed.environment()).await?;
    // Roles start only on topics that keep records for as long as retention.toml says.
    rivulet_kafka::create_topics(&bed.cluster, &TopicPlan::default()).await?;
    Ok(bed)
}

/// The environment that points `rivulet` at the bed.
pub(crate) fn environment(bed: &TestBed) -> Vec<(&'static str, String)> {
    let mut environment = bed.environment();
    // Load comes from one key here.
    for limit in ["RIVULET_RATE", "RIVULET_BURST"] {
        environment.push((limit, "10000000".to_owned()));
    }
    environment
}

/// Ids for children, not registered.
pub(crate) fn children(author: &mut Author, count: usize) -> Vec<Uuid> {
    (0..count).map(|_| author.id()).collect()
}

/// Registers the children, each with a parent who consents to everything.
pub(crate) async fn register(bed: &TestBed, children: &[Uuid]) -> Result<()> {
    let mut tx = bed.pool.begin().await?;
    sqlx::query(
        "INSERT INTO parents (id, timezone, coppa, audio, analytics)
         SELECT id, 'Europe/Rome', true, true, true FROM unnest($1::uuid[]) AS id",
    )
    .bind(children)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO children (id, parent_id, age_group)
         SELECT id, id, 'curious_explorers' FROM unnest($1::uuid[]) AS id",
    )
    .bind(children)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

/// A key that may send events.
pub(crate) async fn ingest_key(bed: &TestBed) -> Result<String> {
    process::key("bench", "ingest", &environment(bed)).await
}

/// The partitions of the rollups by day that these days are in.
pub(crate) async fn partitions(pool: &PgPool, days: impl Iterator<Item = NaiveDate>) -> Result<()> {
    let months: BTreeSet<_> = days.map(|day| (day.year(), day.month())).collect();
    for (year, month) in months {
        for table in ["daily_child_metrics", "learning_analytics"] {
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table}_{year}{month:02} PARTITION OF {table}
                 FOR VALUES FROM ('{year}-{month:02}-01')
                 TO ((date '{year}-{month:02}-01' + interval '1 month')::date)"
            );
            let sql = sqlx::AssertSqlSafe(sql);
            sqlx::raw_sql(sql).execute(pool).await?;
        }
    }
    Ok(())
}
