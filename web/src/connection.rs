//! One connection, and the requests on it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::Watcher,
    service::TowerToHyperService,
};
use rivulet_telemetry::Span;
use serde_json::Map;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::metrics::{
    CONNECTIONS, CONNECTIONS_EVICTED, REQUEST_SECONDS, REQUESTS, TLS_HANDSHAKES_FAILED,
};
use crate::{
    Hold, Peer, Problem, RequestId, connections::Slot, document, request_id, seconds,
    worded::Worded,
};

/// Bytes of a request's head; more is answered 431. Also what a connection buffers at most of what it is sent.
pub const CONNECTION_BUFFER: usize = 32 << 10;

/// How long a client that was refused because all slots are busy should wait before it tries again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// A connection with its slot.
pub(crate) struct Connection {
    pub(crate) requests: Requests,
    pub(crate) peer: Peer,
    pub(crate) header_timeout: Duration,
    pub(crate) watcher: Watcher,
    pub(crate) slot: Slot,
    pub(crate) _open: Open,
}

/// What handles the requests of a port.
#[derive(Clone)]
pub(crate) struct Requests {
    pub(crate) role: &'static str,
    pub(crate) inner: TowerToHyperService<Router>,
    pub(crate) route: fn(&str) -> &'static str,
    /// Set for a connection that came when all slots were busy: it is answered only when it asks for the role's
    /// health, and refused otherwise.
    pub(crate) only_health: bool,
}

impl Connection {
    /// Serves the requests until the connection ends, or is closed for a new one.
    pub(crate) async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            requests,
            peer,
            header_timeout,
            watcher,
            slot,
            _open,
        } = self;
        let role = requests.role;
        let http = watcher.watch(http(requests, peer, header_timeout, &slot, stream));
        tokio::select! {
            // It does not matter here that a client went away or was too slow.
            _ = http => {}
            () = slot.evicted() => evicted(role),
        }
    }

    /// The same after a TLS handshake, which `stopping` ends.
    pub(crate) async fn serve_tls(
        self,
        tls: TlsAcceptor,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        stopping: CancellationToken,
    ) {
        let role = self.requests.role;
        let handshake = tokio::time::timeout(self.header_timeout, tls.accept(stream));
        let stream = tokio::select! {
            shaken = handshake => shaken,
            () = self.slot.evicted() => return evicted(role),
            // The client has not sent a request yet.
            () = stopping.cancelled() => return,
        };
        match stream {
            Ok(Ok(stream)) => self.serve(stream).await,
            // Plain text, an old version, a certificate that the client refuses, too slow.
            _ => TLS_HANDSHAKES_FAILED.with([role]).increment(1),
        }
    }
}

fn evicted(role: &'static str) {
    CONNECTIONS_EVICTED.with([role]).increment(1);
}

/// HTTP/1.1 alone: HTTP/2 would let one connection hold many requests, where the limits here count
/// connections.
fn http(
    requests: Requests,
    peer: Peer,
    header_timeout: Duration,
    slot: &Slot,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    let role = requests.role;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let hold = slot.hold();
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(hold.clone());
        requests.clone().observed(request, hold)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        // A client may close its sending side after its request. `Peer` finds out whether it is gone.
        .half_close(true)
        .header_read_timeout(header_timeout)
        .max_buf_size(CONNECTION_BUFFER)
        // The buffer by itself is no limit: what fills it may be a head and more.
        .max_header_size(CONNECTION_BUFFER)
        .serve_connection(TokioIo::new(Worded::new(role, stream)), service)
}

impl Requests {
    /// Handles one request within its span. The handler finds the span among the request's extensions.
    async fn observed(
        self,
        mut request: Request<Incoming>,
        hold: Hold,
    ) -> Result<Response, Infallible> {
        let route = (self.route)(request.uri().path());
        // Probes would be most of what a quiet system traces.
        let span = match route {
            "operations" => None,
            _ => Span::of_request(request.method(), route, request.headers()),
        };
        let Some(span) = span else {
            return self.counted(route, request, hold).await;
        };
        request.extensions_mut().insert(span.clone());
        // This has the highest level, so that no filter removes it. It adds no lines, only the id to lines that are
        // there.
        let lines = tracing::error_span!("request", trace_id = span.trace_id());
        let response = self.counted(route, request, hold).instrument(lines).await?;
        span.answered(response.status(), code(&response));
        Ok(response)
    }

    /// One request with its id, its metric and its line in the access log.
    async fn counted(
        self,
        route: &'static str,
        mut request: Request<Incoming>,
        hold: Hold,
    ) -> Result<Response, Infallible> {
        let started = Instant::now();
        let request_id = RequestId::of(request.headers());
        request.extensions_mut().insert(request_id.clone());
        let mut response = match self.only_health && !is_health(request.uri().path()) {
            true => full(),
            false => self.inner.call(request).await?,
        };
        let took = started.elapsed();
        let (role, code) = (self.role, code(&response));
        REQUESTS.with([role, route, code]).increment(1);
        REQUEST_SECONDS.with([role, route]).record(took);
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
        if self.only_health {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(match hold.is_kept() {
            true => response.map(|body| Body::new(Kept { body, hold })),
            false => response,
        })
    }
}

fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// The answer to a client that came when all slots were busy.
fn full() -> Response {
    let mut response = document(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "every connection that this server may have is at work",
        Map::new(),
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, seconds(FULL_RETRY));
    response
}

/// The code of the problem, if the response is one, else `ok`.
fn code(response: &Response) -> &'static str {
    let problem = response.extensions().get::<Problem>();
    problem.map_or("ok", |problem| problem.0)
}

/// An answer that keeps its connection until its last byte is with the operating system.
struct Kept {
    body: Body,
    hold: Hold,
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let hold = self.hold.clone();
        let kept = |bytes| Bytes::from_owner(Part { bytes, _hold: hold });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(kept))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Part {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts a connection for as long as it lives.
pub(crate) struct Open(&'static str);

impl Open {
    pub(crate) fn count(role: &'static str) -> Self {
        CONNECTIONS.with([role]).increment(1.0);
        Self(role)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        CONNECTIONS.with([self.0]).decrement(1.0);
    }
}
