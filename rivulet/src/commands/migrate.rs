//! `rivulet migrate`

use clap::Args;
use rivulet_migrations::retention::{self, Changed};

use crate::{
    retention::RetentionFlags,
    services::{ClickHouse, Postgres},
};

/// Brings both databases' schemas up to date, and how long they keep what to the retention file. Safe to run twice, and from two nodes at once.
#[derive(Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    clickhouse: ClickHouse,
    #[command(flatten)]
    retention: RetentionFlags,
}

impl Migrate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let policy = self.retention.policy()?;
        let pool = self.postgres.pool("migrate", 2)?;
        rivulet_migrations::postgres(&pool).await?;
        println!("PostgreSQL is up to date");
        let client = self.clickhouse.client()?;
        let database = &self.clickhouse.clickhouse_database;
        rivulet_migrations::clickhouse(&client, database).await?;
        println!("ClickHouse is up to date");
        // ClickHouse first: what was cut short there is done again as long as PostgreSQL differs.
        let differs = !retention::postgres_drift(&pool, &policy).await?.is_empty();
        if retention::clickhouse(&client, database, &policy, differs).await? {
            println!("retention: ClickHouse now drops events as the file says");
        }
        for Changed { class, from, to } in retention::postgres(&pool, &policy).await? {
            println!(
                "retention of {}: {to} days, until now {from}",
                class.as_str()
            );
        }
        Ok(())
    }
}
