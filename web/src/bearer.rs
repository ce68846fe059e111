//! What a request says of its sender.

use axum::http::{HeaderMap, header};

/// The credential of `Authorization: Bearer …`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| credential.trim())
}

/// Whether a credential is a JWT: no API key holds a dot, every JWT holds two.
#[must_use]
pub fn is_token(credential: &str) -> bool {
    credential.contains('.')
}
