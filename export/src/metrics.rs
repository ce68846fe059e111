//! What exports count. No label tells one family from another.

rivulet_telemetry::metrics! {
    roles "api";

    /// Exports by how they ended: `whole`; `reader`: the reader went away, was too slow or took too long; `changed`:
    /// events were taken away meanwhile; `store`: PostgreSQL or ClickHouse failed; `write`; `unknown`: nobody of that
    /// id; `busy`: refused because as many as may ran already
    EXPORTS: Counter["outcome"] = "rivulet_exports_total", Count;
    /// Bytes of exports that readers took
    EXPORT_BYTES: Counter = "rivulet_export_bytes_total", Bytes;
}

/// Counts an export that was refused because as many as may ran already.
pub fn refused() {
    EXPORTS.with(["busy"]).increment(1);
}
