//! What [`Operations`](crate::Operations) serves, as OpenAPI describes it.

#![expect(
    dead_code,
    reason = "the functions are there for what their attributes say"
)]

use utoipa::OpenApi as _;

#[derive(utoipa::OpenApi)]
#[openapi(paths(healthz, readyz, metrics))]
struct Operations;

/// The document of `/healthz`, `/readyz` and `/metrics`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Operations::openapi()
}

/// Is it alive?
///
/// Depends on no other service.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()), responses(
    (status = 200, description = "It is", body = String, content_type = "text/plain", example = "ok\n"),
))]
fn healthz() {}

/// Can it do its work now?
///
/// What it needs for that by name, each `ok` or why not.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()), responses(
    (status = 200, description = "It can", body = BTreeMap<String, String>,
     example = json!({"accepting": "ok", "registry": "ok"})),
    (status = 503, description = "It cannot", body = BTreeMap<String, String>,
     example = json!({"accepting": "ok", "registry": "PostgreSQL was never reached"})),
))]
fn readyz() {}

/// Metrics, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "operations", security(()), responses(
    (status = 200, description = "In Prometheus's text format", body = String,
     content_type = "text/plain"),
))]
fn metrics() {}
