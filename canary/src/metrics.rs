//! What rounds come to, for Prometheus.

use chrono::{DateTime, Utc};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{Failure, Round};

/// Describes the metrics, and says that nothing has arrived yet: an alert on that must not wait for the
/// first success.
pub(crate) fn describe() {
    describe_counter!(
        "rivulet_canary_rounds_total",
        Unit::Count,
        "Rounds of the canary by outcome: `arrived`, or how far its events came: `unregistered` (PostgreSQL \
         did not take its family), `unanswered`, `refused`, `not_counted` (missing in PostgreSQL), \
         `not_in_history` (missing in ClickHouse)"
    );
    describe_histogram!(
        "rivulet_canary_seconds",
        Unit::Seconds,
        "From posting the canary's events to each stage: the `answer`, all counted in the `rollups`, all in \
         the `history`"
    );
    describe_gauge!(
        "rivulet_canary_arrived_timestamp_seconds",
        Unit::Seconds,
        "Unix time of the last round that arrived everywhere; 0 before the first"
    );
    gauge!("rivulet_canary_arrived_timestamp_seconds").set(0.0);
}

pub(crate) fn publish(round: &Result<Round, Failure>, now: DateTime<Utc>) {
    let outcome = match round {
        Ok(round) => {
            for (stage, after) in round.stages() {
                histogram!("rivulet_canary_seconds", "stage" => stage).record(after);
            }
            gauge!("rivulet_canary_arrived_timestamp_seconds")
                .set(now.timestamp_millis() as f64 / 1e3);
            "arrived"
        }
        Err(failure) => failure.outcome(),
    };
    counter!("rivulet_canary_rounds_total", "outcome" => outcome).increment(1);
}
