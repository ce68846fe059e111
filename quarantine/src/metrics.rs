//! What the circuit breaker tells.

rivulet_telemetry::metrics! {
    roles "aggregate, sink";

    /// 1 while the consumer has stopped because too many of the topic's records are unfit
    PAUSED: Gauge["consumer", "topic"] = "rivulet_quarantine_paused", Count;
}
