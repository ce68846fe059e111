//! `rivulet ingest|aggregate|sink|api|all`

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Arg, Args};
use rivulet_kafka::Cluster;
use rivulet_migrations::logins::{self, Login};
use rivulet_registry::Registry;
use rivulet_retention::InactiveThen;
use rivulet_telemetry::{Metrics, Operations, Readiness};
use rivulet_web::openapi::OpenApi;
use sqlx::PgPool;
use tokio::io::BufReader;
use tokio_util::sync::CancellationToken;

use super::verify;
use crate::{
    flags::{AggregateFlags, ApiFlags, ConsumerFlags, IngestFlags, SinkFlags},
    port::PortFlags,
    retention::{Kept, RetentionFlags},
    services::{Kafka, OptionalClickHouse, Postgres, Services, SpillAge, password},
    supervise::{Roles, bind, spawn_listener, spawn_operations},
};

/// Takes events over HTTP and makes them durable in Kafka.
#[derive(Args)]
#[command(mut_args(not_in_memory))]
pub(crate) struct Ingest {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    kafka: Kafka,
    #[command(flatten)]
    spill_age: SpillAge,
    #[command(flatten)]
    pub(crate) retention: RetentionFlags,
    #[command(flatten)]
    port: PortFlags,
    #[command(flatten)]
    flags: IngestFlags,
    #[command(flatten)]
    memory: Memory,
}

/// A server for the tests of apps. It has no variable: nobody runs it by accident.
#[derive(Args, Default)]
struct Memory {
    /// For the tests of apps: needs neither Kafka nor PostgreSQL, judges and answers every event as in production, and
    /// keeps nothing. Every key may post events, and every child is registered with all consents.
    #[arg(long)]
    memory: bool,
    /// With --memory: the families that are registered, and no others, as `rivulet registry import` takes them.
    #[arg(long, value_name = "FILE", requires = "memory")]
    memory_registry: Option<PathBuf>,
}

/// With --memory the services are not needed.
fn not_in_memory(arg: Arg) -> Arg {
    if !["database_url", "kafka_brokers"].contains(&arg.get_id().as_str()) {
        return arg;
    }
    arg.required(false)
        .required_unless_present("memory")
        .default_value_if("memory", "true", "")
}

impl Memory {
    async fn registry(&self) -> anyhow::Result<Registry> {
        let Some(file) = &self.memory_registry else {
            return Ok(Registry::every_child());
        };
        let named = || file.display().to_string();
        let opened = tokio::fs::File::open(file).await.with_context(named)?;
        let read = Registry::of_file(BufReader::new(opened));
        read.await.with_context(named)
    }
}

/// Rolls events up into PostgreSQL, exactly once.
#[derive(Args)]
pub(crate) struct Aggregate {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    pub(crate) kafka: Kafka,
    #[command(flatten)]
    spill_age: SpillAge,
    #[command(flatten)]
    pub(crate) retention: RetentionFlags,
    #[command(flatten)]
    flags: AggregateFlags,
    #[command(flatten)]
    consumers: ConsumerFlags,
}

/// Writes the history to ClickHouse.
#[derive(Args)]
pub(crate) struct Sink {
    #[command(flatten)]
    pub(crate) services: Services,
    #[command(flatten)]
    pub(crate) retention: RetentionFlags,
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
    retention: RetentionFlags,
    #[command(flatten)]
    clickhouse: OptionalClickHouse,
    #[command(flatten)]
    port: PortFlags,
    #[command(flatten)]
    flags: ApiFlags,
}

// Every role in one process. The text of the commands is theirs.
#[derive(Args)]
pub(crate) struct All {
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    spill_age: SpillAge,
    #[command(flatten)]
    retention: RetentionFlags,
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

/// What a role compares with the retention file: PostgreSQL at least, with the login of its work.
fn kept(retention: &RetentionFlags, postgres: &Postgres, login: Login) -> anyhow::Result<Kept> {
    Ok(Kept {
        policy: retention.policy()?,
        pool: postgres.pool(login, "retention", 1)?,
        login,
        kafka: None,
        clickhouse: None,
    })
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

/// Keeps the erasures of a PostgreSQL that is put back. What this returns ends when those are known that were done before
/// the role began: until then a consumer must not begin.
fn keep_erasures(
    roles: &mut Roles,
    name: &'static str,
    pool: &PgPool,
    cluster: &Cluster,
) -> CancellationToken {
    let replayed = CancellationToken::new();
    let keep = rivulet_erasure::log::keep(pool.clone(), cluster.clone(), replayed.clone());
    roles.spawn_until_shutdown(name, keep);
    replayed
}

impl Ingest {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (mut roles, metrics) = Roles::traced("rivulet-ingest")?;
        let operations = spawn_apart(&mut roles, &self.port, &["ingest"], metrics).await?;
        self.spawn(&mut roles, operations).await?;
        roles.run().await
    }

    /// Its settings, which need not fit together.
    pub(crate) fn config(&self) -> anyhow::Result<rivulet_ingest::Config> {
        let policy = self.retention.policy()?;
        let mut config = self.flags.config(&self.port, &self.spill_age, &policy)?;
        config.document = Some(document());
        Ok(config)
    }

    async fn spawn(&self, roles: &mut Roles, operations: Operations) -> anyhow::Result<()> {
        let config = self.config()?;
        config.validate()?;
        if self.memory.memory {
            return self.spawn_in_memory(config, roles, operations).await;
        }
        let listener = bind(&self.flags.listen).await?;
        tracing::info!(address = %listener.local_addr()?, "ingest listens");
        let cluster = self.kafka.cluster()?;
        let pool = self.postgres.pool(Login::Ingest, "ingest", 8)?;
        // Not waited for: what it takes of somebody who was erased is dropped by the consumers.
        keep_erasures(roles, "ingest's log of erasures", &pool, &cluster);
        let role = rivulet_ingest::serve(
            config,
            cluster,
            pool,
            listener,
            operations,
            roles.shutdown.clone(),
        );
        roles.spawn("ingest", async { Ok(role.await?) });
        kept(&self.retention, &self.postgres, Login::Ingest)?.watch(roles, "ingest's retention");
        Ok(())
    }

    async fn spawn_in_memory(
        &self,
        config: rivulet_ingest::Config,
        roles: &mut Roles,
        operations: Operations,
    ) -> anyhow::Result<()> {
        if self.kafka.is_named() || config.spill.is_some() {
            bail!(
                "--memory keeps nothing, but KAFKA_BROKERS or RIVULET_SPILL_DIR says that events are to be kept: they \
                 would be answered `accepted` and lost. Leave out --memory, or those"
            );
        }
        let registry = self.memory.registry().await?;
        let listener = bind(&self.flags.listen).await?;
        tracing::warn!(
            address = %listener.local_addr()?,
            "ingest listens and KEEPS NOTHING (--memory): it is for the tests of apps"
        );
        let shutdown = roles.shutdown.clone();
        let role =
            rivulet_ingest::serve_in_memory(config, registry, listener, operations, shutdown);
        roles.spawn("ingest", async { Ok(role.await?) });
        Ok(())
    }
}

impl Aggregate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (mut roles, metrics) = Roles::traced("rivulet-aggregate")?;
        self.spawn(&mut roles, metrics).await?;
        roles.run().await
    }

    /// Its settings, which need not fit together.
    pub(crate) fn config(&self) -> anyhow::Result<rivulet_aggregator::Config> {
        let policy = self.retention.policy()?;
        self.flags.config(&self.consumers, &self.spill_age, &policy)
    }

    async fn spawn(&self, roles: &mut Roles, metrics: Metrics) -> anyhow::Result<()> {
        let checks = ["kafka", "positions", rivulet_aggregator::READINESS_CHECK];
        let readiness = Readiness::new("aggregate", &checks);
        let (name, listen) = ("aggregate's operations", &self.flags.aggregate_listen);
        spawn_operations(roles, name, listen, &readiness, metrics).await?;
        let cluster = self.kafka.cluster()?;
        let pool = self.postgres.pool(Login::Aggregate, "aggregate", 6)?;
        let kept = Kept {
            kafka: Some(cluster.clone()),
            ..kept(&self.retention, &self.postgres, Login::Aggregate)?
        };
        let replayed = keep_erasures(roles, "aggregate's log of erasures", &pool, &cluster);
        let shutdown = roles.shutdown.clone();
        let role = rivulet_aggregator::run(self.config()?, cluster, pool, readiness, shutdown);
        let begin = async move {
            kept.check().await?;
            replayed.cancelled().await;
            Ok(())
        };
        roles.spawn_after("aggregate", begin, async { Ok(role.await?) });
        Ok(())
    }
}

impl Sink {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (mut roles, metrics) = Roles::traced("rivulet-sink")?;
        self.spawn(&mut roles, metrics).await?;
        roles.run().await
    }

    async fn spawn(&self, roles: &mut Roles, metrics: Metrics) -> anyhow::Result<()> {
        let checks = ["kafka", "positions", rivulet_sinks::CHECK];
        let readiness = Readiness::new("sink", &checks);
        let (name, listen) = ("sink's operations", &self.flags.sink_listen);
        spawn_operations(roles, name, listen, &readiness, metrics).await?;
        let (services, clickhouse) = (&self.services, &self.services.clickhouse);
        let cluster = services.kafka.cluster()?;
        let pool = services.postgres.pool(Login::Sink, "sink", 8)?;
        let kept = Kept {
            kafka: Some(cluster.clone()),
            clickhouse: Some((clickhouse.client()?, clickhouse.clickhouse_database.clone())),
            ..kept(&self.retention, &services.postgres, Login::Sink)?
        };
        let policy = kept.policy.clone();
        // It has every store that an erasure cleans, so it does that too where it has the login for it.
        let stores = services.erasure_stores("erasures", 4)?;
        let replayed = keep_erasures(roles, "sink's log of erasures", &stores.pool, &cluster);
        let role = rivulet_sinks::run(
            self.flags.config(&self.consumers, &policy),
            cluster,
            pool.clone(),
            clickhouse.client()?,
            readiness,
            roles.shutdown.clone(),
        );
        let checked = kept.clone();
        let begin = async move {
            checked.check().await?;
            replayed.cancelled().await;
            Ok(())
        };
        roles.spawn_after("sink", begin, async { Ok(role.await?) });
        let operate = Operate {
            stores,
            is_given: password(Login::Operator)?.is_some(),
            kept,
        };
        let shutdown = roles.shutdown.clone();
        roles.spawn("erasures and retention", async move {
            let ended = shutdown.run_until_cancelled(operate.run(pool)).await;
            ended.unwrap_or(Ok(()))
        });
        Ok(())
    }
}

/// How long to wait before PostgreSQL is asked again what a login may.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What the operator's login does by itself: carries erasures on, and deletes what is too old of the registry, of erasures,
/// of the audit log and of the quarantine.
struct Operate {
    stores: rivulet_erasure::Stores,
    /// Whether this process was told to.
    is_given: bool,
    kept: Kept,
}

impl Operate {
    /// Where the process has no login for it, others do it: then this tells how old the oldest erasure is, by `sink`.
    async fn run(self, sink: PgPool) -> anyhow::Result<()> {
        loop {
            match logins::lacks(&self.stores.pool, Login::Operator).await {
                Ok(None) => break,
                Ok(Some(lacks)) if self.is_given => bail!("{lacks}"),
                Ok(Some(_)) => {
                    tracing::info!(
                        "erasures, and what is too old of the registry, are left to another process: this one has not \
                         the login rivulet_operator (RIVULET_OPERATOR_PASSWORD)"
                    );
                    match rivulet_erasure::tell_oldest(sink).await {}
                }
                // That PostgreSQL does not answer is told by the role.
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
        let inactive = self.kept.policy.inactive;
        let inactive = inactive.filter(|inactive| inactive.then == InactiveThen::Erase);
        let days = inactive.map(|inactive| inactive.after.days());
        let pool = &self.stores.pool;
        let retention = async {
            self.kept.check().await?;
            tokio::select! {
                never = rivulet_erasure::aged::keep_up(pool.clone(), days) => match never {},
                never = rivulet_quarantine::keep_expiring(pool.clone()) => match never {},
            }
        };
        tokio::select! {
            failed = retention => failed,
            never = rivulet_erasure::carry_on(self.stores.clone()) => match never {},
        }
    }
}

impl Api {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (mut roles, metrics) = Roles::traced("rivulet-api")?;
        let operations = spawn_apart(&mut roles, &self.port, &["api"], metrics).await?;
        self.spawn(&mut roles, operations).await?;
        roles.run().await
    }

    /// Its settings, which need not fit together.
    pub(crate) fn config(&self) -> anyhow::Result<rivulet_dashboards::Config> {
        let mut config = self.flags.config(&self.port)?;
        config.document = Some(document());
        config.history = self.clickhouse.client()?;
        Ok(config)
    }

    async fn spawn(&self, roles: &mut Roles, operations: Operations) -> anyhow::Result<()> {
        let config = self.config()?;
        config.validate()?;
        let listener = bind(&self.flags.api_listen).await?;
        tracing::info!(address = %listener.local_addr()?, "the read API listens");
        let pool = self.postgres.pool(Login::Api, "api", 8)?;
        let shutdown = roles.shutdown.clone();
        let role = rivulet_dashboards::serve(config, pool, listener, operations, shutdown);
        roles.spawn("api", async { Ok(role.await?) });
        kept(&self.retention, &self.postgres, Login::Api)?.watch(roles, "api's retention");
        Ok(())
    }
}

/// Every role, each with what it needs.
pub(crate) struct Each {
    pub(crate) ingest: Ingest,
    pub(crate) aggregate: Aggregate,
    pub(crate) sink: Sink,
    pub(crate) api: Api,
}

impl All {
    pub(crate) fn each(self) -> Each {
        Each {
            ingest: Ingest {
                postgres: self.services.postgres.clone(),
                kafka: self.services.kafka.clone(),
                spill_age: self.spill_age.clone(),
                retention: self.retention.clone(),
                port: self.port.clone(),
                flags: self.ingest,
                memory: Memory::default(),
            },
            aggregate: Aggregate {
                postgres: self.services.postgres.clone(),
                kafka: self.services.kafka.clone(),
                spill_age: self.spill_age,
                retention: self.retention.clone(),
                flags: self.aggregate,
                consumers: self.consumers.clone(),
            },
            api: Api {
                postgres: self.services.postgres.clone(),
                retention: self.retention.clone(),
                clickhouse: self.services.clickhouse.clone().into(),
                port: self.port,
                flags: self.api,
            },
            sink: Sink {
                services: self.services,
                retention: self.retention,
                flags: self.sink,
                consumers: self.consumers,
            },
        }
    }

    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (mut roles, metrics) = Roles::traced("rivulet")?;
        let of = ["ingest", "api"];
        let operations = spawn_apart(&mut roles, &self.port, &of, metrics.clone()).await?;
        let each = self.each();
        each.ingest.spawn(&mut roles, operations.clone()).await?;
        each.aggregate.spawn(&mut roles, metrics.clone()).await?;
        each.api.spawn(&mut roles, operations).await?;
        each.sink.spawn(&mut roles, metrics).await?;
        let stores = each.sink.services.stores()?;
        verify::spawn(&mut roles, stores, VERIFIED_HOURS, VERIFY_EVERY, None);
        roles.run().await
    }
}
