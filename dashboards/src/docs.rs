//! A page for trying what the OpenAPI document describes. All of its files are served here.

use std::sync::{Arc, LazyLock};

use axum::{Router, http::header, response::Redirect, routing::get};
use utoipa_swagger_ui::Config;

use crate::folder::{File, Folder};

/// Only scripts that are served here run, and no page may frame this one. Requests may go anywhere, because the user
/// types in where ingest listens. Swagger UI has styles and icons inside its page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self' http: https:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// What the page is made of. Swagger UI has more, for other ways to serve it.
const FILES: [&str; 8] = [
    "index.html",
    "index.css",
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
];

static PAGE: LazyLock<Folder> = LazyLock::new(|| {
    let config = Config::from("../openapi.json")
        .use_base_layout()
        .try_it_out_enabled(true)
        .default_models_expand_depth(0)
        // Otherwise the page would send the document to a stranger's validator.
        .validator_url("none");
    let config = Arc::new(config);
    let file = |name: &&str| -> Option<File> {
        match utoipa_swagger_ui::serve(name, Arc::clone(&config)) {
            Ok(file) => {
                let file = file?;
                let content = file.bytes.into_owned().into();
                Some(((*name).to_owned(), file.content_type, content))
            }
            Err(error) => {
                tracing::error!(%error, "the page to try the API cannot be written");
                None
            }
        }
    };
    let headers = vec![(header::CONTENT_SECURITY_POLICY, POLICY)];
    let missing = "there is nothing at this path";
    Folder::new(
        headers,
        missing,
        FILES.iter().filter_map(file),
        |index, release| {
            let names = FILES.iter().filter(|name| index.contains(**name));
            names.fold(index.to_owned(), |index, name| {
                let plain = index.replace(&format!("\"./{name}\""), &format!("\"{name}\""));
                plain.replace(&format!("\"{name}\""), &format!("\"./{release}/{name}\""))
            })
        },
    )
});

/// `/docs/`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = PAGE.routes("/docs/", "/docs/{*file}");
    page.route("/docs", get(async || Redirect::permanent("docs/")))
}
