//! The batches that a consumer hands out.

use std::sync::Arc;

use rivulet_events::EventType;
use rivulet_telemetry::Link;

/// Records of several partitions, to be processed together.
#[derive(Debug)]
pub struct Batch {
    /// At most one part a partition, sorted by (topic, partition). Some may be void by the time they are
    /// looked at: ask [`Handle::is_current`](crate::Handle::is_current).
    pub parts: Vec<Part>,
}

/// Consecutive records of one partition.
#[derive(Debug)]
pub struct Part {
    /// The topic.
    pub topic: Arc<str>,
    /// The type of every event in the topic.
    pub event_type: EventType,
    /// The partition.
    pub partition: i32,
    /// `<cluster id>/<topic id>`.
    pub incarnation: Arc<str>,
    /// Which opening of the partition this came from; see [`Handle::is_current`](crate::Handle::is_current).
    pub epoch: u64,
    /// The position before this part. The first record's offset may be larger: logs have gaps.
    pub expected: i64,
    /// A range `[expected, pending_end)` was begun and not finished, and these are its records, all
    /// of them and no others.
    pub pending_end: Option<i64>,
    /// In the order of their offsets.
    pub records: Vec<Raw>,
}

/// A record as Kafka has it.
#[derive(Debug)]
pub struct Raw {
    /// Its offset.
    pub offset: i64,
    /// When Kafka says it was written, Unix milliseconds; 0 when it does not say.
    pub timestamp: i64,
    /// Its value; empty for a tombstone.
    pub payload: Box<[u8]>,
    /// The request that it came with, where that is traced.
    pub link: Option<Box<Link>>,
}

impl Part {
    /// The records from the `at`th on, as a part of their own.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let records = self.records.split_off(at);
        let pending_end = self.pending_end.take();
        Self {
            topic: Arc::clone(&self.topic),
            event_type: self.event_type,
            partition: self.partition,
            incarnation: Arc::clone(&self.incarnation),
            epoch: self.epoch,
            expected: self.next_offset(),
            pending_end,
            records,
        }
    }

    /// The position after this part.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        let after = self
            .records
            .last()
            .map_or(self.expected, |last| last.offset + 1);
        self.pending_end.unwrap_or(after)
    }
}
