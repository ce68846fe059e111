//! What the roles with a port for strangers share: the flags of `ingest` and `api`.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;
use rivulet_registry::CacheConfig;
use rivulet_web::TlsFiles;

use crate::tokens::TokenFlags;

/// How soon a new certificate is in use.
const CERTIFICATE_REREAD: Duration = Duration::from_secs(10);

/// A port for strangers, and by what they are known.
#[derive(Args, Clone)]
pub(crate) struct PortFlags {
    /// PEM file of the certificate, and those between it and its authority, with which HTTP is served
    /// over TLS; in plain text without it. Read again within seconds when it changes.
    #[arg(long, env = "RIVULET_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, env = "RIVULET_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served to those who run this, in plain text, beside the
    /// port: that serves no `/metrics` then. One for `ingest` and `api` under `all`.
    #[arg(long, env = "RIVULET_OPERATIONS_LISTEN", value_name = "ADDRESS", value_parser = address)]
    pub(crate) operations_listen: Option<String>,
    /// Open connections; beyond it a new one takes the place of one without a request, or is sent away.
    #[arg(long, env = "RIVULET_MAX_CONNECTIONS", default_value_t = rivulet_web::Config::default().max_connections)]
    max_connections: usize,
    /// Open connections of one address; beyond it new ones are closed. A load balancer in front is
    /// one address.
    #[arg(
        long,
        env = "RIVULET_MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = rivulet_web::Config::default().max_connections_per_address
    )]
    max_connections_per_address: usize,
    /// Seconds a request's head may take, the wait for it on an open connection included. Keep it
    /// above the idle timeout of a load balancer in front.
    #[arg(
        long,
        env = "RIVULET_HEADER_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = rivulet_web::Config::default().header_timeout.as_secs()
    )]
    header_timeout: u64,
    /// Seconds a client may take nothing of its answer.
    #[arg(
        long,
        env = "RIVULET_WRITE_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = rivulet_web::Config::default().write_timeout.as_secs()
    )]
    write_timeout: u64,
    #[command(flatten)]
    tokens: TokenFlags,
    /// Seconds that a node cut off from PostgreSQL goes on with what it knows of children and keys.
    #[arg(
        long,
        env = "RIVULET_MAX_STALE",
        value_name = "SECONDS",
        default_value_t = CacheConfig::default().max_stale.as_secs()
    )]
    max_stale: u64,
    /// Seconds that requests are still taken after a stop was asked for, for load balancers to see.
    #[arg(
        long,
        env = "RIVULET_SHUTDOWN_GRACE",
        value_name = "SECONDS",
        default_value_t = rivulet_ingest::Config::default().shutdown_grace.as_secs()
    )]
    shutdown_grace: u64,
}

/// A host and a port, be there such a host or not.
fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let is_address = |(host, port): (&str, &str)| {
        !host.is_empty() && !port.is_empty() && port.parse::<u16>().is_ok()
    };
    match parts.is_some_and(is_address) {
        true => Ok(text.to_owned()),
        false => Err("must be an address with a port, as 127.0.0.1:9100".to_owned()),
    }
}

impl PortFlags {
    /// # Errors
    /// The certificate's files cannot be served.
    pub(crate) fn config(&self) -> anyhow::Result<rivulet_web::Config> {
        Ok(rivulet_web::Config {
            tls: self.tls()?,
            max_connections: self.max_connections,
            max_connections_per_address: self.max_connections_per_address,
            header_timeout: Duration::from_secs(self.header_timeout),
            write_timeout: Duration::from_secs(self.write_timeout),
            ..rivulet_web::Config::default()
        })
    }

    /// # Errors
    /// Those of [`TokenFlags::config`].
    pub(crate) fn tokens(&self) -> anyhow::Result<Option<rivulet_tokens::Config>> {
        self.tokens.config()
    }

    pub(crate) fn registry(&self) -> CacheConfig {
        CacheConfig {
            max_stale: Duration::from_secs(self.max_stale),
            ..CacheConfig::default()
        }
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace)
    }

    fn tls(&self) -> anyhow::Result<Option<TlsFiles>> {
        let (cert, key) = match (self.tls_cert.clone(), self.tls_key.clone()) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            _ => bail!(
                "RIVULET_TLS_CERT and RIVULET_TLS_KEY go together: with one of them the API would be \
                 served in plain text"
            ),
        };
        let files = TlsFiles {
            cert,
            key,
            reread: CERTIFICATE_REREAD,
        };
        files.check()?;
        Ok(Some(files))
    }
}
