//! The sink's metrics.

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::range::Range;

/// Describes every metric; called once at start-up.
pub(crate) fn describe() {
    describe_counter!(
        "rivulet_history_rows_total",
        "Events inserted into ClickHouse, by event type; a repeated insert of a range counts once"
    );
    describe_counter!(
        "rivulet_history_inserts_total",
        "Inserts that ClickHouse took"
    );
    describe_counter!(
        "rivulet_history_retries_total",
        "Failed attempts that were repeated, by store and reason"
    );
    describe_histogram!(
        "rivulet_history_insert_seconds",
        Unit::Seconds,
        "Duration of one attempt at an insert that succeeded"
    );
    describe_counter!(
        "rivulet_history_withheld_events_total",
        "Events that the consent `analytics` kept out of ClickHouse, by event type"
    );
    describe_counter!(
        "rivulet_history_suppressed_events_total",
        "Copies kept out of ClickHouse because the event itself, their first copy, was withheld"
    );
    describe_counter!(
        "rivulet_history_quarantined_records_total",
        "Records set aside in the table `quarantine`, by code"
    );
    describe_counter!(
        "rivulet_history_fenced_ranges_total",
        "Ranges given up because another instance had the partition"
    );
    describe_histogram!(
        "rivulet_history_freshness_seconds",
        Unit::Seconds,
        "Age of the oldest event of a range, since it was received, when it became visible"
    );
    describe_gauge!(
        "rivulet_history_buffered_bytes",
        Unit::Bytes,
        "Rows in memory, waiting for or in an insert"
    );
}

pub(crate) fn inserted(seconds: f64) {
    counter!("rivulet_history_inserts_total").increment(1);
    histogram!("rivulet_history_insert_seconds").record(seconds);
}

pub(crate) fn retried(store: &'static str, reason: &'static str) {
    counter!("rivulet_history_retries_total", "store" => store, "reason" => reason).increment(1);
}

pub(crate) fn fenced() {
    counter!("rivulet_history_fenced_ranges_total").increment(1);
}

pub(crate) fn buffered(bytes: usize) {
    gauge!("rivulet_history_buffered_bytes").set(bytes as f64);
}

/// A range has been dealt with for good. `now`: Unix milliseconds.
pub(crate) fn settled(range: &Range, rows: usize, now: i64) {
    let event_type = range.event_type().as_str();
    counter!("rivulet_history_rows_total", "event_type" => event_type).increment(rows as u64);
    counter!("rivulet_history_withheld_events_total", "event_type" => event_type)
        .increment(range.withheld_events);
    counter!("rivulet_history_suppressed_events_total", "event_type" => event_type)
        .increment(range.suppressed_events);
    if rows > 0 {
        let age = now.saturating_sub(range.oldest_received_at).max(0);
        histogram!("rivulet_history_freshness_seconds").record(age as f64 / 1000.0);
    }
}

pub(crate) fn quarantined(code: &str) {
    counter!("rivulet_history_quarantined_records_total", "code" => code.to_owned()).increment(1);
}
