//! The parents' page: files that are part of the program.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderName, header},
};
use rust_embed::Embed;

use crate::folder::Folder;

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
    let headers = vec![
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    let missing = "the page has no file of this name";
    // Scripts name each other beside themselves, so that they stay within the release.
    Folder::new(headers, missing, files, |index, release| {
        index.replace("\"/page/", &format!("\"/page/{release}/"))
    })
});

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    PAGE.routes("/", "/page/{*name}")
}
