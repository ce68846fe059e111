//! The loop: while one batch is in its transaction the next is prepared, in each of several lanes.

use std::{
    array, mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use metrics::{counter, histogram};
use rivulet_consumer::{Consumer, Handle, Part};
use rivulet_events::EventType;
use rivulet_kafka::Cluster;
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    CONSUMER, Config, Error,
    metrics::{BATCH_RECORDS, EVENTS, FENCED, FRESHNESS, RETRIES, TRANSACTION, describe},
    prepare::Prepared,
    store::{self, Store, StoreError},
};

/// The readiness check that this crate passes and fails, beside the consumer's.
pub const READINESS_CHECK: &str = "rollups";

/// Transactions at a time. A partition is always in the same lane, and so are the partitions of the
/// other topics that have its number: all of a child, so that lanes do not wait for each other's rows.
const LANES: usize = 4;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Runs the aggregator until `shutdown`: any number of instances may run.
///
/// # Errors
/// A setting or the database's schema is wrong, or the consumer stopped: nothing that waiting would
/// mend. Whatever may pass is retried for ever.
pub async fn run(
    config: Config,
    cluster: Cluster,
    pool: PgPool,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.validate()?;
    describe();
    tokio::select! {
        kafka = retention(&cluster, &readiness) => config.check_retention(kafka)?,
        () = shutdown.cancelled() => return Ok(()),
    }
    readiness.pass(READINESS_CHECK);
    let consumer_config = rivulet_consumer::Config {
        max_batch_records: config.max_batch_records,
        max_batch_bytes: config.max_batch_bytes,
        linger: config.linger,
        aligned: true,
        ..rivulet_consumer::Config::new(cluster, CONSUMER, &config.group)
    };
    let mut consumer = Consumer::start(
        consumer_config,
        pool.clone(),
        readiness.clone(),
        shutdown.clone(),
    )
    .await?;
    let mut running = JoinSet::new();
    let failing = Arc::<AtomicUsize>::default();
    let lanes = array::from_fn(|_| {
        let (lane, parts) = mpsc::channel(1);
        let worker = Worker {
            handle: consumer.handle(),
            store: Store::new(pool.clone()),
            readiness: readiness.clone(),
            fails: false,
            failing: failing.clone(),
            shutdown: shutdown.clone(),
            timeout: config.transaction_timeout,
        };
        running.spawn(worker.work(parts));
        lane
    });
    tokio::select! {
        result = async { tokio::try_join!(share_out(&mut consumer, lanes), all(running)) } => {
            result?;
        }
        never = keep_house(&pool, &config) => match never {},
    }
    Ok(consumer.join().await?)
}

/// How long the topics keep their records; asks Kafka until it answers.
async fn retention(cluster: &Cluster, readiness: &Readiness) -> Option<Duration> {
    loop {
        match rivulet_kafka::retention(cluster).await {
            Ok(kafka) => return kafka,
            Err(error) => {
                tracing::warn!(%error, "the topics' retention is not known yet, asking again");
                readiness.fail(READINESS_CHECK, "the topics' retention is not known yet");
                tokio::time::sleep(MAX_DELAY).await;
            }
        }
    }
}

/// Gives each lane its partitions of every batch, until the consumer has ended.
async fn share_out(
    consumer: &mut Consumer,
    lanes: [mpsc::Sender<Vec<Part>>; LANES],
) -> Result<(), Error> {
    while let Some(batch) = consumer.next().await {
        let mut shares: [Vec<Part>; LANES] = array::from_fn(|_| Vec::new());
        for part in batch.parts {
            shares[part.partition.unsigned_abs() as usize % LANES].push(part);
        }
        for (lane, share) in lanes.iter().zip(shares) {
            // A lane that is gone has failed, and `all` says why.
            if !share.is_empty() && lane.send(share).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Waits for the end of all lanes, or the first failure.
async fn all(mut lanes: JoinSet<Result<(), Error>>) -> Result<(), Error> {
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(())
}

/// One lane.
struct Worker {
    handle: Handle,
    store: Store,
    readiness: Readiness,
    /// Its transactions fail,
    fails: bool,
    /// and those of so many lanes.
    failing: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    timeout: Duration,
}

impl Worker {
    async fn work(mut self, mut parts: mpsc::Receiver<Vec<Part>>) -> Result<(), Error> {
        let mut ready = next(&mut parts).await?;
        while let Some(batch) = ready {
            (ready, ()) = tokio::try_join!(next(&mut parts), self.commit(batch))?;
        }
        Ok(())
    }

    /// Commits the batch, however often it takes; parts that were taken from this instance in the
    /// meantime are left to whoever has them now.
    async fn commit(&mut self, mut batch: Prepared) -> Result<(), Error> {
        let mut delay = FIRST_DELAY;
        loop {
            if !batch.parts.iter().all(|part| self.handle.is_current(part)) {
                let handle = self.handle.clone();
                let current = batch
                    .parts
                    .into_iter()
                    .filter(|part| handle.is_current(part));
                batch = prepare(current.collect()).await?;
            }
            if batch.parts.is_empty() {
                self.recovered();
                return Ok(());
            }
            let started = Instant::now();
            let attempt = tokio::time::timeout(self.timeout, self.store.commit(&mut batch)).await;
            let reason = match attempt {
                Ok(Ok(())) => {
                    histogram!(TRANSACTION).record(started.elapsed());
                    self.committed(&batch);
                    return Ok(());
                }
                Ok(Err(StoreError::Fenced(moved))) => {
                    counter!(FENCED).increment(moved.len() as u64);
                    for (topic, partition) in &moved {
                        tracing::info!(
                            topic,
                            partition,
                            "the position has moved, reading it again"
                        );
                        self.handle.resync(topic, *partition);
                    }
                    batch.parts.retain(|part| {
                        !moved
                            .iter()
                            .any(|(topic, n)| **topic == *part.topic && *n == part.partition)
                    });
                    batch = prepare(batch.parts).await?;
                    continue;
                }
                Ok(Err(StoreError::Database(error))) => match passing(&error) {
                    Some(reason) => reason,
                    None => return Err(error.into()),
                },
                Err(_elapsed) => "timeout",
            };
            counter!(RETRIES, "reason" => reason).increment(1);
            self.handle.still_trying();
            if reason == "partition" {
                self.store.forget_partitions();
            }
            if delay > FIRST_DELAY {
                if !mem::replace(&mut self.fails, true) {
                    self.failing.fetch_add(1, Ordering::Relaxed);
                }
                self.readiness
                    .fail(READINESS_CHECK, format!("transactions fail: {reason}"));
                tracing::warn!(reason, "a batch could not be committed, trying again");
            }
            let jittered = delay.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                // Kafka has it still.
                () = self.shutdown.cancelled() => return Ok(()),
            }
            delay = MAX_DELAY.min(delay * 2);
            batch = prepare(batch.parts).await?;
        }
    }

    /// What failed was committed, or is another instance's by now.
    fn recovered(&mut self) {
        if mem::take(&mut self.fails) && self.failing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.readiness.pass(READINESS_CHECK);
        }
    }

    fn committed(&mut self, batch: &Prepared) {
        self.recovered();
        for ((part, _hour), account) in batch.accounts() {
            let kind = batch.parts[part].event_type;
            count(kind, "counted", account.counted);
            count(kind, "duplicate", account.duplicates);
            count(kind, "quarantined", account.quarantined);
        }
        let records: usize = batch.parts.iter().map(|part| part.records.len()).sum();
        histogram!(BATCH_RECORDS).record(records as f64);
        for poison in &batch.poison {
            let part = &batch.parts[poison.part];
            tracing::warn!(
                topic = &*part.topic,
                partition = part.partition,
                offset = part.records[poison.record].offset,
                code = poison.code,
                "a record went into quarantine"
            );
        }
        let now = Utc::now().timestamp_millis();
        for (part, received_at) in batch.parts.iter().zip(&batch.received_at) {
            self.handle.done(part);
            if *received_at > 0 {
                histogram!(FRESHNESS).record((now - received_at).max(0) as f64 / 1000.0);
            }
        }
    }
}

fn count(kind: EventType, outcome: &'static str, events: u64) {
    if events > 0 {
        counter!(EVENTS, "type" => kind.as_str(), "outcome" => outcome).increment(events);
    }
}

async fn next(parts: &mut mpsc::Receiver<Vec<Part>>) -> Result<Option<Prepared>, Error> {
    match parts.recv().await {
        Some(parts) => prepare(parts).await.map(Some),
        None => Ok(None),
    }
}

async fn prepare(parts: Vec<Part>) -> Result<Prepared, Error> {
    Ok(spawn_blocking(|| Prepared::new(parts)).await?)
}

/// The reason of an error that another attempt may not meet; `None` where somebody must act.
pub(crate) fn passing(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Database(error) = error else {
        let lasting = matches!(
            error,
            sqlx::Error::PoolClosed
                | sqlx::Error::Configuration(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Encode(_)
        );
        return (!lasting).then_some("connection");
    };
    match error.code().as_deref().unwrap_or_default() {
        "40P01" => Some("deadlock"),
        "40001" => Some("serialization"),
        // A copy of an event was remembered by another transaction after this one looked.
        "23505" => Some("race"),
        // Another instance dropped a partition between this one's look and its use.
        "23514" | "42P01" => Some("partition"),
        "55P03" | "57014" => Some("timeout"),
        // Connection gone, server short of something, restarting or failing over.
        code if ["08", "53", "57", "58", "25"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Some("connection")
        }
        _ => None,
    }
}

/// Never ends; a round that fails is tried again at the next.
async fn keep_house(pool: &PgPool, config: &Config) -> std::convert::Infallible {
    let mut rounds = tokio::time::interval(config.housekeeping_interval);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = store::keep_house(pool, Utc::now(), config.seen_retention_days).await {
            tracing::warn!(%error, "partitions could not be made or dropped, trying again later");
        }
    }
}
