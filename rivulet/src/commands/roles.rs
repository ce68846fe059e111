//! `rivulet ingest|aggregate|sink|api|all`

use std::time::Duration;

use clap::Args;
use rivulet_telemetry::{Metrics, Operations, Readiness};
use rivulet_web::openapi::OpenApi;

use super::verify;
use crate::{
    flags::{AggregateFlags, ApiFlags, ConsumerFlags, IngestFlags, SinkFlags},
    port::PortFlags,
    services::{ClickHouse, Kafka, Postgres, SpillAge},
    supervise::{Roles, bind, spawn_listener, spawn_operations},
};

/// Takes events over HTTP and makes them durable in Kafka.
#[derive(Args)]
pub(crate) struct Ingest {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    kafka: Kafka,
    #[command(flatten)]
    spill_age: SpillAge,
    #[command(flatten)]
    port: PortFlags,
    #[command(flatten)]
    flags: IngestFlags,
}

/// Rolls events up into PostgreSQL, exactly once.
#[derive(Args)]
pub(crate) struct Aggregate {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    kafka: Kafka,
    #[command(flatten)]
    spill_age: SpillAge,
    #[command(flatten)]
    flags: AggregateFlags,
    #[command(flatten)]
    consumers: ConsumerFlags,
}

/// Writes the history to ClickHouse.
#[derive(Args)]
pub(crate) struct Sink {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    kafka: Kafka,
    #[command(flatten)]
    clickhouse: ClickHouse,
    #[command(flatten)]
    flags: SinkFlags,
    #[command(flatten)]
    consumers: ConsumerFlags,
}

/// Answers what PostgreSQL knows of children: to the product, and to parents.
#[derive(Args)]
pub(crate) struct Api {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    port: PortFlags,
    #[command(flatten)]
    flags: ApiFlags,
}

/// Every role in one process.
#[derive(Args)]
pub(crate) struct All {
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
    api: ApiFlags,
    #[command(flatten)]
    consumers: ConsumerFlags,
}

/// Every role in one process also looks after its own books: every hour the last hours, so that one
/// round may fail.
const VERIFY_EVERY: Duration = Duration::from_secs(3_600);
const VERIFIED_HOURS: i64 = 3;

/// What can be asked of all roles: whichever is asked for it tells the whole.
fn document() -> OpenApi {
    rivulet_dashboards::openapi().merge_from(rivulet_ingest::openapi())
}

async fn spawn_ingest(
    roles: &mut Roles,
    flags: &IngestFlags,
    port: &PortFlags,
    spill_age: &SpillAge,
    postgres: &Postgres,
    kafka: &Kafka,
    operations: Operations,
) -> anyhow::Result<()> {
    let mut config = flags.config(port, spill_age)?;
    config.document = Some(document());
    config.validate()?;
    let listener = bind(&flags.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "ingest listens");
    let role = rivulet_ingest::serve(
        config,
        kafka.cluster()?,
        postgres.pool("ingest", 8)?,
        listener,
        operations,
        roles.shutdown.clone(),
    );
    roles.spawn("ingest", async { Ok(role.await?) });
    Ok(())
}

async fn spawn_aggregate(
    roles: &mut Roles,
    flags: &AggregateFlags,
    consumers: &ConsumerFlags,
    spill_age: &SpillAge,
    postgres: &Postgres,
    kafka: &Kafka,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let readiness = Readiness::new(
        "aggregate",
        &["kafka", "positions", rivulet_aggregator::READINESS_CHECK],
    );
    spawn_operations(
        roles,
        "aggregate's operations",
        &flags.aggregate_listen,
        &readiness,
        metrics,
    )
    .await?;
    let role = rivulet_aggregator::run(
        flags.config(consumers, spill_age),
        kafka.cluster()?,
        postgres.pool("aggregate", 6)?,
        readiness,
        roles.shutdown.clone(),
    );
    roles.spawn("aggregate", async { Ok(role.await?) });
    Ok(())
}

async fn spawn_sink(
    roles: &mut Roles,
    flags: &SinkFlags,
    consumers: &ConsumerFlags,
    postgres: &Postgres,
    kafka: &Kafka,
    clickhouse: &ClickHouse,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let readiness = Readiness::new("sink", &["kafka", "positions", rivulet_sinks::CHECK]);
    spawn_operations(
        roles,
        "sink's operations",
        &flags.sink_listen,
        &readiness,
        metrics,
    )
    .await?;
    let role = rivulet_sinks::run(
        flags.config(consumers),
        kafka.cluster()?,
        postgres.pool("sink", 8)?,
        clickhouse.client()?,
        readiness,
        roles.shutdown.clone(),
    );
    roles.spawn("sink", async { Ok(role.await?) });
    Ok(())
}

async fn spawn_api(
    roles: &mut Roles,
    flags: &ApiFlags,
    port: &PortFlags,
    postgres: &Postgres,
    operations: Operations,
) -> anyhow::Result<()> {
    let config = rivulet_dashboards::Config {
        document: Some(document()),
        ..flags.config(port)?
    };
    config.validate()?;
    let listener = bind(&flags.api_listen).await?;
    tracing::info!(address = %listener.local_addr()?, "the read API listens");
    let pool = postgres.pool("api", 8)?;
    let role =
        rivulet_dashboards::serve(config, pool, listener, operations, roles.shutdown.clone());
    roles.spawn("api", async { Ok(role.await?) });
    Ok(())
}

/// For the roles of this process that have a port for strangers: beside it, where that is wanted.
async fn spawn_apart(
    roles: &mut Roles,
    port: &PortFlags,
    of: &[&'static str],
    metrics: Metrics,
) -> anyhow::Result<Operations> {
    let Some(address) = &port.operations_listen else {
        return Ok(metrics.into());
    };
    let operations = Operations::apart(metrics, of);
    spawn_listener(roles, "operations", address, operations.clone()).await?;
    Ok(operations)
}

impl Ingest {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut roles = Roles::traced("rivulet-ingest")?;
        let metrics = roles.metrics()?;
        let operations = spawn_apart(&mut roles, &self.port, &["ingest"], metrics).await?;
        spawn_ingest(
            &mut roles,
            &self.flags,
            &self.port,
            &self.spill_age,
            &self.postgres,
            &self.kafka,
            operations,
        )
        .await?;
        roles.run().await
    }
}

impl Aggregate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut roles = Roles::traced("rivulet-aggregate")?;
        let metrics = roles.metrics()?;
        spawn_aggregate(
            &mut roles,
            &self.flags,
            &self.consumers,
            &self.spill_age,
            &self.postgres,
            &self.kafka,
            metrics,
        )
        .await?;
        roles.run().await
    }
}

impl Sink {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut roles = Roles::traced("rivulet-sink")?;
        let metrics = roles.metrics()?;
        let Self {
            postgres,
            kafka,
            clickhouse,
            flags,
            consumers,
        } = self;
        spawn_sink(
            &mut roles,
            &flags,
            &consumers,
            &postgres,
            &kafka,
            &clickhouse,
            metrics,
        )
        .await?;
        roles.run().await
    }
}

impl Api {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut roles = Roles::traced("rivulet-api")?;
        let metrics = roles.metrics()?;
        let operations = spawn_apart(&mut roles, &self.port, &["api"], metrics).await?;
        spawn_api(
            &mut roles,
            &self.flags,
            &self.port,
            &self.postgres,
            operations,
        )
        .await?;
        roles.run().await
    }
}

impl All {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut roles = Roles::traced("rivulet")?;
        let metrics = roles.metrics()?;
        let Self {
            postgres,
            kafka,
            clickhouse,
            port,
            spill_age,
            consumers,
            ..
        } = &self;
        let operations = spawn_apart(&mut roles, port, &["ingest", "api"], metrics.clone()).await?;
        spawn_ingest(
            &mut roles,
            &self.ingest,
            port,
            spill_age,
            postgres,
            kafka,
            operations.clone(),
        )
        .await?;
        spawn_aggregate(
            &mut roles,
            &self.aggregate,
            consumers,
            spill_age,
            postgres,
            kafka,
            metrics.clone(),
        )
        .await?;
        spawn_api(&mut roles, &self.api, port, postgres, operations).await?;
        spawn_sink(
            &mut roles, &self.sink, consumers, postgres, kafka, clickhouse, metrics,
        )
        .await?;
        let stores = verify::stores(postgres, kafka, clickhouse)?;
        verify::spawn(&mut roles, stores, VERIFIED_HOURS, VERIFY_EVERY, None);
        roles.run().await
    }
}
