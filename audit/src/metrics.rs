//! What a verification and a recount found.

rivulet_telemetry::metrics! {
    roles "verify, all";

    /// Rollup rows of the children last recounted that are not what the history says: 0
    DIFFERING_ROWS: Gauge = "rivulet_differing_rows", Count;
    /// Rollup rows of the children last recounted
    RECOUNTED_ROWS: Gauge = "rivulet_recounted_rows", Count;
    /// Children that the last recount had to pass over, because the history or PostgreSQL would not have it: 0
    NOT_RECOUNTED_CHILDREN: Gauge = "rivulet_not_recounted_children", Count;
    /// Events of the hours last verified that are not where they should be, by consumer: 0
    UNACCOUNTED_EVENTS: Gauge["consumer"] = "rivulet_unaccounted_events", Count;
    /// Records in Kafka that the last verification compared
    VERIFIED_RECORDS: Gauge = "rivulet_verified_records", Count;
    /// When the last verification came to its end, Unix time
    VERIFIED_TIMESTAMP_SECONDS: Gauge = "rivulet_verified_timestamp_seconds", Seconds;
}
