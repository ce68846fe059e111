//! How requests leave the device. An app brings what its platform has, or takes [`Http`].

#[cfg(feature = "http")]
use std::{sync::Arc, time::Duration};

#[cfg(feature = "http")]
use ureq::tls::{RootCerts, TlsConfig};

/// A request, to be sent as it is.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Whole.
    pub url: String,
    /// All headers but those that a client makes itself (`Host`, `Content-Length`).
    pub headers: Vec<(&'static str, String)>,
    /// Empty for `GET`.
    pub body: Vec<u8>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// The header `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// The whole body. What is longer than [`MAX_ANSWER`] need not be read.
    pub body: Vec<u8>,
}

/// Bytes of the longest answer that makes sense: 1 000 results with warnings.
pub const MAX_ANSWER: u64 = 4 << 20;

/// There was no answer, or half of one: whether the request arrived is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Sends requests, one at a time, on a thread that may be blocked.
pub trait Transport: Send + Sync {
    /// Sends it and waits for the answer, for half a minute at most. Redirects are not followed: what answers with one
    /// is no server of events.
    ///
    /// # Errors
    /// There was no whole answer.
    fn send(&self, request: &Request) -> Result<Response, NoAnswer>;
}

/// HTTP by a small client of Rust's own, with the system's trusted authorities.
#[cfg(feature = "http")]
#[derive(Debug)]
pub struct Http(ureq::Agent);

#[cfg(feature = "http")]
impl Http {
    /// Waits for an answer as long as `timeout`, from the first byte sent to the last received.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self(config.into())
    }
}

#[cfg(feature = "http")]
impl Default for Http {
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

#[cfg(feature = "http")]
impl Transport for Http {
    fn send(&self, request: &Request) -> Result<Response, NoAnswer> {
        let mut head = ureq::http::Request::builder()
            .method(request.method)
            .uri(&request.url);
        for (name, value) in &request.headers {
            head = head.header(*name, value);
        }
        let refused = |error: ureq::Error| NoAnswer(error.to_string());
        let whole = head
            .body(&request.body[..])
            .map_err(|error| NoAnswer(error.to_string()))?;
        let mut answer = self.0.run(whole).map_err(refused)?;
        let retry_after = answer.headers().get("retry-after");
        Ok(Response {
            status: answer.status().as_u16(),
            retry_after: retry_after
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            body: answer
                .body_mut()
                .with_config()
                .limit(MAX_ANSWER)
                .read_to_vec()
                .map_err(refused)?,
        })
    }
}
