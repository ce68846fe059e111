//! The settings that say which tokens are good, and the checks that they do not let wrong ones in.

use std::{fmt, path::PathBuf, time::Duration};

use url::{Host, Url};

/// How far the clock of the token's issuer may be off.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// The shortest HS256 secret, bytes: as long as the hash, as RFC 7518 asks.
const SHORTEST_SECRET: usize = 32;

/// An HS256 secret. `Debug` is redacted.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secrets of a text, one a line. The first signs, all verify: a new one goes on top, and
    /// the old one stays until no token of it is left.
    #[must_use]
    pub fn lines(text: &str) -> Vec<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| Self(line.as_bytes().to_vec())).collect()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Where a JWKS (RFC 7517) is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `https://`, or `http://` on this machine.
    Url(Url),
    /// A file, read again as often as a URL would be.
    File(PathBuf),
}

impl Source {
    /// A URL where it begins as one, else the path of a file.
    ///
    /// # Errors
    /// It begins as a URL, but is none.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Self::File(text.into()));
        }
        let url = Url::parse(text)
            .map_err(|error| InvalidConfig(format!("the JWKS is at no URL: {error}")))?;
        Ok(Self::Url(url))
    }
}

/// Which tokens are good.
#[derive(Clone, Debug)]
pub struct Config {
    /// For HS256, the first one signs.
    pub secrets: Vec<Secret>,
    /// For RS256 and ES256.
    pub jwks: Option<Source>,
    /// What `aud` must be or hold.
    pub audience: String,
    /// What `iss` must be, where it matters.
    pub issuer: Option<String>,
    /// The longest time from `iat` (without it, from now) to `exp`.
    pub max_lifetime: Duration,
    /// How often the JWKS is read again.
    pub refresh_every: Duration,
    /// The shortest time from one reading of the JWKS to the next, whatever tokens ask for.
    pub refresh_pause: Duration,
}

impl Default for Config {
    /// Without a key and an audience, which have no default.
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            jwks: None,
            audience: String::new(),
            issuer: None,
            max_lifetime: Duration::from_secs(24 * 60 * 60),
            refresh_every: Duration::from_secs(5 * 60),
            refresh_pause: Duration::from_secs(5),
        }
    }
}

/// A configuration that would break a promise; the text says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

impl Config {
    /// Checks what can be told without reading the JWKS.
    ///
    /// # Errors
    /// The first setting that cannot work, with what would go wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let refuse = |text: String| Err(InvalidConfig(text));
        if self.secrets.is_empty() && self.jwks.is_none() {
            return refuse(
                "client tokens have neither a secret nor a JWKS: every one would be refused".into(),
            );
        }
        if self.audience.trim().is_empty() {
            return refuse(
                "client tokens have no audience: a token that the same key signed for another \
                 service would be good here"
                    .into(),
            );
        }
        if let Some(secret) = self
            .secrets
            .iter()
            .find(|secret| secret.0.len() < SHORTEST_SECRET)
        {
            return refuse(format!(
                "a token secret has {} bytes, less than {SHORTEST_SECRET}: whoever holds one token \
                 could guess it, and then write for every family; try `openssl rand -base64 48`",
                secret.0.len()
            ));
        }
        if let Some(Source::Url(url)) = &self.jwks
            && url.scheme() == "http"
            && !is_loopback(url)
        {
            return refuse(
                "the JWKS is read over plain http: whoever can change the answer on its way could \
                 write for every family; use https, or a file"
                    .into(),
            );
        }
        if self.max_lifetime < Duration::from_secs(60) {
            return refuse(format!(
                "the longest lifetime of a token ({:?}) is below a minute: devices would be \
                 refused before they get to send",
                self.max_lifetime
            ));
        }
        Ok(())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            secrets: Secret::lines("0123456789abcdef0123456789abcdef\n"),
            audience: "rivulet".to_owned(),
            ..Config::default()
        }
    }

    fn refusal(change: fn(&mut Config)) -> String {
        let mut config = good();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn what_would_let_the_wrong_tokens_in_is_refused_with_the_consequence() {
        good().validate().unwrap();
        assert!(refusal(|c| c.secrets.clear()).contains("every one would be refused"));
        assert!(refusal(|c| c.audience = " ".into()).contains("another service"));
        let short = refusal(|c| {
            c.secrets
                .extend(Secret::lines("0123456789abcdef0123456789abcde"))
        });
        assert!(short.contains("31 bytes") && !short.contains("0123"));
        assert!(refusal(|c| c.max_lifetime = Duration::from_secs(59)).contains("below a minute"));
        let plain = refusal(|c| c.jwks = Source::parse("http://idp.example/jwks").ok());
        assert!(plain.contains("plain http"), "{plain}");
        for fine in [
            "https://idp.example/jwks",
            "http://127.0.0.1:1/",
            "http://[::1]/",
            "http://localhost/",
            "/etc/jwks",
        ] {
            let mut config = good();
            config.jwks = Some(Source::parse(fine).unwrap());
            config.validate().unwrap();
        }
        assert!(Source::parse("https://").is_err());
    }

    #[test]
    fn secrets_are_lines_and_do_not_print() {
        let secrets = Secret::lines("  new secret \r\n\nold secret\n");
        let bytes: Vec<_> = secrets.iter().map(Secret::bytes).collect();
        assert_eq!(bytes, [&b"new secret"[..], b"old secret"]);
        assert_eq!(format!("{:?}", secrets[0]), "Secret(redacted)");
        assert!(Secret::lines(" \n").is_empty());
    }
}
