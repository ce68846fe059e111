//! `rivulet migrate`

use clap::Args;
use rivulet_migrations::{
    logins::Login,
    passwords::give_password,
    retention::{self, Changed},
};

use crate::{
    retention::RetentionFlags,
    services::{ClickHouse, Postgres, password},
};

/// Brings both databases' schemas up to date, and how long they keep what to the retention file. Safe to run twice, and
/// from two nodes at once. DATABASE_URL's login becomes the owner of the tables. The logins whose passwords are in the
/// environment (RIVULET_INGEST_PASSWORD, and so for AGGREGATE, SINK, API, BOARDS, OPERATOR and AUDITOR) get these.
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
        let passwords: Vec<_> = Login::ALL
            .into_iter()
            .filter_map(|login| Some(password(login).transpose()?.map(|it| (login.role(), it))))
            .collect::<anyhow::Result<_>>()?;
        let pool = self.postgres.pool_of_owner("migrate", 2)?;
        rivulet_migrations::postgres(&pool).await?;
        println!("PostgreSQL is up to date");
        for (role, password) in &passwords {
            if give_password(&pool, role, password).await? {
                println!("{role} logs in with its password now");
            }
        }
        let client = self.clickhouse.client()?;
        let database = &self.clickhouse.clickhouse_database;
        rivulet_migrations::clickhouse(&client, database).await?;
        println!("ClickHouse is up to date");
        if let Some(why) = rivulet_migrations::clickhouse_roles(&client, database).await? {
            println!("ClickHouse got no roles for its users: {why}");
        }
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
