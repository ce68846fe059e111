//! A folder of files that are part of the program, with an address for each release.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use rivulet_web::{Asset, Caching};
use xxhash_rust::xxh3::Xxh3;

use crate::problem::Problem;

/// How many digits the name of a release has.
const DIGITS: usize = 16;

/// Files by name. `RELEASE/NAME`, where the release is a hash of all of them, is the address that pages name:
/// a file under it may be kept for good, and what it names beside itself is of the same release. `NAME` alone
/// is asked for again each time.
pub(crate) struct Folder {
    /// Of every answer, beside those that all folders have.
    headers: Vec<(HeaderName, &'static str)>,
    /// What is answered where there is no such file.
    missing: &'static str,
    release: String,
    files: BTreeMap<String, Arc<Asset>>,
}

/// A file: its name, media type and content.
pub(crate) type File = (String, String, Cow<'static, [u8]>);

impl Folder {
    /// `index` writes the files that name the others, after it is known under which release those are.
    pub(crate) fn new(
        mut headers: Vec<(HeaderName, &'static str)>,
        missing: &'static str,
        files: impl IntoIterator<Item = File>,
        index: impl FnOnce(&str, &str) -> String,
    ) -> Self {
        headers.extend([
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ]);
        let mut files: Vec<File> = files.into_iter().collect();
        files.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut hash = Xxh3::new();
        for (name, _, content) in &files {
            hash.update(name.as_bytes());
            hash.update(&(content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        let release = format!("{:0DIGITS$x}", hash.digest());
        if let Some((.., content)) = files.iter_mut().find(|(name, ..)| name == "index.html") {
            *content = index(&String::from_utf8_lossy(content), &release)
                .into_bytes()
                .into();
        }
        let files = files
            .into_iter()
            .map(|(name, kind, content)| (name, Arc::new(Asset::new(kind, content.into_owned()))));
        Self {
            headers,
            missing,
            files: files.collect(),
            release,
        }
    }

    /// `index.html`, what it is made of under `rest`, a path with a wildcard, and nobody's guesses.
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
        &'static self,
        index: &str,
        rest: &str,
    ) -> Router<S> {
        Router::new()
            .route(
                index,
                get(async |asked: HeaderMap| self.answer("index.html", &asked).await),
            )
            .route(
                rest,
                get(async |path: Name, asked: HeaderMap| match path {
                    Ok(Path(path)) => self.answer(&path, &asked).await,
                    Err(_) => self.missing(),
                }),
            )
    }

    /// The file of that name or address.
    async fn answer(&self, path: &str, asked: &HeaderMap) -> Response {
        let (name, caching) = match path.split_once('/') {
            Some((release, name)) if release == self.release => (name, Caching::Forever),
            // While a new release is rolled out, a page of one node may ask another node. It gets the file of that
            // node, and must not keep it.
            Some((release, name)) if is_release(release) => (name, Caching::Checked),
            _ => (path, Caching::Checked),
        };
        let Some(file) = self.files.get(name) else {
            return self.missing();
        };
        let mut response = Arc::clone(file).answer(asked, caching).await;
        let headers = response.headers_mut();
        for (name, value) in &self.headers {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn missing(&self) -> Response {
        Problem::NotFound(self.missing).into_response()
    }
}

/// A file's name in the path, as far as it can be read.
type Name = Result<Path<String>, PathRejection>;

fn is_release(part: &str) -> bool {
    part.len() == DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}
