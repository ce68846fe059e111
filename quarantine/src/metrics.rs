//! What the circuit breaker tells, and what went for its age.

rivulet_telemetry::metrics! {
    roles "aggregate, sink";

    /// 1 while the consumer has stopped because too many of the topic's records are unfit
    PAUSED: Gauge["consumer", "topic"] = "rivulet_quarantine_paused", Count;
    /// Rows that were dropped because nobody replayed them for as long as retention.toml lets them be kept
    EXPIRED_RECORDS: Counter = "rivulet_quarantine_expired_records_total", Count;
}
