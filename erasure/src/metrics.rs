//! What erasures tell.

rivulet_telemetry::metrics! {
    roles "sink";

    /// Age of the oldest erasure that is not done, or of a withdrawn consent whose events are not all gone, whoever
    /// carries them on; 0 where there is none
    OLDEST_SECONDS: Gauge = "rivulet_erasure_oldest_seconds", Seconds;
}
