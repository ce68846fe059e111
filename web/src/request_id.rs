//! A name for a request that client and server both know.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Carries it, in requests and in every answer.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The client's `X-Request-Id` where it has one that is safe to repeat, else a new one.
#[derive(Clone, Debug)]
pub struct RequestId {
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

    pub(crate) fn new() -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        // A UUID in text is always a valid header value.
        let value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self { value, ours: true }
    }

    /// As a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// As text that needs no escapes in JSON.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.value.as_bytes()
    }

    /// Whether it was made here, so that it says nothing that a client chose.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours
    }

    /// For the access log: what a client chose as an id stays out of it.
    #[must_use]
    pub fn loggable(&self) -> &str {
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
