//! Which path goes where, and what all of them need.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body as HttpBody,
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{post, put},
};
use rivulet_events::ParentId;
use rivulet_registry::{
    Registry,
    keys::{Origin, Scope},
};
use rivulet_telemetry::{Readiness, operations};
use rivulet_tokens::Verifier;
use rivulet_web::{Limiter, browsers};
use sqlx::PgPool;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;

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
    document: &OpenApi,
) -> Router {
    let parents = put(admin::put_parent)
        .get(admin::get_parent)
        .delete(admin::delete_parent);
    let children = put(admin::put_child)
        .get(admin::get_child)
        .delete(admin::delete_child);
    // The layer answers OPTIONS itself, but only where the method is routed at all.
    let events = post(events::post).options(async || StatusCode::NO_CONTENT);
    // SDKs inside web pages, from wherever these are served or from the operator's origins alone. A
    // preflight has no key: what a key allows is checked when the request itself comes, and the page can
    // read why it was refused.
    let pages = browsers(
        app.config.origins.iter().map(Origin::as_str),
        Method::POST,
        &[
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            HeaderName::from_static("x-sent-at"),
        ],
        &[],
    );
    let catch_panics = || CatchPanicLayer::custom(rivulet_web::panicked as fn(_) -> _);
    let events = events.layer::<_, Infallible>(catch_panics()).layer(pages);
    Router::new()
        .route("/v1/events", events)
        .route("/v1/admin/parents/{id}", parents)
        .route("/v1/admin/children/{id}", children)
        .merge(operations(readiness, metrics))
        .merge(rivulet_web::openapi::route(document))
        .fallback(async |State(app): State<Arc<App>>, request: Request| {
            refused(
                &app,
                request,
                Problem::NotFound("there is nothing at this path"),
            )
            .await
        })
        .method_not_allowed_fallback(async |State(app): State<Arc<App>>, request: Request| {
            refused(&app, request, Problem::MethodNotAllowed).await
        })
        .layer(catch_panics())
        .with_state(app)
}

/// What is not served. Within the API that is told to those whose credential is good, like everything
/// else about it.
async fn refused(app: &App, request: Request, problem: Problem) -> Response {
    let (parts, body) = request.into_parts();
    let problem = match parts.uri.path().starts_with("/v1/") {
        true => auth::sender(app, &parts.headers)
            .await
            .err()
            .unwrap_or(problem),
        false => problem,
    };
    if !body::expects_continue(&parts.headers) {
        body::discard(app, body).await;
    }
    problem.into_response()
}
