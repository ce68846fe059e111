//! Connections in, and an orderly end.

use std::{
    convert::Infallible,
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
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use rivulet_telemetry::Span;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    Peer, Problem, RequestId, TlsError, TlsFiles,
    connections::{Connections, Place},
    request_id, tls,
    worded::Worded,
};

/// Bytes of a request's head; more is answered 431. Also what a connection buffers at most.
const CONNECTION_BUFFER: usize = 32 << 10;

/// What a client may hold, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// The certificate of the port, which speaks plain text without it.
    pub tls: Option<TlsFiles>,
    /// Open connections; beyond it new ones wait to be accepted.
    pub max_connections: usize,
    /// Open connections of one address (of one /64, where that is IPv6); beyond it new ones are
    /// closed at once. A load balancer in front is one address.
    pub max_connections_per_address: usize,
    /// How long a TLS handshake may take, and a request's head, the wait for it on an open connection
    /// included.
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer that it is sent.
    pub write_timeout: Duration,
    /// How long running requests may take to finish at shutdown.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls: None,
            max_connections: 2_048,
            max_connections_per_address: 1_024,
            // Above the minute for which load balancers keep idle connections: one of the two must
            // close first, and it had better be the one that sends.
            header_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// A configuration that would break a promise; the text says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

impl Config {
    /// Checks that somebody can be answered.
    ///
    /// # Errors
    /// The first setting that cannot work, with what would go wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let counts = [
            ("max_connections", self.max_connections),
            (
                "max_connections_per_address",
                self.max_connections_per_address,
            ),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            let text = format!("{name} is 0: every request would be refused");
            return Err(InvalidConfig(text));
        }
        let waits = [
            ("header_timeout", self.header_timeout),
            ("write_timeout", self.write_timeout),
        ];
        if let Some((name, _)) = waits.iter().find(|(_, limit)| limit.is_zero()) {
            let text = format!("{name} is 0: every connection would be cut off");
            return Err(InvalidConfig(text));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.reread.is_zero()) {
            let text = "the certificate's reread is 0: it would be read without a pause";
            return Err(InvalidConfig(text.into()));
        }
        Ok(())
    }
}

/// A port of one role.
pub struct Port {
    role: &'static str,
    router: Router,
    route: fn(&str) -> &'static str,
    config: Config,
    connections: Arc<Connections>,
    running: GracefulShutdown,
    /// Ends handshakes, and the look at the certificate.
    stopping: CancellationToken,
    tls: Option<TlsAcceptor>,
}

impl Port {
    /// `route` gives a path the name by which metrics and logs may know it: without ids.
    ///
    /// # Errors
    /// The certificate cannot be served.
    pub fn new(
        role: &'static str,
        config: Config,
        router: Router,
        route: fn(&str) -> &'static str,
    ) -> Result<Self, TlsError> {
        describe();
        let stopping = CancellationToken::new();
        let tls = match config.tls.clone() {
            None => None,
            Some(files) => {
                let (acceptor, reread) = tls::acceptor(role, files)?;
                tokio::spawn(stopping.clone().run_until_cancelled_owned(reread));
                Some(acceptor)
            }
        };
        Ok(Self {
            role,
            router,
            route,
            connections: Connections::new(
                config.max_connections,
                config.max_connections_per_address,
            ),
            config,
            running: GracefulShutdown::new(),
            stopping,
            tls,
        })
    }

    /// Takes connections for as long as it is polled.
    pub async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            let vacancy = self.connections.vacancy().await;
            match listener.accept().await {
                Ok((stream, from)) => match self.connections.take(vacancy, from.ip()) {
                    Some(place) => self.connection(stream, place),
                    None => {
                        counter!("rivulet_http_connections_refused_total", "role" => self.role)
                            .increment(1);
                    }
                },
                // Out of file descriptors, or a connection that is gone already.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Lets running requests finish, for so long as was configured.
    pub async fn close(self) {
        // Handshakes have not asked for anything yet.
        self.stopping.cancel();
        let finished = self.running.shutdown();
        let drained = tokio::time::timeout(self.config.drain_timeout, finished).await;
        if drained.is_err() {
            tracing::warn!(
                connections = self.connections.open(),
                "requests were still running and are cut off"
            );
        }
    }

    fn connection(&self, stream: TcpStream, place: Place) {
        // Answers are one write each; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        // Reading has limits of its own, for a request's head and for its body.
        let peer = Peer::new(stream);
        let mut stream = TimeoutStream::new(peer.clone());
        stream.set_write_timeout(Some(self.config.write_timeout));
        let stream = Box::pin(stream);
        let connection = Connection {
            role: self.role,
            router: self.router.clone(),
            route: self.route,
            peer,
            header_timeout: self.config.header_timeout,
            watcher: self.running.watcher(),
            _open: Open::count(self.role),
            _place: place,
        };
        let Some(tls) = self.tls.clone() else {
            tokio::spawn(connection.http(stream));
            return;
        };
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(connection.header_timeout, tls.accept(stream));
            match stopping.run_until_cancelled(handshake).await {
                Some(Ok(Ok(stream))) => connection.http(stream).await,
                // Plain text, an old version, a certificate that the client refuses, too slow.
                Some(_) => {
                    counter!("rivulet_http_tls_handshakes_failed_total", "role" => connection.role)
                        .increment(1);
                }
                None => {}
            }
        });
    }
}

struct Connection {
    role: &'static str,
    router: Router,
    route: fn(&str) -> &'static str,
    peer: Peer,
    header_timeout: Duration,
    watcher: Watcher,
    _open: Open,
    _place: Place,
}

impl Connection {
    /// HTTP/1.1 alone: HTTP/2 would let one connection hold many requests, where the limits here
    /// count connections.
    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (role, route) = (self.role, self.route);
        let inner = TowerToHyperService::new(self.router);
        let peer = self.peer;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            observed(role, route, inner.clone(), request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Who has asked may stop sending. Whether they are gone is asked of the peer.
            .half_close(true)
            .header_read_timeout(self.header_timeout)
            .max_buf_size(CONNECTION_BUFFER)
            .serve_connection(TokioIo::new(Worded::new(role, stream)), service);
        // A client that went away or was too slow is its own affair.
        let _ = self.watcher.watch(connection).await;
    }
}

/// Counts a connection for as long as it lives.
struct Open(&'static str);

impl Open {
    fn count(role: &'static str) -> Self {
        gauge!("rivulet_http_connections", "role" => role).increment(1.0);
        Self(role)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("rivulet_http_connections", "role" => self.0).decrement(1.0);
    }
}

/// One request with its span. Whoever handles it finds that among the request's extensions.
async fn observed(
    role: &'static str,
    route: fn(&str) -> &'static str,
    inner: TowerToHyperService<Router>,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let route = route(request.uri().path());
    // Probes would be most of what a quiet system traces.
    let span = match route {
        "operations" => None,
        _ => Span::of_request(request.method(), route, request.headers()),
    };
    let Some(span) = span else {
        return counted(role, route, inner, request).await;
    };
    request.extensions_mut().insert(span.clone());
    // Not for a filter to take away: it adds nothing but the id to the lines that are there.
    let lines = tracing::error_span!("request", trace_id = span.trace_id());
    let response = counted(role, route, inner, request)
        .instrument(lines)
        .await?;
    span.answered(response.status(), code(&response));
    Ok(response)
}

/// The code of its problem, if it is one.
fn code(response: &Response) -> &'static str {
    let problem = response.extensions().get::<Problem>();
    problem.map_or("ok", |problem| problem.0)
}

/// One request with its id, its metric and its line in the access log.
async fn counted(
    role: &'static str,
    route: &'static str,
    inner: TowerToHyperService<Router>,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    use hyper::service::Service as _;
    let started = Instant::now();
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let mut response = inner.call(request).await?;
    let took = started.elapsed();
    let code = code(&response);
    counter!("rivulet_http_requests_total", "role" => role, "route" => route, "code" => code)
        .increment(1);
    histogram!("rivulet_http_request_seconds", "role" => role, "route" => route).record(took);
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

fn describe() {
    describe_counter!(
        "rivulet_http_requests_total",
        Unit::Count,
        "Requests by role, route and code: `ok`, or the code of the problem"
    );
    describe_histogram!(
        "rivulet_http_request_seconds",
        Unit::Seconds,
        "From a request's head to its answer, by role and route"
    );
    describe_gauge!("rivulet_http_connections", Unit::Count, "Open connections");
    describe_counter!(
        "rivulet_http_connections_refused_total",
        Unit::Count,
        "Connections closed at once because their address had as many as one may have"
    );
    describe_counter!(
        "rivulet_http_tls_handshakes_failed_total",
        Unit::Count,
        "TLS handshakes that came to nothing: plain text, an old version, a certificate refused, too slow"
    );
    describe_gauge!(
        "rivulet_http_tls_certificate_stale",
        Unit::Count,
        "1 while the certificate's files hold a pair that cannot be served, and the one before is"
    );
}
