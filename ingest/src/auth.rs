//! Who sends a request, and may they?

use axum::http::{HeaderMap, header};
use rivulet_registry::keys::{Scope, sha256};

use crate::{problem::Problem, router::App};

/// The SHA-256 of an API key: all that is known of it from here on.
pub(crate) type KeyHash = [u8; 32];

/// The request's key, when it has this scope.
pub(crate) async fn require(
    app: &App,
    headers: &HeaderMap,
    needed: Scope,
) -> Result<KeyHash, Problem> {
    let key = bearer(headers).ok_or(Problem::Unauthorized { presented: false })?;
    let hash = sha256(key);
    let scope = app.registry.key(&hash).await.map_err(|_| app.cut_off())?;
    match scope {
        Some(scope) if scope == needed => Ok(hash),
        Some(_) => Err(Problem::Forbidden(needed)),
        None => Err(Problem::Unauthorized { presented: true }),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

impl App {
    /// Who sends it cannot be told.
    fn cut_off(&self) -> Problem {
        Problem::Unavailable("API keys cannot be checked now", self.config.retry_after)
    }
}
