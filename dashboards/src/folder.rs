//! A folder of files that are part of the program, with an address for each release.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use axum::{http::HeaderMap, response::Response};
use rivulet_web::{Asset, Caching};
use xxhash_rust::xxh3::Xxh3;

/// How many digits the name of a release has.
const DIGITS: usize = 16;

/// Files by name. `RELEASE/NAME`, where the release is a hash of all of them, is the address that pages name:
/// a file under it may be kept for good, and what it names beside itself is of the same release. `NAME` alone
/// is asked for again each time.
pub(crate) struct Folder {
    release: String,
    files: BTreeMap<String, Arc<Asset>>,
}

/// A file: its name, media type and content.
pub(crate) type File = (String, String, Cow<'static, [u8]>);

impl Folder {
    /// `index` writes the files that name the others, after it is known under which release those are.
    pub(crate) fn new(
        files: impl IntoIterator<Item = File>,
        index: impl FnOnce(&str, &str) -> String,
    ) -> Self {
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
            files: files.collect(),
            release,
        }
    }

    /// The file of that name or address, if there is one.
    pub(crate) async fn answer(&self, path: &str, asked: &HeaderMap) -> Option<Response> {
        let (name, caching) = match path.split_once('/') {
            Some((release, name)) if release == self.release => (name, Caching::Forever),
            // While a new release is rolled out, a page of one node may ask another node. It gets the file of that
            // node, and must not keep it.
            Some((release, name)) if is_release(release) => (name, Caching::Checked),
            _ => (path, Caching::Checked),
        };
        let file = Arc::clone(self.files.get(name)?);
        Some(file.answer(asked, caching).await)
    }
}

fn is_release(part: &str) -> bool {
    part.len() == DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}
