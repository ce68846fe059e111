//! Makes tokens for development and tests. A product's backend makes its own.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rivulet_events::ParentId;
use serde::Serialize;
use uuid::Uuid;

use crate::config::Config;

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Only HS256 can be signed here: the private keys of a JWKS are elsewhere.
    #[error("there is no token secret to sign with: set RIVULET_TOKEN_SECRET")]
    NoSecret,
    /// Ingest would refuse it.
    #[error("a token may live {0:?} at most, as configured")]
    TooLong(Duration),
    /// The signature could not be made.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: Uuid,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: u64,
    exp: u64,
}

/// An HS256 token for the family of `parent`, good for `ttl` from now.
///
/// # Errors
/// See [`MintError`].
pub fn mint(config: &Config, parent: ParentId, ttl: Duration) -> Result<String, MintError> {
    let secret = config.secrets.first().ok_or(MintError::NoSecret)?;
    if ttl > config.max_lifetime {
        return Err(MintError::TooLong(config.max_lifetime));
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.unwrap_or_default().as_secs();
    let claims = Claims {
        sub: parent.uuid(),
        aud: &config.audience,
        iss: config.issuer.as_deref(),
        iat: now,
        exp: now + ttl.as_secs(),
    };
    let key = EncodingKey::from_secret(secret.bytes());
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}
