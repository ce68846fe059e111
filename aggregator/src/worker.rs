//! One lane: while a batch is in its transaction the next is prepared.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use rivulet_consumer::{Batch, Handle, Lane, Part};
use rivulet_events::EventType;
use rivulet_quarantine::Breaker;
use rivulet_telemetry::{Gauge, Links, Span, tracing_is_on};
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    health::Health,
    metrics::{
        BATCH_RECORDS, EVENTS, FENCED_PARTS, FRESHNESS_SECONDS, RETRIES, SLOW_RECORD,
        TRANSACTION_SECONDS,
    },
    prepare::Prepared,
    store::{Store, StoreError},
    verdict::{Reason, Verdict, judge},
};

const FIRST_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// A partition that is missing for longer than this was not dropped by housekeeping.
const PARTITIONS_ARE_BACK: Duration = Duration::from_secs(1);

/// How many times the usual transaction time a single record gets at most.
const PATIENCE: u32 = 16;

/// How the work on a batch ended.
enum End {
    /// It is committed, or it belongs to another instance now.
    Done,
    /// The role is shutting down. Kafka still has the batch.
    Stopped,
    /// PostgreSQL refuses it, or takes too long for it. These are its halves.
    Halved([Vec<Part>; 2]),
}

/// Processes one lane. If something is slow or refused here, the other lanes go on.
pub(crate) struct Worker {
    pub(crate) handle: Handle,
    pub(crate) store: Store,
    pub(crate) health: Arc<Health>,
    /// Whether its transactions fail now.
    pub(crate) fails: bool,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) shutdown: CancellationToken,
    /// What a transaction may take.
    pub(crate) timeout: Duration,
}

impl Worker {
    pub(crate) async fn work(mut self, mut lane: Lane) -> Result<(), Error> {
        let handle = self.handle.clone();
        let mut ready = next(&mut lane, &handle).await?;
        while let Some((batch, span)) = ready {
            (ready, ()) = tokio::try_join!(next(&mut lane, &handle), self.commit(batch, span))?;
        }
        Ok(())
    }

    /// Commits the batch. If PostgreSQL refuses it or takes too long, its halves are committed, and so on. In the end
    /// only single records are left that PostgreSQL does not take.
    async fn commit(&mut self, batch: Prepared, span: Option<Span>) -> Result<(), Error> {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            match self.commit_whole(batch, span.as_ref()).await? {
                End::Done => {}
                End::Stopped => break,
                End::Halved([first, second]) => {
                    waiting.push(prepare(second).await?);
                    waiting.push(prepare(first).await?);
                }
            }
        }
        Ok(())
    }

    /// Commits the batch, with as many attempts as needed. Parts that another instance has got meanwhile are left to
    /// it.
    async fn commit_whole(
        &mut self,
        mut batch: Prepared,
        span: Option<&Span>,
    ) -> Result<End, Error> {
        let mut delay = FIRST_DELAY;
        let mut limit = self.timeout;
        let mut slow = None;
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
            if !self.breaker.allows(&batch.shares()).await {
                self.handle.still_trying();
                if !self.waited(Breaker::LOOK_AGAIN).await {
                    return Ok(End::Stopped);
                }
                continue;
            }
            let started = Instant::now();
            let commit = span.map(|span| span.database_call("commit", "postgresql"));
            let attempt = tokio::time::timeout(limit, self.store.commit(&mut batch, limit)).await;
            let ended = |reason| end(commit, reason);
            let (error, is_of_records) = match attempt {
                Ok(Ok(())) => {
                    ended(None);
                    TRANSACTION_SECONDS.record(started.elapsed());
                    self.committed(&batch).await;
                    return Ok(End::Done);
                }
                Ok(Err(StoreError::Fenced(moved))) => {
                    ended(Some("fenced"));
                    FENCED_PARTS.increment(moved.len() as u64);
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
                Ok(Err(StoreError::Position(error))) => (Some(error), false),
                Ok(Err(StoreError::Database(error))) => (Some(error), true),
                Err(_elapsed) => (None, true),
            };
            let verdict = match error.as_ref().map_or(Verdict::Slow, judge) {
                // Where the position was refused, or the batch has no events, no event can be what PostgreSQL refused.
                Verdict::Refused if !is_of_records || batch.events.is_empty() => {
                    Verdict::Lasting(Reason::Refused)
                }
                verdict => verdict,
            };
            let reason = verdict.reason();
            ended(Some(reason.as_str()));
            RETRIES.with([reason.as_str()]).increment(1);
            self.handle.still_trying();
            match verdict {
                Verdict::Refused | Verdict::Slow if !batch.is_single() => {
                    return Ok(End::Halved(batch.halves()));
                }
                Verdict::Refused => {
                    batch.set_aside(format!(
                        "PostgreSQL refused it: {}",
                        error_text(error.as_ref(), true)
                    ));
                    continue;
                }
                Verdict::Slow => {
                    limit = (limit * 2).min(self.timeout * PATIENCE);
                    slow.get_or_insert_with(|| SlowRecord::new(&batch.parts[0]));
                }
                Verdict::Passing(_) | Verdict::Lasting(_) => {}
            }
            if reason == Reason::Partition {
                self.store.forget_partitions();
            }
            let lasts = matches!(verdict, Verdict::Lasting(_))
                || reason == Reason::Partition && delay > PARTITIONS_ARE_BACK;
            if lasts && delay > FIRST_DELAY {
                let schema = matches!(reason, Reason::Schema | Reason::Partition | Reason::Login);
                let said = error_text(error.as_ref(), schema);
                self.health.lasting(&mut self.fails, reason.as_str(), &said);
            } else if delay > FIRST_DELAY {
                self.health.passing(&mut self.fails, reason.as_str());
            }
            let jittered = delay.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            if !self.waited(jittered).await {
                return Ok(End::Stopped);
            }
            delay = MAX_DELAY.min(delay * 2);
            batch = prepare(batch.parts).await?;
        }
    }

    /// Waits. Returns `false` if the role is shutting down.
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
            count(kind, "erased", account.erased);
            count(kind, "revoked", account.revoked);
        }
        let records: usize = batch.parts.iter().map(|part| part.records.len()).sum();
        BATCH_RECORDS.record(records as f64);
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
                FRESHNESS_SECONDS.record((now - received_at).max(0) as f64 / 1000.0);
            }
        }
        self.breaker.committed(&batch.shares()).await;
    }
}

fn count(kind: EventType, outcome: &'static str, events: u64) {
    if events > 0 {
        EVENTS.with([kind.as_str(), outcome]).increment(events);
    }
}

/// Reports a single record that takes PostgreSQL longer than a whole batch may, for as long as it does. It is tried
/// again with more time, and an operator should find out why.
struct SlowRecord(Gauge);

impl SlowRecord {
    fn new(part: &Part) -> Self {
        let (topic, partition) = (&*part.topic, part.partition);
        tracing::error!(
            topic,
            partition,
            offset = part
                .records
                .first()
                .map_or(part.expected, |record| record.offset),
            "a record takes PostgreSQL longer by itself than a whole batch may; it is tried again with more time. \
             Partitions of this number wait for it, the others go on"
        );
        let (topic, partition) = (topic.to_owned(), partition.to_string());
        let gauge = SLOW_RECORD.with([topic, partition]);
        gauge.set(1.0);
        Self(gauge)
    }
}

impl Drop for SlowRecord {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}

/// The next batch, prepared, with its span where one of its requests is traced.
async fn next(lane: &mut Lane, handle: &Handle) -> Result<Option<(Prepared, Option<Span>)>, Error> {
    let Some(Batch { parts }) = lane.next().await else {
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
fn error_text(error: Option<&sqlx::Error>, in_words: bool) -> String {
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
