//! The transaction against a real PostgreSQL.

mod access;
mod partitions;
mod retention;
mod sets;
mod streaks;
mod talk;
mod transaction;
mod views;

use std::time::Duration;

use rivulet_consumer::Part;
use rivulet_events::{EventType, Record};
use rivulet_sandbox::TestBed;

use super::{Store, StoreError};
use crate::{CONSUMER, common::parts, prepare::Prepared};

/// Enough for any transaction here, on any machine.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// A migrated database where every topic's partitions 0 to 2 are at offset 0.
pub(super) async fn database() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    sqlx::query(
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset)
         SELECT $1, topic, partition, 'cluster/topic', 0
         FROM unnest($2::text[]) topic, generate_series(0, 2) partition",
    )
    .bind(CONSUMER)
    .bind(
        EventType::ALL
            .iter()
            .map(|kind| kind.as_str())
            .collect::<Vec<_>>(),
    )
    .execute(&bed.pool)
    .await
    .unwrap();
    bed
}

pub(super) async fn commit(store: &mut Store, parts: Vec<Part>) -> Result<Prepared, StoreError> {
    let mut batch = Prepared::new(parts);
    store.commit(&mut batch, LIMIT).await.map(|()| batch)
}

/// The events in partition 0 of their topics, in batches of at most `size`.
pub(super) fn batches(events: &[Record<'static>], size: usize) -> Vec<Vec<Part>> {
    let mut next = [0; 4];
    let batch = |events: &[Record<'static>]| {
        let mut batch = parts(events);
        for part in &mut batch {
            let next = &mut next[EventType::ALL
                .iter()
                .position(|k| *k == part.event_type)
                .unwrap()];
            part.expected = *next;
            for record in &mut part.records {
                record.offset += part.expected;
            }
            *next += part.records.len() as i64;
        }
        batch
    };
    events.chunks(size).map(batch).collect()
}

pub(super) async fn count(bed: &TestBed, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&bed.pool).await.unwrap()
}
