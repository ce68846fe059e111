//! The consumer's metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::state::{Key, Partition};

pub(crate) fn describe() {
    describe_gauge!(
        "rivulet_consumer_lag_records",
        Unit::Count,
        "Records between the position in PostgreSQL and the end of the log, by partition"
    );
    describe_gauge!(
        "rivulet_consumer_open_partitions",
        Unit::Count,
        "Partitions this instance consumes"
    );
    describe_gauge!(
        "rivulet_consumer_stopped_partitions",
        Unit::Count,
        "Partitions this instance does not consume until an operator has looked"
    );
    describe_counter!(
        "rivulet_consumer_records_total",
        Unit::Count,
        "Records handed out for processing"
    );
    describe_counter!(
        "rivulet_consumer_redelivered_records_total",
        Unit::Count,
        "Records that Kafka's client delivered a second time, ignored"
    );
    describe_counter!(
        "rivulet_consumer_rebalances_total",
        Unit::Count,
        "Partitions given (assign) or taken away (revoke, lost) by the group"
    );
    describe_counter!(
        "rivulet_consumer_resyncs_total",
        Unit::Count,
        "Partitions read again because their position was not where it was thought to be"
    );
    describe_counter!(
        "rivulet_consumer_rewound_records_total",
        Unit::Count,
        "Records that PostgreSQL had once and does not know any more: it was put back to an older state"
    );
    describe_counter!(
        "rivulet_consumer_pauses_total",
        Unit::Count,
        "Times that fetching was paused because processing was slower"
    );
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
    gauge!(
        "rivulet_consumer_lag_records",
        "consumer" => consumer,
        "topic" => partition.topic.to_string(),
        "partition" => key.partition.to_string()
    )
    .set(records as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn partitions(consumer: &'static str, open: usize, stopped: usize) {
    gauge!("rivulet_consumer_open_partitions", "consumer" => consumer).set(open as f64);
    gauge!("rivulet_consumer_stopped_partitions", "consumer" => consumer).set(stopped as f64);
}

pub(crate) fn records(consumer: &'static str, count: usize) {
    counter!("rivulet_consumer_records_total", "consumer" => consumer).increment(count as u64);
}

pub(crate) fn redelivered(consumer: &'static str) {
    counter!("rivulet_consumer_redelivered_records_total", "consumer" => consumer).increment(1);
}

pub(crate) fn rebalance(consumer: &'static str, kind: &'static str) {
    counter!("rivulet_consumer_rebalances_total", "consumer" => consumer, "kind" => kind)
        .increment(1);
}

pub(crate) fn resync(consumer: &'static str) {
    counter!("rivulet_consumer_resyncs_total", "consumer" => consumer).increment(1);
}

pub(crate) fn rewound(consumer: &'static str, records: u64) {
    counter!("rivulet_consumer_rewound_records_total", "consumer" => consumer).increment(records);
}

pub(crate) fn pause(consumer: &'static str) {
    counter!("rivulet_consumer_pauses_total", "consumer" => consumer).increment(1);
}
