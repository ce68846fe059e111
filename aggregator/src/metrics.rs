//! The aggregator's metrics. No label is ever a child.

rivulet_telemetry::metrics! {
    roles "aggregate";

    /// Records of committed batches: counted into the rollups, a repeated event, quarantined, or dropped because the
    /// child was erased or the consent withdrawn (`revoked`)
    EVENTS: Counter["type", "outcome"] = "rivulet_aggregator_events_total", Count;
    /// Records in a committed transaction
    BATCH_RECORDS: Histogram = "rivulet_aggregator_batch_records", Count;
    /// Duration of committed transactions
    TRANSACTION_SECONDS: Histogram = "rivulet_aggregator_transaction_seconds", Seconds;
    /// From the server's receipt of a partition's newest record to its rows being visible
    FRESHNESS_SECONDS: Histogram = "rivulet_aggregator_freshness_seconds", Seconds;
    /// Transactions tried again; `deadlock` should stay at 0, rows are locked in sorted order
    RETRIES: Counter["reason"] = "rivulet_aggregator_retries_total", Count;
    /// 1 while a record of the partition takes PostgreSQL longer by itself than a whole batch may
    SLOW_RECORD: Gauge["topic", "partition"] = "rivulet_aggregator_slow_record", Count;
    /// Parts of batches given up because another instance had moved their position
    FENCED_PARTS: Counter = "rivulet_aggregator_fenced_parts_total", Count;
    /// Rows of rollups that were deleted, or streaks made shorter, because retention.toml lets them be kept no longer
    EXPIRED_ROWS: Counter["table"] = "rivulet_aggregator_expired_rows_total", Count;
    /// Months of rollups that were dropped because retention.toml lets them be kept no longer
    EXPIRED_PARTITIONS: Counter["table"] = "rivulet_aggregator_expired_partitions_total", Count;
}
