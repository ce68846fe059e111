//! The schemas of both databases, and the runner that brings them up to date.
//!
//! Both are safe to run twice and from two nodes at once: sqlx holds an advisory lock on
//! PostgreSQL, and every ClickHouse statement is idempotent.

mod clickhouse;

pub use self::clickhouse::clickhouse;

/// Why a schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused; its schema is as before the failed step.
    #[error("PostgreSQL migration failed: {0}")]
    Postgres(#[from] sqlx::migrate::MigrateError),
    /// ClickHouse refused; run it again once the cause is gone.
    #[error("ClickHouse migration failed: {0}")]
    ClickHouse(#[from] ::clickhouse::error::Error),
}

/// Brings PostgreSQL up to date.
///
/// # Errors
/// A step failed, or the database was migrated by a newer release.
pub async fn postgres(pool: &sqlx::PgPool) -> Result<(), Error> {
    Ok(sqlx::migrate!("./postgres").run(pool).await?)
}
