//! Files that are part of the program.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use flate2::{Compression, read::GzEncoder};
use tokio::sync::OnceCell;

use crate::tagged;

/// How long a client may keep a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// The client asks each time whether the file has changed, and mostly gets `304`.
    Checked,
    /// For a year, without asking. The address of the file contains a hash of its content.
    Forever,
}

impl Caching {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Checked => "no-cache",
            Self::Forever => "public, max-age=31536000, immutable",
        }
    }
}

/// A file that strangers may ask for as often as they like. It is hashed once, and compressed once, when a client first
/// asks for it compressed. No layer that compresses may be around its answers.
#[derive(Debug)]
pub struct Asset {
    kind: String,
    tag: String,
    whole: Bytes,
    /// `None` where it would be no smaller.
    packed: OnceCell<Option<Bytes>>,
}

impl Asset {
    /// `kind` is the media type.
    pub fn new(kind: impl Into<String>, file: impl Into<Bytes>) -> Self {
        let whole = file.into();
        Self {
            kind: kind.into(),
            tag: tagged::tag_of(&whole),
            whole,
            packed: OnceCell::new(),
        }
    }

    /// The file as it is asked for, or `304` to whoever has it.
    pub async fn answer(self: Arc<Self>, asked: &HeaderMap, caching: Caching) -> Response {
        let packed = match takes_gzip(asked) {
            true => self.packed().await,
            false => None,
        };
        let (body, encoding) = match packed {
            Some(packed) => (packed, Some("gzip")),
            None => (self.whole.clone(), None),
        };
        let mut response = tagged::with_tag(asked, &self.kind, &self.tag, || body.into());
        let is_whole = response.status().is_success();
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let caching = HeaderValue::from_static(caching.as_str());
        headers.insert(header::CACHE_CONTROL, caching);
        if let Some(encoding) = encoding.filter(|_| is_whole) {
            let encoding = HeaderValue::from_static(encoding);
            headers.insert(header::CONTENT_ENCODING, encoding);
        }
        response
    }

    async fn packed(&self) -> Option<Bytes> {
        let pack = async {
            let whole = self.whole.clone();
            // A megabyte takes a tenth of a second, which nobody else should wait for.
            let packed = tokio::task::spawn_blocking(move || gzip(&whole)).await;
            packed.ok().flatten()
        };
        self.packed.get_or_init(|| pack).await.clone()
    }
}

fn gzip(whole: &[u8]) -> Option<Bytes> {
    let mut packed = Vec::new();
    let mut encoder = GzEncoder::new(whole, Compression::best());
    std::io::Read::read_to_end(&mut encoder, &mut packed).ok()?;
    (packed.len() < whole.len()).then(|| packed.into())
}

/// Whether `Accept-Encoding` names gzip and does not rule it out with `q=0`.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let lists = asked.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        is_gzip && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use flate2::read::GzDecoder;

    use super::*;

    fn asked(headers: &[(header::HeaderName, &str)]) -> HeaderMap {
        let headers = headers.iter().cloned();
        headers
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    async fn body(response: Response) -> Bytes {
        axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_file_is_the_same_bytes_however_it_is_taken_and_packed_once() {
        let file = "a line that comes again\n".repeat(100);
        let asset = Arc::new(Asset::new("text/plain", file.clone()));
        let ask = async |headers: &[(header::HeaderName, &str)]| {
            Arc::clone(&asset)
                .answer(&asked(headers), Caching::Checked)
                .await
        };
        let whole = ask(&[]).await;
        assert!(!whole.headers().contains_key(header::CONTENT_ENCODING));
        assert!(asset.packed.get().is_none(), "nobody asked for that yet");
        let tag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(body(whole).await, file);

        let packed = ask(&[(header::ACCEPT_ENCODING, "br, gzip;q=0.5")]).await;
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(packed.headers()[header::VARY], "accept-encoding");
        assert_eq!(packed.headers()[header::ETAG], tag.as_str());
        let packed = body(packed).await;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut GzDecoder::new(&packed[..]), &mut text).unwrap();
        assert_eq!(text, file);
        // The same memory, not the same bytes made again.
        let again = body(ask(&[(header::ACCEPT_ENCODING, "gzip")]).await).await;
        assert_eq!(again.as_ptr(), packed.as_ptr());

        let known = [
            (header::ACCEPT_ENCODING, "gzip"),
            (header::IF_NONE_MATCH, tag.as_str()),
        ];
        let unchanged = ask(&known).await;
        assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
        assert!(!unchanged.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(unchanged.headers()[header::CACHE_CONTROL], "no-cache");
    }

    #[tokio::test]
    async fn what_does_not_get_smaller_is_sent_as_it_is() {
        let asset = Arc::new(Asset::new("image/png", vec![7; 3]));
        let answer = asset
            .answer(
                &asked(&[(header::ACCEPT_ENCODING, "gzip")]),
                Caching::Forever,
            )
            .await;
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(
            answer.headers()[header::CACHE_CONTROL],
            "public, max-age=31536000, immutable"
        );
        assert_eq!(body(answer).await, vec![7; 3]);
    }

    #[test]
    fn gzip_is_taken_by_whoever_says_so() {
        for (list, takes) in [
            ("gzip", true),
            ("br, GZIP ; q=0.1", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000, br", false),
            ("br, deflate", false),
            ("gzipped", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(
                takes_gzip(&asked(&[(header::ACCEPT_ENCODING, list)])),
                takes,
                "{list}"
            );
        }
    }
}
