//! The parents' page, and the page of what arrives: files that are part of the program.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderName, header},
    response::Redirect,
    routing::get,
};
use rust_embed::Embed;

use crate::folder::{File, Folder};

/// Scripts and styles must be served here, nothing may be inline, and no other page may frame this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The folder, as it was when this was built.
#[derive(Embed)]
#[folder = "page/"]
struct Files;

static PAGE: LazyLock<Folder> = LazyLock::new(|| {
    let files = Files::iter().filter_map(|name| file::<Files>(&name));
    folder(files.collect(), "\"/page/")
});

/// The folder of the page of what arrives, as it was when this was built.
#[derive(Embed)]
#[folder = "inspect/"]
struct InspectFiles;

/// What that page has of the parents'.
const SHARED: [&str; 5] = [
    "api.js",
    "icon.svg",
    "live.js",
    "style.css",
    "vendor/lit-html/lit-html.js",
];

static INSPECT: LazyLock<Folder> = LazyLock::new(|| {
    let own = InspectFiles::iter().filter_map(|name| file::<InspectFiles>(&name));
    let shared = SHARED.iter().filter_map(|name| file::<Files>(name));
    folder(own.chain(shared).collect(), "\"/inspect/")
});

fn file<E: Embed>(name: &str) -> Option<File> {
    let file = E::get(name)?;
    let kind = file.metadata.mimetype().to_owned();
    Some((name.to_owned(), kind, file.data))
}

/// `base` is what addresses begin with in `index.html`.
fn folder(files: Vec<File>, base: &'static str) -> Folder {
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
        index.replace(base, &format!("{base}{release}/"))
    })
}

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    PAGE.routes("/", "/page/{*name}")
}

/// `/inspect/`.
pub(crate) fn inspect<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = INSPECT.routes("/inspect/", "/inspect/{*name}");
    page.route("/inspect", get(async || Redirect::permanent("inspect/")))
}
