//! The services, with a database and topics of the benchmark's own.

use std::time::Duration;

use anyhow::Result;
use rivulet_kafka::TopicPlan;
use rivulet_sandbox::TestBed;
use uuid::Uuid;

use crate::{events::Author, process};

/// A migrated bed with its topics.
pub(crate) async fn make() -> Result<TestBed> {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await?;
    rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database).await?;
    let plan = TopicPlan {
        partitions: 3,
        replication: 1,
        min_insync: 1,
        retention: Duration::from_secs(86_400),
    };
    rivulet_kafka::create_topics(&bed.cluster, &plan).await?;
    Ok(bed)
}

/// The environment that points `rivulet` at the bed.
pub(crate) fn environment(bed: &TestBed) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", bed.database_url.clone()),
        ("KAFKA_BROKERS", bed.cluster.brokers.clone()),
        ("CLICKHOUSE_URL", bed.clickhouse_url.clone()),
        ("RIVULET_TOPIC_PREFIX", bed.cluster.topic_prefix.clone()),
        (
            "RIVULET_CLICKHOUSE_DATABASE",
            bed.clickhouse_database.clone(),
        ),
        (
            "RIVULET_AGGREGATE_GROUP",
            format!("{}-aggregator", bed.cluster.topic_prefix),
        ),
        (
            "RIVULET_SINK_GROUP",
            format!("{}-history", bed.cluster.topic_prefix),
        ),
        // Load comes from one key here.
        ("RIVULET_RATE", "10000000".to_owned()),
        ("RIVULET_BURST", "10000000".to_owned()),
    ]
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
    let args = ["keys", "create", "--name", "bench", "--scope", "ingest"];
    Ok(process::command(&args, &environment(bed))
        .await?
        .trim()
        .to_owned())
}
