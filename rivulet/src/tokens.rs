//! Which client tokens are good: the flags that `ingest` and `keys token` share.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use rivulet_tokens::{Config, Secret, Source};

/// Client tokens. None are taken unless a secret or a JWKS is given.
#[derive(Args, Clone)]
pub(crate) struct TokenFlags {
    /// HS256 secrets of client tokens, one a line, the newest first; 32 bytes or more each.
    #[arg(long, env = "RIVULET_TOKEN_SECRET", hide_env_values = true)]
    token_secret: Option<String>,
    /// A file with the same, in place of it.
    #[arg(long, env = "RIVULET_TOKEN_SECRET_FILE", value_name = "FILE")]
    token_secret_file: Option<PathBuf>,
    /// JWKS of RS256 and ES256 client tokens, a URL or a file.
    #[arg(
        long,
        env = "RIVULET_TOKEN_JWKS",
        value_name = "URL|FILE",
        hide_env_values = true
    )]
    token_jwks: Option<String>,
    /// What a client token's `aud` must be.
    #[arg(long, env = "RIVULET_TOKEN_AUDIENCE", value_name = "AUDIENCE")]
    token_audience: Option<String>,
    /// What a client token's `iss` must be; anything without it.
    #[arg(long, env = "RIVULET_TOKEN_ISSUER", value_name = "ISSUER")]
    token_issuer: Option<String>,
    /// Longest life of a client token; one that lives longer is refused from the start.
    #[arg(
        long,
        env = "RIVULET_TOKEN_MAX_LIFETIME",
        value_name = "SECONDS",
        default_value_t = 24 * 60 * 60
    )]
    token_max_lifetime: u64,
}

impl TokenFlags {
    /// `None` when tokens are not configured.
    pub(crate) fn config(&self) -> anyhow::Result<Option<Config>> {
        // A variable that is set to nothing, as scripts and compose files do, is not set.
        let given = |text: &Option<String>| {
            let text = text.as_deref().map(str::trim).unwrap_or_default();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let file = self.token_secret_file.as_ref();
        let file = file.filter(|path| !path.as_os_str().is_empty());
        let secrets = match (given(&self.token_secret), file) {
            (None, None) => None,
            (Some(text), None) => Some(text),
            (None, Some(path)) => {
                Some(std::fs::read_to_string(path).with_context(|| {
                    format!("the token secret {} cannot be read", path.display())
                })?)
            }
            (Some(_), Some(_)) => bail!(
                "both RIVULET_TOKEN_SECRET and RIVULET_TOKEN_SECRET_FILE are set: which one signs \
                 is unclear; put all secrets into one of them, one a line"
            ),
        };
        let jwks = given(&self.token_jwks);
        let (audience, issuer) = (given(&self.token_audience), given(&self.token_issuer));
        if secrets.is_none() && jwks.is_none() {
            if audience.is_some() || issuer.is_some() {
                bail!(
                    "client tokens have an audience or an issuer, but neither a secret nor a JWKS: \
                     every one would be refused; set RIVULET_TOKEN_SECRET or RIVULET_TOKEN_JWKS"
                );
            }
            return Ok(None);
        }
        let config = Config {
            secrets: match secrets {
                Some(text) => {
                    let secrets = Secret::lines(&text);
                    if secrets.is_empty() {
                        bail!("the file of token secrets is empty: no token could be checked");
                    }
                    secrets
                }
                None => Vec::new(),
            },
            jwks: jwks.as_deref().map(Source::parse).transpose()?,
            audience: audience.unwrap_or_default(),
            issuer,
            max_lifetime: Duration::from_secs(self.token_max_lifetime),
            ..Config::default()
        };
        config.validate()?;
        Ok(Some(config))
    }
}
