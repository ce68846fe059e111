//! `rivulet check-config`

use anyhow::bail;
use clap::Args;

use crate::{
    flags::{AggregateFlags, ConsumerFlags, IngestFlags, SinkFlags},
    port::PortFlags,
    services::{ClickHouse, Kafka, Postgres, SpillAge},
};

/// Checks the configuration of every role, and that the services answer and are set up. Starts and
/// changes nothing; fails if a role would.
#[derive(Args)]
pub(crate) struct CheckConfig {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    kafka: Kafka,
    #[command(flatten)]
    clickhouse: ClickHouse,
    #[command(flatten)]
    spill_age: SpillAge,
    #[command(flatten)]
    port: PortFlags,
    #[command(flatten)]
    ingest: IngestFlags,
    #[command(flatten)]
    aggregate: AggregateFlags,
    #[command(flatten)]
    sink: SinkFlags,
    #[command(flatten)]
    consumers: ConsumerFlags,
}

impl CheckConfig {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut failures = 0;
        let mut tell = |what: &str, outcome: anyhow::Result<String>| match outcome {
            Ok(said) => println!("ok      {what}: {said}"),
            Err(error) => {
                failures += 1;
                println!("FAILED  {what}: {}", crate::explain(&error));
            }
        };
        let fits = || "its settings fit together".to_owned();
        tell(
            "ingest",
            self.ingest
                .config(&self.port, &self.spill_age)
                .and_then(|config| Ok(config.validate()?))
                .map(|()| fits()),
        );
        tell(
            "aggregate",
            self.aggregate
                .config(&self.consumers, &self.spill_age)
                .validate()
                .map(|()| fits())
                .map_err(Into::into),
        );
        tell("client tokens", self.tokens().await);
        tell("tracing", tracing());
        tell("PostgreSQL", self.postgres().await);
        tell("Kafka", self.kafka().await);
        tell("ClickHouse", self.clickhouse().await);
        if failures > 0 {
            bail!("{failures} of 7 checks failed");
        }
        Ok(())
    }

    async fn tokens(&self) -> anyhow::Result<String> {
        let Some(tokens) = self.ingest.config(&self.port, &self.spill_age)?.tokens else {
            return Ok("are not taken".to_owned());
        };
        Ok(match tokens.jwks {
            Some(source) => format!(
                "{} keys in the JWKS",
                rivulet_tokens::check_jwks(source).await?
            ),
            None => "their secret is long enough".to_owned(),
        })
    }

    async fn postgres(&self) -> anyhow::Result<String> {
        let pool = self.postgres.pool("check-config", 1)?;
        rivulet_migrations::check_postgres(&pool).await?;
        Ok("answers, and its schema is up to date".to_owned())
    }

    async fn kafka(&self) -> anyhow::Result<String> {
        let retention = rivulet_kafka::retention(&self.kafka.cluster()?).await?;
        let config = self.aggregate.config(&self.consumers, &self.spill_age);
        config.check_retention(retention)?;
        Ok("answers, and the topics keep no more than identities are remembered for, beside the spill".to_owned())
    }

    async fn clickhouse(&self) -> anyhow::Result<String> {
        let client = self.clickhouse.client()?;
        let database = &self.clickhouse.clickhouse_database;
        rivulet_migrations::check_clickhouse(&client, database).await?;
        Ok("answers, and its schema is there".to_owned())
    }
}

fn tracing() -> anyhow::Result<String> {
    Ok(match rivulet_telemetry::Collector::from_env()? {
        Some(collector) => collector.to_string(),
        None => "is off".to_owned(),
    })
}
