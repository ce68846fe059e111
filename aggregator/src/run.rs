//! The loop: while one batch is in its transaction the next is prepared, in each of several lanes.

use std::{array, sync::Arc, time::Duration};

use chrono::Utc;
use metrics::{counter, histogram};
use rivulet_consumer::{Consumer, Handle, Part};
use rivulet_events::EventType;
use rivulet_kafka::Cluster;
use rivulet_quarantine::Breaker;
use rivulet_telemetry::{Links, Readiness, Span, tracing_is_on};
use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    CONSUMER, Config, Error, READINESS_CHECK,
    health::Health,
    metrics::{BATCH_RECORDS, EVENTS, FENCED, FRESHNESS, RETRIES, TRANSACTION, describe},
    prepare::Prepared,
    store::{self, Store, StoreError},
    verdict::{Verdict, judge},
};

/// Transactions at a time. A partition is always in the same lane, and so are the partitions of the
/// other topics that have its number: all of a child, so that lanes do not wait for each other's rows.
const LANES: usize = 4;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// A partition that is missing for longer than this was not dropped by housekeeping.
const PARTITIONS_ARE_BACK: Duration = Duration::from_secs(1);

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
    describe();
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
        aligned: true,
        ..rivulet_consumer::Config::new(cluster, CONSUMER, &config.group)
    };
    let mut consumer =
        Consumer::start(consumer_config, pool.clone(), readiness, shutdown.clone()).await?;
    let mut running = JoinSet::new();
    let lanes = array::from_fn(|_| {
        let (lane, parts) = mpsc::channel(1);
        let worker = Worker {
            handle: consumer.handle(),
            store: Store::new(pool.clone()),
            health: health.clone(),
            fails: false,
            breaker: breaker.clone(),
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

/// How the work on a batch ended.
enum End {
    /// It is committed, or another instance's.
    Done,
    /// By shutdown: Kafka still has it.
    Stopped,
    /// PostgreSQL does not take it; its halves.
    Refused([Vec<Part>; 2]),
}

/// One lane.
struct Worker {
    handle: Handle,
    store: Store,
    health: Arc<Health>,
    /// Its transactions fail.
    fails: bool,
    breaker: Arc<Breaker>,
    shutdown: CancellationToken,
    timeout: Duration,
}

impl Worker {
    async fn work(mut self, mut parts: mpsc::Receiver<Vec<Part>>) -> Result<(), Error> {
        let handle = self.handle.clone();
        let mut ready = next(&mut parts, &handle).await?;
        while let Some((batch, span)) = ready {
            (ready, ()) = tokio::try_join!(next(&mut parts, &handle), self.commit(batch, span))?;
        }
        Ok(())
    }

    /// Commits the batch. Where PostgreSQL refuses it, by halves: what it takes is counted, and in
    /// the end single records are left that it does not take.
    async fn commit(&mut self, batch: Prepared, span: Option<Span>) -> Result<(), Error> {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            match self.commit_whole(batch, span.as_ref()).await? {
                End::Done => {}
                End::Stopped => break,
                End::Refused([first, second]) => {
                    waiting.push(prepare(second).await?);
                    waiting.push(prepare(first).await?);
                }
            }
        }
        Ok(())
    }

    /// Commits the batch, however often it takes; parts that were taken from this instance in the
    /// meantime are left to whoever has them now.
    async fn commit_whole(
        &mut self,
        mut batch: Prepared,
        span: Option<&Span>,
    ) -> Result<End, Error> {
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
                self.health.well(&mut self.fails);
                return Ok(End::Done);
            }
            if !self.breaker.admits(&batch.shares()).await {
                self.handle.still_trying();
                if !self.waited(Breaker::LOOK_AGAIN).await {
                    return Ok(End::Stopped);
                }
                continue;
            }
            let started = Instant::now();
            let commit = span.map(|span| span.store("commit", "postgresql"));
            let attempt = tokio::time::timeout(self.timeout, self.store.commit(&mut batch)).await;
            let ended = |reason| end(commit, reason);
            let error = match attempt {
                Ok(Ok(())) => {
                    ended(None);
                    histogram!(TRANSACTION).record(started.elapsed());
                    self.committed(&batch).await;
                    return Ok(End::Done);
                }
                Ok(Err(StoreError::Fenced(moved))) => {
                    ended(Some("fenced"));
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
                Ok(Err(StoreError::Database(error))) => Some(error),
                Err(_elapsed) => None,
            };
            let verdict = match error.as_ref().map_or(Verdict::Passing("timeout"), judge) {
                // Its events were not what was refused.
                Verdict::Refused if batch.events.is_empty() => Verdict::Lasting("refused"),
                verdict => verdict,
            };
            let (Verdict::Passing(reason) | Verdict::Lasting(reason)) = verdict else {
                ended(Some("refused"));
                counter!(RETRIES, "reason" => "refused").increment(1);
                if !batch.is_single() {
                    return Ok(End::Refused(batch.halves()));
                }
                batch.set_aside(format!(
                    "PostgreSQL refused it: {}",
                    said(error.as_ref(), true)
                ));
                continue;
            };
            ended(Some(reason));
            counter!(RETRIES, "reason" => reason).increment(1);
            self.handle.still_trying();
            if reason == "partition" {
                self.store.forget_partitions();
            }
            let lasts = matches!(verdict, Verdict::Lasting(_))
                || reason == "partition" && delay > PARTITIONS_ARE_BACK;
            if lasts && delay > FIRST_DELAY {
                let schema = matches!(reason, "schema" | "partition" | "login");
                let said = said(error.as_ref(), schema);
                self.health.lasting(&mut self.fails, reason, &said);
            } else if delay > FIRST_DELAY {
                self.health.passing(&mut self.fails, reason);
            }
            let jittered = delay.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            if !self.waited(jittered).await {
                return Ok(End::Stopped);
            }
            delay = MAX_DELAY.min(delay * 2);
            batch = prepare(batch.parts).await?;
        }
    }

    /// `false`: it is time to stop.
    async fn waited(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    async fn committed(&mut self, batch: &Prepared) {
        self.health.well(&mut self.fails);
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
        self.breaker.committed(&batch.shares()).await;
    }
}

fn count(kind: EventType, outcome: &'static str, events: u64) {
    if events > 0 {
        counter!(EVENTS, "type" => kind.as_str(), "outcome" => outcome).increment(events);
    }
}

/// The next batch, prepared, with its span where one of its requests is traced.
async fn next(
    parts: &mut mpsc::Receiver<Vec<Part>>,
    handle: &Handle,
) -> Result<Option<(Prepared, Option<Span>)>, Error> {
    let Some(parts) = parts.recv().await else {
        return Ok(None);
    };
    let span = tracing_is_on().then(|| {
        let mut links = Links::default();
        for record in parts.iter().flat_map(|part| &part.records) {
            links.add(record.link.as_deref());
        }
        handle.span(&parts, links)
    });
    Ok(Some((prepare(parts).await?, span.flatten())))
}

/// Ends the span of a transaction, with why it failed if it did.
fn end(commit: Option<Span>, failed: Option<&'static str>) {
    if let (Some(commit), Some(reason)) = (commit, failed) {
        commit.failed(reason);
    }
}

async fn prepare(parts: Vec<Part>) -> Result<Prepared, Error> {
    Ok(spawn_blocking(|| Prepared::new(parts)).await?)
}

/// What PostgreSQL said: its code and, unless it may quote a record, its words.
fn said(error: Option<&sqlx::Error>, in_words: bool) -> String {
    match error {
        Some(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default();
            let words = if in_words { error.message() } else { "" };
            format!("SQLSTATE {code} {words}").trim_end().to_owned()
        }
        Some(error) if in_words => error.to_string(),
        _ => String::new(),
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
