//! A queue for each partition, so that records of all partitions are taken in the order of their timestamps.
//!
//! librdkafka puts what it fetches of all partitions into one queue, a long stretch of one partition
//! after that of another. In a backlog a batch would then hold one or two partitions' records, and
//! a child's row would be written again for each topic that its events are in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    thread,
    time::Duration,
};

use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, ConsumerContext, base_consumer::PartitionQueue},
    error::KafkaResult,
    message::BorrowedMessage,
};

use crate::{Error, state::Key};

/// How many records are taken from one queue in a row: how far ahead of the others it can get.
const TURN: usize = 64;

pub(crate) struct Queues<C: ConsumerContext>(BTreeMap<Key, Queue<C>>);

struct Queue<C: ConsumerContext> {
    messages: PartitionQueue<C>,
    /// The timestamp of the last record taken, Unix milliseconds.
    until: i64,
}

impl<C: ConsumerContext> Default for Queues<C> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<C: ConsumerContext> Queues<C> {
    /// Gives the partition a queue of its own, which wakes this thread. This is allowed only while the partition is not
    /// being fetched: if its records were in two queues, nobody could tell which come first. If librdkafka gives no
    /// queue, the records come with those of all other partitions.
    pub(crate) fn split(&mut self, consumer: &Arc<BaseConsumer<C>>, key: Key, topic: &str) {
        // The old queue is removed first, because the wake-up of the new one would be removed with it.
        self.0.remove(&key);
        if let Some(mut messages) = consumer.split_partition_queue(topic, key.partition) {
            let thread = thread::current();
            messages.set_nonempty_callback(move || thread.unpark());
            self.0.insert(key, Queue { messages, until: 0 });
        }
    }

    pub(crate) fn remove(&mut self, keys: &BTreeSet<Key>) {
        self.0.retain(|key, _| !keys.contains(key));
    }

    /// Hands over about `limit` records, always of the partition that is furthest behind in time among
    /// those that have any and for which there is room. `keep` says whether there is room for more of its
    /// kind. Returns how many.
    pub(crate) fn take(
        &mut self,
        limit: usize,
        has_room: impl Fn(Key) -> bool,
        mut keep: impl FnMut(KafkaResult<BorrowedMessage<'_>>) -> Result<bool, Error>,
    ) -> Result<usize, Error> {
        let mut taken = 0;
        let untils = self
            .0
            .iter()
            .map(|(key, queue)| Reverse((queue.until, *key)));
        let mut behind: BinaryHeap<_> = untils.collect();
        while taken < limit
            && let Some(Reverse((_, key))) = behind.pop()
            && let Some(queue) = self.0.get_mut(&key)
        {
            let before = taken;
            let mut goes_on = has_room(key);
            while goes_on
                && taken < before + TURN
                && let Some(message) = queue.messages.poll(Duration::ZERO)
            {
                taken += 1;
                if let Ok(message) = &message {
                    queue.until = message.timestamp().to_millis().unwrap_or(queue.until);
                }
                goes_on = keep(message)?;
            }
            if goes_on && taken == before + TURN {
                behind.push(Reverse((queue.until, key)));
            }
        }
        Ok(taken)
    }
}
