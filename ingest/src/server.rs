//! Connections in, and an orderly end.

use std::{
    convert::Infallible,
    io,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use metrics::{counter, gauge};
use rdkafka::error::KafkaError;
use rivulet_kafka::Cluster;
use rivulet_registry::Registry;
use rivulet_telemetry::Readiness;
use rivulet_tokens::{SourceError, Verifier};
use sqlx::PgPool;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, InvalidConfig, TlsError,
    budget::Budget,
    connections::{Connections, Place},
    limit::Limiter,
    metrics::Metrics,
    problem::ProblemCode,
    producer::Producer,
    request_id::{self, RequestId},
    router::{App, router},
    spill::Spill,
    tls,
};

/// Bytes of a request's head; more is answered 431. Also what a connection buffers at most.
const CONNECTION_BUFFER: usize = 32 << 10;

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
    /// The idempotent producer lost its place; a new process gets a new one.
    #[error("the Kafka producer met an error that only a restart repairs")]
    ProducerFatal,
}

/// Serves until `shutdown`, then ends in order: not ready, a grace, no new connections, running
/// requests finished, the producer flushed.
///
/// # Errors
/// It could not start, or the producer cannot go on and the process must be restarted.
pub async fn serve(
    config: Config,
    cluster: Cluster,
    pool: PgPool,
    listener: TcpListener,
    metrics: rivulet_telemetry::Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.validate()?;
    let readiness = Readiness::new(&["accepting", "kafka", "registry"]);
    let background = CancellationToken::new();
    let _stop_background = background.clone().drop_guard();
    let tls = match config.tls.clone() {
        None => None,
        Some(files) => {
            let (acceptor, reread) = tls::acceptor(files)?;
            tokio::spawn(background.clone().run_until_cancelled_owned(reread));
            Some(acceptor)
        }
    };
    let fatal = CancellationToken::new();
    let producer = Arc::new(Producer::new(&config, &cluster, fatal.clone())?);
    let spill = match config.spill.clone() {
        None => None,
        Some(spill) => {
            let open = tokio::task::spawn_blocking(move || Spill::open(&spill));
            Some(Arc::new(open.await.map_err(io::Error::from)??))
        }
    };
    producer.watch(spill.clone(), readiness.clone(), background.clone())?;
    let stop_draining = background.child_token();
    let draining = spill
        .clone()
        .map(|spill| tokio::spawn(spill.drain(Arc::clone(&producer), stop_draining.clone())));
    let tokens = match &config.tokens {
        Some(tokens) => Some(Verifier::start(tokens, background.clone()).await?),
        None => None,
    };
    let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    let app = Arc::new(App {
        registry: Registry::start(pool.clone(), config.registry, background.clone()),
        producer: Arc::clone(&producer),
        spill: spill.clone(),
        tokens,
        limiter: Limiter::new(number(config.rate), number(config.burst)),
        family_limiter: Limiter::new(number(config.token_rate), number(config.token_burst)),
        budget: Arc::new(Budget::new(config.max_bytes_in_flight)),
        metrics: Metrics::new(),
        pool,
        config,
    });
    let config = &app.config;
    let connections = Connections::new(config.max_connections, config.max_connections_per_address);
    let stopping = background.child_token();
    let look_after = housekeeping(
        Arc::clone(&app),
        readiness.clone(),
        Arc::clone(&connections),
    );
    tokio::spawn(background.run_until_cancelled_owned(look_after));
    let server = Server {
        router: router(Arc::clone(&app), readiness.clone(), metrics),
        running: GracefulShutdown::new(),
        stopping,
        tls,
        header_timeout: config.header_timeout,
        write_timeout: config.write_timeout,
    };

    readiness.pass("accepting");
    let stop = async {
        shutdown.cancelled().await;
        readiness.fail("accepting", "shutting down");
        tokio::time::sleep(config.shutdown_grace).await;
    };
    let ended = tokio::select! {
        () = stop => Ok(()),
        () = fatal.cancelled() => Err(Error::ProducerFatal),
        never = server.accept(&listener, &connections) => match never {},
    };
    readiness.fail("accepting", "shutting down");
    stop_draining.cancel();
    drop(listener);
    // Handshakes have not asked for anything yet.
    server.stopping.cancel();
    let drained = tokio::time::timeout(config.drain_timeout, server.running.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(
            connections = connections.open(),
            "requests were still running and are cut off"
        );
    }
    // Every answered request has its acknowledgements; what is left belongs to clients that went
    // away. librdkafka gives up on it by itself after message_timeout.
    let limit = config.message_timeout;
    let left = tokio::task::spawn_blocking(move || producer.flush(limit)).await;
    match left {
        Ok(0) => tracing::info!("every record was delivered"),
        Ok(left) => tracing::warn!(
            records = left,
            "records were not delivered; no answer said that Kafka has them"
        ),
        Err(error) => tracing::warn!(%error, "the producer was not flushed"),
    }
    if let (Some(spill), Some(draining)) = (spill, draining) {
        // The batch under way has its acknowledgements by now, or never gets them.
        let _ = draining.await;
        match spill.close().await {
            0 => tracing::info!("the spill is empty"),
            left => tracing::warn!(
                records = left,
                "accepted records stay in the spill; the next start with it brings them to Kafka"
            ),
        }
    }
    ended
}

struct Server {
    router: Router,
    running: GracefulShutdown,
    stopping: CancellationToken,
    tls: Option<TlsAcceptor>,
    header_timeout: Duration,
    write_timeout: Duration,
}

impl Server {
    async fn accept(&self, listener: &TcpListener, connections: &Arc<Connections>) -> Infallible {
        loop {
            let vacancy = connections.vacancy().await;
            match listener.accept().await {
                Ok((stream, from)) => match connections.take(vacancy, from.ip()) {
                    Some(place) => self.connection(stream, place),
                    None => counter!("rivulet_ingest_connections_refused_total").increment(1),
                },
                // Out of file descriptors, or a connection that is gone already.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream, place: Place) {
        // Answers are one write each; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        // Reading has limits of its own, for a request's head and for its body.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.write_timeout));
        let stream = Box::pin(stream);
        let (router, header_timeout) = (self.router.clone(), self.header_timeout);
        let watcher = self.running.watcher();
        let Some(tls) = self.tls.clone() else {
            tokio::spawn(http(stream, router, header_timeout, watcher, place));
            return;
        };
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(header_timeout, tls.accept(stream));
            match stopping.run_until_cancelled(handshake).await {
                Some(Ok(Ok(stream))) => http(stream, router, header_timeout, watcher, place).await,
                // Plain text, an old version, a certificate that the client refuses, too slow.
                Some(_) => counter!("rivulet_ingest_tls_handshakes_failed_total").increment(1),
                None => {}
            }
        });
    }
}

/// HTTP/1.1 alone: a batch is one request, so there is nothing to interleave, and HTTP/2 would
/// let one connection hold many requests where the limits here count connections.
async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    header_timeout: Duration,
    watcher: Watcher,
    place: Place,
) {
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |request| observed(inner.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(CONNECTION_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    // A client that went away or was too slow is its own affair.
    let _ = watcher.watch(connection).await;
    drop(place);
}

/// One request with its id, its metric and its line in the access log.
async fn observed(
    inner: TowerToHyperService<Router>,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    use hyper::service::Service as _;
    let started = Instant::now();
    let route = route(request.uri().path());
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let mut response = inner.call(request).await?;
    let took = started.elapsed();
    let code = response.extensions().get::<ProblemCode>();
    let code = code.map_or("ok", |code| code.0);
    Metrics::request(route, code, took);
    tracing::debug!(
        request_id = request_id.loggable(),
        route,
        status = response.status().as_u16(),
        code,
        milliseconds = took.as_secs_f64() * 1e3,
        "answered"
    );
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, request_id.header());
    Ok(response)
}

/// A path as metrics and logs may know it: without ids.
fn route(path: &str) -> &'static str {
    match path {
        "/v1/events" => "events",
        "/healthz" | "/readyz" | "/metrics" => "operations",
        path if path.starts_with("/v1/admin/") => "admin",
        _ => "other",
    }
}

async fn housekeeping(app: Arc<App>, readiness: Readiness, connections: Arc<Connections>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    for round in 0u64.. {
        tick.tick().await;
        match app.registry.age() {
            Some(age) if age <= app.config.registry.max_stale => readiness.pass("registry"),
            Some(_) => readiness.fail("registry", "cut off from PostgreSQL for too long"),
            None => readiness.fail("registry", "PostgreSQL was never reached"),
        }
        gauge!("rivulet_ingest_in_flight_bytes").set(app.budget.held() as f64);
        gauge!("rivulet_ingest_connections").set(connections.open() as f64);
        if let Some(spill) = &app.spill {
            spill.observe();
        }
        if round % TIDY_ROUNDS == TIDY_ROUNDS - 1 {
            app.limiter.tidy();
            app.family_limiter.tidy();
        }
    }
}
