//! A name for a request that client and server both know.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The client's `X-Request-Id` where it has one that is safe to repeat, else a new one.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    value: HeaderValue,
    /// Made here, so it cannot carry anything that must not be in a log.
    ours: bool,
}

impl RequestId {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER) {
            Some(given) if is_plain(given.as_bytes()) => Self {
                value: given.clone(),
                ours: false,
            },
            _ => Self::new(),
        }
    }

    fn new() -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        // A UUID in text is always a valid header value.
        let value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self { value, ours: true }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// Needs no escapes in JSON.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.value.as_bytes()
    }

    /// For the access log: what a client chose as an id stays out of it.
    pub(crate) fn loggable(&self) -> &str {
        match self.value.to_str() {
            Ok(text) if self.ours => text,
            _ => "from client",
        }
    }
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (1..=128).contains(&id.len()) && id.iter().all(plain)
}
