//! Aggregators as tasks, and what they consume.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use rivulet_aggregator::{Config, Error, READINESS_CHECK, run};
use rivulet_events::{EventType, Record};
use rivulet_kafka::TopicPlan;
use rivulet_sandbox::TestBed;
use rivulet_telemetry::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::encode;

pub(crate) struct Instance {
    pub(crate) task: JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
    pub(crate) readiness: Readiness,
}

impl Instance {
    pub(crate) fn start(bed: &TestBed) -> Self {
        Self::with_timeout(bed, Config::default().transaction_timeout)
    }

    pub(crate) fn with_timeout(bed: &TestBed, transaction_timeout: Duration) -> Self {
        let config = Config {
            transaction_timeout,
            // Its own: Kafka waits for the instances of a test that ended without leaving.
            group: bed.cluster.topic_prefix.clone(),
            // Small batches: many transactions, many places to be cut off at.
            max_batch_records: 50,
            linger: Duration::from_millis(5),
            ..Config::default()
        };
        let shutdown = CancellationToken::new();
        let readiness = Readiness::new("aggregate", &["kafka", "positions", READINESS_CHECK]);
        let task = tokio::spawn(run(
            config,
            bed.cluster.clone(),
            // What the aggregator's own login may do is enough.
            bed.pool_as("rivulet_aggregate", 8),
            readiness.clone(),
            shutdown.clone(),
        ));
        Self {
            task,
            shutdown,
            readiness,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Drops everything it is doing, wherever it is.
    pub(crate) async fn cut_off(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) async fn migrated() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    rivulet_kafka::create_topics(
        &bed.cluster,
        &TopicPlan {
            partitions: 3,
            ..TopicPlan::default()
        },
    )
    .await
    .unwrap();
    bed
}

pub(crate) async fn produce(bed: &TestBed, events: &[Record<'static>]) {
    produce_to(bed, events, |_| None).await;
}

/// Where no partition is named, into the one of the child.
pub(crate) async fn produce_to(
    bed: &TestBed,
    events: &[Record<'static>],
    partition: impl Fn(usize) -> Option<i32>,
) {
    let records = (0..).zip(events).map(|(number, event)| {
        let key = event.child_id.uuid().to_string();
        (partition(number), key, event.event_type, encode(event))
    });
    send(bed, records).await;
}

/// Puts bytes into the topic of a type, by key.
pub(crate) async fn produce_raw(
    bed: &TestBed,
    records: impl Iterator<Item = (String, (EventType, Vec<u8>))>,
) {
    let records = records.map(|(key, (kind, payload))| (None, key, kind, payload));
    send(bed, records).await;
}

async fn send(
    bed: &TestBed,
    records: impl Iterator<Item = (Option<i32>, String, EventType, Vec<u8>)>,
) {
    let producer: FutureProducer = bed
        .cluster
        .client_config()
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let mut sent = Vec::new();
    for (partition, key, kind, payload) in records {
        let topic = bed.cluster.topic(kind);
        let record = FutureRecord {
            partition,
            ..FutureRecord::to(&topic).key(&key).payload(&payload)
        };
        sent.push(
            producer
                .send_result(record)
                .unwrap_or_else(|(error, _)| panic!("{error}")),
        );
    }
    for delivery in sent {
        delivery.await.unwrap().unwrap();
    }
}

/// Waits until so many records were consumed. The topics are fresh, so that is their positions' sum.
pub(crate) async fn consumed(bed: &TestBed, records: usize) {
    eventually(&format!("{records} records are consumed"), async || {
        let sql = "SELECT coalesce(sum(next_offset), 0)::bigint FROM kafka_positions";
        let consumed: i64 = sqlx::query_scalar(sql)
            .fetch_one(&bed.pool)
            .await
            .unwrap_or_default();
        assert!(consumed <= records as i64, "{consumed}");
        consumed == records as i64
    })
    .await;
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("in vain: {what}");
}
