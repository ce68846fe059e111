//! `rivulet canary`

use std::time::Duration;

use clap::Args;
use rivulet_canary::CHECK;
use rivulet_migrations::logins::Login;
use rivulet_telemetry::Readiness;

use crate::{
    services::{ClickHouse, Endpoint, Postgres},
    supervise::{Roles, spawn_operations},
};

/// Sends an event of each type as an app does, for a child of its own, and waits until the rollups
/// and the history have them; tells how long each took. Exits with 1 when they do not arrive.
#[derive(Args)]
pub(crate) struct Canary {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    clickhouse: ClickHouse,
    #[command(flatten)]
    endpoint: Endpoint,
    /// How long accepted events may take to arrive.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    /// Goes on for ever, every so many seconds, and serves the outcome as metrics
    /// (`rivulet_canary_seconds`) in place of printing it. At most 120: the alert waits for 180.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=120))]
    every: Option<u64>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served with --every.
    #[arg(long, env = "RIVULET_CANARY_LISTEN", default_value = "127.0.0.1:9104")]
    canary_listen: String,
}

impl Canary {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut canary = self.canary()?;
        let Some(seconds) = self.every else {
            println!("{}", canary.round().await?);
            return Ok(());
        };
        let (mut roles, metrics) = Roles::new()?;
        let readiness = Readiness::new("canary", &[CHECK]);
        let (name, listen) = ("canary's operations", &self.canary_listen);
        spawn_operations(&mut roles, name, listen, &readiness, metrics).await?;
        let shutdown = roles.shutdown.clone();
        roles.spawn("canary", async move {
            tokio::select! {
                () = shutdown.cancelled() => Ok(()),
                never = canary.watch(Duration::from_secs(seconds), &readiness) => never,
            }
        });
        roles.run().await
    }

    fn canary(&self) -> anyhow::Result<rivulet_canary::Canary> {
        Ok(rivulet_canary::Canary::new(
            &self.endpoint.url()?,
            self.endpoint.key()?,
            self.postgres.pool(Login::Operator, "canary", 2)?,
            self.clickhouse.client()?,
            Duration::from_secs(self.patience),
        ))
    }
}
