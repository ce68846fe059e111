//! A page to try what the OpenAPI document describes. Nothing of it comes from elsewhere.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use utoipa_swagger_ui::Config;

use rivulet_web::tagged;

use crate::{page::Name, problem::Problem};

const NO_FILE: Problem = Problem::NotFound("there is nothing at this path");

/// Only what is served here runs, and nobody frames it. Requests may go anywhere: where ingest listens
/// is typed in by who tries it. Swagger UI has styles and icons inside its page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self' http: https:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `/docs/`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let config = Config::from("../openapi.json")
        .use_base_layout()
        .try_it_out_enabled(true)
        .default_models_expand_depth(0)
        // Otherwise the page would send the document to a stranger's validator.
        .validator_url("none");
    let config = Arc::new(config);
    let index = Arc::clone(&config);
    Router::new()
        .route("/docs", get(async || Redirect::permanent("docs/")))
        .route(
            "/docs/",
            get(async move |asked: HeaderMap| file("index.html", index, &asked)),
        )
        .route(
            "/docs/{*file}",
            get(async move |path: Name, asked: HeaderMap| match path {
                Ok(Path(path)) => file(&path, config, &asked),
                Err(_) => NO_FILE.into_response(),
            }),
        )
}

fn file(path: &str, config: Arc<Config<'static>>, asked: &HeaderMap) -> Response {
    let file = match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => file,
        Ok(None) => return NO_FILE.into_response(),
        Err(error) => {
            tracing::error!(%error, "the page to try the API cannot be written");
            return rivulet_web::internal();
        }
    };
    let mut response = tagged(asked, &file.content_type, file.bytes.into_owned());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
