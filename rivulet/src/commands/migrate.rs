//! `rivulet migrate`

use clap::Args;

use crate::services::{ClickHouse, Postgres};

/// Brings both databases' schemas up to date. Safe to run twice, and from two nodes at once.
#[derive(Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    clickhouse: ClickHouse,
}

impl Migrate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let pool = self.postgres.pool("migrate", 2)?;
        rivulet_migrations::postgres(&pool).await?;
        println!("PostgreSQL is up to date");
        let client = self.clickhouse.client()?;
        rivulet_migrations::clickhouse(&client, &self.clickhouse.clickhouse_database).await?;
        println!("ClickHouse is up to date");
        Ok(())
    }
}
