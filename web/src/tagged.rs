//! Answers with an `ETag`, by which a client learns that nothing has changed.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use xxhash_rust::xxh3::xxh3_128;

/// The body with a tag, or `304` if the client has it. The tag is weak, because the body may be compressed later.
pub fn tagged(asked: &HeaderMap, kind: &str, body: impl AsRef<[u8]> + Into<Body>) -> Response {
    let tag = tag_of(body.as_ref());
    with_tag(asked, kind, &tag, || body.into())
}

/// The tag of a body, with its quotes.
pub(crate) fn tag_of(body: &[u8]) -> String {
    format!("\"{:032x}\"", xxh3_128(body))
}

/// The same for a body whose tag is known.
pub(crate) fn with_tag(
    asked: &HeaderMap,
    kind: &str,
    tag: &str,
    body: impl FnOnce() -> Body,
) -> Response {
    let mut response = if is_known(asked, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(body());
        if let Ok(kind) = HeaderValue::from_str(kind) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    };
    if let Ok(tag) = HeaderValue::from_str(&format!("W/{tag}")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Whether `If-None-Match` names this tag, weak or not: RFC 9110 compares without regard to that.
fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let names = |list: &HeaderValue| {
        let list = list.as_bytes().trim_ascii();
        // A tag is all that is within quotes, commas too.
        let mut quoted = list.split(|byte| *byte == b'"').skip(1).step_by(2);
        list == b"*" || quoted.any(|one| tag.trim_matches('"').as_bytes() == one)
    };
    asked.get_all(header::IF_NONE_MATCH).iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_any_list_weak_or_not() {
        let known = |lists: &[&[u8]]| {
            let mut asked = HeaderMap::new();
            for list in lists {
                let list = HeaderValue::from_bytes(list).unwrap();
                asked.append(header::IF_NONE_MATCH, list);
            }
            is_known(&asked, "\"abc\"")
        };
        for yes in [
            &b"\"abc\""[..],
            b"W/\"abc\"",
            b"*",
            b" * ",
            b"\"x\", W/\"abc\"",
            b"W/\"x,y\",\"abc\" , \"z\"",
        ] {
            assert!(known(&[yes]), "{yes:?}");
            assert!(known(&[b"\"x\"", yes]), "{yes:?}");
        }
        for no in [
            &b""[..],
            b"abc",
            b"\"ABC\"",
            b"\"abcd\"",
            b"\"x, abc, y\"",
            b"\"x\"abc\"y\"",
            b"\"*\"",
            b"\"x\", *",
            b"\xff\"x\"",
        ] {
            assert!(!known(&[no]), "{no:?}");
        }
        assert!(!known(&[]));
        assert!(
            known(&[b"\"\xe9\", \"abc\""]),
            "other clients' tags may hold more than ASCII"
        );
    }
}
