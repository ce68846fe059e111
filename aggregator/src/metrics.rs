//! The aggregator's metrics. No label is ever a child.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Events of committed batches by `type` and `outcome`: `counted`, `duplicate`, `quarantined`.
pub(crate) const EVENTS: &str = "rivulet_aggregator_events_total";
/// Records a committed batch.
pub(crate) const BATCH_RECORDS: &str = "rivulet_aggregator_batch_records";
/// How long a committed transaction took.
pub(crate) const TRANSACTION: &str = "rivulet_aggregator_transaction_seconds";
/// From `received_at` of a partition's newest record to its commit.
pub(crate) const FRESHNESS: &str = "rivulet_aggregator_freshness_seconds";
/// Transactions tried again, by `reason`.
pub(crate) const RETRIES: &str = "rivulet_aggregator_retries_total";
/// 1 while a record of the partition takes longer by itself than a batch may.
pub(crate) const SLOW: &str = "rivulet_aggregator_slow_record";
/// Parts of batches that lost the compare-and-set of their position.
pub(crate) const FENCED: &str = "rivulet_aggregator_fenced_parts_total";

/// Tells the exporter what the metrics mean. Called once, at start-up.
pub(crate) fn describe() {
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Records of committed batches: counted into the rollups, a repeated event, or quarantined"
    );
    describe_histogram!(
        BATCH_RECORDS,
        Unit::Count,
        "Records in a committed transaction"
    );
    describe_histogram!(
        TRANSACTION,
        Unit::Seconds,
        "Duration of committed transactions"
    );
    describe_histogram!(
        FRESHNESS,
        Unit::Seconds,
        "From the server's receipt of a partition's newest record to its rows being visible"
    );
    describe_counter!(
        RETRIES,
        Unit::Count,
        "Transactions tried again; `deadlock` should stay at 0, rows are locked in sorted order"
    );
    describe_gauge!(
        SLOW,
        Unit::Count,
        "1 while a record of the partition takes PostgreSQL longer by itself than a whole batch may"
    );
    describe_counter!(
        FENCED,
        Unit::Count,
        "Parts of batches given up because another instance had moved their position"
    );
}
