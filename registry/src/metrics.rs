//! What the registry counts.

rivulet_telemetry::metrics! {
    roles "ingest, api";

    /// Children asked for, by where the answer came from: hit, read, stale (PostgreSQL was unreachable) or
    /// unavailable
    LOOKUPS: Counter["result"] = "rivulet_registry_lookups_total", Count;
    /// Queries for children, by result: ok or failed
    READS: Counter["result"] = "rivulet_registry_reads_total", Count;
    /// Notices of changed children
    INVALIDATIONS: Counter = "rivulet_registry_invalidations_total", Count;
    /// Times the connection that hears of changes was lost or could not be made
    LISTEN_LOSSES: Counter = "rivulet_registry_listen_losses_total", Count;
    /// Unix time up to which every change of the registry is known here
    CONFIRMED_TIMESTAMP_SECONDS: Gauge = "rivulet_registry_confirmed_timestamp_seconds", Seconds;
}
