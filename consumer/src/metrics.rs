//! The consumer's metrics.

use crate::state::{Key, Partition};

rivulet_telemetry::metrics! {
    roles "aggregate, sink";

    /// Records between the position in PostgreSQL and the end of the log, by partition
    LAG_RECORDS: Gauge["consumer", "topic", "partition"] = "rivulet_consumer_lag_records", Count;
    /// Partitions this instance consumes
    OPEN_PARTITIONS: Gauge["consumer"] = "rivulet_consumer_open_partitions", Count;
    /// Partitions this instance does not consume until an operator has looked
    STOPPED_PARTITIONS: Gauge["consumer"] = "rivulet_consumer_stopped_partitions", Count;
    /// Records handed out for processing
    RECORDS: Counter["consumer"] = "rivulet_consumer_records_total", Count;
    /// Records that Kafka's client delivered a second time, ignored
    REDELIVERED_RECORDS: Counter["consumer"] = "rivulet_consumer_redelivered_records_total", Count;
    /// Partitions given (assign) or taken away (revoke, lost) by the group
    REBALANCES: Counter["consumer", "kind"] = "rivulet_consumer_rebalances_total", Count;
    /// Partitions read again because their position was not where it was thought to be
    RESYNCS: Counter["consumer"] = "rivulet_consumer_resyncs_total", Count;
    /// Records that PostgreSQL had once and does not know any more: it was put back to an older state
    REWOUND_RECORDS: Counter["consumer"] = "rivulet_consumer_rewound_records_total", Count;
    /// Times that fetching was paused because processing was slower
    PAUSES: Counter["consumer"] = "rivulet_consumer_pauses_total", Count;
}

pub(crate) fn lag(consumer: &'static str, key: Key, partition: &Partition) {
    set_lag(
        consumer,
        key,
        partition,
        (partition.high - partition.committed).max(0),
    );
}

/// Another instance tells it from now on.
pub(crate) fn no_lag(consumer: &'static str, key: Key, partition: &Partition) {
    set_lag(consumer, key, partition, 0);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn set_lag(consumer: &'static str, key: Key, partition: &Partition, records: i64) {
    let topic = partition.topic.to_string();
    LAG_RECORDS
        .with([consumer.to_owned(), topic, key.partition.to_string()])
        .set(records as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn partitions(consumer: &'static str, open: usize, stopped: usize) {
    OPEN_PARTITIONS.with([consumer]).set(open as f64);
    STOPPED_PARTITIONS.with([consumer]).set(stopped as f64);
}

pub(crate) fn records(consumer: &'static str, count: usize) {
    RECORDS.with([consumer]).increment(count as u64);
}

pub(crate) fn redelivered(consumer: &'static str) {
    REDELIVERED_RECORDS.with([consumer]).increment(1);
}

pub(crate) fn rebalance(consumer: &'static str, kind: &'static str) {
    REBALANCES.with([consumer, kind]).increment(1);
}

pub(crate) fn resync(consumer: &'static str) {
    RESYNCS.with([consumer]).increment(1);
}

pub(crate) fn rewound(consumer: &'static str, records: u64) {
    REWOUND_RECORDS.with([consumer]).increment(records);
}

pub(crate) fn pause(consumer: &'static str) {
    PAUSES.with([consumer]).increment(1);
}
