//! What the read API counts. No label tells one family from another.

rivulet_telemetry::metrics! {
    roles "api";

    /// Children whom live streams tell of
    LIVE_CHILDREN: Gauge = "rivulet_live_children", Count;
    /// Times that a child was read for live streams: once for all that tell of it
    LIVE_READS: Counter = "rivulet_live_reads_total", Count;
    /// Times that the connection on which commits are heard of was lost; all that is watched is then read anew
    LIVE_LISTEN_LOSSES: Counter = "rivulet_live_listen_losses_total", Count;
    /// Open live streams
    LIVE_LISTENERS: Gauge = "rivulet_live_listeners", Count;
    /// Updates sent to live streams; one may tell of several commits
    LIVE_UPDATES: Counter = "rivulet_live_updates_total", Count;
    /// Requests answered `unavailable` because their caller had its `share` of the connections to PostgreSQL, or
    /// because a query took too much `time`
    REFUSED_READS: Counter["reason"] = "rivulet_api_refused_reads_total", Count;
}
