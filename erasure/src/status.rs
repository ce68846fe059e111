//! How far an erasure has come, as the API and the command answer.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

/// An erasure.
#[derive(Debug, FromRow, Serialize)]
pub struct Status {
    /// Its id.
    #[sqlx(rename = "id")]
    pub erasure_id: Uuid,
    /// `pending`, `running` or `done`, which means: clean everywhere but in Kafka.
    pub state: String,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// When it was done.
    pub done_at: Option<DateTime<Utc>>,
    /// How many children and parents it erases.
    pub subjects: i64,
    /// Each store.
    #[sqlx(skip)]
    pub stores: Vec<StoreStatus>,
    /// What it can show, once it is done.
    pub certificate: Option<Value>,
}

/// An erasure in one store.
#[derive(Debug, FromRow, Serialize)]
pub struct StoreStatus {
    /// `postgres`, `clickhouse`, `quarantine`, `spill` or `kafka`.
    pub store: String,
    /// Rows or records removed.
    pub removed: i64,
    /// When it was found to have nothing left.
    pub clean_at: Option<DateTime<Utc>>,
    /// When Kafka's retention ends it.
    pub gone_by: Option<DateTime<Utc>>,
}

/// An erasure and how far it has come.
///
/// # Errors
/// PostgreSQL failed.
pub async fn status(pool: &PgPool, erasure: Uuid) -> Result<Option<Status>, sqlx::Error> {
    let found: Option<Status> = sqlx::query_as(
        "SELECT id, state, waits_for, requested_at, done_at, subjects, certificate FROM erasures WHERE id = $1",
    )
    .bind(erasure)
    .fetch_optional(pool)
    .await?;
    let Some(mut status) = found else {
        return Ok(None);
    };
    status.stores = sqlx::query_as(
        "SELECT store, removed, clean_at, gone_by FROM erasure_stores WHERE erasure_id = $1
         ORDER BY array_position(ARRAY['clickhouse', 'quarantine', 'postgres', 'spill', 'kafka'], store)",
    )
    .bind(erasure)
    .fetch_all(pool)
    .await?;
    Ok(Some(status))
}
