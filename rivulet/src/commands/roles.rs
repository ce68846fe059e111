//! `rivulet ingest|aggregate|sink|api|all`

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use rivulet_ingest::SpillConfig;
use rivulet_registry::keys::Origin;
use rivulet_telemetry::{Metrics, Readiness, serve_operations};
use tokio::net::TcpListener;

use super::verify;
use crate::{
    port::PortFlags,
    services::{ClickHouse, Kafka, Postgres, SpillAge},
    supervise::Roles,
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

#[derive(Args)]
pub(crate) struct ApiFlags {
    /// Where the read API, and its `/healthz`, `/readyz` and `/metrics`, are served.
    #[arg(long, env = "RIVULET_API_LISTEN", default_value = "127.0.0.1:8081")]
    api_listen: String,
    /// Requests a second, by API key and node; ten times as many at once after a pause.
    #[arg(long, env = "RIVULET_API_RATE", default_value_t = 1_000)]
    api_rate: u32,
    /// The same by parent who comes with a token.
    #[arg(long, env = "RIVULET_API_TOKEN_RATE", default_value_t = 20)]
    api_token_rate: u32,
}

#[derive(Args)]
pub(crate) struct IngestFlags {
    /// Where the API, `/healthz`, `/readyz` and `/metrics` are served.
    #[arg(long, env = "RIVULET_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Events a request.
    #[arg(long, env = "RIVULET_MAX_EVENTS", default_value_t = 1_000)]
    max_events: usize,
    /// Bytes of a body as sent.
    #[arg(long, env = "RIVULET_MAX_WIRE_BYTES", default_value_t = 1 << 20)]
    max_wire_bytes: usize,
    /// Bytes of a body after decompression.
    #[arg(long, env = "RIVULET_MAX_INFLATED_BYTES", default_value_t = 8 << 20)]
    max_inflated_bytes: usize,
    /// Bytes of one event's JSON.
    #[arg(long, env = "RIVULET_MAX_EVENT_BYTES", default_value_t = 64 << 10)]
    max_event_bytes: usize,
    /// Containers within containers in one event, its own object being the first.
    #[arg(long, env = "RIVULET_MAX_EVENT_DEPTH", default_value_t = 32)]
    max_event_depth: u8,
    /// Bytes of all bodies at work; beyond it requests get 503.
    #[arg(long, env = "RIVULET_MAX_BYTES_IN_FLIGHT", default_value_t = 32 << 20)]
    max_bytes_in_flight: usize,
    /// Seconds a body may take to arrive.
    #[arg(
        long,
        env = "RIVULET_BODY_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    body_timeout: u64,
    /// Events a second, by API key and node.
    #[arg(long, env = "RIVULET_RATE", default_value_t = 5_000)]
    rate: u32,
    /// Events that an API key may send at once after a pause.
    #[arg(long, env = "RIVULET_BURST", default_value_t = 20_000)]
    burst: u32,
    /// Events a second, by family that sends with client tokens and node.
    #[arg(long, env = "RIVULET_TOKEN_RATE", default_value_t = 100)]
    token_rate: u32,
    /// Events that such a family may send at once after a pause.
    #[arg(long, env = "RIVULET_TOKEN_BURST", default_value_t = 2_000)]
    token_burst: u32,
    /// An origin whose pages may post events, such as https://app.example, several separated by
    /// commas; everybody's without it.
    #[arg(
        long = "origin",
        env = "RIVULET_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    origins: Vec<Origin>,
    /// A directory of this process's own for events that Kafka does not take: they are made durable there
    /// and answered `accepted` as `spilled`. Off when not given.
    #[arg(long, env = "RIVULET_SPILL_DIR")]
    spill_dir: Option<PathBuf>,
    /// Bytes of disk for the spill; beyond it events are answered `retry`.
    #[arg(long, env = "RIVULET_SPILL_MAX_BYTES", default_value_t = 1 << 30)]
    spill_max_bytes: u64,
}

impl IngestFlags {
    pub(crate) fn config(
        &self,
        port: &PortFlags,
        age: &SpillAge,
    ) -> anyhow::Result<rivulet_ingest::Config> {
        let defaults = rivulet_ingest::Config::default();
        Ok(rivulet_ingest::Config {
            port: port.config()?,
            max_events: self.max_events,
            max_wire_bytes: self.max_wire_bytes,
            max_inflated_bytes: self.max_inflated_bytes,
            max_event_bytes: self.max_event_bytes,
            max_event_depth: self.max_event_depth,
            max_bytes_in_flight: self.max_bytes_in_flight,
            body_timeout: Duration::from_secs(self.body_timeout),
            rate: self.rate,
            burst: self.burst,
            tokens: port.tokens()?,
            token_rate: self.token_rate,
            token_burst: self.token_burst,
            origins: self.origins.clone(),
            registry: port.registry(),
            spill: self.spill_dir.clone().map(|dir| SpillConfig {
                dir,
                max_bytes: self.spill_max_bytes,
                max_age: Duration::from_secs(age.spill_max_age_days * 86_400),
            }),
            shutdown_grace: port.shutdown_grace(),
            ..defaults
        })
    }
}

/// What aggregator and sink have in common.
#[derive(Args)]
pub(crate) struct ConsumerFlags {
    /// Stop, until `rivulet quarantine resume`, where a larger share of a topic's recent records
    /// cannot be processed; 1 never stops.
    #[arg(
        long,
        env = "RIVULET_QUARANTINE_SHARE",
        value_name = "SHARE",
        default_value_t = 0.1,
        value_parser = share
    )]
    quarantine_share: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "must be a number, as 0.1")?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err("must be above 0 and at most 1: at 0 one bad record would stop everything".to_owned())
    }
}

#[derive(Args)]
pub(crate) struct AggregateFlags {
    /// Where `/healthz`, `/readyz` and `/metrics` of the aggregator are served.
    #[arg(
        long,
        env = "RIVULET_AGGREGATE_LISTEN",
        default_value = "127.0.0.1:9101"
    )]
    aggregate_listen: String,
    /// Kafka consumer group of the aggregators.
    #[arg(
        long,
        env = "RIVULET_AGGREGATE_GROUP",
        default_value = "rivulet-aggregator"
    )]
    aggregate_group: String,
    /// Days that the identities of events are remembered.
    #[arg(long, env = "RIVULET_SEEN_RETENTION_DAYS", default_value_t = 45)]
    seen_retention_days: u64,
}

impl AggregateFlags {
    pub(crate) fn config(
        &self,
        consumers: &ConsumerFlags,
        age: &SpillAge,
    ) -> rivulet_aggregator::Config {
        rivulet_aggregator::Config {
            quarantine_share: consumers.quarantine_share,
            spill_max_age_days: age.spill_max_age_days,
            group: self.aggregate_group.clone(),
            seen_retention_days: self.seen_retention_days,
            ..rivulet_aggregator::Config::default()
        }
    }
}

#[derive(Args)]
pub(crate) struct SinkFlags {
    /// Where `/healthz`, `/readyz` and `/metrics` of the sink are served.
    #[arg(long, env = "RIVULET_SINK_LISTEN", default_value = "127.0.0.1:9102")]
    sink_listen: String,
    /// Kafka consumer group of the sinks.
    #[arg(long, env = "RIVULET_SINK_GROUP", default_value = "rivulet-history")]
    sink_group: String,
    /// Longest that a row waits for others before it is inserted, milliseconds.
    #[arg(long, env = "RIVULET_SINK_MAX_AGE_MS", default_value_t = 3_000)]
    sink_max_age_ms: u64,
}

impl SinkFlags {
    pub(crate) fn config(&self, consumers: &ConsumerFlags) -> rivulet_sinks::Config {
        rivulet_sinks::Config {
            quarantine_share: consumers.quarantine_share,
            group: self.sink_group.clone(),
            max_age: Duration::from_millis(self.sink_max_age_ms),
            ..rivulet_sinks::Config::default()
        }
    }
}

/// Every role in one process also looks after its own books: every hour the last hours, so that one
/// round may fail.
const VERIFY_EVERY: Duration = Duration::from_secs(3_600);
const VERIFIED_HOURS: i64 = 3;

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{address} cannot be listened on"))
}

async fn spawn_ingest(
    roles: &mut Roles,
    flags: &IngestFlags,
    port: &PortFlags,
    spill_age: &SpillAge,
    postgres: &Postgres,
    kafka: &Kafka,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let config = flags.config(port, spill_age)?;
    config.validate()?;
    let listener = bind(&flags.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "ingest listens");
    let role = rivulet_ingest::serve(
        config,
        kafka.cluster()?,
        postgres.pool("ingest", 8)?,
        listener,
        metrics,
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
    metrics: Metrics,
) -> anyhow::Result<()> {
    let config = rivulet_dashboards::Config {
        port: port.config()?,
        tokens: port.tokens()?,
        registry: port.registry(),
        rate: flags.api_rate,
        token_rate: flags.api_token_rate,
        others: Some(rivulet_ingest::openapi()),
        shutdown_grace: port.shutdown_grace(),
    };
    config.validate()?;
    let listener = bind(&flags.api_listen).await?;
    tracing::info!(address = %listener.local_addr()?, "the read API listens");
    let pool = postgres.pool("api", 8)?;
    let role = rivulet_dashboards::serve(config, pool, listener, metrics, roles.shutdown.clone());
    roles.spawn("api", async { Ok(role.await?) });
    Ok(())
}

pub(crate) async fn spawn_operations(
    roles: &mut Roles,
    name: &'static str,
    address: &str,
    readiness: &Readiness,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let listener = bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "{name} listen");
    let serve = serve_operations(listener, readiness.clone(), metrics, roles.shutdown.clone());
    roles.spawn(name, async { Ok(serve.await?) });
    Ok(())
}

impl Ingest {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let metrics = rivulet_telemetry::metrics()?;
        let mut roles = Roles::traced("rivulet-ingest")?;
        spawn_ingest(
            &mut roles,
            &self.flags,
            &self.port,
            &self.spill_age,
            &self.postgres,
            &self.kafka,
            metrics,
        )
        .await?;
        roles.run().await
    }
}

impl Aggregate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let metrics = rivulet_telemetry::metrics()?;
        let mut roles = Roles::traced("rivulet-aggregate")?;
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
        let metrics = rivulet_telemetry::metrics()?;
        let mut roles = Roles::traced("rivulet-sink")?;
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
        let metrics = rivulet_telemetry::metrics()?;
        let mut roles = Roles::traced("rivulet-api")?;
        spawn_api(&mut roles, &self.flags, &self.port, &self.postgres, metrics).await?;
        roles.run().await
    }
}

impl All {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let metrics = rivulet_telemetry::metrics()?;
        let mut roles = Roles::traced("rivulet")?;
        let Self {
            postgres,
            kafka,
            clickhouse,
            port,
            spill_age,
            consumers,
            ..
        } = &self;
        spawn_ingest(
            &mut roles,
            &self.ingest,
            port,
            spill_age,
            postgres,
            kafka,
            metrics.clone(),
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
        spawn_api(&mut roles, &self.api, port, postgres, metrics.clone()).await?;
        spawn_sink(
            &mut roles, &self.sink, consumers, postgres, kafka, clickhouse, metrics,
        )
        .await?;
        let stores = verify::stores(postgres, kafka, clickhouse)?;
        verify::spawn(&mut roles, stores, VERIFIED_HOURS, VERIFY_EVERY, None);
        roles.run().await
    }
}
