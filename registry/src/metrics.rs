//! What the registry counts.

use metrics::{Unit, describe_counter, describe_gauge};

/// Describes this crate's metrics. Call it once the recorder is installed.
pub fn describe_metrics() {
    describe_counter!(
        "rivulet_registry_lookups_total",
        Unit::Count,
        "Children asked for, by where the answer came from: hit, read, stale (PostgreSQL was \
         unreachable) or unavailable"
    );
    describe_counter!(
        "rivulet_registry_reads_total",
        Unit::Count,
        "Queries for children, by result: ok or failed"
    );
    describe_counter!(
        "rivulet_registry_invalidations_total",
        Unit::Count,
        "Notices of changed children"
    );
    describe_counter!(
        "rivulet_registry_listen_losses_total",
        Unit::Count,
        "Times the connection that hears of changes was lost or could not be made"
    );
    describe_gauge!(
        "rivulet_registry_confirmed_timestamp_seconds",
        Unit::Seconds,
        "Unix time up to which every change of the registry is known here"
    );
}
