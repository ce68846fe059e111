//! `/healthz`, `/readyz` and `/metrics`.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use parking_lot::Mutex;
use serde::Serialize;

use crate::Metrics;
use crate::metrics::READY;

type Checks = BTreeMap<&'static str, Result<(), Cow<'static, str>>>;

/// The checks that must hold before a role can do its work, and which of them fail now.
///
/// Every check fails until it passed once: a role that never looked is not ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    role: &'static str,
    checks: Arc<Mutex<Checks>>,
}

impl Readiness {
    /// A role with these checks, which all fail at first. Create it after the metrics are installed, because the checks
    /// are metrics too.
    #[must_use]
    pub fn new(role: &'static str, checks: &[&'static str]) -> Self {
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
        READY.with([self.role, name]).set(ready);
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

/// What a process tells those who run it: whether its roles are alive, whether they can do their work, and its
/// metrics.
///
/// Each role serves its own health on its own port, with all metrics of the process. If there is a separate
/// [listener](Self::apart) for the operator, that serves the health of all roles, and the roles' own ports have no
/// metrics.
#[derive(Clone, Debug)]
pub struct Operations {
    metrics: Metrics,
    apart: Option<Arc<Roles>>,
}

#[derive(Debug)]
struct Roles {
    expected: Vec<&'static str>,
    started: Mutex<BTreeMap<&'static str, Readiness>>,
}

impl From<Metrics> for Operations {
    /// On the port of each role.
    fn from(metrics: Metrics) -> Self {
        let apart = None;
        Self { metrics, apart }
    }
}

impl Operations {
    /// On a separate listener, for these roles. None of them is ready before it was started.
    #[must_use]
    pub fn apart(metrics: Metrics, expected: &[&'static str]) -> Self {
        let roles = Roles {
            expected: expected.to_vec(),
            started: Mutex::default(),
        };
        Self {
            metrics,
            apart: Some(Arc::new(roles)),
        }
    }

    /// On a separate listener, for a role that has no port of its own.
    #[must_use]
    pub fn alone(metrics: Metrics, readiness: Readiness) -> Self {
        let operations = Self::apart(metrics, &[readiness.role]);
        operations.start(&readiness);
        operations
    }

    fn start(&self, readiness: &Readiness) {
        if let Some(roles) = &self.apart {
            let mut started = roles.started.lock();
            started.insert(readiness.role, readiness.clone());
        }
    }

    /// The routes on the port of a role. Liveness never depends on another service.
    pub fn of_role<S: Clone + Send + Sync + 'static>(&self, readiness: Readiness) -> Router<S> {
        self.start(&readiness);
        let router = health(move || (readiness.is_ready(), readiness.report()));
        match self.apart {
            None => router.merge(exposition(self.metrics.clone())),
            Some(_) => router,
        }
    }

    /// The routes of the separate listener. If there are several roles, their checks are named `role.check`.
    pub fn of_process<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let roles = self.apart.clone();
        let report = move || match &roles {
            Some(roles) => roles.report(),
            None => (false, BTreeMap::new()),
        };
        health(report).merge(exposition(self.metrics.clone()))
    }
}

impl Roles {
    fn report(&self) -> (bool, BTreeMap<String, String>) {
        let started = self.started.lock();
        let (mut ready, mut report) = (true, BTreeMap::new());
        for role in &self.expected {
            let Some(readiness) = started.get(role) else {
                ready = false;
                report.insert((*role).to_owned(), "not started yet".to_owned());
                continue;
            };
            ready &= readiness.is_ready();
            for (check, state) in readiness.report() {
                let name = match self.expected.len() {
                    1 => check.to_owned(),
                    _ => format!("{role}.{check}"),
                };
                report.insert(name, state);
            }
        }
        (ready, report)
    }
}

/// Of what tells whether it is ready, and why not.
fn health<S: Clone + Send + Sync + 'static, R: Serialize + 'static>(
    report: impl Fn() -> (bool, R) + Clone + Send + Sync + 'static,
) -> Router<S> {
    let ready = move || async move {
        let (ready, report) = report();
        let status = match ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(report)).into_response()
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

fn exposition<S: Clone + Send + Sync + 'static>(metrics: Metrics) -> Router<S> {
    const TEXT: [(HeaderName, &str); 1] = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let exposition = move || async move { (TEXT, metrics.render()) };
    Router::new().route("/metrics", get(exposition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_each_of_its_roles_is() {
        let roles = Roles {
            expected: vec!["one", "other"],
            started: Mutex::default(),
        };
        let start = |role: &'static str| {
            let readiness = Readiness::new(role, &["kafka"]);
            roles.started.lock().insert(role, readiness.clone());
            readiness
        };
        let one = start("one");
        one.pass("kafka");
        let (ready, report) = roles.report();
        assert!(!ready && report["other"] == "not started yet", "{report:?}");
        let other = start("other");
        let (ready, report) = roles.report();
        assert!(!ready && report["one.kafka"] == "ok", "{report:?}");
        assert_eq!(report["other.kafka"], "not checked yet");
        other.pass("kafka");
        assert!(roles.report().0);
        one.fail("kafka", "gone");
        assert!(!roles.report().0);
    }
}
