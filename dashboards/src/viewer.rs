//! Who reads, and what they may see.

use axum::http::HeaderMap;
use rivulet_events::ParentId;
use rivulet_registry::{
    Registry,
    keys::{Scope, sha256},
};
use rivulet_tokens::{Error, Verifier};
use rivulet_web::{bearer, is_token};

use crate::problem::Problem;

/// SHA-256 of an API key.
pub(crate) type KeyHash = [u8; 32];

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Viewer {
    /// The product, with a key of scope `read`.
    Product(KeyHash),
    /// A parent, with a token.
    Parent(ParentId),
}

fn bad(why: &'static str) -> Problem {
    Problem::Unauthorized(Some(why.into()))
}

/// What an API key is for, and its hash: it is looked up by that, never compared.
pub(crate) async fn key(
    credential: &str,
    registry: &Registry,
) -> Result<(KeyHash, Scope), Problem> {
    let hash = sha256(credential);
    let grant = registry.key(&hash).await;
    let grant = grant.map_err(|_| Problem::Unavailable("API keys cannot be checked now"))?;
    let grant = grant.ok_or_else(|| bad("this API key is unknown or was revoked"))?;
    Ok((hash, grant.scope))
}

impl Viewer {
    pub(crate) async fn of(
        headers: &HeaderMap,
        registry: &Registry,
        tokens: Option<&Verifier>,
    ) -> Result<Self, Problem> {
        let credential = bearer(headers).ok_or(Problem::Unauthorized(None))?;
        if !is_token(credential) {
            return match key(credential, registry).await? {
                (hash, Scope::Read) => Ok(Self::Product(hash)),
                _ => Err(Problem::Forbidden(
                    "this needs an API key with scope `read`, or a parent's token",
                )),
            };
        }
        let Some(verifier) = tokens else {
            return Err(bad(
                "this is no API key, and parents' tokens are not taken here",
            ));
        };
        match verifier.verify(credential).await {
            Ok(parent) => Ok(Self::Parent(parent)),
            Err(Error::Refused(refusal)) => {
                Err(Problem::Unauthorized(Some(refusal.to_string().into())))
            }
            Err(Error::Unavailable) => Err(Problem::Unavailable(
                "parents' tokens cannot be checked now",
            )),
        }
    }
}
