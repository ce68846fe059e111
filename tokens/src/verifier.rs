//! Checks tokens, and finds out whose they are.

use std::{
    convert::Infallible,
    future,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, TokenData, Validation, decode, decode_header, errors::ErrorKind,
};
use rivulet_events::ParentId;
use serde::Deserialize;

use crate::metrics::TOKENS;
use crate::{
    config::{Config, LEEWAY, Secret},
    jwks::{Jwks, SourceError},
};

/// Why a token is not good. The texts quote nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not three parts of base64url and JSON.
    #[error("the token cannot be read: it is no signed JWT")]
    Malformed,
    /// An algorithm for which there is no key here, `none` among them.
    #[error("the token's algorithm is not taken here")]
    Algorithm,
    /// No key of this name.
    #[error("the token names no key that is known here (`kid`)")]
    UnknownKey,
    /// Signed by somebody else, or changed since.
    #[error("the token's signature is not right")]
    Signature,
    /// `exp`
    #[error("the token has expired; get a new one")]
    Expired,
    /// `nbf` or `iat`
    #[error("the token is not valid yet; check the clock of who made it")]
    NotYetValid,
    /// `aud`
    #[error("the token is for another audience (`aud`)")]
    Audience,
    /// `iss`
    #[error("the token is from another issuer (`iss`)")]
    Issuer,
    /// `sub`
    #[error("the token's `sub` must be the parent's id, a UUID")]
    Subject,
    /// A required claim.
    #[error("the token lacks `{0}`")]
    Missing(&'static str),
    /// From `iat` to `exp`.
    #[error("the token lives too long: {} s from `iat` to `exp` is the most", .0.as_secs())]
    TooLong(Duration),
}

impl Refusal {
    /// A word for a metric's label.
    const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Subject => "subject",
            Self::Missing(_) => "missing_claim",
            Self::TooLong(_) => "too_long",
        }
    }
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It will never be good.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its key is not known, and the JWKS cannot be read now.
    #[error("client tokens cannot be checked now")]
    Unavailable,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    // RFC 7519 allows fractions of a second.
    exp: Option<f64>,
    iat: Option<f64>,
}

/// Tells good tokens from others.
pub struct Verifier {
    secrets: Vec<DecodingKey>,
    jwks: Option<Jwks>,
    validation: Validation,
    max_lifetime: Duration,
}

impl Verifier {
    /// Returns the verifier, and the task that reads the JWKS, if there is one. The task never ends.
    ///
    /// # Errors
    /// A JWKS in a file that is not good. One at a URL may come later: until then tokens that need
    /// it are [`Error::Unavailable`].
    pub async fn new(
        config: &Config,
    ) -> Result<(Self, impl Future<Output = Infallible> + Send + use<>), SourceError> {
        let (jwks, refreshing) = match config.jwks.clone() {
            Some(source) => Some(Jwks::new(source, config).await?),
            None => None,
        }
        .unzip();
        let key = |secret: &Secret| DecodingKey::from_secret(secret.bytes());
        let verifier = Self {
            secrets: config.secrets.iter().map(key).collect(),
            jwks,
            validation: validation(config),
            max_lifetime: config.max_lifetime,
        };
        let refreshing = async move {
            match refreshing {
                Some(refreshing) => refreshing.await,
                None => future::pending().await,
            }
        };
        Ok((verifier, refreshing))
    }

    /// The family that this token speaks for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify(&self, token: &str) -> Result<ParentId, Error> {
        let verified = self.check(token).await;
        let result = match &verified {
            Ok(_) => "ok",
            Err(Error::Refused(refusal)) => refusal.reason(),
            Err(Error::Unavailable) => "unavailable",
        };
        TOKENS.with([result]).increment(1);
        verified
    }

    async fn check(&self, token: &str) -> Result<ParentId, Error> {
        let header = decode_header(token).map_err(|error| refusal(error.kind()))?;
        // RFC 7515: an extension that must be understood, and is not.
        if header.crit.is_some() {
            return Err(Refusal::Malformed.into());
        }
        let claims = match (header.alg, &self.jwks) {
            (Algorithm::HS256, _) if !self.secrets.is_empty() => self.by_secret(token)?,
            (Algorithm::RS256 | Algorithm::ES256, Some(jwks)) => {
                let key = jwks.key(header.kid.as_deref(), header.alg).await;
                let key = key.map_err(|_| Error::Unavailable)?;
                let key = key.ok_or(Refusal::UnknownKey)?;
                self.by_key(token, &key, header.alg)?
            }
            _ => return Err(Refusal::Algorithm.into()),
        };
        Ok(self.family(&claims)?)
    }

    /// The comparison of the two hashes takes the same time wherever they differ.
    fn by_secret(&self, token: &str) -> Result<Claims, Refusal> {
        let mut outcome = Err(Refusal::Signature);
        for secret in &self.secrets {
            outcome = self.by_key(token, secret, Algorithm::HS256);
            if !matches!(outcome, Err(Refusal::Signature)) {
                break;
            }
        }
        outcome
    }

    /// `algorithm` is the one that the key is for, whatever the token says.
    fn by_key(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
    ) -> Result<Claims, Refusal> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        match decode(token, key, &validation) {
            Ok(TokenData { claims, .. }) => Ok(claims),
            Err(error) => Err(refusal(error.kind())),
        }
    }

    fn family(&self, claims: &Claims) -> Result<ParentId, Refusal> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.unwrap_or_default().as_secs_f64();
        let exp = claims.exp.ok_or(Refusal::Missing("exp"))?;
        let iat = claims.iat.unwrap_or(now);
        if iat > now + LEEWAY.as_secs_f64() {
            return Err(Refusal::NotYetValid);
        }
        if exp - iat > self.max_lifetime.as_secs_f64() {
            return Err(Refusal::TooLong(self.max_lifetime));
        }
        let sub = claims.sub.as_deref().ok_or(Refusal::Missing("sub"))?;
        let parent = sub.parse().map_err(|_| Refusal::Subject)?;
        Ok(ParentId::new(parent))
    }
}

fn validation(config: &Config) -> Validation {
    let mut validation = Validation {
        leeway: LEEWAY.as_secs(),
        validate_nbf: true,
        ..Validation::default()
    };
    validation.set_audience(&[&config.audience]);
    let mut required = vec!["exp", "aud", "sub"];
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn refusal(error: &ErrorKind) -> Refusal {
    match error {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYetValid,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Refusal::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) => Refusal::Missing(match claim.as_str() {
            "aud" => "aud",
            "iss" => "iss",
            "sub" => "sub",
            _ => "exp",
        }),
        _ => Refusal::Malformed,
    }
}
