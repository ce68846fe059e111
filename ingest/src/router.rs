//! Which handler each path has, and the layers that all of them need.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::{any, get, post, put},
};
use rivulet_registry::keys::Origin;
use rivulet_telemetry::{Operations, Readiness};
use rivulet_web::browsers;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;

use crate::{
    admin,
    audit::audited,
    body, client_config, events,
    problem::Problem,
    state::{App, NOTHING_KEPT},
    tail,
};

pub(crate) fn router(
    app: Arc<App>,
    readiness: Readiness,
    operations: &Operations,
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
    let pages = |method, headers: &[HeaderName]| {
        let origins = app.config.origins.iter().map(Origin::as_str);
        browsers(origins, method, headers, &[])
    };
    let catch_panics = || CatchPanicLayer::custom(rivulet_web::panicked as fn(_) -> _);
    let events = events.layer::<_, Infallible>(catch_panics()).layer(pages(
        Method::POST,
        &[
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            HeaderName::from_static("x-sent-at"),
        ],
    ));
    let config = get(client_config::get)
        .options(async || StatusCode::NO_CONTENT)
        .layer::<_, Infallible>(catch_panics())
        .layer(pages(Method::GET, &[]));
    // Whatever is below /v1/admin is audited, where there is an audit log.
    let mut admin = Router::new()
        .route("/v1/admin/parents/{id}", parents)
        .route("/v1/admin/parents/{id}/consents", get(admin::get_consents))
        .route("/v1/admin/children/{id}", children)
        .route("/v1/admin/erasures/{id}", get(admin::get_erasure));
    if app.config.inspect {
        admin = admin.route("/v1/admin/tail", get(tail::get));
    }
    let admin = match app.stores {
        Some(_) => admin.route_layer(from_fn_with_state(Arc::clone(&app), audited)),
        None => Router::new().route(
            "/v1/admin/{*rest}",
            any(async |State(app): State<Arc<App>>, request: Request| {
                refused(&app, request, NOTHING_KEPT).await
            }),
        ),
    };
    Router::new()
        .route("/v1/events", events)
        .route("/v1/config", config)
        .merge(admin)
        .merge(operations.of_role(readiness))
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

/// Answers a request for something that is not served. Within the API only a client with a good credential is told so,
/// as it is with everything else about the API.
async fn refused(app: &App, request: Request, problem: Problem) -> Response {
    let (parts, body) = request.into_parts();
    let problem = match parts.uri.path().starts_with("/v1/") {
        true => app
            .open_request(&parts, None)
            .await
            .err()
            .unwrap_or(problem),
        false => problem,
    };
    if !body::expects_continue(&parts.headers) {
        app.discard(&parts, body).await;
    }
    problem.into_response()
}
