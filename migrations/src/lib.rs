//! The schemas of both databases, and the runner that brings them up to date.
//!
//! Both are safe to run twice and from two nodes at once: sqlx holds an advisory lock on
//! PostgreSQL, and every ClickHouse statement is idempotent.

mod clickhouse;
pub mod logins;
pub mod passwords;
pub mod retention;

pub use self::clickhouse::{clickhouse, clickhouse_roles};

/// Why a schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused; its schema is as before the failed step.
    #[error("PostgreSQL migration failed: {0}")]
    Postgres(#[from] sqlx::migrate::MigrateError),
    /// A migration of this release has not run.
    #[error("the schema is behind this release: run `rivulet migrate`")]
    Behind,
    /// PostgreSQL does not answer.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
    /// ClickHouse refused or does not answer; run it again once the cause is gone.
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] ::clickhouse::error::Error),
}

static POSTGRES: sqlx::migrate::Migrator = sqlx::migrate!("./postgres");

/// Brings PostgreSQL up to date.
///
/// # Errors
/// A step failed, or the database was migrated by a newer release.
pub async fn postgres(pool: &sqlx::PgPool) -> Result<(), Error> {
    Ok(POSTGRES.run(pool).await?)
}

/// Checks that PostgreSQL has every step of this release. A newer release's are no harm: it reads
/// and writes what the one before it does.
///
/// # Errors
/// [`Error::Behind`], or PostgreSQL does not answer.
pub async fn check_postgres(pool: &sqlx::PgPool) -> Result<(), Error> {
    let has_any: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let newest: Option<i64> = if has_any {
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await?
    } else {
        None
    };
    let wanted = POSTGRES.iter().map(|step| step.version).max();
    if newest < wanted {
        Err(Error::Behind)
    } else {
        Ok(())
    }
}

/// Checks that ClickHouse has the table and the view of the history.
///
/// # Errors
/// [`Error::Behind`], or ClickHouse does not answer.
pub async fn check_clickhouse(client: &::clickhouse::Client, database: &str) -> Result<(), Error> {
    let there: u64 = client
        .clone()
        .with_database("system")
        .query("SELECT count() FROM tables WHERE database = ? AND name IN ('events', 'history')")
        .bind(database)
        .fetch_one()
        .await?;
    if there < 2 {
        Err(Error::Behind)
    } else {
        Ok(())
    }
}
