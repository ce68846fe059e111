//! Client tokens: JWTs that speak for one family.
//!
//! The `sub` of a token is a parent's id. Whoever keeps the signing key, the product's backend or
//! its identity provider, makes a token for a family that is signed in; a [`Verifier`] says whose
//! it is. An SDK that holds one can do nothing for another family, and not for long.
//!
//! An algorithm belongs to a kind of key, never to what a token says of itself: HS256 to the
//! configured secrets alone, RS256 to the RSA keys of a JWKS, ES256 to its P-256 keys. A token
//! "signed" with a public key as if that were a secret therefore meets no key at all.

mod config;
mod jwks;
mod metrics;
mod mint;
mod verifier;

pub use config::{Config, InvalidConfig, LEEWAY, Secret, Source};
pub use jwks::{SourceError, check_jwks};
pub use metrics::METRICS;
pub use mint::{MintError, mint};
pub use verifier::{Error, Refusal, Verifier};
