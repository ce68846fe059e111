//! Topics, a table that counts what was processed, and somebody who processes.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rivulet_consumer::{
    Config, Consumer, Handle, Part,
    positions::{self, Advance},
};
use rivulet_events::EventType;
use rivulet_kafka::{TopicPlan, create_topics};
use rivulet_sandbox::TestBed;
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const NAME: &str = "tested";

pub(crate) struct Rig {
    pub(crate) bed: TestBed,
    partitions: i32,
}

impl Rig {
    /// The four topics with this many partitions, and a table of everything processed.
    pub(crate) async fn new(partitions: i32) -> Self {
        let mut bed = TestBed::new().await;
        for (name, value) in [
            // A killed instance's partitions move within seconds.
            ("session.timeout.ms", "6000"),
            ("max.poll.interval.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
        ] {
            bed.cluster
                .properties
                .push((name.to_owned(), value.to_owned()));
        }
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        sqlx::query("CREATE TABLE processed (topic text, partition int, kafka_offset bigint)")
            .execute(&bed.pool)
            .await
            .unwrap();
        let rig = Self { bed, partitions };
        rig.make_topics().await;
        rig
    }

    pub(crate) async fn make_topics(&self) {
        let plan = TopicPlan {
            partitions: self.partitions,
            ..TopicPlan::default()
        };
        create_topics(&self.bed.cluster, &plan).await.unwrap();
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.bed.cluster.client_config().create().unwrap()
    }

    pub(crate) async fn delete_topic(&self, event_type: EventType) {
        let topic = self.topic(event_type);
        let admin = self.admin();
        let answers = admin.delete_topics(&[&topic], &AdminOptions::new());
        answers.await.unwrap().pop().unwrap().unwrap();
        // Kafka answers before everything knows.
        wait_for("the topic to go", async || {
            rivulet_kafka::incarnations(
                admin.inner(),
                std::slice::from_ref(&topic),
                Duration::from_secs(5),
            )
            .unwrap()
            .is_empty()
        })
        .await;
        let_go(admin);
    }

    pub(crate) fn topic(&self, event_type: EventType) -> String {
        self.bed.cluster.topic(event_type)
    }

    /// Records with their number for a payload, an empty one among them.
    pub(crate) fn produce(&self, event_type: EventType, partition: i32, records: usize) {
        self.produce_sized(event_type, partition, records, 0);
    }

    /// The same, with zeros before the number up to this size.
    pub(crate) fn produce_sized(
        &self,
        event_type: EventType,
        partition: i32,
        records: usize,
        size: usize,
    ) {
        let producer: BaseProducer = self.bed.cluster.client_config().create().unwrap();
        let topic = self.topic(event_type);
        for number in 0..records {
            let payload = format!("{number:0size$}");
            let mut record = BaseRecord::<(), _>::to(&topic).partition(partition);
            if number != 3 {
                record = record.payload(&payload);
            }
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let_go(producer);
    }

    /// Records whose timestamps are evenly spread over the last hour.
    pub(crate) fn produce_over_an_hour(&self, event_type: EventType, records: usize) {
        const HOUR_MS: usize = 3_600_000;
        let producer: BaseProducer = self.bed.cluster.client_config().create().unwrap();
        let topic = self.topic(event_type);
        let from = chrono::Utc::now().timestamp_millis() - HOUR_MS as i64;
        for number in 0..records {
            let at = from + (HOUR_MS * number / records) as i64;
            let record = BaseRecord::<(), str>::to(&topic).partition(0).payload("x");
            let sent = producer.send(record.timestamp(at));
            sent.map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    pub(crate) fn produce_everywhere(&self, records: usize) {
        for event_type in EventType::ALL {
            for partition in 0..self.partitions {
                self.produce(*event_type, partition, records);
            }
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            reconcile_every: Duration::from_millis(500),
            patience: Duration::from_secs(5),
            max_batch_records: 100,
            linger: Duration::from_millis(20),
            ..Config::new(
                self.bed.cluster.clone(),
                NAME,
                self.bed.cluster.topic_prefix.clone(),
            )
        }
    }

    pub(crate) async fn start(&self, config: Config) -> Running {
        Running::start(config, self.bed.pool.clone()).await
    }

    /// How many records were processed, and how many different ones.
    pub(crate) async fn processed(&self) -> (i64, i64) {
        sqlx::query_as(
            "SELECT count(*), count(DISTINCT (topic, partition, kafka_offset)) FROM processed",
        )
        .fetch_one(&self.bed.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn wait_for_processed(&self, records: i64) {
        wait_for("the records to be processed", async || {
            self.processed().await.0 >= records
        })
        .await;
        assert_eq!(self.processed().await, (records, records));
    }

    pub(crate) async fn set_position(&self, topic: &str, partition: i32, next: i64) {
        let set = "UPDATE kafka_positions SET next_offset = $1 WHERE topic = $2 AND partition = $3";
        let updated = sqlx::query(set)
            .bind(next)
            .bind(topic)
            .bind(partition)
            .execute(&self.bed.pool)
            .await
            .unwrap();
        assert_eq!(updated.rows_affected(), 1);
    }
}

/// A consumer and what belongs to it.
pub(crate) struct Running {
    pub(crate) consumer: Consumer,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: CancellationToken,
    pool: PgPool,
}

impl Running {
    pub(crate) async fn start(config: Config, pool: PgPool) -> Self {
        let readiness = Readiness::new("test", &["kafka", "positions"]);
        let shutdown = CancellationToken::new();
        let consumer = Consumer::start(config, pool.clone(), readiness.clone(), shutdown.clone());
        Self {
            consumer: consumer.await.unwrap(),
            readiness,
            shutdown,
            pool,
        }
    }

    pub(crate) async fn wait_until_ready(&self) {
        wait_for("readiness", async || self.readiness.is_ready()).await;
    }

    /// The next part of the next batch that has just one.
    pub(crate) async fn next_part(&mut self) -> Part {
        let batch = tokio::time::timeout(Duration::from_secs(60), self.consumer.next());
        let mut parts = batch.await.unwrap().unwrap().parts;
        assert_eq!(parts.len(), 1, "{parts:?}");
        parts.pop().unwrap()
    }

    /// Processes whatever comes, in the background, until shutdown.
    pub(crate) fn process(self) -> Processing {
        let Self {
            mut consumer,
            readiness,
            shutdown,
            pool,
        } = self;
        let task = tokio::spawn(async move {
            let handle = consumer.handle();
            while let Some(batch) = consumer.next().await {
                process(&pool, &handle, batch.parts).await;
            }
            consumer.join().await
        });
        Processing {
            readiness,
            shutdown,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.consumer.join().await.unwrap();
    }
}

/// A consumer whose batches are processed in the background.
pub(crate) struct Processing {
    pub(crate) readiness: Readiness,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), rivulet_consumer::Error>>,
}

impl Processing {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// librdkafka waits for its threads before it lets go of a client. Where a topic was deleted meanwhile that
/// has been seen to take for ever, perhaps: not in the thread of a test.
fn let_go(client: impl Send + 'static) {
    std::thread::spawn(move || drop(client));
}

pub(crate) fn advances(parts: &[Part]) -> Vec<Advance<'_>> {
    parts
        .iter()
        .map(|part| Advance {
            topic: &part.topic,
            partition: part.partition,
            incarnation: &part.incarnation,
            expected: part.expected,
            next: part.next_offset(),
            received_at: 0,
        })
        .collect()
}

/// What a role does: effects and positions in one transaction, and whatever was fenced, again.
pub(crate) async fn process(pool: &PgPool, handle: &Handle, mut parts: Vec<Part>) {
    loop {
        parts.retain(|part| handle.is_current(part));
        if parts.is_empty() {
            return;
        }
        match commit(pool, &parts).await {
            Ok(()) => {
                parts.iter().for_each(|part| handle.done(part));
                return;
            }
            Err(positions::Error::Fenced(fenced)) => {
                for (topic, partition) in fenced {
                    handle.resync(&topic, partition);
                }
            }
            Err(positions::Error::Database(error)) => panic!("{error}"),
        }
    }
}

pub(crate) async fn commit(pool: &PgPool, parts: &[Part]) -> Result<(), positions::Error> {
    let mut transaction = pool.begin().await?;
    positions::advance(&mut transaction, NAME, &advances(parts)).await?;
    for part in parts {
        let offsets: Vec<i64> = part.records.iter().map(|record| record.offset).collect();
        sqlx::query("INSERT INTO processed SELECT $1, $2, * FROM unnest($3::bigint[])")
            .bind(&*part.topic)
            .bind(part.partition)
            .bind(offsets)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(crate) async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for {what}");
}
