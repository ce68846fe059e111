//! What an erasure can show: what was removed where, the queries that found nothing afterwards, and what remains.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// A query that looks for the subjects, and what it answered after they were removed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Proof {
    pub(crate) query: String,
    pub(crate) answer: u64,
}

/// What is kept, in words, for whoever reads the certificate.
const REMAINS: [&str; 4] = [
    "tombstones: the SHA-256 of each id, for ever, so that nothing of the subjects is taken again",
    "this certificate, with the parents' consents, their versions, methods and times: evidence of what the data was kept on",
    "event_seen: 16 bytes of a hash of each event's identity, for as long as identities are kept (retention.toml), from which nobody gets the event",
    "sums over many children, which name none: consumer_ledger counts records by topic and hour",
];

/// The certificate of an erasure, from what is noted of it.
pub(crate) async fn write(
    pool: &PgPool,
    erasure: Uuid,
    done_at: DateTime<Utc>,
) -> Result<Value, sqlx::Error> {
    let (requested_by, requested_at): (String, DateTime<Utc>) =
        sqlx::query_as("SELECT requested_by, requested_at FROM erasures WHERE id = $1")
            .bind(erasure)
            .fetch_one(pool)
            .await?;
    let subjects: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT kind, sha256 FROM tombstones WHERE erasure_id = $1 ORDER BY number")
            .bind(erasure)
            .fetch_all(pool)
            .await?;
    let subjects: Vec<_> = subjects
        .iter()
        .map(|(kind, sha256)| json!({"kind": kind, "sha256": rivulet_auditlog::hex(sha256)}))
        .collect();
    let stores: Vec<Value> = sqlx::query_scalar(
        "SELECT json_build_object('store', store, 'removed', removed, 'clean_at', clean_at, 'gone_by', gone_by)::jsonb
                || coalesce(proof, '{}')::jsonb
         FROM erasure_stores WHERE erasure_id = $1
         ORDER BY array_position(ARRAY['clickhouse', 'quarantine', 'postgres', 'spill', 'kafka'], store)",
    )
    .bind(erasure)
    .fetch_all(pool)
    .await?;
    Ok(json!({
        "erasure_id": erasure,
        "requested_at": requested_at,
        "requested_by": requested_by,
        "done_at": done_at,
        "subjects": subjects,
        "stores": stores,
        "remains": REMAINS,
    }))
}
