//! The task that owns the buffer and starts the inserts.

use std::{future::pending, sync::Arc, time::Duration};

use clickhouse::Client;
use rivulet_consumer::{Batch, Consumer};
use rivulet_kafka::Cluster;
use rivulet_quarantine::Breaker;
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio::{sync::Mutex, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    buffer::{Buffer, Key},
    delivery::{Deliverer, Outcome, deliver},
    health::Health,
    metrics, progress,
    warehouse::Warehouse,
};

/// Records of one poll of the consumer: small enough that encoding them does not hold up a runtime
/// thread for longer than some ten milliseconds.
const POLL_RECORDS: usize = 4_000;

/// How often waiting ranges are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Brings the records of all topics into ClickHouse until cancelled.
///
/// `client` is on the database that holds `events`. The readiness check [`crate::CHECK`] says
/// whether ClickHouse takes inserts; the consumer keeps its own.
///
/// # Errors
/// The consumer could not start, or stopped for an operator.
pub async fn run(
    config: Config,
    cluster: Cluster,
    pool: PgPool,
    client: Client,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let health = Health::new(readiness.clone());
    let open = Warehouse::open(&client, config.send_timeout, config.answer_timeout, health);
    let warehouse = tokio::select! {
        warehouse = open => warehouse,
        () = shutdown.cancelled() => return Ok(()),
    };
    let consumer = rivulet_consumer::Config {
        max_batch_records: POLL_RECORDS,
        max_batch_bytes: 4 << 20,
        linger: Duration::from_millis(20),
        ..rivulet_consumer::Config::new(cluster.clone(), crate::CONSUMER, config.group.clone())
    };
    let (share, asked) = (config.quarantine_share, readiness.clone());
    let consumer = Consumer::start(consumer, pool.clone(), readiness, shutdown.clone()).await?;
    let deliverer = Arc::new(Deliverer {
        breaker: Breaker::new(crate::CONSUMER, pool.clone(), asked, share),
        pool: pool.clone(),
        gone: Mutex::default(),
        warehouse,
        handle: consumer.handle(),
        cluster,
    });
    let identities_days = config.identities_days;
    let sink = Sink {
        buffer: Buffer::new(config.clone()),
        deliveries: JoinSet::new(),
        config,
        deliverer,
    };
    tokio::select! {
        ended = sink.run(consumer, shutdown) => ended,
        never = progress::forget_periodically(&pool, identities_days) => match never {},
    }
}

struct Sink {
    config: Config,
    buffer: Buffer,
    deliveries: JoinSet<(Key, u64, Outcome)>,
    deliverer: Arc<Deliverer>,
}

impl Sink {
    async fn run(
        mut self,
        mut consumer: Consumer,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        loop {
            self.start_due();
            metrics::buffered(self.buffer.bytes());
            for ((topic, partition), is_held) in self.buffer.holds(Instant::now()) {
                self.deliverer.handle.hold(&topic, partition, is_held);
            }
            // While no insert is running, a full buffer can only wait for more records of ranges that were begun before
            // a restart. So these must be taken.
            let has_room = self.buffer.moving_bytes() < self.config.max_buffered_bytes
                || self.deliveries.is_empty();
            let tick = async {
                if self.buffer.is_waiting() {
                    tokio::time::sleep(TICK).await;
                } else {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(delivered) = self.deliveries.join_next(), if !self.deliveries.is_empty() => {
                    self.settle(delivered?);
                }
                batch = consumer.next(), if has_room => match batch {
                    Some(batch) => self.buffer_batch(batch).await,
                    None => break,
                },
                () = tick => {}
            }
        }
        self.stop().await;
        // What the consumer still has is read again by the next owner.
        while consumer.next().await.is_some() {}
        Ok(consumer.join().await?)
    }

    fn start_due(&mut self) {
        self.buffer
            .retain_ours(|part| self.deliverer.handle.is_current(part));
        // Each slow insert lets another one run, up to twice as many as usual.
        let slow = self.buffer.slow(Instant::now()).min(self.config.inserts);
        while self.deliveries.len() < self.config.inserts + slow
            && let Some((key, range)) = self.buffer.next(Instant::now())
        {
            let (epoch, deliverer) = (range.part.epoch, Arc::clone(&self.deliverer));
            self.deliveries
                .spawn(async move { (key, epoch, deliver(deliverer, range).await) });
        }
    }

    fn settle(&mut self, (key, epoch, outcome): (Key, u64, Outcome)) {
        match outcome {
            Outcome::Done => self.buffer.delivered(&key, None),
            Outcome::Lost => self.buffer.delivered(&key, Some(epoch)),
            Outcome::Fenced => {
                self.buffer.delivered(&key, Some(epoch));
                self.deliverer.handle.resync(&key.0, key.1);
            }
        }
    }

    async fn buffer_batch(&mut self, batch: Batch) {
        for part in batch.parts {
            if !self.deliverer.handle.is_current(&part) {
                continue;
            }
            let (topic, partition) = (Arc::clone(&part.topic), part.partition);
            if self.buffer.take(part, Instant::now()).is_err() {
                tracing::warn!(%topic, partition, "records do not follow those before them; reading the position again");
                self.deliverer.handle.resync(&topic, partition);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the running inserts, but not for long. An insert that is cut off was begun, so it is repeated.
    async fn stop(&mut self) {
        let ended = async { while self.deliveries.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.shutdown_grace, ended)
            .await
            .is_err()
        {
            tracing::warn!(
                inserts = self.deliveries.len(),
                "inserts did not end in time; they are repeated after the next start"
            );
            self.deliveries.shutdown().await;
        }
    }
}
