//! `GET /v1/config`: what an SDK asks when it starts, and now and then.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use rivulet_registry::keys::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{described::OfConfig, problem::Problem, state::App};

/// How long a request waits for its turn to ask PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to send events to this server.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "enabled": true, "max_events": 1000, "max_event_bytes": 65536, "flush_interval_s": 30,
    "consents": {"coppa": true, "audio": true, "analytics": false},
}))]
pub(crate) struct ClientConfig {
    /// `false`: the operator asks every client to send nothing for now, and to keep what it has.
    enabled: bool,
    /// Events a request, at most.
    max_events: usize,
    /// Bytes of the JSON of one event, at most.
    max_event_bytes: usize,
    /// Seconds to gather events before they are sent.
    flush_interval_s: u64,
    /// With a client token, what the family consented to, all `false` where it is not registered any more; null with an API
    /// key.
    #[schema(required = true)]
    consents: Option<Consents>,
}

/// What a family consented to. What is not granted need not be gathered: it would be refused.
#[derive(Serialize, ToSchema)]
// `Consents` are the ones that a product declares.
#[schema(as = FamilyConsents)]
struct Consents {
    /// Any events at all.
    coppa: bool,
    /// Speech events.
    audio: bool,
    /// The history for analysts.
    analytics: bool,
}

/// How to send events
///
/// For SDKs, when they start and now and then: whether to send, the limits of a request, and with a client token what the
/// family consented to. It costs one token of the rate limit.
#[utoipa::path(
    get,
    path = "/v1/config",
    operation_id = "get_config",
    tag = "events",
    responses((status = 200, description = "As it is now", body = ClientConfig), OfConfig),
    security(("key" = ["ingest"]), ("token" = [])),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, parts: Parts) -> Response {
    match config(&app, &parts).await {
        Ok(config) => {
            // It is of the moment, and of whoever asks.
            let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            ([no_store], axum::Json(config)).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn config(app: &App, parts: &Parts) -> Result<ClientConfig, Problem> {
    let request = app.open_request(parts, Some(Scope::Ingest)).await?;
    let consents = match request.sender.family() {
        None => None,
        Some(parent) => {
            let unavailable = || {
                Problem::Unavailable(
                    "what the family consented to cannot be read now",
                    app.config.retry_after,
                )
            };
            // However many devices start at once, they leave connections to those who post events.
            let turn = tokio::time::timeout(PATIENCE, app.config_turns.acquire()).await;
            let _turn = turn
                .map_err(|_| unavailable())?
                .map_err(|_| unavailable())?;
            let granted = app.registry.granted(parent);
            let [coppa, audio, analytics] = granted.await.map_err(|_| unavailable())?;
            Some(Consents {
                coppa,
                audio,
                analytics,
            })
        }
    };
    Ok(ClientConfig {
        enabled: app.config.clients_enabled,
        max_events: app.config.max_events,
        max_event_bytes: app.config.max_event_bytes,
        flush_interval_s: app.config.flush_interval.as_secs(),
        consents,
    })
}
