//! The parents' page: files that are part of the program.

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

use rivulet_web::tagged;
use rust_embed::Embed;

use crate::problem::Problem;

/// Scripts and styles from here alone, nothing inline, and no other page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The folder, as it was when this was built.
#[derive(Embed)]
#[folder = "page/"]
struct Files;

const NO_FILE: Problem = Problem::NotFound("the page has no file of this name");

/// A file's name in the path, as far as it can be read.
pub(crate) type Name = Result<Path<String>, PathRejection>;

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(async |asked: HeaderMap| file("index.html", &asked)),
        )
        .route(
            "/page/{*name}",
            get(async |name: Name, asked: HeaderMap| match name {
                Ok(Path(name)) => file(&name, &asked),
                Err(_) => NO_FILE.into_response(),
            }),
        )
}

fn file(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = Files::get(name) else {
        return NO_FILE.into_response();
    };
    let mut response = tagged(asked, file.metadata.mimetype(), file.data.into_owned());
    let headers = response.headers_mut();
    // Asked for again each time, so that a new release is one at once; mostly answered 304.
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
