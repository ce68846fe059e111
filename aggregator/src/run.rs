//! The role: a worker for each lane of the consumer, and housekeeping.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use chrono::Utc;
use rivulet_consumer::Consumer;
use rivulet_kafka::Cluster;
use rivulet_quarantine::Breaker;
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    CONSUMER, Config, Error, READINESS_CHECK,
    health::Health,
    store::{self, Store},
    worker::Worker,
};

/// Transactions at a time.
const LANES: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// How long to wait before a Kafka that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Runs the aggregator until `shutdown`: any number of instances may run.
///
/// # Errors
/// A setting is wrong, or the consumer stopped: nothing that waiting would mend. What PostgreSQL does
/// not take is retried for ever or, where a record is to blame, set aside.
pub async fn run(
    config: Config,
    cluster: Cluster,
    pool: PgPool,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.validate()?;
    tokio::select! {
        kafka = retention(&cluster, &readiness) => config.check_retention(kafka)?,
        () = shutdown.cancelled() => return Ok(()),
    }
    let health = Arc::new(Health::new(readiness.clone()));
    let (share, asked) = (config.quarantine_share, readiness.clone());
    let breaker = Arc::new(Breaker::new(CONSUMER, pool.clone(), asked, share));
    let consumer_config = rivulet_consumer::Config {
        max_batch_records: config.max_batch_records,
        max_batch_bytes: config.max_batch_bytes,
        linger: config.linger,
        lanes: Some(LANES),
        ..rivulet_consumer::Config::new(cluster, CONSUMER, &config.group)
    };
    let mut consumer =
        Consumer::start(consumer_config, pool.clone(), readiness, shutdown.clone()).await?;
    let mut running = JoinSet::new();
    for lane in consumer.take_lanes() {
        let worker = Worker {
            handle: consumer.handle(),
            store: Store::new(pool.clone()),
            health: health.clone(),
            fails: false,
            breaker: breaker.clone(),
            shutdown: shutdown.clone(),
            timeout: config.transaction_timeout,
        };
        running.spawn(worker.work(lane));
    }
    tokio::select! {
        result = all(running) => result?,
        never = housekeeping(&pool, &config) => match never {},
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
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// Waits for the end of all lanes, or the first failure.
async fn all(mut lanes: JoinSet<Result<(), Error>>) -> Result<(), Error> {
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(())
}

/// Does the housekeeping for ever. A round that fails is repeated at the next interval.
async fn housekeeping(pool: &PgPool, config: &Config) -> std::convert::Infallible {
    let mut rounds = tokio::time::interval(config.housekeeping_interval);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = store::housekeeping(pool, Utc::now(), config.seen_retention_days).await
        {
            tracing::warn!(%error, "partitions could not be made or dropped, trying again later");
        }
        if let Err(error) = store::retention::sweep(pool, Utc::now()).await {
            tracing::warn!(%error, "rollups that are too old could not be deleted, trying again later");
        }
    }
}
