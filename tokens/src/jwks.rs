//! The public keys of the issuer of tokens. They are read in the background, and kept while they cannot be read.

use std::{convert::Infallible, io, path::PathBuf, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use url::Url;

use crate::config::{Config, Source};
use crate::metrics::TOKEN_JWKS_READS;

/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a token with an unknown key waits for a reading.
const WAIT: Duration = Duration::from_secs(2);

/// Bytes of a JWKS; real ones have a few thousand.
const LARGEST: usize = 256 << 10;

/// Why the JWKS cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file.
    #[error("the JWKS {0} cannot be read: {1}")]
    File(PathBuf, io::Error),
    /// The URL; the text does not quote it, because it may hold a password.
    #[error("the JWKS cannot be fetched: {0}")]
    Http(#[from] reqwest::Error),
    /// What came is too long to be one.
    #[error("the JWKS is longer than {LARGEST} bytes")]
    TooLong,
    /// It is no JWKS.
    #[error("the JWKS cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no RSA key for RS256 and no P-256 key for ES256.
    #[error("the JWKS holds no key for RS256 or ES256")]
    NoKey,
}

/// A key with the one algorithm that it is for.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Key {
    /// `None` for keys that are for something else; symmetric ones too, which have no place in a
    /// public document.
    fn of(jwk: &Jwk) -> Option<Self> {
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            _ => return None,
        };
        let common = &jwk.common;
        let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs || !verifies || common.key_algorithm.is_some_and(|name| name != named) {
            return None;
        }
        Some(Self {
            id: common.key_id.clone(),
            algorithm,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

/// The usable keys of one reading.
struct KeySet(Vec<Key>);

impl KeySet {
    fn parse(json: &[u8]) -> Result<Self, SourceError> {
        #[derive(Deserialize)]
        struct Document {
            // The keys are parsed one by one, so that a key of an unknown kind does not spoil the others. They are kept
            // as text, because of two members with the same name a `Value` would take the last.
            keys: Vec<Box<RawValue>>,
        }
        let document: Document = serde_json::from_slice(json)?;
        let known = |json: Box<RawValue>| Key::of(&serde_json::from_str(json.get()).ok()?);
        let keys: Vec<Key> = document.keys.into_iter().filter_map(known).collect();
        if keys.is_empty() {
            return Err(SourceError::NoKey);
        }
        Ok(Self(keys))
    }

    /// The key of this name; for a token that names none, the only one of its algorithm.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut found = self
            .0
            .iter()
            .filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
        match (found.next(), found.next()) {
            (Some(only), None) => Some(&only.key),
            // The same name twice is the sender's mistake; the first is as good as any.
            (Some(first), Some(_)) if id.is_some() => Some(&first.key),
            _ => None,
        }
    }
}

/// Reads a JWKS once, to see whether it can be, and returns the number of keys that are of use.
///
/// # Errors
/// See [`SourceError`].
pub async fn check_jwks(source: Source) -> Result<usize, SourceError> {
    Ok(Reader::new(source)?.read().await?.0.len())
}

/// The result of the last reading.
#[derive(Clone, Default)]
struct State {
    /// Of the last reading that succeeded.
    keys: Option<Arc<KeySet>>,
    /// When the last reading ended.
    tried: Option<Instant>,
    failed: bool,
}

/// The keys as they were last read.
pub(crate) struct Jwks {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    pause: Duration,
}

/// Whether a key is known cannot be told now.
#[derive(Debug)]
pub(crate) struct Unavailable;

impl Jwks {
    /// Returns the keys, and the task that reads them again for ever. A file must be good at once; a server may come
    /// later.
    pub(crate) async fn new(
        source: Source,
        config: &Config,
    ) -> Result<(Self, impl Future<Output = Infallible> + use<>), SourceError> {
        let reader = Reader::new(source)?;
        if matches!(reader, Reader::File(_)) {
            reader.read().await?;
        }
        let (publish, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        let (every, pause) = (config.refresh_every, config.refresh_pause);
        let refreshing = refresh(reader, publish, Arc::clone(&wanted), every, pause);
        let jwks = Self {
            state,
            wanted,
            pause,
        };
        Ok((jwks, refreshing))
    }

    /// The key that a token names. An unknown name makes the set be read again, unless that was done a moment ago. So
    /// names that nobody ever used cost the server next to nothing.
    pub(crate) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, Unavailable> {
        let mut state = self.state.clone();
        let find = |state: &State| {
            let keys = state.keys.as_ref()?;
            keys.find(id, algorithm).cloned()
        };
        let now = state.borrow_and_update().clone();
        if let Some(key) = find(&now) {
            return Ok(Some(key));
        }
        let lately = now.tried.is_some_and(|tried| tried.elapsed() < self.pause);
        let known = if lately {
            now
        } else {
            self.wanted.notify_one();
            match tokio::time::timeout(WAIT, state.changed()).await {
                Ok(Ok(())) => state.borrow().clone(),
                _ => return Err(Unavailable),
            }
        };
        match find(&known) {
            None if known.failed || known.keys.is_none() => Err(Unavailable),
            found => Ok(found),
        }
    }
}

/// Reads the JWKS for ever: at regular times, when a token needs it, and soon again after a failure.
async fn refresh(
    reader: Reader,
    publish: watch::Sender<State>,
    wanted: Arc<Notify>,
    every: Duration,
    pause: Duration,
) -> Infallible {
    loop {
        let read = reader.read().await;
        let tried = Instant::now();
        let before = publish.borrow().clone();
        let result = if read.is_ok() { "ok" } else { "failed" };
        TOKEN_JWKS_READS.with([result]).increment(1);
        let failed = read.is_err();
        match &read {
            Ok(keys) if before.failed || before.keys.is_none() => {
                tracing::info!(keys = keys.0.len(), "the keys of client tokens were read");
            }
            // Logged once. Tokens of the keys that are known are still accepted.
            Err(error) if !before.failed => {
                let known = before.keys.as_ref().map_or(0, |keys| keys.0.len());
                tracing::warn!(%error, known, "the keys of client tokens cannot be read; trying again");
            }
            _ => {}
        }
        publish.send_replace(State {
            keys: read.ok().map(Arc::new).or(before.keys),
            tried: Some(tried),
            failed,
        });
        tokio::time::sleep_until(tried + pause).await;
        if !failed {
            let _ = tokio::time::timeout_at(tried + every, wanted.notified()).await;
        }
    }
}

enum Reader {
    Url(reqwest::Client, Url),
    File(PathBuf),
}

impl Reader {
    fn new(source: Source) -> Result<Self, SourceError> {
        match source {
            Source::File(path) => Ok(Self::File(path)),
            Source::Url(url) => {
                let client = reqwest::Client::builder()
                    .timeout(READ_TIMEOUT)
                    // No redirects are followed: only the configured address decides who may sign.
                    .redirect(reqwest::redirect::Policy::none())
                    .build()?;
                Ok(Self::Url(client, url))
            }
        }
    }

    async fn read(&self) -> Result<KeySet, SourceError> {
        match self {
            Self::File(path) => {
                let read = tokio::fs::read(path).await;
                KeySet::parse(&read.map_err(|error| SourceError::File(path.clone(), error))?)
            }
            Self::Url(client, url) => {
                let json = fetch(client, url.clone()).await;
                KeySet::parse(&json.map_err(|error| match error {
                    SourceError::Http(error) => SourceError::Http(error.without_url()),
                    other => other,
                })?)
            }
        }
    }
}

async fn fetch(client: &reqwest::Client, url: Url) -> Result<Vec<u8>, SourceError> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut json = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        json.extend_from_slice(&chunk);
        if json.len() > LARGEST {
            return Err(SourceError::TooLong);
        }
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_says_something_twice_is_passed_over() {
        let half = "A".repeat(43);
        let key =
            |more: &str| format!(r#"{{"kty":"EC","crv":"P-256",{more}"x":"{half}","y":"{half}"}}"#);
        let found = |document: String| KeySet::parse(document.as_bytes()).map(|keys| keys.0.len());
        let both = format!(r#"{{"keys":[{},{}]}}"#, key(""), key(r#""use":"sig","#));
        assert_eq!(found(both).unwrap(), 2);
        for twice in [
            r#""use":"enc","use":"sig","#,
            r#""kid":"a","kid":"b","#,
            r#""crv":"P-384","#,
            r#""x":"AAAA","#,
        ] {
            let two = format!(r#"{{"keys":[{},{}]}}"#, key(""), key(twice));
            assert_eq!(found(two).unwrap(), 1, "{twice}");
        }
        let document = format!(r#"{{"keys":[],"keys":[{}]}}"#, key(""));
        assert!(matches!(found(document), Err(SourceError::Json(_))));
    }
}
