//! A sink on the real stack, fast enough for tests, and records to feed it.

use std::{borrow::Cow, time::Duration};

use chrono::NaiveDate;
use clickhouse::Client;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rivulet_events::{
    ChildId, Data, EventType, Interaction, InteractionAction, ParentId, Record, data::AgeGroup,
};
use rivulet_kafka::{TopicPlan, create_topics};
use rivulet_sandbox::TestBed;
use rivulet_sinks::Config;
use rivulet_telemetry::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough for the slowest machine; a test that waits it out has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// 2026-03-02T10:00:00Z, a Monday.
pub(crate) const NOW: i64 = 1_772_445_600_000;

pub(crate) struct Bed {
    pub(crate) test: TestBed,
    producer: FutureProducer,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let test = TestBed::new().await;
        rivulet_migrations::postgres(&test.pool).await.unwrap();
        rivulet_migrations::clickhouse(&test.clickhouse, &test.clickhouse_database)
            .await
            .unwrap();
        let plan = TopicPlan {
            partitions: 2,
            ..TopicPlan::default()
        };
        create_topics(&test.cluster, &plan).await.unwrap();
        let producer = test.cluster.client_config().create().unwrap();
        Self { test, producer }
    }

    /// Puts records into partition 0 of their topics; returns their offsets.
    pub(crate) async fn send(&self, records: &[Record<'_>]) -> Vec<i64> {
        let mut offsets = Vec::new();
        for record in records {
            offsets.push(
                self.send_bytes(record.event_type, 0, &payload(record))
                    .await,
            );
        }
        offsets
    }

    pub(crate) async fn send_bytes(&self, kind: EventType, partition: i32, payload: &[u8]) -> i64 {
        let topic = self.test.cluster.topic(kind);
        let record = FutureRecord::<[u8], [u8]>::to(&topic)
            .payload(payload)
            .partition(partition);
        self.producer
            .send(record, Duration::from_secs(30))
            .await
            .unwrap()
            .offset
    }

    /// Puts records into partition 0 in one go, so that a sink gets them together.
    pub(crate) async fn send_together(&self, kind: EventType, payloads: &[Vec<u8>]) {
        let topic = self.test.cluster.topic(kind);
        let sent: Vec<_> = payloads
            .iter()
            .map(|payload| {
                let record = FutureRecord::<[u8], [u8]>::to(&topic)
                    .payload(payload)
                    .partition(0);
                self.producer
                    .send_result(record)
                    .map_err(|(error, _)| error)
                    .unwrap()
            })
            .collect();
        for delivery in sent {
            delivery.await.unwrap().unwrap();
        }
    }

    /// A sink on this client's ClickHouse, as ready as it gets.
    pub(crate) async fn start(&self, client: &Client) -> Sink {
        let sink = self.start_with(client, config());
        until("the sink to be ready", || async {
            sink.readiness.is_ready()
        })
        .await;
        sink
    }

    pub(crate) fn start_with(&self, client: &Client, config: Config) -> Sink {
        let readiness = Readiness::new("sink", &[rivulet_sinks::CHECK, "kafka", "positions"]);
        let shutdown = CancellationToken::new();
        let config = Config {
            // Its own: Kafka waits 45 s for the instances of a test that ended without leaving.
            group: self.test.cluster.topic_prefix.clone(),
            ..config
        };
        let task = tokio::spawn(rivulet_sinks::run(
            config,
            self.test.cluster.clone(),
            // What the sink's own login may do is enough.
            self.test.pool_as("rivulet_sink", 8),
            client.clone(),
            readiness.clone(),
            shutdown.clone(),
        ));
        Sink {
            readiness,
            shutdown,
            task,
        }
    }

    /// A client of the same database behind another address.
    pub(crate) fn behind(&self, url: &str) -> Client {
        Client::default()
            .with_url(url)
            .with_database(&self.test.clickhouse_database)
    }

    pub(crate) async fn number(&self, sql: &str) -> u64 {
        self.test.clickhouse.query(sql).fetch_one().await.unwrap()
    }

    /// Rows as they lie there, copies included.
    pub(crate) async fn raw_rows(&self) -> u64 {
        self.number("SELECT count() FROM events").await
    }

    pub(crate) async fn until_rows(&self, rows: u64) {
        until("rows in ClickHouse", || async {
            self.raw_rows().await >= rows
        })
        .await;
    }

    /// Waits until the sink's positions are past everything that was sent.
    pub(crate) async fn until_settled(&self, kind: EventType, offset: i64) {
        until("the position to pass", || async {
            self.position(kind).await == Some((offset + 1, None))
        })
        .await;
    }

    /// `next_offset` and `pending_end` of partition 0.
    pub(crate) async fn position(&self, kind: EventType) -> Option<(i64, Option<i64>)> {
        sqlx::query_as(
            "SELECT next_offset, pending_end FROM kafka_positions
             WHERE consumer = 'history' AND topic = $1 AND partition = 0",
        )
        .bind(self.test.cluster.topic(kind))
        .fetch_optional(&self.test.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn until_begun(&self, kind: EventType) {
        until("a range to be begun", || async {
            matches!(self.position(kind).await, Some((_, Some(_))))
        })
        .await;
    }
}

pub(crate) struct Sink {
    pub(crate) readiness: Readiness,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), rivulet_sinks::Error>>,
}

impl Sink {
    /// Stops it where it stands: its configuration gives inserts no time to end.
    pub(crate) async fn crash(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn config() -> Config {
    Config {
        min_age: Duration::from_millis(50),
        max_age: Duration::from_millis(500),
        pace: Duration::from_millis(20),
        shutdown_grace: Duration::ZERO,
        ..Config::default()
    }
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "waited in vain for {what}"
    );
}

pub(crate) fn child(number: u128) -> ChildId {
    ChildId::new(Uuid::from_u128(0xc41d << 64 | number))
}

pub(crate) fn record(data: Data<'_>) -> Record<'_> {
    Record {
        v: 1,
        event_type: data.event_type(),
        id: Uuid::new_v4(),
        child_id: child(1),
        parent_id: ParentId::new(Uuid::from_u128(0xfa << 64)),
        age_group: AgeGroup::CuriousExplorers,
        session_id: None,
        occurred_at: NOW,
        event_time: NOW,
        received_at: NOW,
        local_date: NaiveDate::from_ymd_opt(2026, 3, 2).unwrap(),
        analytics: true,
        consent_version: None,
        consent_epoch: 0,
        device: None,
        attributes: Vec::new(),
        data,
    }
}

/// A viewed badge, the smallest event there is.
pub(crate) fn badge(badge: &str) -> Record<'_> {
    record(Data::Interaction(Interaction {
        action: InteractionAction::View,
        activity_id: None,
        subject: None,
        topic: None,
        is_correct: None,
        response_time_ms: None,
        duration_ms: None,
        confidence: None,
        difficulty: None,
        rating: None,
        xp: None,
        stars: None,
        badge: Some(Cow::Borrowed(badge)),
    }))
}

/// The record as it is in Kafka.
pub(crate) fn payload(record: &Record<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    record.encode(&mut payload).unwrap();
    payload
}
