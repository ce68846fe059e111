//! The HTTP client for ClickHouse: the crate's own settings, and the system's roots or a given CA.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Below the 3 s after which a ClickHouse with default settings closes an idle connection.
const POOL_IDLE: Duration = Duration::from_secs(2);

/// A client for http and https addresses. Of https, certificate and host name are verified, by the
/// authorities in the PEM file `ca` alone, or by the system's without it.
///
/// # Errors
/// There is no authority to verify by.
pub(crate) fn client(ca: Option<&Path>) -> anyhow::Result<clickhouse::Client> {
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .build(connector);
    Ok(clickhouse::Client::with_http_client(client))
}

fn roots(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let bad = || {
        format!(
            "RIVULET_CLICKHOUSE_CA: {} is no PEM file of certificates",
            ca.display()
        )
    };
    for certificate in CertificateDer::pem_file_iter(ca).with_context(bad)? {
        roots
            .add(certificate.with_context(bad)?)
            .with_context(bad)?;
    }
    ensure!(!roots.is_empty(), bad());
    Ok(roots)
}
