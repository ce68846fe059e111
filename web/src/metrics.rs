//! What every port counts.

rivulet_telemetry::metrics! {
    roles "all";

    /// Requests by role, route and code: `ok`, or the code of the problem
    REQUESTS: Counter["role", "route", "code"] = "rivulet_http_requests_total", Count;
    /// From a request's head to its answer, by role and route
    REQUEST_SECONDS: Histogram["role", "route"] = "rivulet_http_request_seconds", Seconds;
    /// Open connections
    CONNECTIONS: Gauge["role"] = "rivulet_http_connections", Count;
    /// Connections closed at once because their address had as many as one may have
    CONNECTIONS_REFUSED: Counter["role"] = "rivulet_http_connections_refused_total", Count;
    /// Connections without a request at work that were closed for a newcomer, because all places were taken
    CONNECTIONS_EVICTED: Counter["role"] = "rivulet_http_connections_evicted_total", Count;
    /// TLS handshakes that came to nothing: plain text, an old version, a certificate refused, too slow
    TLS_HANDSHAKES_FAILED: Counter["role"] = "rivulet_http_tls_handshakes_failed_total", Count;
    /// 1 while the certificate's files hold a pair that cannot be served, and the one before is
    TLS_CERTIFICATE_STALE: Gauge["role"] = "rivulet_http_tls_certificate_stale", Count;
}
