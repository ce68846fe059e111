//! The role: what it needs, and an orderly end.

use std::{io, num::NonZeroU32, sync::Arc, time::Duration};

use rdkafka::error::KafkaError;
use rivulet_kafka::Cluster;
use rivulet_registry::Registry;
use rivulet_telemetry::{Operations, Readiness};
use rivulet_tokens::{SourceError, Verifier};
use rivulet_web::{Background, Limiter, Port, TaskEnded, TlsError};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::metrics::{IN_FLIGHT_BYTES, IN_FLIGHT_REQUESTS, WAITING_REQUESTS};
use crate::{
    Config, InvalidConfig,
    drain::drain,
    forget::keep_forgetting,
    metrics::Metrics,
    openapi,
    producer::Producer,
    router::router,
    shares::Shares,
    spill::Spill,
    state::{App, Stores},
    turns::Turns,
};

/// How often gauges, readiness and the rate limiter's memory are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How often, in rounds of housekeeping, idle keys are forgotten.
const TIDY_ROUNDS: u64 = 60;

/// Why this role ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration would break a promise.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The Kafka client could not be made from its settings.
    #[error("the Kafka producer cannot be made: {0}")]
    Producer(#[from] KafkaError),
    /// The file with the keys of client tokens is not good.
    #[error(transparent)]
    Tokens(#[from] SourceError),
    /// The certificate of the HTTP port cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A thread could not be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The spill could not be opened.
    #[error(transparent)]
    Spill(#[from] rivulet_spill::OpenError),
    /// The idempotent producer failed for good. A new process gets a new one.
    #[error("the Kafka producer met an error that only a restart repairs")]
    ProducerFatal,
    /// A task without which the role cannot work has ended.
    #[error(transparent)]
    Task(#[from] TaskEnded),
}

/// What a server is made of besides its settings.
enum Backing {
    /// What production has.
    Services { cluster: Cluster, pool: PgPool },
    /// Nothing that is accepted is kept.
    Memory(Registry),
}

/// Serves until `shutdown`, then ends in order: it says that it is not ready, goes on for `shutdown_grace`, takes no
/// new connections, finishes running requests, and flushes the producer. Its health is served on `listener`, and on the
/// listener of `operations` if that has one.
///
/// # Errors
/// It could not start, or cannot go on and the process must be restarted.
pub async fn serve(
    config: Config,
    cluster: Cluster,
    pool: PgPool,
    listener: TcpListener,
    operations: impl Into<Operations>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    serve_with(
        config,
        Backing::Services { cluster, pool },
        listener,
        operations.into(),
        shutdown,
        Background::new(),
    )
    .await
}

/// As [`serve`], for the tests of apps: every event is judged and answered as there, and nothing is kept, so that neither
/// Kafka nor PostgreSQL is needed. Who exists is what `registry` says; nobody can change it, and there is no
/// `/v1/admin`.
///
/// # Errors
/// It could not start.
pub async fn serve_in_memory(
    config: Config,
    registry: Registry,
    listener: TcpListener,
    operations: impl Into<Operations>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    serve_with(
        config,
        Backing::Memory(registry),
        listener,
        operations.into(),
        shutdown,
        Background::new(),
    )
    .await
}

async fn serve_with(
    config: Config,
    backing: Backing,
    listener: TcpListener,
    operations: Operations,
    shutdown: CancellationToken,
    mut background: Background,
) -> Result<(), Error> {
    config.validate()?;
    let checks: &[_] = match backing {
        Backing::Services { .. } => &["accepting", "kafka", "registry"],
        Backing::Memory(_) => &["accepting", "registry"],
    };
    let readiness = Readiness::new("ingest", checks);
    let fatal = CancellationToken::new();
    // The drain of the spill. It ends before the other tasks, between two batches.
    let mut draining = Background::new();
    let (registry, stores) = match backing {
        Backing::Memory(registry) => (registry, None),
        Backing::Services { cluster, pool } => {
            let (registry, work) = Registry::new(pool.clone(), config.registry);
            background.spawn("the registry", work);
            let producer = Arc::new(Producer::new(&config, &cluster, fatal.clone())?);
            let spill = open_spill(&config).await?;
            let watch = producer.watch(
                spill.clone(),
                readiness.clone(),
                background.stopping().clone(),
            )?;
            background.spawn("the watch over Kafka", watch);
            if let Some(spill) = spill.clone() {
                let drain = drain(spill, Arc::clone(&producer), draining.stopping().clone());
                draining.spawn_until_stopped("the drain of the spill", drain);
            }
            let stores = Stores {
                producer,
                spill,
                pool,
            };
            (registry, Some(stores))
        }
    };
    let tokens = match &config.tokens {
        Some(tokens) => {
            let (verifier, refreshing) = Verifier::new(tokens).await?;
            background.spawn("the reader of tokens' keys", refreshing);
            Some(verifier)
        }
        None => None,
    };
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    let app = Arc::new(App {
        registry,
        stores,
        tokens,
        limiter: Limiter::new(number(config.rate), number(config.burst)),
        family_limiter: Limiter::new(number(config.token_rate), number(config.token_burst)),
        bytes: Shares::new(config.max_bytes_in_flight),
        // At least 2: a sender may have half of them, and half of one would be none.
        requests: Shares::new(config.port.max_connections.max(2)),
        records: Shares::new(config.queue_messages),
        turns: Turns::new(processors.saturating_sub(1)),
        config_turns: Semaphore::new(2),
        metrics: Metrics::new(config.personal_data),
        audit: Arc::default(),
        tails: Arc::default(),
        stopping: shutdown.clone(),
        config,
    });
    if let Some(stores) = &app.stores {
        if let Some(spill) = stores.spill.clone() {
            let forgetting = keep_forgetting(spill, stores.pool.clone(), app.config.clone());
            background.spawn("the search of the spill for erased children", forgetting);
        }
        let audit = rivulet_auditlog::keep(
            Arc::clone(&app.audit),
            stores.pool.clone(),
            app.config.audit_every,
            background.stopping().clone(),
        );
        background.spawn_until_stopped("the audit log", audit);
    }
    let config = &app.config;
    let document = config.document.clone().unwrap_or_else(openapi::openapi);
    let port = Port::new(
        "ingest",
        config.port.clone(),
        router(Arc::clone(&app), readiness.clone(), &operations, &document),
        route,
    )?;
    let look_after = housekeeping(Arc::clone(&app), readiness.clone());
    background.spawn("housekeeping", look_after);

    readiness.pass("accepting");
    let stop = async {
        shutdown.cancelled().await;
        readiness.fail("accepting", "shutting down");
        tokio::time::sleep(config.shutdown_grace).await;
    };
    let mut ended = tokio::select! {
        () = stop => Ok(()),
        ended = background.ended() => Err(ended.into()),
        ended = draining.ended() => Err(ended.into()),
        () = fatal.cancelled() => Err(Error::ProducerFatal),
        never = port.accept(&listener) => match never {},
    };
    readiness.fail("accepting", "shutting down");
    draining.stopping().cancel();
    drop(listener);
    port.close().await;
    if let Some(stores) = &app.stores {
        flush(&stores.producer, config.message_timeout).await;
    }
    // The batch that the drain has sent has its acknowledgements by now, or it never gets them.
    ended = ended.and(draining.stop().await.map_err(Error::from));
    if let Some(spill) = app.stores.as_ref().and_then(|stores| stores.spill.as_ref()) {
        match spill.close().await {
            0 => tracing::info!("the spill is empty"),
            left => tracing::warn!(
                records = left,
                "accepted records stay in the spill; the next start with it brings them to Kafka"
            ),
        }
    }
    ended.and(background.stop().await.map_err(Error::from))
}

async fn open_spill(config: &Config) -> Result<Option<Arc<Spill>>, Error> {
    let Some(spill) = config.spill.clone() else {
        return Ok(None);
    };
    let open = tokio::task::spawn_blocking(move || Spill::open(&spill));
    Ok(Some(Arc::new(open.await.map_err(io::Error::from)??)))
}

/// Every request that was answered has its acknowledgements. The records that are left belong to clients that went away.
/// librdkafka gives them up by itself after `limit`.
async fn flush(producer: &Arc<Producer>, limit: Duration) {
    let producer = Arc::clone(producer);
    match tokio::task::spawn_blocking(move || producer.flush(limit)).await {
        Ok(0) => tracing::info!("every record was delivered"),
        Ok(left) => tracing::warn!(
            records = left,
            "records were not delivered; no answer said that Kafka has them"
        ),
        Err(error) => tracing::warn!(%error, "the producer was not flushed"),
    }
}

/// The name of a path for metrics and logs. It has no ids.
fn route(path: &str) -> &'static str {
    match path {
        "/v1/events" => "events",
        "/healthz" | "/readyz" | "/metrics" => "operations",
        "/openapi.json" => "docs",
        path if path.starts_with("/v1/admin/") => "admin",
        _ => "other",
    }
}

async fn housekeeping(app: Arc<App>, readiness: Readiness) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    for round in 0u64.. {
        tick.tick().await;
        match app.registry.check() {
            Ok(()) => readiness.pass("registry"),
            Err(why) => readiness.fail("registry", why),
        }
        IN_FLIGHT_BYTES.set(app.bytes.held() as f64);
        IN_FLIGHT_REQUESTS.set(app.requests.held() as f64);
        WAITING_REQUESTS.set(app.turns.waiting() as f64);
        let stores = app.stores.as_ref();
        if let Some(spill) = stores.and_then(|stores| stores.spill.as_ref()) {
            spill.observe();
        }
        if round % TIDY_ROUNDS == TIDY_ROUNDS - 1 {
            app.limiter.tidy();
            app.family_limiter.tidy();
        }
    }
}

#[cfg(test)]
mod tests {
    use rivulet_telemetry::Metrics;

    use super::*;

    /// Serves beside a task of the test's, without Kafka and PostgreSQL, for as long as `shutdown` wants.
    async fn served_beside(
        task: impl Future<Output = ()> + Send + 'static,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let mut background = Background::new();
        background.spawn("the test's task", task);
        let served = serve_with(
            Config::default(),
            Backing::Services {
                cluster: Cluster {
                    brokers: "127.0.0.1:1".to_owned(),
                    topic_prefix: "test".to_owned(),
                    properties: Vec::new(),
                },
                pool: PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap(),
            },
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Metrics::detached().into(),
            shutdown,
            background,
        );
        tokio::time::timeout(Duration::from_secs(60), served)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_role_ends_with_its_tasks_and_they_with_it() {
        let panics = served_beside(async { panic!("a test's panic") }, CancellationToken::new());
        assert!(matches!(
            panics.await,
            Err(Error::Task(TaskEnded::Panicked("the test's task")))
        ));
        let ends = served_beside(async {}, CancellationToken::new());
        assert!(matches!(
            ends.await,
            Err(Error::Task(TaskEnded::Unasked("the test's task")))
        ));
        let shutdown = CancellationToken::new();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let stays = async move {
            let _held = held;
            std::future::pending().await
        };
        shutdown.cancel();
        served_beside(stays, shutdown).await.unwrap();
        dropped.await.unwrap_err();
    }
}
