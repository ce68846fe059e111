//! librdkafka's callbacks, and how partitions are opened: at the position that PostgreSQL has, after it was checked
//! that the log is still the one that the position belongs to.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{Arc, OnceLock, Weak},
    thread::Thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaRespErr,
};
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error, metrics,
    positions::{self, Found},
    queues::Queues,
    state::{Key, Opening, State},
};

/// How long one request to Kafka may take. Shutdown waits for it.
pub(crate) const KAFKA_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one attempt at PostgreSQL may take.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) state: Mutex<State>,
    pub(crate) readiness: Readiness,
    pub(crate) runtime: runtime::Handle,
    /// Cancelled by the caller's shutdown, or by [`Context::end`].
    pub(crate) ended: CancellationToken,
    pub(crate) pool: PgPool,
    /// A queue for each partition, when the consumer has [lanes](Config::lanes).
    pub(crate) queues: Mutex<Queues<Self>>,
    /// The polling thread.
    pub(crate) poller: OnceLock<Thread>,
    /// The client that makes those queues.
    pub(crate) consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    topics: [Arc<str>; 4],
    outcome: Mutex<Option<Error>>,
}

/// What was found out about partitions that are to be opened.
type Verdicts = Vec<(Key, Result<Opening, String>)>;

impl Context {
    pub(crate) fn new(
        config: Config,
        pool: PgPool,
        readiness: Readiness,
        runtime: runtime::Handle,
        ended: CancellationToken,
    ) -> Self {
        let state = State::new(
            config.max_batch_records,
            config.max_batch_bytes,
            config.linger,
            config.lanes.map_or(1, NonZeroUsize::get),
            Instant::now(),
        );
        Self {
            topics: config.cluster.topics().map(Arc::from),
            config,
            state: Mutex::new(state),
            readiness,
            runtime,
            ended,
            pool,
            queues: Mutex::default(),
            poller: OnceLock::new(),
            consumer: OnceLock::new(),
            outcome: Mutex::new(None),
        }
    }

    /// Wakes the polling thread if it waits for records.
    pub(crate) fn wake(&self) {
        if let Some(poller) = self.poller.get() {
            poller.unpark();
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Ends the consumer. If this is called more than once, the first error counts.
    pub(crate) fn end(&self, error: Option<Error>) {
        if let Some(error) = error {
            self.outcome.lock().get_or_insert(error);
        }
        self.ended.cancel();
    }

    pub(crate) fn outcome(&self) -> Option<Error> {
        self.outcome.lock().take()
    }

    pub(crate) fn key(&self, topic: &str, partition: i32) -> Option<Key> {
        let event_type = self.config.cluster.event_type(topic)?;
        Some(Key {
            event_type,
            partition,
        })
    }

    fn topic(&self, key: Key) -> Arc<str> {
        let name = self.config.cluster.topic(key.event_type);
        let known = self.topics.iter().find(|topic| ***topic == *name);
        known.cloned().unwrap_or_else(|| name.into())
    }

    pub(crate) fn list(
        &self,
        keys: &BTreeSet<Key>,
        offset: Offset,
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(keys.len());
        for key in keys {
            list.add_partition_offset(&self.topic(*key), key.partition, offset)?;
        }
        Ok(list)
    }

    /// The partitions that are fetched while the consumer is not paused.
    pub(crate) fn wanted(&self) -> KafkaResult<TopicPartitionList> {
        let wanted = self.state().wanted();
        self.list(&wanted, Offset::Invalid)
    }

    /// Opens partitions again that this instance has already.
    pub(crate) fn reopen(
        &self,
        consumer: &BaseConsumer<Self>,
        keys: &BTreeSet<Key>,
        patience: Duration,
    ) -> Result<(), Error> {
        // `seek` cannot be used: it is refused while a fetch is starting, is stopping, or was ended by an error.
        self.unassign(consumer, keys)?;
        self.open(consumer, keys, patience)
    }

    fn unassign(&self, consumer: &BaseConsumer<Self>, keys: &BTreeSet<Key>) -> KafkaResult<()> {
        let fetched = {
            let mut state = self.state();
            let fetched = state.assigned.intersection(keys).copied().collect();
            state.assigned.retain(|key| !keys.contains(key));
            fetched
        };
        self.queues.lock().remove(keys);
        // Called with an empty list too, because librdkafka waits for this call in a rebalance.
        consumer.incremental_unassign(&self.list(&fetched, Offset::Invalid)?)
    }

    fn open(
        &self,
        consumer: &BaseConsumer<Self>,
        keys: &BTreeSet<Key>,
        patience: Duration,
    ) -> Result<(), Error> {
        let in_kafka = self.offsets_in_kafka(consumer, keys);
        let verdicts = self.verify(consumer, keys, patience)?;
        let mut list = TopicPartitionList::new();
        let mut rewound = 0;
        {
            let now = Instant::now();
            let mut state = self.state();
            state.assignments += 1;
            for (key, verdict) in verdicts {
                match verdict {
                    Ok(opening) => {
                        let before = in_kafka.get(&key).copied().unwrap_or(0);
                        rewound += before
                            .saturating_sub(opening.position)
                            .max(0)
                            .unsigned_abs();
                        let offset = Offset::Offset(opening.position);
                        list.add_partition_offset(&opening.topic, key.partition, offset)?;
                        if let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) {
                            self.queues.lock().split(&consumer, key, &opening.topic);
                        }
                        state.open(key, opening, now);
                    }
                    Err(reason) => {
                        if state.stopped.get(&key) != Some(&reason) {
                            tracing::error!(
                                consumer = self.config.name,
                                topic = %self.topic(key),
                                partition = key.partition,
                                "the partition is not consumed until somebody has looked: {reason}"
                            );
                        }
                        state.stopped.insert(key, reason);
                    }
                }
            }
        }
        consumer.incremental_assign(&list)?;
        if rewound > 0 {
            metrics::rewound(self.config.name, rewound);
            tracing::error!(
                consumer = self.config.name,
                records = rewound,
                "PostgreSQL is behind the offsets in Kafka: it was restored to an older state, or positions were \
                 moved. These records are processed again, which restores what PostgreSQL lost of them. The \
                 registry is just as old: repeat what was changed in it since, above all withdrawn consents"
            );
            // Now Kafka has the positions of PostgreSQL, so that this is logged only once.
            self.commit_to_kafka(consumer);
        }
        self.report();
        Ok(())
    }

    /// The group's offsets in Kafka. They are committed [after](Self::commit_to_kafka) PostgreSQL has committed, so
    /// they are never ahead of PostgreSQL unless it was restored to an older state. Kafka is asked before PostgreSQL,
    /// because another instance may be moving both.
    fn offsets_in_kafka(
        &self,
        consumer: &BaseConsumer<Self>,
        keys: &BTreeSet<Key>,
    ) -> BTreeMap<Key, i64> {
        let asked = self.list(keys, Offset::Invalid);
        let answer = asked.and_then(|asked| match asked.count() {
            0 => Ok(asked),
            _ => consumer.committed_offsets(asked, KAFKA_TIMEOUT),
        });
        let answer = answer.unwrap_or_else(|error| {
            tracing::warn!(consumer = self.config.name, %error, "cannot find out whether PostgreSQL was restored to an older state");
            TopicPartitionList::new()
        });
        let offset = |element: &TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => {
                Some((self.key(element.topic(), element.partition())?, offset))
            }
            _ => None,
        };
        answer.elements().iter().filter_map(offset).collect()
    }

    /// Tries until Kafka and PostgreSQL answered, for as long as `patience`.
    fn verify(
        &self,
        consumer: &BaseConsumer<Self>,
        keys: &BTreeSet<Key>,
        patience: Duration,
    ) -> Result<Verdicts, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        loop {
            self.state().beat(Instant::now());
            match self.verify_once(consumer, keys) {
                Err(error) if started.elapsed() < patience && !self.ended.is_cancelled() => {
                    tracing::warn!(consumer = self.config.name, %error, "partitions cannot be opened yet");
                    self.readiness
                        .fail("positions", "the positions cannot be read");
                    std::thread::sleep(Duration::from_millis(500).min(patience));
                }
                outcome => return outcome,
            }
        }
    }

    fn verify_once(
        &self,
        consumer: &BaseConsumer<Self>,
        keys: &BTreeSet<Key>,
    ) -> Result<Verdicts, Error> {
        let topics: BTreeSet<String> = keys
            .iter()
            .map(|key| self.config.cluster.topic(key.event_type))
            .collect();
        let topics: Vec<_> = topics.into_iter().collect();
        let incarnations = rivulet_kafka::incarnations(consumer.client(), &topics, KAFKA_TIMEOUT)?;
        let (there, gone): (BTreeSet<Key>, BTreeSet<Key>) = keys
            .iter()
            .partition(|key| incarnations.contains_key(&*self.topic(**key)));
        let lows = self.offsets(consumer, &there, Offset::Beginning)?;
        let highs = self.offsets(consumer, &there, Offset::End)?;
        let found: Vec<Found> = there
            .iter()
            .filter_map(|key| {
                let topic = self.config.cluster.topic(key.event_type);
                Some(Found {
                    incarnation: incarnations.get(&topic)?.clone(),
                    low: *lows.get(key)?,
                    partition: key.partition,
                    topic,
                })
            })
            .collect();
        let stored = self.in_database(positions::open(&self.pool, self.config.name, &found))?;

        let mut verdicts: Verdicts = gone
            .into_iter()
            .map(|key| (key, Err("the topic does not exist".to_owned())))
            .collect();
        for stored in stored {
            let Some(key) = self.key(&stored.topic, stored.partition) else {
                continue;
            };
            let (Some(incarnation), Some(low), Some(high)) = (
                incarnations.get(&stored.topic),
                lows.get(&key),
                highs.get(&key),
            ) else {
                continue;
            };
            let (next, end) = (
                stored.next_offset,
                stored.pending_end.unwrap_or(stored.next_offset),
            );
            let verdict = if stored.incarnation != *incarnation {
                Err(format!(
                    "the topic was made anew: the position is of {}, the topic is {incarnation}",
                    stored.incarnation
                ))
            } else if next < *low {
                Err(format!(
                    "the records {next} to {low} are gone before they were consumed"
                ))
            } else if end > *high {
                Err(format!(
                    "the position is {end}, but the log ends at {high}: it has lost its end"
                ))
            } else {
                Ok(Opening {
                    topic: self.topic(key),
                    incarnation: stored.incarnation.into(),
                    position: next,
                    pending_end: stored.pending_end,
                    high: *high,
                })
            };
            verdicts.push((key, verdict));
        }
        Ok(verdicts)
    }

    /// Where these logs begin ([`Offset::Beginning`]) or end ([`Offset::End`]), in one request a broker.
    pub(crate) fn offsets(
        &self,
        consumer: &BaseConsumer<Self>,
        keys: &BTreeSet<Key>,
        which: Offset,
    ) -> Result<BTreeMap<Key, i64>, Error> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        // In the request ListOffsets, the two ends of a log are special timestamps.
        let asked = self.list(keys, which)?;
        let answer = consumer.offsets_for_times(asked, KAFKA_TIMEOUT)?;
        let mut offsets = BTreeMap::new();
        for element in answer.elements() {
            element.error()?;
            if let (Some(key), Offset::Offset(offset)) = (
                self.key(element.topic(), element.partition()),
                element.offset(),
            ) {
                offsets.insert(key, offset);
            }
        }
        if offsets.len() == keys.len() {
            Ok(offsets)
        } else {
            Err(Error::Topics(rivulet_kafka::Error::Timeout(
                "where the logs begin and end",
            )))
        }
    }

    pub(crate) fn in_database<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        self.runtime
            .block_on(async { tokio::time::timeout(DATABASE_TIMEOUT, work).await })
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(Error::Database)
    }

    /// Reports which partitions are open and which are stopped. To be called after each change of that.
    fn report(&self) {
        let state = self.state();
        metrics::partitions(self.config.name, state.open.len(), state.stopped.len());
        if state.stopped.is_empty() {
            self.readiness.pass("positions");
            return;
        }
        let reasons: Vec<String> = state
            .stopped
            .iter()
            .map(|(key, reason)| format!("{}/{}: {reason}", self.topic(*key), key.partition))
            .collect();
        self.readiness.fail("positions", reasons.join("; "));
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, keys: &BTreeSet<Key>) -> Result<(), Error> {
        metrics::rebalance(self.config.name, "assign");
        tracing::info!(
            consumer = self.config.name,
            partitions = keys.len(),
            "assigned"
        );
        self.state().excuse(Instant::now());
        self.open(consumer, keys, self.config.patience)?;
        self.state().joined = true;
        self.readiness.pass("kafka");
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, keys: &BTreeSet<Key>) -> Result<(), Error> {
        let lost = consumer.assignment_lost();
        metrics::rebalance(self.config.name, if lost { "lost" } else { "revoke" });
        tracing::info!(
            consumer = self.config.name,
            partitions = keys.len(),
            lost,
            "revoked"
        );
        {
            let now = Instant::now();
            let mut state = self.state();
            for key in keys {
                if let Some(partition) = state.revoke(*key, now) {
                    metrics::no_lag(self.config.name, *key, &partition);
                }
            }
        }
        // Nobody has to wait for what is being processed now, because the compare-and-set decides.
        self.unassign(consumer, keys)?;
        self.report();
        Ok(())
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        rivulet_kafka::log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        rivulet_kafka::log_error(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.readiness.fail("kafka", "no broker can be reached");
        }
    }
}

impl ConsumerContext for Context {
    /// Replaces the default, which assigns partitions first and calls back afterwards. By then librdkafka would fetch
    /// from the wrong offsets.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let keys: BTreeSet<Key> = list
            .elements()
            .iter()
            .filter_map(|element| self.key(element.topic(), element.partition()))
            .collect();
        let assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let outcome = if !assigned {
            self.revoke(consumer, &keys)
        } else if self.ended.is_cancelled() {
            consumer
                .incremental_assign(&TopicPartitionList::new())
                .map_err(Error::Kafka)
        } else {
            self.assign(consumer, &keys)
        };
        if let Err(error) = outcome {
            // No work is better than work from a guessed position. librdkafka must get an answer all the same, or the
            // consumer could never be closed.
            self.end(Some(error));
            if assigned && let Err(error) = consumer.incremental_assign(&TopicPartitionList::new())
            {
                tracing::warn!(consumer = self.config.name, %error, "an assignment could not be refused");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(consumer = self.config.name, %error, "Kafka did not take the offsets");
        }
    }
}
