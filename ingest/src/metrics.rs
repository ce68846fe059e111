//! What this role counts. No label tells one child, key or address from another.

use rivulet_events::{
    Code, EventType, Parsed, batch,
    free_text::{Policy, Reason},
};
use rivulet_telemetry::{Counter, Histogram};

rivulet_telemetry::metrics! {
    roles "ingest";

    /// Events a request
    REQUEST_EVENTS: Histogram = "rivulet_ingest_request_events", Count;
    /// Events by outcome; accepted and retry by type, rejected by code
    EVENTS: Counter["outcome", "type", "code"] = "rivulet_ingest_events_total", Count;
    /// Events of dry runs, of which nothing was stored, by outcome
    DRY_RUN_EVENTS: Counter["outcome"] = "rivulet_ingest_dry_run_events_total", Count;
    /// Events that client SDKs say they lost before they could send them, by reason (overflow, expired, consent,
    /// too_large, disk, damaged, other). Nobody can check what a client says
    CLIENT_DROPPED_EVENTS: Counter["reason"] = "rivulet_ingest_client_dropped_events_total", Count;
    /// Fields of events whose free text looks like personal data, by reason (email, phone, url, digits, field) and by
    /// what is done about it (allow, mask, refuse), whatever becomes of the event
    PERSONAL_DATA: Counter["reason", "policy"] = "rivulet_ingest_personal_data_total", Count;
    /// Bytes of bodies, inflated
    BODY_BYTES: Counter = "rivulet_ingest_body_bytes_total", Bytes;
    /// Bytes of requests at work: heads, bodies, what inflates them, answers
    IN_FLIGHT_BYTES: Gauge = "rivulet_ingest_in_flight_bytes", Bytes;
    /// Requests at work whose senders are known
    IN_FLIGHT_REQUESTS: Gauge = "rivulet_ingest_in_flight_requests", Count;
    /// Requests that wait for their turn at long work: inflating and reading large bodies
    WAITING_REQUESTS: Gauge = "rivulet_ingest_waiting_requests", Count;
    /// Requests of senders that had as much at work as leaves room for others, by what of: bytes, requests, turns,
    /// records (for Kafka, which are spilled where that is on); else answered `unavailable`
    OVER_SHARE: Counter["of"] = "rivulet_ingest_over_share_total", Count;
    /// Tokens of rate limits taken beyond one an event: for requests without one (no_event), for the CPU that
    /// bodies took (cpu)
    EXTRA_TOKENS: Counter["for"] = "rivulet_ingest_extra_tokens_total", Count;
    /// From the last record handed to the producer to the last acknowledgement of a request
    ACK_SECONDS: Histogram = "rivulet_ingest_ack_seconds", Seconds;
    /// Records not yet acknowledged by Kafka
    PRODUCER_QUEUE_RECORDS: Gauge = "rivulet_ingest_producer_queue_records", Count;
    /// Records that Kafka did not take, by reason; each was answered `retry` or spilled
    DELIVERY_ERRORS: Counter["reason"] = "rivulet_ingest_delivery_errors_total", Count;
    /// Records made durable on this node's disk in place of Kafka
    SPILLED_RECORDS: Counter = "rivulet_ingest_spilled_records_total", Count;
    /// Spilled records that Kafka has acknowledged since
    DRAINED_RECORDS: Counter = "rivulet_ingest_drained_records_total", Count;
    /// Records that the spill did not take either, by reason; each was answered `retry`
    SPILL_REFUSED_RECORDS: Counter["reason"] = "rivulet_ingest_spill_refused_records_total", Count;
    /// Records in the spill
    SPILL_RECORDS: Gauge = "rivulet_ingest_spill_records", Count;
    /// Disk that the spill uses
    SPILL_BYTES: Gauge = "rivulet_ingest_spill_bytes", Bytes;
    /// Age of the first record in the spill; 0 where there is none
    SPILL_OLDEST_SECONDS: Gauge = "rivulet_ingest_spill_oldest_seconds", Seconds;
    /// Records in the spill above its largest age: they wait for an operator
    SPILL_HELD_BACK_RECORDS: Gauge = "rivulet_ingest_spill_held_back_records", Count;
    /// Records in the spill with a wrong checksum: they wait for an operator
    SPILL_DAMAGED_RECORDS: Gauge = "rivulet_ingest_spill_damaged_records", Count;
    /// Who watches what arrives at this node now (`/v1/admin/tail`)
    TAIL_WATCHERS: Gauge = "rivulet_ingest_tail_watchers", Count;
    /// Observations that a watcher did not get, because they came faster than they were read
    TAIL_MISSED: Counter = "rivulet_ingest_tail_missed_total", Count;
    /// 1 while the spill would take records, 0 where it or its disk is full or fails
    SPILL_HAS_ROOM: Gauge = "rivulet_ingest_spill_has_room", Count;
}

/// Counts a dry run, apart from events that are stored.
pub(crate) fn dry_run(tally: &Tally) {
    let (accepted, rejected, retry) = tally.totals();
    for (outcome, events) in [
        ("accepted", accepted),
        ("rejected", rejected),
        ("retry", retry),
    ] {
        DRY_RUN_EVENTS.with([outcome]).increment(events);
    }
}

/// Counts what a client says that it lost.
pub(crate) fn lost(dropped: &str) {
    for (reason, count) in batch::REASONS.into_iter().zip(batch::lost(dropped)) {
        if count > 0 {
            CLIENT_DROPPED_EVENTS.with([reason]).increment(count);
        }
    }
}

/// Handles for what every request touches.
pub(crate) struct Metrics {
    accepted: Vec<Counter>,
    retry: Vec<Counter>,
    rejected: Vec<Counter>,
    personal_data: Vec<Counter>,
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
    pub(crate) fn new(policy: Policy) -> Self {
        let by_type = |outcome: &'static str| {
            let counter = |kind: &EventType| EVENTS.with([outcome, kind.as_str(), ""]);
            EventType::ALL.iter().map(counter).collect()
        };
        let rejected = |code: &Code| EVENTS.with(["rejected", "", code.as_str()]);
        let personal_data =
            |reason: &Reason| PERSONAL_DATA.with([reason.as_str(), policy.as_str()]);
        Self {
            accepted: by_type("accepted"),
            retry: by_type("retry"),
            rejected: Code::ALL.iter().map(rejected).collect(),
            personal_data: Reason::ALL.iter().map(personal_data).collect(),
            request_events: REQUEST_EVENTS.handle(),
            body_bytes: BODY_BYTES.handle(),
            acks: ACK_SECONDS.handle(),
        }
    }

    /// Counts what free text was found to hold.
    pub(crate) fn personal_data(&self, parsed: &[Parsed<'_>]) {
        for found in parsed.iter().map(|parsed| parsed.personal_data) {
            if found.is_empty() {
                continue;
            }
            for (counter, reason) in self.personal_data.iter().zip(Reason::ALL) {
                counter.increment(found.of(*reason).into());
            }
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
