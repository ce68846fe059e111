//! What is counted of the audit log.

rivulet_telemetry::metrics! {
    roles "ingest, api";

    /// The number of the audit log's newest row. It never falls
    HEAD_SEQ: Gauge = "rivulet_audit_head_seq", Count;
    /// The first 48 bits of that row's hash, as a number: `rivulet audit verify --head` compares with it later
    HEAD_HASH: Gauge = "rivulet_audit_head_hash", Count;
    /// Rows that groups of reads and refusals became
    GROUPED_ROWS: Counter = "rivulet_audit_grouped_rows_total", Count;
    /// Reads and refusals that are only counted in their row, without whom they were about, because memory was `full`
    /// or as `refused` ones of an actor who asks for many
    COARSE: Counter["reason"] = "rivulet_audit_coarse_total", Count;
    /// Times that groups could not be written, and wait for the next time
    FAILED_WRITES: Counter = "rivulet_audit_failed_writes_total", Count;
    /// Reads and refusals of which nothing is in the log, because PostgreSQL did not take them before the process ended
    LOST: Counter = "rivulet_audit_lost_total", Count;
}
