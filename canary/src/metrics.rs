//! What rounds come to, for Prometheus.

use chrono::{DateTime, Utc};

use crate::{Failure, Round};

rivulet_telemetry::metrics! {
    roles "canary";

    /// Rounds of the canary by outcome: `arrived`, or how far its events came: `unregistered` (PostgreSQL did not
    /// take its family), `unanswered`, `refused`, `not_counted` (missing in PostgreSQL), `not_in_history` (missing
    /// in ClickHouse)
    ROUNDS: Counter["outcome"] = "rivulet_canary_rounds_total", Count;
    /// From posting the canary's events to each stage: the `answer`, all counted in the `rollups`, all in the
    /// `history`
    SECONDS: Histogram["stage"] = "rivulet_canary_seconds", Seconds;
    /// Unix time of the last round that arrived everywhere; 0 before the first
    ARRIVED_TIMESTAMP_SECONDS: Gauge = "rivulet_canary_arrived_timestamp_seconds", Seconds;
}

pub(crate) fn publish(round: &Result<Round, Failure>, now: DateTime<Utc>) {
    let outcome = match round {
        Ok(round) => {
            for (stage, after) in round.stages() {
                SECONDS.with([stage]).record(after);
            }
            ARRIVED_TIMESTAMP_SECONDS.set(now.timestamp_millis() as f64 / 1e3);
            "arrived"
        }
        Err(failure) => failure.outcome(),
    };
    ROUNDS.with([outcome]).increment(1);
}
