//! Which path goes where, and what all of them need.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body as HttpBody,
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    routing::{post, put},
};
use rivulet_events::ParentId;
use rivulet_registry::{
    Registry,
    keys::{Origin, Scope},
};
use rivulet_telemetry::{Readiness, operations};
use rivulet_tokens::Verifier;
use rivulet_web::{Limiter, REQUEST_ID};
use sqlx::PgPool;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use crate::{
    Config, admin,
    auth::{self, KeyHash, Sender},
    body::{self, Media},
    budget::{Budget, Held},
    events,
    metrics::Metrics,
    problem::Problem,
    producer::Producer,
    spill::Spill,
};

/// What every request shares.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) producer: Arc<Producer>,
    pub(crate) spill: Option<Arc<Spill>>,
    pub(crate) tokens: Option<Verifier>,
    pub(crate) limiter: Limiter<KeyHash>,
    pub(crate) family_limiter: Limiter<ParentId>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Metrics,
    pub(crate) pool: PgPool,
}

/// A body whose sender was found good.
pub(crate) struct Body {
    pub(crate) sender: Sender,
    pub(crate) media: Media,
    pub(crate) held: Held,
}

impl App {
    /// Checks who sends it, then what the body claims to be, and only then reads it. `accepts` is for
    /// people, and for JSON alone when it names nothing else.
    pub(crate) async fn admit(
        &self,
        parts: &Parts,
        body: HttpBody,
        scope: Scope,
        accepts: &'static str,
    ) -> Result<Body, Problem> {
        let headers = &parts.headers;
        let checked = async {
            let sender = auth::require(self, headers, scope).await?;
            let media = body::media(headers)
                .filter(|media| *media == Media::Json || accepts.contains("ndjson"))
                .ok_or(Problem::UnsupportedMediaType(accepts))?;
            Ok((sender, media, body::encoding(headers)?))
        };
        let (sender, media, encoding) = match checked.await {
            Ok(checked) => checked,
            Err(problem) => {
                if !body::expects_continue(headers) {
                    body::discard(self, body).await;
                }
                return Err(problem);
            }
        };
        let held = body::read(self, body, encoding).await?;
        Ok(Body {
            sender,
            media,
            held,
        })
    }
}

pub(crate) fn router(
    app: Arc<App>,
    readiness: Readiness,
    metrics: rivulet_telemetry::Metrics,
) -> Router {
    let parents = put(admin::put_parent).delete(admin::delete_parent);
    let children = put(admin::put_child).delete(admin::delete_child);
    // The layer answers OPTIONS itself, but only where the method is routed at all.
    let events = post(events::post).options(async || StatusCode::NO_CONTENT);
    let browsers = browsers(&app.config.origins);
    Router::new()
        .route("/v1/events", events.layer(browsers))
        .route("/v1/admin/parents/{id}", parents)
        .route("/v1/admin/children/{id}", children)
        .merge(operations(readiness, metrics))
        .fallback(async || Problem::NotFound("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(rivulet_web::panicked))
        .with_state(app)
}

/// SDKs inside web pages, from wherever these are served or from these origins alone. The key is a
/// header, never a cookie, so a foreign page can do nothing that it could not do without the
/// browser. A preflight has no key: what a key allows is checked when the request itself comes, and
/// the page can read why it was refused.
fn browsers(origins: &[Origin]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins
        .iter()
        // The parser lets nothing through that a header could not hold.
        .filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok())
        .collect();
    let allowed = if origins.is_empty() {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins)
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            HeaderName::from_static("x-sent-at"),
            REQUEST_ID,
            // What a traced page adds by itself; without leave for it the browser would not send at all.
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit-limit"),
            HeaderName::from_static("ratelimit-remaining"),
            HeaderName::from_static("ratelimit-reset"),
            REQUEST_ID,
        ])
        .max_age(Duration::from_secs(3_600))
}
