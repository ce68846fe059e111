//! `rivulet canary`

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use rivulet_canary::{CHECK, Canary as Bird};
use rivulet_telemetry::Readiness;

use super::roles::spawn_operations;
use crate::{
    services::{ClickHouse, Postgres, is_local, warn_once},
    supervise::Roles,
};

/// Sends an event of each type as an app does, for a child of its own, and waits until the rollups
/// and the history have them; tells how long each took. Exits with 1 when they do not arrive.
#[derive(Args)]
pub(crate) struct Canary {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    clickhouse: ClickHouse,
    /// The server, as apps reach it.
    #[arg(
        long,
        env = "RIVULET_INGEST_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// A key with scope `ingest`; best one of its own.
    #[arg(long, env = "RIVULET_INGEST_KEY", hide_env_values = true)]
    ingest_key: String,
    /// How long accepted events may take to arrive.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    /// Goes on for ever, every so many seconds, and serves the outcome as metrics
    /// (`rivulet_canary_seconds`) in place of printing it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served with --every.
    #[arg(long, env = "RIVULET_CANARY_LISTEN", default_value = "127.0.0.1:9104")]
    canary_listen: String,
}

impl Canary {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut bird = self.bird()?;
        let Some(seconds) = self.every else {
            println!("{}", bird.round().await?);
            return Ok(());
        };
        let metrics = rivulet_telemetry::metrics()?;
        let mut roles = Roles::new();
        let readiness = Readiness::new("canary", &[CHECK]);
        let (name, listen) = ("canary's operations", &self.canary_listen);
        spawn_operations(&mut roles, name, listen, &readiness, metrics).await?;
        let shutdown = roles.shutdown.clone();
        roles.spawn("canary", async move {
            tokio::select! {
                () = shutdown.cancelled() => Ok(()),
                never = bird.watch(Duration::from_secs(seconds), &readiness) => never,
            }
        });
        roles.run().await
    }

    fn bird(&self) -> anyhow::Result<Bird> {
        ensure!(
            !self.ingest_key.trim().is_empty(),
            "RIVULET_INGEST_KEY is empty, so no event would be taken: rivulet keys create --name canary --scope ingest"
        );
        let url = url::Url::parse(&self.url).context("RIVULET_INGEST_URL is no URL")?;
        ensure!(
            matches!(url.scheme(), "http" | "https"),
            "RIVULET_INGEST_URL must begin with http:// or https://"
        );
        if url.scheme() == "http" && !is_local(url.host_str().unwrap_or_default()) {
            warn_once(
                "ingest is spoken to in plain text: everybody on the way can read the canary's key; an \
                 https:// URL encrypts and verifies",
            );
        }
        let bird = Bird::new(
            &self.url,
            self.ingest_key.trim().to_owned(),
            self.postgres.pool("canary", 2)?,
            self.clickhouse.client()?,
            Duration::from_secs(self.patience),
        );
        bird.context("no HTTPS client can be made")
    }
}
