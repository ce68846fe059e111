//! The sink's metrics.

use rivulet_events::EventType;

use crate::{progress::Dropped, range::Range};

rivulet_telemetry::metrics! {
    roles "sink";

    /// Events inserted into ClickHouse, by event type; a repeated insert of a range counts once
    ROWS: Counter["event_type"] = "rivulet_history_rows_total", Count;
    /// Inserts that ClickHouse took
    INSERTS: Counter = "rivulet_history_inserts_total", Count;
    /// Failed attempts that were repeated, by store and reason
    RETRIES: Counter["store", "reason"] = "rivulet_history_retries_total", Count;
    /// Duration of one attempt at an insert that succeeded
    INSERT_SECONDS: Histogram = "rivulet_history_insert_seconds", Seconds;
    /// Events that the consent `analytics` kept out of ClickHouse, by event type
    WITHHELD_EVENTS: Counter["event_type"] = "rivulet_history_withheld_events_total", Count;
    /// Copies kept out of ClickHouse because the event itself, their first copy, was withheld
    SUPPRESSED_EVENTS: Counter["event_type"] = "rivulet_history_suppressed_events_total", Count;
    /// Events dropped because their child was erased
    ERASED_EVENTS: Counter["event_type"] = "rivulet_history_erased_events_total", Count;
    /// Events dropped because the consent was withdrawn on which they had been taken
    REVOKED_EVENTS: Counter["event_type"] = "rivulet_history_revoked_events_total", Count;
    /// Records set aside in the table `quarantine`, by code
    QUARANTINED_RECORDS: Counter["code"] = "rivulet_history_quarantined_records_total", Count;
    /// Ranges given up because another instance had the partition
    FENCED_RANGES: Counter = "rivulet_history_fenced_ranges_total", Count;
    /// Age of the oldest event of a range, since it was received, when it became visible
    FRESHNESS_SECONDS: Histogram = "rivulet_history_freshness_seconds", Seconds;
    /// Rows in memory, waiting for or in an insert
    BUFFERED_BYTES: Gauge = "rivulet_history_buffered_bytes", Bytes;
}

pub(crate) fn inserted(seconds: f64) {
    INSERTS.increment(1);
    INSERT_SECONDS.record(seconds);
}

pub(crate) fn retried(store: &'static str, reason: &'static str) {
    RETRIES.with([store, reason]).increment(1);
}

pub(crate) fn fenced() {
    FENCED_RANGES.increment(1);
}

pub(crate) fn dropped(event_type: EventType, dropped: &Dropped) {
    let erased = (&ERASED_EVENTS, dropped.erased.records());
    let revoked = (&REVOKED_EVENTS, dropped.revoked.records());
    for (counter, events) in [erased, revoked] {
        if events > 0 {
            counter.with([event_type.as_str()]).increment(events as u64);
        }
    }
}

pub(crate) fn buffered(bytes: usize) {
    BUFFERED_BYTES.set(bytes as f64);
}

/// A range has been dealt with for good. `now`: Unix milliseconds.
pub(crate) fn settled(range: &Range, rows: usize, now: i64) {
    let event_type = range.event_type().as_str();
    ROWS.with([event_type]).increment(rows as u64);
    WITHHELD_EVENTS
        .with([event_type])
        .increment(range.withheld_events);
    SUPPRESSED_EVENTS
        .with([event_type])
        .increment(range.suppressed_events);
    if rows > 0 {
        let age = now.saturating_sub(range.oldest_received_at).max(0);
        FRESHNESS_SECONDS.record(age as f64 / 1000.0);
    }
}

pub(crate) fn quarantined(code: &str) {
    QUARANTINED_RECORDS.with([code.to_owned()]).increment(1);
}
