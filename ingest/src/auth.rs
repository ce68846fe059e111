//! Finds out who sends a request, and what that sender may do.

use std::{borrow::Cow, sync::Arc};

use axum::http::{HeaderMap, header};
use rivulet_events::{Event, ParentId, Parsed};
use rivulet_registry::keys::{Grant, Scope, sha256};
use rivulet_tokens::Error;
use rivulet_web::{bearer, is_token};

use crate::{
    problem::Problem,
    sender::{KeyHash, SenderId},
    state::App,
};

/// Who sends a request.
pub(crate) enum Sender {
    /// Somebody with an API key.
    Key(KeyHash, Arc<Grant>),
    /// Somebody with a client token, who speaks for one family.
    Family(ParentId),
}

/// The request's sender. What it may do is not checked here.
pub(crate) async fn sender(app: &App, headers: &HeaderMap) -> Result<Sender, Problem> {
    let credential = bearer(headers).ok_or(Problem::Unauthorized(None))?;
    if is_token(credential) {
        Ok(Sender::Family(family(app, credential).await?))
    } else {
        let (hash, grant) = key(app, credential).await?;
        Ok(Sender::Key(hash, grant))
    }
}

/// Keys are never compared with each other: the SHA-256 of the key that was sent is looked up among the hashes of all
/// keys. The time that this takes tells nothing about a key, because nobody can choose what a hash begins with.
async fn key(app: &App, key: &str) -> Result<(KeyHash, Arc<Grant>), Problem> {
    let hash = sha256(key);
    let grant = app.registry.key(&hash).await.map_err(|_| app.cut_off())?;
    let unknown = || Problem::Unauthorized(Some("this API key is unknown or was revoked".into()));
    Ok((hash, grant.ok_or_else(unknown)?))
}

async fn family(app: &App, token: &str) -> Result<ParentId, Problem> {
    let Some(verifier) = &app.tokens else {
        let why = "this is no API key, and client tokens are not taken here";
        return Err(Problem::Unauthorized(Some(why.into())));
    };
    verifier.verify(token).await.map_err(|error| match error {
        Error::Refused(refusal) => Problem::Unauthorized(Some(refusal.to_string().into())),
        Error::Unavailable => Problem::Unavailable(
            "client tokens cannot be checked now",
            app.config.retry_after,
        ),
    })
}

/// Checks the origin of the page that sends the request. Browsers send it, and pages cannot change it. Other clients
/// can claim any origin, so this only keeps a key from being used in other people's pages.
fn check_origin(app: &App, headers: &HeaderMap, sender: &Sender) -> Result<(), Problem> {
    let origin = headers.get(header::ORIGIN).map(|value| value.as_bytes());
    let everywhere = &app.config.origins;
    let here = everywhere.is_empty()
        || origin.is_none_or(|sent| everywhere.iter().any(|origin| origin.is(sent)));
    let with_this_key = match sender {
        Sender::Key(_, grant) => grant.limits.allow_origin(origin),
        Sender::Family(_) => true,
    };
    let why = match (here, with_this_key) {
        (true, true) => return Ok(()),
        (false, _) => "pages of this origin may not post events here",
        (true, false) if origin.is_none() => {
            "this API key is for pages of certain origins, and the request has no `Origin`"
        }
        (true, false) => "this API key may not be used by pages of this origin",
    };
    Err(Problem::Forbidden(why.into()))
}

impl Sender {
    /// What tells this sender from all others.
    pub(crate) const fn id(&self) -> SenderId {
        match self {
            Self::Key(hash, _) => SenderId::Key(*hash),
            Self::Family(parent) => SenderId::Family(*parent),
        }
    }

    /// Checks that the sender has this scope, and that the request comes from an origin that the key allows.
    pub(crate) fn require(
        &self,
        app: &App,
        headers: &HeaderMap,
        needed: Scope,
    ) -> Result<(), Problem> {
        let why = match self {
            Self::Family(_) if needed != Scope::Ingest => format!(
                "a client token can only post events; this needs an API key with scope `{needed}`"
            ),
            Self::Key(_, grant) if grant.scope != needed => {
                format!("this needs an API key with scope `{needed}`")
            }
            _ => return check_origin(app, headers, self),
        };
        Err(Problem::Forbidden(why.into()))
    }

    /// Checks that the sender may post every one of these events. If one is not allowed, the whole request is refused:
    /// the owner of the key has to change its limits, and no event may be lost until then.
    pub(crate) fn may_post(&self, events: &[Parsed<'_>]) -> Result<(), Problem> {
        let Self::Key(_, grant) = self else {
            return Ok(());
        };
        let kind = |parsed: &Parsed<'_>| parsed.outcome.as_ref().ok().map(Event::event_type);
        match events
            .iter()
            .filter_map(kind)
            .find(|kind| !grant.limits.allow_event(*kind))
        {
            None => Ok(()),
            Some(kind) => {
                let why: Cow<'static, str> = format!(
                    "this API key may not post events of type `{}`; nothing of this request was taken",
                    kind.as_str()
                )
                .into();
                Err(Problem::Forbidden(why))
            }
        }
    }

    /// The only family whose children may be written, for a sender who speaks for one.
    pub(crate) const fn family(&self) -> Option<ParentId> {
        match self {
            Self::Key(..) => None,
            Self::Family(parent) => Some(*parent),
        }
    }
}
