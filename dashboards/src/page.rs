//! The parents' page: files that are part of the program.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

use rust_embed::Embed;

use crate::{folder::Folder, problem::Problem};

/// Scripts and styles must be served here, nothing may be inline, and no other page may frame this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The folder, as it was when this was built.
#[derive(Embed)]
#[folder = "page/"]
struct Files;

static PAGE: LazyLock<Folder> = LazyLock::new(|| {
    let files = Files::iter().filter_map(|name| {
        let file = Files::get(&name)?;
        let kind = file.metadata.mimetype().to_owned();
        Some((name.into_owned(), kind, file.data))
    });
    // Scripts import each other by relative names, so that they stay within the release.
    Folder::new(files, |index, release| {
        index.replace("\"/page/", &format!("\"/page/{release}/"))
    })
});

const NO_FILE: Problem = Problem::NotFound("the page has no file of this name");

/// A file's name in the path, or why it cannot be read.
pub(crate) type Name = Result<Path<String>, PathRejection>;

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(async |asked: HeaderMap| file("index.html", &asked).await),
        )
        .route(
            "/page/{*name}",
            get(async |name: Name, asked: HeaderMap| match name {
                Ok(Path(name)) => file(&name, &asked).await,
                Err(_) => NO_FILE.into_response(),
            }),
        )
}

async fn file(name: &str, asked: &HeaderMap) -> Response {
    let Some(mut response) = PAGE.answer(name, asked).await else {
        return NO_FILE.into_response();
    };
    let headers = response.headers_mut();
    for (name, value) in [
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
