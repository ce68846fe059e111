//! The role: what it needs, and an orderly end.

use std::{hash::Hash, num::NonZeroU32, sync::Arc, time::Duration};

use chrono::Utc;
use rivulet_registry::{CacheConfig, Registry, keys::Origin};
use rivulet_telemetry::{Operations, Readiness};
use rivulet_tokens::{SourceError, Verifier};
use rivulet_web::{Background, Limiter, Port, TaskEnded, TlsError};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

use crate::{
    api::{route, router},
    app::App,
    export::Exports,
    feed::Feeds,
    inspect::{Inspect, MOST_NODES},
    listen::listen,
    openapi,
    share::Shares,
};

/// How often readiness and the rate limiters' memory are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How many seconds of its rate a sender may use at once, because a page asks for a family's numbers all at once.
const BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// How many children are read at the same time for live streams: with about half of the pool's connections.
const LIVE_READS: usize = 4;

/// How this role works. [`Config::default`] is for production.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP port, and what a client may hold of it.
    pub port: rivulet_web::Config,
    /// Which parents' tokens are taken; none without it.
    pub tokens: Option<rivulet_tokens::Config>,
    /// The history, of which exports are made; without it there are none.
    pub history: Option<clickhouse::Client>,
    /// The cache of API keys.
    pub registry: CacheConfig,
    /// Requests a second by API key and node; ten times as many at once after a pause.
    pub rate: u32,
    /// The same by parent, who comes with a token.
    pub token_rate: u32,
    /// Origins whose pages may read. If it is empty, only the pages that the role serves itself.
    pub origins: Vec<Origin>,
    /// The OpenAPI document of every role; without it, of this one.
    pub document: Option<OpenApi>,
    /// Whether the page to try it is served at `/docs/`.
    pub docs: bool,
    /// Where the ingest nodes are of which `/inspect/` shows what arrives; without one there is no such page.
    pub inspect: Vec<String>,
    /// How often it is written to the audit log who read what of whom.
    pub audit_every: Duration,
    /// How long requests are still taken after the role said that it is not ready.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: rivulet_web::Config::default(),
            tokens: None,
            history: None,
            registry: CacheConfig::default(),
            rate: 1_000,
            token_rate: 20,
            origins: Vec::new(),
            document: None,
            docs: true,
            inspect: Vec::new(),
            audit_every: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(1),
        }
    }
}

/// Why this role ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port's configuration would break a promise.
    #[error(transparent)]
    Port(#[from] rivulet_web::InvalidConfig),
    /// A rate of 0.
    #[error("{0} is 0: every request would be refused")]
    Rate(&'static str),
    /// The configuration of tokens would break a promise.
    #[error(transparent)]
    TokenConfig(#[from] rivulet_tokens::InvalidConfig),
    /// The file with the keys of parents' tokens is not good.
    #[error(transparent)]
    Tokens(#[from] SourceError),
    /// The ingest nodes of `/inspect/` cannot be asked.
    #[error("{0}")]
    Inspect(String),
    /// The certificate of the HTTP port cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A task without which the role cannot work has ended.
    #[error(transparent)]
    Task(#[from] TaskEnded),
}

impl Config {
    /// Checks for settings with which nobody could be answered.
    ///
    /// # Errors
    /// The first setting that cannot work, with what would go wrong.
    pub fn validate(&self) -> Result<(), Error> {
        self.port.validate()?;
        for (name, rate) in [("rate", self.rate), ("token_rate", self.token_rate)] {
            if rate == 0 {
                return Err(Error::Rate(name));
            }
        }
        if let Some(tokens) = &self.tokens {
            tokens.validate()?;
        }
        self.validate_inspect().map_err(Error::Inspect)
    }

    fn validate_inspect(&self) -> Result<(), String> {
        if self.inspect.len() > MOST_NODES {
            return Err(format!(
                "RIVULET_INSPECT_INGEST names {} nodes: {MOST_NODES} at most, because each viewer of /inspect/ has a \
                 connection to every one",
                self.inspect.len()
            ));
        }
        let mut known = Vec::new();
        for text in &self.inspect {
            let node = rivulet_inspect::node(text).map_err(|bad| {
                format!("RIVULET_INSPECT_INGEST: {bad}; /inspect/ would show nothing of that node")
            })?;
            if known.contains(&node) {
                return Err(format!(
                    "RIVULET_INSPECT_INGEST names {node} twice: /inspect/ would show each of its events twice"
                ));
            }
            known.push(node);
        }
        Ok(())
    }
}

/// Serves until `shutdown`, then ends in order: it says that it is not ready, goes on for `shutdown_grace`, takes no
/// new connections, and finishes running requests.
///
/// # Errors
/// It could not start, or cannot go on.
pub async fn serve(
    config: Config,
    pool: PgPool,
    listener: TcpListener,
    operations: impl Into<Operations>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let operations = operations.into();
    serve_with(
        config,
        pool,
        listener,
        operations,
        shutdown,
        Background::new(),
    )
    .await
}

async fn serve_with(
    config: Config,
    pool: PgPool,
    listener: TcpListener,
    operations: Operations,
    shutdown: CancellationToken,
    mut background: Background,
) -> Result<(), Error> {
    config.validate()?;
    let readiness = Readiness::new("api", &["accepting", "registry"]);
    let tokens = match &config.tokens {
        Some(tokens) => {
            let (verifier, refreshing) = Verifier::new(tokens).await?;
            background.spawn("the reader of tokens' keys", refreshing);
            Some(verifier)
        }
        None => None,
    };
    let feeds = Feeds::new(pool.clone(), LIVE_READS, Utc::now);
    let hear = {
        let (feeds, pool) = (Arc::clone(&feeds), pool.clone());
        async move { listen(&pool, &feeds).await }
    };
    background.spawn("the listener for commits", hear);
    let (registry, work) = Registry::new(pool.clone(), config.registry);
    background.spawn("the registry", work);
    // Each stream is a connection. The rest of the connections is for requests.
    let listeners = config.port.max_connections * 3 / 4;
    let nodes = config.inspect.iter();
    let nodes: Vec<_> = nodes
        .filter_map(|node| rivulet_inspect::node(node).ok())
        .collect();
    let inspect = match nodes.is_empty() {
        true => None,
        false => {
            let inspect = Inspect::new(nodes, config.history.clone());
            Some(inspect.map_err(|error| Error::Inspect(error.to_string()))?)
        }
    };
    let app = Arc::new(App {
        registry,
        tokens,
        shares: Shares::of(pool.options().get_max_connections()),
        pool,
        limiter: limiter(config.rate),
        parent_limiter: limiter(config.token_rate),
        feeds,
        exports: Exports::new(config.history),
        inspect,
        listeners: Arc::new(Semaphore::new(listeners.max(1))),
        audit: Arc::default(),
        stopping: shutdown.clone(),
    });
    let audit = rivulet_auditlog::keep(
        Arc::clone(&app.audit),
        app.pool.clone(),
        config.audit_every,
        background.stopping().clone(),
    );
    background.spawn_until_stopped("the audit log", audit);
    let document = config.document.unwrap_or_else(openapi::openapi);
    let port = Port::new(
        "api",
        config.port,
        router(
            Arc::clone(&app),
            readiness.clone(),
            &operations,
            &document,
            config.docs,
            &config.origins,
        ),
        route,
    )?;
    let housekeeping = housekeeping(app, readiness.clone());
    background.spawn("housekeeping", housekeeping);

    readiness.pass("accepting");
    let stop = async {
        shutdown.cancelled().await;
        readiness.fail("accepting", "shutting down");
        tokio::time::sleep(config.shutdown_grace).await;
    };
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = background.ended() => Err(ended.into()),
        never = port.accept(&listener) => match never {},
    };
    readiness.fail("accepting", "shutting down");
    drop(listener);
    port.close().await;
    ended.and(background.stop().await.map_err(Error::from))
}

/// A limit of so many requests a second, by what tells senders apart.
fn limiter<K: Clone + Eq + Hash>(rate: u32) -> Limiter<K> {
    // Validated: not 0.
    let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    Limiter::new(rate, rate.saturating_mul(BURST))
}

async fn housekeeping(app: Arc<App>, readiness: Readiness) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tick.tick().await;
        app.limiter.tidy();
        app.parent_limiter.tidy();
        app.exports.tidy();
        app.shares.tidy();
        match app.registry.check() {
            Ok(()) => readiness.pass("registry"),
            Err(why) => readiness.fail("registry", why),
        }
    }
}

#[cfg(test)]
mod tests {
    use rivulet_telemetry::Metrics;

    use super::*;

    /// Serves beside a task of the test's, without PostgreSQL, for as long as `shutdown` wants.
    async fn served_beside(
        task: impl Future<Output = ()> + Send + 'static,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let mut background = Background::new();
        background.spawn("the test's task", task);
        let served = serve_with(
            Config::default(),
            PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap(),
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
