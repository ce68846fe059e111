//! What this role counts. No label tells one child, key or address from another.

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    histogram,
};
use rivulet_events::{Code, EventType};

/// Handles for what every request touches.
pub(crate) struct Metrics {
    accepted: Vec<Counter>,
    retry: Vec<Counter>,
    rejected: Vec<Counter>,
    pub(crate) request_events: Histogram,
    pub(crate) body_bytes: Counter,
    pub(crate) acks: Histogram,
}

/// Outcomes of one request's events, counted before they are told to the recorder.
#[derive(Default)]
pub(crate) struct Tally {
    accepted: [u64; EventType::ALL.len()],
    retry: [u64; EventType::ALL.len()],
    rejected: [u64; Code::ALL.len()],
}

impl Tally {
    pub(crate) fn accepted(&mut self, kind: EventType) {
        self.accepted[kind as usize] += 1;
    }

    pub(crate) fn retry(&mut self, kind: EventType) {
        self.retry[kind as usize] += 1;
    }

    pub(crate) fn rejected(&mut self, code: Code) {
        self.rejected[code as usize] += 1;
    }

    /// (accepted, rejected, retry)
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let total = |counts: &[u64]| counts.iter().sum();
        (
            total(&self.accepted),
            total(&self.rejected),
            total(&self.retry),
        )
    }
}

impl Metrics {
    /// Call it once the recorder is installed.
    pub(crate) fn new() -> Self {
        describe();
        let by_type = |outcome: &'static str| {
            let counter = |kind: &EventType| {
                counter!("rivulet_ingest_events_total", "outcome" => outcome,
                    "type" => kind.as_str(), "code" => "")
            };
            EventType::ALL.iter().map(counter).collect()
        };
        let rejected = |code: &Code| {
            counter!("rivulet_ingest_events_total", "outcome" => "rejected", "type" => "",
                "code" => code.as_str())
        };
        Self {
            accepted: by_type("accepted"),
            retry: by_type("retry"),
            rejected: Code::ALL.iter().map(rejected).collect(),
            request_events: histogram!("rivulet_ingest_request_events"),
            body_bytes: counter!("rivulet_ingest_body_bytes_total"),
            acks: histogram!("rivulet_ingest_ack_seconds"),
        }
    }

    pub(crate) fn events(&self, tally: &Tally) {
        let add = |counters: &[Counter], counts: &[u64]| {
            for (counter, count) in counters.iter().zip(counts) {
                if *count > 0 {
                    counter.increment(*count);
                }
            }
        };
        add(&self.accepted, &tally.accepted);
        add(&self.retry, &tally.retry);
        add(&self.rejected, &tally.rejected);
    }
}

fn describe() {
    rivulet_registry::describe_metrics();
    rivulet_tokens::describe_metrics();
    describe_histogram!(
        "rivulet_ingest_request_events",
        Unit::Count,
        "Events a request"
    );
    describe_counter!(
        "rivulet_ingest_events_total",
        Unit::Count,
        "Events by outcome; accepted and retry by type, rejected by code"
    );
    describe_counter!(
        "rivulet_ingest_body_bytes_total",
        Unit::Bytes,
        "Bytes of bodies, inflated"
    );
    describe_gauge!(
        "rivulet_ingest_in_flight_bytes",
        Unit::Bytes,
        "Bytes of requests at work: heads, bodies, what inflates them, answers"
    );
    describe_gauge!(
        "rivulet_ingest_in_flight_requests",
        Unit::Count,
        "Requests at work whose senders are known"
    );
    describe_gauge!(
        "rivulet_ingest_waiting_requests",
        Unit::Count,
        "Requests that wait for their turn at long work: inflating and reading large bodies"
    );
    describe_counter!(
        "rivulet_ingest_over_share_total",
        Unit::Count,
        "Requests of senders that had as much at work as leaves room for others, by what of: bytes, requests, turns, \
         records (for Kafka, which are spilled where that is on); else answered `unavailable`"
    );
    describe_counter!(
        "rivulet_ingest_extra_tokens_total",
        Unit::Count,
        "Tokens of rate limits taken beyond one an event: for requests without one (no_event), for the CPU that \
         bodies took (cpu)"
    );
    describe_histogram!(
        "rivulet_ingest_ack_seconds",
        Unit::Seconds,
        "From the last record handed to the producer to the last acknowledgement of a request"
    );
    describe_gauge!(
        "rivulet_ingest_producer_queue_records",
        Unit::Count,
        "Records not yet acknowledged by Kafka"
    );
    describe_counter!(
        "rivulet_ingest_delivery_errors_total",
        Unit::Count,
        "Records that Kafka did not take, by reason; each was answered `retry` or spilled"
    );
    describe_counter!(
        "rivulet_ingest_spilled_records_total",
        Unit::Count,
        "Records made durable on this node's disk in place of Kafka"
    );
    describe_counter!(
        "rivulet_ingest_drained_records_total",
        Unit::Count,
        "Spilled records that Kafka has acknowledged since"
    );
    describe_counter!(
        "rivulet_ingest_spill_refused_records_total",
        Unit::Count,
        "Records that the spill did not take either, by reason; each was answered `retry`"
    );
    describe_gauge!(
        "rivulet_ingest_spill_records",
        Unit::Count,
        "Records in the spill"
    );
    describe_gauge!(
        "rivulet_ingest_spill_bytes",
        Unit::Bytes,
        "Disk that the spill uses"
    );
    describe_gauge!(
        "rivulet_ingest_spill_oldest_seconds",
        Unit::Seconds,
        "Age of the first record in the spill; 0 where there is none"
    );
    describe_gauge!(
        "rivulet_ingest_spill_held_back_records",
        Unit::Count,
        "Records in the spill above its largest age: they wait for an operator"
    );
    describe_gauge!(
        "rivulet_ingest_spill_damaged_records",
        Unit::Count,
        "Records in the spill with a wrong checksum: they wait for an operator"
    );
    describe_gauge!(
        "rivulet_ingest_spill_has_room",
        Unit::Count,
        "1 while the spill would take records, 0 where it or its disk is full or fails"
    );
}
