//! The OpenAPI document, and a page to try what it describes. Nothing of it comes from elsewhere.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::Path,
    http::header,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use crate::problem::Problem;

/// Only what is served here runs, and nobody frames it. Requests may go anywhere: where ingest listens
/// is typed in by who tries it. Swagger UI has styles and icons inside its page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self' http: https:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `/openapi.json` and `/docs/`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(document: OpenApi) -> Router<S> {
    let document = Arc::new(document);
    let config = Config::from("../openapi.json")
        .use_base_layout()
        .try_it_out_enabled(true)
        .default_models_expand_depth(0)
        // Otherwise the page would send the document to a stranger's validator.
        .validator_url("none");
    let config = Arc::new(config);
    let index = Arc::clone(&config);
    Router::new()
        .route("/openapi.json", get(async move || Json(document)))
        .route("/docs", get(async || Redirect::permanent("docs/")))
        .route("/docs/", get(async move || file("index.html", index)))
        .route(
            "/docs/{*file}",
            get(async move |Path(path): Path<String>| file(&path, config)),
        )
}

fn file(path: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => (
            [
                (header::CONTENT_TYPE, file.content_type.as_str()),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
            ],
            file.bytes.into_owned(),
        )
            .into_response(),
        Ok(None) => Problem::NotFound("there is nothing at this path").into_response(),
        Err(error) => {
            tracing::error!(%error, "the page to try the API cannot be written");
            rivulet_web::internal()
        }
    }
}
