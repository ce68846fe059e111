//! `/healthz`, `/readyz` and `/metrics`.

use std::{borrow::Cow, collections::BTreeMap, io, sync::Arc};

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics::{Unit, describe_gauge, gauge};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Metrics;

type Checks = BTreeMap<&'static str, Result<(), Cow<'static, str>>>;

/// What a role needs before it can do its work, and which of it is missing now.
///
/// Every check fails until it passed once: a role that never looked is not ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    role: &'static str,
    checks: Arc<Mutex<Checks>>,
}

impl Readiness {
    /// A role with these checks, all failing. Create it after the metrics are installed, which tell of
    /// them too.
    #[must_use]
    pub fn new(role: &'static str, checks: &[&'static str]) -> Self {
        describe_gauge!(
            "rivulet_ready",
            Unit::Count,
            "1 while what the role needs is there, 0 while it is not, by role and check: as `/readyz`"
        );
        let this = Self {
            role,
            checks: Arc::default(),
        };
        for check in checks {
            this.fail(check, "not checked yet");
        }
        this
    }

    /// The check holds now.
    pub fn pass(&self, name: &'static str) {
        self.set(name, Ok(()));
    }

    /// The check does not hold, and why. The reason is shown to anybody who asks `/readyz`.
    pub fn fail(&self, name: &'static str, reason: impl Into<Cow<'static, str>>) {
        self.set(name, Err(reason.into()));
    }

    fn set(&self, name: &'static str, state: Result<(), Cow<'static, str>>) {
        let ready = f64::from(u8::from(state.is_ok()));
        gauge!("rivulet_ready", "role" => self.role, "check" => name).set(ready);
        self.checks.lock().insert(name, state);
    }

    /// Whether every check holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.lock().values().all(Result::is_ok)
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
        self.checks.lock().iter().map(text).collect()
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
