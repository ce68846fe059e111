//! What the check of client tokens counts.

rivulet_telemetry::metrics! {
    roles "ingest, api";

    /// Client tokens by what came of them: `ok`, or why they were refused
    TOKENS: Counter["result"] = "rivulet_tokens_total", Count;
    /// Readings of the JWKS by result; tokens of keys that are known go on while they fail
    TOKEN_JWKS_READS: Counter["result"] = "rivulet_token_jwks_reads_total", Count;
}
