//! `/healthz`, `/readyz` and `/metrics`.

use std::{borrow::Cow, collections::BTreeMap, io, sync::Arc};

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Metrics;

type Checks = BTreeMap<&'static str, Result<(), Cow<'static, str>>>;

/// What a role needs before it can do its work, and which of it is missing now.
///
/// Every check fails until it passed once: a role that never looked is not ready.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Checks>>);

impl Readiness {
    /// A role with these checks, all failing.
    #[must_use]
    pub fn new(checks: &[&'static str]) -> Self {
        let waiting = |name: &&'static str| (*name, Err(Cow::Borrowed("not checked yet")));
        Self(Arc::new(Mutex::new(checks.iter().map(waiting).collect())))
    }

    /// The check holds now.
    pub fn pass(&self, name: &'static str) {
        self.0.lock().insert(name, Ok(()));
    }

    /// The check does not hold, and why. The reason is shown to anybody who asks `/readyz`.
    pub fn fail(&self, name: &'static str, reason: impl Into<Cow<'static, str>>) {
        self.0.lock().insert(name, Err(reason.into()));
    }

    /// Whether every check holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().values().all(Result::is_ok)
    }

    fn report(&self) -> BTreeMap<&'static str, String> {
        let text = |(name, state): (&&'static str, &Result<(), Cow<'static, str>>)| {
            (
                *name,
                state
                    .as_ref()
                    .map_or_else(ToString::to_string, |()| "ok".to_owned()),
            )
        };
        self.0.lock().iter().map(text).collect()
    }
}

/// The routes every role serves. Liveness never depends on another service.
pub fn operations<S: Clone + Send + Sync + 'static>(
    readiness: Readiness,
    metrics: Metrics,
) -> Router<S> {
    let ready = move || async move {
        let status = if readiness.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (status, Json(readiness.report())).into_response()
    };
    let exposition = move || async move {
        (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            metrics.render(),
        )
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
}

/// Serves the operations routes of a role that has no other port, until cancelled.
///
/// # Errors
/// The listener broke.
pub async fn serve_operations(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, operations(readiness, metrics))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}
