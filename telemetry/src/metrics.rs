//! What this crate counts itself.

crate::metrics! {
    roles "all";

    /// Spans by outcome: `started`, and of those `exported`, or `failed` because the collector did not take them.
    /// What is missing has not ended, waits, or met a full queue
    TRACE_SPANS: Counter["outcome"] = "rivulet_trace_spans_total", Count;
    /// 1 while what the role needs is there, 0 while it is not, by role and check: as `/readyz`
    READY: Gauge["role", "check"] = "rivulet_ready", Count;
}
