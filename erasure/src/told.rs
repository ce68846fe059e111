//! Waiting until nobody can store anything any more without having seen the tombstones.

use std::time::Duration;

use sqlx::PgPool;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The partitions with a block of the sink that was formed before this tombstone and this withdrawal of a consent, and may
/// still be on its way. Once there is none there will be none: what is formed later heeds them.
pub(crate) async fn blocks(
    pool: &PgPool,
    tombstone: i64,
    revocation: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT topic || '[' || partition || ']' FROM kafka_positions
         WHERE pending_end IS NOT NULL
           AND (coalesce(pending_tombstone, 0) < $1 OR coalesce(pending_revocation, 0) < $2) ORDER BY 1",
    )
    .bind(tombstone)
    .bind(revocation)
    .fetch_all(pool)
    .await
}

/// Waits for the end of every transaction that is open now, whatever it does: until then PostgreSQL keeps what it may
/// still see. Returns `false` if that takes longer than `patience`.
pub(crate) async fn everybody(pool: &PgPool, patience: Duration) -> Result<bool, sqlx::Error> {
    let began = tokio::time::Instant::now();
    let now: i64 =
        sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            .fetch_one(pool)
            .await?;
    loop {
        let oldest: Option<i64> = sqlx::query_scalar(
            "SELECT min(age.of) FROM (
                 SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS of
                 UNION ALL
                 SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - age(backend_xmin)
                 FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
                   AND datname = current_database()
             ) AS age",
        )
        .fetch_one(pool)
        .await?;
        if oldest.is_none_or(|oldest| oldest >= now) {
            return Ok(true);
        }
        if began.elapsed() > patience {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY * 4).await;
    }
}
