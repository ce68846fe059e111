//! What a consumer checks every few seconds, and what it reports to Kafka.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};

use crate::{
    Error,
    context::{Context, KAFKA_TIMEOUT},
    metrics, positions,
    state::Key,
};

/// A record that is older than this and not in the log by now will not come, because a request's own time limit is
/// shorter. Only records from a spill are older, and the aggregator adds the spill's largest age by itself.
const IN_FLIGHT: TimeDelta = TimeDelta::minutes(1);

impl Context {
    /// The regular check: topics, ends of logs, lag, stopped partitions.
    pub(crate) fn reconcile(&self, consumer: &BaseConsumer<Self>) {
        if let Err(error) = self.check(consumer) {
            tracing::warn!(consumer = self.config.name, %error, "the regular check of Kafka failed");
            self.readiness.fail("kafka", error.to_string());
            self.state().excuse(Instant::now());
        }
    }

    fn check(&self, consumer: &BaseConsumer<Self>) -> Result<(), Error> {
        let before = Utc::now();
        let topics = self.config.cluster.topics();
        let incarnations = rivulet_kafka::incarnations(consumer.client(), &topics, KAFKA_TIMEOUT)?;
        // If a topic was deleted and created again, librdkafka goes on in it as if nothing had happened, as long as the
        // new log reaches up to the old position.
        {
            let now = Instant::now();
            let mut state = self.state();
            let changed: Vec<Key> = state
                .open
                .iter()
                .filter(|(_, open)| {
                    // If a topic is missing, the broker may only be out of date. If the topic is really gone, the group
                    // takes the partition away.
                    let found = incarnations.get(&*open.topic);
                    found.is_some_and(|found| **found != *open.incarnation)
                })
                .map(|(key, _)| *key)
                .collect();
            for key in changed {
                state.void(key, now);
            }
        }
        let open: BTreeSet<Key> = self.state().open.keys().copied().collect();
        let highs = self.offsets(consumer, &open, Offset::End)?;
        let at_end: Vec<(String, i32, i64)> = {
            let mut state = self.state();
            state.observe(&highs, Instant::now());
            for (key, partition) in &state.open {
                metrics::lag(self.config.name, *key, partition);
            }
            let idle = state
                .open
                .iter()
                .filter(|(_, open)| open.is_idle() && open.committed == open.high);
            idle.map(|(key, open)| (open.topic.to_string(), key.partition, open.committed))
                .collect()
        };
        if let Some(missing) = topics
            .iter()
            .find(|topic| !incarnations.contains_key(*topic))
        {
            self.readiness.fail(
                "kafka",
                rivulet_kafka::Error::MissingTopic(missing.clone()).to_string(),
            );
        } else if self.state().joined {
            self.readiness.pass("kafka");
        }
        if !at_end.is_empty() {
            let idle = positions::idle(&self.pool, self.config.name, &at_end, before - IN_FLIGHT);
            if let Err(error) = self.in_database(idle) {
                tracing::warn!(consumer = self.config.name, %error, "the horizon of a quiet topic was not moved");
            }
        }
        // An operator may have put things right by now.
        let stopped: BTreeSet<Key> = self.state().stopped.keys().copied().collect();
        if !stopped.is_empty() {
            self.reopen(consumer, &stopped, Duration::ZERO)?;
        }
        Ok(())
    }

    /// Tells Kafka how far PostgreSQL is. Tools that show consumer lag need it, and it shows when PostgreSQL was
    /// restored to an older state. No number depends on it.
    pub(crate) fn commit_to_kafka(&self, consumer: &BaseConsumer<Self>) {
        let mut list = TopicPartitionList::new();
        for (key, partition) in &mut self.state().open {
            if partition.told != partition.committed {
                let offset = Offset::Offset(partition.committed);
                let added = list.add_partition_offset(&partition.topic, key.partition, offset);
                if added.is_ok() {
                    partition.told = partition.committed;
                }
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(consumer = self.config.name, %error, "Kafka was not told the offsets");
        }
    }
}
